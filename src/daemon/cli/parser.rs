//! Reads the command line: what is to be done, and the settings that stand on it.

use std::ffi::OsString;

use clap::ArgMatches;

use super::{
    grammar::{command, short_help},
    manual, mistakes, reference, topics,
};
use crate::{
    exit::Failure,
    options::{SETTINGS, Setting, Texts},
    resources::control::Command,
};

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
    /// One of the commands to a running master.
    Control {
        /// Which.
        command: Command,
        /// What is told of its answer.
        view: View,
    },
    /// Print this and end well: the help, the version, the man page, completions.
    Print(String),
}

/// What is told of a command's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// All of it, for people.
    Text,
    /// All of it, for programs.
    Json,
    /// Whether the site is ready, which the exit status says, too.
    Ready,
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
        "man" => Task::Print(manual::page()),
        "reference" => Task::Print(reference(&inner.remove_one::<String>("page").expect("the page is required"))),
        "completions" => Task::Print(completions(inner.remove_one("shell").expect("the shell is required"))),
        name => Task::Control { command: control(name, &inner), view: view(&inner) },
    };
    Ok(Typed { task, texts })
}

/// Which command to a running master it is.
fn control(name: &str, matches: &ArgMatches) -> Command {
    match name {
        "status" => Command::Status,
        "reload" => Command::Reload,
        "rollback" => Command::Rollback,
        "upgrade" => Command::Upgrade,
        "scale" => Command::Scale(*matches.get_one("change").expect("the change is required")),
        "recycle" => Command::Recycle,
        "stacks" => Command::Stacks(matches.get_one("worker").copied()),
        "reopen" => Command::Reopen,
        "stop" => Command::Stop,
        _ => unreachable!("the grammar has no other command"),
    }
}

fn view(matches: &ArgMatches) -> View {
    let says = |flag| matches!(matches.try_get_one::<bool>(flag), Ok(Some(true)));
    match (says("ready"), says("json")) {
        (true, _) => View::Ready,
        (_, true) => View::Json,
        (false, false) => View::Text,
    }
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
        "metrics" => reference::metrics(),
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
    use crate::{options::Kind, resources::control::Change};

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
        let control = |command| Task::Control { command, view: View::Text };
        for (words, expected) in [
            ("site:app", Task::Serve),
            ("-w 2", Task::Serve),
            ("-w 2 stop:app", Task::Serve),
            ("", Task::Serve),
            ("check -w 2 site:app", Task::Check),
            ("settings", Task::Settings { json: false }),
            ("settings --json site:app", Task::Settings { json: true }),
            ("status --json", Task::Control { command: Command::Status, view: View::Json }),
            ("status --ready", Task::Control { command: Command::Status, view: View::Ready }),
            ("reload -n site", control(Command::Reload)),
            ("rollback", control(Command::Rollback)),
            ("upgrade", control(Command::Upgrade)),
            ("scale +2", control(Command::Scale(Change::By(2)))),
            ("scale -1 --control /run/site.sock", control(Command::Scale(Change::By(-1)))),
            ("scale 4", control(Command::Scale(Change::To(4)))),
            ("recycle", control(Command::Recycle)),
            ("stacks", control(Command::Stacks(None))),
            ("stacks 4711", control(Command::Stacks(Some(4711)))),
            ("reopen", control(Command::Reopen)),
            ("stop", control(Command::Stop)),
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
