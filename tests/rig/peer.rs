//! gunicorn, from the package index. ostler must give the same answers.

use std::{process::Command, thread};

use crate::{Client, Folder, Process, Python, application};

/// A gunicorn that runs.
pub struct Gunicorn {
    process: Process,
    address: String,
    _folder: Folder,
}

impl Gunicorn {
    /// Starts it with an application of `tests/apps` or `examples`, on an interpreter, with keep-alive.
    pub fn start(python: &Python, file: &str, attribute: &str) -> Gunicorn {
        let path = application(file);
        let module = path.file_stem().and_then(|stem| stem.to_str()).expect("applications have plain names");
        let folder = Folder::new();
        let mut command = Command::new(&python.environment().python);
        command.args(["-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "--threads", "2"]);
        command
            .args(["--keep-alive", "60", "--no-control-socket", "--pythonpath"])
            .arg(path.parent().expect("in a folder"));
        command.arg(format!("{module}:{attribute}")).current_dir(folder.path());
        let process = Process::start(&mut command, &folder.path().display().to_string());
        let line = process.log.find("Listening at: ");
        let (_, address) = line.text().split_once("Listening at: ").expect("the line holds what was looked for");
        let address = address.split(' ').next().unwrap_or_default().to_string();
        Gunicorn { process, address, _folder: folder }
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::connect(&self.address)
    }
}

impl Drop for Gunicorn {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- gunicorn's log ---\n{}", self.process.log.text());
        }
    }
}
