//! What is wrong with a command line, in our words: clap finds it, this names it, with the nearest thing that would do.

use std::{ffi::OsString, path::Path};

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::grammar::command;
use crate::{
    exit::Failure,
    options::{self, Invocation, Kind, Layer, Options, SETTINGS, Setting, Texts, nearest},
};

/// Help and version are text to print; everything else becomes one sentence of ours.
pub fn explain(error: &clap::Error, arguments: &[OsString]) -> Result<String, Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let (flag, word) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidSubcommand));
    let (value, other) = (context(ContextKind::InvalidValue), context(ContextKind::PriorArg));
    Err(Failure::usage(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Ok(error.to_string()),
        ErrorKind::ArgumentConflict if flag.starts_with('-') && other.starts_with('-') => {
            format!("{} and {} exclude each other", name_of(&flag), name_of(&other))
        }
        ErrorKind::ArgumentConflict | ErrorKind::InvalidSubcommand => {
            takes_no(if word.is_empty() { &flag } else { &word }, arguments)
        }
        ErrorKind::UnknownArgument if !flag.starts_with('-') => takes_no(&flag, arguments),
        ErrorKind::UnknownArgument => unknown_flag(&flag),
        ErrorKind::InvalidValue if value.is_empty() => format!("{} needs a value", name_of(&flag)),
        ErrorKind::InvalidValue => {
            format!("{}: {value:?}: expected one of {}", name_of(&flag), context(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            match arguments.first().and_then(|word| word.to_str()) {
                Some(name) if !flag.starts_with('-') => format!("`ostler {name}` does not take {value:?}: {why}"),
                _ => format!("{}: {value:?}: {why}", name_of(&flag)),
            }
        }
        ErrorKind::NoEquals => format!("{} takes a value after `=` only", name_of(&flag)),
        ErrorKind::TooManyValues => format!("{} takes no such value: {value:?}", name_of(&flag)),
        ErrorKind::MissingRequiredArgument => needs(arguments),
        ErrorKind::InvalidUtf8 => "the command line is not UTF-8".into(),
        other => format!("{}: {other}", name_of(&flag)),
    }))
}

/// A second positional argument that is not merely one too many: `ostler --preload off site:app`, `ostler -w 2 a check`.
pub fn one_too_many(word: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let separate = arguments.windows(2).find_map(|pair| {
        let (flag, value) = (pair[0].to_str()?, pair[1].to_str()?);
        let setting = SETTINGS.iter().find(|setting| flag.strip_prefix("--") == Some(setting.name))?;
        (takes_value_after_equals(setting) && !value.starts_with('-')).then_some((flag, value))
    });
    match separate {
        Some((flag, value)) => Err(refused(word, &format!("If {value:?} belongs to {flag}, say {flag}={value}."))),
        None if command().find_subcommand(word).is_some() => Err(refused(word, "Commands stand first.")),
        None => Ok(()),
    }
}

fn refused(word: &str, hint: &str) -> Failure {
    Failure::usage(format!("ostler serves one application; {word:?} is one too many. {hint}"))
}

/// `ostler reload now`
fn takes_no(word: &str, arguments: &[OsString]) -> String {
    let first = arguments.first().and_then(|word| word.to_str()).unwrap_or_default();
    match command().find_subcommand(first) {
        Some(_) => format!("`ostler {first}` does not take {word:?}"),
        None => refused(word, "Commands stand first.").message,
    }
}

/// `ostler scale`
fn needs(arguments: &[OsString]) -> String {
    let name = arguments.first().and_then(|word| word.to_str()).unwrap_or_default();
    let (what, example) = match name {
        "scale" => ("how many workers more, fewer or in all", "+2`, `ostler scale -1` or `ostler scale 4"),
        "migrate" => ("the file of uWSGI's or gunicorn's configuration", "uwsgi.ini"),
        "profile" => ("the process id of a worker, which `ostler status` shows", "4711"),
        "completions" => ("a shell", "bash"),
        _ => ("a page", "settings"),
    };
    format!("`ostler {name}` needs {what}, as in `ostler {name} {example}`")
}

