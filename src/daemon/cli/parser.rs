//! Reads the command line: what is to be done, and the settings that stand on it.

use std::ffi::OsString;

use clap::ArgMatches;

use super::{
    grammar::{REST, command, short_help},
    manual, mistakes,
    profile::Profile,
    python, reference,
    top::Top,
    topics,
};
use crate::{
    exit::Failure,
    options::{FOREIGN, Fate, Form, GUNICORN_ARGS, SETTINGS, Setting, Texts, setting},
    resources::control::Command,
    settings::Rollout,
};

/// What the program is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Task {
    /// `ostler APP`
    #[default]
    Serve,
    /// `ostler check`
    Check,
    /// `ostler settings`
    Settings {
        /// For programs.
        json: bool,
    },
    /// `ostler migrate FILE`
    Migrate(String),
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
    /// The requests that are under way, for people or for programs.
    Requests {
        /// For programs.
        json: bool,
    },
    /// The site, again and again.
    Top(Top),
    /// The stacks, again and again, counted.
    Profile(Profile),
}

/// The command line, read.
#[derive(Debug, Default)]
pub struct Typed {
    /// What to do.
    pub task: Task,
    /// The settings that stand on it.
    pub texts: Texts,
    /// See [`crate::options::Options::needless`].
    pub needless: Vec<String>,
    /// See [`crate::options::Options::suspicious`].
    pub suspicious: Vec<String>,
}

/// Reads the command line, without the program's own name.
pub fn parse(arguments: &[OsString]) -> Result<Typed, Failure> {
    let print = |text| Typed { task: Task::Print(text), ..Typed::default() };
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
        let mut typed = Typed { texts: texts(&matches), ..Typed::default() };
        mistakes::command_behind_options(&typed.texts)?;
        typed.read_foreign(&matches, &arguments)?;
        return Ok(typed);
    };
    let mut typed = Typed { texts: texts(&inner), ..Typed::default() };
    typed.read_foreign(&inner, &arguments)?;
    typed.task = match name.as_str() {
        "check" => Task::Check,
        "settings" => Task::Settings { json: inner.get_flag("json") },
        "migrate" => Task::Migrate(inner.remove_one("file").expect("the file is required")),
        "help" => Task::Print(topics::help(inner.get_one::<String>("topic").map(String::as_str))?),
        "man" => Task::Print(manual::page()),
        "reference" => Task::Print(reference(&inner.remove_one::<String>("page").expect("the page is required"))),
        "completions" => Task::Print(completions(inner.remove_one("shell").expect("the shell is required"))),
        name => Task::Control { command: control(name, &inner), view: view(name, &inner) },
    };
    Ok(typed)
}

/// What GUNICORN_CMD_ARGS says; it is read as a shell would read it.
pub fn gunicorn_args(text: &str) -> Result<Typed, Failure> {
    let words = shlex::split(text)
        .ok_or_else(|| Failure::usage(format!("{GUNICORN_ARGS}: {text:?}: a quotation mark is not closed")))?;
    let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    let typed = parse(&words).map_err(|failure| failure.after(GUNICORN_ARGS))?;
    match typed.task {
        Task::Serve => Ok(typed),
        _ => Err(Failure::usage(format!("{GUNICORN_ARGS}: {text:?}: expected options"))),
    }
}

impl Typed {
    /// What is not ours is passed over, means one of our settings, or is refused.
    fn read_foreign(&mut self, matches: &ArgMatches, arguments: &[OsString]) -> Result<(), Failure> {
        for foreign in FOREIGN {
            let value = match foreign.form {
                Form::FileOnly => continue,
                Form::Flag => match matches.try_get_one::<bool>(foreign.key) {
                    Ok(Some(true)) => "on".to_owned(),
                    _ => continue,
                },
                Form::Value => match matches.try_get_many::<String>(foreign.key) {
                    Ok(Some(values)) => values.cloned().collect::<Vec<_>>().join(","),
                    _ => continue,
                },
            };
            let flag = foreign.flags()[0];
            match (foreign.key, foreign.says(&value)) {
                ("check-config", _) => self.task = Task::Check,
                ("print-config", _) => self.task = Task::Settings { json: false },
                (_, None | Some(Fate::InWorkers | Fate::Hook | Fate::MasterHook)) => {}
                (_, Some(Fate::Needless(why))) => self.needless.push(format!("--{flag} has no effect: {why}")),
                (_, Some(Fate::Means(name, text))) => {
                    self.texts.insert(setting(name).name, vec![text.into()]);
                }
                (_, Some(Fate::Refused(why))) => {
                    return Err(Failure::usage(format!("ostler has no --{flag}: {why}")));
                }
            }
        }
        let rest = matches.try_get_many::<String>(REST).ok().flatten().into_iter().flatten();
        for word in rest {
            mistakes::one_too_many(word, arguments)?;
            self.suspicious.push(format!("{word:?} is ignored: ostler serves one application"));
        }
        Ok(())
    }
}

