//! The command line: made from the table, read by clap, explained in our words.

use std::ffi::OsString;

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{PossibleValuesParser, ValueHint},
};

use super::{GROUPS, Kind, Preset, SETTINGS, Setting, Texts, mistakes, topics};
use crate::{exit::Failure, reference};

/// What is shown below every help, and in the man page: a command and what it does.
pub const EXAMPLES: [(&str, &str); 4] = [
    ("ostler shop:app", "serve `app` of shop.py on 127.0.0.1:8000"),
    ("ostler --bind :80 -w 4 mysite.wsgi", "four workers, on every address"),
    ("ostler --python .venv mysite.wsgi", "with the packages of a virtual environment"),
    ("ostler reload", "new code and settings; no request is lost"),
];

/// The short help: no headings and no list of commands, so that it fits a screen.
const BRIEF: &str = "{about}\n\n{usage-heading} {usage}\n\n{positionals}\n\n{options}{after-help}";

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
    pub texts: Texts,
}

/// Reads the command line, without the program's own name.
pub fn parse(arguments: &[OsString]) -> Result<Typed, Failure> {
    let print = |text| Typed { task: Task::Print(text), texts: Texts::new() };
    let arguments = with_dashes(arguments);
    let program = OsString::from("ostler");
    let mut matches = match command().try_get_matches_from(std::iter::once(&program).chain(&arguments)) {
        Ok(matches) => matches,
        Err(error) => return mistakes::explain(&error, &arguments).map(print),
    };
    if matches.get_flag("brief") {
        return Ok(print(short_help()));
    }
    let Some((name, mut inner)) = matches.remove_subcommand() else {
        let texts = texts(&matches);
        mistakes::command_behind_options(&texts)?;
        return Ok(Typed { task: Task::Serve, texts });
    };
    let texts = texts(&inner);
    let task = match name.as_str() {
        "check" => Task::Check,
        "settings" => Task::Settings { json: inner.get_flag("json") },
        "help" => Task::Print(topics::help(inner.get_one::<String>("topic").map(String::as_str))?),
        "man" => Task::Print(crate::manual::page()),
        "reference" => Task::Print(reference(&inner.remove_one::<String>("page").expect("the page is required"))),
        "completions" => Task::Print(completions(inner.remove_one("shell").expect("the shell is required"))),
        _ => Task::Control(control_words(name, &inner)),
    };
    Ok(Typed { task, texts })
}

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
    let settings = || SETTINGS.iter().flat_map(arguments_of);
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("For programs: JSON");
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
        .subcommand(control("status", "Show generations, workers and what each does now").arg(json()))
        .subcommand(control("reload", "Bring new code and settings: all workers anew, without losing a request"))
        .subcommand(control("rollback", "Go back to the generation before, whatever is on disk"))
        .subcommand(control("upgrade", "Replace the running master by the executable on disk, then reload"))
        .subcommand(
            control("scale", "Change the number of workers by +N or -N, or to N").arg(
                Arg::new("change")
                    .value_name("±N")
                    .required(true)
                    .allow_hyphen_values(true)
                    .value_parser(change)
                    .help("By or to how many"),
            ),
        )
        .subcommand(control("recycle", "Replace every worker, one after the other, by a fresh one of the same code"))
        .subcommand(
            control("stacks", "Print the Python stacks of one worker or template, or of all")
                .arg(Arg::new("worker").value_name("PID").value_parser(process).help("Which worker")),
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
        .subcommand(
            Command::new("reference")
                .about("Print a page of docs")
                .hide(true)
                .arg(Arg::new("page").required(true).value_parser(["settings", "messages"]).help("Which")),
        )
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

/// `+2`, `-1` or `4`.
fn change(text: &str) -> Result<String, String> {
    match text.parse::<i32>() {
        Ok(_) => Ok(text.into()),
        Err(_) => Err("expected +N, -N or N".into()),
    }
}

fn process(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "expected a process id".into())
}

