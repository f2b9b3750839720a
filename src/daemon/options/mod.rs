//! What was typed: each setting's text and where it came from. What it means is in settings.
//!
//! A setting is declared once, in the [`table`]; the parser, both helps, the man page, the completions, the keys of the
//! settings file, the environment variables and the messages all come from there.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf};

use ostler_wire::ProgramSource;

use crate::exit::Failure;

mod file;
mod gunicorn;
mod layers;
mod table;

#[cfg(test)]
pub use file::parse as read_text;
pub use file::text_of;
pub use gunicorn::{FOREIGN, Fate, Foreign, Form, WorkerClass, foreign, not_here, worker_class};
#[cfg(test)]
pub use layers::usual_file;
pub use layers::{FileTexts, GUNICORN_ARGS, file_is_program, program};
pub use table::{GROUPS, SETTINGS, setting};

/// Where a test says that the engine is.
pub const ENGINE_VARIABLE: &str = "OSTLER_ENGINE";
/// Tells a new executable of an upgrade where the state is.
pub const HANDOVER_VARIABLE: &str = "OSTLER_HANDOVER";

/// One setting, as it is declared.
#[derive(Debug)]
pub struct Setting {
    /// The flag without `--`, and the key of the file, where `_` does as well: `graceful-timeout`.
    pub name: &'static str,
    /// The flag of one letter.
    pub short: Option<char>,
    /// gunicorn's other names for it, as flag and as key.
    pub aliases: &'static [&'static str],
    /// How many values of what sort it takes.
    pub kind: Kind,
    /// What the help calls the value: `SECONDS`.
    pub value: &'static str,
    /// What holds when nobody says anything.
    pub default: Preset,
    /// A variable of the environment that others set too, weaker than the file: `PORT`.
    pub foreign: Option<&'static str>,
    /// Whether the short help shows it.
    pub common: bool,
    /// One line.
    pub help: &'static str,
    /// The rest, for the long help and the man page; may be empty.
    pub more: &'static str,
    /// Under which heading it stands; one of [`GROUPS`].
    pub group: usize,
}

/// How many values a setting takes, and of what sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On or off; the flag alone means on.
    Switch,
    /// One of these words; a flag without a value means the second field, if there is one.
    Choice(&'static [&'static str], Option<&'static str>),
    /// One value.
    One,
    /// Several, by repeating the flag or separated by commas.
    Many,
    /// Several that may hold commas, by repeating the flag.
    Lines,
    /// Several `KEY=VALUE`, by repeating the flag, or a table in the file.
    Pairs,
}

/// What holds when nobody says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// As it would be typed.
    Is(&'static str),
    /// Found out at start; this says how.
    Found(&'static str),
    /// Nothing.
    None,
}

/// Where a value came from: a layer of the settings. The strongest stands first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// A flag or the argument.
    CommandLine,
    /// This variable.
    Environment(String),
    /// This file, and the line if it can be told.
    File(PathBuf, Option<u32>),
    /// The table, or found out at start.
    Default,
}

/// One setting's text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// As typed; several where [`Setting::is_repeated`], at most one otherwise.
    pub texts: Vec<String>,
    /// The strongest that says something.
    pub layer: Layer,
}

/// What the program was started with; kept for the reloads.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Without the program's own name.
    pub arguments: Vec<OsString>,
    /// Where it was started: the way there as the shell saw it, so that a symbolic link is followed anew by each reload.
    pub directory: PathBuf,
    /// The usual settings file, if it was there at the start. One that appears later may be somebody else's.
    pub usual_file: Option<PathBuf>,
    /// The process of the master, or of the command: a child that looks at the settings for it has another.
    pub process: u32,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What GUNICORN_CMD_ARGS says, read as a command line below ours.
    pub gunicorn_args: Option<Texts>,
    /// Whether the program was started under the name `gunicorn`.
    pub as_gunicorn: bool,
}

/// What one layer says, by the names of the settings.
pub type Texts = BTreeMap<&'static str, Vec<String>>;

/// What was typed, all layers laid over each other.
#[derive(Debug, Clone, Default)]
pub struct Options {
    given: BTreeMap<&'static str, Given>,
    /// Whether the settings file has hooks for the master.
    pub master_hooks: bool,
    /// Whether the settings file configures Python's logging, so that Python writes the access log.
    pub configures_logging: bool,
    /// Which library has replaced Python's threads in the settings file, if one has.
    pub patched: Option<String>,
    /// What is to be said first of how the settings were understood; a sentence each.
    pub understood: Vec<String>,
    /// What of gunicorn's configuration is in force; the defaults are gunicorn's then, where an application can see them.
    pub gunicorn: Option<String>,
    /// The settings file.
    pub file: Option<PathBuf>,
    /// The same, if it is a program.
    pub program: Option<ProgramSource>,
    /// The file of a program that embeds gunicorn, or of Paste Deploy; the settings file may stand beside it.
    pub embedding_file: Option<PathBuf>,
    /// What is to be said of settings that were taken and have no meaning here.
    pub needless: Vec<String>,
    /// What looks like a mistake in a settings file, and was passed over as gunicorn does.
    pub suspicious: Vec<String>,
}

