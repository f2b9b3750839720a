//! Asks an interpreter who it is, unless that is known (see answers.rs). Refuses with one sentence what cannot run the engine.

use std::{
    fs,
    io::{self, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{AccessFlags, access},
};

use super::{answers::AnswerKey, environment::Surroundings};
use crate::{
    exit::{Exit, Failure, words},
    sys::{names::Place, process},
};

/// How long an interpreter may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(20);

/// As much of a pyvenv.cfg as is read, in bytes; it has a few lines.
const MOST_TEXT: u64 = 64 * 1024;

/// Imports nothing that a file of the site could stand in for, and is read by Python 2 as well.
const QUESTION: &str = "\
import sys
answer = ['ostler asks', sys.implementation.name if hasattr(sys, 'implementation') else 'cpython']
answer += ['%d.%d.%d' % sys.version_info[:3], getattr(sys, 'abiflags', ''), sys.executable or '']
answer += [sys.prefix, getattr(sys, 'base_prefix', sys.prefix), 'end']
sys.stdout.write('\\n'.join(answer))
";

/// An interpreter that ostler can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// What to execute; in a virtual environment its own `bin/python`, so that it finds itself.
    pub executable: PathBuf,
    /// `3.11.7`
    pub version: String,
}

/// Runs the interpreter and judges what it says of itself.
pub fn ask(path: &Path, surroundings: Surroundings) -> Result<Interpreter, Failure> {
    base_is_there(path)?;
    let asked = AnswerKey::of(path, surroundings).map_err(|error| could_not_run(path, &words(&error)))?;
    let known = asked.answer();
    let answer = known.clone().map_or_else(|| run(path, &["-c", QUESTION], surroundings, PATIENCE), Ok)?;
    let mut lines = answer.rsplit("ostler asks\n").next().unwrap_or_default().lines();
    let mut line = || lines.next().unwrap_or_default();
    let [implementation, version, flags, executable, prefix, base_prefix] = [(); 6].map(|()| line());
    if implementation != "cpython" {
        return Err(refuse(path, &format!("is {implementation}, and ostler runs CPython only")));
    }
    let [major, minor] = first_two(version);
    if (major, minor) < (3, 10) {
        return Err(refuse(path, &format!("is Python {version}, and ostler needs 3.10 or later")));
    }
    if flags.contains('t') {
        return Err(refuse(path, "is a free-threaded build, which ostler does not run yet"));
    }
    if prefix != base_prefix {
        made_for(Path::new(prefix), (major, minor))?;
    }
    let executable = if executable.is_empty() { path.into() } else { PathBuf::from(executable) };
    if known.is_none() {
        asked.keep(&answer, &executable);
    }
    Ok(Interpreter { executable, version: version.into() })
}

/// A virtual environment whose base was removed has a `bin/python` that leads nowhere.
fn base_is_there(path: &Path) -> Result<(), Failure> {
    let Err(error) = fs::metadata(path) else { return Ok(()) };
    match fs::read_link(path) {
        Ok(target) if error.kind() == io::ErrorKind::NotFound => Err(refuse(
            path,
            &format!("leads to {}, which is gone. Make the virtual environment anew.", target.display()),
        )),
        _ => Err(could_not_run(path, &words(&error))),
    }
}

/// The base of a virtual environment may have been replaced by a later version, whose packages would not be found.
fn made_for(prefix: &Path, version: (u32, u32)) -> Result<(), Failure> {
    // The environment is the application's, and so may be what lies in this place.
    let opened = Place::anywhere(&prefix.join("pyvenv.cfg")).and_then(|place| place.open(OFlag::O_RDONLY, 0));
    let mut text = String::new();
    let _ = opened.map(|file| file.take(MOST_TEXT).read_to_string(&mut text));
    let value = text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim().starts_with("version"));
    let Some([major, minor]) = value.map(|(_, version)| first_two(version.trim())) else { return Ok(()) };
    if (major, minor) == version {
        return Ok(());
    }
    let why = format!(
        "was made for Python {major}.{minor}, but its interpreter is {}.{}. Make it anew.",
        version.0, version.1
    );
    Err(refuse(prefix, &why))
}

fn first_two(version: &str) -> [u32; 2] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 2].map(|()| parts.next().unwrap_or(0))
}