/// A command to a running master takes what it needs to find it.
fn control(name: &'static str, about: &'static str) -> Command {
    let finds = |setting: &&Setting| ["config", "chdir", "name", "control"].contains(&setting.name);
    let shown = |arg: Arg| arg.hide_short_help(false).help_heading(None::<&str>);
    Command::new(name).about(about).args(SETTINGS.iter().filter(finds).flat_map(arguments_of).map(shown))
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
        // What is wrong with `--threads -1` is said by those who read the value.
        name => arg.long(name).aliases(setting.aliases.iter().copied()).allow_negative_numbers(true),
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
    let [variable, key] = if setting.on_by_default() { ["=off", " = false"] } else { [""; 2] };
    text += &format!("Environment: {}{variable}", setting.variable());
    if let Some(foreign) = setting.foreign {
        text += &format!(", or weaker {foreign}");
    }
    text + &format!(". File: {}{key}.", setting.name)
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

fn texts(matches: &ArgMatches) -> Texts {
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

fn reference(page: &str) -> String {
    match page {
        "settings" => reference::settings(),
        _ => reference::messages(),
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "ostler", &mut script);
    String::from_utf8(script).expect("the script is made of the table's text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &str) -> Typed {
        let words: Vec<OsString> = words.split_whitespace().map(Into::into).collect();
        parse(&words).unwrap_or_else(|failure| panic!("{words:?}: {failure}"))
    }

    /// What was typed for one setting, joined by spaces.
    fn text(words: &str, name: &str) -> Option<String> {
        typed(words).texts.get(name).map(|texts| texts.join(" "))
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_table() {
        command().debug_assert();
    }

    #[test]
    fn options_are_spelt_as_gunicorn_s_users_do() {
        for (words, name, expected) in [
            ("-w4 x", "workers", "4"),
            ("x -w 4 -w 5", "workers", "5"),
            ("-b :1 --bind=:2 x", "bind", ":1 :2"),
            ("--limit-request-field_size 5 x", "limit-request-field-size", "5"),
            ("--graceful_timeout=5 x", "graceful-timeout", "5"),
            ("--access-logfo %(h)s x", "access-logformat", "%(h)s"),
            ("--log-file a x", "error-logfile", "a"),
            ("--no-sendfile x", "sendfile", "off"),
            ("--sendfile=off --no-sendfile --sendfile x", "sendfile", "on"),
            ("--preload x", "preload", "on"),
            ("--preload=off x", "preload", "off"),
            ("--proxy-protocol x", "proxy-protocol", "auto"),
            ("-D x", "daemon", "on"),
            ("-e A_B=c_d x", "env", "A_B=c_d"),
            ("--env A_B=c_d x", "env", "A_B=c_d"),
            ("-p a -u b -g c -m 022 -n d -c e -k sync -t 5 x", "umask", "022"),
            ("--workers 4 -- x", "app", "x"),
            ("--threads -1 x", "threads", "-1"),
        ] {
            assert_eq!(text(words, name).as_deref(), Some(expected), "{words}");
        }
        assert_eq!(text("x", "workers"), None);
    }

    #[test]
    fn every_spelling_of_every_setting_is_taken() {
        for setting in SETTINGS.iter().filter(|setting| setting.name != "app") {
            let value = match setting.kind {
                Kind::Choice(words, _) => words[1],
                Kind::Switch => "off",
                Kind::One | Kind::Many | Kind::Pairs => "A=b",
            };
            let long = setting.aliases.iter().chain([&setting.name]).map(|name| format!("--{name}={value}"));
            let short =
                setting.short.filter(|_| setting.kind != Kind::Switch).map(|letter| format!("-{letter}{value}"));
            for word in long.chain(short) {
                assert_eq!(text(&format!("{word} x"), setting.name).as_deref(), Some(value), "{word}");
            }
        }
    }

    #[test]
    fn commands_and_what_they_take() {
        let control = |words: &[&str]| Task::Control(words.iter().map(ToString::to_string).collect());
        for (words, expected) in [
            ("site:app", Task::Serve),
            ("-w 2", Task::Serve),
            ("-w 2 stop:app", Task::Serve),
            ("", Task::Serve),
            ("check -w 2 site:app", Task::Check),
            ("settings", Task::Settings { json: false }),
            ("settings --json site:app", Task::Settings { json: true }),
            ("status --json", control(&["status", "--json"])),
            ("reload -n site", control(&["reload"])),
            ("rollback", control(&["rollback"])),
            ("upgrade", control(&["upgrade"])),
            ("scale +2", control(&["scale", "+2"])),
            ("scale -1 --control /run/site.sock", control(&["scale", "-1"])),
            ("scale 4", control(&["scale", "4"])),
            ("recycle", control(&["recycle"])),
            ("stacks", control(&["stacks"])),
            ("stacks 4711", control(&["stacks", "4711"])),
            ("reopen", control(&["reopen"])),
            ("stop", control(&["stop"])),
        ] {
            assert_eq!(typed(words).task, expected, "{words}");
        }
        assert_eq!(text("stop -n site", "name").as_deref(), Some("site"));
        assert_eq!(text("check -w 2 site:app", "app").as_deref(), Some("site:app"));
    }

    #[test]
    fn the_short_help_fits_a_screen_and_the_long_one_holds_every_setting() {
        let printed = |words| match typed(words).task {
            Task::Print(text) => text,
            other => panic!("{words} is {other:?}"),
        };
        assert_eq!(printed("-h"), short_help());
        assert!(short_help().lines().count() < 40, "{}", short_help());
        assert!(short_help().contains("ostler --bind"));
        let long = printed("--help");
        for setting in SETTINGS {
            for part in [setting.flag(), setting.variable()] {
                assert!(long.contains(&part), "{part}");
            }
        }
        assert_eq!(printed("-v"), printed("--version"));
    }

    #[test]
    fn every_shell_gets_its_completions() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let Task::Print(script) = typed(&format!("completions {shell}")).task else { panic!("{shell}") };
            assert!(script.contains("graceful-timeout") && script.contains("rollback"), "{shell}");
        }
    }
}
