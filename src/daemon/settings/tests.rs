//! Settings as a whole: every one counts, what was found out, and what is refused.

use nix::unistd::geteuid;

use super::*;
use crate::{
    cli,
    fixture::{Folder, PLAIN},
    options::{ENGINE_VARIABLE, Kind, Layer, Preset, SETTINGS, Setting},
};

/// Resolves in this folder, which gets an interpreter.
fn resolve(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, Failure> {
    resolve_noting(folder, arguments, environment).0
}

fn resolve_noting(
    folder: &Folder,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Result<Settings, Failure>, Options) {
    if !folder.path().join(".venv").exists() {
        folder.interpreter(".venv/bin/python", PLAIN);
    }
    let invocation = folder.invocation(arguments, environment);
    let typed = cli::parse(&invocation.arguments).expect("the command line can be read");
    let mut options = Options::gather(&invocation, &typed.texts).expect("the layers can be read");
    (Settings::resolve(&invocation, &mut options), options)
}

fn refusal(arguments: &[&str]) -> String {
    let failure = resolve(&Folder::new(), arguments, &[]).map(drop).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    failure.message
}

/// A value unlike the default, and what has to be said with it for it to mean something.
fn sample(setting: &Setting) -> (&'static str, &'static [&'static str]) {
    match setting.name {
        "app" => ("other:app", &[]),
        "bind" => (":81", &[]),
        "protocol" => ("uwsgi", &[]),
        "secure-scheme-headers" => ("X-Tls=on", &[]),
        "forwarder-headers" => ("SCRIPT_NAME", &[]),
        "python" => ("other", &[]),
        "chdir" | "spool-directory" | "pythonpath" => ("sub", &[]),
        "env" => ("A=b", &[]),
        "preload" => ("off", &[]),
        "warm-up" => ("/first", &[]),
        "smoke" => ("/health=200 ok", &[]),
        "static" => ("/static=sub", &[]),
        "sendfile-root" => ("/files=sub", &[]),
        "compress-types" => ("text/html", &["--compress"]),
        "compress-min-size" => ("1", &["--compress"]),
        "watch" => ("60", &[]),
        "canary" => ("25%", &["--workers=4"]),
        "header-map" => ("refuse", &[]),
        "log-config" | "log-config-json" => ("logs", &[]),
        "logger-class" => ("logs.Logger", &[]),
        "reload-engine" => ("poll", &["--reload"]),
        "reload-extra-file" => ("*.html", &["--reload"]),
        "ca-certs" => ("seven", &["--certfile=a"]),
        "cert-reqs" => ("required", &["--certfile=a", "--ca-certs=b"]),
        "ciphers" => ("TLS_AES_128_GCM_SHA256", &["--certfile=a"]),
        "keyfile" => ("seven", &["--certfile=a"]),
        "redirect-https" => ("on", &["--certfile=a", "--bind=:80", "--bind=http://:81"]),
        "redirect-port" => ("443", &[]),
        "hsts" => ("7s", &["--certfile=a"]),
        "log-format" => ("json", &[]),
        "log-syslog-to" => ("unix:///dev/log", &["--log-syslog"]),
        "log-syslog-prefix" => ("shop", &["--log-syslog"]),
        "log-syslog-facility" => ("local0", &["--log-syslog"]),
        "disable-redirect-access-to-syslog" => ("on", &["--log-syslog"]),
        "metrics" => ("127.0.0.1:9100", &[]),
        "statsd-host" => ("localhost", &[]),
        "statsd-prefix" => ("shop", &["--statsd-host=localhost"]),
        "dogstatsd-tags" => ("a:b", &["--statsd-host=localhost"]),
        "enable-backlog-metric" => ("on", &["--statsd-host=localhost"]),
        "proxy-protocol" => ("auto", &[]),
        "request-id" => ("on", &[]),
        "log-level" => ("debug", &[]),
        "access-logformat" => ("%(s)s", &[]),
        "access-log-skip" => ("/health", &[]),
        "root-path" => ("/site", &[]),
        "forwarded-allow-ips" | "proxy-allow-from" | "uwsgi-allow-from" => ("10.0.0.0/8", &[]),
        "forwarded-fields" => ("forwarded", &[]),
        "max-requests-jitter" => ("7", &["--max-requests=70"]),
        "refork" => ("7", &[]),
        "daemon" => ("on", &["--error-logfile=errors"]),
        // Ids that nobody has.
        "user" => ("4100000001", &["--group=4100000002"]),
        "group" | "control-group" => ("4100000001", &[]),
        "umask" => ("077", &[]),
        "control-mode" => ("660", &[]),
        _ => match (setting.kind, setting.value) {
            (Kind::Switch, _) if setting.on_by_default() => ("off", &[]),
            (Kind::Switch, _) => ("on", &[]),
            (_, "COUNT") => ("7", &[]),
            (_, "TIME") => ("7s", &[]),
            (_, "SIZE") => ("7k", &[]),
            (_, "FILE" | "PATH" | "NAME" | "TEXT") => ("seven", &[]),
            (kind, value) => panic!("{} needs a sample: {kind:?} of {value}", setting.name),
        },
    }
}

#[test]
fn every_setting_counts_whichever_way_it_is_given() {
    let folder = Folder::new();
    folder.interpreter("other", ["cpython", "3.13.0", "", "/other", "/usr", "/usr"]);
    folder.file("sub/readme", "");
    // The settings file itself is in use below, worker-class changes nothing by design, and paste stands in no file.
    let elsewhere = ["config", "worker-class", "paste", "paste-global"];
    for setting in SETTINGS.iter().filter(|setting| !elsewhere.contains(&setting.name)) {
        let (value, with) = sample(setting);
        let outcome = |arguments: &[&str], environment: &[(&str, &str)]| {
            let mut settings = resolve(&folder, &[arguments, with].concat(), environment).unwrap();
            settings.file = None;
            settings.environment.retain(|(name, _)| !name.to_string_lossy().starts_with("OSTLER_"));
            format!("{settings:#?}")
        };
        let is_application = setting.name == "app";
        let base: &[&str] = if is_application { &[] } else { &["site:app"] };
        let typed = if is_application { value.into() } else { format!("--{}={value}", setting.name) };
        if ["user", "group", "control-group"].contains(&setting.name) && !geteuid().is_root() {
            let refused = resolve(&folder, &[&["site:app", &typed], with].concat(), &[]).unwrap_err();
            let why = ["was not started by root", "is neither root's nor a member"];
            assert!(why.iter().any(|why| refused.message.contains(why)), "{refused}");
            continue;
        }
        let outcome_typed = outcome(&[base, &[&typed]].concat(), &[]);
        assert!(outcome_typed != outcome(&["site:app"], &[]), "{} is parsed and ignored", setting.name);
        assert_eq!(outcome_typed, outcome(base, &[(&setting.variable(), value)]), "{}", setting.variable());
        folder.file("site.toml", &format!("{} = {value:?}", setting.name));
        assert_eq!(outcome_typed, outcome(&[base, &["-c", "site.toml"]].concat(), &[]), "{} in a file", setting.name);
    }
}

#[test]
fn what_nobody_gave_is_found_out_and_noted() {
    let folder = Folder::new();
    let (settings, options) = resolve_noting(&folder, &["site:app"], &[("XDG_RUNTIME_DIR", "/nonexistent")]);
    let settings = settings.unwrap();
    let noted = |name| options.given(name).texts.concat();
    assert_eq!(noted("workers"), settings.workers.to_string());
    assert!(settings.workers.get() >= 2);
    assert_eq!(noted("python"), folder.path().join(".venv/bin/python").to_string_lossy());
    assert_eq!((settings.python, settings.python_version), ("/usr/bin/python3".into(), "3.12.1".into()));
    assert_eq!(noted("chdir"), folder.path().to_string_lossy());
    assert_eq!(noted("umask"), format!("{:03o}", settings.umask));
    assert_eq!(noted("control"), settings.control.unwrap().to_string_lossy());
    assert_eq!(noted("spool-directory"), settings.boot.worker.spool_directory.to_string_lossy());
    assert!(
        SETTINGS.iter().all(|setting| options.given(setting.name).layer == Layer::Default || setting.name == "app")
    );
}

#[test]
fn every_default_that_is_found_out_is_noted() {
    let folder = Folder::new();
    folder.file("ostler.toml", "app = \"site:app\"");
    let (_, options) = resolve_noting(&folder, &[], &[]);
    for setting in SETTINGS.iter().filter(|setting| matches!(setting.default, Preset::Found(_))) {
        assert!(!options.given(setting.name).texts.is_empty(), "{}", setting.name);
    }
}

#[test]
fn somebody_who_only_looks_need_not_name_an_application() {
    let folder = Folder::new();
    folder.interpreter(".venv/bin/python", PLAIN);
    let invocation = folder.invocation(&[], &[]);
    let mut options = Options::gather(&invocation, &Default::default()).unwrap();
    assert!(Settings::resolve(&invocation, &mut options).unwrap_err().message.starts_with("no application is named"));
    assert_eq!(Settings::look(&invocation, &mut options), Ok(()));
}

#[test]
fn what_is_no_value_is_refused_by_the_name_that_its_giver_knows() {
    for (arguments, expected) in [
        (&["--threads", "many"] as &[&str], "--threads: \"many\": expected a whole number from 1 to 1024"),
        (&["--threads", "0"], "--threads: \"0\": expected a whole number from 1 to 1024"),
        (&["-t", "soon"], "--timeout: \"soon\": expected seconds, or a number with ms, s, m, h or d"),
        (&["-m", "0999"], "--umask: \"0999\": expected three octal digits, such as 022"),
        (&["-u", "no-such-user"], "--user: \"no-such-user\": there is no such user"),
        (&["-g", "no-such-group"], "--group: \"no-such-group\": there is no such group"),
        (&["-n", "a/b"], "--name: \"a/b\": expected a word without slashes"),
        (&["--limit-request-head", "0"], "--limit-request-head: \"0\": expected a size from 1k to 16M"),
        (&["--root-path", "site"], "--root-path: \"site\": expected a path that begins with /"),
        (&["--server-header", "a\u{e9}"], "--server-header: \"a\u{e9}\": expected plain ASCII characters"),
        (&["--generation-header", "a b"], "--generation-header: \"a b\": expected the name of a header field"),
        (
            &["--generation-header", "Content-length"],
            "--generation-header: \"Content-length\": this field has a meaning of its own; X-Ostler-Generation has none",
        ),
        (&["--spool-directory", "/no/such"], "--spool-directory: \"/no/such\": there is no such directory"),
        (&["--chdir", "/no/such"], "--chdir: \"/no/such\": no such file or directory"),
        (&["--chdir", "/etc/passwd"], "--chdir: \"/etc/passwd\": not a directory"),
        (&["--pid", ""], "--pid: expected a path"),
        (&["-b", ""], "--bind: no address is named"),
    ] {
        assert_eq!(refusal(&[arguments, &["site:app"]].concat()), expected);
    }
    let folder = Folder::new();
    let by_variable = resolve(&folder, &["site:app"], &[("WEB_CONCURRENCY", "x")]).unwrap_err().message;
    assert!(by_variable.starts_with("WEB_CONCURRENCY: \"x\": expected a whole number from 1 to "), "{by_variable}");
    let file = folder.file("ostler.toml", "threads = \"x\"");
    let by_file = resolve(&folder, &["site:app"], &[]).unwrap_err().message;
    assert_eq!(by_file, format!("threads in {}: \"x\": expected a whole number from 1 to 1024", file.display()));
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    for (arguments, parts) in [
        (&["--slow-request=30"] as &[&str], ["--slow-request", "--timeout"]),
        (&["--max-requests-jitter=5"], ["--max-requests-jitter", "--max-requests,"]),
        (&["--refork=50", "--max-requests=50"], ["--refork", "--max-requests replaces"]),
        (&["--watch=60", "--no-keep-previous"], ["--watch", "--no-keep-previous keeps none"]),
        (&["--watch=9"], ["--watch", "at least 15 s"]),
        (&["--workers=1", "--canary=25%"], ["--canary", "leaves no worker of the old generation"]),
        (&["-D"], ["--daemon", "--error-logfile"]),
        (&["-D", "--error-logfile=e", "--access-logfile=-"], ["--daemon", "--access-logfile"]),
        (&["-b", ":80", "-b", "unix:a", "-b", ":80"], ["--bind", "twice"]),
    ] {
        let refusal = refusal(&[arguments, &["site:app"]].concat());
        assert!(parts.iter().all(|part| refusal.contains(part)), "{refusal}");
    }
    let folder = Folder::new();
    for together in [["-k=sync", "--threads=4"], ["-b=:0", "-b=:0"], ["-t=0", "--slow-request=9"]] {
        let settings = resolve(&folder, &[&together, &["site:app"] as &[&str]].concat(), &[]);
        assert!(settings.is_ok(), "{together:?}: {settings:?}");
    }
}

#[test]
fn sockets_passed_by_systemd_are_taken_unless_addresses_are_named() {
    let folder = Folder::new();
    let pid = std::process::id().to_string();
    let binds = |arguments: &[&str], pid: &str, port: &str| {
        let environment = [("LISTEN_PID", pid), ("LISTEN_FDS", "2"), ("PORT", port)];
        resolve(&folder, &[&["site:app"], arguments].concat(), &environment).unwrap().binds
    };
    let passed = [Address::Passed(None)];
    assert_eq!(binds(&[], &pid, ""), passed);
    assert_eq!(binds(&[], &pid, "5000"), passed);
    assert_eq!(binds(&["-b", ":1"], &pid, ""), [Address::Tcp(String::new(), 1)]);
    assert_eq!(binds(&[], "1", "5000"), [Address::Tcp("0.0.0.0".into(), 5000)], "they are another process's");
}

#[test]
fn the_application_gets_its_environment_and_not_the_master_s() {
    let folder = Folder::new();
    let environment = [("KEPT", "1"), ("CHANGED", "1"), ("NOTIFY_SOCKET", "/run/x"), ("LISTEN_FDS", "0")];
    let settings =
        resolve(&folder, &["site:app", "-e", "CHANGED=2", "-e", "NEW=3", "-e", "NEW=4"], &environment).unwrap();
    let expected = [("KEPT", "1"), ("CHANGED", "2"), ("NEW", "4")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(settings.environment, expected);
}

#[test]
fn paths_count_from_the_working_directory_and_keep_their_symbolic_links() {
    let folder = Folder::new();
    folder.file("release-1/.venv/pyvenv.cfg", "");
    folder.interpreter("release-1/.venv/bin/python", PLAIN);
    std::os::unix::fs::symlink("release-1", folder.path().join("current")).unwrap();
    let options =
        ["--pid=pid", "-b=unix:sock", "--error-logfile=log", "--pythonpath=a,/b", "--control=run/c", "-m=027"];
    let settings = resolve(&folder, &[&["site:app", "--chdir=current"], &options[..]].concat(), &[]).unwrap();
    let current = folder.path().join("current");
    assert_eq!(settings.boot.chdir, current);
    assert_eq!(settings.pid_file, Some(current.join("pid")));
    assert_eq!(settings.binds, [Address::Unix(current.join("sock"))]);
    assert_eq!(settings.error_log, LogTarget::File(current.join("log")));
    assert_eq!(settings.boot.pythonpath, [current.join("a"), "/b".into()]);
    assert_eq!(settings.control, Some(current.join("run/c")));
    assert_eq!((settings.umask, settings.socket_mode), (0o027, 0o750));
}

#[test]
fn an_environment_beside_the_file_of_the_application_is_found() {
    let folder = Folder::new();
    let beside = folder.interpreter("sites/one/.venv/bin/python", ["cpython", "3.10.2", "", "", "/usr", "/usr"]);
    let settings = resolve(&folder, &["sites/one/site.py:app", "--chdir=sites"], &[("PATH", "/nonexistent")]);
    assert_eq!(settings.unwrap_err().message.split(',').next(), Some("there is no VIRTUAL_ENV"));
    let settings = resolve(&folder, &["one/site.py:app", "--chdir=sites"], &[]).unwrap();
    assert_eq!((settings.python, settings.python_version), (beside, "3.10.2".into()));
}

#[test]
fn an_engine_that_is_not_there_is_named() {
    let folder = Folder::new();
    let mut invocation = folder.invocation(&["site:app"], &[]);
    assert_eq!(engine(&invocation), Ok(folder.path().join("engine.so")));
    invocation.environment = vec![(ENGINE_VARIABLE.into(), "missing.so".into())];
    let missing = engine(&invocation).unwrap_err();
    assert_eq!(missing.exit, Exit::Interpreter);
    assert_eq!(missing.message, format!("there is no engine {}/missing.so", folder.path().display()));
}

#[test]
fn what_nobody_says_is_the_default_of_what_travels() {
    let folder = Folder::new();
    let settings = resolve(&folder, &["site:app"], &[]).unwrap();
    let expected = wire::Boot {
        application: "site:app".into(),
        chdir: folder.path().to_owned(),
        workers: settings.workers.get(),
        ..wire::Boot::default()
    };
    assert_eq!(settings.boot, expected);
    assert_eq!(settings.trust, wire::Trust::default());
}

#[test]
fn every_field_of_json_is_in_the_help() {
    use wire::access_format::json::{FIELDS, USUAL};
    let help = crate::options::setting("access-logformat").more;
    let (usual, rest) = help.split_once("With `json`").unwrap().1.split_once(';').unwrap();
    for (place, (name, _)) in FIELDS.iter().enumerate() {
        let listed = if place < USUAL { usual } else { rest };
        assert!(listed.split([' ', ',', ':']).any(|word| word == *name), "{name}");
    }
}

#[test]
fn an_unknown_field_is_told_with_the_nearest() {
    let told = refusal(&["site:app", "--access-logformat=json:time,statsu"]);
    assert_eq!(told, "--access-logformat: \"json:time,statsu\": there is no field \"statsu\". Did you mean status?");
    let told = refusal(&["site:app", "--access-logformat=json:colour"]);
    assert!(told.ends_with("there is no field \"colour\". `ostler --help` lists them."), "{told}");
    for option in ["--access-logformat=json", "--access-log-skip=/health", "--access-log-slow=1s"] {
        assert!(
            refusal(&["site:app", option, "--log-config=logs"]).contains("Python writes the access log"),
            "{option}"
        );
    }
}

#[test]
fn every_atom_of_the_help_is_known() {
    let atoms = crate::options::setting("access-logformat").more.split("%(").skip(1).map(|atom| {
        let (atom, _) = atom.split_once(")s").unwrap();
        format!("%({atom})s").parse::<wire::access_format::AccessFormat>().unwrap()
    });
    assert_eq!(atoms.count(), wire::access_format::ATOMS.len() + 5);
}
