//! Root follows no path that another user can change. Tests that need root print that they were skipped without it.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::{
    sys::signal::Signal,
    unistd::{Pid, geteuid},
};
use ostler_tests::{Folder, Python, Rig, Site};

/// `nobody`, the user that the application runs as in these tests.
const NOBODY: u32 = 65534;

/// Answers with variables of its environment, and attacks where it is asked to.
const APP: &str = "
import os
def application(environ, start_response):
    path, query = environ['PATH_INFO'], environ['QUERY_STRING']
    if path == '/kill':
        os.kill(int(query), 9)
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [os.environ.get(query, 'unset').encode()]
";

/// The rig of a site that root starts for `nobody`; none without root.
fn for_nobody(rig: Rig) -> Option<Rig> {
    let Some(python) = Python::every().iter().find(|python| python.is_public()).filter(|_| geteuid().is_root()) else {
        eprintln!("NOT TESTED: this needs root, and an interpreter that everybody may run");
        return None;
    };
    Some(rig.installed().interpreter(&python.executable).option("-u", "nobody").option("-g", "nogroup"))
}

#[test]
fn a_spool_directory_that_the_application_may_not_write_to_is_named() {
    let Some(rig) = for_nobody(Rig::new("corners.py").option("--spool-directory", "spool")) else { return };
    fs::create_dir(rig.folder().join("spool")).expect("a private folder is writable");
    assert_eq!(rig.start().logged("spool directory not writable"), 1);
}

