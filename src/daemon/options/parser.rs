//! The command line: made from the table, read by clap, explained in our words.

use std::{collections::BTreeMap, ffi::OsString};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{PossibleValuesParser, ValueHint},
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{GROUPS, Kind, Preset, SETTINGS, Setting, gunicorn, nearest};
use crate::exit::Failure;

const EXAMPLES: &str = "\
Examples:
  ostler site:app                            serve the object `app` of site.py on 127.0.0.1:8000
  ostler -b :80 -w 4 mysite.wsgi             four workers, on every address
  ostler -b unix:/run/site.sock --python /srv/site/.venv --chdir /srv/site mysite.wsgi
  kill -HUP PID, or `ostler reload`          bring new code, settings or another Python without losing a request";

/// For those who write `--preload off`.
const HINT: &str = "Commands stand first, and --preload, --proxy-protocol and switches take a value after `=` only.";

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `ostler APP`
    Serve,
    /// `ostler check`
    Check,
    /// `ostler settings`
    Settings {
        /// For programs.
        json: bool,
    },
    /// One of the commands to a running master, with its words as typed.
    Control(Vec<String>),
    /// Print this and end well: the help, the version, the man page, completions.
    Print(String),
}

/// The command line, read.
#[derive(Debug)]
pub struct Typed {
    /// What to do.
    pub task: Task,
    /// The settings that stand on it.
    pub texts: BTreeMap<&'static str, Vec<String>>,
}

/// Reads the command line, without the program's own name.
pub fn parse(arguments: &[OsString]) -> Result<Typed, Failure> {
    let mut matches = match command().no_binary_name(true).try_get_matches_from(with_dashes(arguments)) {
        Ok(matches) => matches,
        Err(error) => return explain(&error).map(|shown| Typed { task: Task::Print(shown), texts: BTreeMap::new() }),
    };
    let Some((name, mut inner)) = matches.remove_subcommand() else {
        return Ok(Typed { task: Task::Serve, texts: texts(&matches) });
    };
    let texts = texts(&inner);
    let task = match name.as_str() {
        "check" => Task::Check,
        "settings" => Task::Settings { json: inner.get_flag("json") },
        "man" => Task::Print(crate::manual::page()),
        "completions" => Task::Print(completions(inner.remove_one("shell").expect("the shell is required"))),
        _ => Task::Control(control_words(name, &inner)),
    };
    Ok(Typed { task, texts })
}

/// What `ostler` alone prints.
pub fn short_help() -> String {
    command().render_help().to_string()
}

/// The whole command line as clap knows it.
pub fn command() -> Command {
    let settings = || SETTINGS.iter().flat_map(arguments_of);
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("For programs: JSON");
    Command::new("ostler")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .override_usage("ostler [OPTIONS] APP\n       ostler COMMAND [OPTIONS]")
        .after_help(format!("{EXAMPLES}\n\nThis is the short help; `ostler --help` shows every option."))
        .after_long_help(EXAMPLES)
        .subcommand_help_heading("Commands")
        .infer_long_args(true)
        .args_override_self(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .args(settings())
        .subcommand(
            Command::new("check").about("Check the settings and import the application, then end").args(settings()),
        )
        .subcommand(
            Command::new("settings")
                .about("Print every setting, its value and where it came from")
                .args(settings())
                .arg(json()),
        )
        .subcommand(control("status", "Show generations, workers and what each does now").arg(json()))
        .subcommand(control("reload", "Bring new code and settings: all workers anew, without losing a request"))
        .subcommand(control("rollback", "Go back to the generation before, whatever is on disk"))
        .subcommand(control("upgrade", "Replace the running master by the executable on disk, then reload"))
        .subcommand(control("scale", "Change the number of workers by +N or -N, or to N").arg(
            Arg::new("change").value_name("±N").required(true).allow_hyphen_values(true).help("By or to how many"),
        ))
        .subcommand(control("recycle", "Replace every worker, one after the other, by a fresh one of the same code"))
        .subcommand(
            control("stacks", "Print the Python stacks of one worker or of all")
                .arg(Arg::new("worker").value_name("PID").value_parser(clap::value_parser!(u32)).help("Which worker")),
        )
        .subcommand(control("reopen", "Open the log files again"))
        .subcommand(control("stop", "Let the requests under way end, then stop"))
        .subcommand(Command::new("man").about("Print the man page").hide(true))
        .subcommand(Command::new("completions").about("Print the completions of a shell").hide(true).arg(
            Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell)).help("Which"),
        ))
}

