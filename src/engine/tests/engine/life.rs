//! Workers from fork to end.

use std::{
    fs,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::WaitStatus,
    },
    unistd::Pid,
};
use ostler_wire::{FromWorker, Recycle, ToWorker, scoreboard::WorkerState};

use crate::rig::{Site, plan, pythons};

#[test]
fn workers_do_not_share_random_states_and_run_the_hooks_of_fork() {
    for python in pythons() {
        let mut site = plan("cases").python(&python).serve();
        let identity = |site: &Site| {
            let answer = site.get("/identity").body;
            let parts: Vec<String> = answer.split(' ').map(str::to_owned).collect();
            <[String; 4]>::try_from(parts).unwrap()
        };
        let [pid, random, main, hook] = identity(&site);
        assert_eq!((&pid, &main[..], &hook), (&site.pid().to_string(), "True", &pid));
        site.drain(Duration::from_secs(20));
        assert!(matches!(site.fork(1), FromWorker::Ready));
        let [second, other_random, ..] = identity(&site);
        assert_eq!(second, site.pid().to_string());
        assert_ne!(random, other_random);
    }
}

#[test]
fn a_worker_is_the_masters_child_under_a_name_of_its_own() {
    let site = plan("cases").with(|boot| boot.process_name = "shop".into()).serve();
    let stat = fs::read_to_string(format!("/proc/{}/stat", site.pid())).unwrap();
    let parent = stat.rsplit(')').next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(parent, std::process::id().to_string());
    let title = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(title(site.pid()).trim_end_matches('\0'), "ostler: worker g1.0 [shop]");
    assert_eq!(title(site.template_pid() as i32).trim_end_matches('\0'), "ostler: template g1 [shop]");
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", site.pid())).unwrap(), "ostler g1.0\n");
    site.get("/hello");
    let slot = site.scoreboard().slot(0);
    assert_eq!(slot.pid.load(Relaxed), site.pid());
    assert_ne!(slot.state(), WorkerState::Booting);
}

#[test]
fn signals_that_are_the_masters_business_do_nothing() {
    let site = plan("cases").serve();
    for signal in ["INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "TTIN", "TTOU"] {
        let signal: Signal = format!("SIG{signal}").parse().unwrap();
        kill(Pid::from_raw(site.pid()), signal).unwrap();
        kill(Pid::from_raw(site.template_pid() as i32), signal).unwrap();
    }
    kill(Pid::from_raw(site.template_pid() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(site.get("/hello").body, "hello");
    kill(Pid::from_raw(site.pid()), Signal::SIGTERM).unwrap();
    assert!(matches!(site.hear(), Some(FromWorker::Replace(Recycle::Signal))));
}

#[test]
fn stacks_are_had_while_the_interpreter_lock_is_held() {
    for python in pythons() {
        let site = plan("cases").python(&python).serve();
        std::thread::scope(|scope| {
            let call = scope.spawn(|| site.get("/locked?100000000").body);
            site.log("about to hold the lock");
            // Twice: the first must not spoil the second.
            for _ in 0..2 {
                site.tell(ToWorker::Stacks);
                let Some(FromWorker::Stacks(stacks)) = site.hear() else { panic!("no stacks") };
                assert!(stacks.contains("in locked") && stacks.contains("cases.py"), "{stacks}");
            }
            assert!(!call.is_finished(), "the stacks came only after the call");
            assert_eq!(call.join().unwrap(), "hello");
        });
    }
}

#[test]
fn the_end_of_python_is_heard_out() {
    for python in pythons() {
        let mut site = plan("ending").python(&python).serve();
        site.get("/?thread");
        assert!(matches!(site.drain(Duration::from_secs(20)), WaitStatus::Exited(_, 0)));
        let log = site.log("atexit was called");
        assert!(log.contains("the thread has ended"), "{log}");
    }
}

#[test]
fn the_end_of_python_has_a_bound() {
    let mut site = plan("ending").serve();
    site.get("/?hang");
    let began = Instant::now();
    assert!(matches!(site.drain(Duration::from_secs(1)), WaitStatus::Exited(_, 1)));
    assert!(began.elapsed() < Duration::from_secs(10));
    site.log("worker did not end in time");
    site.log("threading.py");
}

#[test]
fn a_worker_that_is_told_to_quit_does_not_wait_for_anything() {
    let mut site = plan("ending").serve();
    site.get("/?hang");
    site.tell(ToWorker::Quit);
    assert!(matches!(site.wait(), WaitStatus::Exited(_, 0)));
}

#[test]
fn several_threads_call_at_once() {
    let site = plan("cases").with(|boot| boot.worker.threads = 3).serve();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(site.get("/hello").body, "hello");
                    let seen = site.get("/identity").body;
                    assert!(seen.starts_with(&site.pid().to_string()), "{seen}");
                }
            });
        }
    });
}

#[test]
fn a_crash_leaves_its_python_stack_in_the_log() {
    let mut site = plan("cases").serve();
    let answer = site.get("/crash");
    assert_eq!(answer.status(), 0, "{answer:?}");
    assert!(matches!(site.wait(), WaitStatus::Signaled(_, Signal::SIGSEGV, _)));
    let log = site.log("in application");
    assert!(log.contains("Fatal Python error: Segmentation fault") && log.contains(" in crash"), "{log}");
}
