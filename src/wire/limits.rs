//! The limits behind what the system refuses or kills: which there are, and how high. They are read from files of the kernel. A limit
//! that cannot be read is left out.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit},
};
use serde::{Deserialize, Serialize};

/// Where control groups are mounted: each controller by itself (version 1), all of them, or those that version 1 leaves.
const MOUNT: &str = "/sys/fs/cgroup";

/// The system's words and the limits that may be behind them: `resource temporarily unavailable; pids.max of … is 20`.
pub fn explain(error: &io::Error) -> String {
    let words = error.to_string().to_lowercase();
    let words = words.split(" (os error").next().unwrap_or_default().to_owned();
    let limits = match error.raw_os_error().map(Errno::from_raw) {
        // fork(2) and pthread_create(3)
        Some(Errno::EAGAIN) => processes(),
        Some(Errno::EMFILE) => of_process(Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE").into_iter().collect(),
        Some(Errno::ENFILE) => of_system("fs/file-max").into_iter().collect(),
        Some(Errno::EFBIG) => of_process(Resource::RLIMIT_FSIZE, "RLIMIT_FSIZE").into_iter().collect(),
        Some(Errno::ENOMEM) => of_process(Resource::RLIMIT_AS, "RLIMIT_AS").into_iter().chain(memory()).collect(),
        _ => Vec::new(),
    };
    match limits.is_empty() {
        true => words,
        false => format!("{words}; {}", limits.join(", ")),
    }
}

/// `memory.max of /sys/fs/cgroup/site is 104857600`, of the nearest group that has such a limit.
pub fn memory() -> Option<String> {
    memory_of_groups().next().map(|(_, limit)| limit)
}

/// How many bytes of memory all processes of the site may have together at most, and which limit says so.
pub fn most_memory() -> Option<(u64, String)> {
    memory_of_groups().chain(memory_of_machine()).min()
}

/// A limit of memory, and what is left below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLeft {
    /// In bytes.
    pub limit: u64,
    /// `memory.max of /sys/fs/cgroup/site is 104857600`
    pub which: String,
    /// In bytes; what the kernel keeps of files and can drop counts as free.
    pub free: u64,
}

/// How much memory the processes of the site may have besides what they have: where least is left. May take some milliseconds.
pub fn memory_left() -> Option<MemoryLeft> {
    let of_group = |group: PathBuf| {
        let (limit, which) = memory_of_group(&group)?;
        let number = |name: &str| read(&group.join(name))?.parse::<u64>().ok();
        let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
        let statistics = read(&group.join("memory.stat")).unwrap_or_default();
        // Version 1 counts those of the groups below by another name.
        let file = |name: &str| statistics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let files = file("total_inactive_file ").or_else(|| file("inactive_file ")).unwrap_or(0);
        Some(MemoryLeft { limit, which, free: limit.saturating_sub(used.saturating_sub(files)) })
    };
    let of_machine = || {
        let (limit, which) = memory_of_machine()?;
        Some(MemoryLeft { limit, which, free: machine_has("MemAvailable:")? })
    };
    groups("memory").into_iter().filter_map(of_group).chain(of_machine()).min_by_key(|left| left.free)
}

/// For what share of the last 10 s, from 0 to 1, somebody waited for `cpu`, `memory` or `io`: in the nearest control group that knows, else on
/// the machine. See the kernel's Documentation/accounting/psi.rst.
pub fn pressure(resource: &str) -> Option<f64> {
    let name = format!("{resource}.pressure");
    let groups = groups("memory").into_iter().map(|group| group.join(&name));
    let mut files = groups.chain([PathBuf::from("/proc/pressure").join(resource)]);
    let text = files.find_map(|file| read(&file))?;
    share_of_some(&text)
}

/// `some avg10=9.59 avg60=3.84 avg300=5.93 total=31897113921`: in percent.
fn share_of_some(text: &str) -> Option<f64> {
    let (average, _) = text.lines().find_map(|line| line.strip_prefix("some avg10="))?.split_once(' ')?;
    Some((average.parse::<f64>().ok()? / 100.0).clamp(0.0, 1.0))
}

/// The control groups' limits of memory, the nearest first.
fn memory_of_groups() -> impl Iterator<Item = (u64, String)> {
    groups("memory").into_iter().filter_map(|group| memory_of_group(&group))
}

fn memory_of_group(group: &Path) -> Option<(u64, String)> {
    let file = |name: &'static str| Some((name, read(&group.join(name))?));
    let (name, limit) = file("memory.max").or_else(|| file("memory.limit_in_bytes"))?;
    // `max` in version 2, nearly 2^63 in version 1.
    let limit = limit.parse().ok().filter(|bytes: &u64| *bytes <= 1 << 60)?;
    Some((limit, format!("{name} of {} is {limit}", group.display())))
}

/// proc_meminfo(5)
fn memory_of_machine() -> Option<(u64, String)> {
    let bytes = machine_has("MemTotal:")?;
    Some((bytes, format!("the memory of this machine is {bytes}")))
}

fn machine_has(what: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let found = text.lines().find_map(|line| line.strip_prefix(what)?.strip_suffix("kB"))?;
    Some(found.trim().parse::<u64>().ok()? << 10)
}

