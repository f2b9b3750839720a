//! Who replaces the word `gunicorn` by `ostler` keeps his configuration: gunicorn.conf.py, GUNICORN_CMD_ARGS, the options, and the
//! hooks of the workers.

use std::{fs, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ostler_tests::{Client, Folder, PATIENCE, Pair, Process, Python, Refused, Rig, Site, built, ends_within};

const APP: &str = "
import logging, os
logger = logging.getLogger('gunicorn.error')
logger.info('imported at level %s', logger.level)
def application(environ, start_response):
    logger.warning('asked for %s', environ['PATH_INFO'])
    if environ['PATH_INFO'] == '/hang':
        import time
        time.sleep(3600)
    start_response('201 Created', [('Content-Type', 'text/plain'), ('X-One', '1')])
    return [' '.join([os.environ.get('FROM_FILE', '-'), environ['SERVER_SOFTWARE'].partition('/')[0]]).encode()]
";

/// A site with this gunicorn.conf.py, of whose workers nothing is said.
fn rig(configuration: &str) -> Rig {
    Rig::with_source(APP).without_workers().file("gunicorn.conf.py", configuration)
}

fn check(rig: &Rig) -> Refused {
    rig.run(&["check"])
}

#[test]
fn the_file_of_the_start_directory_is_in_force() {
    for python in Python::every() {
        let site = rig("import os, gunicorn\n\
                        from gunicorn.glogging import Logger\n\
                        os.environ['FROM_FILE'] = f\"{'from'} file\"\n\
                        threads = '2'\nmax_requests = None\nhelper = lambda: 1\nport = 1\nBIND = 'nowhere'\n")
        .python(python)
        .start();
        let line = site.log("gunicorn.conf.py in force: workers=1 (gunicorn's default; ");
        assert!(line.text().contains(" here)"), "{line:?}");
        assert_eq!(site.get("/").text(), "from file gunicorn", "on CPython {}", python.version);
    }
}

#[test]
fn a_site_without_gunicorn_s_configuration_has_its_loggers_and_not_its_name() {
    let site = Rig::with_source(APP).start();
    site.log("imported at level 20");
    assert_eq!(site.get("/here").text(), "- ostler");
    assert!(site.log("asked for /here").text().contains(" warning "));
}

/// What `ps` shows of a process, and the name by which `pgrep` and `killall` find it.
fn called(pid: i32) -> (String, String) {
    let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process lives");
    (of("cmdline").trim_end_matches('\0').to_owned(), of("comm").trim().to_owned())
}

#[test]
fn people_s_scripts_find_the_processes_by_gunicorn_s_name() {
    let names = |site: &Site| -> Vec<(String, String)> {
        [site.pid()].into_iter().chain(site.descendants()).map(called).collect()
    };
    let named = rig("proc_name = 'the shop of the town'\n").env("FROM_FILE", "from outside").start();
    let all = names(&named);
    assert!(all.iter().all(|(_, name)| name == "gunicorn"), "{all:?}");
    let lines = |all: &[(String, String)]| all.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>();
    for line in ["gunicorn: master [the shop of the town]", "gunicorn: worker [the shop of the town] g1.0"] {
        assert!(lines(&all).iter().any(|found| found == line), "{all:?}");
    }
    // The title lies over the master's arguments and environment, which another executable and other workers are given nevertheless.
    assert_eq!(named.control(&["upgrade"]).code, 0);
    assert_eq!(called(named.pid()).0, "gunicorn: master [the shop of the town]");
    assert_eq!(named.get("/").text(), "from outside gunicorn");
    let nameless = rig("").start();
    assert!(lines(&names(&nameless)).contains(&"gunicorn: worker [./app.py] g1.0".to_owned()));
    let other = Rig::with_source(APP).start();
    assert!(!lines(&names(&other)).iter().any(|line| line.contains("gunicorn")));
    assert_eq!(called(other.pid()).1, "ostler");
}

#[test]
fn each_setting_says_where_it_comes_from() {
    let rig = rig("import os\n\nbind = [':1', 'unix:x']\nif True:\n    timeout = 7\nworkers = int('3')\n")
        .env("GUNICORN_CMD_ARGS", "--workers 5 '--access-logformat=%(h)s x'")
        .option("--graceful-timeout", "9");
    let settings = rig.run(&["settings"]).output;
    let line = |name: &str| {
        let line = settings.lines().find(|line| line.split_whitespace().next() == Some(name)).expect("every setting");
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let here = |line: u32| format!("{}:{line}", rig.folder().join("gunicorn.conf.py").display());
    assert_eq!(line("bind"), format!(":1, unix:x {}", here(3)));
    assert_eq!(line("timeout"), format!("7 {}", here(5)));
    assert_eq!(line("workers"), "5 environment (GUNICORN_CMD_ARGS)");
    assert_eq!(line("access-logformat"), "%(h)s x environment (GUNICORN_CMD_ARGS)");
    assert_eq!(line("graceful-timeout"), "9 command line");
}

#[test]
fn the_file_is_named_in_each_of_gunicorn_s_ways() {
    let rig = Rig::with_source(APP).file("conf/site.py", "threads = 3\n").file("conf/other", "threads = 4\n");
    for (config, expected) in [("conf/site.py", "3"), ("file:conf/other", "4"), ("python:conf.site", "3")] {
        let settings = Refused { ..rig.run(&["settings", "-c", config]) };
        let threads = settings.output.lines().find(|line| line.starts_with("threads ")).map(str::to_owned);
        let threads = threads.unwrap_or_else(|| panic!("{config}: {}", settings.error));
        assert_eq!(threads.split_whitespace().nth(1), Some(expected), "{config}");
    }
}

#[test]
fn what_has_no_meaning_here_is_taken_and_what_cannot_be_had_is_refused() {
    let taken =
        rig("worker_tmp_dir = '/dev/shm'\nreuse_port = True\nspew = False\nmax_request = 5\nhttp_protocols = 'h1'\nmetrics = ':9'\n")
            .flag("--enable-stdio-inheritance");
    let said = check(&taken);
    assert_eq!(said.code, 0, "{}", said.error);
    for phrase in [
        "gunicorn.conf.py, line 1: worker_tmp_dir has no effect: its workers have no heartbeat file",
        "line 2: reuse_port has no effect",
        "--enable-stdio-inheritance has no effect",
        "line 4: max_request is no setting of gunicorn's, and is ignored; the nearest is max_requests",
        "line 6: metrics is no setting of gunicorn's, and is ignored; ostler has it as --metrics and in OSTLER_METRICS",
    ] {
        assert!(said.error.contains(phrase), "{phrase:?} is not in\n{}", said.error);
    }
    assert!(!said.error.contains("spew") && !said.error.contains("http_protocols"), "{}", said.error);
    check(&rig("spew = True\n")).says(2, &["gunicorn.conf.py, line 1: spew: ostler has no such setting"]);
    check(&rig("workers = []\ntimeout = 'soon'\n")).says(2, &["timeout in ", "gunicorn.conf.py, line 2: \"soon\""]);
    check(&rig("timeout = object()\n")).says(2, &["line 1: timeout: expected TIME, found object"]);
    check(&rig("").option("-k", "uvicorn.workers.UvicornWorker")).says(2, &["it is for ASGI"]);
    check(&rig("").env("GUNICORN_CMD_ARGS", "--bind ':1")).says(2, &["GUNICORN_CMD_ARGS: ", "is not closed"]);
    check(&rig("").env("GUNICORN_CMD_ARGS", "-w x")).says(2, &["GUNICORN_CMD_ARGS: --workers: \"x\": "]);
}

#[test]
fn a_hook_that_could_not_be_called_is_refused_before_anything_starts() {
    for (hook, found) in [
        ("def pre_fork(server): pass", "pre_fork: expected a function of (server, worker), found one of (server)"),
        ("on_exit = lambda: 1", "on_exit: expected a function of (server), found one of ()"),
        ("def nworkers_changed(a, b, c, d): pass", "of (server, new_value, old_value), found one of (a, b, c, d)"),
        ("def post_request(worker): pass", "of (worker, req, environ, resp), found one of (worker)"),
        ("def post_fork(server, worker, *, age): pass", "of (server, worker), found one of (server, worker, *, age)"),
        ("pre_request = 'soon'", "pre_request: expected a function, or where one is: 'soon': No module named"),
        ("pre_request = 'os.getcwd'", "pre_request: expected a function of (worker, req), found one of ()"),
    ] {
        check(&rig(&format!("import os\n{hook}\n"))).says(2, &["gunicorn.conf.py, line 2: ", found]);
    }
    let callable = "from functools import partial\npre_fork = lambda *any: 1\ndef post_fork(server, worker, more=1): pass\n\
                    def post_request(worker, req, environ): pass\npost_worker_init = partial(print, 'up')\n\
                    class Hooks:\n    def leaves(self, server): pass\non_exit = Hooks().leaves\n\
                    class worker_int:\n    def __init__(self, worker): pass\n";
    let said = check(&rig(callable));
    assert_eq!(said.code, 0, "{}", said.error);
    let start = rig("def when_ready(): pass\n").run(&[]);
    start.says(2, &["gunicorn.conf.py, line 1: when_ready: expected a function of (server), found one of ()"]);
}

#[test]
fn a_file_that_fails_is_explained_and_a_reload_by_it_changes_nothing() {
    let broken = "import os\ndef ask():\n    return os.environ['NOT_THERE_AT_ALL']\nworkers = ask()\n";
    check(&rig(broken)).says(2, &["gunicorn.conf.py, line 3: KeyError: 'NOT_THERE_AT_ALL'", "workers = ask()"]);
    check(&rig("workers = (\n")).says(2, &["gunicorn.conf.py, line 1: SyntaxError: "]);
    check(&rig("raise SystemExit('no')\n")).says(2, &["gunicorn.conf.py, line 1: SystemExit: no"]);
    let site = rig("").start();
    site.folder().write("gunicorn.conf.py", broken);
    site.control(&["reload"]).says(2, &["gunicorn.conf.py, line 3: KeyError: 'NOT_THERE_AT_ALL'"]);
    assert_eq!(site.get("/").status, 201);
    site.folder().write("gunicorn.conf.py", "import os\nos.environ['FROM_FILE'] = 'second'\n");
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.get("/").text(), "second gunicorn");
}

#[test]
fn workers_call_their_hooks() {
    let mut site = rig("\
def post_fork(server, worker):
    worker.asked = 0
    server.log.info('post_fork %s %s', worker.age, server.cfg.workers)
def post_worker_init(worker):
    worker.log.info('post_worker_init %s', worker.asked)
def pre_request(worker, req):
    req.number = worker.asked = worker.asked + 1
def post_request(worker, req, environ, resp):
    worker.log.info('%s %s %s %s %s', req.number, req.method, req.path, resp.status, dict(resp.headers)['X-One'])
    raise ValueError('from a hook')
def worker_exit(server, worker):
    server.log.error('worker_exit %s', worker.asked)
")
    .start();
    site.log("post_fork 1 1");
    site.log("post_worker_init 0");
    assert_eq!(site.get("/a?b=c").text(), "- gunicorn");
    site.log("1 GET /a 201 Created 1");
    site.log("hook post_request raised");
    site.log("ValueError: from a hook");
    assert_eq!(site.get("/again").status, 201);
    site.log("2 GET /again 201 Created 1");
    site.stop();
    assert!(site.log("worker_exit 2").text().contains(" error "));
}

#[test]
fn a_request_that_takes_too_long_calls_worker_abort() {
    let site = rig("\
import sys
timeout = 1
def worker_abort(worker):
    names = {frame.f_code.co_name for frame in sys._current_frames().values()}
    worker.log.error('aborted %s %s', worker.aborted, 'worker_abort' in names)
def worker_exit(server, worker):
    worker.log.info('exited')
")
    .start();
    assert_eq!(site.get("/hang").status, 504);
    site.log("aborted True True");
    site.log("exited");
}

#[test]
fn green_workers_become_threads() {
    let threads = |rig: &Rig| {
        let settings = rig.run(&["settings"]);
        let line = settings.output.lines().find(|line| line.starts_with("threads ")).expect("every setting").to_owned();
        line.split_whitespace().nth(1).expect("a value").to_owned()
    };
    assert_eq!(threads(&rig("worker_class = 'gevent'\n")), "64");
    assert_eq!(threads(&rig("worker_class = 'eventlet'\nworker_connections = 10\n")), "10");
    assert_eq!(threads(&rig("worker_class = 'gevent'\nthreads = 3\n")), "3");
    let patched = rig("from gevent import monkey\nmonkey.patch_all()\nworker_class = 'gevent'\n")
        .file("gevent/__init__.py", "")
        .file("gevent/monkey.py", "def patch_all(): pass\ndef is_module_patched(name): return True\n");
    assert_eq!(threads(&patched), "1");
    check(&patched).says(0, &["gevent has replaced Python's threads"]);
}

#[test]
fn a_file_that_runs_as_another_user_does_not_say_what_root_opens() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT TESTED: only root can start a site for another user");
        return;
    }
    let rig = |configuration: &str| rig(configuration).installed().interpreter("/usr/bin/python3");
    for configuration in ["errorlog = 'x'", "user = 'root'", "chdir = '/'", "bind = 'unix:x'", "pidfile = 'x'"] {
        let rig = rig(configuration).option("--user", "nobody");
        check(&rig).says(2, &["the file runs as the user of --user, who does not say what root does"]);
    }
    let whose = "import os\nerrorlog = '-'\nraw_env = ['WHO=%d' % os.getuid()]\n";
    let settings =
        |rig: &Rig| rig.run(&["settings"]).output.lines().find(|line| line.starts_with("env ")).map(str::to_owned);
    assert!(settings(&rig(whose).option("--user", "65534").option("--group", "65534")).unwrap().contains("WHO=65534"));
    assert!(settings(&rig(whose)).unwrap().contains("WHO=0"));
    let weak = rig("user = 'nobody'\n");
    let file = weak.folder().join("gunicorn.conf.py");
    std::os::unix::fs::chown(&file, Some(65534), None).expect("root gives files away");
    check(&weak).says(14, &["the application could change what ", "has root do"]);
}

#[test]
fn the_hooks_of_the_master_have_a_process_of_their_own() {
    let mut site = rig("\
import os, threading
def on_starting(server):
    server.kept = 'kept'
    server.log.info('on_starting %s', server.pid == os.getppid())
def when_ready(server):
    never = threading.Event()
    threading.Thread(target=never.wait, daemon=True).start()
    server.log.info('when_ready with %s threads', threading.active_count())
def pre_fork(server, worker):
    server.log.info('pre_fork %s', worker.age)
def child_exit(server, worker):
    server.log.info('child_exit %s', worker.pid)
def nworkers_changed(server, new, old):
    server.log.info('from %s to %s', old, new)
def on_reload(server):
    server.log.info('on_reload %s', server.kept)
    raise ValueError('from a hook')
def on_exit(server):
    server.log.info('on_exit')
")
    .start();
    for phrase in ["from None to 1", "on_starting True", "when_ready with 2 threads", "pre_fork 1"] {
        site.log(phrase);
    }
    let first = site.log("worker ready").number("pid");
    assert_eq!(site.control(&["scale", "+1"]).code, 0);
    site.log("from 1 to 2");
    assert_eq!(site.control(&["reload"]).code, 0);
    let reloaded = site.log("on_reload kept");
    site.log("hook on_reload raised");
    site.log(&format!("child_exit {first}"));
    assert_eq!(site.get("/").status, 201);
    let hooks = reloaded.text().split("hooks[").nth(1).and_then(|rest| rest.split(']').next()).expect("a process id");
    let hooks = hooks.parse().expect("a number");
    kill(Pid::from_raw(hooks), Signal::SIGKILL).expect("it lives");
    site.log("hooks lost");
    assert_eq!(site.get("/").status, 201);
    assert_eq!(site.control(&["reload"]).code, 0);
    site.log("on_starting True");
    site.stop();
    site.log("on_exit");
}

#[test]
fn a_variable_alone_and_the_name_gunicorn_are_configuration_enough() {
    let site = Rig::with_source(APP).without_workers().env("GUNICORN_CMD_ARGS", "--timeout 20").start();
    site.log("GUNICORN_CMD_ARGS in force: workers=1 (gunicorn's default; ");
    assert_eq!(site.get("/").text(), "- gunicorn");
    let rig = Rig::with_source(APP).without_workers().installed();
    let link = rig.folder().join("bin/gunicorn");
    std::os::unix::fs::symlink("ostler", &link).expect("a private folder is writable");
    let site = rig.executable(link).start();
    site.log("gunicorn's command line in force: workers=1 (gunicorn's default; ");
    assert_eq!(site.get("/").text(), "- gunicorn");
}

#[test]
fn a_configuration_of_logging_is_used_for_both_logs() {
    let logging = r#"{"version": 1, "disable_existing_loggers": false,
        "formatters": {"f": {"format": "as configured %(levelname)s %(message)s"}},
        "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f", "stream": "ext://sys.stdout"}},
        "root": {"handlers": ["h"]}, "loggers": {"gunicorn.error": {"handlers": ["h"]}, "gunicorn.access": {"handlers": ["h"]}}}"#;
    let in_file = "import json\naccesslog = '-'\nlogconfig_dict = json.load(open('logging.json'))\n";
    let rigs = [rig(in_file), rig("").option("--log-config-json", "logging.json")];
    for rig in rigs {
        let site = rig.file("logging.json", logging).start();
        assert_eq!(site.get("/seen").status, 201);
        site.output("as configured WARNING asked for /seen");
        let line = site.output("GET /seen HTTP/1.1");
        assert!(line.text().starts_with("as configured INFO 127.0.0.1 - - ["), "{line:?}");
        assert_eq!(site.logged("GET /seen"), 0);
    }
    for (key, file, why) in [
        ("logconfig", "missing.ini", "could not read it: no such file or directory"),
        ("logconfig", "half.ini", "Error: "),
        ("logconfig_json", "missing.json", "could not read it: no such file or directory"),
        ("logconfig_json", "half.json", "JSONDecodeError: Expecting"),
    ] {
        let rig = rig(&format!("{key} = '{file}'\n")).file("half.ini", "[loggers]\nkeys=root\n").file("half.json", "{");
        let said = check(&rig);
        said.says(2, &["the configuration of logging: ", &format!("{key} {file}: "), why]);
        assert_eq!(said.error.contains("Traceback"), file.starts_with("half"), "{}", said.error);
    }
}

