//! The daemon under test: how it is to be started, and what can be done to it while it runs.

use std::{
    ffi::OsString,
    fs,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::fs::PermissionsExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{Answer, Client, Folder, Line, PATIENCE, Process, Python, application, built, process::ends_within};

/// What the machine or the person who runs the tests may have set, and the daemon would obey.
pub const UNSET: [&str; 15] = [
    "JOURNAL_STREAM",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "OSTLER_CONFIG",
    "PORT",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "RUNTIME_DIRECTORY",
    "VIRTUAL_ENV",
    "WATCHDOG_USEC",
    "WEB_CONCURRENCY",
    "__PYVENV_LAUNCHER__",
];

/// A daemon to be started.
pub struct Rig {
    folder: Folder,
    daemon: PathBuf,
    application: Vec<OsString>,
    binds: Option<Vec<String>>,
    workers: Option<u16>,
    python: Interpreter,
    input: Option<OwnedFd>,
    on_terminal: bool,
    options: Vec<OsString>,
    environment: Vec<(String, Option<OsString>)>,
}

enum Interpreter {
    Usual,
    Named(OsString),
    Unsaid,
}

impl Rig {
    /// A daemon for an application: a file of `tests/apps` or `examples`, or anything else that `ostler` takes. One
    /// worker, any free port, the usual Python's environment, a private working directory.
    pub fn new(app: &str) -> Rig {
        let file = app.split(':').next().filter(|name| name.ends_with(".py") && !name.contains('/'));
        let app = match file {
            Some(name) => app.replacen(name, &application(name).display().to_string(), 1),
            None => app.into(),
        };
        Rig { python: Interpreter::Usual, workers: Some(1), ..Rig::bare().application(&app) }
    }

    /// A daemon without an application or options of its own; `ostler` alone, if nothing is added.
    pub fn bare() -> Rig {
        Rig {
            folder: Folder::new(),
            daemon: built("ostler"),
            application: vec![],
            binds: None,
            workers: None,
            python: Interpreter::Unsaid,
            input: None,
            on_terminal: false,
            options: vec![],
            environment: UNSET.map(|name| (name.to_string(), None)).into(),
        }
    }

    /// An application whose source is given here.
    pub fn with_source(source: &str) -> Rig {
        Rig::new("./app.py").file("app.py", source)
    }

    /// Names the application, as typed.
    pub fn application(mut self, app: &str) -> Rig {
        self.application = vec![app.into()];
        self
    }

    /// Sets `--workers`.
    pub fn workers(mut self, count: u16) -> Rig {
        self.workers = Some(count);
        self
    }

    /// Says nothing of the number of workers.
    pub fn without_workers(mut self) -> Rig {
        self.workers = None;
        self
    }

    /// Adds an option with a value.
    pub fn option(mut self, name: &str, value: &str) -> Rig {
        self.options.extend([name.into(), value.into()]);
        self
    }

    /// Adds an option without a value.
    pub fn flag(mut self, name: &str) -> Rig {
        self.options.push(name.into());
        self
    }

    /// Listens here rather than on a free port.
    pub fn bind(mut self, address: &str) -> Rig {
        self.binds.get_or_insert_default().push(address.into());
        self
    }

    /// Says nothing of an address.
    pub fn without_bind(mut self) -> Rig {
        self.binds = Some(vec![]);
        self
    }

    /// Runs on this interpreter's environment.
    pub fn python(self, python: &Python) -> Rig {
        let path = python.environment().python.clone();
        self.interpreter(path)
    }

    /// Runs on whatever this names.
    pub fn interpreter(mut self, path: impl Into<OsString>) -> Rig {
        self.python = Interpreter::Named(path.into());
        self
    }

    /// Says nothing of an interpreter: the daemon looks for one.
    pub fn without_python(mut self) -> Rig {
        self.python = Interpreter::Unsaid;
        self
    }

    /// Gives the daemon this as its descriptor 0.
    pub fn input(mut self, descriptor: OwnedFd) -> Rig {
        self.input = Some(descriptor);
        self
    }

    /// Gives the daemon a terminal, which is its log and its output.
    pub fn on_terminal(mut self) -> Rig {
        self.on_terminal = true;
        self
    }

    /// Runs this executable.
    pub fn executable(mut self, path: PathBuf) -> Rig {
        self.daemon = path;
        self
    }

    /// Runs it behind a statement of the shell, such as `ulimit -n 128`.
    pub fn limited(mut self, statement: &str) -> Rig {
        let script = format!("#!/bin/sh\n{statement}\nexec {} \"$@\"\n", self.daemon.display());
        self.daemon = self.folder.write("limited", &script);
        fs::set_permissions(&self.daemon, fs::Permissions::from_mode(0o755)).expect("the script is ours");
        self
    }

    /// Runs a copy that is laid out as `make install` lays it out, where every user can read it.
    pub fn installed(mut self) -> Rig {
        let copy = |from: &str, to: &str| {
            let to = self.folder.join(to);
            fs::create_dir_all(to.parent().expect("a file is in a folder")).expect("a private folder is writable");
            fs::copy(built(from), &to).expect("what was built can be copied");
            to
        };
        copy("libostler_engine.so", "lib/ostler/libostler_engine.so");
        self.daemon = copy("ostler", "bin/ostler");
        self
    }

    /// Sets a variable of the daemon's environment.
    pub fn env(mut self, name: &str, value: &str) -> Rig {
        self.environment.push((name.into(), Some(value.into())));
        self
    }

    /// Takes a variable out of the daemon's environment.
    pub fn without_env(mut self, name: &str) -> Rig {
        self.environment.push((name.into(), None));
        self
    }

    /// Writes a file into the working directory.
    pub fn file(self, name: &str, content: &str) -> Rig {
        self.folder.write(name, content);
        self
    }

    /// The daemon's working directory.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Starts the daemon and waits until it serves.
    pub fn start(self) -> Site {
        let binds = self.binds.as_ref().map_or(1, Vec::len);
        self.start_on(binds)
    }

    /// The same, where this number of addresses comes from elsewhere.
    pub fn start_on(self, binds: usize) -> Site {
        let mut site = self.launch();
        site.addresses = (0..binds).map(|_| site.log("listening").key("address").unwrap_or_default().into()).collect();
        site.log("generation serving");
        site
    }

    /// Starts a daemon whose log goes elsewhere, at the one address given by [`Rig::bind`], and waits until it notifies
    /// its service manager that it is ready.
    pub fn start_silently(mut self) -> Site {
        let name = format!("ostler-tests{}", self.folder.path().display());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let manager = UnixDatagram::bind_addr(&address).expect("the name is new");
        manager.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
        self.environment.push(("NOTIFY_SOCKET".into(), Some(format!("@{name}").into())));
        let mut site = self.launch();
        site.addresses = site.rig.binds.clone().unwrap_or_default();
        let mut message = [0; 4096];
        loop {
            let length = manager.recv(&mut message).expect("the daemon says that it is ready");
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return site;
            }
        }
    }

    /// Starts the daemon and waits for nothing.
    pub fn launch(mut self) -> Site {
        let mut command = self.command(&[]);
        command.stdin(self.input.take().map_or_else(Stdio::null, Stdio::from));
        command.arg("--control").arg(self.folder.join("control.sock"));
        for bind in self.binds.as_ref().unwrap_or(&vec!["127.0.0.1:0".into()]) {
            command.args(["--bind", bind]);
        }
        let start = if self.on_terminal { Process::start_on_terminal } else { Process::start };
        let process = start(command.args(&self.application), &self.folder.path().display().to_string());
        Site { process, rig: self, addresses: vec![], stopped: false }
    }

    /// Starts a daemon that must refuse to run, and returns what it said.
    pub fn refuse(self) -> Refused {
        let mut site = self.launch();
        let code = site.wait();
        Refused { code, error: site.process.log.whole(), output: site.process.output.whole() }
    }

    /// Runs a command, such as `check`, with the Rig's options and application, to its end.
    pub fn run(&self, words: &[&str]) -> Refused {
        let mut process = Process::start(
            self.command(words).args(&self.application).stdin(Stdio::null()),
            &format!("{} {}", self.folder.path().display(), words.join(" ")),
        );
        let code = process.wait().code().expect("a command ends by itself");
        assert_eq!(process.descendants(), [], "processes that `ostler {}` left", words.join(" "));
        Refused { code, error: process.log.whole(), output: process.output.whole() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.daemon);
        command.args(words).current_dir(self.folder.path());
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        match &self.python {
            Interpreter::Usual => command.arg("--python").arg(&Python::usual().environment().python),
            Interpreter::Named(path) => command.arg("--python").arg(path),
            Interpreter::Unsaid => &mut command,
        };
        if let Some(count) = self.workers {
            command.arg("--workers").arg(count.to_string());
        }
        command.args(&self.options);
        command
    }
}

