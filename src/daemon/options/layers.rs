//! Lays the layers over each other: command line, environment, file, variables that others set too, defaults.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{Given, Invocation, Kind, Options, Preset, SETTINGS, Setting, Source, Texts, file, nearest, setting};
use crate::exit::Failure;

/// Variables of ours that are no settings.
const OTHER_VARIABLES: [&str; 1] = [crate::settings::ENGINE_VARIABLE];

impl Invocation {
    /// This process's own.
    pub fn here() -> std::io::Result<Invocation> {
        Ok(Invocation {
            arguments: env::args_os().skip(1).collect(),
            directory: start_directory()?,
            environment: env::vars_os().filter(|(key, _)| key != crate::master::upgrade::VARIABLE).collect(),
        })
    }

    /// A variable, unless it is empty or no text.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.iter().find(|(key, _)| key == name)?.1.to_str()?;
        (!value.is_empty()).then_some(value)
    }
}

/// `PWD`, if it is where we are: it knows the symbolic links that led there.
fn start_directory() -> std::io::Result<PathBuf> {
    let physical = env::current_dir()?;
    let logical = env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(logical.filter(|path| path.canonicalize().is_ok_and(|path| path == physical)).unwrap_or(physical))
}

impl Options {
    /// Reads environment and file, and lays the command line over them.
    pub fn gather(invocation: &Invocation, typed: &Texts) -> Result<Options, Failure> {
        let Some(config) = config_file(invocation, typed) else { return Options::without_file(invocation, typed) };
        let path = invocation.directory.join(&config.texts[0]);
        let mut options = Options::lay(invocation, typed, &file::read(&path)?, &path)?;
        options.given.insert("config", config);
        Ok(options)
    }

    /// The same with no settings file.
    pub fn without_file(invocation: &Invocation, typed: &Texts) -> Result<Options, Failure> {
        Options::lay(invocation, typed, &Texts::new(), Path::new(""))
    }

    fn lay(invocation: &Invocation, typed: &Texts, file: &Texts, path: &Path) -> Result<Options, Failure> {
        refuse_misspelt_variables(invocation)?;
        let given = |setting: &'static Setting| (setting.name, strongest(setting, invocation, typed, file, path));
        Ok(Options { given: SETTINGS.iter().map(given).collect() })
    }
}

fn config_file(invocation: &Invocation, typed: &Texts) -> Option<Given> {
    let named = strongest(setting("config"), invocation, typed, &Texts::new(), Path::new(""));
    if !named.texts.is_empty() {
        return Some(named);
    }
    let usual = invocation.directory.join("ostler.toml");
    usual.exists().then(|| Given { texts: vec![usual.to_string_lossy().into()], source: Source::Default })
}

fn strongest(setting: &'static Setting, invocation: &Invocation, typed: &Texts, file: &Texts, path: &Path) -> Given {
    let from = |texts: &Texts, source| texts.get(setting.name).map(|texts| Given { texts: texts.clone(), source });
    let typed = || {
        let given = from(typed, Source::CommandLine)?;
        match setting.kind {
            Kind::Many => {
                Some(Given { texts: given.texts.iter().flat_map(|t| split(Kind::Many, t)).collect(), ..given })
            }
            _ => Some(given),
        }
    };
    let environment = |name: &str| {
        let text = invocation.variable(name)?;
        let texts = split(setting.kind, &foreign_text(name, text));
        Some(Given { texts, source: Source::Environment(name.into()) })
    };
    typed()
        .or_else(|| environment(&setting.variable()))
        .or_else(|| from(file, Source::File(path.into())))
        .or_else(|| setting.foreign.and_then(environment))
        .unwrap_or_else(|| preset(setting))
}

/// A platform that sets PORT means every address.
fn foreign_text(name: &str, text: &str) -> String {
    match name {
        "PORT" => format!("0.0.0.0:{text}"),
        _ => text.into(),
    }
}

fn preset(setting: &Setting) -> Given {
    let texts = match setting.default {
        Preset::Is(text) => split(setting.kind, text),
        Preset::Found(_) | Preset::None => Vec::new(),
    };
    Given { texts, source: Source::Default }
}

/// Several values in one text: by commas, or by lines where the values may hold commas.
pub(super) fn split(kind: Kind, text: &str) -> Vec<String> {
    let parts = |by: char| text.split(by).map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect();
    match kind {
        Kind::Many => parts(','),
        Kind::Pairs => parts('\n'),
        Kind::One | Kind::Switch | Kind::Choice(..) => vec![text.into()],
    }
}

/// Only what is nearly a setting is refused: a cluster sets variables such as OSTLER_SERVICE_HOST by itself.
fn refuse_misspelt_variables(invocation: &Invocation) -> Result<(), Failure> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    for (variable, _) in &invocation.environment {
        let Some(rest) = variable.to_str().and_then(|name| name.strip_prefix("OSTLER_")) else { continue };
        let variable = format!("OSTLER_{rest}");
        if known.contains(&variable) || OTHER_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        if let Some(near) = nearest(rest, known.iter().filter_map(|name| name.strip_prefix("OSTLER_"))) {
            return Err(Failure::usage(format!("there is no setting {variable}; the nearest is OSTLER_{near}")));
        }
    }
    Ok(())
}
