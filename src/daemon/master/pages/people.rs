//! The page for people: the status and the last minutes, whole without scripts. Its script asks for it again and again, and changes what is shown.

use std::{collections::BTreeMap, time::Duration};

use ostler_wire::meters::Times;

use super::{
    history::{History, SPAN, Sample, Stretch},
    markup::Markup,
};
use crate::master::status::{
    COMPARED, EventStatus, GenerationStatus, Queue, RequestStatus, Status, WorkerStatus, age, size,
};

/// What may run, and what may be loaded: our own script and style by their hashes, and this page again. Nobody may put it into a frame.
pub const FIELDS: &str = "Content-Security-Policy: default-src 'none'; connect-src 'self'; \
    script-src 'sha256-eApD6UZLgpUcR1gZRjYunH814Ru9vOj8zTPzHiSmP+w='; style-src 'sha256-FF5HUsi9+o/bxAjs9Lez2bUsfGiNtTopK6KP5p2A/hU='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'\r\n\
    Referrer-Policy: no-referrer\r\n";

const STYLE: &str = include_str!("people.css");
const SCRIPT: &str = include_str!("people.js");

/// What is more than this is not shown: problems, events, workers, and calls of one worker.
const PROBLEMS: usize = 20;
const EVENTS: usize = 20;
const WORKERS: usize = 100;
const CALLS: usize = 4;
/// The time that is called now.
const NOW: Duration = Duration::from_secs(10);
/// A graph's space: a unit for each second.
const WIDTH: f64 = SPAN.as_secs() as f64;
const HEIGHT: f64 = 60.0;

/// All of it.
pub fn page(status: &Status, history: &History, total: &Times) -> String {
    let state = status.readiness().unwrap_or_else(|why| why);
    let sign = if status.problems.is_empty() { "" } else { "! " };
    format!(
        include_str!("people.html"),
        version = Markup::text(&status.version),
        title = Markup::text(format!("{sign}{state} – {}", status.addresses.join(", "))),
        style = STYLE,
        main = top(status, &state)
            + last_minutes(status, history, total)
            + canary(status)
            + generations(status)
            + events(status)
            + queues(status),
        script = SCRIPT,
    )
}

fn top(status: &Status, state: &str) -> Markup {
    let problems = status.problems.iter().take(PROBLEMS).map(|problem| Markup::text(problem).within("li"));
    let problems = some(problems.collect(), "ul class=\"problems\"");
    Markup::text(status.addresses.join(", ")).within("h1")
        + Markup::text(format!("{state}; ostler {}, master {}", status.version, status.pid)).within("p")
        + problems
}

fn last_minutes(status: &Status, history: &History, total: &Times) -> Markup {
    let samples: Vec<&Sample> = history.samples().collect();
    let between = |number: &dyn Fn(Stretch) -> Option<f64>| -> Vec<Option<f64>> {
        let stretches = samples.windows(2).map(|pair| number(Stretch::between(pair[0], pair[1])));
        [None].into_iter().chain(stretches).collect()
    };
    let graph = |heading, numbers: Vec<Option<f64>>, shown: &dyn Fn(f64) -> String| {
        let most = numbers.iter().flatten().copied().fold(0.0, f64::max);
        let now = numbers.last().copied().flatten().map_or_else(|| "–".into(), shown);
        let peak = match numbers.iter().flatten().next() {
            Some(_) if most > 0.0 => format!("at most {}", shown(most)),
            Some(_) => "none".into(),
            None => "not known yet".into(),
        };
        (Markup::text(heading).within("h3")
            + Markup::text(now).within("p class=\"now\"")
            + Markup::graph(&lines(&samples, &numbers, most), WIDTH, HEIGHT)
            + Markup::text(peak).within("p"))
        .within("div")
    };
    let graphs = graph("Requests", between(&|stretch| stretch.rate(stretch.times.count())), &per_second)
        + graph("99th percentile", between(&|stretch| stretch.times.percentile(0.99)), &time)
        + graph("Queue", samples.iter().map(|sample| Some(sample.waiting as f64)).collect(), &|number| {
            number.to_string()
        })
        + graph("Memory", samples.iter().map(|sample| sample.memory.map(|bytes| bytes as f64)).collect(), &|bytes| {
            size(bytes as u64)
        });
    Markup::text(format!("Last {} minutes", SPAN.as_secs() / 60)).within("h2")
        + graphs.within("div class=\"graphs\"")
        + numbers(status, history, total)
}