impl Setting {
    /// `OSTLER_GRACEFUL_TIMEOUT`
    pub fn variable(&self) -> String {
        format!("OSTLER_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// As it is shown to people: `--graceful-timeout`, `--no-sendfile`, or `APP`.
    pub fn flag(&self) -> String {
        match (self.name, self.on_by_default()) {
            ("app", _) => "APP".into(),
            (name, true) => format!("--no-{name}"),
            (name, false) => format!("--{name}"),
        }
    }

    /// Whether it may have several values.
    pub fn is_repeated(&self) -> bool {
        matches!(self.kind, Kind::Many | Kind::Lines | Kind::Pairs)
    }

    /// Whether it is a switch whose flag turns it off.
    pub fn on_by_default(&self) -> bool {
        self.kind == Kind::Switch && self.default == Preset::Is("on")
    }
}

impl Kind {
    /// Several values in one text: by commas, or by lines where the values may hold commas.
    pub fn split(self, text: &str) -> Vec<String> {
        let parts =
            |by: char| text.split(by).map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect();
        match self {
            Kind::Many => parts(','),
            Kind::Lines | Kind::Pairs => parts('\n'),
            Kind::One | Kind::Switch | Kind::Choice(..) => vec![text.into()],
        }
    }
}

impl Layer {
    /// The setting, by the name under which it was given.
    fn names(&self, setting: &Setting) -> String {
        match self {
            Layer::CommandLine | Layer::Default => setting.flag(),
            Layer::Environment(variable) if variable == GUNICORN_ARGS => format!("{GUNICORN_ARGS}: {}", setting.flag()),
            Layer::Environment(variable) => variable.clone(),
            Layer::File(path, None) => format!("{} in {}", setting.name, path.display()),
            Layer::File(path, Some(line)) => format!("{} in {}, line {line}", setting.name, path.display()),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Layer::CommandLine => f.write_str("command line"),
            Layer::Environment(variable) => write!(f, "environment ({variable})"),
            Layer::File(path, None) => write!(f, "{}", path.display()),
            Layer::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Layer::Default => f.write_str("default"),
        }
    }
}

impl Options {
    /// The setting as given.
    pub fn given(&self, name: &'static str) -> &Given {
        self.given.get(name).expect("every name of the table has an entry")
    }

    /// Whether a layer above the defaults says something.
    pub fn is_given(&self, name: &'static str) -> bool {
        self.given(name).layer != Layer::Default
    }

    /// Notes what was found out for a setting that was not given.
    pub fn found(&mut self, name: &'static str, text: impl Into<String>) {
        self.given.insert(name, Given { texts: vec![text.into()], layer: Layer::Default });
    }

    /// The value, or none if there is no text.
    pub fn optional<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        Ok(self.list(name, parse)?.pop())
    }

    /// The value of a setting that always has one.
    pub fn value<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        self.optional(name, parse)?.ok_or_else(|| self.failure(name, "", "expected a value"))
    }

    /// All values.
    pub fn list<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Failure> {
        self.given(name).texts.iter().map(|text| parse(text).map_err(|why| self.failure(name, text, &why))).collect()
    }

    /// Whether a switch is on.
    pub fn switch(&self, name: &'static str) -> Result<bool, Failure> {
        self.value(name, |text| match on_or_off(&text.to_ascii_lowercase()) {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err("expected on or off".into()),
        })
    }

    /// A choice, by its words.
    pub fn choice(&self, name: &'static str) -> Result<String, Failure> {
        let Kind::Choice(words, _) = setting(name).kind else { unreachable!("only choices are asked for by word") };
        self.value(name, |text| {
            let word = text.to_ascii_lowercase();
            match [word.as_str(), on_or_off(&word)].into_iter().find(|word| words.contains(word)) {
                Some(word) => Ok(word.into()),
                None => Err(format!("expected {}", one_of(words))),
            }
        })
    }

    /// `--timeout 5x: expected …`
    pub fn failure(&self, name: &'static str, text: &str, why: &str) -> Failure {
        let named = self.given(name).layer.names(setting(name));
        match text.is_empty() {
            true => Failure::usage(format!("{named}: {why}")),
            false => Failure::usage(format!("{named}: {text:?}: {why}")),
        }
    }

    /// Every setting with what was given, in the table's order.
    pub fn all(&self) -> impl Iterator<Item = (&'static Setting, &Given)> {
        SETTINGS.iter().map(|setting| (setting, self.given.get(setting.name).expect("every setting has an entry")))
    }
}

/// `on` or `off` for the words that people say instead; other words as they are.
fn on_or_off(word: &str) -> &str {
    match word {
        "true" | "yes" | "y" | "1" => "on",
        "false" | "no" | "n" | "0" => "off",
        _ => word,
    }
}

/// `a, b or c`
fn one_of(words: &[&str]) -> String {
    match words {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => words.concat(),
    }
}

/// The word that was probably meant, if one is near enough.
pub fn nearest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|word| (strsim::damerau_levenshtein(typed, word), word))
        .filter(|(distance, word)| distance * 3 <= word.len().max(typed.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