#[test]
fn members_of_the_control_group_may_look_and_do_nothing() {
    const ADM: u32 = 4;
    let Some(rig) = for_nobody(Rig::new("corners.py")) else { return };
    let site = rig.option("--control-group", &ADM.to_string()).start();
    let ostler = site.folder().join("bin/ostler");
    let control = site.folder().join("control.sock");
    assert_eq!(fs::metadata(&control).expect("it is there").mode() & 0o777, 0o660);
    let ask = |word: &str, group: u32| {
        let mut command = Command::new(&ostler);
        command.args([word, "--control"]).arg(&control).uid(NOBODY).gid(group);
        let output = command.output().expect("everybody may run it");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = ask("status", ADM);
    assert!(code == Some(0) && text.contains("generation 1 serving"), "{text}");
    for word in ["stop", "reload", "stacks", "reopen", "recycle", "rollback", "upgrade", "doctor"] {
        let (code, text) = ask(word, ADM);
        assert!(code == Some(9) && text.contains("others may ask for status"), "{word}: {text}");
    }
    let (code, text) = ask("status", NOBODY);
    assert!(code == Some(14) && text.contains("permission denied. Commands are for root"), "{text}");
}

fn give_to_nobody(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("root may do that");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

/// The template that the log named last.
fn template(site: &Site) -> i32 {
    let status = site.control(&["status", "--json"]).output;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let generations = status["generations"].as_array().expect("a list");
    generations.last().expect("one serves")["template"].as_i64().expect("it has a template") as i32
}

#[test]
fn settings_that_the_application_could_write_are_refused_with_what_mends_them() {
    let Some(rig) = for_nobody(Rig::with_source(APP).file("ostler.toml", "threads = 1\n")) else { return };
    let folder = rig.folder().path().to_owned();
    give_to_nobody(&folder);
    let mend = format!("`chown root {}` mends that.", folder.display());
    rig.run(&["check"]).says(14, &["the application could change what", "belongs to user 65534", &mend]);
    chown(&folder, Some(0), Some(0)).expect("root may do that");
    let file = folder.join("ostler.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("root may do that");
    rig.run(&["check"]).says(14, &[&format!("`chmod go-w {}` mends that.", file.display())]);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).expect("root may do that");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("root may do that");
    assert_eq!(rig.run(&["check"]).code, 0, "the sticky bit keeps the file where it is");
}

#[test]
fn a_reload_refuses_settings_that_the_application_until_now_could_write() {
    let file = "user = \"nobody\"\ngroup = \"nogroup\"\n";
    let Some(python) = Python::every().iter().find(|python| python.is_public()).filter(|_| geteuid().is_root()) else {
        return eprintln!("NOT TESTED: this needs root, and an interpreter that everybody may run");
    };
    let rig = Rig::with_source(APP).file("ostler.toml", file).installed().interpreter(&python.executable);
    let site = rig.start();
    site.folder().write("ostler.toml", "user = \"root\"\n");
    give_to_nobody(&site.folder().join("ostler.toml"));
    let refused = site.control(&["reload", "--name", "ostler"]);
    refused.says(14, &["the application could change what", "`chown root "]);
}

#[test]
fn a_recovery_uses_the_settings_in_force() {
    let rig = Rig::with_source(APP).file("ostler.toml", "env = { WHO = \"operator\" }\n");
    let site = rig.start();
    site.folder().write("ostler.toml", "env = { WHO = \"application\" }\n");
    site.get(&format!("/kill?{}", template(&site)));
    site.log("template lost");
    site.log("generation serving");
    site.drained(1);
    assert_eq!(site.get("/?WHO").text(), "operator");
    // After a recovery, the next upgrade reads the settings, as usual.
    site.get(&format!("/kill?{}", template(&site)));
    site.log("generation serving");
    site.drained(1);
    assert_eq!(site.get("/?WHO").text(), "operator");
    assert_eq!(site.control(&["upgrade"]).code, 0);
    site.log("generation serving");
    site.drained(1);
    assert_eq!(site.get("/?WHO").text(), "application", "an operator has looked again");
}

#[test]
fn a_settings_file_that_appears_after_the_start_is_ignored() {
    let site = Rig::with_source(APP).start();
    site.folder().write("ostler.toml", "env = { WHO = \"application\" }\n");
    for command in ["reload", "upgrade", "reload"] {
        assert_eq!(site.control(&[command]).code, 0, "{command}");
        site.drained(1);
        assert_eq!(site.get("/?WHO").text(), "unset", "{command}");
    }
}

#[test]
fn no_executable_that_the_application_could_replace_takes_over() {
    let Some(rig) = for_nobody(Rig::with_source(APP)) else { return };
    let site = rig.start();
    let place = site.folder().join("bin");
    give_to_nobody(&place);
    let mend = format!("`chown root {}` mends that.", place.display());
    site.control(&["upgrade"]).says(14, &["the application could change", "which root executes", &mend]);
    chown(&place, Some(0), Some(0)).expect("root may do that");
    assert_eq!(site.control(&["upgrade"]).code, 0);
}

#[test]
fn no_log_goes_where_a_link_of_the_application_leads() {
    let Some(rig) = for_nobody(Rig::with_source(APP)) else { return };
    let folder = Folder::new();
    let theirs = folder.join("theirs");
    let secret = folder.write("secret", "precious\n");
    fs::create_dir(&theirs).expect("a private folder is writable");
    symlink(&secret, theirs.join("log")).expect("a private folder is writable");
    give_to_nobody(&theirs);
    let refused = rig.option("--error-logfile", text(&theirs.join("log"))).refuse();
    refused.says(14, &["could not open the error log", "root does not follow the link", "`chown root "]);
    assert_eq!(fs::read_to_string(&secret).expect("it is there"), "precious\n");
}

#[test]
fn no_message_for_a_syslog_goes_where_the_application_leads() {
    let Some(rig) = for_nobody(Rig::with_source(APP)) else { return };
    let theirs = rig.folder().join("theirs");
    fs::create_dir(&theirs).expect("a private folder is writable");
    give_to_nobody(&theirs);
    for path in [theirs.join("socket"), theirs.join("not/there/yet")] {
        let rig = Rig::with_source(APP).option("--user", "nobody").flag("--log-syslog");
        let to = format!("unix://{}", path.display());
        rig.option("--log-syslog-to", &to).refuse().says(2, &[&to, "root follows no name there"]);
    }
}

#[test]
fn what_is_made_in_a_directory_of_the_application_is_made_there() {
    let Some(rig) = for_nobody(Rig::with_source(APP)) else { return };
    let theirs = rig.folder().join("theirs");
    fs::create_dir(&theirs).expect("a private folder is writable");
    give_to_nobody(&theirs);
    let at = |name| theirs.join(name);
    let rig = rig.option("--pid", text(&at("site.pid"))).option("--access-logfile", text(&at("log")));
    let mut site = rig.bind(&format!("unix:{}", at("site.sock").display())).start();
    assert_eq!(site.get("/?WHO").text(), "unset");
    assert_eq!(fs::metadata(at("site.sock")).expect("it is there").uid(), NOBODY);
    // If the path leads to another directory by now, no files are removed there.
    let other = site.folder().join("other");
    fs::rename(&theirs, &other).expect("root may do that");
    symlink(&other, &theirs).expect("root may do that");
    std::os::unix::fs::lchown(&theirs, Some(NOBODY), Some(NOBODY)).expect("root may do that");
    site.stop();
    assert!(other.join("site.sock").exists() && other.join("site.pid").exists());
}

#[test]
fn a_pid_file_is_held_by_a_lock_and_not_by_a_number() {
    let rig = Rig::with_source(APP);
    let file = rig.folder().join("site.pid");
    fs::write(&file, format!("{}\n", std::process::id())).expect("a private folder is writable");
    let mut site = rig.option("--pid", text(&file)).start();
    let number = format!("{}\n", site.pid());
    assert_eq!(fs::read_to_string(&file).expect("it is there"), number);
    let another = || {
        let refused = Rig::with_source(APP).option("--pid", text(&file)).refuse();
        refused.says(14, &[&format!("process {} holds it, which is another ostler", site.pid())]);
    };
    another();
    assert_eq!(site.control(&["upgrade"]).code, 0);
    another();
    assert_eq!(fs::read_to_string(&file).expect("it is there"), number);
    site.kill_master();
    let mut next = Rig::with_source(APP).option("--pid", text(&file)).start();
    next.stop();
    assert!(!file.exists());
    for pid in site.descendants() {
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[test]
fn a_socket_file_that_vanished_is_made_again_by_a_reload_and_another_servers_is_not_taken() {
    let rig = Rig::with_source(APP);
    let socket = rig.folder().join("site.sock");
    let site = rig.bind(&format!("unix:{}", socket.display())).start();
    fs::remove_file(&socket).expect("it is there");
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.get("/?WHO").text(), "unset");
    site.drained(1);
    fs::remove_file(&socket).expect("it is there");
    let another = std::os::unix::net::UnixListener::bind(&socket).expect("the name is free");
    site.control(&["reload"]).says(12, &["another process answers there"]);
    drop(another);
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.get("/?WHO").text(), "unset");
}

#[test]
fn an_application_of_another_user_has_nothing_that_is_roots() {
    let status = "
import os
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    lines = open('/proc/self/status').read().splitlines()
    wanted = ('Uid:', 'Gid:', 'Groups:', 'Cap', 'NoNewPrivs:')
    lines = [' '.join(line.split()) for line in lines if line.startswith(wanted) and not line.startswith('CapBnd')]
    lines += [name + '=' + os.environ.get(name, '') for name in ('HOME', 'LOGNAME', 'SHELL', 'USER')]
    lines += ['own session %s' % (os.getsid(0) != os.getsid(os.getppid())), 'at ' + os.getcwd()]
    return ['\\n'.join(lines).encode()]
";
    let Some(rig) = for_nobody(Rig::with_source(status)) else { return };
    let user = nix::unistd::User::from_name("nobody").expect("users can be read").expect("there is nobody");
    let site = rig.option("--env", "SHELL=/bin/mine").start();
    let answer = site.get("/");
    let none = "0000000000000000";
    let expected = [
        "Uid: 65534 65534 65534 65534".into(),
        "Gid: 65534 65534 65534 65534".into(),
        "Groups: 65534".into(),
        format!("CapInh: {none}"),
        format!("CapPrm: {none}"),
        format!("CapEff: {none}"),
        format!("CapAmb: {none}"),
        "NoNewPrivs: 1".into(),
        format!("HOME={}", user.dir.display()),
        "LOGNAME=nobody".into(),
        "SHELL=/bin/mine".into(),
        "USER=nobody".into(),
        "own session True".into(),
        format!("at {}", site.folder().path().display()),
    ];
    assert_eq!(answer.text().lines().collect::<Vec<_>>(), expected);
    let site = for_nobody(Rig::with_source(status)).expect("as before").flag("--new-privileges").start();
    assert!(site.get("/").text().contains("NoNewPrivs: 0"));
}

#[test]
fn a_directory_that_only_root_may_enter_is_not_entered_for_the_application() {
    let Some(rig) = for_nobody(Rig::with_source(APP)) else { return };
    let secret = rig.folder().join("secret");
    fs::create_dir_all(secret.join("open")).expect("a private folder is writable");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).expect("root may do that");
    rig.option("--chdir", text(&secret.join("open"))).refuse().says(13, &["permission denied"]);
}

#[test]
fn a_debugger_in_a_view_asks_at_the_terminal() {
    let source = "
import pdb
def application(environ, start_response):
    said = 'nothing'
    if environ['PATH_INFO'] == '/ask':
        pdb.set_trace()
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [said.encode()]
";
    let terminal = nix::pty::openpty(None, None).expect("the system has terminals");
    let rig = Rig::with_source(source).input(terminal.slave);
    // The daemon is in the foreground of that terminal, as after a shell has started it.
    let script = format!("#!/bin/sh\nexec setsid --ctty '{}' \"$@\"\n", ostler_tests::built("ostler").display());
    let start = rig.folder().write("start", &script);
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).expect("a private folder is writable");
    let site = rig.executable(start).start();
    let mut client = site.connect();
    client.ask("/ask");
    site.output("-> start_response");
    nix::unistd::write(&terminal.master, b"said = 'at the terminal'\nc\n").expect("the terminal is open");
    assert_eq!(client.answer().text(), "at the terminal");
}