/// `ostler --control PATH stop` means the command; serving an application of that name instead would help nobody.
pub fn command_behind_options(texts: &Texts) -> Result<(), Failure> {
    let word = texts.get("app").and_then(|texts| texts.first());
    match word.filter(|word| command().find_subcommand(word).is_some()) {
        Some(word) => Err(meant(word, "is a command, and commands stand before options.")),
        None => Ok(()),
    }
}

/// `ostler staus` probably means the command, unless there is an application of that name.
pub fn misspelt_command(invocation: &Invocation, options: &Options) -> Result<(), Failure> {
    let given = options.given("app");
    let Some(word) = given.texts.first().filter(|word| !word.contains([':', '.', '/'])) else { return Ok(()) };
    let grammar = command();
    let commands = grammar.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name);
    match nearest(word, commands).filter(|_| given.layer == Layer::CommandLine) {
        Some(near) if !is_module(word, invocation, options) => {
            Err(meant(word, &format!("is no module here. Did you mean `ostler {near}`?")))
        }
        _ => Ok(()),
    }
}

fn meant(word: &str, why: &str) -> Failure {
    Failure::usage(format!("{word:?} {why} An application of that name is served as {word}:application."))
}

/// Whether Python would find it before it looks at what is installed.
fn is_module(word: &str, invocation: &Invocation, options: &Options) -> bool {
    let chdir = options.given("chdir").texts.first().map_or(Path::new(""), Path::new);
    let here = invocation.directory.join(chdir);
    let variable = invocation.variable("PYTHONPATH").unwrap_or_default().split(':').filter(|path| !path.is_empty());
    let path = options.given("pythonpath").texts.iter().map(String::as_str).chain(variable);
    let mut places = path.map(|place| here.join(place)).chain([here.clone()]);
    places.any(|place| place.join(word).is_dir() || place.join(format!("{word}.py")).exists())
}

fn takes_value_after_equals(setting: &Setting) -> bool {
    matches!(setting.kind, Kind::Switch | Kind::Choice(_, Some(_)))
}

/// `--timeout` of `--timeout <TIME>`, `PID` of `[PID]`.
fn name_of(usage: &str) -> &str {
    let brackets = ['[', ']', '<', '>'];
    usage.trim_matches(brackets).split([' ', '=', '[', '<']).next().unwrap_or(usage)
}

fn unknown_flag(flag: &str) -> String {
    let name = flag.trim_start_matches('-');
    if let Some(why) = options::not_here(name) {
        return format!("ostler has no {flag}: {why}");
    }
    let flags: Vec<_> = SETTINGS.iter().filter(|setting| setting.name != "app").map(Setting::flag).collect();
    let beginning: Vec<_> = flags.iter().filter(|known| flag.len() > 2 && known.starts_with(flag)).cloned().collect();
    if beginning.len() > 1 {
        return format!("{flag} could be {}", beginning.join(", "));
    }
    match nearest(name, flags.iter().map(|known| known.trim_start_matches('-'))) {
        Some(known) => format!("there is no option {flag}; the nearest is --{known}"),
        None => format!("there is no option {flag}. `ostler --help` shows every option."),
    }
}

#[cfg(test)]
mod tests {
    use super::misspelt_command;
    use crate::{cli::parse, exit::Exit, fixture::Folder, options::Options};

    fn refusal(words: &str) -> String {
        let words: Vec<_> = words.split_whitespace().map(Into::into).collect();
        let failure = parse(&words).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        failure.message
    }

