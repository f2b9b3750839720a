//! Makes one list of options of the files: inclusion, conditions, loops, magic variables and placeholders, in uWSGI's order.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::lines;
use crate::{
    exit::Failure,
    migrate::{Machine, below},
};

/// How deep files may include each other.
const DEEPEST: usize = 16;

/// One option, expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// As it stands there.
    pub key: String,
    /// Expanded; empty if none was given.
    pub value: String,
    /// `uwsgi.ini, line 3`
    pub place: String,
    /// Why it could not be expanded.
    pub unknown: Option<String>,
}

/// Everything that the files say.
#[derive(Debug, Default)]
pub struct Expanded {
    /// The options.
    pub given: Vec<Given>,
    /// The keys that values name as `%(key)`.
    pub used: BTreeSet<String>,
    /// What was decided here and now, or left out, a sentence each.
    pub remarks: Vec<String>,
}

/// Reads the file, of which a section may stand behind a colon, and those that it includes.
pub fn read(machine: &dyn Machine, file: &str) -> Result<Expanded, Failure> {
    let mut reader = Reader { machine, read: Expanded::default(), logic: None, failed: false, first: None };
    reader.load(file, None, 0)?;
    let mut read = reader.read;
    read.used = read.given.iter().flat_map(|given| words_of(&given.value)).map(String::from).collect();
    for index in 0..read.given.len() {
        let (before, rest) = read.given.split_at_mut(index);
        let (one, behind) = rest.split_first_mut().expect("the index is below the length");
        let named = |key: &str| {
            before.iter().chain(behind.iter()).find(|given| given.key == key).map(|given| given.value.clone())
        };
        expand(machine, one, &named, &mut read.remarks);
    }
    Ok(read)
}

struct Reader<'a> {
    machine: &'a dyn Machine,
    read: Expanded,
    /// The condition or loop that is open: its key and value.
    logic: Option<(String, String)>,
    /// Whether the last condition did not hold.
    failed: bool,
    /// The first file, for the magic variables in upper case.
    first: Option<Origin>,
}

/// A file and its section.
#[derive(Clone)]
struct Origin {
    path: PathBuf,
    named: String,
    section: String,
}

