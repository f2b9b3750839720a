//! The master does not trust the application: whatever its code does with the worker's descriptors and memory, the site goes on, the
//! master answers, and no other process dies.

use std::{
    fs::File,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ostler_tests::{Gate, Rig, Site, ends_within};
use serde_json::Value;

/// The attacker: an application that runs the code that it is sent, in the worker, and answers with `result`.
const ENEMY: &str = r#"
import array, ctypes, json, os, socket, stat, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)

def numbers():
    return [number for number in range(256) if os.path.exists('/proc/self/fd/%d' % number)]

def link(number):
    return os.readlink('/proc/self/fd/%d' % number)

def pairs():
    "The descriptors on which messages are exchanged."
    found = []
    for number in numbers():
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            continue
        end = socket.socket(fileno=os.dup(number))
        if end.type == socket.SOCK_SEQPACKET:
            found.append(end)
    return found

def scoreboard():
    return [number for number in numbers() if 'ostler-scoreboard' in link(number)]

def channel():
    "To the master: the one that is held once. Each end of the exchange is held for giving and for taking."
    ends = pairs()
    files = [os.fstat(end.fileno()).st_ino for end in ends]
    return next(end for end, file in zip(ends, files) if files.count(file) == 1)

def tell(end, message):
    packet = message if isinstance(message, bytes) else json.dumps(message).encode()
    try:
        return end.send(packet)
    except OSError:
        return 0

def app(environ, start_response):
    code = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    scope = dict(globals(), environ=environ, result='')
    exec(code, scope)
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [str(scope['result']).encode()]
"#;

/// More than a busy machine needs, and less than each of the former defects took (for ever, or the time of a lingering close).
const SOON: Duration = Duration::from_secs(20);

struct Victim {
    site: Site,
    template: i32,
    /// The first worker.
    worker: i32,
}

impl Victim {
    fn new(rig: Rig, workers: u16) -> Victim {
        let site = rig.workers(workers).start();
        let status = status(&site);
        let generation = &status["generations"][0];
        let number = |value: &Value| value.as_i64().expect("a process number") as i32;
        let (template, worker) = (number(&generation["template"]), number(&generation["workers"][0]["pid"]));
        Victim { site, template, worker }
    }

