//! A mistake is explained in one sentence (what, which, why), with a documented exit code, and nothing is left half started.

use std::net::TcpListener;

use ostler_tests::{Refused, Rig};

use crate::pages::page;

// The exit codes of ostler(1).
const USAGE: i32 = 2;
const NOT_RUNNING: i32 = 7;
const IMPORT: i32 = 10;
const APPLICATION: i32 = 11;
const BIND: i32 = 12;

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let address = taken.local_addr().expect("bound").to_string();
    let refused = Rig::new("corners.py").bind(&address).refuse();
    refused.says(BIND, &[&format!("could not bind {address}: address already in use")]);
    not_half_started(&refused);
}

#[test]
fn one_port_of_two_that_is_taken_leaves_no_socket_file() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let address = taken.local_addr().expect("bound").to_string();
    let refused = Rig::new("corners.py").bind("unix:first.sock").bind(&address).refuse();
    refused.says(BIND, &[&address]);
    not_half_started(&refused);
}

#[test]
fn a_folder_where_nobody_may_bind() {
    let refused = Rig::new("corners.py").bind("unix:/proc/site.sock").refuse();
    refused.says(BIND, &["could not bind unix:/proc/site.sock: "]);
    not_half_started(&refused);
}

#[test]
fn text_that_is_no_address() {
    for address in ["127.0.0.1:http", "127.0.0.1:99999", "[::1", "unix:", "fd://x", "fd://999"] {
        let refused = Rig::new("corners.py").bind(address).refuse();
        assert!(refused.code == USAGE || refused.code == BIND, "{address}: {refused:?}");
        assert!(refused.error.contains(address), "{address}: {}", refused.error);
        not_half_started(&refused);
    }
}

#[test]
fn a_page_of_metrics_at_the_sites_own_address() {
    for (bind, page) in [("127.0.0.1:8001", "127.0.0.1:8001"), ("0.0.0.0:8001", "localhost:8001"), ("unix:a", "unix:a")]
    {
        let refused = Rig::new("corners.py").bind(bind).option("--metrics", page).refuse();
        let bind = bind.trim_start_matches("unix:");
        refused.says(USAGE, &[&format!("--metrics: {page:?}: the site itself listens there, by --bind "), bind]);
        not_half_started(&refused);
    }
}

#[test]
fn a_second_application_is_passed_over_with_a_word_as_gunicorn_does() {
    let two = Rig::with_source(&page("one")).flag("./app.py").run(&["check"]);
    two.says(0, &["\"./app.py\" is ignored: ostler serves one application"]);
}

#[test]
fn a_form_of_the_access_log_that_is_none() {
    let site = |form| Rig::new("corners.py").option("--access-logformat", form);
    let refused = site("jsn:time").refuse();
    let why = "there is no %(atom)s in it, so that each line would be the same. Did you mean json?";
    refused.says(USAGE, &[&format!("--access-logformat: \"jsn:time\": {why}")]);
    not_half_started(&refused);
    site("combined").run(&["check"]).says(USAGE, &["\"combined\": ", "`ostler help access-logformat` lists"]);
    site("jsn").env("GUNICORN_CMD_ARGS", "--timeout 9").run(&["check"]).says(0, &["\"jsn\": there is no %(atom)s"]);
}

#[test]
fn a_command_finds_the_site_by_the_file_beside_that_of_paste() {
    let rig = Rig::bare().without_python().file("ostler.toml", "control = \"named-there.sock\"\n");
    let refused = rig.env("OSTLER_PASTE", "shop.ini").run(&["status"]);
    refused.says(NOT_RUNNING, &["named-there.sock"]);
}

#[test]
fn every_wrong_key_of_a_file_at_once() {
    let rig = Rig::new("corners.py").file("ostler.toml", "wrokers = 2\n\nlisten = \"x\"\ntimeout = [1]\n");
    rig.run(&["check"]).says(
        USAGE,
        &[
            "ostler.toml: ",
            "line 1: there is no setting wrokers; the nearest is workers",
            "line 3: ",
            "line 4: timeout: expected",
        ],
    );
    not_half_started(&rig.refuse());
}