impl Reader<'_> {
    fn load(&mut self, file: &str, from: Option<&Origin>, depth: usize) -> Result<(), Failure> {
        let (name, section) = file.rsplit_once(':').unwrap_or((file, ""));
        let section = if section.is_empty() { "uwsgi" } else { section };
        let path = match from {
            Some(origin) if name.is_empty() => origin.path.clone(),
            // uWSGI counts from where it was started, which need not be here.
            Some(origin) if !self.machine.is_file(&below(self.machine, name)) => {
                origin.path.with_file_name("").join(name)
            }
            _ => below(self.machine, name),
        };
        let named = path.strip_prefix(self.machine.directory()).unwrap_or(&path).display().to_string();
        if depth > DEEPEST {
            return Err(Failure::usage(format!("{named}: files include each other")));
        }
        let text = self.machine.text(&path)?;
        let origin = Origin { path, named, section: section.into() };
        let lines = lines::of(&origin.named, &text, section).map_err(|why| match why.starts_with("line") {
            true => Failure::usage(format!("{}, {why}", origin.named)),
            false => Failure::usage(format!("{} {why}", origin.named)),
        })?;
        let others =
            lines.others.iter().map(|name| if name.is_empty() { "no section".into() } else { format!("[{name}]") });
        let others = others.collect::<Vec<_>>().join(", ");
        let Some(options) = lines.options else {
            let why = if others.is_empty() { "it is empty".into() } else { format!("it has {others}") };
            return Err(Failure::usage(format!("{}: there is no section [{section}]; {why}", origin.named)));
        };
        if !others.is_empty() {
            self.read.remarks.push(format!("{}: only [{section}] was read; {others} is there, too", origin.named));
        }
        self.first.get_or_insert_with(|| origin.clone());
        for (line, key, value) in options {
            let place = format!("{}, line {line}", origin.named);
            let (value, unknown) = self.magic(&value, &origin);
            self.take(Given { key, value, place, unknown }, &origin, depth)?;
        }
        Ok(())
    }

    /// One option, as uWSGI takes it: an open condition or loop decides over it.
    fn take(&mut self, given: Given, origin: &Origin, depth: usize) -> Result<(), Failure> {
        match given.key.as_str() {
            "end" | "endfor" | "endif" | "end-for" | "end-if" => {
                (self.logic, self.failed) = (None, false);
                return Ok(());
            }
            "else" => {
                self.logic = Some(("else".into(), String::new()));
                return Ok(());
            }
            _ => {}
        }
        let Some((logic, value)) = self.logic.clone() else { return self.add(given, origin, depth) };
        if logic == "for" || logic == "for-times" {
            let words: Vec<String> = match logic.as_str() {
                "for" => value.split(' ').filter(|word| !word.is_empty()).map(String::from).collect(),
                _ => (1..=value.parse::<u16>().unwrap_or(0)).map(|number| number.to_string()).collect(),
            };
            for word in words {
                let value = given.value.replace("%(_)", &word);
                self.add(Given { value, ..given.clone() }, origin, depth)?;
            }
            return Ok(());
        }
        let why = match logic.as_str() {
            "else" if self.failed => return self.add(given, origin, depth),
            "else" => Some("the condition before else holds here".to_owned()),
            _ => self.holds(&logic, &value),
        };
        self.failed = logic != "else" && why.is_some();
        match why {
            None => {
                let value = given.value.replace("%(_)", value.split('=').next().unwrap_or_default());
                self.add(Given { value, ..given }, origin, depth)
            }
            Some(why) => {
                let Given { key, value, place, .. } = given;
                self.read.remarks.push(format!("{place}: {} is left out: {why}", shown(&key, &value)));
                Ok(())
            }
        }
    }

    fn add(&mut self, given: Given, origin: &Origin, depth: usize) -> Result<(), Failure> {
        let key = given.key.as_str();
        if key.starts_with("for")
            && key != "force-cwd"
            && key.strip_prefix("for").is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            || key == "if"
            || key.starts_with("if-")
            || ["ifenv", "ifexists", "ifplugin", "ifdir"].contains(&key)
        {
            let mut opened = given.clone();
            expand(self.machine, &mut opened, &|_| None, &mut self.read.remarks);
            if key.starts_with("if") {
                let here = if self.holds(key, &opened.value).is_none() { "holds" } else { "does not hold" };
                self.read.remarks.push(format!(
                    "{}: {} was asked here and now, and {here}",
                    given.place,
                    shown(key, &given.value)
                ));
            }
            self.logic = Some((key.into(), opened.value));
            return Ok(());
        }
        match key {
            "ini" | "include" | "inherit" | "yaml" | "yml" | "json" | "js" | "config" | "xml" | "xmlconfig" => {
                let mut file = given.clone();
                expand(self.machine, &mut file, &|key| self.value_of(key), &mut Vec::new());
                match file.unknown {
                    Some(why) => {
                        self.read.remarks.push(format!("{}: {key} = {} was not read: {why}", given.place, given.value))
                    }
                    None => self.load(&file.value, Some(origin), depth + 1)?,
                }
            }
            // `set = key=value` is as good as `key = value`.
            "set" | "set-ph" | "set-placeholder" => {
                let (key, value) = given.value.split_once('=').unwrap_or((&given.value, ""));
                self.read.given.push(Given { key: key.into(), value: value.into(), ..given.clone() });
            }
            _ => self.read.given.push(given),
        }
        Ok(())
    }

    fn value_of(&self, key: &str) -> Option<String> {
        self.read.given.iter().find(|given| given.key == key).map(|given| given.value.clone())
    }

    /// Why a condition does not hold, or cannot be asked.
    fn holds(&self, logic: &str, value: &str) -> Option<String> {
        let (machine, path) = (self.machine, below(self.machine, value));
        let (name, wanted) = value.split_once('=').map_or((value, None), |(name, wanted)| (name, Some(wanted)));
        let equal = |found: Option<String>| found.is_some_and(|found| wanted.is_none_or(|wanted| wanted == found));
        let exists = || machine.is_file(&path) || machine.is_directory(&path);
        let (holds, what) = match logic {
            "if-env" | "ifenv" | "if-not-env" => (equal(machine.variable(name)), format!("variable {value}")),
            "if-opt" | "if-not-opt" => (equal(self.value_of(name)), format!("option {value}")),
            "if-file" | "if-not-file" => (machine.is_file(&path), format!("file {value}")),
            "if-dir" | "if-directory" | "ifdir" | "if-not-dir" => {
                (machine.is_directory(&path), format!("directory {value}"))
            }
            "if-exists" | "ifexists" | "if-not-exists" => (exists(), format!("file {value}")),
            "if-reload" | "if-not-reload" => (false, "reload under way".into()),
            other => return Some(format!("migrate does not ask {other} = {value}. Write what holds into the ini.")),
        };
        match (holds, logic.contains("not")) {
            (true, false) | (false, true) => None,
            (false, false) => Some(format!("there is no {what} here")),
            (true, true) => Some(format!("there is a {what} here")),
        }
    }

    /// `%d`, `%n` and so on; `%(` stays. What uWSGI does not know becomes nothing, as there.
    fn magic(&self, text: &str, origin: &Origin) -> (String, Option<String>) {
        let (mut result, mut unknown, mut rest) = (String::new(), None, text);
        while let Some((before, behind)) = rest.split_once('%') {
            result += before;
            let Some(letter) = behind.chars().next() else {
                result.push('%');
                rest = "";
                break;
            };
            rest = &behind[letter.len_utf8()..];
            let origin = match (&self.first, letter.is_ascii_uppercase()) {
                (Some(first), true) => first,
                _ => origin,
            };
            match magic(self.machine, letter, origin) {
                Some(value) => result += &value,
                None => unknown = Some(format!("migrate does not know %{letter}")),
            }
        }
        (result + rest, unknown)
    }
}

