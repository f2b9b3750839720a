//! Whether the machine has room for what the site is set to: descriptors, queues, memory, processes.

use std::time::Duration;

use ostler_wire::limits;

use super::{finding, listed, size};
use crate::{
    master::{
        doctor::{Finding, facts::Facts},
        sampling::Memory,
    },
    sys::process::Ending,
};

/// Fewer descriptors than connections.
pub fn descriptors(facts: &Facts) -> Option<Finding> {
    let least = facts.each_worker().filter_map(|worker| Some((worker.descriptors?, worker.pid)));
    let (descriptors, pid) = least.min()?;
    let (wanted, most) = (facts.worker.connections, limits::for_connections(limits::for_clients(descriptors)));
    (u64::from(wanted) > most).then(|| {
        finding(
            format!("A worker may hold {wanted} connections, but has descriptors for {most} only."),
            format!("--worker-connections is {wanted}; \"Max open files\" of /proc/{pid}/limits is {descriptors}"),
            "Raise the limit (LimitNOFILE= of a unit, `ulimit -Hn`, --ulimit of a container) and restart, or lower --worker-connections.",
        )
    })
}

/// Shorter queues than were asked for.
pub fn backlog(facts: &Facts) -> Option<Finding> {
    let shorter = |room: &u64| *room < facts.backlog;
    let rooms = facts.listeners.iter().filter_map(|listener| Some((listener.room.filter(shorter)?, &listener.name)));
    let (room, name) = rooms.min()?;
    let somaxconn = facts.somaxconn.filter(shorter);
    let said = facts.somaxconn.map(|most| format!("; /proc/sys/net/core/somaxconn is {most}"));
    Some(finding(
        format!("Only {room} clients can wait at {name} to be accepted, not {}.", facts.backlog),
        format!(
            "--backlog is {}, and the kernel's queue has room for {room}{}",
            facts.backlog,
            said.unwrap_or_default()
        ),
        match somaxconn {
            Some(_) => {
                "Raise net.core.somaxconn with sysctl (in a container, for the container) and restart, or lower --backlog."
            }
            None => "Restart, or have who has made the socket give it a longer queue (Backlog= of a socket unit).",
        },
    ))
}

fn sum(facts: &Facts, part: fn(Memory) -> u64) -> u64 {
    facts.processes.iter().filter_map(|process| process.memory).map(part).sum()
}

/// The bounds of all workers together are above the limit.
pub fn memory(facts: &Facts) -> Option<Finding> {
    let (limit, where_from) = facts.most_memory.as_ref()?;
    let (workers, each) = (facts.workers, facts.worker.max_memory);
    let together = workers.saturating_mul(each);
    (together > *limit).then(|| {
        finding(
            format!(
                "The workers may take {} before one is replaced, and there are {}.",
                size(together),
                size(*limit)
            ),
            format!("--workers is {workers}, --max-memory is {each}; {where_from}"),
            "Lower --max-memory or --workers, or raise the limit: the kernel kills a worker in the middle of its requests.",
        )
    })
}

/// While a reload is under way, two generations are there.
pub fn memory_of_a_reload(facts: &Facts) -> Option<Finding> {
    let (limit, where_from) = facts.most_memory.as_ref()?;
    let (now, new) = (sum(facts, |memory| memory.proportional), sum(facts, |memory| memory.private));
    (now + new > *limit).then(|| {
        finding(
            format!("A reload needs some {}, and there are {}.", size(now + new), size(*limit)),
            format!(
                "Pss of /proc/PID/smaps_rollup of template and workers is {now} together, and what a second generation needs \
                 for itself {new}; {where_from}"
            ),
            "Lower --workers, or raise the limit. --preload=on shares what the import takes.",
        )
    })
}

/// It has happened.
pub fn killed(facts: &Facts) -> Option<Finding> {
    let count = facts.restarts.get(&Ending::OutOfMemory.to_string()).copied()?;
    (count > 0).then(|| {
        let limit = facts.most_memory.as_ref().map(|(_, where_from)| format!("; {where_from}"));
        finding(
            format!("The kernel has killed {count} worker{} for want of memory.", if count == 1 { "" } else { "s" }),
            format!("`ostler status` counts {count} since the start{}", limit.unwrap_or_default()),
            "Set --max-memory, so that a worker is replaced before; lower --workers, or raise the limit.",
        )
    })
}

