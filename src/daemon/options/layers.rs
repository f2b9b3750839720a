//! Lays the layers over each other: command line, environment, file, variables that others set too, defaults.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use ostler_wire::{ProgramSource, title};

use super::{
    ENGINE_VARIABLE, Given, HANDOVER_VARIABLE, Invocation, Kind, Layer, Options, Preset, SETTINGS, Setting, Texts,
    file, nearest, setting,
};
use crate::exit::Failure;

/// Read if one lies in the directory of the start and no other is named; the first that is there.
const USUAL_FILES: [&str; 2] = ["ostler.toml", "gunicorn.conf.py"];
const NOTHING: Given = Given { texts: Vec::new(), layer: Layer::Default };
/// What a worker finds in its environment. An ostler that is started there finds it, too.
const WORKERS_VARIABLES: [&str; 2] = ["OSTLER_GENERATION", "OSTLER_SLOT"];
/// gunicorn's variable for options.
pub const GUNICORN_ARGS: &str = "GUNICORN_CMD_ARGS";

/// What a settings file says.
#[derive(Debug, Clone, Default)]
pub struct FileTexts {
    /// The file.
    pub path: PathBuf,
    /// The settings in it.
    pub texts: Texts,
    /// A TOML file that stands beside the file of `--paste`, and is stronger.
    pub beside: Option<(PathBuf, Texts)>,
    /// In which line each stands, where that can be told.
    pub lines: BTreeMap<&'static str, u32>,
    /// See [`Options::master_hooks`].
    pub master_hooks: bool,
    /// See [`Options::configures_logging`].
    pub configures_logging: bool,
    /// What needs the program itself: its hooks, and what workers do with its logging.
    pub hooks: Vec<String>,
    /// What it asks for and cannot have, a sentence each. No site starts with it.
    pub refused: Vec<String>,
    /// See [`Options::patched`].
    pub patched: Option<String>,
    /// See [`Options::needless`].
    pub needless: Vec<String>,
    /// See [`Options::suspicious`].
    pub suspicious: Vec<String>,
}

impl Invocation {
    /// This process's own.
    pub fn here() -> std::io::Result<Invocation> {
        let directory = start_directory()?;
        Ok(Invocation {
            arguments: title::arguments().iter().skip(1).cloned().collect(),
            usual_file: usual_file(&directory),
            directory,
            process: std::process::id(),
            environment: env::vars_os().filter(|(key, _)| key != HANDOVER_VARIABLE).collect(),
            gunicorn_args: None,
            as_gunicorn: title::arguments()
                .first()
                .is_some_and(|name| Path::new(name).file_name() == Some("gunicorn".as_ref())),
        })
    }

    /// A variable, unless it is empty or no text.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.iter().find(|(key, _)| key == name)?.1.to_str()?;
        (!value.is_empty()).then_some(value)
    }
}

/// The settings file that is read if none is named.
pub fn usual_file(directory: &Path) -> Option<PathBuf> {
    USUAL_FILES.map(|name| directory.join(name)).into_iter().find(|path| path.exists())
}

/// `PWD`, if it is where we are: it knows the symbolic links that led there.
fn start_directory() -> std::io::Result<PathBuf> {
    let physical = env::current_dir()?;
    let logical = env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(logical.filter(|path| path.canonicalize().is_ok_and(|path| path == physical)).unwrap_or(physical))
}

/// The settings file, if it is a program, and how it was named.
pub fn program(invocation: &Invocation, typed: &Texts) -> Option<(ProgramSource, Given)> {
    let config = config_file(invocation, typed);
    if let Some(command) = paste_command(invocation, typed, config.as_ref()) {
        return Some((ProgramSource::Program(command), config.unwrap_or(NOTHING)));
    }
    let config = config?;
    let text = &config.texts[0];
    let program = match text.split_once(':') {
        Some(("program", command)) => ProgramSource::Program(command.trim().into()),
        _ => source(text, &invocation.directory)?,
    };
    Some((program, config))
}

/// Whether the settings file is a program; `--paste` is one, and a file that stands beside it need not be.
pub fn file_is_program(invocation: &Invocation, typed: &Texts) -> bool {
    let is_program = |text: &str| text.starts_with("program:") || source(text, &invocation.directory).is_some();
    config_file(invocation, typed).is_some_and(|config| is_program(&config.texts[0]))
}