fn magic(machine: &dyn Machine, letter: char, origin: &Origin) -> Option<String> {
    let path = origin.path.to_string_lossy().into_owned();
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", &path));
    Some(match letter {
        'V' | 't' | 'T' | 'u' | 'U' | 'g' | 'G' | 'i' | 'I' | 'j' | 'J' | 'b' => return None,
        '%' => "%".into(),
        '(' => "%(".into(),
        'o' | 'O' => origin.named.clone(),
        'p' | 'P' => path,
        's' | 'S' => file.into(),
        'd' | 'D' => format!("{directory}/"),
        'c' | 'C' => directory.rsplit('/').next().unwrap_or_default().into(),
        'e' | 'E' => file.rsplit_once('.').map_or("", |(_, ending)| ending).into(),
        'n' | 'N' => file.rsplit_once('.').map_or(file, |(name, _)| name).into(),
        'x' | 'X' => origin.section.clone(),
        'v' => machine.directory().display().to_string(),
        'h' => machine.text(Path::new("/proc/sys/kernel/hostname")).ok()?.trim().into(),
        'k' => std::thread::available_parallelism().map_or(1, usize::from).to_string(),
        '0'..='9' => {
            let index = usize::from(letter as u8 - b'0');
            directory.split('/').filter(|part| !part.is_empty()).nth(index).unwrap_or_default().into()
        }
        _ => String::new(),
    })
}

/// `$(VARIABLE)`, `@(file)` and `%(placeholder)`, in this order. The variables of log-format are none of them.
fn expand(machine: &dyn Machine, given: &mut Given, named: &dyn Fn(&str) -> Option<String>, remarks: &mut Vec<String>) {
    let before = given.value.clone();
    let mut unknown = given.unknown.take();
    let mut used = Vec::new();
    let mut value = replaced(&before, "$(", &mut |inner| {
        let (name, default) = match inner.split_once('-') {
            Some((name, default)) => (name.trim_end_matches(':'), Some(default.to_owned())),
            None => (inner, None),
        };
        let value = machine.variable(name).filter(|value| !(inner.contains(":-") && value.is_empty()));
        match (&value, &default) {
            (Some(_), _) => used.push(format!("{name} of the environment")),
            (None, Some(_)) => used.push(format!("the default, because {name} is not set here")),
            (None, None) => unknown = Some(format!("the variable {name} is not set here. Set it and migrate again.")),
        }
        value.or(default).unwrap_or_default()
    });
    if value.contains("@(") {
        unknown = Some("migrate does not read @(…)".into());
    }
    if !given.key.starts_with("log") || !given.key.contains("format") {
        for _ in 0..DEEPEST {
            value = replaced(&value, "%(", &mut |inner| match computed(inner, named) {
                Some(value) => value,
                None => {
                    unknown = Some(format!("there is no {inner}"));
                    String::new()
                }
            });
        }
    }
    if unknown.is_some() {
        value = before;
    } else if let Some(used) = used.first() {
        let name =
            if ["env", "ienv"].contains(&given.key.as_str()) { "env".into() } else { shown(&given.key, &before) };
        remarks.push(format!("{}: {name} was read with {used}. An ostler.toml has no variables; OSTLER_… of the environment are stronger than it.", given.place));
    }
    (given.value, given.unknown) = (value, unknown);
}

/// `%(a b)` is one behind the other, and `%(a + 2)` a sum.
fn computed(inner: &str, named: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let (mut result, mut state) = (String::new(), None);
    for word in inner.split(' ').filter(|word| !word.is_empty()) {
        if ["+", "-", "*", "/"].contains(&word) {
            state = Some(word);
            continue;
        }
        let value = if word.parse::<i64>().is_ok() { word.to_owned() } else { named(word)? };
        let numbers = || Some((result.parse::<i64>().unwrap_or(0), value.parse::<i64>().unwrap_or(0)));
        result = match state.take() {
            None => result + &value,
            Some("+") => numbers().and_then(|(a, b)| a.checked_add(b))?.to_string(),
            Some("-") => numbers().and_then(|(a, b)| a.checked_sub(b))?.to_string(),
            Some("*") => numbers().and_then(|(a, b)| a.checked_mul(b))?.to_string(),
            Some(_) => numbers().and_then(|(a, b)| a.checked_div(b))?.to_string(),
        };
    }
    Some(result)
}

fn replaced(text: &str, mark: &str, value: &mut dyn FnMut(&str) -> String) -> String {
    let (mut result, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once(mark) {
        let Some((inner, after)) = behind.split_once(')') else { break };
        result += before;
        result += &value(inner);
        rest = after;
    }
    result + rest
}

/// What is named in `%(…)` of a value.
fn words_of(value: &str) -> impl Iterator<Item = &str> {
    value.split("%(").skip(1).filter_map(|rest| rest.split(')').next()).flat_map(|inner| inner.split(' '))
}

/// `master`, `processes = 4`
pub fn shown(key: &str, value: &str) -> String {
    if value.is_empty() { key.into() } else { format!("{key} = {value}") }
}
