//! The interpreters of this machine, and an environment with the frameworks for each, built once under target/.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{built, repository};

/// Run by every candidate. A virtual environment is not counted as an interpreter.
const QUESTION: &str = "import importlib.util, os, sys, sysconfig
if sys.implementation.name == 'cpython' and sys.version_info >= (3, 10) and sys.prefix == sys.base_prefix \
and not sysconfig.get_config_var('Py_GIL_DISABLED'):
    usable = importlib.util.find_spec('ensurepip') is not None
    print('%d.%d.%d' % sys.version_info[:3], 'usable' if usable else 'bare', os.path.realpath(sys.executable))";

/// A CPython, 3.10 or later.
#[derive(Debug)]
pub struct Python {
    /// `3.11.7`
    pub version: String,
    /// Links resolved.
    pub executable: PathBuf,
    environment: OnceLock<Environment>,
}

/// A virtual environment that holds `tests/requirements.txt`.
#[derive(Debug)]
pub struct Environment {
    /// Its folder.
    pub path: PathBuf,
    /// Its `bin/python`.
    pub python: PathBuf,
}

impl Python {
    /// All interpreters of the machine, each once, oldest first.
    pub fn every() -> &'static [Python] {
        static EVERY: OnceLock<Vec<Python>> = OnceLock::new();
        EVERY.get_or_init(|| {
            let found: BTreeMap<PathBuf, String> = candidates().iter().filter_map(|path| ask(path)).collect();
            assert!(!found.is_empty(), "there is no CPython 3.10 or later with venv on this machine: install it");
            let mut every: Vec<Python> = found
                .into_iter()
                .map(|(executable, version)| Python { version, executable, environment: OnceLock::new() })
                .collect();
            every.sort_by_cached_key(|python| numbers(&python.version));
            for python in &every {
                eprintln!("tests run on CPython {} at {}", python.version, python.executable.display());
            }
            every
        })
    }

    /// The interpreter for tests that do not care: `python3`, or else the newest.
    pub fn usual() -> &'static Python {
        let every = Python::every();
        let usual = ask(Path::new("python3")).map(|(executable, _)| executable);
        let found = every.iter().find(|python| Some(&python.executable) == usual.as_ref());
        found.or(every.last()).expect("there is at least one")
    }

    /// Whether every user of the machine may run it.
    pub fn is_public(&self) -> bool {
        let mode = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        self.executable.ancestors().all(|path| mode(path) & 0o001 != 0)
    }

    /// Its environment, built at the first call.
    pub fn environment(&self) -> &Environment {
        self.environment.get_or_init(|| Environment::prepare(self))
    }
}

impl Environment {
    fn prepare(python: &Python) -> Environment {
        // One at a time: pip's installations share a cache and the machine.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock();
        let all = built("ostler").parent().and_then(Path::parent).expect("target/PROFILE").join("environments");
        let path = all.join(format!("{}-{}", python.version, name_of(&python.executable)));
        let environment = Environment { python: path.join("bin/python"), path };
        fs::create_dir_all(&all).expect("target/ is writable");
        let lock = File::create(all.join("lock")).expect("target/ is writable");
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("flock works where target/ is");
        let stamp = environment.path.join("holds");
        let wanted = requirements();
        if fs::read_to_string(&stamp).is_ok_and(|held| held == wanted) {
            return environment;
        }
        environment.build(python);
        fs::write(stamp, wanted).expect("target/ is writable");
        environment
    }

    fn build(&self, python: &Python) {
        let _ = fs::remove_dir_all(&self.path);
        let at = python.executable.display();
        let made = Command::new(&python.executable).args(["-m", "venv"]).arg(&self.path).output();
        let made = made.expect("the interpreter ran a moment ago");
        assert!(
            made.status.success(),
            "{at} cannot make virtual environments: on Debian, install python3-venv\n{}",
            String::from_utf8_lossy(&made.stdout)
        );
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "-r"];
        let installed = Command::new(&self.python).args(pip).arg(repository("tests/requirements.txt")).output();
        let installed = installed.expect("the environment has an interpreter");
        assert!(
            installed.status.success(),
            "pip of {at} could not install tests/requirements.txt\n{}",
            String::from_utf8_lossy(&installed.stderr)
        );
    }
}

fn requirements() -> String {
    let read = |path| fs::read_to_string(repository(path)).expect("the repository is readable");
    read("tests/requirements.txt") + &read("examples/requirements.txt")
}

/// Tells interpreters of one version apart: `root-pyenv-…`, from the path.
fn name_of(executable: &Path) -> String {
    let folder = executable.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let name: Vec<&str> = folder.iter().skip(1).filter_map(|part| part.to_str()).collect();
    name.join("-")
}

fn candidates() -> BTreeSet<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/bin".into(), "/usr/local/bin".into()]);
    let pyenv =
        std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
    let versions = pyenv.into_iter().flat_map(|root| entries(&root.join("versions")));
    folders.extend(versions.map(|version| version.join("bin")));
    let paths = folders.iter().flat_map(|folder| entries(folder)).filter(|path| is_python(path));
    paths.filter_map(|path| path.canonicalize().ok()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// `python3` and `python3.X`, but not `python3-config`.
fn is_python(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("python3").is_some_and(|rest| rest.chars().all(|c| c == '.' || c.is_ascii_digit()))
}

fn ask(path: &Path) -> Option<(PathBuf, String)> {
    let answer = Command::new(path).args(["-I", "-c", QUESTION]).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let [version, usable, executable] = text.trim_end().splitn(3, ' ').collect::<Vec<_>>().try_into().ok()?;
    if usable == "bare" {
        eprintln!("left out: CPython {version} at {executable}, which has no venv (on Debian: python3-venv)");
        return None;
    }
    Some((executable.into(), version.into()))
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interpreters_are_asked() {
        for name in ["/usr/bin/python3", "/usr/bin/python3.13"] {
            assert!(is_python(Path::new(name)), "{name}");
        }
        for name in ["/usr/bin/python3-config", "/usr/bin/python3.11-config", "/usr/bin/python", "/usr/bin/python3.11t"]
        {
            assert!(!is_python(Path::new(name)), "{name}");
        }
    }
}
