//! A generation keeps the code that it was started with, even if the files on disk have changed: replacements of its workers run that
//! code, and a rollback returns to it.

use nix::{
    sys::signal::{Signal::*, kill},
    unistd::Pid,
};
use ostler_tests::Rig;

use crate::pages::page;

#[test]
fn a_replacement_runs_the_code_of_its_generation() {
    let site = Rig::with_source(&page("one")).start();
    let worker = site.log("worker ready").number("pid");
    site.folder().write("app.py", "broken (\n");
    kill(Pid::from_raw(worker), SIGKILL).expect("the worker lives");
    site.log("worker ready");
    assert_eq!(site.get("/").text(), "one");
    site.signal(SIGTTIN);
    site.log("worker ready");
    assert_eq!(site.control(&["recycle"]).code, 0);
    assert_eq!(site.get("/").text(), "one");
}

#[test]
fn without_preload_a_replacement_that_cannot_import_leaves_its_siblings_serving() {
    let site = Rig::with_source(&page("one")).flag("--preload=off").workers(2).start();
    let worker = site.log("worker ready").number("pid");
    site.log("worker ready");
    site.folder().write("app.py", "broken (\n");
    kill(Pid::from_raw(worker), SIGKILL).expect("the worker lives");
    for _ in 0..2 {
        site.log("worker could not boot");
        assert_eq!(site.get("/").text(), "one");
    }
    site.folder().write("app.py", &page("mended"));
    site.log("worker ready");
}

#[test]
fn a_rollback_needs_nothing_that_is_on_disk() {
    let site = Rig::with_source(&page("one")).workers(2).start();
    let mut kept = site.connect();
    site.folder().write("app.py", &page("two"));
    assert_eq!(site.control(&["reload"]).code, 0);
    site.drained(2);
    assert_eq!(kept.get("/").text(), "two");
    site.folder().write("app.py", "broken by now (\n");
    let rolled_back = site.control(&["rollback"]);
    assert_eq!(rolled_back.code, 0, "{rolled_back:?}");
    site.drained(2);
    assert_eq!(kept.get("/").text(), "one");
    assert_eq!(site.get("/").text(), "one");
}

#[test]
fn without_a_previous_generation_there_is_no_way_back() {
    let site = Rig::with_source(&page("one")).start();
    site.control(&["rollback"]).says(9, &["previous generation"]);
    let site = Rig::with_source(&page("one")).flag("--no-keep-previous").start();
    assert_eq!(site.control(&["reload"]).code, 0);
    site.control(&["rollback"]).says(9, &["previous generation"]);
    assert_eq!(site.get("/").text(), "one");
}