    /// Runs this in a worker.
    fn attack(&self, code: &str) -> String {
        let answer = self.site.connect().post("/", "text/x-python", code.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().to_owned()
    }

    /// The site serves, and the master answers at once and is the same process as before.
    fn stands(&self) {
        let status = status(&self.site);
        assert_eq!(status["pid"].as_i64(), Some(self.site.pid().into()));
        assert_eq!(self.attack("result = 6 * 7"), "42");
    }

    /// As [`Victim::stands`], and no process has died.
    fn is_whole(&self) {
        self.stands();
        let status = status(&self.site);
        let generation = &status["generations"][0];
        assert_eq!(generation["template"].as_i64(), Some(self.template.into()), "{status}");
        assert_eq!(generation["workers"][0]["pid"].as_i64(), Some(self.worker.into()), "{status}");
        for lost in ["worker lost", "worker killed", "template lost"] {
            assert_eq!(self.site.logged(lost), 0, "{lost}");
        }
    }
}

fn status(site: &Site) -> Value {
    let asked = Instant::now();
    let answer = site.control(&["status", "--json"]);
    assert!(asked.elapsed() < SOON, "status took {:?}", asked.elapsed());
    // 1 says that something is wrong with the site.
    assert!(matches!(answer.code, 0 | 1), "{answer:?}");
    serde_json::from_str(&answer.output).expect("JSON")
}

#[test]
fn the_shared_memory_stays() {
    let victim = Victim::new(Rig::with_source(ENEMY), 2);
    let tried = victim.attack(
        r#"
tried = []
for number in scoreboard():
    for length in (0, 1, 1 << 24):
        try:
            os.ftruncate(number, length)
            tried.append('done')
        except OSError as error:
            tried.append(error.strerror)
    # F_ADD_SEALS: nobody could map it after an upgrade.
    import fcntl
    try:
        fcntl.fcntl(number, 1033, 0x10)
        tried.append('sealed')
    except OSError as error:
        tried.append(error.strerror)
result = sorted(set(tried))
"#,
    );
    assert_eq!(tried, "['Operation not permitted']");
    victim.is_whole();
}

#[test]
fn nonsense_in_the_shared_memory_is_only_shown() {
    let victim = Victim::new(Rig::with_source(ENEMY), 2);
    // All ones, an odd sequence everywhere; then zeros, then noise, over all of it, slots of others included.
    let mut before = 0;
    for what in ["b'\\xff' * size", "b'\\x01' * size", "bytes(size)", "os.urandom(size)"] {
        victim.attack(&format!(
            r#"
for number in scoreboard():
    size = os.fstat(number).st_size
    assert os.pwrite(number, {what}, 0) == size
"#
        ));
        victim.stands();
        assert_eq!(victim.site.control(&["status"]).code, 0);
        let metrics = status(&victim.site)["metrics"].take();
        let classes = metrics.as_object().expect("metrics are an object").iter();
        let classes = classes.filter(|(name, _)| name.starts_with("ostler_requests_total{"));
        let requests: u64 = classes.map(|(_, count)| count.as_u64().expect("a number")).fold(0, u64::saturating_add);
        // Some of the noise may look like a count.
        assert!(before <= requests && (what.contains("urandom") || requests < 100), "{before}, then {requests}");
        before = requests;
    }
    // A worker that dies in this state is logged and replaced.
    let first = victim.site.logged("worker ready");
    kill(Pid::from_raw(victim.worker), Signal::SIGKILL).expect("the worker lives");
    victim.site.log("worker lost");
    while victim.site.logged("worker ready") == first {
        std::thread::yield_now();
    }
    victim.stands();
}

#[test]
fn a_worker_holds_no_channel_but_its_own() {
    // A file that the master inherits when it is started.
    let somebodys = File::open("/etc/passwd").expect("there is one");
    // SAFETY: F_SETFD with no flags makes a descriptor of ours inheritable, and nothing else.
    assert_eq!(unsafe { libc::fcntl(somebodys.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    let victim = Victim::new(Rig::with_source(ENEMY), 3);
    // Both ends of both lanes of the exchange, and one channel.
    assert_eq!(victim.attack("result = len(pairs())"), "5");
    let kinds = victim.attack(
        r#"
kinds = [link(number).split(':')[0].split(' ')[0] for number in numbers() if number > 2]
result = ' '.join(sorted(set(kinds)))
"#,
    );
    for kind in kinds.split(' ') {
        assert!(["socket", "anon_inode", "/memfd", "pipe", "/dev/null"].contains(&kind), "{kinds}");
    }
}

#[test]
fn what_is_written_to_standard_error_that_was_closed_reaches_no_client() {
    let victim = Victim::new(Rig::with_source(ENEMY), 1);
    for number in 0..3 {
        victim.attack(&format!("os.close({number})"));
        let code = format!("os.write({number}, b'SECRET'); result = link({number})");
        assert_eq!(victim.attack(&code), "/dev/null");
    }
    let mut client = victim.site.connect();
    assert_eq!(client.post("/", "text/x-python", b"os.close(2)").status, 200);
    let spooled = format!("result = link(2)#{}", "x".repeat(4 << 20));
    assert_eq!(client.post("/", "text/x-python", spooled.as_bytes()).text(), "/dev/null");
    victim.site.log("standard descriptor closed");
    victim.is_whole();
    assert_eq!(victim.site.logged("standard descriptor closed"), 1);
}

#[test]
fn a_log_that_is_grown_to_its_limit_is_no_reason_to_end() {
    let rig = Rig::with_source(ENEMY).workers(2).option("--error-logfile", "error.log");
    let address = format!("unix:{}", rig.folder().join("site.sock").display());
    let mut site = rig.limited("ulimit -f 65536").bind(&address).start_silently();
    let log = site.folder().join("error.log");
    let limit = File::options().write(true).open(&log).expect("the daemon has made it");
    // Shells count RLIMIT_FSIZE in units of 512 or 1024 bytes. This is beyond both.
    limit.set_len(65536 * 1024).expect("the file can grow");
    site.signal(Signal::SIGHUP);
    assert_eq!(site.control(&["status"]).code, 0);
    assert_eq!(site.get("/").status, 200);
    site.stop();
}

#[test]
fn no_worker_can_send_messages_as_the_template() {
    let victim = Victim::new(Rig::with_source(ENEMY), 2);
    for pid in [0, -1, 1, victim.site.pid(), victim.template, std::process::id() as i32] {
        victim.attack(&format!(
            r#"
for end in pairs():
  for slot in range(4):
    tell(end, {{"Forked": {{"slot": slot, "pid": {pid}}}}})
"#
        ));
    }
    victim.stands();
    assert_eq!(victim.site.control(&["recycle"]).code, 0);
    victim.stands();
    assert!(!ends_within(victim.template, Duration::ZERO), "the template was killed");
}

/// With the template's channel, which only its own process has.
#[test]
fn a_template_that_names_others_as_its_workers_kills_nobody() {
    let mut bystander = std::process::Command::new("sleep").arg("600").spawn().expect("sleep(1) is there");
    let lying = format!(
        r#"{ENEMY}
channel = socket.socket(fileno=os.dup(3))
def lie():
    if os.path.exists('lie'):
        os.unlink('lie')
        for slot in range(40):
            channel.send(json.dumps({{"Forked": {{"slot": slot, "pid": {pid}}}}}).encode())
os.register_at_fork(before=lie)
"#,
        pid = bystander.id()
    );
    // The duplicate of the channel makes the import unsafe to fork, so preloading is forced.
    let victim = Victim::new(Rig::with_source(&lying).flag("--preload=on"), 2);
    std::fs::write(victim.site.folder().join("lie"), "").expect("a private folder is writable");
    kill(Pid::from_raw(victim.worker), Signal::SIGKILL).expect("the worker lives");
    let line = victim.site.log("template distrusted");
    assert!(line.text().contains("no child of the master"), "{}", line.text());
    victim.site.log("generation serving");
    victim.stands();
    assert!(bystander.try_wait().expect("our child").is_none(), "another process was killed");
    bystander.kill().expect("our child");
    bystander.wait().expect("our child");
}

#[test]
fn a_flood_of_messages_costs_a_worker_its_channel_and_the_master_nothing() {
    let rig = || Rig::with_source(ENEMY).option("--graceful-timeout", "1");
    let nonsense = [
        "b'\\xff' * 1000",
        "b'{\"Ready\":1}' * 1000",
        "{\"Stacks\": 'x' * 50000}",
        "\"Ready\"",
        "{\"Failed\": {\"kind\": \"Import\", \"message\": \"no\", \"traceback\": \"x\\n\" * 20000}}",
        "{\"Replace\": \"Age\"}",
        "b'[' * 100000",
    ];
    for said in nonsense {
        let victim = Victim::new(rig(), 2);
        victim.attack(&format!(
            r#"
end = channel()
def flood():
    while tell(end, {said}):
        pass
threading.Thread(target=flood, daemon=True).start()
"#
        ));
        victim.site.log("worker distrusted");
        victim.site.log("worker ready");
        victim.stands();
        let mut victim = victim;
        victim.site.stop();
        assert_eq!(victim.site.logged("worker distrusted"), 1, "it is said once");
        assert_eq!(victim.site.logged("worker could not boot"), 0, "it had been ready");
        let log = victim.site.whole_log();
        assert!(log.len() < 100_000, "the log holds {} bytes after {said}", log.len());
    }
}

#[test]
fn the_master_accepts_no_descriptors_from_workers() {
    let victim = Victim::new(Rig::with_source(ENEMY).option("--graceful-timeout", "1"), 2);
    victim.attack(
        r#"
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
peer = server.accept()[0]
os.dup(peer.fileno())
client.setblocking(False)
try:
    while client.send(b'x' * 65536):
        pass
except BlockingIOError:
    pass
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 600))
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [client.fileno()]))]
try:
    channel().sendmsg([b'"Ready"'], rights)
except OSError:
    pass
# The copy that was passed, if it was, is the last to be closed.
threading.Thread(target=client.close, daemon=True).start()
"#,
    );
    victim.stands();
}

