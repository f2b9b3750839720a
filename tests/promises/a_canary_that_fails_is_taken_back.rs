//! A canary whose code or processes fail never serves, or is taken back, and the old generation is whole again. What happens to that one
//! while there is a canary does not matter to clients.

use std::{fs, os::unix::fs::symlink, thread};

use ostler_tests::{Gate, Rig};

use crate::{
    canaries::{answers, begin, end, is_served_by, is_whole_again, rig, serving, status, template, with_canary},
    pages::{page, page_with},
};

#[test]
fn one_that_does_not_come_up_never_serves() {
    for preload in ["--preload=on", "--preload=off"] {
        let site = rig().flag(preload).option("--smoke", "/=200").start();
        for (source, code, why) in [
            ("import no_such_module\n".to_owned(), 10, "No module named 'no_such_module'"),
            ("app = 3\n".into(), 11, "callable"),
            (page("two").replace("200 OK", "404 Not Found"), 15, "was answered 404 Not Found, not 200"),
        ] {
            site.folder().write("app.py", &source);
            site.control(&["reload", "--canary", "25%"]).says(code, &[why]);
            site.log("generation discarded");
            assert_eq!(serving(&site), "1 serving 4");
        }
        assert_eq!((site.logged("canary serving"), site.logged("worker drained generation=1")), (0, 0));
        assert_eq!(site.control(&["status"]).code, 1, "the last reload failed");
        begin(&site, "two", &["reload", "--canary", "25%"]);
        assert_eq!(site.control(&["status"]).code, 0, "the last reload has not failed");
        // Without preloading, the old generation's next worker imports what is on disk.
        site.folder().write("app.py", &page("one"));
        assert_eq!(site.control(&["rollback"]).code, 0);
        is_served_by(&site, "one");
    }
}

#[test]
fn a_worker_of_it_that_is_lost_is_replaced() {
    let site = with_canary(rig());
    for _ in 0..2 {
        end(site.log("worker ready generation=2").number("pid"));
        site.log("worker lost generation=2");
    }
    site.log("worker ready generation=2");
    assert_eq!(serving(&site), "1 serving 3, 2 canary 1");
    assert_eq!(site.logged("canary taken back"), 0);
}

#[test]
fn one_whose_next_worker_does_not_boot_is_taken_back() {
    let site = with_canary(rig().flag("--preload=off"));
    site.folder().write("app.py", "raise KeyError('on purpose')\n");
    end(site.log("worker ready generation=2").number("pid"));
    assert!(site.log("canary taken back").text().contains("KeyError: 'on purpose'"));
    // The old generation needs another worker, of code that comes up.
    site.folder().write("app.py", &page("one"));
    site.log("generation gone generation=2");
    assert_eq!(site.control(&["recycle"]).output, "generation 1 serves with 4 workers");
    is_served_by(&site, "one");
}

#[test]
fn one_whose_rest_does_not_boot_is_taken_back() {
    for (raises, code, why) in [(true, 10, "KeyError: 'on purpose'"), (false, 10, "was not ready within 2 s")] {
        let site = with_canary(rig().flag("--preload=off").option("--boot-timeout", "2"));
        let gate = Gate::new();
        let statement = format!("{}; raise KeyError('on purpose')", gate.statement());
        site.folder().write("app.py", &page_with("two", &statement));
        thread::scope(|scope| {
            let promote = scope.spawn(|| site.control(&["promote"]));
            let first = gate.arrival();
            let _others = [gate.arrival(), gate.arrival()];
            // The old generation will need another worker.
            site.folder().write("app.py", &page("one"));
            let _first = if raises {
                first.let_go("on");
                None
            } else {
                Some(first)
            };
            promote.join().expect("it ends").says(code, &["generation 2 was taken back", why]);
        });
        is_whole_again(&site);
    }
}

#[test]
fn the_old_generation_gets_its_own_code_back_from_a_directory_of_its_own() {
    for preload in ["--preload=on", "--preload=off"] {
        let rig = Rig::new("corners.py").application("app").workers(2).flag(preload);
        rig.folder().write("release-1/app.py", &page("one"));
        rig.folder().write("release-2/app.py", &page("two"));
        let (current, next) = (rig.folder().join("current"), rig.folder().join("next"));
        symlink("release-1", &current).expect("a private folder is writable");
        let site = rig.option("--chdir", current.to_str().expect("plain")).start();
        symlink("release-2", &next).expect("a private folder is writable");
        fs::rename(next, current).expect("a private folder is writable");
        assert_eq!(site.control(&["reload", "--canary", "1"]).code, 0);
        site.drained(1);
        let [old, new] = answers(&site, 200, ["one", "two"]);
        assert!(old > 0 && new > 0, "{old} of the old and {new} of the new");
        assert_eq!(site.control(&["rollback"]).code, 0);
        is_served_by(&site, "one");
    }
}

#[test]
fn one_whose_template_is_lost_is_taken_back() {
    let site = with_canary(rig());
    end(template(&site, 2));
    is_whole_again(&site);
    // There, the workers have imported, and the template has not.
    let site = with_canary(rig().flag("--preload=off"));
    end(template(&site, 2));
    let line = site.log("canary taken back generation=2");
    assert!(line.text().contains("the template ended by itself: SIGKILL"), "{}", line.text());
}

#[test]
fn an_old_generation_whose_template_is_lost_is_not_replaced_by_the_canary_s_code() {
    let lost = || {
        let site = with_canary(rig());
        end(template(&site, 1));
        site.log("then=\"no worker is replaced until the canary is promoted\"");
        let [old, new] = answers(&site, 200, ["one", "two"]);
        assert!(old > new && new > 0, "{old} of the old and {new} of the new");
        assert!(site.control(&["status"]).output.contains("the template is lost, so that no worker can be replaced"));
        site
    };
    let site = lost();
    assert_eq!(site.control(&["promote"]).code, 0);
    site.drained(3);
    is_served_by(&site, "two");
    // The old code is nowhere but in its workers: the disk has the new.
    let site = lost();
    site.control(&["rollback"]).says(9, &["generation 1 serves with 3 of 4 workers, and could not fork the others"]);
    is_served_by(&site, "one");
    site.control(&["scale", "+1"]).says(9, &["the template of generation 1 is lost", "`ostler reload` starts another"]);
    assert_eq!(site.control(&["reload"]).output, "generation 3 serves with 4 workers");
    is_served_by(&site, "two");
}

#[test]
fn one_that_is_all_that_is_left_is_promoted() {
    let site = with_canary(rig());
    end(template(&site, 1));
    site.log("template lost generation=1");
    let workers = status(&site)["generations"][0]["workers"].as_array().expect("a list").clone();
    workers.iter().for_each(|worker| end(worker["pid"].as_i64().expect("a process") as i32));
    site.log("canary promoted generation=2 workers=4 figures=\"nothing is left of the old generation\"");
    site.log("generation serving generation=2");
    is_served_by(&site, "two");
}
