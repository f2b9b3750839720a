//! `--canary`: a new generation serves with a share of the workers, beside the old one. Then the rest follow, or it is taken back.

use std::thread;

use nix::sys::signal::Signal::{SIGHUP, SIGTERM, SIGUSR2};
use ostler_tests::{Gate, Rig};

use crate::{
    canaries::{answers, begin, is_served_by, is_whole_again, rig, serving, status, with_canary},
    pages::page,
};

#[test]
fn both_serve_and_their_workers_take_turns() {
    let site = with_canary(rig());
    assert_eq!(site.log("canary serving generation=2").number("workers"), 1);
    site.drained(1);
    assert_eq!(serving(&site), "1 serving 3, 2 canary 1");
    let [old, new] = answers(&site, 200, ["one", "two"]);
    assert!(old > new && new > 0, "{old} of the old and {new} of the new");
    assert_eq!(site.control(&["status", "--ready"]).code, 0);
    assert_eq!(site.logged("generation serving"), 1);
    let shown = site.control(&["status"]).output;
    assert!(shown.contains("\ngeneration 2 canary, 1 of 1 workers; 3 more to follow by `ostler promote`; "), "{shown}");
    assert_eq!(status(&site)["metrics"]["ostler_workers_wanted"], 4);
}

#[test]
fn each_worker_has_its_turn_of_connections_that_come_one_by_one() {
    let slow = |text: &str| {
        page(text).replace("def app", "import time\ndef app").replace("    return", "    time.sleep(0.002)\n    return")
    };
    let site = Rig::with_source(&slow("one")).workers(4).option("--threads", "1").option("--canary-time", "0").start();
    site.folder().write("app.py", &slow("two"));
    assert_eq!(site.control(&["reload", "--canary", "1"]).code, 0);
    site.drained(1);
    let [_, new] = answers(&site, 200, ["one", "two"]);
    // A worker that is still busy with its last connection is passed over.
    assert!((40..=60).contains(&new), "{new} of 200");
    let moved = status(&site)["metrics"]["ostler_connections_taken_total{reason=\"busy\"}"].as_u64().expect("a number");
    assert!(moved < 20, "although each request waits for nothing but its own call: {moved}");
}

#[test]
fn some_of_the_connections_that_are_kept_move_to_it() {
    let site = rig().start();
    let mut clients: Vec<_> = (0..200).map(|_| site.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").text(), "one"));
    let mut moved = || {
        begin(&site, "two", &["reload", "--canary", "25%"]);
        site.drained(1);
        let new = clients.iter_mut().filter_map(|client| (client.get("/").text() == "two").then_some(())).count();
        assert_eq!(site.control(&["rollback"]).code, 0);
        site.drained(1);
        new
    };
    // A worker that the machine lets wait may hear too late that they are not its.
    assert!((0..5).any(|_| moved() > 0));
}

#[test]
fn a_promoted_canary_becomes_the_site_and_the_old_generation_is_kept() {
    let site = with_canary(rig());
    assert_eq!(site.control(&["promote"]).output, "generation 2 serves with 4 workers");
    site.log("canary promoted generation=2 workers=4");
    is_served_by(&site, "two");
    assert_eq!(serving(&site), "2 serving 4");
    site.control(&["promote"]).says(9, &["there is no canary to promote"]);
    assert_eq!(site.control(&["rollback"]).output, "generation 1 serves with 4 workers");
    is_served_by(&site, "one");
}

#[test]
fn the_rest_follow_when_its_time_is_over() {
    let rig = Rig::with_source(&page("one")).workers(4).option("--canary", "2").option("--canary-time", "1");
    let site = rig.start();
    site.folder().write("app.py", &page("two"));
    site.signal(SIGHUP);
    assert_eq!(site.log("canary serving generation=2").key("for"), Some("1 s"));
    site.log("canary promoted generation=2");
    site.log("generation serving generation=2 workers=4");
    site.drained(4);
    is_served_by(&site, "two");
    site.folder().write("app.py", &page("three"));
    assert_eq!(site.control(&["reload", "--no-canary"]).output, "generation 3 serves with 4 workers");
    is_served_by(&site, "three");
    assert_eq!(site.control(&["rollback"]).output, "generation 2 serves with 4 workers");
    assert_eq!(site.logged("canary serving"), 1, "neither that nor a roll-back begins with one");
}

#[test]
fn a_roll_back_takes_it_back_and_the_old_generation_is_whole_again() {
    let site = with_canary(rig());
    assert_eq!(site.control(&["rollback"]).output, "generation 1 serves with 4 workers");
    is_served_by(&site, "one");
    is_whole_again(&site);
    assert_eq!(site.control(&["status"]).code, 0, "it was asked for");
    site.control(&["rollback"]).says(9, &["the last release was taken back already, and generation 1 serves"]);
}

#[test]
fn a_roll_back_that_is_said_twice_goes_no_further() {
    let site = rig().start();
    site.folder().write("app.py", &page("two"));
    assert_eq!(site.control(&["reload"]).code, 0);
    begin(&site, "three", &["reload", "--canary", "1"]);
    thread::scope(|scope| {
        let both = [0; 2].map(|_| scope.spawn(|| site.control(&["rollback"])));
        for answer in both.map(|waits| waits.join().expect("it ends")) {
            let same = answer.output == "generation 2 serves with 4 workers";
            let told = answer.error.contains("the last release was taken back already, and generation 2 serves");
            assert!(same || told, "{answer:?}");
        }
    });
    is_served_by(&site, "two");
    // A reload in between is another matter. Without a canary, too, both go back to the same generation.
    site.folder().write("app.py", &page("four"));
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.control(&["rollback"]).output, "generation 2 serves with 4 workers");
    is_served_by(&site, "two");
}