/// Why workers are replaced in a site in good order.
const PLANNED: [&str; 6] = ["max-requests", "max-memory", "max-age", "recycle", "refork", "SIGTERM"];

/// Workers that hung or crashed, and had requests.
pub fn lost(facts: &Facts) -> Option<Finding> {
    let of_memory = Ending::OutOfMemory.to_string();
    let lost = facts.restarts.iter().filter(|(cause, _)| !PLANNED.contains(&cause.as_str()) && **cause != of_memory);
    let lost: Vec<_> = lost.map(|(cause, count)| format!("{cause} {count}")).collect();
    (!lost.is_empty()).then(|| {
        finding(
            "Workers had to be replaced because they hung or crashed, and clients saw it.",
            format!("`ostler status` counts since the start: {}", lost.join(", ")),
            "The error log has the request of each, and the stacks of calls that ran into --timeout.",
        )
    })
}

/// So many of a hundred requests wait for a thread, and for so long, where there are too few.
const WAITS: u64 = 10;
const LONG: Duration = Duration::from_millis(100);

/// The site is too small for its load.
pub fn waits(facts: &Facts) -> Option<Finding> {
    let (waits, requests) = (facts.waits, facts.requests);
    let each = facts.waited.checked_div(u32::try_from(waits).unwrap_or(u32::MAX))?;
    let many = u128::from(waits) * 100 >= u128::from(requests) * u128::from(WAITS);
    (many && each >= LONG).then(|| {
        finding(
            format!("{waits} of {requests} requests had to wait for a thread, for {} ms on average.", each.as_millis()),
            "ostler_request_waits_total and ostler_request_wait_seconds_total since the start",
            "Raise --threads if calls wait for others, or --workers if they compute; `ostler requests` shows what lasts.",
        )
    })
}

/// Processes and threads of two generations.
pub fn tasks(facts: &Facts) -> Option<Finding> {
    let (most, where_from) = facts.most_tasks.as_ref()?;
    let (workers, threads) = (facts.workers, u64::from(facts.worker.threads));
    // Each worker has a stand-by, each generation a template, and there is the master.
    let both = 2 * (workers * (threads + 1) + 1) + 1;
    (both > *most).then(|| {
        finding(
            format!("A reload needs {both} processes and threads, and there may be {most}."),
            format!(
                "--workers is {workers}, --threads is {threads}, and both generations run for a while; {where_from}"
            ),
            "Raise the limit (TasksMax= of a unit, --pids-limit of a container), or lower --threads.",
        )
    })
}

/// More workers for a processor than help.
const WORKERS: u64 = 8;
/// The same of threads.
const THREADS: u64 = 256;

