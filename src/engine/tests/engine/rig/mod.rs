//! Plays the master to one template: boots it, has it fork workers, talks HTTP to them, and reads their log.

use std::{
    env, fs,
    io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{Pid, dup2_raw},
};
use ostler_wire::{
    Boot, BootFailure, CHANNEL_FD, Channel, FromTemplate, FromWorker, Listener, Loaded, ToTemplate, ToWorker, VERSION,
    WorkerSettings, meters::MoveReason, scoreboard::Scoreboard,
};

/// Long enough for anything that is going to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A template, and the worker that was forked last.
pub struct Site {
    template: Child,
    channel: Channel,
    pub loaded: Loaded,
    pub address: std::net::SocketAddr,
    scoreboard: Scoreboard,
    worker: Option<(Channel, Pid)>,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// What to boot.
pub struct Plan {
    python: PathBuf,
    environment: Vec<(String, Option<String>)>,
    boot: Boot,
}

pub fn plan(application: &str) -> Plan {
    Plan { python: pythons().remove(0), environment: Vec::new(), boot: boot(application) }
}

impl Plan {
    pub fn python(mut self, python: &Path) -> Plan {
        self.python = python.to_owned();
        self
    }

    pub fn environment(mut self, name: &str, value: Option<&str>) -> Plan {
        self.environment.push((name.to_owned(), value.map(str::to_owned)));
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Boot)) -> Plan {
        change(&mut self.boot);
        self
    }

    /// Boots a template and forks one worker.
    pub fn serve(self) -> Site {
        let mut site = self.boot().expect("the template boots");
        assert!(matches!(site.fork(0), FromWorker::Ready));
        site
    }

    /// Boots a template.
    pub fn boot(mut self) -> Result<Site, BootFailure> {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let name = format!("http://{address}");
        self.boot.listeners = vec![Listener::http(name, "127.0.0.1", Some(address.port()))];
        let scoreboard = Scoreboard::new(self.boot.slots, self.boot.worker.threads).unwrap();
        let (give, take) = Channel::pair().unwrap();
        let (channel, there) = Channel::pair().unwrap();
        let log = Arc::new(Log::default());
        let (read, write) = std::io::pipe().unwrap();
        let template = self.spawn(there, &write);
        log.follow(read);
        let mut descriptors = vec![scoreboard.as_fd(), give.as_fd(), take.as_fd(), listener.as_fd()];
        if self.boot.access_log {
            descriptors.insert(3, write.as_fd());
        }
        channel.send(&ToTemplate::Boot(Box::new(self.boot)), &descriptors).unwrap();
        let mut site = Site { template, channel, loaded: nothing_loaded(), address, scoreboard, worker: None, log };
        loop {
            match site.channel.receive().unwrap().expect("the template answers").0 {
                FromTemplate::Begins(_) => {}
                FromTemplate::Loaded(loaded) => site.loaded = loaded,
                FromTemplate::Failed(failure) => return Err(failure),
                other => panic!("{other:?}"),
            }
            if site.loaded.wire == VERSION {
                return Ok(site);
            }
        }
    }

    fn spawn(&self, channel: Channel, output: &PipeWriter) -> Child {
        let mut command = Command::new(&self.python);
        command.args(["-c", include_str!("../../../boot.py")]).arg(engine()).current_dir(apps());
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let channel = OwnedFd::from(channel);
        let third = move || dup2_raw_at_channel(&channel);
        // SAFETY: dup2(2) may be called between fork and exec.
        unsafe { command.pre_exec(third) };
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
        command.spawn().unwrap()
    }
}

/// Puts a descriptor where a template looks for its channel.
fn dup2_raw_at_channel(channel: &OwnedFd) -> std::io::Result<()> {
    // SAFETY: the program that is executed next owns it; here it is forgotten.
    std::mem::forget(unsafe { dup2_raw(channel, CHANNEL_FD) }?);
    Ok(())
}

impl Log {
    fn follow(self: &Arc<Log>, output: PipeReader) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                log.lines.lock().unwrap().push(line);
                log.grown.notify_all();
            }
        });
    }
}

impl Site {
    /// Has a worker forked, lets it serve if it is ready, and returns its first word.
    pub fn fork(&mut self, slot: u16) -> FromWorker {
        let (channel, there) = Channel::pair().unwrap();
        self.channel.send(&ToTemplate::Fork { slot }, &[there.as_fd()]).unwrap();
        drop(there);
        let FromTemplate::Forked { slot: same, pid } = self.channel.receive().unwrap().unwrap().0 else {
            panic!("not forked")
        };
        assert_eq!(same, slot);
        let first = channel.receive::<FromWorker>().unwrap().expect("the worker speaks").0;
        if matches!(first, FromWorker::Ready) {
            channel.send(&ToWorker::Serve, &[]).unwrap();
        }
        self.worker = Some((channel, Pid::from_raw(pid)));
        first
    }