    #[test]
    fn each_mistake_is_one_sentence_of_ours() {
        for (words, expected) in [
            ("--wrokers 3 x", "there is no option --wrokers; the nearest is --workers"),
            ("--no-senfile x", "there is no option --no-senfile; the nearest is --no-sendfile"),
            ("--quux x", "there is no option --quux. `ostler --help` shows every option."),
            ("-Z x", "there is no option -Z. `ostler --help` shows every option."),
            ("--access-logf x", "--access-logf could be --access-logfile, --access-logformat"),
            ("-w", "--workers needs a value"),
            ("--preload=perhaps x", "--preload: \"perhaps\": expected one of auto, on, off"),
            ("--no-sendfile=on x", "--no-sendfile takes no such value: \"on\""),
            ("a check", "ostler serves one application; \"check\" is one too many. Commands stand first."),
            (
                "-w 2 check x",
                "\"check\" is a command, and commands stand before options. An application of that name is served as check:application.",
            ),
            (
                "--preload off x",
                "ostler serves one application; \"x\" is one too many. If \"off\" belongs to --preload, say --preload=off.",
            ),
            (
                "-w 2 stop",
                "\"stop\" is a command, and commands stand before options. An application of that name is served as stop:application.",
            ),
            ("stop now", "`ostler stop` does not take \"now\""),
            ("reload --canary 1 --no-canary", "--canary and --no-canary exclude each other"),
            ("status --json --ready", "--json and --ready exclude each other"),
            (
                "scale",
                "`ostler scale` needs how many workers more, fewer or in all, as in `ostler scale +2`, `ostler scale -1` or `ostler scale 4`",
            ),
            (
                "scale -n site",
                "`ostler scale` needs how many workers more, fewer or in all, as in `ostler scale +2`, `ostler scale -1` or `ostler scale 4`",
            ),
            (
                "migrate",
                "`ostler migrate` needs the file of uWSGI's or gunicorn's configuration, as in `ostler migrate uwsgi.ini`",
            ),
            ("completions", "`ostler completions` needs a shell, as in `ostler completions bash`"),
            ("reference", "`ostler reference` needs a page, as in `ostler reference settings`"),
            ("scale much", "`ostler scale` does not take \"much\": expected +N, -N, N or N..M"),
            ("scale 70000", "`ostler scale` does not take \"70000\": expected +N, -N, N or N..M"),
            ("scale +", "`ostler scale` does not take \"+\": expected +N, -N, N or N..M"),
            ("stacks all", "`ostler stacks` does not take \"all\": expected a process id"),
            ("completions csh", "shell: \"csh\": expected one of bash, elvish, fish, powershell, zsh"),
        ] {
            assert_eq!(refusal(words), expected, "{words}");
        }
    }

    #[test]
    fn what_only_gunicorn_has_is_explained() {
        for word in ["--spew", "--ssl-context=x", "--dirty-app=x"] {
            let flag = word.split('=').next().unwrap();
            assert!(refusal(&format!("{word} x")).starts_with(&format!("ostler has no {flag}: ")), "{word}");
        }
    }

    #[test]
    fn a_command_line_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let words = [std::ffi::OsString::from_vec(vec![b'-', b'n', 0xff])];
        assert_eq!(parse(&words).unwrap_err().message, "the command line is not UTF-8");
    }
    #[test]
    fn a_misspelt_command_is_no_application_unless_there_is_one() {
        let folder = Folder::new();
        folder.file("lib/roload.py", "");
        let checked = |words: &str, environment: &[(&str, &str)]| {
            let invocation = folder.invocation(&words.split(' ').collect::<Vec<_>>(), environment);
            let options = Options::gather(&invocation, &parse(&invocation.arguments).unwrap().texts).unwrap();
            misspelt_command(&invocation, &options).map_err(|failure| failure.message)
        };
        let expected = "\"staus\" is no module here. Did you mean `ostler status`? \
                        An application of that name is served as staus:application.";
        assert_eq!(checked("staus", &[]), Err(expected.into()));
        assert!(checked("-w 2 relaod", &[]).is_err() && checked("roload", &[]).is_err());
        for words in
            ["staus:application", "staus.wsgi", "mysite", "roload --chdir lib", "roload --pythonpath lib", "lib"]
        {
            assert_eq!(checked(words, &[]), Ok(()), "{words}");
        }
        assert_eq!(checked("roload", &[("PYTHONPATH", "lib")]), Ok(()));
        assert_eq!(checked("-w 2", &[("OSTLER_APP", "staus")]), Ok(()), "it is not typed");
    }
}
