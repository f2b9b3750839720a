//! Workers share the import if it leaves behind nothing that is unsafe to fork. CPython's rules for forked processes are kept.

use std::collections::HashSet;

use ostler_tests::{Client, Rig, Site};

use crate::pages::{page, page_that_shows, page_with};

#[test]
fn a_harmless_import_is_shared() {
    let site = Rig::with_source(&page("one")).start();
    assert_eq!(site.log("application imported").key("preloaded"), Some("true"));
}

#[test]
fn what_must_not_be_shared_is_named_and_each_worker_imports_for_itself() {
    for (statement, name) in [
        (
            "t = threading.Thread(target=threading.Event().wait, name='flush-queue', daemon=True); t.start()",
            "flush-queue",
        ),
        ("import socket; a, b = socket.socketpair()", "socket"),
        ("import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()", "127.0.0.1"),
        ("file = open('left-open.txt', 'w')", "left-open.txt"),
        ("pipe = os.pipe()", "pipe"),
    ] {
        let site = Rig::with_source(&page_with("served", statement)).workers(2).start();
        assert_eq!(site.log("application imported").key("preloaded"), Some("false"), "{statement}");
        let warning = site.log("not preloaded");
        assert!(warning.text().contains(name), "{}", warning.text());
        assert_eq!(site.get("/").text(), "served");
    }
}

#[test]
fn preload_on_shares_it_nevertheless_and_off_never_does() {
    let thread = "t = threading.Thread(target=threading.Event().wait, daemon=True); t.start()";
    let on = Rig::with_source(&page_with("served", thread)).flag("--preload=on").start();
    assert_eq!(on.log("application imported").key("preloaded"), Some("true"));
    let off = Rig::with_source(&page("served")).flag("--preload=off").start();
    assert_eq!(off.log("application imported").key("preloaded"), Some("false"));
    assert_eq!((on.get("/").text(), off.get("/").text()), ("served", "served"));
}

#[test]
fn workers_do_not_share_random_state() {
    let source = page_that_shows("random.random()", "random.random()");
    let site = Rig::with_source(&source).workers(4).start();
    assert_eq!(of_each_worker(&site, 4).len(), 4);
}

#[test]
fn hooks_of_fork_have_run_and_modules_know_their_process() {
    let hooks = "ran = []; os.register_at_fork(after_in_child=lambda: ran.append(os.getpid()))";
    let source = page_that_shows(
        "(ran == [os.getpid()], threading.main_thread().ident == threading.get_ident(), threading.active_count())",
        hooks,
    );
    let site = Rig::with_source(&source).start();
    assert_eq!(site.get("/").text(), "(True, True, 1)");
}

/// The first answer of each worker. The connections are kept until all have answered, so that each is on another worker.
fn of_each_worker(site: &Site, count: usize) -> HashSet<String> {
    let mut clients: Vec<Client> = vec![];
    let mut seen = HashSet::new();
    while seen.len() < count && clients.len() < 100 * count {
        let mut client = site.connect();
        seen.insert(client.get("/").text().to_string());
        clients.push(client);
    }
    seen
}
