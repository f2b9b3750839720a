//! Takes the files of uWSGI's apart: ini, and the YAML and JSON that it reads. Keys may be repeated, and their order counts.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

/// One option: its line, its key and its value; empty if none was given.
pub type Line = (usize, String, String);

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The options of the section that was asked for; none if there is no such section.
    pub options: Option<Vec<Line>>,
    /// The other sections.
    pub others: Vec<String>,
}

/// Takes a file apart; an error says in which line it is.
pub fn of(name: &str, text: &str, section: &str) -> Result<Lines, String> {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("yaml" | "yml") => yaml(text, section),
        Some("json" | "js") => json(text, section),
        Some("xml") => Err("is XML, which ostler does not read. `uwsgi --show-config` prints it as ini.".into()),
        _ => Ok(ini(text, section)),
    }
}

/// A comment begins a line; what stands behind a value belongs to it.
fn ini(text: &str, section: &str) -> Lines {
    let (mut lines, mut current) = (Lines::default(), String::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            current = name.strip_suffix(']').unwrap_or(name).to_owned();
            lines.enter(&current, section);
        } else if !line.is_empty() && !line.starts_with([';', '#']) {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            match &mut lines.options {
                Some(options) if current == section => {
                    options.push((index + 1, key.trim().into(), value.trim().into()));
                }
                _ if current.is_empty() => lines.enter("", section),
                _ => {}
            }
        }
    }
    lines
}

impl Lines {
    fn enter(&mut self, name: &str, asked: &str) {
        if name == asked {
            self.options.get_or_insert_default();
        } else if !self.others.iter().any(|known| known == name) {
            self.others.push(name.into());
        }
    }
}

/// Sections at the left, `key: value` in them, and lists of values. The rest of YAML is refused.
fn yaml(text: &str, section: &str) -> Result<Lines, String> {
    let (mut lines, mut current, mut list) = (Lines::default(), String::new(), None::<String>);
    for (index, whole) in text.lines().enumerate() {
        let refuse = |why: &str| Err(format!("line {}: {why}", index + 1));
        let line = uncommented(whole).trim();
        if line.is_empty() || ["---", "..."].contains(&line) {
            continue;
        }
        if whole.trim_start_matches(' ').starts_with('\t') {
            return refuse("YAML is not indented by tabs");
        }
        let item = line.strip_prefix("- ").map(str::trim);
        let (key, value) = match (item, &list) {
            (Some(item), Some(key)) => (key.clone(), item),
            (Some(_), None) => return refuse("a list without a key"),
            (None, _) => match line.split_once(':').filter(|(_, value)| value.is_empty() || value.starts_with(' ')) {
                Some((key, value)) => (unquoted(key.trim())?, value.trim()),
                None => return refuse("expected key: value"),
            },
        };
        if !whole.starts_with(' ') && item.is_none() {
            if !value.is_empty() {
                return refuse("expected a section, such as uwsgi:");
            }
            lines.enter(&key, section);
            (current, list) = (key, None);
            continue;
        }
        if value.starts_with(['&', '*', '|', '>', '{', '[', '!', '?']) {
            return refuse(&format!(
                "{key}: migrate reads plain values and lists of them. Quote it, if it is meant as it stands."
            ));
        }
        list = match (item, value) {
            (None, "") => Some(key),
            (None, _) => None,
            (Some(_), _) => list,
        };
        if let (Some(options), true, false) = (&mut lines.options, current == section, value.is_empty()) {
            let key = list.clone().map_or_else(|| unquoted(line.split(':').next().unwrap_or_default().trim()), Ok)?;
            options.push((index + 1, key, unquoted(value).map_err(|why| format!("line {}: {why}", index + 1))?));
        }
    }
    Ok(lines)
}

fn uncommented(line: &str) -> &str {
    let quoted = line.contains(['"', '\'']);
    match line.find(" #").filter(|_| !quoted) {
        Some(at) => &line[..at],
        None if line.trim_start().starts_with('#') => "",
        None => line,
    }
}