/// The code of gunicorn.conf.py or its like.
fn source(text: &str, directory: &Path) -> Option<ProgramSource> {
    match text.split_once(':') {
        Some(("python", module)) => Some(ProgramSource::Module(module.into())),
        Some(("file", path)) => Some(ProgramSource::File(directory.join(path))),
        _ => text.ends_with(".py").then(|| ProgramSource::File(directory.join(text))),
    }
}

/// gunicorn's own command for `--paste`, with its configuration file, which it runs by itself.
fn paste_command(invocation: &Invocation, typed: &Texts, config: Option<&Given>) -> Option<String> {
    let said = |name| strongest(setting(name), invocation, typed, &FileTexts::default());
    let mut words = vec!["--paste".to_owned(), said("paste")?.texts.pop().filter(|file| !file.is_empty())?];
    words.extend(
        said("paste-global").into_iter().flat_map(|given| given.texts).flat_map(|pair| ["--paste-global".into(), pair]),
    );
    if let Some(given) = config
        && source(&given.texts[0], &invocation.directory).is_some()
    {
        words.extend(["--config".into(), given.texts[0].clone()]);
    }
    shlex::try_join(words.iter().map(String::as_str)).ok()
}

impl Options {
    /// Reads environment and file, and lays the command line over them. The file is none that [`program`] names.
    pub fn gather(invocation: &Invocation, typed: &Texts) -> Result<Options, Failure> {
        let Some(config) = config_file(invocation, typed) else { return Options::without_file(invocation, typed) };
        let path = invocation.directory.join(&config.texts[0]);
        let texts = file::read(&path)?;
        Options::with_file(invocation, typed, config, FileTexts { path, texts, ..FileTexts::default() })
    }

    /// The same with no settings file.
    pub fn without_file(invocation: &Invocation, typed: &Texts) -> Result<Options, Failure> {
        Options::lay(invocation, typed, &FileTexts::default(), gunicorn_started(invocation))
    }

    /// The same with a program as settings file.
    pub fn with_program(
        invocation: &Invocation,
        typed: &Texts,
        config: Given,
        program: ProgramSource,
        mut said: FileTexts,
    ) -> Result<Options, Failure> {
        if let [text] = config.texts.as_slice()
            && matches!(program, ProgramSource::Program(_))
            && !text.starts_with("program:")
            && source(text, &invocation.directory).is_none()
        {
            let path = invocation.directory.join(text);
            said.beside = Some((path.clone(), file::read(&path)?));
        }
        let gunicorn = said.path.file_name().map(|name| name.to_string_lossy().into());
        let mut options = Options::lay(invocation, typed, &said, gunicorn)?;
        options.given.insert("config", config);
        if let ProgramSource::Program(_) = program {
            options.embedding_file = options.file.take().filter(|file| file.is_absolute());
            options.file = said.beside.map(|(path, _)| path);
        }
        options.program = Some(program);
        options.configures_logging = said.configures_logging;
        options.patched = said.patched;
        options.master_hooks = said.master_hooks;
        options.needless.extend(said.needless);
        options.suspicious = said.suspicious;
        Ok(options)
    }

    fn with_file(invocation: &Invocation, typed: &Texts, config: Given, said: FileTexts) -> Result<Options, Failure> {
        let mut options = Options::lay(invocation, typed, &said, gunicorn_started(invocation))?;
        options.given.insert("config", config);
        Ok(options)
    }

    fn lay(
        invocation: &Invocation,
        typed: &Texts,
        file: &FileTexts,
        gunicorn: Option<String>,
    ) -> Result<Options, Failure> {
        refuse_misspelt_variables(invocation)?;
        let given = |setting: &'static Setting| {
            let preset = || preset(setting, gunicorn.is_some());
            (setting.name, strongest(setting, invocation, typed, file).unwrap_or_else(preset))
        };
        let given = SETTINGS.iter().map(given).collect();
        let path = Some(file.path.clone()).filter(|path| !path.as_os_str().is_empty());
        Ok(Options { given, file: path, gunicorn, ..Options::default() })
    }
}

/// Without one of gunicorn's files: whether the start was one of gunicorn's.
fn gunicorn_started(invocation: &Invocation) -> Option<String> {
    match (&invocation.gunicorn_args, invocation.as_gunicorn) {
        (Some(_), _) => Some(GUNICORN_ARGS.into()),
        (None, true) => Some("gunicorn's command line".into()),
        (None, false) => None,
    }
}