/// Many more than the processors can run.
pub fn processors(facts: &Facts) -> Option<Finding> {
    let processors = facts.processors?;
    let (workers, threads) = (facts.workers, u64::from(facts.worker.threads));
    let too_many: Vec<_> = [
        (workers > WORKERS * processors).then(|| format!("{workers} workers")),
        (workers * threads > THREADS * processors).then(|| format!("{} threads", workers * threads)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let s = if processors == 1 { "" } else { "s" };
    (!too_many.is_empty()).then(|| {
        finding(
            format!("{} share {processors} processor{s}.", listed(&too_many)),
            format!("--workers is {workers}, --threads is {threads}; sched_getaffinity(2) and the cgroup's quota give {processors}"),
            "They slow each other down under load. For calls that mostly wait, fewer workers with some threads take less memory.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::found, *};

    fn limit(bytes: u64) -> Option<(u64, String)> {
        Some((bytes, format!("memory.max of /group is {bytes}")))
    }

    #[test]
    fn the_worker_with_the_fewest_descriptors_is_found() {
        let told = found(descriptors, |facts| facts.processes[1].descriptors = Some(1024)).unwrap();
        assert_eq!(told.what, "A worker may hold 10000 connections, but has descriptors for 840 only.");
        assert_eq!(told.evidence, "--worker-connections is 10000; \"Max open files\" of /proc/101/limits is 1024");
    }

    #[test]
    fn a_queue_is_short_by_the_kernel_s_limit_or_by_who_made_it() {
        let short = |somaxconn| {
            found(backlog, |facts| {
                facts.somaxconn = somaxconn;
                facts.listeners[0].room = Some(128);
            })
            .unwrap()
        };
        let by_kernel = short(Some(128));
        assert!(by_kernel.evidence.ends_with("room for 128; /proc/sys/net/core/somaxconn is 128"), "{by_kernel:?}");
        assert!(by_kernel.advice.starts_with("Raise net.core.somaxconn "));
        assert!(short(Some(4096)).advice.starts_with("Restart, "));
    }

    #[test]
    fn bounds_of_memory_that_do_not_fit_are_found() {
        let told = found(memory, |facts| {
            facts.worker.max_memory = 1 << 30;
            facts.most_memory = limit((2 << 30) - 1);
        });
        assert!(told.unwrap().what.starts_with("The workers may take 2.0 GiB "));
        let fits = found(memory, |facts| {
            facts.worker.max_memory = 1 << 30;
            facts.most_memory = limit(2 << 30);
        });
        assert_eq!(fits, None);
    }

    #[test]
    fn a_reload_needs_the_private_memory_once_more() {
        let with = |most: u64| {
            found(memory_of_a_reload, |facts| {
                let memory = Memory { shared: 50, private: 40, proportional: 60, peak: 40 };
                facts.processes.iter_mut().for_each(|process| process.memory = Some(memory));
                facts.most_memory = limit(most);
            })
        };
        assert!(with(199).unwrap().what.starts_with("A reload needs some 200 bytes"));
        assert_eq!(with(200), None);
    }

    #[test]
    fn workers_that_were_killed_are_counted() {
        let told = found(killed, |facts| {
            facts.restarts.insert(Ending::OutOfMemory.to_string(), 1);
            facts.most_memory = limit(7);
        });
        let told = told.unwrap();
        assert_eq!(told.what, "The kernel has killed 1 worker for want of memory.");
        assert_eq!(told.evidence, "`ostler status` counts 1 since the start; memory.max of /group is 7");
    }

    #[test]
    fn only_workers_that_nobody_replaced_on_purpose_are_lost() {
        let with = |cause: String| found(lost, |facts| facts.restarts = [(cause, 3)].into());
        let evidence = "`ostler status` counts since the start: timeout 3";
        assert_eq!(with("timeout".into()).unwrap().evidence, evidence);
        assert_eq!((with("max-memory".into()), with(Ending::OutOfMemory.to_string())), (None, None));
    }

    #[test]
    fn requests_wait_if_many_do_and_for_long() {
        let with = |waits, milliseconds| {
            found(super::waits, |facts| (facts.waits, facts.waited) = (waits, Duration::from_millis(milliseconds)))
        };
        let what = "100 of 1000 requests had to wait for a thread, for 100 ms on average.";
        assert_eq!(with(100, 10_000).unwrap().what, what);
        assert_eq!((with(99, 99_000), with(100, 9999)), (None, None));
    }

    #[test]
    fn tasks_of_two_generations_have_to_fit() {
        let with = |most: u64| found(tasks, |facts| facts.most_tasks = Some((most, "pids.max of /group".into())));
        assert!(with(10).unwrap().what.starts_with("A reload needs 11 processes and threads"));
        assert_eq!(with(11), None);
    }

    #[test]
    fn too_many_for_the_processors_are_found() {
        assert_eq!(found(processors, |facts| facts.workers = 17).unwrap().what, "17 workers share 2 processors.");
        let threads = found(processors, |facts| facts.worker.threads = 257).unwrap();
        assert_eq!(threads.what, "514 threads share 2 processors.");
    }
}