/// What a daemon or a command said before it ended.
#[derive(Debug)]
pub struct Refused {
    /// Its exit code.
    pub code: i32,
    /// Its standard error.
    pub error: String,
    /// Its standard output.
    pub output: String,
}

impl Refused {
    /// Fails the test unless it said all of these and exited with this code.
    #[track_caller]
    pub fn says(&self, code: i32, phrases: &[&str]) {
        for phrase in phrases {
            assert!(self.error.contains(phrase), "{phrase:?} is not in\n{}", self.error);
        }
        assert_eq!(self.code, code, "exit code, with\n{}", self.error);
    }
}

/// A daemon that runs.
pub struct Site {
    process: Process,
    rig: Rig,
    addresses: Vec<String>,
    stopped: bool,
}

impl Site {
    /// Where it listens, as its log says: `http://127.0.0.1:40123`, `unix:/path`.
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// All of them, in the order of their `--bind`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The private working directory.
    pub fn folder(&self) -> &Folder {
        &self.rig.folder
    }

    /// The master.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Templates and workers that are alive.
    pub fn descendants(&self) -> Vec<i32> {
        self.process.descendants()
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// The answer to one request on a connection of its own.
    pub fn get(&self, target: &str) -> Answer {
        self.connect().get(target)
    }

    /// Waits for the next line of the log that holds a phrase.
    pub fn log(&self, phrase: &str) -> Line {
        self.process.log.find(phrase)
    }

    /// Waits until this many workers have drained. Up to then, those of an old generation may still accept.
    pub fn drained(&self, workers: usize) {
        for _ in 0..workers {
            self.log("worker drained");
        }
    }

    /// How many lines of the log hold a phrase by now.
    pub fn logged(&self, phrase: &str) -> usize {
        self.process.log.count(phrase)
    }

    /// Waits for the next line of standard output that holds a phrase.
    pub fn output(&self, phrase: &str) -> Line {
        self.process.output.find(phrase)
    }

    /// The log by now.
    pub fn shown(&self) -> String {
        self.process.log.text()
    }

    /// The whole log, once the daemon has ended.
    pub fn whole_log(&self) -> String {
        self.process.log.whole()
    }

    /// The whole of standard output, once the daemon has ended.
    pub fn whole_output(&self) -> String {
        self.process.output.whole()
    }

    /// Sends the master a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Runs `ostler COMMAND` against the control socket.
    pub fn control(&self, words: &[&str]) -> Refused {
        self.control_of(&self.rig.daemon, words)
    }

    /// The same with another executable.
    pub fn control_of(&self, daemon: &Path, words: &[&str]) -> Refused {
        let socket = self.rig.folder.join("control.sock");
        let mut command = Command::new(daemon);
        command.args(words).arg("--control").arg(socket).current_dir(self.rig.folder.path());
        // A command may run while another waits.
        let mark = format!("{} {}", self.rig.folder.path().display(), words.join(" "));
        let mut process = Process::start(&mut command, &mark);
        let code = process.wait().code().expect("a command ends by itself");
        Refused { code, error: process.log.whole(), output: process.output.whole() }
    }

    /// Stops the daemon with TERM, which must succeed and leave nothing behind.
    pub fn stop(&mut self) {
        self.process.signal(Signal::SIGTERM);
        assert_eq!(self.wait(), 0, "exit code after SIGTERM");
    }

    /// Waits for the daemon's end, which must leave nothing behind, and returns its exit code.
    pub fn wait(&mut self) -> i32 {
        self.stopped = true;
        let status = self.process.wait();
        // What the application has forked may be about to end, because the daemon has.
        let mut left = self.process.descendants();
        left.retain(|pid| !ends_within(*pid, Duration::from_secs(1)));
        assert_eq!(left, [0i32; 0], "processes that the daemon left");
        assert_eq!(self.rig.folder.leavings(), [] as [&Path; 0], "files that the daemon left");
        status.code().unwrap_or_else(|| panic!("the daemon was ended by {status}"))
    }

    /// Kills the master alone.
    pub fn kill_master(&mut self) {
        self.stopped = true;
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.process.log.text();
            eprintln!("--- the daemon's log ---\n{log}\n--- its standard output ---\n{}", self.process.output.text());
        } else if !self.stopped {
            self.stop();
        }
    }
}
