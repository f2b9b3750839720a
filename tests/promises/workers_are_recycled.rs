//! A worker is replaced when it holds too much memory or is too old; its replacement is ready first. Replacement after a number of
//! requests is tested in `options_do_what_they_say`.

use ostler_tests::Rig;

use crate::pages::{page, page_that_shows};

#[test]
fn a_worker_that_holds_too_much_memory_is_replaced() {
    let source = page_that_shows("len(kept.append(bytearray(50_000_000)) or kept)", "kept = []");
    let site = Rig::with_source(&source).option("--max-memory", "150M").start();
    let first = site.log("worker ready").number("pid");
    let mut client = site.connect();
    for count in 1..=4 {
        assert_eq!(client.get("/").text(), count.to_string());
    }
    let replaced = site.log("worker replaced");
    assert_eq!(replaced.number("pid"), first);
    assert_eq!((replaced.key("reason"), replaced.key("of")), (Some("max-memory"), Some("150.0M")));
    let held = replaced.key("held").expect("it says how much").trim_end_matches('M').parse::<f64>().expect("a number");
    assert!(held > 150.0);
    assert_ne!(site.log("worker ready").number("pid"), first);
    site.log("worker drained");
    assert_eq!(client.get("/").text(), "1", "the connection moved");
}

#[test]
fn a_worker_that_is_too_old_is_replaced() {
    let site = Rig::with_source(&page("served")).workers(2).option("--max-age", "1").start();
    let first = [site.log("worker ready").number("pid"), site.log("worker ready").number("pid")];
    for _ in 0..2 {
        let replaced = site.log("worker replaced").number("pid");
        assert!(first.contains(&replaced));
        assert!(!first.contains(&site.log("worker ready").number("pid")));
        site.log("worker drained");
    }
    assert_eq!(site.get("/").text(), "served");
}