#[test]
fn another_reload_replaces_it() {
    let site = with_canary(rig());
    begin(&site, "three", &["reload", "--canary", "2"]);
    site.log("canary taken back generation=2");
    site.log("canary serving generation=3 workers=2");
    site.log("generation gone generation=2");
    site.drained(4);
    assert_eq!(serving(&site), "1 serving 2, 3 canary 2");
    let [old, new] = answers(&site, 100, ["one", "three"]);
    assert!(old > 0 && new > 0, "{old} of the old and {new} of the new");
    site.folder().write("app.py", &page("four"));
    assert_eq!(site.control(&["reload"]).output, "generation 4 serves with 4 workers");
    is_served_by(&site, "four");
}

#[test]
fn one_serves_on_until_the_next_reload_has_come_up() {
    let site = with_canary(rig().option("--smoke", "/=200"));
    for (source, code) in
        [("import no_such_module\n", 10), ("def app(environ, start_response):\n    raise OSError\n", 15)]
    {
        site.folder().write("app.py", source);
        assert_eq!(site.control(&["reload"]).code, code);
        assert_eq!(serving(&site), "1 serving 3, 2 canary 1");
    }
    assert_eq!(site.logged("canary taken back"), 0, "nothing is wrong with it");
    // A roll-back takes it back, and what boots beside it.
    let gate = Gate::new();
    site.folder().write("app.py", &format!("{}\n{}", gate.statement(), page("five")));
    thread::scope(|scope| {
        let reload = scope.spawn(|| site.control(&["reload"]));
        let _boots = gate.arrival();
        assert_eq!(site.control(&["rollback"]).output, "generation 1 serves with 4 workers");
        reload.join().expect("it ends").says(9, &["generation 5 was discarded: a roll-back was asked for"]);
    });
    is_whole_again(&site);
}

#[test]
fn one_that_is_promoted_is_the_site_before_the_next_reload() {
    let (site, gate) = (with_canary(rig()), Gate::new());
    site.folder().write("app.py", &format!("{}\n{}", gate.statement(), page("three")));
    thread::scope(|scope| {
        let reload = scope.spawn(|| site.control(&["reload", "--canary", "1"]));
        let boots = gate.arrival();
        assert_eq!(site.control(&["promote"]).output, "generation 2 serves with 4 workers");
        boots.let_go("on");
        assert_eq!(reload.join().expect("it ends").code, 0);
    });
    assert_eq!(serving(&site), "2 serving 3, 3 canary 1");
}

#[test]
fn the_site_is_scaled_while_there_is_one() {
    let site = with_canary(rig());
    let scaled = site.control(&["scale", "+2"]).output;
    assert_eq!(scaled, "generation 1 serves with 5 workers, and a canary with 1");
    assert_eq!(serving(&site), "1 serving 5, 2 canary 1");
    assert_eq!(site.logged("scaled"), 1);
    site.control(&["scale", "1"]).says(9, &["from 2 to "]);
    assert_eq!(site.control(&["scale", "3"]).code, 0);
    assert_eq!(serving(&site), "1 serving 2, 2 canary 1");
    assert_eq!(site.control(&["promote"]).output, "generation 2 serves with 3 workers");
    begin(&site, "three", &["reload", "--canary", "1"]);
    assert_eq!(site.control(&["scale", "4"]).code, 0);
    assert_eq!(site.control(&["rollback"]).output, "generation 2 serves with 4 workers");
    is_served_by(&site, "two");
}

#[test]
fn a_stop_ends_both() {
    let mut site = with_canary(rig());
    thread::scope(|scope| {
        let waits = scope.spawn(|| site.control(&["reload", "--canary", "1", "--wait"]));
        site.log("canary serving generation=3");
        site.signal(SIGTERM);
        waits.join().expect("it ends").says(9, &["stopp"]);
    });
    assert_eq!(site.wait(), 0);
}

