//! Finds the interpreter and asks it, once for each boot, who it is. Refuses with one sentence what cannot run the engine.

use std::{
    fs,
    io::{self, Read},
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    exit::{Exit, Failure, words},
    settings::Identity,
};

/// How long an interpreter may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// As whom, where and with what an interpreter is asked: as the template will be executed.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The working directory.
    pub directory: &'a Path,
    /// The whole environment.
    pub environment: &'a [(std::ffi::OsString, std::ffi::OsString)],
    /// Whom to become, if somebody else.
    pub identity: Option<&'a Identity>,
}

/// The interpreter that `--python` names: a file, a virtual environment's directory, or a name to look up on PATH.
pub fn named(text: &str, base: &Path, path: Option<&str>) -> Result<PathBuf, Failure> {
    let written = base.join(text);
    if written.is_dir() {
        return in_environment(&written).ok_or_else(|| refuse(&written, "holds no bin/python"));
    }
    if !text.contains('/') && !is_there(&written) {
        return on_path(text, path).ok_or_else(|| failure(format!("there is no {text} on PATH")));
    }
    Ok(written)
}

/// The interpreter, if nobody names one: `VIRTUAL_ENV`, then `.venv` beside the application, then PATH.
pub fn usual(virtual_env: Option<&str>, beside: &[PathBuf], path: Option<&str>) -> Result<PathBuf, Failure> {
    if let Some(active) = virtual_env {
        let directory = Path::new(active);
        return in_environment(directory).ok_or_else(|| {
            failure(format!("VIRTUAL_ENV is {active}, which holds no bin/python. Unset it, or say --python."))
        });
    }
    let adjacent = beside.iter().find_map(|directory| in_environment(&directory.join(".venv")));
    adjacent.or_else(|| on_path("python3", path)).ok_or_else(|| {
        failure("there is no VIRTUAL_ENV, no .venv beside the application and no python3 on PATH. Say --python.".into())
    })
}

/// Runs the interpreter and judges what it says of itself.
pub fn ask(path: &Path, surroundings: Surroundings) -> Result<Interpreter, Failure> {
    base_is_there(path)?;
    let answer = run(path, surroundings)?;
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
    let text = fs::read_to_string(prefix.join("pyvenv.cfg")).unwrap_or_default();
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

fn in_environment(directory: &Path) -> Option<PathBuf> {
    ["bin/python", "bin/python3"].map(|name| directory.join(name)).into_iter().find(|path| is_there(path))
}

/// A symbolic link that leads nowhere is there: what is wrong with it is said later.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir())
}

fn on_path(name: &str, path: Option<&str>) -> Option<PathBuf> {
    let directories = path.unwrap_or("/usr/local/bin:/usr/bin:/bin").split(':').filter(|part| part.starts_with('/'));
    directories.map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

fn run(path: &Path, surroundings: Surroundings) -> Result<String, Failure> {
    let mut command = Command::new(path);
    command.args(["-c", QUESTION]).current_dir(surroundings.directory);
    command.env_clear().envs(surroundings.environment.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(identity) = surroundings.identity {
        command.uid(identity.user).gid(identity.group);
    }
    let mut child = command.spawn().map_err(|error| could_not_run(path, &words(&error)))?;
    let heard = listen(&mut child);
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
fn listen(child: &mut Child) -> io::Result<[Vec<u8>; 2]> {
    let deadline = Instant::now() + PATIENCE;
    let mut output = child.stdout.take().expect("standard output is piped");
    let mut errors = child.stderr.take().expect("standard error is piped");
    let mut heard = [Vec::new(), Vec::new()];
    let mut open = [true, true];
    while open.contains(&true) {
        let wanted = open.map(|open| if open { PollFlags::POLLIN } else { PollFlags::empty() });
        let mut polled = [PollFd::new(output.as_fd(), wanted[0]), PollFd::new(errors.as_fd(), wanted[1])];
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other(format!("it said nothing within {} seconds", PATIENCE.as_secs())));
        }
        poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).or_else(interrupted)?;
        let ready = polled.map(|fd| fd.any() == Some(true));
        if open[0] && ready[0] {
            open[0] = read_some(&mut output, &mut heard[0])?;
        }
        if open[1] && ready[1] {
            open[1] = read_some(&mut errors, &mut heard[1])?;
        }
        // Whoever inherited its standard error may keep it open for long.
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

fn refuse(path: &Path, why: &str) -> Failure {
    failure(format!("{} {why}", path.display()))
}

fn failure(message: String) -> Failure {
    Failure::new(Exit::Interpreter, message)
}
