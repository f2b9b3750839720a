//! What is shown of a site: lines that fit a screen, from two looks at it.

use super::{
    Look,
    columns::{cell, cut, shown, width},
    rates::{Rates, sum, workers},
    view::{Sort, View},
};
use crate::master::status::{GenerationStatus, RequestStatus, Status, WorkerStatus, age, size, time};

/// So many of the last events have room.
const EVENTS: usize = 6;
/// A screen of so many columns has room for every column of the table.
const WIDE: usize = 110;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// What is wrong.
    Red,
    /// What may be.
    Yellow,
}

/// A line and its style.
pub type Styled = (Style, String);

const HELP: [&str; 6] = [
    "q, Ctrl-C   end; Ctrl-Z suspends",
    "s           sort by slot, age of the request, memory or requests/s",
    "/, f        show only the workers whose line holds a text; Enter keeps it, Esc ends it",
    "?, h        show this, or not",
    "p50, p99    half and 99 % of the requests since the last look took no longer",
    "DOING       how long a worker's oldest request lasts, how many more it has, and which it is",
];

/// The lines. `lost`: why the site does not answer now. None of them is wider than the screen, and no more than it has.
pub fn frame(
    before: Option<&Look>,
    now: &Look,
    view: &View,
    lost: Option<&str>,
    (columns, lines): (usize, usize),
) -> Vec<Styled> {
    let rates = Rates::between(before, now);
    let status = &now.status;
    let mut head = head(status, &rates, lost);
    // The table keeps half of the screen.
    head.truncate((lines / 2).max(1));
    let last = usize::from(lines > 3);
    let room = lines.saturating_sub(head.len() + last);
    let table = if view.help { help() } else { table(status, &rates, view, columns) };
    let kept = table.len().min((room * 2 / 3).max(2));
    let events = events(status, room.saturating_sub(kept).min(EVENTS));
    let mut all = head;
    all.extend(shortened(table, room.saturating_sub(events.len())));
    all.extend(events);
    all.truncate(lines.saturating_sub(last));
    if last > 0 {
        all.push((Style::Bold, keys(view)));
    }
    all.into_iter().map(|(style, line)| (style, cut(line.trim_end(), columns))).collect()
}

fn head(status: &Status, rates: &Rates, lost: Option<&str>) -> Vec<Styled> {
    let addresses = shown(&status.addresses.join(", "));
    let mut lines = vec![(Style::Bold, format!("ostler {}, master {}, {addresses}", status.version, status.pid))];
    lines.extend(lost.map(|why| (Style::Red, format!("! {}", shown(why)))));
    lines.extend(status.problems.iter().map(|problem| (Style::Red, format!("! {}", shown(problem)))));
    lines.push((Style::Plain, requests(status, rates)));
    lines.push((Style::Plain, times(rates)));
    lines.extend(status.generations.iter().map(|one| (Style::Plain, generation(one))));
    lines.extend(status.comparison().into_iter().map(|line| (Style::Plain, line)));
    lines
}

fn requests(status: &Status, rates: &Rates) -> String {
    let number =
        |prefix: &str| rates.of(prefix).map_or_else(|| sum(status, prefix).to_string(), |rate| format!("{rate:.1}"));
    let unit = if rates.are_known() { "/s" } else { "" };
    let waiting: u64 = status.queues.iter().filter_map(|queue| queue.waiting).map(u64::from).sum();
    format!(
        "requests{unit} {}  5xx{unit} {}  refused{unit} {}  in calls {}  queued {}  to accept {waiting}",
        number("ostler_requests_total{"),
        number("ostler_requests_total{code=\"5xx\""),
        number("ostler_requests_refused_total"),
        sum(status, "ostler_requests_in_flight"),
        sum(status, "ostler_requests_queued"),
    )
}

fn times(rates: &Rates) -> String {
    let told = |histogram| match rates.times(histogram) {
        Some((median, slow)) => format!("p50 {} p99 {}", time(median), time(slow)),
        None => "p50 - p99 -".into(),
    };
    format!(
        "in the application {}  waited before {}",
        told("ostler_request_duration_seconds"),
        told("ostler_request_queue_seconds")
    )
}

fn generation(one: &GenerationStatus) -> String {
    let crashed = if one.crashed > 0 { format!("; {} crashed", one.crashed) } else { String::new() };
    let template = one.memory.map(|memory| format!("; template {}", size(memory.proportional))).unwrap_or_default();
    format!("generation {}; for {}{crashed}{template}", one.told(), age(one.since))
}

/// A worker and what it is sorted by.
struct Row<'a> {
    generation: u32,
    worker: &'a WorkerStatus,
    rate: Option<f64>,
    cells: Vec<String>,
}

impl Row<'_> {
    fn request(&self) -> f64 {
        oldest(self.worker).map_or(-1.0, |request| request.age)
    }

    fn memory(&self) -> u64 {
        self.worker.memory.map_or(0, |memory| memory.proportional)
    }
}