/// What an interpreter writes to its standard output, up to the word `end` on a line of its own.
pub fn run(path: &Path, arguments: &[&str], surroundings: Surroundings, patience: Duration) -> Result<String, Failure> {
    let mut command = Command::new(path);
    command.args(arguments);
    command.env_clear().envs(surroundings.environment.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = process::disguise(&mut command, surroundings.guise).and_then(|()| {
        process::end_with_us(&mut command);
        command.spawn()
    });
    let mut child = spawned.map_err(|error| match surroundings.guise.identity {
        None if access(surroundings.guise.directory, AccessFlags::X_OK).is_err() => {
            could_not_run(path, &format!("{} to enter {}", words(&error), surroundings.guise.directory.display()))
        }
        None => could_not_run(path, &words(&error)),
        Some(identity) => could_not_run(path, &format!("{}, as the user {}", words(&error), identity.user)),
    })?;
    let heard = listen(&mut child, patience);
    // It has said all that it had to say, or has taken too long. Both calls can only fail if it has ended already.
    let _ = child.kill();
    let _ = child.wait();
    let [output, errors] = heard.map_err(|error| could_not_run(path, &words(&error)))?;
    let output = String::from_utf8_lossy(&output);
    match output.ends_with("\nend") {
        true => Ok(output.into()),
        false => Err(could_not_run(path, last_line(&String::from_utf8_lossy(&errors)))),
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or("it ended without a word")
}

/// Reads standard output and standard error to their ends.
fn listen(child: &mut Child, patience: Duration) -> io::Result<[Vec<u8>; 2]> {
    let deadline = Instant::now() + patience;
    let mut output = child.stdout.take().expect("standard output is piped");
    let mut errors = child.stderr.take().expect("standard error is piped");
    let mut heard = [Vec::new(), Vec::new()];
    let mut open = [true, true];
    while open.contains(&true) {
        let wanted = open.map(|open| if open { PollFlags::POLLIN } else { PollFlags::empty() });
        let mut polled = [PollFd::new(output.as_fd(), wanted[0]), PollFd::new(errors.as_fd(), wanted[1])];
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other(format!("it gave no answer within {} s", patience.as_secs_f32())));
        }
        poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).or_else(interrupted)?;
        let ready = polled.map(|fd| fd.any() == Some(true));
        if open[0] && ready[0] {
            open[0] = read_some(&mut output, &mut heard[0])?;
        }
        if open[1] && ready[1] {
            open[1] = read_some(&mut errors, &mut heard[1])?;
        }
        // A process that inherited its standard error may keep it open for long.
        if heard[0].ends_with(b"\nend") {
            break;
        }
    }
    Ok(heard)
}

fn interrupted(error: nix::Error) -> nix::Result<i32> {
    if error == nix::Error::EINTR { Ok(0) } else { Err(error) }
}

/// Whether there may be more.
fn read_some(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut block = [0; 4096];
    let count = from.read(&mut block)?;
    into.extend_from_slice(&block[..count]);
    match into.len() > 1 << 20 {
        true => Err(io::Error::other("it talks without end")),
        false => Ok(count > 0),
    }
}

fn could_not_run(path: &Path, why: &str) -> Failure {
    failure(format!("could not run {}: {why}", path.display()))
}

/// That one cannot be used.
pub fn refuse(path: &Path, why: &str) -> Failure {
    failure(format!("{} {why}", path.display()))
}

