//! The settings as Python sees them: the keywords of `ostler.serve`, with their types and help.
//! `make man` writes the file; a test fails when it and the table differ.

use crate::options::{Kind, SETTINGS, Setting};

const OPENING: &str = "\
\"\"\"The settings of the daemon, as `ostler.serve` takes them. `make man` writes this file from src/daemon/options/table.rs.\"\"\"

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict


class Settings(TypedDict, total=False):
";

/// packaging/python/ostler/settings.py
pub fn settings() -> String {
    // What to serve is an argument of its own.
    let keywords = SETTINGS.iter().filter(|setting| setting.name != "app").map(keyword);
    let switched = SETTINGS.iter().filter(|setting| setting.on_by_default());
    let switched: Vec<String> = switched.map(|setting| format!("\"{}\"", key(setting))).collect();
    let switched =
        format!("\n\n# Their flags turn them off.\nON_BY_DEFAULT = frozenset({{{}}})\n", switched.join(", "));
    OPENING.to_owned() + &keywords.collect::<String>() + &switched
}

fn key(setting: &Setting) -> String {
    setting.name.replace('-', "_")
}

fn keyword(setting: &Setting) -> String {
    let kind = match setting.kind {
        Kind::Switch => "bool".into(),
        Kind::Choice(words, word) => {
            let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            format!("Literal[{}]{}", words.join(", "), if word.is_some() { " | bool" } else { "" })
        }
        Kind::One => "str | int | float".into(),
        Kind::Many => "str | int | Sequence[str | int]".into(),
        Kind::Lines => "str | Sequence[str]".into(),
        Kind::Pairs => "Mapping[str, str]".into(),
    };
    format!("    {}: {kind}\n    \"\"\"{}.\"\"\"\n", key(setting), setting.help.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_file_is_what_the_table_says() {
        let committed = include_str!("../../../packaging/python/ostler/settings.py");
        assert!(committed == super::settings(), "packaging/python/ostler/settings.py is old. Write it anew: make man");
    }
}