/// The graph of some numbers: a line for each stretch in which they are known.
fn lines(samples: &[&Sample], numbers: &[Option<f64>], most: f64) -> Vec<Vec<(f64, f64)>> {
    let Some(newest) = samples.last() else { return Vec::new() };
    let place = |sample: &Sample, number: f64| {
        let height = if most > 0.0 { number / most } else { 0.0 };
        (WIDTH - (newest.at - sample.at).as_secs_f64(), HEIGHT - 1.0 - height * (HEIGHT - 3.0))
    };
    let points: Vec<_> = samples.iter().zip(numbers).map(|(sample, number)| Some(place(sample, (*number)?))).collect();
    points.split(Option::is_none).map(|line| line.iter().copied().flatten().collect()).collect()
}

fn numbers(status: &Status, history: &History, total: &Times) -> Markup {
    let spans = [history.last(NOW), history.last(SPAN)];
    let started = |name: &str| status.metrics.get(name).and_then(|number| number.as_u64()).unwrap_or(0);
    let dash = || "–".to_owned();
    let row = |name, recent: &dyn Fn(&Stretch) -> Option<String>, total: String| {
        let recent: Markup = spans.iter().map(|span| number(recent(span).unwrap_or_else(dash))).collect();
        (Markup::text(name).within("th scope=\"row\"") + recent + number(total)).within("tr")
    };
    let percentiles = |name, share| {
        let of = move |times: &Times| times.percentile(share).map(time);
        row(name, &|stretch| of(&stretch.times), of(total).unwrap_or_else(dash))
    };
    let counts = |name, total: u64, count: fn(&Stretch) -> u64| {
        row(name, &|stretch| stretch.rate(count(stretch)).map(per_second), total.to_string())
    };
    let rows = counts("requests", total.count(), |stretch| stretch.times.count())
        + counts("errors (5xx)", started("ostler_request_errors_total"), |stretch| stretch.errors)
        + counts("refused", started("ostler_requests_refused_total"), |stretch| stretch.refused)
        + percentiles("median time", 0.5)
        + percentiles("99th percentile", 0.99);
    let last = spans.each_ref().map(|span| match span.seconds {
        seconds if seconds > 0.0 => format!("last {}", age(seconds)),
        _ => "not known yet".into(),
    });
    let [now, minutes] = &last;
    table(&["what", now, minutes, "in all"], rows)
}

/// Both generations side by side while there is a canary.
fn canary(status: &Status) -> Markup {
    let Some(canary) = status.canary_age() else { return Markup::default() };
    let row = |[generation, figures @ ..]: [String; 7]| {
        let figures: Markup = figures.into_iter().map(number).collect();
        (Markup::text(generation).within("th scope=\"row\"") + figures).within("tr")
    };
    Markup::text(format!("Since the canary began {} ago", age(canary))).within("h2")
        + table(&COMPARED.map(str::to_lowercase).each_ref().map(String::as_str), status.compared().map(row).collect())
}

