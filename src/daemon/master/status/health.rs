//! What is not as it should be: `ostler status` says it first, and its exit status tells a monitor.

use super::{GenerationStatus, Status, WorkerStatus, age};

/// A site that is busy, and well, has clients that wait for a moment. In seconds.
const CROWDED_FOR: f64 = 5.0;

/// What is too long ago to be a trouble of now. In seconds.
const MINUTE: f64 = 60.0;

/// A sentence for each thing that an operator should look at; none of a site in good order. The worst first.
pub fn problems(status: &Status) -> Vec<String> {
    let serving = status.generations.iter().find(|generation| generation.stage == "serving");
    let Some(serving) = serving else {
        return status.readiness().err().into_iter().collect();
    };
    let stuck = status.site().flat_map(|generation| &generation.workers).filter_map(stuck);
    let missing = status.site().filter_map(missing);
    let nothing = serving.serves_nothing.clone().into_iter();
    nothing
        .chain(missing)
        .chain(dying(status, serving))
        .chain(stuck)
        .chain(unreachable(status))
        .chain(crowded(status))
        .chain(certificates(status))
        .chain(template(status, serving))
        .chain(failed_reload(status, serving))
        .collect()
}

/// `2 of 4 workers serve; 13 crashed, last on GET /segv HTTP/1.1; next in 0.5 s`. One that boots as it should is not missed.
fn missing(serving: &GenerationStatus) -> Option<String> {
    let serve = serving.workers.iter().filter(|worker| worker.answers()).count();
    let whose = if serving.stage == "canary" { " of the canary" } else { "" };
    (serve + serving.coming < usize::from(serving.wanted))
        .then(|| format!("{serve} of {} workers{whose} serve{}", serving.wanted, serving.trouble()))
}

/// Workers that serve, and end again and again: each is replaced at once, so that none is missed.
fn dying(status: &Status, serving: &GenerationStatus) -> Option<String> {
    let mut lost = status.events.iter().filter(|event| event.age <= MINUTE && event.text.starts_with("worker lost"));
    let (count, most) = (lost.clone().count(), usize::from(serving.wanted).saturating_mul(2).clamp(5, 20));
    (count > most).then(|| {
        let last = lost.next_back().map_or("", |event| event.text.as_str());
        format!("at least {count} workers were lost in the last minute; the last: {last}")
    })
}

fn stuck(worker: &WorkerStatus) -> Option<String> {
    let stuck = worker.stuck.as_ref()?;
    let process = worker.pid.map(|pid| format!(", process {pid},")).unwrap_or_default();
    let calls: Vec<_> = worker.doing.iter().map(|request| request.line.as_str()).collect();
    let calls = if calls.is_empty() { String::new() } else { format!(", in the call for {}", calls.join(", ")) };
    Some(format!("worker {}{process} {} for {}{calls}", worker.slot, stuck.line, age(stuck.age)))
}

/// Clients that the kernel drops, and those that wait and wait.
fn crowded(status: &Status) -> Vec<String> {
    let lasts = status.crowded.filter(|seconds| *seconds >= CROWDED_FOR);
    let queues = status.addresses.iter().zip(&status.queues);
    let crowded = |(address, queue): (&String, &super::Queue)| {
        let (waiting, room) = (queue.waiting?, queue.room?);
        let why = match lasts {
            _ if waiting >= room => "the kernel drops who comes now".to_owned(),
            Some(seconds) if waiting > 0 => format!("no worker has been idle for {}", age(seconds)),
            _ => return None,
        };
        Some(format!("{address}: {waiting} wait to be accepted, of at most {room}, and {why}"))
    };
    queues.filter_map(crowded).collect()
}

/// Certificates that nobody has renewed.
fn certificates(status: &Status) -> Vec<String> {
    let late = status.certificates.iter().filter(|certificate| certificate.is_late);
    late.map(|certificate| match certificate.expires_in {
        ends if ends > 0.0 => format!("the certificate for {} expires in {}", certificate.name, age(ends)),
        ended => format!("the certificate for {} has expired {} ago", certificate.name, age(-ended)),
    })
    .collect()
}

/// Unix sockets that clients cannot find. After a reload has made a file anew, the socket before it may still have its workers.
fn unreachable(status: &Status) -> Vec<String> {
    let found = |address| {
        let mut queues = status.addresses.iter().zip(&status.queues);
        queues.any(|(other, queue)| other == address && !queue.file_gone)
    };
    let lost =
        status.addresses.iter().zip(&status.queues).filter(|(address, queue)| queue.file_gone && !found(*address));
    lost.map(|(address, _)| {
        format!("{address}: the socket's file was removed or replaced, so that no client reaches it; `ostler reload` makes it again")
    })
    .collect()
}

