//! The previous generation's template is kept: going back needs nothing that is on disk now.

use ostler_tests::Rig;

use crate::pages::page;

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