/// Which command to a running master it is.
fn control(name: &str, matches: &ArgMatches) -> Command {
    match name {
        "status" | "requests" | "top" => Command::Status,
        "doctor" => Command::Doctor,
        "reload" => Command::Reload { wait: matches.get_flag("wait"), rollout: rollout(matches) },
        "promote" => Command::Promote,
        "rollback" => Command::Rollback,
        "upgrade" => Command::Upgrade,
        "scale" => Command::Scale(*matches.get_one("change").expect("the change is required")),
        "recycle" => Command::Recycle,
        "stacks" | "profile" => Command::Stacks(matches.get_one("worker").copied()),
        "reopen" => Command::Reopen,
        "stop" => Command::Stop,
        _ => unreachable!("the grammar has no other command"),
    }
}

fn rollout(matches: &ArgMatches) -> Rollout {
    match matches.get_one("share") {
        Some(share) => Rollout::Canary(*share),
        None if matches.get_flag("whole") => Rollout::Whole,
        None => Rollout::AsSet,
    }
}

fn view(name: &str, matches: &ArgMatches) -> View {
    let says = |flag| matches!(matches.try_get_one::<bool>(flag), Ok(Some(true)));
    match (says("ready"), says("json")) {
        _ if name == "top" => {
            View::Top(Top { once: says("once"), interval: *matches.get_one("interval").expect("it has a default") })
        }
        _ if name == "profile" => View::Profile(Profile {
            time: *matches.get_one("seconds").expect("it has a default"),
            rate: *matches.get_one("rate").expect("it has a default"),
        }),
        (_, json) if name == "requests" => View::Requests { json },
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
        "python" => python::settings(),
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
    use std::time::Duration;

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
                Kind::One | Kind::Many | Kind::Lines | Kind::Pairs => "A=b",
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
        let top = |once, milliseconds| Task::Control {
            command: Command::Status,
            view: View::Top(Top { once, interval: Duration::from_millis(milliseconds) }),
        };
        let profile = |seconds, rate| Task::Control {
            command: Command::Stacks(Some(4711)),
            view: View::Profile(Profile { time: Duration::from_secs(seconds), rate }),
        };
        for (words, expected) in [
            ("site:app", Task::Serve),
            ("-w 2", Task::Serve),
            ("-w 2 stop:app", Task::Serve),
            ("", Task::Serve),
            ("check -w 2 site:app", Task::Check),
            ("settings", Task::Settings { json: false }),
            ("settings --json site:app", Task::Settings { json: true }),
            ("migrate uwsgi.ini", Task::Migrate("uwsgi.ini".into())),
            ("status --json", Task::Control { command: Command::Status, view: View::Json }),
            ("status --ready", Task::Control { command: Command::Status, view: View::Ready }),
            ("requests", Task::Control { command: Command::Status, view: View::Requests { json: false } }),
            ("requests --json", Task::Control { command: Command::Status, view: View::Requests { json: true } }),
            ("doctor", control(Command::Doctor)),
            ("doctor --json", Task::Control { command: Command::Doctor, view: View::Json }),
            ("top --once --interval 500ms", top(true, 500)),
            ("top", top(false, 1000)),
            ("reload -n site", control(Command::Reload { wait: false, rollout: Rollout::AsSet })),
            ("rollback", control(Command::Rollback)),
            ("upgrade", control(Command::Upgrade)),
            ("scale +2", control(Command::Scale(Change::By(2)))),
            ("scale -1 --control /run/site.sock", control(Command::Scale(Change::By(-1)))),
            ("scale 4", control(Command::Scale(Change::To(4)))),
            ("scale 4..16", control(Command::Scale(Change::Within("4..16".parse().unwrap())))),
            ("scale 4..4", control(Command::Scale(Change::To(4)))),
            ("recycle", control(Command::Recycle)),
            ("stacks", control(Command::Stacks(None))),
            ("stacks 4711", control(Command::Stacks(Some(4711)))),
            ("profile 4711 --seconds 2", profile(2, 50)),
            ("profile 4711 --rate 9", profile(10, 9)),
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