fn config_file(invocation: &Invocation, typed: &Texts) -> Option<Given> {
    let named = strongest(setting("config"), invocation, typed, &FileTexts::default());
    let usual = || {
        let usual = invocation.usual_file.as_ref()?;
        Some(Given { texts: vec![usual.to_string_lossy().into()], layer: Layer::Default })
    };
    named.filter(|given| !given.texts.is_empty()).or_else(usual)
}

fn strongest(setting: &'static Setting, invocation: &Invocation, typed: &Texts, file: &FileTexts) -> Option<Given> {
    let words = |texts: &Texts, layer| {
        let texts = texts.get(setting.name)?;
        let split =
            |text: &String| if setting.kind == Kind::Many { Kind::Many.split(text) } else { vec![text.clone()] };
        Some(Given { texts: texts.iter().flat_map(split).collect(), layer })
    };
    let environment = |name: &str| {
        let text = invocation.variable(name)?;
        let texts = setting.kind.split(&foreign_text(name, text));
        Some(Given { texts, layer: Layer::Environment(name.into()) })
    };
    let from_file = || {
        if let Some((path, texts)) = &file.beside
            && let Some(texts) = texts.get(setting.name)
        {
            return Some(Given { texts: texts.clone(), layer: Layer::File(path.clone(), None) });
        }
        let layer = Layer::File(file.path.clone(), file.lines.get(setting.name).copied());
        Some(Given { texts: file.texts.get(setting.name)?.clone(), layer })
    };
    words(typed, Layer::CommandLine)
        .or_else(|| environment(&setting.variable()))
        .or_else(|| words(invocation.gunicorn_args.as_ref()?, Layer::Environment(GUNICORN_ARGS.into())))
        .or_else(from_file)
        .or_else(|| setting.foreign.and_then(environment))
}

/// A platform that sets PORT means every address.
fn foreign_text(name: &str, text: &str) -> String {
    match name {
        "PORT" => format!("0.0.0.0:{text}"),
        _ => text.into(),
    }
}

/// gunicorn has one worker unless told otherwise: what a module keeps in memory would not be shared by two. And proxies before it may
/// say where the site is mounted.
fn preset(setting: &Setting, gunicorn: bool) -> Given {
    let texts = match setting.default {
        _ if gunicorn && setting.name == "workers" => vec!["1".into()],
        _ if gunicorn && setting.name == "forwarder-headers" => vec!["SCRIPT_NAME".into(), "PATH_INFO".into()],
        Preset::Is(text) => setting.kind.split(text),
        Preset::Found(_) | Preset::None => Vec::new(),
    };
    Given { texts, layer: Layer::Default }
}