fn unquoted(text: &str) -> Result<String, String> {
    let Some(mark) = text.chars().next().filter(|c| ['"', '\''].contains(c)) else { return Ok(text.into()) };
    let inner = text[1..].strip_suffix(mark).ok_or_else(|| format!("{text}: the quotation mark is not closed"))?;
    match inner.contains(['\\', mark]) {
        true => Err(format!("{text}: migrate reads no escapes in YAML")),
        false => Ok(inner.into()),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Section {
    Options(Pairs<Value>),
    Other(IgnoredAny),
}

/// An object, in its order.
struct Pairs<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader(std::marker::PhantomData))
    }
}

fn json(text: &str, section: &str) -> Result<Lines, String> {
    let Pairs(sections) = serde_json::from_slice::<Pairs<Section>>(text.as_bytes()).map_err(|error| {
        let whole = error.to_string();
        let why = whole.split(" at line").next().unwrap_or_default();
        format!("line {}: {why}", error.line())
    })?;
    let mut lines = Lines::default();
    for (name, content) in sections {
        lines.enter(&name, section);
        let (Section::Options(Pairs(pairs)), true) = (content, name == section) else { continue };
        for (key, value) in pairs {
            // JSON's values do not know where they stand; a key that is repeated is rare.
            let at = text.find(&format!("\"{key}\"")).unwrap_or(0);
            let line = text[..at].matches('\n').count() + 1;
            let values = match value {
                Value::Array(values) => values,
                value => vec![value],
            };
            for value in values {
                let text = match value {
                    Value::String(text) => text,
                    Value::Number(number) => number.to_string(),
                    Value::Bool(on) => on.to_string(),
                    Value::Null => String::new(),
                    _ => return Err(format!("line {line}: {key}: expected a text, a number or a list of them")),
                };
                lines.options.get_or_insert_default().push((line, key.clone(), text));
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Vec<(usize, String, String)> {
        of(name, text, "uwsgi").unwrap().options.unwrap()
    }

    fn line(number: usize, key: &str, value: &str) -> Line {
        (number, key.into(), value.into())
    }

    #[test]
    fn ini_keeps_order_and_repeated_keys() {
        let text = "; x\n[other]\na = 1\n[uwsgi]\nenv = A=b # c\n  master\r\n#x\nenv=B=\n[uwsgi]\nlast = 1";
        let expected = [line(5, "env", "A=b # c"), line(6, "master", ""), line(8, "env", "B="), line(10, "last", "1")];
        assert_eq!(read("uwsgi.ini", text), expected);
        assert_eq!(
            of("a.ini", text, "none").unwrap(),
            Lines { options: None, others: vec!["other".into(), "uwsgi".into()] }
        );
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "uwsgi:\n  master: true # x\n  env:\n    - A=b\n    - 'B: c'\n  processes: 4\nother:\n  a: 1\n";
        let expected =
            [line(2, "master", "true"), line(4, "env", "A=b"), line(5, "env", "B: c"), line(6, "processes", "4")];
        assert_eq!(read("uwsgi.yaml", yaml), expected);
        let json = "{\"uwsgi\":{\n\"master\": true,\n\n\"env\": [\"A=b\",\n \"B: c\"],\n\"processes\": 4}, \"x\": [1]}";
        let values = |lines: Vec<Line>| lines.into_iter().map(|(_, key, value)| (key, value)).collect::<Vec<_>>();
        assert_eq!(values(read("uwsgi.json", json)), values(expected.to_vec()));
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_line() {
        for (name, text, expected) in [
            ("a.yml", "uwsgi:\n  a: [1]\n", "line 2: a: migrate reads plain values"),
            ("a.yml", "uwsgi:\n\ta: 1\n", "line 2: YAML is not indented by tabs"),
            ("a.yml", "uwsgi:\n  a\n", "line 2: expected key: value"),
            ("a.yml", "uwsgi:\n  - a\n", "line 2: a list without a key"),
            ("a.yml", "uwsgi:\n  a: \"x\n", "line 2: \"x: the quotation mark"),
            ("a.json", "{\"uwsgi\": {\n\"a\": }}", "line 2: expected value"),
            ("a.json", "{\"uwsgi\": {\n\"a\": {\"b\": 1}}}", "line 2: a: expected a text"),
            ("a.xml", "<uwsgi/>", "is XML"),
        ] {
            let refusal = of(name, text, "uwsgi").unwrap_err();
            assert!(refusal.starts_with(expected), "{name}: {refusal}");
        }
    }
}