/// A command to a running master takes what it needs to find it.
fn control(name: &'static str, about: &'static str) -> Command {
    let finds = |setting: &&Setting| ["config", "chdir", "name", "control"].contains(&setting.name);
    Command::new(name).about(about).args(SETTINGS.iter().filter(finds).flat_map(arguments_of))
}

fn control_words(name: String, matches: &ArgMatches) -> Vec<String> {
    let change = matches.try_get_one::<String>("change").ok().flatten().cloned();
    let worker = matches.try_get_one::<u32>("worker").ok().flatten().map(u32::to_string);
    let json = matches!(matches.try_get_one::<bool>("json"), Ok(Some(true))).then(|| "--json".to_string());
    std::iter::once(name).chain(change).chain(worker).chain(json).collect()
}

/// The argument of a setting; two, if it is on by default: `--no-sendfile` for people, `--sendfile=…` for scripts.
fn arguments_of(setting: &'static Setting) -> Vec<Arg> {
    let arg = Arg::new(setting.name)
        .value_name(setting.value)
        .help(short_text(setting))
        .long_help(long_text(setting))
        .hide_short_help(!setting.common)
        .help_heading(GROUPS[setting.group])
        .value_hint(hint(setting));
    let arg = match setting.name {
        "app" => return vec![arg.help_heading("Arguments")],
        name => arg.long(name).aliases(setting.aliases.iter().copied()),
    };
    let arg = match setting.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match setting.kind {
        Kind::One => vec![arg],
        Kind::Many | Kind::Pairs => vec![arg.action(ArgAction::Append)],
        Kind::Choice(words, alone) => vec![with_optional_value(arg, words, alone)],
        Kind::Switch if setting.on_by_default() => {
            let off = Arg::new(setting.flag())
                .long(setting.flag().trim_start_matches("--").to_owned())
                .action(ArgAction::SetTrue)
                .overrides_with(setting.name)
                .help(short_text(setting))
                .long_help(long_text(setting))
                .hide_short_help(!setting.common)
                .help_heading(GROUPS[setting.group]);
            vec![off, with_optional_value(arg, &["on", "off"], Some("on")).hide(true)]
        }
        Kind::Switch => vec![with_optional_value(arg, &["on", "off"], Some("on"))],
    }
}

fn with_optional_value(arg: Arg, words: &'static [&'static str], alone: Option<&'static str>) -> Arg {
    let arg = arg.value_parser(PossibleValuesParser::new(words)).ignore_case(true).hide_possible_values(true);
    match alone {
        Some(word) => arg.num_args(0..=1).require_equals(true).default_missing_value(word),
        None => arg,
    }
}

fn hint(setting: &Setting) -> ValueHint {
    match setting.value {
        "FILE" => ValueHint::FilePath,
        "PATH" => ValueHint::AnyPath,
        "DIRECTORY" | "DIRECTORIES" => ValueHint::DirPath,
        "USER" | "GROUP" => ValueHint::Username,
        _ => ValueHint::Other,
    }
}

fn short_text(setting: &Setting) -> String {
    match setting.default {
        Preset::Is(text) if !text.is_empty() && setting.kind != Kind::Switch => {
            format!("{} [default: {text}]", setting.help)
        }
        _ => setting.help.into(),
    }
}

/// The help, its words, the default, and the other ways to say it.
pub fn long_text(setting: &Setting) -> String {
    let mut text = format!("{}.", setting.help);
    if !setting.more.is_empty() {
        text += &format!("\n\n{}", setting.more);
    }
    text += "\n\n";
    if let Kind::Choice(words, _) = setting.kind {
        text += &format!("One of: {}. ", words.join(", "));
    }
    text += &match (setting.default, setting.kind) {
        (Preset::Is(""), _) | (Preset::None, _) | (_, Kind::Switch) => String::new(),
        (Preset::Is(default) | Preset::Found(default), _) => format!("Default: {default}. "),
    };
    text += &format!("Environment: {}", setting.variable());
    if let Some(foreign) = setting.foreign {
        text += &format!(", or weaker {foreign}");
    }
    text + &format!(". File: {}.", setting.name)
}

