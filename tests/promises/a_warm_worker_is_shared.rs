//! What a worker has loaded for its requests is shared by all, because it becomes the template (`--refork`). No client notices, and
//! where that is not possible, all stays as it is.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use ostler_tests::{Python, Rig, Site};

use crate::pages::page_that_shows;

/// After so many requests of one worker.
const WARM: u16 = 40;

/// Each answer adds to a cache, and tells how much of it the worker had when it was forked.
fn site(statements: &str) -> Rig {
    let hook = "cache, had = [], [0]; os.register_at_fork(after_in_child=lambda: had.__setitem__(0, len(cache)))";
    let source = page_that_shows("(cache.append(1), had[0])[1]", &format!("{hook}\n{statements}"));
    Rig::with_source(&source).workers(2).option("--refork", &WARM.to_string())
}

/// Asks until one of the workers has become warm.
fn warm(site: &Site) {
    let mut client = site.connect();
    for _ in 0..2 * WARM {
        assert_eq!(client.get("/").status, 200);
    }
}

/// Waits until the template is another one and all workers are its forks.
fn reforked(site: &Site) {
    site.log("template reforked");
    site.drained(2);
}

fn had(site: &Site) -> u16 {
    site.get("/").text().parse().expect("a number")
}

#[test]
fn new_workers_have_what_a_worker_has_loaded_and_no_client_notices() {
    let site = site("pass").start();
    let first = site.control(&["status", "--json"]).output;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            // A connection that is lost, or an answer that is cut, is a panic.
            scope.spawn(|| {
                let mut client = site.connect();
                while !over.load(SeqCst) {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
        // No request is cut for it.
        assert_eq!(site.log("worker draining").key("within"), Some("86400s"));
        reforked(&site);
        over.store(true, SeqCst);
    });
    assert!(had(&site) >= WARM);
    let generation = |status: &str| {
        let status: serde_json::Value = serde_json::from_str(status).expect("JSON");
        status["generations"][0].clone()
    };
    let (first, now) = (generation(&first), generation(&site.control(&["status", "--json"]).output));
    assert_ne!(first["template"], now["template"]);
    assert_eq!((&first["reforked"], &now["reforked"]), (&0.into(), &1.into()));
    // What is forked later shares it, too.
    assert_eq!(site.control(&["recycle"]).output, "generation 1 serves with 2 workers");
    assert!(had(&site) >= WARM);
}

#[test]
fn what_must_not_be_shared_is_named_and_all_stays_as_it_is() {
    for (once, name) in [
        ("threading.Thread(target=threading.Event().wait, name='flush-queue', daemon=True).start()", "flush-queue"),
        ("cache.append(__import__('socket').create_server(('127.0.0.1', 0)))", "socket listening at 127.0.0.1"),
        ("cache.append(open('left-open.txt', 'w'))", "file open for writing: "),
        // Its position, and its locks, would be those of all workers.
        ("cache.append(open('app.py'))", "open file: "),
        // It ends with its parent.
        ("cache.append(__import__('subprocess').Popen(['cat'], stdin=-1))", "child process"),
    ] {
        let first = format!(
            "once = []\nclass Had(list):\n  def __getitem__(self, at):\n    if not once:\n      once.append(1); {once}\n    return 0\nhad = Had([0])"
        );
        let site = site(&first).start();
        warm(&site);
        let said = site.log("not reforked");
        assert!(said.text().contains(name), "{}", said.text());
        site.drained(1);
        assert_eq!(site.control(&["recycle"]).output, "generation 1 serves with 2 workers");
        assert_eq!(site.control(&["status"]).code, 0);
    }
}

#[test]
fn workers_make_no_uuid_twice() {
    for python in Python::every() {
        // Where libuuid makes them, all of a thread have the same clock sequence: that of the template.
        let source = page_that_shows("[uuid.uuid1().clock_seq for _ in range(20)]", "import uuid");
        let rig = Rig::with_source(&source).python(python).workers(2).option("--threads", "1");
        let site = rig.option("--refork", &WARM.to_string()).start();
        warm(&site);
        reforked(&site);
        let text = site.get("/").text().to_owned();
        let of = text.trim_matches(['[', ']']).split(", ").collect::<std::collections::BTreeSet<_>>();
        assert!(of.len() > 10, "{text}");
    }
}

#[test]
fn threads_of_the_server_are_no_obstacle_and_hooks_of_gunicorn_run_in_each_worker() {
    for python in Python::every() {
        let hooks = "
import builtins, os
builtins.forked = []
def post_fork(server, worker):
    builtins.forked.append(worker.pid == os.getpid())
def worker_exit(server, worker):
    # What it closes is in use where the process goes on as a template.
    builtins.forked.append('exits')
    print('exits', worker.pid, flush=True)
";
        let site = site("pass").python(python).option("--threads", "4").file("gunicorn.conf.py", hooks);
        let source = std::fs::read_to_string(site.folder().join("app.py")).expect("the rig has written it");
        let shown = source.replace("had[0])[1]", "(threading.current_thread(), had[0] > 0, forked))[1][1:]");
        let site = site.file("app.py", &shown).start();
        warm(&site);
        reforked(&site);
        assert_eq!(site.control(&["recycle"]).code, 0);
        // The one that became the template had been forked, too.
        assert_eq!(site.get("/").text(), "(True, [True, True])", "{}", python.version);
        site.output("exits");
    }
}

#[test]
fn a_worker_that_dies_on_the_way_leaves_the_template_as_it_is() {
    let dies = "import gc; gc.disable(); gc.callbacks.append(lambda *_: os.abort() if len(cache) >= 40 else None)";
    let site = site(dies).start();
    warm(&site);
    assert_eq!(
        site.log("not reforked").key("reason"),
        Some("the worker that was to be the template has ended, or closed its channel")
    );
    assert_eq!(site.control(&["recycle"]).output, "generation 1 serves with 2 workers");
    assert_eq!(had(&site), 0);
}

#[test]
fn a_template_whose_forks_do_not_come_up_makes_room_for_the_one_before() {
    let dies = "os.register_at_fork(after_in_child=lambda: os._exit(9) if cache else None)";
    let site = site(dies).start();
    warm(&site);
    assert_eq!(site.log("not reforked").key("reason"), Some("what the new template forked did not become ready"));
    assert_eq!(site.control(&["recycle"]).output, "generation 1 serves with 2 workers");
    assert_eq!(had(&site), 0);
}

#[test]
fn a_generation_with_such_a_template_is_kept_and_comes_back() {
    let site = site("pass").start();
    warm(&site);
    reforked(&site);
    assert_eq!(site.control(&["reload"]).output, "generation 2 serves with 2 workers");
    assert_eq!(had(&site), 0);
    assert_eq!(site.control(&["rollback"]).output, "generation 1 serves with 2 workers");
    assert!(had(&site) >= WARM);
    assert_eq!(site.control(&["upgrade"]).code, 0);
    assert_eq!(had(&site), 0);
}

#[test]
fn what_requests_have_left_in_their_thread_is_not_shared() {
    let statements = "
import contextvars
class Counting(threading.local):
    count = 0
kept, plain, visited = Counting(), threading.local(), contextvars.ContextVar('visited', default='nobody')
plain.imported = 'yes'
def left():
    said = (had[0] > 0, kept.count, getattr(plain, 'user', 'nobody'), plain.imported, visited.get())
    kept.count, plain.user = 1, 'somebody'
    visited.set('somebody')
    return said
";
    for python in Python::every() {
        let rig = site(statements).python(python);
        let source = std::fs::read_to_string(rig.folder().join("app.py")).expect("the rig has written it");
        let site =
            rig.file("app.py", &source.replace("(cache.append(1), had[0])[1]", "(cache.append(1), left())[1]")).start();
        warm(&site);
        reforked(&site);
        // The first request of a worker is to tell.
        assert_eq!(site.control(&["recycle"]).code, 0);
        assert_eq!(site.get("/").text(), "(True, 0, 'nobody', 'yes', 'nobody')", "{}", python.version);
    }
}

#[test]
fn a_site_that_does_not_share_its_import_shares_nothing_later() {
    let site = site("pass").flag("--preload=off").start();
    warm(&site);
    assert_eq!((site.logged("worker replaced"), had(&site)), (0, 0));
}
