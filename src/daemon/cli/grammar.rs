//! What the command line may say, as clap needs to know it; all of it is made from the table.

use std::time::Duration;

use clap::{
    Arg, ArgAction, Command,
    builder::{PossibleValuesParser, ValueHint},
};

use crate::{
    options::{FOREIGN, Foreign, Form, GROUPS, Kind, Preset, SETTINGS, Setting},
    resources::control::Change,
    settings::{self, Share},
};

/// What is shown below every help, and in the man page: a command and what it does.
pub const EXAMPLES: [(&str, &str); 4] = [
    ("ostler shop:app", "serve `app` of shop.py on 127.0.0.1:8000"),
    ("ostler --bind :80 -w 4 mysite.wsgi", "four workers, on every address"),
    ("ostler --python .venv mysite.wsgi", "with the packages of a virtual environment"),
    ("ostler reload", "new code and settings; no request is lost"),
];

/// The id of what stands behind the application.
pub const REST: &str = "rest";

/// The short help: no headings and no list of commands, so that it fits a screen.
const BRIEF: &str = "{about}\n\n{usage-heading} {usage}\n\n{positionals}\n\n{options}{after-help}";

/// What `ostler` alone prints.
pub fn short_help() -> String {
    let all = command();
    let commands: Vec<_> = all.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
    let rest = format!(
        "Commands: {}\n\n{}\n\nEvery option: ostler --help; one of them: ostler help TOPIC",
        commands.join(", "),
        examples()
    );
    all.mut_args(|arg| arg.help_heading(None::<&str>)).help_template(BRIEF).after_help(rest).render_help().to_string()
}

fn examples() -> String {
    let width = EXAMPLES.iter().map(|(typed, _)| typed.len()).max().unwrap_or(0);
    let lines = EXAMPLES.map(|(typed, what)| format!("\n  {typed:width$}  {what}"));
    format!("Examples:{}", lines.concat())
}

/// The whole command line as clap knows it.
pub fn command() -> Command {
    let settings = || SETTINGS.iter().flat_map(arguments_of).chain(FOREIGN.iter().filter_map(foreign)).chain([rest()]);
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("For programs: JSON");
    let ready = Arg::new("ready")
        .long("ready")
        .action(ArgAction::SetTrue)
        .conflicts_with("json")
        .help("For probes: say whether the site serves and is not told to stop; exit status 0 or 9");
    Command::new("ostler")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .override_usage("ostler [OPTIONS] APP\n       ostler COMMAND [OPTIONS]")
        .after_help(examples())
        .subcommand_help_heading("Commands")
        .infer_long_args(true)
        .args_override_self(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(settings())
        .args(about_itself())
        .subcommand(
            Command::new("check").about("Check the settings and import the application, then end").args(settings()),
        )
        .subcommand(
            Command::new("settings")
                .about("Print every setting, its value and where it came from")
                .args(settings())
                .arg(json()),
        )
        .subcommand(
            Command::new("migrate")
                .about("Print an ostler.toml made from a uwsgi.ini (or its YAML or JSON) or a gunicorn.conf.py")
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .required(true)
                        .value_hint(ValueHint::FilePath)
                        .help("Which; FILE:SECTION for another section than [uwsgi]"),
                ),
        )
        .subcommand(control("status", "Show generations, workers and what each does now").arg(json()).arg(ready))
        .subcommand(control("requests", "Show the requests under way, the oldest first").arg(json()))
        .subcommand(
            control("doctor", "Look at the site and its machine, and say what is wrong or unwise, why, and what to do")
                .arg(json()),
        )
        .subcommand(
            control("top", "Show the site on the terminal: rates, times, workers and events, each second anew")
                .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("Print it once, and end"))
                .arg(
                    Arg::new("interval")
                        .long("interval")
                        .value_name("TIME")
                        .default_value("1")
                        .value_parser(between_looks)
                        .help("Between two looks, at least 0.1 s"),
                ),
        )
        .subcommand(reload())
        .subcommand(control("promote", "Have the rest of the workers follow a canary now"))
        .subcommand(control("rollback", "Go back to the previous generation, whatever is on disk now; calls off a reload that still boots"))
        .subcommand(control("upgrade", "Replace the running master by the executable on disk, then reload"))
        .subcommand(
            control("scale", "Change the number of workers by +N or -N, to N, or to as many as the load needs from N to M").arg(
                Arg::new("change")
                    .value_name("±N|N..M")
                    .required(true)
                    .allow_hyphen_values(true)
                    .value_parser(|text: &str| text.parse::<Change>())
                    .help("How many more, how many fewer, how many, or between which numbers"),
            ),
        )
        .subcommand(control(
            "recycle",
            "Replace every worker, one after the other, by a new one that runs the same code",
        ))
        .subcommand(
            control("stacks", "Print the Python stacks of one worker or template, or of all").arg(
                Arg::new("worker")
                    .value_name("PID")
                    .value_parser(|text: &str| text.parse::<i32>().map_err(|_| "expected a process id"))
                    .help("Which worker"),
            ),
        )
        .subcommand(
            control("profile", "Look at the Python stacks of one worker for some seconds, and print how often each was, for flame graphs")
                .arg(
                    Arg::new("worker")
                        .value_name("PID")
                        .required(true)
                        .value_parser(|text: &str| text.parse::<i32>().map_err(|_| "expected a process id"))
                        .help("Which worker"),
                )
                .arg(
                    Arg::new("seconds")
                        .long("seconds")
                        .value_name("TIME")
                        .default_value("10")
                        .value_parser(settings::duration)
                        .help("For how long"),
                )
                .arg(
                    Arg::new("rate")
                        .long("rate")
                        .value_name("N")
                        .default_value("50")
                        .value_parser(clap::value_parser!(u32).range(1..=200))
                        .help("Looks a second, at most 200"),
                ),
        )
        .subcommand(control("reopen", "Open the log files again"))
        .subcommand(control("stop", "Let the requests under way end, then stop"))
        .mut_subcommands(|one| {
            one.arg(Arg::new("help").action(ArgAction::Help).short('h').long("help").help("Print this help"))
        })
        .subcommand(Command::new("help").about("Print the help of every option, or of one topic").arg(
            Arg::new("topic").value_name("TOPIC").allow_hyphen_values(true).help("A command, an option or a heading"),
        ))
        .subcommand(Command::new("man").about("Print the man page").hide(true))
        .subcommand(Command::new("reference").about("Print a page of docs").hide(true).arg(
            Arg::new("page").required(true).value_parser(["settings", "messages", "metrics", "python"]).help("Which"),
        ))
        .subcommand(Command::new("completions").about("Print the completions of a shell").hide(true).arg(
            Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell)).help("Which"),
        ))
}