/// The columns: what it is called, whether its text stands to the right, whether it needs a wide screen, and what a worker has there.
type Column = (&'static str, bool, bool, fn(&Row) -> String);

const COLUMNS: [Column; 10] = [
    ("WORKER", false, false, |row| format!("g{}.{}", row.generation, row.worker.slot)),
    ("PID", false, true, |row| row.worker.pid.map_or_else(|| "-".into(), |pid| pid.to_string())),
    ("STATE", false, false, |row| row.worker.state.clone()),
    ("AGE", false, false, |row| row.worker.age.map_or_else(|| "-".into(), age)),
    ("REQ/S", true, false, |row| match row.rate {
        Some(rate) => format!("{rate:.1}"),
        None => "-".into(),
    }),
    ("REQUESTS", true, true, |row| row.worker.count("requests").to_string()),
    ("5XX", true, true, |row| row.worker.count("errors").to_string()),
    ("OPEN", true, true, |row| row.worker.count("connections").to_string()),
    ("QUEUE", true, false, |row| row.worker.count("queued").to_string()),
    ("MEMORY", true, false, |row| row.worker.memory.map_or_else(|| "-".into(), |memory| size(memory.proportional))),
];

fn table(status: &Status, rates: &Rates, view: &View, columns: usize) -> Vec<Styled> {
    let chosen: Vec<_> = COLUMNS.iter().filter(|(_, _, wide, _)| columns >= WIDE || !wide).collect();
    let mut rows: Vec<Row> = workers(status)
        .map(|(generation, worker)| {
            let generation = generation.generation;
            let rate = rates.of_worker(generation, worker);
            let mut row = Row { generation, worker, rate, cells: Vec::new() };
            row.cells = chosen.iter().map(|(.., text)| shown(&text(&row))).chain([doing(worker)]).collect();
            row
        })
        .collect();
    let wanted = view.filter.to_lowercase();
    rows.retain(|row| row.cells.join(" ").to_lowercase().contains(&wanted));
    match view.sort {
        Sort::Slot => rows.sort_by_key(|row| (row.generation, row.worker.slot)),
        Sort::Request => rows.sort_by(|one, other| other.request().total_cmp(&one.request())),
        Sort::Memory => rows.sort_by_key(|row| std::cmp::Reverse(row.memory())),
        Sort::Rate => rows.sort_by(|one, other| other.rate.unwrap_or(0.0).total_cmp(&one.rate.unwrap_or(0.0))),
    }
    let widest = |place: usize, heading: &str| {
        rows.iter().map(|row| width(&row.cells[place])).chain([heading.len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = chosen.iter().enumerate().map(|(place, (heading, ..))| widest(place, heading)).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().enumerate().map(|(place, text)| match chosen.get(place) {
            Some((_, right, ..)) => cell(text, widths[place], *right) + "  ",
            None => (*text).into(),
        });
        cells.collect::<String>()
    };
    let headings = chosen.iter().map(|(heading, ..)| *heading).chain(["DOING"]).collect();
    let colour = |row: &Row| if row.worker.stuck.is_some() { Style::Red } else { Style::Plain };
    let lines = rows.iter().map(|row| (colour(row), line(row.cells.iter().map(String::as_str).collect())));
    std::iter::once((Style::Bold, line(headings))).chain(lines).collect()
}

fn oldest(worker: &WorkerStatus) -> Option<&RequestStatus> {
    worker.doing.iter().chain(&worker.stuck).max_by(|one, other| one.age.total_cmp(&other.age))
}

/// `2.3 s +1 GET /slow`: what may be long stands last.
fn doing(worker: &WorkerStatus) -> String {
    let Some(request) = oldest(worker) else { return String::new() };
    let line = request.line.strip_suffix(" HTTP/1.1").unwrap_or(&request.line);
    let stuck = worker.stuck.as_ref().filter(|stuck| !std::ptr::eq(*stuck, request));
    let stuck = stuck.map(|stuck| format!("{}: ", stuck.line)).unwrap_or_default();
    let more = worker.doing.len().saturating_sub(1);
    let more = if more > 0 { format!("+{more} ") } else { String::new() };
    format!("{:.1} s {more}{}{}", request.age, shown(&stuck), shown(line))
}

/// The last ones, below an empty line.
fn events(status: &Status, room: usize) -> Vec<Styled> {
    let last = &status.events[status.events.len().saturating_sub(room.saturating_sub(1))..];
    if room < 2 || last.is_empty() {
        return Vec::new();
    }
    let line = |event: &crate::master::status::EventStatus| {
        let style = match event.level.as_str() {
            "info" => Style::Plain,
            "warning" => Style::Yellow,
            _ => Style::Red,
        };
        (style, format!("{} ago  {}", age(event.age), shown(&event.text)))
    };
    std::iter::once((Style::Plain, String::new())).chain(last.iter().map(line)).collect()
}

fn help() -> Vec<Styled> {
    HELP.map(|line| (Style::Plain, line.to_owned())).into()
}

/// As much of the table as there is room for; the last line says how much more there is.
fn shortened(mut table: Vec<Styled>, room: usize) -> Vec<Styled> {
    if table.len() > room && room > 2 {
        let hidden = table.len() - room + 1;
        table.truncate(room - 1);
        table.push((Style::Plain, format!("and {hidden} more")));
    }
    table.truncate(room);
    table
}

fn keys(view: &View) -> String {
    match (view.typing, view.filter.as_str()) {
        (true, filter) => format!("show only: {}_  Enter, Esc", shown(filter)),
        (false, "") => format!("sorted by {}   q end  s sort  / filter  ? help", view.sort.name()),
        (false, filter) => {
            format!("sorted by {}, only {:?}   q end  s sort  / filter  ? help", view.sort.name(), shown(filter))
        }
    }
}

#[cfg(test)]
mod tests;
