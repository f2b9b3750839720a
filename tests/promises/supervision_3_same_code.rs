//! A worker that is replaced runs its generation's code, whatever is on disk by then.

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