#[test]
fn no_application() {
    let refused = Rig::new("corners.py").application("no_such_module:app").refuse();
    refused.says(IMPORT, &["no_such_module"]);
    let refused = Rig::new("corners.py").application("no/such/file.py").refuse();
    assert!([IMPORT, APPLICATION].contains(&refused.code), "{refused:?}");
    refused.says(refused.code, &["no/such/file.py"]);
    let refused = Rig::new("corners.py:no_such_attribute").refuse();
    refused.says(APPLICATION, &["no_such_attribute", "corners"]);
    let refused = Rig::new("corners.py:TEXT").refuse();
    refused.says(APPLICATION, &["TEXT", "callable"]);
    let refused = Rig::with_source("nothing = None").refuse();
    refused.says(APPLICATION, &["application", "app"]);
}

#[test]
fn a_syntax_error_is_shown_where_it_is() {
    let refused = Rig::with_source("def app(environ, start_response)\n    pass\n").refuse();
    refused.says(IMPORT, &["app.py\", line 1", "SyntaxError"]);
}

#[test]
fn an_option_that_does_not_exist_gets_the_nearest_one() {
    let refused = Rig::new("corners.py").option("--worker-conections", "5").refuse();
    refused.says(USAGE, &["--worker-conections", "--worker-connections"]);
}

#[test]
fn a_command_that_is_misspelt_is_no_application() {
    let refused = Rig::new("corners.py").application("staus").refuse();
    refused.says(USAGE, &["Did you mean `ostler status`?", "staus:application"]);
    not_half_started(&refused);
    let mut site = Rig::new("corners.py")
        .file("staus.py", "def app(environ, start_response): pass\n")
        .application("staus")
        .start();
    site.stop();
}

#[test]
fn a_value_of_the_wrong_kind() {
    for (option, value) in [
        ("--workers", "many"),
        ("--workers", "0"),
        ("--threads", "0"),
        ("--timeout", "soon"),
        ("--worker-class", "tornado"),
        ("--umask", "0999"),
        ("--user", "no-such-user"),
        ("--group", "no-such-group"),
        ("--log-level", "loud"),
        ("--access-logformat", "%(nonsense)s"),
        ("--forwarded-allow-ips", "10.0.0.0/99"),
        ("--forwarded-fields", "x-real-ip"),
        ("--chdir", "/no/such/folder"),
        ("--limit-request-body", "5 apples"),
    ] {
        let refused = Rig::new("corners.py").without_workers().option(option, value).refuse();
        assert_ne!(refused.code, 0, "{option} {value}");
        assert!(refused.error.contains(option), "{option} {value}: {}", refused.error);
        assert!(refused.error.contains(value), "{option} {value}: {}", refused.error);
        not_half_started(&refused);
    }
}

#[test]
fn a_configuration_file_that_is_wrong() {
    for (content, phrases) in [
        ("workers = \"many\"\n", ["workers", "site.toml"]),
        ("wrokers = 3\n", ["wrokers", "workers"]),
        ("workers = \n", ["site.toml", "line 1"]),
        ("timeout = [1]\n", ["timeout", "site.toml"]),
    ] {
        let rig = Rig::new("corners.py").without_workers().file("site.toml", content).option("--config", "site.toml");
        rig.refuse().says(USAGE, &phrases);
    }
    let refused = Rig::new("corners.py").option("--config", "missing.toml").refuse();
    refused.says(USAGE, &["missing.toml"]);
}

#[test]
fn settings_that_exclude_each_other() {
    let refused = Rig::new("corners.py").flag("--daemon").option("--error-logfile", "-").refuse();
    refused.says(USAGE, &["--daemon", "--error-logfile"]);
}

#[track_caller]
fn not_half_started(refused: &Refused) {
    assert!(!refused.error.contains("worker ready"), "{}", refused.error);
    assert!(!refused.error.contains("panicked"), "{}", refused.error);
    assert!(!refused.error.contains("Traceback"), "{}", refused.error);
}
