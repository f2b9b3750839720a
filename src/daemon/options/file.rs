//! The settings file: TOML, one key for each setting, becomes the same texts as the command line's.

use std::{
    io::{ErrorKind, Read},
    path::Path,
};

use nix::fcntl::OFlag;
use toml::{Table, Value, de::DeTable};

use super::{Kind, SETTINGS, Setting, Texts, gunicorn, nearest};
use crate::{exit::Failure, sys::names::Place};

/// Reads a settings file.
pub fn read(path: &Path) -> Result<Texts, Failure> {
    parse(&text_of(path)?).map_err(|why| could_not_read(path, &why))
}

/// The text of a file that holds settings.
pub fn text_of(path: &Path) -> Result<String, Failure> {
    let fail = |why: String| could_not_read(path, &why);
    let mut text = String::new();
    // To open a FIFO, or to read one, is to wait for its writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let mut file = Place::anywhere(path).and_then(|place| place.open(flags, 0)).map_err(fail)?;
    if !file.metadata().is_ok_and(|told| told.is_file()) {
        return Err(fail("it is not a plain file".to_owned()));
    }
    file.read_to_string(&mut text).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => fail("it is not a text in UTF-8".to_owned()),
        _ => fail(crate::exit::words(&error)),
    })?;
    Ok(text)
}

fn could_not_read(path: &Path, why: &str) -> Failure {
    Failure::usage(format!("could not read {}: {why}", path.display()))
}

/// Reads the text of a settings file. Everything that is wrong with it is named, by its line.
pub fn parse(text: &str) -> Result<Texts, String> {
    let line_at = |at: usize| text[..at].matches('\n').count() + 1;
    let table: Table = toml::from_str(text)
        .map_err(|error| format!("line {}: {}", line_at(error.span().map_or(0, |span| span.start)), error.message()))?;
    let keys = DeTable::parse(text).map(|table| table.into_inner()).unwrap_or_default();
    let line_of = |key: &str| keys.get_key_value(key).map_or(1, |(key, _)| line_at(key.span().start));
    let mut texts = Texts::new();
    let mut wrong: Vec<(usize, String)> = Vec::new();
    for (key, value) in &table {
        let written = known(key).and_then(|setting| {
            let written = to_texts(setting, value).map_err(|why| format!("{key}: {why}"))?;
            let twice = texts.insert(setting.name, written).is_some();
            if twice { Err(format!("{key} is set twice, by two names")) } else { Ok(()) }
        });
        wrong.extend(written.err().map(|why| (line_of(key), why)));
    }
    wrong.sort();
    let wrong: Vec<String> = wrong.into_iter().map(|(line, why)| format!("line {line}: {why}")).collect();
    match wrong.as_slice() {
        [] => Ok(texts),
        [one] => Err(one.clone()),
        several => Err(format!("\n  {}", several.join("\n  "))),
    }
}

fn known(key: &str) -> Result<&'static Setting, String> {
    let name = key.replace('_', "-");
    let names = |setting: &Setting| setting.name == name || setting.aliases.contains(&name.as_str());
    if name == "config" {
        return Err("a settings file cannot name another one".into());
    }
    if let Some(setting) = SETTINGS.iter().find(|setting| names(setting)) {
        return Ok(setting);
    }
    if let Some(why) = gunicorn::not_here(&name) {
        return Err(format!("ostler has no {key}: {why}"));
    }
    Err(match nearest(&name, SETTINGS.iter().map(|setting| setting.name)) {
        Some(near) => format!("there is no setting {key}; the nearest is {near}"),
        None => format!("there is no setting {key}. `ostler settings` shows them all."),
    })
}

fn to_texts(setting: &Setting, value: &Value) -> Result<Vec<String>, String> {
    match (setting.kind, value) {
        (Kind::Many | Kind::Lines | Kind::Pairs, Value::Array(values)) => {
            values.iter().map(|value| to_text(setting, value)).collect()
        }
        (Kind::Pairs, Value::Table(pairs)) => {
            pairs.iter().map(|(key, value)| Ok(format!("{key}={}", to_text(setting, value)?))).collect()
        }
        (Kind::Many | Kind::Lines, value) => Ok(setting.kind.split(&to_text(setting, value)?)),
        (_, value) => Ok(vec![to_text(setting, value)?]),
    }
}