#[test]
fn commands_do_not_speak_to_a_socket_of_another_user() {
    let Some(rig) = for_nobody(Rig::with_source(APP)) else { return };
    let folder = Folder::new();
    let theirs = folder.join("theirs");
    fs::create_dir(&theirs).expect("a private folder is writable");
    let socket = theirs.join("ostler.sock");
    let listen = "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
                  s.bind(sys.argv[1]); s.listen(); print('listening', flush=True)\n\
                  c = s.accept()[0]; c.recv(9999); c.send(b'{\"Part\": \"\\\\u001b[2Jx\"}'); c.send(b'{\"End\": \"Success\"}')\n\
                  s.accept()";
    give_to_nobody(&theirs);
    let mut command = std::process::Command::new("/usr/bin/env");
    command.arg("python3").args(["-c", listen]).arg(&socket);
    let listener = ostler_tests::Process::start(&mut command, text(folder.path()));
    listener.output.find("listening");
    // The user owns this directory, so it may listen there. But what it sends cannot control root's terminal (escape sequences).
    let ask = |path: &Path| Rig::bare().run(&["stacks", "--control", text(path)]);
    assert_eq!(ask(&socket).output, "\\u{1b}[2Jx");
    // Elsewhere the user may not listen.
    chown(&theirs, Some(0), Some(0)).expect("root may do that");
    ask(&socket).says(14, &["of user 65534 listens there, who has no say"]);
    // And a symbolic link of that user does not lead root to another master.
    give_to_nobody(&theirs);
    let site = rig.start();
    fs::remove_file(&socket).expect("it is there");
    symlink(site.folder().join("control.sock"), &socket).expect("a private folder is writable");
    std::os::unix::fs::lchown(&socket, Some(NOBODY), Some(NOBODY)).expect("root may do that");
    ask(&socket).says(14, &["root does not follow the link"]);
    let weak = Rig::bare().file("ostler.toml", "control = \"/run/ostler/another.sock\"\n");
    give_to_nobody(weak.folder().path());
    weak.run(&["stop"]).says(14, &["say where its commands go", "`chown root "]);
}