#[test]
fn hup_and_usr2_reload_as_the_settings_say() {
    let site = with_canary(rig());
    site.folder().write("app.py", &page("three"));
    site.signal(SIGHUP);
    site.log("canary taken back generation=2");
    site.log("generation serving generation=3 workers=4");
    begin(&site, "four", &["reload", "--canary", "1"]);
    site.signal(SIGUSR2);
    site.log("canary taken back generation=4 reason=\"an upgrade was asked for");
    site.log("upgraded");
    site.log("generation serving generation=5 workers=4");
    let site = rig().option("--canary", "50%").start();
    begin(&site, "two", &["upgrade"]);
    assert_eq!(site.log("canary serving generation=2").number("workers"), 2);
    assert_eq!(site.control(&["promote"]).output, "generation 2 serves with 4 workers");
    is_served_by(&site, "two");
}

#[test]
fn who_waits_hears_what_becomes_of_it() {
    let site = rig().start();
    let reload = ["reload", "--canary", "1", "--wait"];
    for (command, code, said) in [
        (["promote"].as_slice(), 0, "generation 2 serves with 4 workers"),
        (&["rollback"], 9, "generation 3 was taken back: a roll-back was asked for"),
        (&["reload"], 9, "generation 4 was taken back: another reload was asked for"),
    ] {
        thread::scope(|scope| {
            let waits = scope.spawn(|| site.control(&reload));
            site.log("canary serving");
            assert_eq!(site.control(command).code, 0);
            let told = waits.join().expect("it ends");
            assert!(told.output.contains(said) || told.error.contains(said), "{told:?}");
            assert_eq!(told.code, code, "{told:?}");
        });
    }
    site.folder().write("app.py", "import no_such_module\n");
    site.control(&reload).says(10, &["No module named 'no_such_module'"]);
    site.folder().write("app.py", &page("six"));
    assert_eq!(site.control(&["reload", "--wait"]).output, "generation 7 serves with 4 workers");
}

#[test]
fn what_leaves_no_worker_of_either_is_refused() {
    for (share, workers, why) in [
        ("0", 4, "expected a share from 1% to 99%, or a number of workers"),
        ("0%", 4, "expected a share"),
        ("100%", 4, "expected a share"),
        ("many", 4, "expected a share"),
        ("4", 4, "a canary of 4 leaves no worker of the old generation: there would be 4 workers in all"),
        ("25%", 1, "a canary of 25% leaves no worker of the old generation: there would be 1 worker in all"),
    ] {
        rig().workers(workers).option("--canary", share).refuse().says(2, &["canary", why]);
        let site = rig().workers(workers).start();
        let why = why.split(": there would be").next().expect("a sentence");
        site.control(&["reload", "--canary", share]).says(2, &["canary", why]);
        assert_eq!(site.logged("generation booting"), 1, "that is known before anything begins");
        assert_eq!(site.control(&["status", "--ready"]).code, 0);
        is_served_by(&site, "one");
    }
    let site = rig().start();
    site.control(&["reload", "--canary", "1", "--no-canary"]).says(2, &["--canary", "--no-canary"]);
    assert_eq!(site.logged("reload asked for"), 0);
    // Of more workers than there are now.
    assert_eq!(site.control(&["scale", "1"]).code, 0);
    site.control(&["reload", "--canary", "1"]).says(2, &["the old generation, which has 1 worker"]);
    // A canary that serves stays.
    assert_eq!(site.control(&["scale", "4"]).code, 0);
    begin(&site, "two", &["reload", "--canary", "1"]);
    site.control(&["reload", "--canary", "4"]).says(2, &["the old generation, which has 4 workers"]);
    assert_eq!(serving(&site), "1 serving 3, 2 canary 1");
}

#[test]
fn a_reload_whose_settings_leave_no_worker_keeps_the_old_ones() {
    let file = |workers: u16| format!("workers = {workers}\ncanary = \"2\"\ncanary-time = 0\n");
    let rig = rig().without_workers().option("--config", "site.toml");
    rig.folder().write("site.toml", "workers = 4\n");
    let site = rig.start();
    for (settings, why) in [(file(2), "a canary of 2 leaves no worker"), (file(4).replace('2', "200%"), "a share")] {
        site.folder().write("site.toml", &settings);
        site.control(&["reload"]).says(2, &["canary in ", why]);
    }
    assert_eq!(serving(&site), "1 serving 4");
    site.folder().write("site.toml", &file(6));
    begin(&site, "two", &["reload"]);
    assert_eq!(serving(&site), "1 serving 2, 4 canary 2");
    assert_eq!(site.control(&["promote"]).output, "generation 4 serves with 6 workers");
}