/// Only what is nearly a setting is refused: a cluster sets variables such as OSTLER_SERVICE_HOST by itself.
fn refuse_misspelt_variables(invocation: &Invocation) -> Result<(), Failure> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    for (variable, _) in &invocation.environment {
        let Some(rest) = variable.to_str().and_then(|name| name.strip_prefix("OSTLER_")) else { continue };
        let variable = format!("OSTLER_{rest}");
        if known.contains(&variable) || variable == ENGINE_VARIABLE || WORKERS_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        if let Some(near) = nearest(rest, known.iter().filter_map(|name| name.strip_prefix("OSTLER_"))) {
            return Err(Failure::usage(format!("there is no setting {variable}; the nearest is OSTLER_{near}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli, fixture::Folder};

    fn gather(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Options, Failure> {
        let invocation = folder.invocation(arguments, environment);
        Options::gather(&invocation, &cli::parse(&invocation.arguments)?.texts)
    }

    fn given(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)], name: &'static str) -> Given {
        gather(folder, arguments, environment).unwrap().given(name).clone()
    }

    #[test]
    fn each_layer_beats_those_below_it() {
        let folder = Folder::new();
        let file = folder.file("site.toml", "workers = 4");
        let workers = |arguments: &[&str], environment: &[(&str, &str)]| {
            let Given { texts, layer } = given(&folder, arguments, environment, "workers");
            (texts.concat(), layer)
        };
        let ours = ("OSTLER_WORKERS", "5");
        let theirs = ("WEB_CONCURRENCY", "3");
        let environment = |name: &str| Layer::Environment(name.into());
        assert_eq!(workers(&["-w", "6", "-c", "site.toml"], &[ours, theirs]), ("6".into(), Layer::CommandLine));
        assert_eq!(workers(&["-c", "site.toml"], &[ours, theirs]), ("5".into(), environment("OSTLER_WORKERS")));
        assert_eq!(workers(&["-c", "site.toml"], &[theirs]), ("4".into(), Layer::File(file, None)));
        assert_eq!(workers(&[], &[theirs]), ("3".into(), environment("WEB_CONCURRENCY")));
        assert_eq!(workers(&[], &[]), (String::new(), Layer::Default));
        assert_eq!(workers(&[], &[("OSTLER_WORKERS", ""), theirs]).0, "3", "an empty variable says nothing");
    }

    #[test]
    fn a_stronger_layer_replaces_all_values_of_a_weaker_one() {
        let folder = Folder::new();
        folder.file("ostler.toml", "bind = [\":1\", \":2\"]\nenv = { A = 1, B = true }");
        let texts = |arguments: &[&str], environment: &[(&str, &str)], name| {
            given(&folder, arguments, environment, name).texts.join(" ")
        };
        assert_eq!(texts(&[], &[], "bind"), ":1 :2");
        assert_eq!(texts(&[], &[("OSTLER_BIND", ":3, :4")], "bind"), ":3 :4");
        assert_eq!(texts(&["-b", ":5,:6", "--bind=:7"], &[("OSTLER_BIND", ":3")], "bind"), ":5 :6 :7");
        assert_eq!(texts(&[], &[], "env"), "A=1 B=true");
        assert_eq!(texts(&[], &[("OSTLER_ENV", "A=1,2\nB=3")], "env"), "A=1,2 B=3");
        assert_eq!(texts(&["-e", "A=1,2", "-e", "B= "], &[], "env"), "A=1,2 B= ");
    }

    #[test]
    fn a_platform_that_sets_a_port_means_every_address() {
        let folder = Folder::new();
        let bind = |environment: &[(&str, &str)]| given(&folder, &[], environment, "bind").texts.concat();
        assert_eq!(bind(&[("PORT", "5000")]), "0.0.0.0:5000");
        assert_eq!(bind(&[("PORT", "5000"), ("OSTLER_BIND", ":1")]), ":1");
        assert_eq!(bind(&[]), "127.0.0.1:8000");
    }

    #[test]
    fn the_file_is_the_named_one_or_the_usual_one() {
        let folder = Folder::new();
        let threads = |arguments: &[&str], environment: &[(&str, &str)]| {
            gather(&folder, arguments, environment).map(|options| options.given("threads").texts.concat())
        };
        assert_eq!(threads(&[], &[]).unwrap(), "1");
        folder.file("ostler.toml", "threads = 2");
        folder.file("etc/site.toml", "threads = 3");
        assert_eq!(threads(&[], &[]).unwrap(), "2");
        assert_eq!(threads(&["--chdir", "etc"], &[]).unwrap(), "2", "it counts from the directory of the start");
        assert_eq!(threads(&[], &[("OSTLER_CONFIG", "etc/site.toml")]).unwrap(), "3");
        assert_eq!(threads(&["-c", "etc/site.toml"], &[("OSTLER_CONFIG", "x")]).unwrap(), "3");
        let missing = threads(&["-c", "missing.toml"], &[]).unwrap_err().message;
        assert!(missing.ends_with("/missing.toml: no such file or directory"), "{missing}");
    }

    #[test]
    fn a_misspelt_variable_is_refused_and_a_strangers_is_not() {
        let folder = Folder::new();
        let gathered = |name| gather(&folder, &[], &[(name, "1")]).map(drop).map_err(|failure| failure.message);
        let nearest = "there is no setting OSTLER_WROKERS; the nearest is OSTLER_WORKERS";
        assert_eq!(gathered("OSTLER_WROKERS"), Err(nearest.into()));
        for name in
            ["OSTLER_SLOT", "OSTLER_SERVICE_HOST", "OSTLER_PORT_80_TCP_ADDR", "OSTLER_PORT", "WROKERS", "OSTLER_ENGINE"]
        {
            assert_eq!(gathered(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_socket_named_in_full_needs_no_file() {
        let folder = Folder::new();
        folder.file("ostler.toml", "workers = ");
        let invocation = folder.invocation(&["stop", "--control", "/run/site.sock"], &[]);
        let typed = cli::parse(&invocation.arguments).unwrap().texts;
        assert!(Options::gather(&invocation, &typed).is_err());
        let options = Options::without_file(&invocation, &typed).unwrap();
        assert_eq!(options.given("control").texts, ["/run/site.sock"]);
    }
}
