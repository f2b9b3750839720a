//! What the tests of settings stand on: a folder that goes away, and programs that claim to be interpreters.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::options::{Invocation, usual_file};

/// A new folder, removed with all that it holds when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one, which everybody may enter.
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ostler-test-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).expect("the name is new");
        Folder(path.canonicalize().expect("it was made"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it, with the folders that lead there.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder is ours");
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// An executable file. Another process writes it: a child that another test forks meanwhile would keep our
    /// descriptor of it open, and a file that is open for writing cannot be executed.
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.file(name, "");
        let write = ["-c", "cat >\"$0\" && chmod 755 \"$0\""];
        let mut shell = Command::new("/bin/sh").args(write).arg(&path).stdin(Stdio::piped()).spawn().expect("a shell");
        let mut input = shell.stdin.take().expect("it is piped");
        write!(input, "#!/bin/sh\n{script}\n").expect("the shell reads it");
        drop(input);
        assert!(shell.wait().expect("it is our child").success());
        path
    }

    /// A program that answers as this interpreter would.
    pub fn interpreter(&self, name: &str, answer: [&str; 6]) -> PathBuf {
        self.program(name, &format!("printf '%s\\n' 'ostler asks' {}\nprintf end", answer.map(quoted).join(" ")))
    }

    /// A start of ostler in this folder, with an engine that exists.
    pub fn invocation(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Invocation {
        let engine = self.file("engine.so", "").into();
        let given = environment.iter().map(|(name, value)| (name.into(), value.into()));
        Invocation {
            arguments: arguments.iter().map(Into::into).collect(),
            directory: self.0.clone(),
            usual_file: usual_file(&self.0),
            process: process::id(),
            environment: given.chain([(crate::options::ENGINE_VARIABLE.into(), engine)]).collect(),
            gunicorn_args: None,
            as_gunicorn: false,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind in the directory for temporary files at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// CPython 3.12.1, in no virtual environment: implementation, version, flags, executable, prefix, base prefix.
pub const PLAIN: [&str; 6] = ["cpython", "3.12.1", "", "/usr/bin/python3", "/usr", "/usr"];

fn quoted(text: &str) -> String {
    format!("'{text}'")
}
