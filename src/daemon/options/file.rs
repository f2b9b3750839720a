//! The settings file: TOML, one key for each setting, becomes the same texts as the command line's.

use std::{fs, path::Path};

use toml::{Table, Value};

use super::{Kind, SETTINGS, Setting, Texts, gunicorn, nearest};
use crate::exit::Failure;

/// Reads a settings file.
pub fn read(path: &Path) -> Result<Texts, Failure> {
    let named = path.file_name().unwrap_or_default().to_string_lossy();
    if named.ends_with(".py") || named.starts_with("python:") {
        return Err(Failure::usage(format!(
            "{} is Python, and ostler runs none for its settings. Write them as TOML: workers = 4",
            path.display()
        )));
    }
    let fail = |why: String| Failure::usage(format!("could not read {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| fail(crate::exit::words(&error)))?;
    parse(&text).map_err(fail)
}

fn parse(text: &str) -> Result<Texts, String> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        format!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })?;
    let mut texts = Texts::new();
    for (key, value) in &table {
        let setting = known(key)?;
        let written = to_texts(setting, value).map_err(|why| format!("{key}: {why}"))?;
        if texts.insert(setting.name, written).is_some() {
            return Err(format!("{key} is set twice, by two names"));
        }
    }
    Ok(texts)
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
        (Kind::Many | Kind::Pairs, Value::Array(values)) => {
            values.iter().map(|value| to_text(setting, value)).collect()
        }
        (Kind::Pairs, Value::Table(pairs)) => {
            pairs.iter().map(|(key, value)| Ok(format!("{key}={}", to_text(setting, value)?))).collect()
        }
        (Kind::Many, value) => Ok(super::layers::split(setting.kind, &to_text(setting, value)?)),
        (_, value) => Ok(vec![to_text(setting, value)?]),
    }
}

fn to_text(setting: &Setting, value: &Value) -> Result<String, String> {
    let is_switch = matches!(setting.kind, Kind::Switch) || setting.name == "preload";
    match value {
        Value::Boolean(on) if is_switch => Ok(if *on { "on" } else { "off" }.into()),
        Value::Boolean(_) if setting.kind != Kind::Pairs => {
            Err(format!("expected {}, found true or false", expected(setting)))
        }
        // 0o022 and 18 look the same from here, and 22 was hardly meant as 0o26.
        Value::Integer(_) if setting.name == "umask" => Err("expected a string, as in \"022\"".into()),
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(word) => Ok(word.to_string()),
        other => Err(format!("expected {}, found {}", expected(setting), kind_of(other))),
    }
}

fn expected(setting: &Setting) -> &'static str {
    match setting.kind {
        Kind::Switch => "true or false",
        Kind::Many => "a string or an array of strings",
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
