//! `ostler settings`: every setting, its value and where it came from.

use std::{
    io::{self, Write},
    os::fd::AsFd,
};

use ostler_wire::log::{self, is_unprintable, printable};
use slog::Level;

use crate::{
    exit::{Exit, Failure, words},
    options::Options,
};

/// For people.
pub fn table(options: &Options) -> String {
    let rows: Vec<_> =
        options.all().map(|(setting, given)| (setting.name, given.texts.join(", "), &given.layer)).collect();
    let width =
        |column: fn(&(&str, String, _)) -> usize, most: usize| rows.iter().map(column).max().unwrap_or(0).min(most);
    let names = width(|row| row.0.len(), 30);
    let values = width(|row| row.1.chars().count(), 40);
    rows.iter().map(|(name, value, source)| format!("{name:names$}  {value:values$}  {source}\n")).collect()
}

/// For programs: an object by name, of `value` (a text, an array of texts, or null) and `source`.
pub fn json(options: &Options) -> String {
    let entry = |value: serde_json::Value, source: String| serde_json::json!({ "value": value, "source": source });
    let all: serde_json::Map<_, _> = options
        .all()
        .map(|(setting, given)| {
            let value = match (setting.is_repeated(), given.texts.first()) {
                (true, _) => given.texts.clone().into(),
                (false, Some(text)) => text.clone().into(),
                (false, None) => serde_json::Value::Null,
            };
            (setting.name.to_string(), entry(value, given.layer.to_string()))
        })
        .collect();
    escaped_json(&format!("{:#}\n", serde_json::Value::Object(all)))
}

/// What a terminal would obey is shown as escapes: much of what is printed was written by others.
pub fn safe(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Says on standard error why the program cannot go on.
pub fn complain(text: &str) {
    let text = safe(text);
    if log::entry(io::stderr().as_fd(), Level::Error, &text).is_none() {
        eprintln!("ostler: {text}");
    }
}

/// The same for JSON, in which such characters stand within texts only.
pub fn escaped_json(text: &str) -> String {
    let escaped = |c: char| match c != '\n' && is_unprintable(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// Prints it, made [`safe`]. A reader that goes away early (`| head`) is no failure.
pub fn print(text: &str) -> Result<Exit, Failure> {
    match io::stdout().write_all(safe(text).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::System, format!("could not write to standard output: {}", words(&error))))
        }
        _ => Ok(Exit::Success),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli, fixture::Folder, options::SETTINGS};

    fn options() -> Options {
        let folder = Folder::new();
        let invocation = folder.invocation(&["-w", "3", "-b", ":1,:2", "site:app"], &[("OSTLER_THREADS", "2")]);
        Options::gather(&invocation, &cli::parse(&invocation.arguments).unwrap().texts).unwrap()
    }

    #[test]
    fn people_get_a_line_for_each_setting() {
        let table = table(&options());
        assert_eq!(table.lines().count(), SETTINGS.len());
        let words = |name: &str| {
            let line = table.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words("workers"), "workers 3 command line");
        assert_eq!(words("threads"), "threads 2 environment (OSTLER_THREADS)");
        assert_eq!(words("bind"), "bind :1, :2 command line");
        assert_eq!(words("backlog"), "backlog 2048 default");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        let text = "a\x1b[2J\tb\u{9b}1m\u{202e}c\n\x07d\r\n";
        assert_eq!(safe(text), "a\\u{1b}[2J\tb\\u{9b}1m\\u{202e}c\n\\u{7}d\\r\n");
        let json = "{\n  \"a\": \"\x7f\u{9b}\u{202e}\"\n}\n";
        let read: serde_json::Value = serde_json::from_str(&escaped_json(json)).unwrap();
        assert_eq!(read["a"], "\x7f\u{9b}\u{202e}");
        assert!(escaped_json(json).is_ascii());
    }

    #[test]
    fn programs_get_an_object() {
        let all: serde_json::Value = serde_json::from_str(&json(&options())).unwrap();
        assert_eq!(all.as_object().unwrap().len(), SETTINGS.len());
        assert_eq!(all["bind"], serde_json::json!({ "value": [":1", ":2"], "source": "command line" }));
        assert_eq!(all["workers"]["value"], "3");
        assert_eq!(all["pid"]["value"], serde_json::Value::Null);
    }
}