fn to_text(setting: &Setting, value: &Value) -> Result<String, String> {
    let on = match setting.kind {
        Kind::Switch => Some("on"),
        Kind::Choice(_, alone) => alone,
        Kind::One | Kind::Many | Kind::Lines | Kind::Pairs => None,
    };
    match value {
        Value::Boolean(wanted) => match on {
            Some(on) => Ok(if *wanted { on } else { "off" }.into()),
            None if setting.kind == Kind::Pairs => Ok(wanted.to_string()),
            None => Err(format!("expected {}, found true or false", expected(setting))),
        },
        // 0o022 and 18 look the same from here, and 22 was hardly meant as 0o26.
        Value::Integer(_) if setting.name == "umask" => Err("expected a string, as in \"022\"".into()),
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        other => Err(format!("expected {}, found {}", expected(setting), kind_of(other))),
    }
}

fn expected(setting: &Setting) -> &'static str {
    match setting.kind {
        Kind::Switch => "true or false",
        Kind::Many | Kind::Lines => "a string or an array of strings",
        Kind::Pairs => "a table or an array of strings",
        Kind::One | Kind::Choice(..) => match setting.value {
            "COUNT" => "a number",
            "TIME" => "a number of seconds, or a string such as \"5m\"",
            "SIZE" => "a number of bytes, or a string such as \"10M\"",
            _ => "a string",
        },
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
        Value::Datetime(_) => "a date",
        Value::String(_) => "a string",
        Value::Boolean(_) => "true or false",
        Value::Integer(_) | Value::Float(_) => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn values_become_what_would_be_typed() {
        let texts = parse(
            "workers = 4\ntimeout = 1.5\nlimit_request_field_size = \"8k\"\nbind = \":80, unix:a\"\n\
             forwarded-allow-ips = [\"::1\", \"unix:\"]\nsendfile = false\npreload = true\nproxy_protocol = true\numask = \"022\"\n\
             accesslog = \"-\"\n[env]\nA = 1\nB = \"x, y\"\n",
        )
        .unwrap();
        for (name, expected) in [
            ("workers", &["4"] as &[&str]),
            ("timeout", &["1.5"]),
            ("limit-request-field-size", &["8k"]),
            ("bind", &[":80", "unix:a"]),
            ("forwarded-allow-ips", &["::1", "unix:"]),
            ("sendfile", &["off"]),
            ("preload", &["on"]),
            ("proxy-protocol", &["auto"]),
            ("umask", &["022"]),
            ("access-logfile", &["-"]),
            ("env", &["A=1", "B=x, y"]),
        ] {
            assert_eq!(texts[name], expected, "{name}");
        }
        assert_eq!(texts.len(), 11);
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        for (text, expected) in [
            ("workers = true", "workers: expected a number, found true or false"),
            ("timeout = [1]", "timeout: expected a number of seconds, or a string such as \"5m\", found an array"),
            ("max-memory = {}", "max-memory: expected a number of bytes, or a string such as \"10M\", found a table"),
            ("bind = [[\":80\"]]", "bind: expected a string or an array of strings, found an array"),
            ("env = { A = [1] }", "env: expected a table or an array of strings, found an array"),
            ("daemon = []", "daemon: expected true or false, found an array"),
            ("name = 2026-01-01", "name: expected a string, found a date"),
            ("umask = 22", "umask: expected a string, as in \"022\""),
        ] {
            assert_eq!(refusal(text), format!("line 1: {expected}"), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_gets_the_nearest_one_or_the_reason() {
        assert_eq!(refusal("wrokers = 3"), "line 1: there is no setting wrokers; the nearest is workers");
        assert_eq!(refusal("quux = 3"), "line 1: there is no setting quux. `ostler settings` shows them all.");
        assert!(refusal("ssl_context = \"x\"").starts_with("line 1: ostler has no ssl_context: it has no SSLContext"));
        assert_eq!(refusal("config = \"x\""), "line 1: a settings file cannot name another one");
        assert_eq!(
            refusal("access_logfile = \"a\"\naccesslog = \"b\""),
            "line 2: accesslog is set twice, by two names"
        );
    }

    #[test]
    fn everything_that_is_wrong_is_named_in_the_order_of_the_file() {
        let text = "workers = 2\nwrokers = 3\n\n[env]\nA = 1\n[quux]\nx = 1\n";
        let said = "\n  line 2: there is no setting wrokers; the nearest is workers\n  \
                    line 6: there is no setting quux. `ostler settings` shows them all.";
        assert_eq!(refusal(text), said);
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        assert!(refusal("threads = 1\n\nworkers = \n").starts_with("line 3: "), "{}", refusal("workers = "));
    }

    #[test]
    fn a_file_of_another_encoding_is_refused() {
        let folder = crate::fixture::Folder::new();
        let path = folder.file("latin.toml", "");
        std::fs::write(&path, b"chdir = \"/srv/caf\xe9\"\n").unwrap();
        assert!(read(&path).unwrap_err().message.ends_with("latin.toml: it is not a text in UTF-8"));
    }
}