/// Of the limits on processes and threads those that are reached, as far as the kernel tells; all of them if it tells of none.
fn processes() -> Vec<String> {
    let of = |group: PathBuf| {
        let limit = read(&group.join("pids.max")).filter(|limit| limit != "max")?;
        let there: u64 = read(&group.join("pids.current"))?.parse().ok()?;
        let reached = limit.parse().is_ok_and(|limit: u64| there >= limit);
        Some((reached, format!("pids.max of {} is {limit}, and {there} are there", group.display())))
    };
    let (reached, others): (Vec<_>, Vec<_>) =
        groups("pids").into_iter().filter_map(of).partition(|(reached, _)| *reached);
    if !reached.is_empty() {
        return reached.into_iter().map(|(_, text)| text).collect();
    }
    let user = of_process(Resource::RLIMIT_NPROC, "RLIMIT_NPROC");
    let user = user.map(|text| format!("{text} for user {}", nix::unistd::getuid()));
    let system = of_system("kernel/threads-max").into_iter().chain(of_system("kernel/pid_max"));
    user.into_iter().chain(others.into_iter().map(|(_, text)| text)).chain(system).collect()
}

/// How many processes and threads there may be of `user` and in the control groups of this process at most, and which limit says so.
pub fn most_tasks(user: u32) -> Option<(u64, String)> {
    let of_group = |group: PathBuf| {
        let most = read(&group.join("pids.max"))?.parse().ok()?;
        Some((most, format!("pids.max of {} is {most}", group.display())))
    };
    // setrlimit(2): not enforced for root.
    let of_user = limit(Resource::RLIMIT_NPROC).filter(|_| user != 0);
    let of_user = of_user.map(|most| (most, format!("RLIMIT_NPROC is {most} for user {user}")));
    let system = of_system("kernel/threads-max").and_then(|text| Some((text.rsplit(' ').next()?.parse().ok()?, text)));
    groups("pids").into_iter().filter_map(of_group).chain(of_user).chain(system).min()
}

/// How many descriptors a process can have: the hard limit, to which the master raises the soft one.
pub fn most_descriptors() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard)
}

/// Descriptors that are neither a connection nor a spool file: the worker's own and the application's.
const OTHER_DESCRIPTORS: u64 = 64;

/// How many of a worker's descriptors are for connections and spool files.
pub fn for_clients(descriptors: u64) -> u64 {
    descriptors.saturating_sub(OTHER_DESCRIPTORS).max(descriptors / 2).max(1)
}

/// How many of those are for connections: an eighth is for what they spool.
pub fn for_connections(for_clients: u64) -> u64 {
    for_clients - for_clients / 8
}

/// How many bytes of addresses a process may have.
pub fn address_space() -> Option<u64> {
    limit(Resource::RLIMIT_AS)
}

/// The stack of a Python thread where the limit is none.
const UNLIMITED_STACK: u64 = 64 << 20;
/// Even if the limit is less: the server's own code needs some.
const SMALLEST_STACK: u64 = 2 << 20;
/// Even if the limit is more: many threads have to find room.
const LARGEST_STACK: u64 = 1 << 30;

/// The stack of a thread that calls the application: what one that Python starts would have, as much as the main thread may have, within
/// reason. Memory that is not used is not allocated.
pub fn thread_stack() -> u64 {
    limit(Resource::RLIMIT_STACK).unwrap_or(UNLIMITED_STACK).clamp(SMALLEST_STACK, LARGEST_STACK)
}

fn limit(resource: Resource) -> Option<u64> {
    let (limit, _) = getrlimit(resource).ok()?;
    (limit != nix::sys::resource::RLIM_INFINITY).then_some(limit)
}

fn of_process(resource: Resource, name: &str) -> Option<String> {
    limit(resource).map(|limit| format!("{name} is {limit}"))
}

fn of_system(name: &str) -> Option<String> {
    Some(format!("/proc/sys/{name} is {}", read(&PathBuf::from("/proc/sys").join(name))?))
}

/// The control groups of this process that have such files, the nearest first (cgroups(7)). In a container its own may be
/// mounted as if it were the root.
pub fn groups(controller: &str) -> Vec<PathBuf> {
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for line in ours.lines() {
        // `4:memory:/path` of version 1, `0::/path` of version 2
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let mounts: &[&str] = match controllers {
            "" => &["", "unified"],
            several if several.split(',').any(|one| one == controller) => &[several, controller],
            _ => continue,
        };
        for mount in mounts.iter().map(|mount| PathBuf::from(MOUNT).join(mount)) {
            let own = mount.join(path.trim_start_matches('/'));
            found.extend(own.ancestors().take_while(|group| group.starts_with(&mount)).map(PathBuf::from));
        }
    }
    let has_such = |group: &PathBuf| match controller {
        "pids" => group.join("pids.max").exists(),
        _ => group.join("memory.events").exists() || group.join("memory.oom_control").exists(),
    };
    found.retain(has_such);
    found
}

fn read(path: &PathBuf) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_its_limit() {
        let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let explained = explain(&io::Error::from_raw_os_error(libc_number(Errno::EMFILE)));
        assert_eq!(explained, format!("too many open files; RLIMIT_NOFILE is {files}"));
        let explained = explain(&io::Error::from_raw_os_error(libc_number(Errno::EAGAIN)));
        assert!(explained.starts_with("resource temporarily unavailable; "), "{explained}");
        assert_eq!(explain(&io::Error::other("Gone")), "gone");
    }

    #[test]
    fn pressure_is_a_share() {
        let text =
            "some avg10=9.50 avg60=3.84 avg300=5.93 total=31897113921\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0";
        assert_eq!(share_of_some(text), Some(0.095));
        assert_eq!(share_of_some(""), None);
        let left = memory_left().expect("each machine has memory");
        assert!(0 < left.free && left.free <= left.limit, "{left:?}");
    }

    fn libc_number(error: Errno) -> i32 {
        error as i32
    }
}
