//! Writes an ostler.toml: comments for people first, then the settings in the order of the help, then what was not carried.

use std::collections::BTreeMap;

use ostler_wire::log::printable;
use toml::Value;

use crate::options::{Kind, SETTINGS, Setting};

/// How long a line of a comment may be.
const WIDTH: usize = 110;

/// What will be written.
#[derive(Debug, Default)]
pub struct Page {
    /// Where it comes from.
    pub source: String,
    /// What a person must know first.
    pub first: Vec<String>,
    /// The settings.
    pub settings: BTreeMap<&'static str, Entry>,
    /// Under a heading each: what was not carried, and why.
    pub rest: Vec<(&'static str, Vec<String>)>,
}

/// A setting of it.
#[derive(Debug, Default)]
pub struct Entry {
    /// As they would be typed.
    pub texts: Vec<String>,
    /// Where they come from, and what changes.
    pub comments: Vec<String>,
}

impl Page {
    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = comment(&format!(
            "Made by `ostler migrate` from {}. Read it, then try it: ostler check --config ostler.toml",
            self.source
        ));
        text += &section("First", &self.first);
        // A table takes everything up to the next one, so it stands last.
        let order = |tables: bool| SETTINGS.iter().filter(move |setting| (setting.kind == Kind::Pairs) == tables);
        let given = |setting: &&'static Setting| Some((*setting, self.settings.get(setting.name)?));
        let entries = |tables| order(tables).filter_map(move |setting| given(&setting));
        text += "\n";
        text += &entries(false).map(|(setting, entry)| written(setting, entry)).collect::<String>();
        text += &self.rest.iter().map(|(heading, lines)| section(heading, lines)).collect::<String>();
        text + &entries(true).map(|(setting, entry)| format!("\n{}", written(setting, entry))).collect::<String>()
    }
}

fn section(heading: &str, lines: &[String]) -> String {
    match lines {
        [] => String::new(),
        _ => format!("\n# {heading}:\n{}", lines.iter().map(|line| item(line)).collect::<String>()),
    }
}

fn item(text: &str) -> String {
    wrapped(text)
        .iter()
        .enumerate()
        .map(|(row, line)| format!("# {} {line}\n", if row == 0 { "-" } else { " " }))
        .collect()
}

fn comment(text: &str) -> String {
    wrapped(text).iter().map(|line| format!("# {line}\n")).collect()
}

/// In lines of [`WIDTH`], but what is indented is to be copied, and stays whole. TOML allows no control characters in a comment.
fn wrapped(text: &str) -> Vec<String> {
    text.split('\n')
        .flat_map(|part| if part.starts_with("    ") { vec![printable(part)] } else { filled(&printable(part)) })
        .collect()
}

fn filled(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a first one");
        if !line.is_empty() && line.chars().count() + word.chars().count() >= WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn written(setting: &Setting, entry: &Entry) -> String {
    let comments: String = entry.comments.iter().map(|text| comment(text)).collect();
    if setting.kind == Kind::Pairs {
        let pairs = entry.texts.iter().filter_map(|text| text.split_once('='));
        // The last of several values of one key counts.
        let pairs: BTreeMap<&str, &str> = pairs.collect();
        let line = |(key, value): (&&str, &&str)| format!("{} = {}\n", key_of(key), quoted(value));
        return format!("{comments}[{}]\n{}", setting.name, pairs.iter().map(line).collect::<String>());
    }
    let value = match entry.texts.as_slice() {
        [text] => value(setting, text),
        texts => format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")),
    };
    format!("{comments}{} = {value}\n", setting.name)
}

fn value(setting: &Setting, text: &str) -> String {
    let is_number = !text.is_empty() && text.len() < 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    match (setting.kind, text) {
        (Kind::Switch, "on") => "true".into(),
        (Kind::Switch, _) => "false".into(),
        (Kind::One, _) if is_number && ["COUNT", "TIME", "SIZE"].contains(&setting.value) => {
            text.parse::<u64>().map_or_else(|_| quoted(text), |number| number.to_string())
        }
        _ => quoted(text),
    }
}

fn key_of(text: &str) -> String {
    let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare {
        text.into()
    } else {
        toml::Table::from_iter([(text.to_owned(), Value::from(0))]).to_string().replace(" = 0\n", "")
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::read_text;

    #[test]
    fn any_text_survives() {
        let texts = ["a", "", "it's \"so\"", "\u{1}\n\u{7f}", "é # x", "'''", "\\n"];
        for text in texts {
            let mut page = Page { first: vec![text.into()], source: text.into(), ..Page::default() };
            let pair = vec![format!("A B={text}")];
            page.settings.insert("env", Entry { texts: pair.clone(), comments: vec![text.into()] });
            page.settings.insert("app", Entry { texts: vec![text.into()], comments: vec![text.into()] });
            let read = read_text(&page.text()).unwrap_or_else(|why| panic!("{why}: {}", page.text()));
            assert_eq!((&read["app"], &read["env"]), (&vec![text.to_owned()], &pair));
        }
    }
}
