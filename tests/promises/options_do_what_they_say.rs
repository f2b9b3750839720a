//! The command line: how applications are named, gunicorn's options by gunicorn's names, and where settings come from.

use std::{fs, net::TcpListener, os::fd::OwnedFd};

use ostler_tests::{Client, Ending, Gate, Python, Rig, Site, repository};
use serde_json::Value;

const SPELLINGS: &str = "
class Holder:
    pass

def make(text, repeat=1, *, parts=()):
    def made(environ, start_response):
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [(text * repeat + ','.join(parts)).encode()]
    return made

holder = Holder()
holder.inner = Holder()
holder.inner.site = make('attribute path')
application = make('application')
app = make('app')
";

#[test]
fn an_application_is_named_in_each_way_that_people_type() {
    for (name, answer) in [
        ("spellings", "application"),
        ("spellings:app", "app"),
        ("spellings:holder.inner.site", "attribute path"),
        ("spellings:make('factory ')", "factory "),
        ("spellings:make('again ', 2, parts=['a', 'b'])", "again again a,b"),
        ("spellings.py", "application"),
        ("./spellings.py:app", "app"),
        ("package.spellings:app", "app"),
        ("package/spellings.py", "application"),
        ("only_app", "only"),
    ] {
        let only = SPELLINGS.replace("application = ", "other = ").replace("make('app')", "make('only')");
        let rig = Rig::new("corners.py").application(name).file("spellings.py", SPELLINGS).file("only_app.py", &only);
        let site = rig.file("package/__init__.py", "").file("package/spellings.py", SPELLINGS).start();
        assert_eq!(site.get("/").text(), answer, "{name}");
    }
}

#[test]
fn a_factory_takes_literals_only() {
    let rig = Rig::new("corners.py").application("spellings:make(open('/etc/passwd'))").file("spellings.py", SPELLINGS);
    let refused = rig.refuse();
    assert_ne!(refused.code, 0);
    assert!(refused.error.contains("spellings:make(open('/etc/passwd'))"), "{}", refused.error);
}

#[test]
fn several_addresses_are_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let inherited = format!("http://{}", listener.local_addr().expect("bound"));
    let rig = Rig::new("corners.py").input(OwnedFd::from(listener));
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    let site = rig.bind("127.0.0.1:0").bind("[::1]:0").bind(&socket).bind("fd://0").start();
    assert!(site.addresses().contains(&socket), "{:?}", site.addresses());
    assert!(site.addresses().contains(&inherited), "{:?}", site.addresses());
    for address in site.addresses() {
        assert_eq!(Client::connect(address).get("/hello").text(), "hello\n", "{address}");
    }
}

#[test]
fn a_port_without_a_host_is_bound_on_all_addresses() {
    let site = Rig::new("corners.py").bind(":0").start();
    let port = site.address().rsplit(':').next().expect("an address has a port");
    assert_eq!(Client::connect(&format!("127.0.0.1:{port}")).get("/hello").text(), "hello\n");
}

#[test]
fn workers_are_as_many_as_asked_for() {
    let site = Rig::new("corners.py").workers(3).start();
    assert_eq!(site.logged("worker ready"), 3);
}

#[test]
fn without_being_asked_there_are_at_least_two_workers() {
    let settings = settings(&Rig::bare().application("x"));
    let workers = entry(&settings, "workers")["value"].as_str().and_then(|count| count.parse::<u16>().ok());
    assert!(workers.is_some_and(|workers| workers >= 2), "{workers:?}");
}

#[test]
fn threads_are_as_many_as_asked_for() {
    let site = Rig::new("corners.py").option("--threads", "2").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    assert_eq!(site.get("/hello").text(), "hello\n");
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
}

