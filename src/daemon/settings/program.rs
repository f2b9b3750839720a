//! Settings files that are Python programs: gunicorn.conf.py. The interpreter of the site runs the program and says what it set.
//!
//! It runs with the rights of `--user`, if that stands on the command line or in the environment, and with our own if not. In the first
//! case it may be code of the site's user, and does not say which files root opens.

use std::{collections::BTreeMap, fmt::Write, path::PathBuf, time::Duration};

use nix::unistd::geteuid;
use ostler_wire::{Gunicorn, ProgramSource};
use serde::Deserialize;

use super::{Settings, environment::Surroundings, identity, python};
use crate::{
    exit::{Exit, Failure},
    options::{self, FOREIGN, Fate, FileTexts, Invocation, Layer, Options, SETTINGS, Setting, Texts, nearest},
    sys::{
        names::{self, Others, Place},
        process::Guise,
    },
};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for a program that may import the whole application to say it.
const PATIENCE_WITH_PROGRAMS: Duration = Duration::from_secs(120);

/// The package that stands in for gunicorn's, and the code that runs the file.
const CODE: &str = concat!(
    include_str!("../../engine/process/gunicorn_package.py"),
    "\n",
    include_str!("../../engine/process/embedding.py"),
    "\n",
    include_str!("program.py")
);

/// gunicorn's keys that are settings of ostler. Its files hold variables of all names; only these are read.
const KEYS: [&str; 65] = [
    "access_log_format",
    "accesslog",
    "backlog",
    "bind",
    "ca_certs",
    "capture_output",
    "cert_reqs",
    "certfile",
    "chdir",
    "ciphers",
    "control_socket",
    "control_socket_mode",
    "daemon",
    "disable_redirect_access_to_syslog",
    "dogstatsd_tags",
    "enable_backlog_metric",
    "errorlog",
    "forwarded_allow_ips",
    "forwarder_headers",
    "graceful_timeout",
    "group",
    "header_map",
    "keepalive",
    "keyfile",
    "limit_request_field_size",
    "limit_request_fields",
    "limit_request_line",
    "logconfig",
    "logconfig_json",
    "logger_class",
    "loglevel",
    "max_requests",
    "max_requests_jitter",
    "paste",
    "pidfile",
    "preload_app",
    "proc_name",
    "protocol",
    "proxy_allow_ips",
    "proxy_protocol",
    "pythonpath",
    "raw_env",
    "reload",
    "reload_engine",
    "reload_extra_files",
    "root_path",
    "secure_scheme_headers",
    "sendfile",
    "server_header",
    "statsd_host",
    "statsd_prefix",
    "syslog",
    "syslog_addr",
    "syslog_facility",
    "syslog_prefix",
    "threads",
    "timeout",
    "tmp_upload_dir",
    "umask",
    "user",
    "uwsgi_allow_ips",
    "worker_class",
    "worker_connections",
    "workers",
    "wsgi_app",
];

/// What only root may say of what root does.
const ROOTS: [&str; 7] = ["user", "group", "chdir", "pidfile", "errorlog", "accesslog", "control_socket"];

/// What the program answers.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Failed {
        path: String,
        line: Option<u32>,
        reason: String,
        traceback: String,
    },
    #[serde(untagged)]
    Said {
        path: PathBuf,
        said: BTreeMap<String, Value>,
        patched: Option<String>,
    },
}

/// What one variable of it holds.
#[derive(Deserialize)]
struct Value {
    /// As they would be typed; none for None.
    texts: Vec<String>,
    line: Option<u32>,
    /// Of a value that cannot be typed.
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    callable: bool,
    /// Why a hook cannot be called.
    #[serde(default)]
    misfit: Option<String>,
}

/// Lays all layers over each other, and runs the settings file if it is a program.
pub fn gather(invocation: &Invocation, typed: &Texts) -> Result<Options, Failure> {
    let Some((program, config)) = options::program(invocation, typed) else {
        return Options::gather(invocation, typed);
    };
    // A program reads GUNICORN_CMD_ARGS by itself, if it does.
    let embeds = matches!(program, ProgramSource::Program(_));
    let invocation =
        &Invocation { gunicorn_args: invocation.gunicorn_args.clone().filter(|_| !embeds), ..invocation.clone() };
    let said = run(invocation, typed, &program)?;
    match said.refused.first() {
        Some(why) => Err(Failure::usage(why.clone())),
        None => Options::with_program(invocation, typed, config, program, said),
    }
}

