//! Lines of JSON, an object each: numbers are numbers, and a text of several lines stays one value.

use jiff::Zoned;
use serde_json::{Map, Value};
use slog::Level;

use super::{
    Process,
    entry::{Entry, Pair},
    text::name,
};

/// The keys whose values are seconds, written with a fixed number of digits elsewhere.
const SECONDS: [&str; 2] = ["took", "uptime"];

/// `{"time":"2026-11-22T13:58:01.123+00:00","level":"info","process":"worker g2.0","process_id":4711,"phrase":"worker ready","generation":2,…}`
pub fn record(entry: &Entry, pid: u32, now: &Zoned) -> String {
    let mut object = opening(entry.level, entry.process, pid, now);
    object.insert("phrase".into(), entry.phrase.clone().into());
    object.extend(entry.pairs.iter().map(|pair| (pair.key.to_string(), value(pair))));
    Value::Object(object).to_string() + "\n"
}

/// A text that is no record: what an application has written, in the call of the request of this id.
pub fn said(level: Level, process: Process, text: &str, request_id: Option<&str>, now: &Zoned) -> String {
    // A child that the application has forked writes, too.
    let mut object = opening(level, process, std::process::id(), now);
    object.extend(request_id.map(|id| ("request_id".to_owned(), id.into())));
    object.insert("text".into(), text.into());
    Value::Object(object).to_string() + "\n"
}

fn opening(level: Level, process: Process, pid: u32, now: &Zoned) -> Map<String, Value> {
    let time = now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
    let (process_name, place) = (process.to_string(), process.place());
    [("time", time.into()), ("level", name(level).into()), ("process", process_name.into()), ("process_id", pid.into())]
        .into_iter()
        .chain(place.map(|(key, number)| (key, number.into())))
        .map(|(key, value): (&str, Value)| (key.to_owned(), value))
        .collect()
}

fn value(pair: &Pair) -> Value {
    let seconds = SECONDS.contains(&pair.key);
    let bare = (pair.bare || seconds).then(|| serde_json::from_slice::<Value>(pair.text.as_bytes()).ok()).flatten();
    bare.filter(|value| value.is_number() || value.is_boolean()).unwrap_or_else(|| pair.text.clone().into())
}

#[cfg(test)]
mod tests {
    use slog::{b, o};

    use super::*;

    #[test]
    fn numbers_are_numbers_and_no_text_ends_its_line() {
        let pairs =
            b!("request" => "GET /a\n\"\u{1b}\u{2028}", "pid" => 7, "took" => "0.010", "code" => "404", "ok" => true);
        let entry = Entry::of(
            &slog::record!(Level::Error, "", &format_args!("application raised"), pairs),
            &o!("slot" => 3).into(),
            Process::Worker(2, 0),
        )
        .unwrap();
        let now = "2026-11-22T13:58:01.123+00:00[UTC]".parse().unwrap();
        let line = record(&entry, 4711, &now);
        assert_eq!(line.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-22T13:58:01.123+00:00", "level": "error", "process": "worker g2.0", "process_id": 4711,
            "phrase": "application raised", "generation": 2, "slot": 3, "request": "GET /a\n\"\u{1b}\u{2028}",
            "pid": 7, "took": 0.010, "code": "404", "ok": true,
        });
        assert_eq!(read, expected);
        let read: Value =
            serde_json::from_str(&said(Level::Info, Process::Worker(2, 0), "one\ntwo", Some("4711"), &now)).unwrap();
        assert_eq!((&read["process"], &read["slot"]), (&"worker g2.0".into(), &0.into()));
        assert_eq!((read["text"].as_str(), read["request_id"].as_str()), (Some("one\ntwo"), Some("4711")));
    }
}