#[test]
fn the_process_is_as_asked_for() {
    let folder = repository("tests/apps").display().to_string();
    let site = Rig::new("corners:dispatch")
        .option("--chdir", &folder)
        .option("--pythonpath", "/first/folder,/second/folder")
        .option("-e", "FIRST=1")
        .option("--env", "SECOND=two words=both")
        .option("-m", "0027")
        .option("-n", "my-site")
        .start();
    let seen = process(&site);
    assert_eq!(seen["directory"], folder);
    assert_eq!(seen["umask"], 0o027);
    assert_eq!(seen["variables"]["FIRST"], "1");
    assert_eq!(seen["variables"]["SECOND"], "two words=both");
    let path: Vec<&str> = seen["path"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(path[..3], [&folder, "/first/folder", "/second/folder"]);
    let title = fs::read_to_string(format!("/proc/{}/cmdline", seen["pid"])).expect("the worker lives");
    assert!(title.contains("ostler") && title.contains("my-site"), "{title:?}");
}

#[test]
fn no_setting_of_the_daemon_reaches_the_application() {
    let site = Rig::new("corners.py").start();
    let seen = process(&site);
    let variables = seen["variables"].as_object().expect("a table");
    let own: Vec<&String> = variables.keys().filter(|name| name.contains("OSTLER")).collect();
    assert_eq!(own, ["OSTLER_GENERATION", "OSTLER_SLOT"], "those tell who the worker is");
}

#[test]
fn a_pid_file_lives_as_long_as_the_daemon() {
    let rig = Rig::new("corners.py");
    let file = rig.folder().join("site.pid");
    let mut site = rig.option("-p", file.to_str().expect("plain")).start();
    assert_eq!(fs::read_to_string(&file).expect("the pid file is there"), format!("{}\n", site.pid()));
    site.stop();
    assert!(!file.exists());
}

#[test]
fn workers_run_as_the_user_and_group_asked_for() {
    let public = Python::every().iter().find(|python| python.is_public());
    let python = public.unwrap_or_else(Python::usual);
    let rig = Rig::with_source(WHO).installed().interpreter(&python.executable);
    let rig = rig.option("-u", "nobody").option("-g", "nogroup");
    match (nix::unistd::geteuid().is_root(), public) {
        (true, Some(_)) => assert_eq!(rig.start().get("/").text(), "65534 65534 [65534]"),
        // No interpreter of this machine is executable by every user, and the daemon says so.
        (true, None) => rig.refuse().says(13, &["permission denied"]),
        (false, _) => rig.refuse().says(14, &["nobody"]),
    }
}

const WHO: &str = "
import os
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [f'{os.getuid()} {os.getgid()} {os.getgroups()}'.encode()]
";

#[test]
fn an_idle_connection_is_closed_after_the_time_asked_for() {
    let site = Rig::new("corners.py").option("--keep-alive", "1").start();
    let mut client = site.connect();
    assert_eq!(client.get("/hello").text(), "hello\n");
    assert_eq!(client.ending(), Ending::Closed);
}

#[test]
fn a_worker_is_replaced_after_the_requests_asked_for() {
    let site = Rig::new("corners.py").option("--max-requests", "5").start();
    let first = site.log("worker ready").number("pid");
    let mut client = site.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/hello").text(), "hello\n");
    }
    let second = site.log("worker ready").number("pid");
    assert_ne!(first, second);
    assert!(ostler_tests::ends_within(first, ostler_tests::PATIENCE));
    assert_eq!(client.get("/hello").text(), "hello\n", "the connection moved");
}

#[test]
fn the_command_line_beats_the_environment_which_beats_the_file() {
    let rig = || {
        let file = "backlog = 11\nthreads = 12\nkeep-alive = 13\n";
        Rig::bare().application("x").file("site.toml", file).option("--config", "site.toml")
    };
    let all = settings(&rig().env("OSTLER_THREADS", "22").env("OSTLER_KEEP_ALIVE", "23").option("--keep-alive", "33"));
    for (name, value, origin) in
        [("backlog", "11", "site.toml"), ("threads", "22", "OSTLER_THREADS"), ("keep-alive", "33", "command line")]
    {
        let shown = serde_json::to_string(&entry(&all, name)).expect("JSON");
        assert!(shown.contains(value) && shown.contains(origin), "{name}: {shown}");
    }
}

#[test]
fn settings_prints_each_setting_its_value_and_where_it_came_from() {
    let shown = Rig::bare().application("x").option("--threads", "3").run(&["settings"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for name in ["bind", "workers", "threads", "timeout", "access-logformat", "preload", "forwarded-allow-ips"] {
        assert!(shown.output.lines().any(|line| line.starts_with(name)), "{name} is not in\n{}", shown.output);
    }
    let threads = shown.output.lines().find(|line| line.starts_with("threads")).expect("seen above");
    assert!(threads.contains('3') && threads.contains("command line"), "{threads}");
}

#[test]
fn check_validates_and_serves_nothing() {
    let rig = Rig::new("flask_site.py");
    let checked = rig.run(&["check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let rig = Rig::with_source("raise RuntimeError('broken on purpose')");
    rig.run(&["check"]).says(10, &["Traceback", "RuntimeError: broken on purpose"]);
}

#[test]
fn check_looks_at_the_pid_file() {
    let rig = Rig::new("corners.py");
    let path = rig.folder().join("site.pid");
    let rig = rig.option("--pid", path.to_str().expect("plain"));
    assert_eq!(rig.run(&["check"]).code, 0);
    assert!(!path.exists(), "a check writes nothing");
    fs::create_dir(&path).expect("a private folder is writable");
    rig.run(&["check"]).says(14, &[&format!("could not write the pid file {}: is a directory", path.display())]);
    fs::remove_dir(&path).expect("it is empty");
    let missing = Rig::new("corners.py").option("--pid", "no/such/folder/pid");
    missing.run(&["check"]).says(14, &["could not write the pid file", "no such file or directory"]);
    let site = rig.start();
    let holder = format!("process {} holds the pid file {}", site.pid(), path.display());
    let again = Rig::new("corners.py").option("--pid", path.to_str().expect("plain"));
    again.run(&["check"]).says(0, &[&holder]);
}

#[test]
fn without_arguments_it_prints_a_short_help_with_an_example() {
    let alone = Rig::bare().run(&[]);
    let said = alone.output + &alone.error;
    assert!(said.lines().count() < 60, "{said}");
    for part in ["Usage: ostler [OPTIONS] APP", "--bind", "Examples:", "ostler shop:app"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

fn process(site: &Site) -> Value {
    serde_json::from_str(site.get("/process").text()).expect("the page is JSON")
}

fn settings(rig: &Rig) -> Value {
    let shown = rig.run(&["settings", "--json"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    serde_json::from_str(&shown.output).expect("the output is JSON")
}

fn entry<'a>(settings: &'a Value, name: &str) -> &'a Value {
    settings.get(name).unwrap_or_else(|| panic!("{name} is not in {settings}"))
}