#[test]
fn a_real_time_signal_ends_a_worker_like_any_other() {
    let mut victim = Victim::new(Rig::with_source(ENEMY), 2);
    // SAFETY: kill(2) takes two numbers.
    unsafe { libc::kill(victim.worker, libc::SIGRTMIN() + 3) };
    let line = victim.site.log("worker lost");
    assert_eq!(line.key("exit"), Some("signal 37"), "{}", line.text());
    victim.site.log("worker ready");
    victim.site.log("worker ready");
    victim.site.log("worker ready");
    victim.stands();
    victim.site.stop();
    assert!(!victim.site.whole_log().contains("worker killed"));
}

#[test]
fn a_worker_that_crashes_is_replaced_at_once_and_what_it_held_is_named() {
    let gate = Gate::new();
    let victim = Victim::new(Rig::with_source(ENEMY), 1);
    let mut calls = victim.site.connect();
    let mut waits = victim.site.connect();
    waits.get("/first");
    calls.get("/first");
    let code = format!("{}\nos.kill(os.getpid(), 11)", gate.statement());
    calls.send(format!("POST /segv HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{code}", code.len()));
    let visitor = gate.arrival();
    waits.ask("/waits-behind");
    loop {
        let status = status(&victim.site);
        if status["generations"][0]["workers"][0]["queued"] == 1 {
            break;
        }
    }
    // This connection was not accepted yet, so another worker answers it.
    let mut untouched = victim.site.connect();
    untouched.ask("/untouched");
    visitor.let_go("x");
    let line = victim.site.log("worker lost");
    assert_eq!(line.key("exit"), Some("SIGSEGV"));
    assert_eq!(line.key("retry"), Some("0.000"));
    assert!(line.key("requests").is_some_and(|held| held.starts_with("POST /segv")), "{}", line.text());
    assert!(line.key("queued").is_some_and(|held| held.starts_with("1: GET /waits-behind")), "{}", line.text());
    assert_eq!(untouched.answer().status, 200);
    for crash in 2..8 {
        let mut client = victim.site.connect();
        let code = "os.kill(os.getpid(), 11)";
        client.send(format!("POST /segv HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{code}", code.len()));
        let line = victim.site.log("worker lost");
        assert_eq!(line.key("retry"), Some("0.000"), "crash {crash}");
    }
    victim.stands();
    let table = victim.site.control(&["status"]).output;
    assert!(table.contains("7 crashed, last on POST /segv"), "{table}");
    let generation = &status(&victim.site)["generations"][0];
    assert_eq!((&generation["crashed"], &generation["ready"]), (&7.into(), &1.into()), "{generation}");
}