/// Root, who only looks at settings, does not run a program that was found where it looked and that somebody else could have put there.
pub fn refuse_weak_program(invocation: &Invocation, typed: &Texts) -> Result<(), Failure> {
    let Some((ProgramSource::File(path), config)) = options::program(invocation, typed) else { return Ok(()) };
    if config.layer != Layer::Default || !geteuid().is_root() {
        return Ok(());
    }
    let weaknesses = Place::anywhere(&path).map(|place| place.weaknesses(Others::All)).unwrap_or_default();
    if weaknesses.is_empty() {
        return Ok(());
    }
    let what = format!("root does not run {}, which was not named", path.display());
    let mend = names::mended(&weaknesses);
    Err(Failure::new(Exit::System, format!("{what}: {mend} --config names it.")))
}

/// What the settings file says, which is a program.
pub fn says(invocation: &Invocation, typed: &Texts) -> Result<FileTexts, Failure> {
    let (program, _) = options::program(invocation, typed).expect("the caller names one");
    run(invocation, typed, &program)
}

fn run(invocation: &Invocation, typed: &Texts, program: &ProgramSource) -> Result<FileTexts, Failure> {
    let mut below = Options::without_file(invocation, typed)?;
    let identity = identity::identity(&below)?;
    let guise = Guise { identity: identity.as_ref(), new_privileges: false, directory: &invocation.directory };
    let environment = super::environment::environment(invocation, &below, identity.as_ref())?;
    let surroundings = Surroundings { environment: &environment, guise };
    let python = Settings::interpreter(invocation, &mut below, surroundings)?.executable;
    let (kind, name) = match program {
        ProgramSource::File(path) => ("file", path.to_string_lossy()),
        ProgramSource::Module(module) => ("module", module.into()),
        ProgramSource::Program(command) => ("program", command.into()),
    };
    if let ProgramSource::File(path) = program
        && let Err(error) = std::fs::File::open(path)
    {
        let (path, why) = (path.display(), crate::exit::words(&error));
        return Err(Failure::usage(format!("could not read {path}: {why}")));
    }
    let directory = invocation.directory.to_string_lossy();
    let patience = if kind == "program" { PATIENCE_WITH_PROGRAMS } else { PATIENCE };
    let output = python::run(&python, &["-c", CODE, kind, &name, &directory], surroundings, patience)
        .map_err(|failure| Failure { exit: Exit::Usage, ..failure.after(&format!("could not run {name}")) })?;
    let answer = output.rsplit("ostler runs\n").next().unwrap_or_default().trim_end_matches("\nend");
    let answer = serde_json::from_slice(answer.as_bytes())
        .map_err(|error| Failure::usage(format!("{name}: no answer: {error}")))?;
    match answer {
        Answer::Said { path, said, patched } => Ok(FileTexts { patched, ..read(path, said, identity.is_some())? }),
        Answer::Failed { path, line, reason, traceback } => {
            let mut message = if kind == "module" { format!("--config=python:{path}") } else { path };
            if let Some(line) = line {
                let _ = write!(message, ", line {line}");
            }
            Err(Failure { traceback, ..Failure::usage(format!("{message}: {reason}")) })
        }
    }
}

/// What template and workers are told of gunicorn's configuration, where that is in force.
pub fn for_workers(invocation: &Invocation, options: &Options) -> Option<Gunicorn> {
    let value = |key: &str| {
        let setting = ours(key).expect("a test looks up every key");
        (key.to_owned(), options.given(setting.name).texts.clone())
    };
    (options.gunicorn.is_some() || python_logs(options)).then(|| Gunicorn {
        in_force: options.gunicorn.is_some(),
        source: options.program.clone(),
        directory: invocation.directory.clone(),
        settings: KEYS.iter().map(|key| value(key)).collect(),
    })
}

/// Whether Python writes the access log, with a format of its own.
pub fn python_logs(options: &Options) -> bool {
    let class = &options.given("logger-class").texts;
    options.configures_logging
        || options.is_given("log-config")
        || options.is_given("log-config-json")
        || !matches!(class.as_slice(), [class] if class == "gunicorn.glogging.Logger" || class == "simple")
}