/// What is wrong with interpreters.
pub fn failure(message: String) -> Failure {
    Failure::new(Exit::Interpreter, message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{
        fixture::{Folder, PLAIN},
        settings::interpreter::{named, usual},
        sys::process::Guise,
    };

    fn here(folder: &Folder) -> Surroundings<'_> {
        let guise = Guise { identity: None, new_privileges: false, directory: folder.path() };
        Surroundings { environment: &[], guise }
    }

    /// Why an interpreter that answers so is refused.
    fn refusal(answer: [&str; 6]) -> String {
        let folder = Folder::new();
        let failure = ask(&folder.interpreter("python", answer), here(&folder)).unwrap_err();
        assert_eq!(failure.exit, Exit::Interpreter);
        failure.message
    }

    fn why(path: &Path, folder: &Folder) -> String {
        ask(path, here(folder)).unwrap_err().message
    }

    #[test]
    fn an_interpreter_tells_its_version_and_its_own_path() {
        let folder = Folder::new();
        let found = ask(&folder.interpreter("python", PLAIN), here(&folder)).unwrap();
        assert_eq!(found, Interpreter { executable: "/usr/bin/python3".into(), version: "3.12.1".into() });
    }

    #[test]
    fn an_interpreter_is_asked_again_once_its_file_is_another() {
        let folder = Folder::new();
        let made = |version| {
            let path = folder.path().join("python").to_string_lossy().into_owned();
            let answer = ["cpython", version, "", path.as_str(), "/", "/"];
            folder.interpreter("new", answer);
            let count = format!("echo asked >>{}/times", folder.path().display());
            let script = std::fs::read_to_string(folder.path().join("new")).unwrap().replace("#!/bin/sh", &count);
            let new = folder.program("new", &script);
            std::fs::rename(new, &path).unwrap();
        };
        let ask = || ask(&folder.path().join("python"), here(&folder)).unwrap().version;
        made("3.12.1");
        assert_eq!([ask(), ask()], ["3.12.1", "3.12.1"]);
        made("3.12.2");
        assert_eq!(ask(), "3.12.2");
        assert_eq!(std::fs::read_to_string(folder.path().join("times")).unwrap(), "asked\nasked\n");
    }

    #[test]
    fn what_a_site_prints_at_start_is_passed_over() {
        let folder = Folder::new();
        let loud = "echo hello from sitecustomize; echo oh >&2; printf 'ostler asks\ncpython\n3.10.0\n\n/p\n/\n/\nend'";
        assert_eq!(ask(&folder.program("python", loud), here(&folder)).unwrap().version, "3.10.0");
    }

    #[test]
    fn the_interpreter_of_this_machine_understands_the_question() {
        let path = std::env::var("PATH").unwrap();
        let environment: Vec<_> = std::env::vars_os().collect();
        let found = usual(None, &[], Some(&path)).unwrap();
        let interpreter = ask(&found, Surroundings { environment: &environment, ..here(&Folder::new()) }).unwrap();
        assert!(interpreter.executable.is_absolute() && first_two(&interpreter.version) >= [3, 10], "{interpreter:?}");
    }

    #[test]
    fn other_implementations_and_versions_are_refused() {
        let [_, version, flags, executable, prefix, base] = PLAIN;
        for (implementation, version, flags, expected) in [
            ("pypy", version, flags, "is pypy, and ostler runs CPython only"),
            ("cpython", "3.9.18", flags, "is Python 3.9.18, and ostler needs 3.10 or later"),
            ("cpython", "2.7.18", flags, "is Python 2.7.18, and ostler needs 3.10 or later"),
            ("cpython", "3.13.0", "t", "is a free-threaded build"),
            ("cpython", "3.14.0", "td", "is a free-threaded build"),
        ] {
            let refusal = refusal([implementation, version, flags, executable, prefix, base]);
            assert!(refusal.contains(&format!("/python {expected}")), "{refusal}");
        }
    }

    #[test]
    fn a_virtual_environment_of_another_version_is_refused() {
        let folder = Folder::new();
        folder.file("venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.11.7\n");
        let prefix = folder.path().join("venv").to_string_lossy().into_owned();
        let answer = |version| ["cpython", version, "", "/p", prefix.as_str(), "/usr"];
        let later = folder.interpreter("venv/bin/python", answer("3.12.1"));
        assert!(why(&later, &folder).contains("venv was made for Python 3.11, but its interpreter is 3.12."));
        let same = folder.interpreter("venv/bin/python3", answer("3.11.9"));
        assert_eq!(ask(&same, here(&folder)).unwrap().version, "3.11.9");
    }

    #[test]
    fn a_virtual_environment_whose_base_is_gone_is_refused() {
        let folder = Folder::new();
        folder.file("venv/bin/activate", "");
        symlink("/opt/removed/python3", folder.path().join("venv/bin/python")).unwrap();
        let found = named("venv", folder.path(), None).unwrap();
        let why = why(&found, &folder);
        assert!(
            why.contains("leads to /opt/removed/python3, which is gone. Make the virtual environment anew."),
            "{why}"
        );
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_reason() {
        let folder = Folder::new();
        let missing = folder.path().join("missing");
        assert!(why(&missing, &folder).ends_with("/missing: no such file or directory"));
        let text = folder.file("text", "not a program");
        assert!(why(&text, &folder).ends_with("/text: permission denied"));
        let broken = folder.program("broken", "echo one >&2; echo 'Fatal: no encodings' >&2; exit 1");
        assert!(why(&broken, &folder).ends_with("/broken: Fatal: no encodings"));
        let silent = folder.program("silent", "exit 0");
        assert!(why(&silent, &folder).ends_with("/silent: it ended without a word"));
        let endless = folder.program("endless", "while :; do printf %4096s; done");
        assert!(why(&endless, &folder).ends_with("/endless: it talks without end"));
    }

    #[test]
    fn an_interpreter_that_hangs_is_given_up() {
        let folder = Folder::new();
        let hung = folder.program("hung", "exec tail -f /dev/null");
        let failure = run(&hung, &[], here(&folder), Duration::from_millis(20)).unwrap_err();
        assert!(failure.message.ends_with("/hung: it gave no answer within 0.02 s"), "{failure}");
    }
}