fn template(status: &Status, serving: &GenerationStatus) -> Option<String> {
    let then = match status.recovers_in {
        Some(pause) => format!("a new one is started in {pause:.1} s"),
        None if serving.template.is_some() => return None,
        None => "`ostler reload` starts a new one; where there is a canary, `ostler promote` has its template fork the others".to_owned(),
    };
    Some(format!("the template is lost, so that no worker can be replaced; {then}"))
}

fn failed_reload(status: &Status, serving: &GenerationStatus) -> Option<String> {
    let failed = status.failed_reload.as_ref()?;
    let meanwhile = match serving.serves_nothing {
        Some(_) => "too".to_owned(),
        None => format!("and generation {} serves on", serving.generation),
    };
    Some(format!("the last reload failed {} ago, {meanwhile}: {}", age(failed.age), failed.reason))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems_of(changes: &[(&str, Value)], coming: u64) -> Vec<String> {
        let worker = json!({"slot": 0, "state": "busy", "doing": []});
        let generation = json!({"generation": 1, "stage": "serving", "wanted": 2, "ready": 1, "crashed": 0, "template": 7,
            "coming": coming, "workers": [worker]});
        let mut status = json!({"version": "", "pid": 1, "addresses": ["http://a:1"], "restarts": {},
            "queues": [{"waiting": 1, "room": 8}], "generations": [generation]});
        for (field, value) in changes {
            status[field] = value.clone();
        }
        problems(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn a_queue_is_told_when_it_lasts_or_is_full() {
        assert!(problems_of(&[], 1).is_empty());
        assert!(problems_of(&[("crowded", json!(4.9))], 1).is_empty());
        let said = "http://a:1: 1 wait to be accepted, of at most 8, and no worker has been idle for 7s";
        assert_eq!(problems_of(&[("crowded", json!(7.0))], 1), [said]);
        let said = "http://a:1: 8 wait to be accepted, of at most 8, and the kernel drops who comes now";
        assert_eq!(problems_of(&[("queues", json!([{"waiting": 8, "room": 8}]))], 1), [said]);
    }

    #[test]
    fn a_file_that_is_gone_is_told_unless_there_is_another() {
        let said = "http://a:1: the socket's file was removed or replaced, so that no client reaches it; `ostler reload` makes it again";
        let gone = json!({"waiting": 0, "room": 8, "file_gone": true});
        assert_eq!(problems_of(&[("queues", json!([gone]))], 1), [said]);
        let both =
            [("addresses", json!(["http://a:1", "http://a:1"])), ("queues", json!([gone, {"waiting": 0, "room": 8}]))];
        assert!(problems_of(&both, 1).is_empty());
    }

    #[test]
    fn workers_that_are_lost_again_and_again_are_told() {
        let lost = |count, age: f64| {
            let event = json!({"age": age, "level": "error", "text": "worker lost: g1.0"});
            problems_of(&[("events", json!(vec![event; count]))], 1)
        };
        assert!(lost(5, 1.0).is_empty() && lost(50, 61.0).is_empty());
        assert_eq!(lost(6, 59.0), ["at least 6 workers were lost in the last minute; the last: worker lost: g1.0"]);
    }

    #[test]
    fn a_worker_that_boots_as_it_should_is_not_missed() {
        assert!(problems_of(&[], 1).is_empty());
        assert_eq!(problems_of(&[], 0), ["1 of 2 workers serve"]);
    }

    #[test]
    fn a_canary_is_part_of_the_site() {
        let of = |stage: &str, worker: Value| json!({"generation": 1, "stage": stage, "wanted": 1, "ready": 1, "crashed": 0, "coming": 0, "template": 7, "workers": [worker]});
        let (good, stopped) = (
            json!({"slot": 0, "state": "idle", "doing": []}),
            json!({"slot": 1, "state": "idle",
            "doing": [], "stuck": {"line": "stopped by a signal", "age": 2.0}}),
        );
        let site =
            [("generations", json!([of("serving", good), of("canary", stopped.clone()), of("draining", stopped)]))];
        assert_eq!(
            problems_of(&site, 0),
            ["0 of 1 workers of the canary serve", "worker 1 stopped by a signal for 2s"]
        );
    }
}