    pub fn pid(&self) -> i32 {
        self.worker.as_ref().unwrap().1.as_raw()
    }

    pub fn template_pid(&self) -> u32 {
        self.template.id()
    }

    pub fn scoreboard(&self) -> &Scoreboard {
        &self.scoreboard
    }

    pub fn tell(&self, message: ToWorker) {
        self.worker.as_ref().unwrap().0.send(&message, &[]).unwrap();
    }

    /// What the worker says next, other than that it is at work, or accepts no more.
    pub fn hear(&self) -> Option<FromWorker> {
        loop {
            match self.worker.as_ref().unwrap().0.receive().unwrap()?.0 {
                FromWorker::AtWork | FromWorker::AcceptsNoMore => {}
                message => return Some(message),
            }
        }
    }

    /// Asks the worker to drain, and waits for its end.
    pub fn drain(&mut self, within: Duration) -> WaitStatus {
        self.tell(ToWorker::Drain {
            within,
            hand_over: false,
            delay: Duration::ZERO,
            closes: vec![],
            why: MoveReason::default(),
        });
        while self.hear().is_some() {}
        self.wait()
    }

    /// Waits for the worker's end.
    pub fn wait(&mut self) -> WaitStatus {
        waitpid(self.worker.take().unwrap().1, None).unwrap()
    }

    pub fn get(&self, target: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
    }

    pub fn post(&self, target: &str, body: &str) -> Answer {
        let length = body.len();
        self.ask(&format!(
            "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }

    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits for the log to hold these words, and returns all of it.
    pub fn log(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            let text = lines.join("\n");
            if text.contains(words) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not in the log: {words}\n{text}");
            lines = self.log.grown.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.channel.send(&ToTemplate::Quit, &[]);
        if let Some((channel, pid)) = self.worker.take() {
            let _ = channel.send(&ToWorker::Quit, &[]);
            let _ = waitpid(pid, None);
        }
        let _ = self.template.wait();
        if thread::panicking() {
            eprintln!("{}", self.log.lines.lock().unwrap().join("\n"));
        }
    }
}

/// A response, read to the end of its connection.
#[derive(Debug)]
pub struct Answer {
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(mut stream: TcpStream) -> Answer {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let _ = stream.shutdown(Shutdown::Both);
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Answer { head: head.to_owned(), body: body.to_owned() }
    }

    pub fn status(&self) -> u16 {
        self.head.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The interpreters of this machine that the engine serves, each once.
pub fn pythons() -> Vec<PathBuf> {
    static PYTHONS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    PYTHONS.get_or_init(find_pythons).clone()
}

fn find_pythons() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap();
    let named = env::split_paths(&path).map(|folder| folder.join("python3"));
    let versions = env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv/versions"));
    let installed = versions.and_then(|versions| fs::read_dir(versions).ok()).into_iter().flatten();
    let installed = installed.filter_map(|entry| Some(entry.ok()?.path().join("bin/python3")));
    let mut found: Vec<PathBuf> = Vec::new();
    let mut seen = Vec::new();
    for python in named.chain(installed) {
        // A shim of pyenv is a shell script; the interpreters behind it are found by themselves.
        let Ok(real) = python.canonicalize() else { continue };
        if !fs::read(&real).is_ok_and(|bytes| bytes.starts_with(b"#!")) && !seen.contains(&real) && serves(&python) {
            seen.push(real);
            found.push(python);
        }
    }
    assert!(!found.is_empty(), "no CPython 3.10 or later was found");
    found
}

fn serves(python: &Path) -> bool {
    let asked = "import sys; sys.exit(sys.version_info < (3, 10) or 't' in sys.abiflags)";
    Command::new(python).args(["-c", asked]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The engine. Cargo does not build a cdylib for a test of its package, so a stale one might stand there.
fn engine() -> &'static Path {
    static ENGINE: OnceLock<PathBuf> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "ostler-engine"]).status();
        assert!(built.unwrap().success());
        let this = env::current_exe().unwrap();
        this.ancestors().nth(2).unwrap().join("libostler_engine.so")
    })
}

pub fn apps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps")
}

fn nothing_loaded() -> Loaded {
    Loaded {
        wire: 0,
        python: String::new(),
        executable: String::new(),
        preloaded: false,
        unsafe_to_fork: Vec::new(),
        import: Duration::ZERO,
        failed: false,
    }
}

fn boot(application: &str) -> Boot {
    Boot {
        application: application.to_owned(),
        chdir: apps(),
        slots: 4,
        log_level: "debug".into(),
        worker: WorkerSettings {
            timeout: PATIENCE,
            keep_alive: PATIENCE,
            header_timeout: PATIENCE,
            body_timeout: PATIENCE,
            write_timeout: PATIENCE,
            min_rate: 0,
            connections: 1000,
            graceful_timeout: PATIENCE,
            body_memory: 64 * 1024,
            spool_limit: 0,
            ..WorkerSettings::default()
        },
        ..Boot::default()
    }
}