#[test]
fn a_logger_of_the_site_s_own_writes_both_logs() {
    let site = rig("\
import logging
from gunicorn.glogging import Logger
accesslog = 'access.log'
access_log_format = '%(m)s %(U)s %(s)s %(extra)s %({generation}x)s.%({worker}x)s'
class Mine(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.error_log.handlers[0].setFormatter(logging.Formatter('mine %(levelname)s %(message)s'))
    def atoms(self, resp, req, environ, request_time):
        return {**super().atoms(resp, req, environ, request_time), 'extra': request_time.days}
    def access(self, resp, req, environ, request_time):
        if req.path != '/health':
            super().access(resp, req, environ, request_time)
logger_class = Mine
")
    .start();
    site.log("mine INFO imported at level 20");
    assert_eq!([site.get("/health").status, site.get("/seen").status], [201, 201]);
    site.log("mine WARNING asked for /seen");
    site.control(&["stop"]);
    assert_eq!(site.folder().read("access.log"), "GET /seen 201 0 1.0\n");
}

#[test]
fn a_daemon_whose_log_nobody_sees_starts_and_says_so() {
    let folder = Folder::new();
    folder.write("app.py", APP);
    folder.write("gunicorn.conf.py", "daemon = True\nbind = 'unix:site.sock'\nproxy_protocol = 'off'\n");
    let mut command = Command::new(built("ostler"));
    command.args(["--control", "control.sock", "--python"]).arg(&Python::usual().environment().python);
    let mut start =
        Process::start(command.arg("./app.py").current_dir(folder.path()), &folder.path().display().to_string());
    assert_eq!(start.wait().code(), Some(0), "{}", start.log.whole());
    start.log.find("nobody will see the error log of the daemon, as with gunicorn");
    let address = format!("unix:{}", folder.join("site.sock").display());
    assert_eq!(Client::connect(&address).get("/").text(), "- gunicorn");
    let mut stop = Command::new(built("ostler"));
    stop.args(["stop", "--control"]).arg(folder.join("control.sock"));
    assert!(stop.output().expect("it runs").status.success());
    assert!(start.descendants().into_iter().all(|pid| ends_within(pid, PATIENCE)));
}

#[test]
fn a_command_runs_no_program_that_lies_in_the_directory() {
    let configuration = "open('ran', 'w').close()\nproc_name = 'elsewhere'\n";
    let bare = Rig::bare().file("gunicorn.conf.py", configuration);
    for command in ["status", "reload", "stop"] {
        let said = bare.run(&[command, "--name", "nobody-has-this-name"]);
        assert_eq!(said.code, 7, "{command}: {}", said.error);
    }
    assert!(!bare.folder().join("ran").exists(), "a command has run the file");
    let rig = rig(configuration);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT TESTED: whether root looks at settings that somebody else could have written");
        return;
    }
    std::os::unix::fs::chown(rig.folder().join("gunicorn.conf.py"), Some(65534), None).expect("root gives files away");
    rig.run(&["settings"])
        .says(14, &["root does not run ", "gunicorn.conf.py, which was not named", "--config names it"]);
    assert!(!rig.folder().join("ran").exists(), "root has run the file");
    assert_eq!(rig.run(&["settings", "-c", "gunicorn.conf.py"]).code, 0);
    assert!(rig.folder().join("ran").exists());
}

#[test]
fn its_certificate_is_shown_and_hooks_know_of_it() {
    let pair = Pair::of(&["ostler.test"]);
    let site =
        rig("import ssl\ncertfile = 'site.pem'\nkeyfile = 'site.key'\ncert_reqs = ssl.CERT_NONE\nca_certs = None\n\
                    def post_worker_init(worker):\n    worker.log.info('is_ssl is %s', bool(worker.cfg.is_ssl))\n")
        .file("site.pem", &pair.chain)
        .file("site.key", &pair.key)
        .start();
    site.log("is_ssl is True");
    assert!(site.address().starts_with("https://"));
    let mut client = site.connect();
    assert_eq!((client.get("/").status, client.shown().certificate), (201, pair.der()));
}