fn generations(status: &Status) -> Markup {
    let mut left = WORKERS;
    let mut shown = |generation: &GenerationStatus| {
        let workers = &generation.workers[..generation.workers.len().min(left)];
        left -= workers.len();
        let more = generation.workers.len() - workers.len();
        let more = if more == 0 { String::new() } else { format!("and {more} more, which `ostler status` shows") };
        let facts: Vec<_> = [
            format!("for {}", age(generation.since)),
            generation.trouble().trim_start_matches("; ").to_owned(),
            generation.template.map(|pid| format!("template {pid}")).unwrap_or_default(),
            generation.memory.map(|memory| size(memory.proportional)).unwrap_or_default(),
        ]
        .into_iter()
        .filter(|fact| !fact.is_empty())
        .collect();
        let head = ["slot", "state", "does", "process", "age", "requests", "5xx", "open", "queued", "memory"];
        Markup::text(format!("Generation {}", generation.told())).within("h2")
            + note(facts.join("; "))
            + table(&head, workers.iter().map(worker).collect())
            + note(more)
    };
    status.generations.iter().map(&mut shown).collect()
}

fn worker(worker: &WorkerStatus) -> Markup {
    let dash = || "–".to_owned();
    let does: Markup = worker
        .stuck
        .iter()
        .map(|stuck| call("", stuck))
        .chain(calls("", &worker.doing))
        .chain(calls("waits: ", &worker.waiting))
        .collect();
    let state = match worker.state.as_str() {
        _ if worker.stuck.is_some() => "td class=\"bad\"",
        "working" | "busy" => "td class=\"at-work\"",
        "idle" => "td class=\"idle\"",
        _ => "td class=\"passing\"",
    };
    let counts = ["requests", "errors", "connections", "queued"].map(|field| number(worker.count(field)));
    (Markup::text(worker.slot).within("th scope=\"row\"")
        + Markup::text(worker.told_state()).within(state)
        + does.within("td class=\"told\"")
        + number(worker.pid.map_or_else(dash, |pid| pid.to_string()))
        + number(worker.age.map_or_else(dash, age))
        + counts.into_iter().collect()
        + number(worker.memory.map_or_else(dash, |memory| size(memory.proportional))))
    .within("tr")
}

fn calls(what: &'static str, calls: &[RequestStatus]) -> impl Iterator<Item = Markup> {
    let more = calls.len().saturating_sub(CALLS);
    let more = (more > 0).then(|| Markup::text(format!("{what}{more} more")).within("div"));
    calls.iter().take(CALLS).map(move |request| call(what, request)).chain(more)
}

fn call(what: &str, request: &RequestStatus) -> Markup {
    let id = request.id.iter().map(|id| Markup::text(format!("[{id}] ")).within("small"));
    let age = Markup::text(format!("{:.1} s", request.age)).within("small");
    (Markup::text(what) + Markup::text(&request.line).within("code") + Markup::text(" ") + id.collect() + age)
        .within("div")
}

/// The newest first.
fn events(status: &Status) -> Markup {
    let row = |event: &EventStatus| {
        let level = match event.level.as_str() {
            "info" => "td",
            "warning" => "td class=\"passing\"",
            _ => "td class=\"bad\"",
        };
        let ago = Markup::text(format!("{} ago", age(event.age))).within("td class=\"number\"");
        (ago + Markup::text(&event.level).within(level) + Markup::text(&event.text).within("td class=\"told\""))
            .within("tr")
    };
    Markup::text("Last events").within("h2")
        + table(&["when", "level", "what"], status.events.iter().rev().take(EVENTS).map(row).collect())
}

fn queues(status: &Status) -> Markup {
    let row = |(address, queue): (&String, &Queue)| {
        let told = |count: Option<u32>| number(count.map_or_else(|| "–".to_owned(), |count| count.to_string()));
        (Markup::text(address).within("th scope=\"row\"") + told(queue.waiting) + told(queue.room)).within("tr")
    };
    let rows = status.addresses.iter().zip(&status.queues).take(WORKERS).map(row).collect();
    let counted = |what: &str, counts: &BTreeMap<String, u64>| {
        let counts: Vec<_> = counts.iter().map(|(of, count)| format!("{of} ({count})")).collect();
        let told = if counts.is_empty() { String::new() } else { format!("{what}: {}", counts.join(", ")) };
        note(told)
    };
    Markup::text("Waiting to be accepted").within("h2")
        + table(&["address", "waiting", "at most"], rows)
        + counted("Workers replaced", &status.restarts)
        + counted("Reloads", &status.reloads)
}