#[test]
fn a_worker_that_never_becomes_ready_is_tried_again_later() {
    let source = format!(
        r#"{ENEMY}
import sys
if os.path.exists('broken'):
    os.kill(os.getpid(), 11)
"#
    );
    let victim = Victim::new(Rig::with_source(&source).flag("--preload=off"), 1);
    std::fs::write(victim.site.folder().join("broken"), "").expect("a private folder is writable");
    kill(Pid::from_raw(victim.worker), Signal::SIGKILL).expect("the worker lives");
    let retries: Vec<String> =
        (0..4).map(|_| victim.site.log("worker lost").key("retry").expect("a retry").to_owned()).collect();
    assert_eq!(retries, ["0.000", "0.000", "0.250", "0.500"]);
    loop {
        let status = status(&victim.site);
        let generation = &status["generations"][0];
        if generation["next"].is_number() {
            assert_eq!(generation["ready"], 0);
            break;
        }
    }
    std::fs::remove_file(victim.site.folder().join("broken")).expect("it is there");
    assert_eq!(victim.attack("result = 1"), "1");
}

#[test]
fn after_an_upgrade_a_worker_that_is_stopped_is_still_known_and_ends() {
    let mut victim = Victim::new(Rig::with_source(ENEMY).installed(), 1);
    victim.site.signal(Signal::SIGUSR2);
    victim.site.log("upgraded");
    victim.site.drained(1);
    // The worker is stopped, and stopped again whenever it is continued, while the master is replaced once more.
    let stops = "
result = os.getpid()
if os.fork() == 0:
    while not os.path.exists('begin'):
        time.sleep(0.001)
    try:
        while True:
            os.kill(result, 19)
    finally:
        os._exit(0)
";
    let worker: i32 = victim.attack(stops).parse().expect("a process number");
    victim.site.folder().write("begin", "");
    victim.site.log("worker stopped by a signal");
    victim.site.signal(Signal::SIGUSR2);
    victim.site.log("upgraded");
    victim.site.signal(Signal::SIGINT);
    assert_eq!(victim.site.wait(), 0);
    assert!(ends_within(worker, Duration::ZERO), "the worker outlives its master");
    // It may have ended by itself, because the master continues it so that it can.
    let log = victim.site.whole_log();
    let ended = |how: &str| log.contains(&format!("worker {how} generation=2 slot=0 pid={worker}"));
    assert!(ended("killed") || ended("drained"), "its end is not logged");
}

#[test]
fn the_control_socket_takes_one_command_and_no_crowd_keeps_others_away() {
    let victim = Victim::new(Rig::with_source(ENEMY), 1);
    let path = victim.site.folder().join("control.sock").display().to_string();
    victim.attack(&format!(
        r#"
def ask(*packets):
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.connect({path:?})
    for packet in packets:
        tell(end, packet)
    return end
socket.kept = [ask() for _ in range(200)]
flood = ask(*['Status'] * 2000)
ask(*[b'x' * 1000] * 2000)
"#
    ));
    victim.is_whole();
}