/// gunicorn's users type `--limit-request-field_size`; `_` is as good as `-` in a flag's name.
fn with_dashes(arguments: &[OsString]) -> Vec<OsString> {
    let mut names_end = false;
    let dashed = |argument: &OsString| -> OsString {
        names_end |= argument == "--";
        match argument.to_str() {
            Some(text) if text.starts_with("--") && !names_end => match text.split_once('=') {
                Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
                None => text.replace('_', "-").into(),
            },
            _ => argument.clone(),
        }
    };
    arguments.iter().map(dashed).collect()
}

fn texts(matches: &ArgMatches) -> BTreeMap<&'static str, Vec<String>> {
    let given = |setting: &&Setting| {
        matches!(matches.try_contains_id(setting.name), Ok(true)) || switched_off(matches, setting)
    };
    let texts = |setting: &'static Setting| match matches.get_many::<String>(setting.name) {
        Some(texts) => (setting.name, texts.cloned().collect()),
        None => (setting.name, vec!["off".into()]),
    };
    SETTINGS.iter().filter(given).map(texts).collect()
}

fn switched_off(matches: &ArgMatches, setting: &Setting) -> bool {
    setting.on_by_default() && matches!(matches.try_get_one::<bool>(&setting.flag()), Ok(Some(true)))
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "ostler", &mut script);
    String::from_utf8(script).expect("the script is made of the table's text")
}

/// Help and version are text to print; everything else becomes one sentence of ours.
fn explain(error: &clap::Error) -> Result<String, Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let flag = context(ContextKind::InvalidArg);
    let value = context(ContextKind::InvalidValue);
    Err(Failure::usage(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Ok(error.to_string()),
        // A second positional argument.
        ErrorKind::ArgumentConflict | ErrorKind::InvalidSubcommand => {
            format!("ostler serves one application; {:?} is one too many. {HINT}", second_of(error))
        }
        ErrorKind::UnknownArgument if !flag.starts_with('-') => {
            format!("ostler serves one application; {flag:?} is one too many. {HINT}")
        }
        ErrorKind::UnknownArgument => unknown_flag(&flag),
        ErrorKind::InvalidValue if value.is_empty() => format!("{} needs a value", name_of(&flag)),
        ErrorKind::InvalidValue => {
            format!("{}: {value:?}: expected one of {}", name_of(&flag), context(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => format!("{}: {value:?}: expected a number", name_of(&flag)),
        ErrorKind::NoEquals => format!("{} takes a value after `=` only", name_of(&flag)),
        ErrorKind::TooManyValues => format!("{} takes no such value: {value:?}", name_of(&flag)),
        ErrorKind::MissingRequiredArgument => format!("{flag} is missing"),
        ErrorKind::InvalidUtf8 => "the command line is not UTF-8".into(),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").into(),
    }))
}

/// The word that clap took for a subcommand where none can stand any more.
fn second_of(error: &clap::Error) -> String {
    error.to_string().split('\'').nth(1).unwrap_or_default().into()
}

/// `--timeout` of `--timeout <TIME>`.
fn name_of(usage: &str) -> &str {
    usage.split([' ', '=', '[', '<']).next().unwrap_or(usage)
}

fn unknown_flag(flag: &str) -> String {
    let name = flag.trim_start_matches('-');
    if let Some(why) = gunicorn::not_here(name) {
        return format!("ostler has no {flag}: {why}");
    }
    let flags = || SETTINGS.iter().filter(|setting| setting.name != "app").map(Setting::flag);
    let beginning: Vec<_> = flags().filter(|known| flag.len() > 2 && known.starts_with(flag)).collect();
    if beginning.len() > 1 {
        return format!("{flag} could be {}", beginning.join(", "));
    }
    let flags: Vec<_> = flags().collect();
    match nearest(flag, flags.iter().map(String::as_str)) {
        Some(known) => format!("there is no option {flag}; the nearest is {known}"),
        None => format!("there is no option {flag}. `ostler --help` shows every option."),
    }
}