/// The settings among the variables. With `weak`, it may be the site's user who speaks.
fn read(path: PathBuf, said: BTreeMap<String, Value>, weak: bool) -> Result<FileTexts, Failure> {
    let mut file = FileTexts { path, ..FileTexts::default() };
    for (key, value) in said {
        let place = match value.line {
            Some(line) => format!("{}, line {line}: {key}", file.path.display()),
            None => format!("{}: {key}", file.path.display()),
        };
        let refuse = |why: &str| Err(Failure::usage(format!("{place}: {why}")));
        if let Some(setting) = ours(&key) {
            if value.texts.iter().all(String::is_empty) && value.kind.is_none() {
                continue;
            }
            if let Some(kind) = &value.kind {
                return refuse(&format!("expected {}, found {kind}", setting.value));
            }
            let sockets = ["bind", "statsd_host", "syslog_addr"].contains(&key.as_str());
            let names_socket =
                sockets && value.texts.iter().any(|text| text.contains("unix:") || text.contains(":///"));
            if weak && (ROOTS.contains(&key.as_str()) || names_socket) && value.texts != ["-"] {
                let flag = setting.flag();
                return refuse(&format!(
                    "the file runs as the user of --user, who does not say what root does. Say {flag} on the command line."
                ));
            }
            file.texts.insert(setting.name, texts(setting, value.texts));
            value.line.map(|line| file.lines.insert(setting.name, line));
        } else if let Some(why) = &value.misfit {
            return refuse(why);
        } else if let Some(foreign) = options::foreign(&key).filter(|foreign| foreign.key.replace('-', "_") == key) {
            match foreign.says(&value.texts.join(",")) {
                None => {}
                Some(Fate::InWorkers) => {
                    file.configures_logging = true;
                    file.hooks.push(key);
                }
                Some(fate @ (Fate::Hook | Fate::MasterHook)) if value.callable => {
                    file.master_hooks |= fate == Fate::MasterHook;
                    file.hooks.push(key);
                }
                Some(Fate::Hook | Fate::MasterHook) => return refuse("expected a function"),
                Some(Fate::Needless(why)) => file.needless.push(format!("{place} has no effect: {why}")),
                Some(Fate::Means(name, text)) => {
                    file.texts.insert(options::setting(name).name, vec![text.to_owned()]);
                }
                Some(Fate::Refused(why)) => file.refused.push(format!("{place}: ostler has no such setting: {why}")),
            }
        } else if let Some(why) = passed_over(&key).filter(|_| !value.callable) {
            file.suspicious.push(format!("{place} is no setting of gunicorn's, and is ignored; {why}"));
        }
    }
    Ok(file)
}

/// What was probably meant by a variable that gunicorn does not know: a setting by ostler's name for it, or a misspelt one.
fn passed_over(key: &str) -> Option<String> {
    let names = |setting: &Setting, name: &str| setting.name == name || setting.aliases.contains(&name);
    let name = key.replace('_', "-");
    // `config` is gunicorn's, too, and does nothing in a file.
    if name == "config" {
        return None;
    }
    if let Some(setting) = SETTINGS.iter().find(|setting| names(setting, &name)) {
        let theirs = KEYS.iter().find(|key| names(setting, &key.replace('_', "-")));
        return Some(match theirs {
            Some(theirs) => format!("gunicorn's name for it is {theirs}"),
            None => format!("ostler has it as {} and in {}", setting.flag(), setting.variable()),
        });
    }
    let keys: Vec<_> = FOREIGN.iter().map(|foreign| foreign.key.replace('-', "_")).collect();
    let near = nearest(key, KEYS.into_iter().chain(keys.iter().map(String::as_str)))?;
    Some(format!("the nearest is {near}"))
}

fn ours(key: &str) -> Option<&'static Setting> {
    let name = KEYS.contains(&key).then(|| key.replace('_', "-"))?;
    SETTINGS.iter().find(|setting| setting.name == name || setting.aliases.contains(&name.as_str()))
}

/// gunicorn takes True for the PROXY header of either version.
fn texts(setting: &Setting, texts: Vec<String>) -> Vec<String> {
    match (setting.name, texts.as_slice()) {
        ("proxy-protocol", [text]) if ["on", "true"].contains(&text.to_ascii_lowercase().as_str()) => {
            vec!["auto".into()]
        }
        (_, [text]) => setting.kind.split(text),
        _ => texts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_one_of_a_setting() {
        for key in KEYS {
            assert!(ours(key).is_some(), "{key}");
        }
    }

    #[test]
    fn what_gunicorn_does_not_know_gets_a_hint_if_there_is_one() {
        for (key, hint) in [
            ("max_request", "the nearest is max_requests"),
            ("wroker_tmp_dir", "the nearest is worker_tmp_dir"),
            ("name", "gunicorn's name for it is proc_name"),
            ("metrics", "ostler has it as --metrics and in OSTLER_METRICS"),
            ("max_memory", "ostler has it as --max-memory and in OSTLER_MAX_MEMORY"),
        ] {
            assert_eq!(passed_over(key).as_deref(), Some(hint), "{key}");
        }
        for key in ["port", "metric", "pythons", "config"] {
            assert_eq!(passed_over(key), None, "{key}");
        }
    }
}