/// clap's `-h` would be too long for a screen, and `-v` is gunicorn's `-V`.
fn about_itself() -> [Arg; 3] {
    let flag = |name: &'static str, action, help| Arg::new(name).action(action).help(help).long_help(help);
    [
        flag("brief", ArgAction::SetTrue, "Print the short help").short('h'),
        flag("help", ArgAction::HelpLong, "Print the help of every option").long("help").hide_short_help(true),
        flag("version", ArgAction::Version, "Print the version").short('V').short_alias('v').long("version"),
    ]
}

/// More looks would cost the site something.
fn between_looks(text: &str) -> Result<Duration, String> {
    let time = settings::duration(text)?;
    if time < Duration::from_millis(100) { Err("expected at least 0.1 s".into()) } else { Ok(time) }
}

/// A command to a running master takes what it needs to find it.
fn control(name: &'static str, about: &'static str) -> Command {
    let finds = |setting: &&Setting| ["config", "chdir", "name", "control"].contains(&setting.name);
    let shown = |arg: Arg| arg.hide_short_help(false).help_heading(None::<&str>);
    Command::new(name).about(about).args(SETTINGS.iter().filter(finds).flat_map(arguments_of).map(shown))
}

fn reload() -> Command {
    control("reload", "Start new workers with new code and settings, without losing a request")
        .arg(
            Arg::new("share")
                .long("canary")
                .value_name("SHARE")
                .value_parser(|text: &str| text.parse::<Share>())
                .help("Begin with this share of the workers, such as 25%, or a number of them (see --canary)"),
        )
        .arg(
            Arg::new("whole")
                .long("no-canary")
                .action(ArgAction::SetTrue)
                .conflicts_with("share")
                .help("Have all workers take over at once, whatever the settings say"),
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .action(ArgAction::SetTrue)
                .help("Wait until the canary is promoted or taken back, and to the end of the --watch; exit status 16 if it was worse"),
        )
}

/// One of gunicorn's settings that ostler has not; the parser says what becomes of it.
fn foreign(foreign: &'static Foreign) -> Option<Arg> {
    let (first, others) = foreign.flags().split_first()?;
    let arg = Arg::new(foreign.key).long(*first).aliases(others).hide(true);
    let arg = match foreign.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    Some(match foreign.form {
        Form::Flag => arg.action(ArgAction::SetTrue),
        Form::Value | Form::FileOnly => arg.action(ArgAction::Append).allow_hyphen_values(true),
    })
}

/// More than one application: gunicorn passes over all but the first.
fn rest() -> Arg {
    Arg::new(REST).num_args(0..).hide(true)
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
        // What is wrong with `--threads -1` is said by those who read the value.
        name => arg.long(name).aliases(setting.aliases.iter().copied()).allow_negative_numbers(true),
    };
    let arg = match setting.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match setting.kind {
        Kind::One => vec![arg],
        Kind::Many | Kind::Lines | Kind::Pairs => vec![arg.action(ArgAction::Append)],
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
    let [variable, key] = if setting.on_by_default() { ["=off", " = false"] } else { [""; 2] };
    text += &format!("Environment: {}{variable}", setting.variable());
    if let Some(foreign) = setting.foreign {
        text += &format!(", or weaker {foreign}");
    }
    match setting.name {
        // They say how a settings file is found, or are one themselves.
        "config" | "paste" | "paste-global" => text + ".",
        name => text + &format!(". File: {name}{key}."),
    }
}
