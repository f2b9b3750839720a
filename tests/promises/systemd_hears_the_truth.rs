//! The notifications to systemd are true: READY is sent when the site serves, and not before.

use std::os::{
    linux::net::SocketAddrExt,
    unix::net::{SocketAddr, UnixDatagram},
};

use ostler_tests::{PATIENCE, Rig};

use crate::pages::page;

/// A service manager's socket, and its name for NOTIFY_SOCKET.
fn manager(name: &str) -> (UnixDatagram, String) {
    let name = format!("ostler-manager-{name}-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let socket = UnixDatagram::bind_addr(&address).expect("the name is new");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
    (socket, format!("@{name}"))
}

fn hear(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).expect("the daemon tells its manager");
    String::from_utf8_lossy(&message[..length]).into_owned()
}

#[test]
fn a_start_that_fails_was_never_ready() {
    let (manager, name) = manager("start");
    let refused = Rig::with_source("raise OSError('no database')\n").env("NOTIFY_SOCKET", &name).refuse();
    refused.says(10, &["no database"]);
    manager.set_nonblocking(true).expect("a socket can be so");
    let mut message = [0; 4096];
    while let Ok(length) = manager.recv(&mut message) {
        let text = String::from_utf8_lossy(&message[..length]);
        assert!(!text.contains("READY=1"), "{text}");
    }
}

#[test]
fn a_reload_that_fails_is_over_and_says_why_in_one_line() {
    let (manager, name) = manager("reload");
    let site = Rig::with_source(&page("one")).env("NOTIFY_SOCKET", &name).start();
    assert!(hear(&manager).contains("READY=1"));
    site.folder().write("app.py", "raise OSError('no database\\nMAINPID=1')\n");
    assert_eq!(site.control(&["reload"]).code, 10);
    assert!(hear(&manager).contains("RELOADING=1"));
    let over = hear(&manager);
    let lines: Vec<&str> = over.lines().collect();
    assert_eq!(lines[..2], ["READY=1", &format!("MAINPID={}", site.pid())], "{over}");
    assert!(lines[2].starts_with("STATUS=the previous generation serves; generation 2 was discarded: "), "{over}");
    assert_eq!(lines.len(), 3, "{over}");
}
