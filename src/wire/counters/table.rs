//! The table itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Fact, Labels, Metric, MetricKind, MetricSource, Unit};
use crate::{
    meters::{CLASSES, LOGGED, LOGS, METHODS, Meters, OWN, REASONS},
    scoreboard::Slot,
};

/// All of them. No name is ever given a new meaning.
pub static METRICS: &[Metric] = &[
    counter(
        "ostler_requests_total",
        Unit::None,
        MetricSource::Labelled {
            field: "requests",
            labels: &[("code", &CLASSES), ("method", &METHODS)],
            read: |meters| &meters.requests,
            slot: Some(|slot| slot.requests.load(Relaxed)),
        },
        "Requests that were answered, by the application or by the server itself, by class of status and by method; none where nothing was sent.",
    ),
    counter(
        "ostler_server_answers_total",
        Unit::None,
        labelled("own", &[("code", &OWN)], |meters| &meters.own),
        "Those of them for which the application was not called, because the server answered itself, by status: refused requests (4xx), and those for which it had no room or no time (503).",
    ),
    counter(
        "ostler_static_answers_total",
        Unit::None,
        MetricSource::Meter { field: "files", read: |meters| &meters.files },
        "Those of them that were answered with a file of --static, or with that the client has it already; with --static-only, also with that there is none.",
    ),
    counter(
        "ostler_request_errors_total",
        Unit::None,
        slot("errors", |slot| slot.errors.load(Relaxed)),
        "Requests that were answered with 5xx.",
    ),
    counter(
        "ostler_responses_broken_total",
        Unit::None,
        MetricSource::Meter { field: "broken", read: |meters| &meters.broken },
        "Answers below 500 that the application has begun and not finished: it raised an exception after their head was sent, or their body is shorter than their Content-Length. Those whose client left are not among them.",
    ),
    counter(
        "ostler_requests_refused_total",
        Unit::None,
        slot("refused", |slot| slot.refused.load(Relaxed)),
        "Requests that the server refused for what was wrong with their bytes.",
    ),
    counter(
        "ostler_forwarded_ignored_total",
        Unit::None,
        slot("unbelieved", |slot| slot.unbelieved.load(Relaxed)),
        "Requests whose forwarding fields were ignored, because their peer is not trusted.",
    ),
    counter(
        "ostler_request_waits_total",
        Unit::None,
        slot("waits", |slot| slot.waits.load(Relaxed)),
        "Requests that waited for a Python thread.",
    ),
    counter(
        "ostler_request_wait_seconds_total",
        Unit::Seconds,
        slot("waited", |slot| slot.waited.load(Relaxed)),
        "How long requests waited for a Python thread, taken together.",
    ),
    Metric {
        name: "ostler_request_queue_seconds",
        help: "How long requests waited for their calls: since a proxy in front took them, where it is trusted to say so (X-Request-Start); else since the worker saw that they had come, and for a new TCP connection whose bytes have waited in the listener's queue, since they came. A wait there of less than 10 ms counts as none, as does any on a Unix socket or within a connection: the kernel does not say.",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        place: MetricSource::Times { field: "queue", read: |meters| &meters.queue },
    },
    Metric {
        name: "ostler_request_duration_seconds",
        help: "How long requests were in the application.",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        place: MetricSource::Times { field: "duration", read: |meters| &meters.duration },
    },
    gauge(
        "ostler_requests_queued",
        Unit::None,
        slot("queued", |slot| slot.queued.load(Relaxed).into()),
        "Requests that wait for a Python thread now.",
    ),
    counter(
        "ostler_response_body_bytes_total",
        Unit::Bytes,
        slot("sent", |slot| slot.sent.load(Relaxed)),
        "Bytes of the bodies of responses.",
    ),
    counter(
        "ostler_received_bytes_total",
        Unit::Bytes,
        MetricSource::Meter { field: "bytes_in", read: |meters| &meters.received },
        "Bytes that were read from clients: heads and bodies of requests, as they came.",
    ),
    counter(
        "ostler_sent_bytes_total",
        Unit::Bytes,
        MetricSource::Meter { field: "bytes_out", read: |meters| &meters.sent },
        "Bytes that clients were sent: heads and bodies of responses, counted when a response is over.",
    ),
    gauge(
        "ostler_spool_bytes",
        Unit::Bytes,
        MetricSource::Meter { field: "spooled", read: |meters| &meters.spooled },
        "Bytes of requests and responses that wait in spool files.",
    ),
    gauge(
        "ostler_connections",
        Unit::None,
        slot("connections", |slot| slot.connections.load(Relaxed).into()),
        "Connections that are open.",
    ),
    gauge(
        "ostler_connections_idle",
        Unit::None,
        MetricSource::Meter { field: "idle", read: |meters| &meters.idle },
        "Those of them that wait for a request: nothing of it has come yet.",
    ),
    counter(
        "ostler_connections_accepted_total",
        Unit::None,
        MetricSource::Meter { field: "accepted", read: |meters| &meters.accepted },
        "Connections that were accepted from listeners.",
    ),
    counter(
        "ostler_connections_given_total",
        Unit::None,
        MetricSource::Labelled {
            field: "given",
            labels: &[("reason", &REASONS)],
            read: |meters| &meters.given,
            slot: Some(|slot| slot.given.load(Relaxed)),
        },
        "Connections that a worker gave away to others, by reason: busy (its request would have waited), reload (another generation serves: also a roll-back, an upgrade, a recovery), recycle (the worker is replaced), scale (fewer workers).",
    ),
    counter(
        "ostler_connections_taken_total",
        Unit::None,
        MetricSource::Labelled {
            field: "taken",
            labels: &[("reason", &REASONS)],
            read: |meters| &meters.taken,
            slot: Some(|slot| slot.taken.load(Relaxed)),
        },
        "Connections that a worker took over from others, by the reason for which those gave them.",
    ),
    counter(
        "ostler_exchange_sends_total",
        Unit::None,
        slot("sends", |slot| slot.sends.load(Relaxed)),
        "How often a worker tried to give connections away.",
    ),
    counter(
        "ostler_log_records_total",
        Unit::None,
        labelled("logged", &[("kind", &LOGGED)], |meters| &meters.logged),
        "Records of the error log by the workers and the master, by kind.",
    ),
    counter(
        "ostler_log_lines_lost_total",
        Unit::None,
        labelled("lines_lost", &[("log", &LOGS)], |meters| &meters.lines_lost),
        "Lines of the workers and the master that could not be written and are lost, by log.",
    ),
    gauge(
        "ostler_generation",
        Unit::None,
        master("", Fact::Generation),
        "The number of the generation that serves; 0 before the first.",
    ),
    gauge(
        "ostler_canary_requests",
        Unit::None,
        master("stage", Fact::CanaryRequests),
        "While there is a canary: requests since it began, of it (stage canary) and of the generation that serves beside it. A gauge, as are the next five: each canary begins at 0, and without one there is none of these.",
    ),
    gauge(
        "ostler_canary_errors",
        Unit::None,
        master("stage", Fact::CanaryErrors),
        "Those of them that failed: they were answered with 5xx, or the application has broken their answer off.",
    ),
    gauge(
        "ostler_canary_crashes",
        Unit::None,
        master("stage", Fact::CanaryCrashes),
        "Workers that died by themselves since the canary began.",
    ),
    gauge(
        "ostler_canary_timeouts",
        Unit::None,
        master("stage", Fact::CanaryTimeouts),
        "Workers that were replaced because of --timeout since the canary began.",
    ),
    gauge(
        "ostler_canary_p50_seconds",
        Unit::Seconds,
        master("stage", Fact::CanaryMedian),
        "How long half of the requests since the canary began were in the application at most.",
    ),
    gauge("ostler_canary_p99_seconds", Unit::Seconds, master("stage", Fact::CanarySlow), "The same of 99 % of them."),
    gauge("ostler_workers", Unit::None, master("state", Fact::Workers), "Workers of all generations, by what they do."),
    gauge(
        "ostler_workers_wanted",
        Unit::None,
        master("", Fact::WorkersWanted),
        "How many workers the generation that serves and a canary should have.",
    ),
    gauge(
        "ostler_workers_least",
        Unit::None,
        master("", Fact::WorkersLeast),
        "How many workers there should be at least: less than is wanted only where the number follows the load (--workers 4..16).",
    ),
    gauge(
        "ostler_workers_most",
        Unit::None,
        master("", Fact::WorkersMost),
        "How many workers the load may bring at most.",
    ),
    counter(
        "ostler_scalings_total",
        Unit::None,
        labelled("scalings", &[("direction", &["up", "down"])], |_| &[]),
        "How often the load has changed the number of workers, by direction.",
    ),
    counter(
        "ostler_worker_restarts_total",
        Unit::None,
        master("cause", Fact::Restarts),
        "Workers that were replaced, by cause.",
    ),
    gauge(
        "ostler_requests_in_flight",
        Unit::None,
        master("", Fact::InFlight),
        "Requests that are in the application now.",
    ),
    counter(
        "ostler_reloads_total",
        Unit::None,
        master("outcome", Fact::Reloads),
        "Generations after the first that came to serve (success), or were discarded or taken back because something is wrong with them (failure): reloads, roll-backs, upgrades and recoveries.",
    ),
    gauge(
        "ostler_last_reload_timestamp_seconds",
        Unit::Seconds,
        master("outcome", Fact::LastReload),
        "When the last of them came to serve (success), or was discarded or taken back (failure), since 1970.",
    ),
    counter(
        "ostler_rollbacks_total",
        Unit::None,
        labelled("rollbacks", &[], |_| &[]),
        "Roll-backs that were begun; what came of them is among the reloads.",
    ),
    counter(
        "ostler_upgrades_total",
        Unit::None,
        labelled("upgrades", &[("outcome", &["success", "failure"])], |_| &[]),
        "Upgrades by outcome: whether the new executable went on; its generation is among the reloads.",
    ),
    counter(
        "ostler_reforks_total",
        Unit::None,
        labelled("reforks", &[("outcome", &["success", "failure"])], |_| &[]),
        "Workers that were to become the template of their generation, by outcome (--refork); after a failure the template stayed.",
    ),
    counter(
        "ostler_worker_cpu_seconds_total",
        Unit::Seconds,
        MetricSource::BySlot { field: "cpu" },
        "CPU time of the workers, by slot, in user and system mode, that of children which they have waited for included; some seconds old.",
    ),
    gauge(
        "ostler_worker_memory_bytes",
        Unit::Bytes,
        master("slot", Fact::Memory),
        "Memory of the workers that serve, by slot: their own, and their part of what is shared (PSS); some seconds old.",
    ),
    gauge(
        "ostler_worker_private_memory_bytes",
        Unit::Bytes,
        master("slot", Fact::PrivateMemory),
        "Their own alone (USS): what is free again when the worker ends.",
    ),
    gauge(
        "ostler_template_memory_bytes",
        Unit::Bytes,
        master("", Fact::TemplateMemory),
        "Memory of the template of the generation that serves: its own, and its part of what is shared (PSS).",
    ),
    gauge(
        "ostler_master_longest_turn_seconds",
        Unit::Seconds,
        master("", Fact::LongestTurn),
        "The longest time for which the master heard nobody.",
    ),
    gauge(
        "ostler_listen_queue",
        Unit::None,
        master("address", Fact::ListenQueue),
        "Connections that wait to be accepted, by address.",
    ),
    gauge(
        "ostler_listen_queue_limit",
        Unit::None,
        master("address", Fact::ListenQueueLimit),
        "How many connections may wait to be accepted, by address.",
    ),
    gauge(
        "ostler_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        master("name", Fact::CertificateExpiry),
        "When the certificates of --certfile end, since 1970, by the first name of each.",
    ),
];

const fn counter(name: &'static str, unit: Unit, place: MetricSource, help: &'static str) -> Metric {
    Metric { name, help, kind: MetricKind::Counter, unit, place }
}

const fn gauge(name: &'static str, unit: Unit, place: MetricSource, help: &'static str) -> Metric {
    Metric { name, help, kind: MetricKind::Gauge, unit, place }
}

const fn slot(field: &'static str, read: fn(&Slot) -> u64) -> MetricSource {
    MetricSource::Slot { field, read }
}

const fn master(label: &'static str, fact: Fact) -> MetricSource {
    MetricSource::Master { label, fact }
}

const fn labelled(field: &'static str, labels: Labels, read: fn(&Meters) -> &[AtomicU64]) -> MetricSource {
    MetricSource::Labelled { field, labels, read, slot: None }
}
