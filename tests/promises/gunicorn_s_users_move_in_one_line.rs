//! Who replaces the word `gunicorn` by `ostler` in a Dockerfile, a Procfile or a unit sees the same site: configurations as public
//! repositories have them, played on both.

use crate::configurations::play_all;

#[test]
fn command_lines() {
    play_all("1-command-lines.toml");
}

#[test]
fn files() {
    play_all("2-files.toml");
}

#[test]
fn hooks() {
    play_all("3-hooks.toml");
}

#[test]
fn logs() {
    play_all("4-logs.toml");
}

#[test]
fn signals() {
    play_all("5-signals.toml");
}

#[test]
fn requests() {
    play_all("6-requests.toml");
}

#[test]
fn mistakes() {
    play_all("7-mistakes.toml");
}
