//! `ostler requests`: what is under way in all workers, the oldest first. It is read from the status.

use serde::Serialize;

use crate::master::status::{GenerationStatus, Status, WorkerStatus};

/// A request, and who has it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    /// Seconds since it was called, or since it waits.
    age: f64,
    /// `called` or `waiting`: for a Python thread.
    state: &'static str,
    generation: u32,
    worker: u16,
    pid: Option<i32>,
    request_id: Option<&'a str>,
    request: &'a str,
}

/// For people.
pub fn table(status: &Status) -> String {
    let rows = rows(status);
    let texts = rows.iter().map(|row| {
        [
            format!("{:.1} s", row.age),
            row.state.into(),
            format!("g{}.{}", row.generation, row.worker),
            row.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
            row.request_id.unwrap_or("-").into(),
            row.request.into(),
        ]
    });
    let heading = ["AGE", "STATE", "WORKER", "PID", "ID", "REQUEST"].map(String::from);
    let lines: Vec<_> = std::iter::once(heading).chain(texts).collect();
    let mut text = if rows.is_empty() { "no request is under way\n".into() } else { aligned(&lines) };
    let waiting = workers(status).map(|(_, worker)| worker.count("queued") as usize).sum::<usize>();
    let shown = rows.iter().filter(|row| row.state == "waiting").count();
    if waiting > shown {
        text += &format!("{} more wait for a thread\n", waiting - shown);
    }
    text
}

/// For programs: an array of objects.
pub fn json(status: &Status) -> String {
    let rows = serde_json::to_string_pretty(&rows(status)).unwrap_or_default();
    format!("{rows}\n")
}

fn rows(status: &Status) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (generation, worker) in workers(status) {
        for (state, requests) in [("called", &worker.doing), ("waiting", &worker.waiting)] {
            rows.extend(requests.iter().map(|one| Row {
                age: one.age,
                state,
                generation: generation.generation,
                worker: worker.slot,
                pid: worker.pid,
                request_id: one.id.as_deref(),
                request: &one.line,
            }));
        }
    }
    rows.sort_by(|one, other| other.age.total_cmp(&one.age));
    rows
}

fn workers(status: &Status) -> impl Iterator<Item = (&GenerationStatus, &WorkerStatus)> {
    status.generations.iter().flat_map(|generation| generation.workers.iter().map(move |worker| (generation, worker)))
}

/// In columns; the last is as wide as it is.
fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N - 1).map(width).collect();
    let line = |line: &[String; N]| {
        let cells = widths.iter().zip(line).map(|(width, cell)| format!("{cell:<width$}  "));
        cells.chain([format!("{}\n", line[N - 1])]).collect::<String>()
    };
    lines.iter().map(line).collect()
}