fn table(heads: &[&str], rows: Markup) -> Markup {
    let heads: Markup = heads.iter().map(|head| Markup::text(head).within("th scope=\"col\"")).collect();
    if rows == Markup::default() {
        return rows;
    }
    (heads.within("tr").within("thead") + rows.within("tbody")).within("table").within("div class=\"wide\"")
}

/// In an element, if there is anything.
fn some(markup: Markup, opening: &'static str) -> Markup {
    if markup == Markup::default() { markup } else { markup.within(opening) }
}

fn note(text: String) -> Markup {
    some(Markup::text(text), "p")
}

fn number(number: impl ToString) -> Markup {
    Markup::text(number.to_string()).within("td class=\"number\"")
}

fn per_second(number: f64) -> String {
    if number > 0.0 && number < 10.0 { format!("{number:.1}/s") } else { format!("{number:.0}/s") }
}

fn time(microseconds: f64) -> String {
    match microseconds / 1000.0 {
        milliseconds if milliseconds < 10.0 => format!("{milliseconds:.1} ms"),
        milliseconds if milliseconds < 1000.0 => format!("{milliseconds:.0} ms"),
        milliseconds => format!("{:.1} s", milliseconds / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOSTILE: &str = "<i a='b' c=\"d\">\u{1b}[2J\u{202e}\0\u{fffd}";

    fn status(workers: usize) -> Status {
        let request = json!({ "line": HOSTILE, "id": HOSTILE, "age": 1.5 });
        let requests = vec![request.clone(); 9];
        let worker = json!({ "slot": 0, "pid": 7, "state": HOSTILE, "replaced": HOSTILE, "age": 3.0, "doing": requests,
            "waiting": requests, "stuck": request, "memory": null, "requests": HOSTILE });
        let generation = json!({ "generation": 1, "stage": HOSTILE, "wanted": 2, "ready": 1, "crashed": 1, "last_crash": HOSTILE,
            "next": 0.5, "template": 8, "memory": null, "workers": vec![worker; workers] });
        let status = json!({ "version": HOSTILE, "pid": 1, "addresses": [HOSTILE], "queues": [{ "waiting": 1, "room": 2 }],
            "generations": [generation], "problems": vec![HOSTILE; 1000], "restarts": { HOSTILE: 1 }, "events": vec![json!({ "age": 1.0, "level": HOSTILE, "text": HOSTILE }); 50], "reloads": { HOSTILE: 1 } });
        serde_json::from_value(status).expect("it has what a status has")
    }

    #[test]
    fn whatever_the_status_holds_is_text() {
        let page = page(&status(1), &History::default(), &Times::default());
        assert!(
            page.contains("<code>&lt;i a=&#39;b&#39; c=&quot;d&quot;&gt;\\u{1b}[2J\\u{202e}\\u{0}\u{fffd}</code>"),
            "{page}"
        );
        for raw in ["<i", "a='b'", "c=\"d\"", "\u{1b}", "\u{202e}", "\0"] {
            assert!(!page.contains(raw), "{raw:?} in {page}");
        }
    }

    #[test]
    fn the_page_has_a_bound() {
        let (some, many) =
            [150, 3000].map(|workers| page(&status(workers), &History::default(), &Times::default()).len()).into();
        assert!(some.abs_diff(many) < 100 && many < 1 << 20, "{some} and {many}");
        assert!(
            page(&status(150), &History::default(), &Times::default())
                .contains("and 50 more, which `ostler status` shows")
        );
    }
}
