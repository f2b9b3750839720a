//! What is not as it should be: `ostler status` says it first, and its exit status tells a monitor.

use super::{GenerationStatus, Status, WorkerStatus, age};

/// A sentence for each thing that an operator should look at; none of a site in good order. The worst first.
pub fn problems(status: &Status) -> Vec<String> {
    let serving = status.generations.iter().find(|generation| generation.stage == "serving");
    let Some(serving) = serving else {
        return status.readiness().err().into_iter().collect();
    };
    let stuck = serving.workers.iter().filter_map(stuck);
    let missing = missing(serving).into_iter();
    let nothing = serving.serves_nothing.clone().into_iter();
    nothing
        .chain(missing)
        .chain(stuck)
        .chain(crowded(status, serving))
        .chain(template(status))
        .chain(failed_reload(status, serving))
        .collect()
}

/// `2 of 4 workers serve; 13 crashed, last on GET /segv HTTP/1.1; next in 0.5 s`
fn missing(serving: &GenerationStatus) -> Option<String> {
    let serve = serving.workers.iter().filter(|worker| worker.answers()).count();
    (serve < usize::from(serving.wanted))
        .then(|| format!("{serve} of {} workers serve{}", serving.wanted, serving.trouble()))
}

fn stuck(worker: &WorkerStatus) -> Option<String> {
    let stuck = worker.stuck.as_ref()?;
    let process = worker.pid.map(|pid| format!(", process {pid},")).unwrap_or_default();
    let calls: Vec<_> = worker.doing.iter().map(|request| request.line.as_str()).collect();
    let calls = if calls.is_empty() { String::new() } else { format!(", in the call for {}", calls.join(", ")) };
    Some(format!("worker {}{process} {} for {}{calls}", worker.slot, stuck.line, age(stuck.age)))
}

/// Clients that wait while every worker is at work.
fn crowded(status: &Status, serving: &GenerationStatus) -> Vec<String> {
    let idle = serving.workers.iter().any(|worker| worker.state == "idle");
    let queues = status.addresses.iter().zip(&status.queues);
    let crowded = |(address, queue): (&String, &super::Queue)| {
        let (waiting, room) = (queue.waiting?, queue.room?);
        let why = match idle {
            _ if waiting >= room => "the kernel drops who comes now",
            false if waiting > 0 => "no worker is idle",
            _ => return None,
        };
        Some(format!("{address}: {waiting} wait to be accepted, of at most {room}, and {why}"))
    };
    queues.filter_map(crowded).collect()
}

fn template(status: &Status) -> Option<String> {
    let pause = status.recovers_in?;
    Some(format!("the template is lost, so that no worker can be replaced; a new one is started in {pause:.1} s"))
}

fn failed_reload(status: &Status, serving: &GenerationStatus) -> Option<String> {
    let failed = status.failed_reload.as_ref()?;
    let meanwhile = match serving.serves_nothing {
        Some(_) => "too".to_owned(),
        None => format!("and generation {} serves on", serving.generation),
    };
    Some(format!("the last reload failed {} ago, {meanwhile}: {}", age(failed.age), failed.reason))
}
