//! If the system refuses something or kills a process, the log names the limit behind it. Tests that need control groups print that
//! they were skipped where none can be made.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ostler_tests::{Rig, built};

const GREEDY: &str = "
def application(environ, start_response):
    if environ['PATH_INFO'] == '/greedy':
        held = [bytearray(b'x' * 2**20) for _ in range(2**12)]
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'modest']
";

/// How many groups the tests of this process have made: each has a name of its own.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A control group of this test's own, which has a limit.
struct Group(PathBuf);

impl Group {
    /// A group with one controller; none if it cannot be made.
    fn new(controller: &str, limit: &str) -> Option<Group> {
        let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let within = |line: &str| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let mount = match controllers {
                "" => PathBuf::from("/sys/fs/cgroup"),
                found if found.split(',').any(|one| one == controller) => Path::new("/sys/fs/cgroup").join(found),
                _ => return None,
            };
            let name = format!("ostler-{controller}-{}-{}", std::process::id(), MADE.fetch_add(1, Relaxed));
            let group = mount.join(path.trim_start_matches('/')).join(name);
            fs::create_dir(&group).ok()?;
            let group = Group(group);
            group.0.join(limit).exists().then_some(group)
        };
        let made = ours.lines().find_map(within);
        if made.is_none() {
            eprintln!("NOT TESTED: no control group with {limit} can be made here");
        }
        made
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.0.join(name), value).expect("the group is ours");
    }

    /// Has the rig's daemon start within it.
    fn rig(&self, rig: Rig) -> Rig {
        let script = format!(
            "#!/bin/sh\necho $$ >'{}/cgroup.procs' && exec '{}' \"$@\"\n",
            self.0.display(),
            built("ostler").display()
        );
        let start = rig.folder().write("start", &script);
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).expect("a private folder is writable");
        rig.executable(start)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_worker_that_the_kernel_killed_for_memory_is_told_from_one_that_somebody_killed() {
    let memory = Group::new("memory", "memory.limit_in_bytes").map(|group| (group, "memory.limit_in_bytes"));
    let Some((group, limit)) = memory.or_else(|| Some((Group::new("memory", "memory.max")?, "memory.max"))) else {
        return;
    };
    group.set(limit, "200M");
    let mut site = group.rig(Rig::with_source(GREEDY)).start();
    kill(Pid::from_raw(site.log("worker ready").number("pid")), Signal::SIGKILL).expect("it lives");
    let lost = site.log("worker lost");
    assert!(lost.text().contains("not by the kernel for want of memory"), "{}", lost.text());
    site.log("worker ready");
    site.connect().ask("/greedy");
    let lost = site.log("worker lost");
    let expected = format!("SIGKILL by the kernel, for want of memory ({limit} of {} is 209715200)", group.0.display());
    assert!(lost.text().contains(&expected), "{}", lost.text());
    site.log("worker ready");
    assert_eq!(site.get("/").text(), "modest");
    site.stop();
}

#[test]
fn a_fork_that_is_refused_names_the_limit_and_its_value() {
    let Some(group) = Group::new("pids", "pids.max") else { return };
    let mut site = group.rig(Rig::with_source(GREEDY)).start();
    let there = fs::read_to_string(group.0.join("pids.current")).expect("the group is ours");
    group.set("pids.max", there.trim());
    site.signal(Signal::SIGTTIN);
    let failed = site.log("fork failed");
    let expected = format!("pids.max of {} is {}, and ", group.0.display(), there.trim());
    assert!(failed.text().contains(&expected), "{}", failed.text());
    group.set("pids.max", "max");
    site.log("worker ready");
    site.log("worker ready");
    site.stop();
}

#[test]
fn threads_that_have_no_room_are_refused_at_the_start() {
    let rig = Rig::with_source(GREEDY);
    let script = format!("#!/bin/sh\nulimit -s 8192; ulimit -v 4000000; exec '{}' \"$@\"\n", built("ostler").display());
    let start = rig.folder().write("start", &script);
    fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).expect("a private folder is writable");
    rig.executable(start)
        .flag("--threads=1000")
        .refuse()
        .says(2, &["--threads: the stacks of 1000 take 8380219392 bytes, but RLIMIT_AS is 4096000000"]);
    let Some(group) = Group::new("pids", "pids.max") else { return };
    group.set("pids.max", "50");
    let expected = format!("make 70 processes and threads, but pids.max of {} is 50", group.0.display());
    group
        .rig(Rig::with_source(GREEDY))
        .flag("--workers=4")
        .flag("--threads=16")
        .refuse()
        .says(2, &["--threads: --workers=4 with 16 each", &expected]);
}

#[test]
fn an_import_that_the_kernel_ends_for_memory_says_so() {
    let memory = Group::new("memory", "memory.limit_in_bytes").map(|group| (group, "memory.limit_in_bytes"));
    let Some((group, limit)) = memory.or_else(|| Some((Group::new("memory", "memory.max")?, "memory.max"))) else {
        return;
    };
    group.set(limit, "100M");
    let greedy = "held = [bytearray(b'x' * 2**20) for _ in range(2**12)]\n";
    group
        .rig(Rig::with_source(greedy))
        .refuse()
        .says(10, &["while importing", "SIGKILL by the kernel, for want of memory"]);
}

#[test]
fn a_limit_on_files_that_leaves_no_room_for_shared_memory_is_named() {
    let rig = Rig::with_source(GREEDY).limited("ulimit -f 100");
    rig.refuse().says(14, &["could not make a scoreboard: file too large; RLIMIT_FSIZE is "]);
}

#[test]
fn more_connections_than_descriptors_are_named_at_the_start() {
    let rig = Rig::with_source(GREEDY).limited("ulimit -n 256").flag("--worker-connections=300");
    let mut site = rig.start();
    let named = site.log("setting out of reach");
    let expected = "--worker-connections: a worker has descriptors for 168 connections, not 300: RLIMIT_NOFILE is 256";
    assert!(named.text().contains(expected), "{}", named.text());
    assert_eq!(site.get("/").text(), "modest");
    site.stop();
    let checked = Rig::with_source(GREEDY).limited("ulimit -n 256").flag("--worker-connections=300").run(&["check"]);
    checked.says(0, &[expected]);
    let mut site = Rig::with_source(GREEDY).limited("ulimit -n 256").start();
    assert_eq!(site.logged("setting out of reach"), 0, "nobody has asked for as many as the default");
    site.stop();
}

#[test]
fn more_memory_than_there_is_is_named_at_the_start() {
    let mut site = Rig::with_source(GREEDY).flag("--workers=3").flag("--max-memory=1000000G").start();
    let named = site.log("setting out of reach");
    let expected = "--max-memory: --workers=3 with 1073741824000000 bytes each may take 3221225472000000, but ";
    assert!(named.text().contains(expected), "{}", named.text());
    site.stop();
    let memory = Group::new("memory", "memory.limit_in_bytes").map(|group| (group, "memory.limit_in_bytes"));
    let Some((group, limit)) = memory.or_else(|| Some((Group::new("memory", "memory.max")?, "memory.max"))) else {
        return;
    };
    group.set(limit, "200M");
    let mut site = group.rig(Rig::with_source(GREEDY).flag("--workers=3").flag("--max-memory=100M")).start();
    let named = site.log("setting out of reach");
    let expected = format!("may take 314572800, but {limit} of {} is 209715200", group.0.display());
    assert!(named.text().contains(&expected), "{}", named.text());
    site.stop();
}
