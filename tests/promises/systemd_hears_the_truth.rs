//! The notifications to systemd are true: READY is sent when the site serves, and not before.

use std::{
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use ostler_tests::{Client, PATIENCE, Rig};

use crate::pages::page;

/// A service manager's socket, and its name for NOTIFY_SOCKET.
fn manager(name: &str) -> (UnixDatagram, String) {
    let name = format!("ostler-manager-{name}-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let socket = UnixDatagram::bind_addr(&address).expect("the name is new");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
    (socket, format!("@{name}"))
}

/// The next message of which this holds.
fn hear_of(manager: &UnixDatagram, what: &str) -> String {
    loop {
        let message = hear(manager);
        if message.contains(what) {
            return message;
        }
    }
}

/// A listening socket where systemd passes its first one, after this was said in a shell.
fn passed(rig: Rig, variables: &str) -> (Rig, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    (rig.without_bind().input(listener.into()).limited(&format!("exec 3<&0 </dev/null; export {variables}")), address)
}

fn hear(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).expect("the daemon tells its manager");
    String::from_utf8_lossy(&message[..length]).into_owned()
}

#[test]
fn a_start_that_fails_was_never_ready_and_says_why() {
    for (source, option, code, why) in [
        ("raise OSError('no database')\n", "--threads=1", 10, "no database"),
        ("", "--no-such-option", 2, "no-such-option"),
        ("", "--threads=none", 2, "threads"),
    ] {
        let (manager, name) = manager(&format!("start-{code}-{}", option.len()));
        Rig::with_source(source).flag(option).env("NOTIFY_SOCKET", &name).refuse().says(code, &[why]);
        manager.set_nonblocking(true).expect("a socket can be so");
        let mut message = [0; 4096];
        let mut last = String::new();
        while let Ok(length) = manager.recv(&mut message) {
            last = String::from_utf8_lossy(&message[..length]).into_owned();
            assert!(!last.contains("READY=1"), "{last}");
        }
        assert!(last.starts_with("STATUS=") && last.contains(why), "{last}");
    }
}

#[test]
fn what_the_site_does_is_said_in_a_line() {
    let (manager, name) = manager("standing");
    let mut site = Rig::with_source(&page("one")).workers(2).env("NOTIFY_SOCKET", &name).start();
    let pid = site.pid();
    hear_of(&manager, "STATUS=booting 1 of 2 workers");
    assert_eq!(hear_of(&manager, "READY=1"), format!("READY=1\nMAINPID={pid}\nSTATUS=serving generation 1, 2 workers"));
    assert_eq!(site.control(&["reload"]).code, 0);
    let begun = hear(&manager);
    assert!(begun.starts_with("RELOADING=1\nMONOTONIC_USEC=") && begun.ends_with("\nSTATUS=reloading"), "{begun}");
    hear_of(&manager, "STATUS=serving generation 1, 2 workers; booting 1 of 2 workers of generation 2");
    assert!(hear_of(&manager, "READY=1").contains("\nSTATUS=serving generation 2, 2 workers"));
    site.stop();
    hear_of(&manager, "STOPPING=1");
    hear_of(&manager, "STATUS=draining, 2 workers left");
}

#[test]
fn a_reload_is_over_when_its_canary_serves() {
    let (manager, name) = manager("canary");
    let site = Rig::with_source(&page("one")).workers(4).option("--canary", "1").env("NOTIFY_SOCKET", &name).start();
    let both = "\nSTATUS=serving generation 1, 3 workers; canary: serving generation 2, 1 worker";
    hear_of(&manager, "READY=1");
    assert_eq!(site.control(&["reload"]).code, 0);
    hear_of(&manager, "RELOADING=1");
    assert!(hear_of(&manager, "READY=1").contains(both));
    assert_eq!(site.control(&["rollback"]).code, 0);
    hear_of(&manager, "RELOADING=1");
    let over = hear_of(&manager, "READY=1");
    assert!(over.contains("; generation 2 was taken back: a roll-back was asked for"), "{over}");
}

#[test]
fn a_reload_that_fails_is_over_and_says_why_in_one_line() {
    let (manager, name) = manager("reload");
    let site = Rig::with_source(&page("one")).env("NOTIFY_SOCKET", &name).start();
    hear_of(&manager, "READY=1");
    site.folder().write("app.py", "raise OSError('no database\\nMAINPID=1')\n");
    assert_eq!(site.control(&["reload"]).code, 10);
    hear_of(&manager, "RELOADING=1");
    let over = hear_of(&manager, "READY=1");
    let lines: Vec<&str> = over.lines().collect();
    assert_eq!(lines[..2], ["READY=1", &format!("MAINPID={}", site.pid())], "{over}");
    assert!(lines[2].starts_with("STATUS=serving generation 1, 1 worker; "), "{over}");
    assert!(lines[2].contains("; generation 2 was discarded: "), "{over}");
    assert_eq!(lines.len(), 3, "{over}");
}

#[test]
fn a_release_that_fails_its_smoke_test_is_a_reload_that_fails() {
    let (manager, name) = manager("smoke");
    let site = Rig::with_source(&page("one")).option("--smoke", "/=200 one").env("NOTIFY_SOCKET", &name).start();
    hear_of(&manager, "STATUS=smoke test 1 of 1");
    hear_of(&manager, "READY=1");
    site.folder().write("app.py", &page("two"));
    assert_eq!(site.control(&["reload"]).code, 15);
    hear_of(&manager, "RELOADING=1");
    hear_of(&manager, "STATUS=serving generation 1, 1 worker; smoke test 1 of 1 of generation 2");
    let over = hear_of(&manager, "READY=1");
    let why = "; generation 2 was discarded: the smoke test \"/=200 one\" was answered 200 OK, but its body does not hold \"one\"";
    assert!(over.contains(why), "{over}");
}

#[test]
fn a_manager_that_does_not_listen_is_named() {
    for (name, why) in [("/no/such/socket", "no such file"), ("tcp:1", "expected a path"), ("@", "")] {
        let site = Rig::with_source(&page("one")).env("NOTIFY_SOCKET", name).start();
        let said = site.log("service manager not told");
        assert!(said.key("reason").is_some_and(|reason| reason.contains(name) && reason.contains(why)), "{said:?}");
    }
}

#[test]
fn a_reload_keeps_the_sockets_that_were_passed() {
    let rig = Rig::with_source(&page("one"));
    let (rig, address) = passed(rig, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=front");
    let site = rig.start_on(1);
    assert_eq!(site.addresses(), [address.as_str()]);
    site.folder().write("app.py", &page("two"));
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.get("/").text(), "two");
    assert_eq!(site.control(&["upgrade"]).code, 0);
    assert_eq!(site.logged("listening"), 1, "{}", site.whole_log());
}

#[test]
fn a_site_that_expects_a_socket_does_not_start_elsewhere() {
    Rig::with_source(&page("one"))
        .bind("systemd")
        .option("--name", "shop")
        .refuse()
        .says(12, &["could not bind systemd: systemd has passed no socket. Enable and start ostler@shop.socket."]);
    for (variables, code, why) in [
        ("LISTEN_PID=1 LISTEN_FDS=1", 12, "LISTEN_PID is 1, and this process is "),
        ("LISTEN_PID=$$ LISTEN_FDS=one", 2, "LISTEN_FDS: \"one\": expected how many sockets were passed"),
        ("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b", 2, "LISTEN_FDNAMES: \"a:b\": expected 1 names"),
        ("LISTEN_PID=$$ LISTEN_FDS=2", 12, "could not listen on fd://4: bad file descriptor"),
        ("LISTEN_PID=$$ LISTEN_FDS=1; exec 3</dev/null", 12, "could not listen on fd://3: "),
        ("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a", 12, "systemd has passed no socket called front, but a"),
    ] {
        let (rig, _) = passed(Rig::with_source(&page("one")), variables);
        let name = if variables.contains("NAMES") { "systemd:front" } else { "systemd" };
        rig.option("--bind", name).refuse().says(code, &[why]);
    }
}

#[test]
fn a_passed_socket_that_nobody_names_is_said() {
    let (rig, _) = passed(Rig::with_source(&page("one")), "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=front");
    let site = rig.bind("127.0.0.1:0").start();
    assert_eq!(site.log("passed socket not used").key("reason"), Some("no --bind names front, which is fd://3"));
}

#[test]
fn a_reload_may_take_a_passed_socket_and_give_it_back() {
    let rig = Rig::with_source(&page("one")).file("ostler.toml", "bind = '127.0.0.1:0'\n");
    let (rig, address) = passed(rig, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=front");
    let site = rig.start_on(1);
    for (bind, taken) in [("systemd:front", true), ("127.0.0.1:0", false), ("systemd", true)] {
        site.folder().write("ostler.toml", &format!("bind = '{bind}'\n"));
        assert_eq!(site.control(&["reload"]).code, 0, "{bind}");
        let status = site.control(&["status"]).output;
        assert_eq!(status.lines().next().expect("a line").contains(&address), taken, "{status}");
    }
    assert_eq!(Client::connect(&address).get("/").text(), "one");
}

#[test]
fn a_socket_that_was_kept_is_served_again() {
    let kept = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let address = kept.local_addr().expect("bound").to_string();
    // Nobody has accepted yet: the client was not refused, and waits.
    let mut client = Client::connect(&format!("http://{address}"));
    client.ask("/");
    let (manager, name) = manager("kept");
    let rig = Rig::with_source(&page("one")).env("NOTIFY_SOCKET", &name).env("FDSTORE", "8");
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=ostler-listener-7";
    let rig = rig.without_bind().bind(&address).bind("127.0.0.1:0");
    let site = rig.input(kept.into()).limited(&format!("exec 3<&0 </dev/null; export {variables}")).start_on(2);
    assert_eq!(client.answer().text(), "one");
    // The other address is new, and the first one is in the store.
    assert_eq!(hear_of(&manager, "FDSTORE"), "FDSTORE=1\nFDNAME=ostler-listener-8");
    assert_eq!(site.addresses()[0], format!("http://{address}"));
}
