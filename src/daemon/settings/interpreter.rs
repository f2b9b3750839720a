//! Which Python interpreter runs the application, and where the engine for it is.

use std::{
    env,
    path::{Path, PathBuf},
};

use ostler_wire as wire;

use super::python::{self, Interpreter, Surroundings};
use crate::{
    exit::{Exit, Failure, words},
    options::{ENGINE_VARIABLE, Invocation, Options},
};

const ENGINE: &str = "libostler_engine.so";

pub fn interpreter(
    invocation: &Invocation,
    options: &mut Options,
    boot: &wire::Boot,
    surroundings: Surroundings,
) -> Result<Interpreter, Failure> {
    let path = invocation.variable("PATH");
    if let [named, ..] = options.given("python").texts.as_slice() {
        return python::ask(&python::named(named, &boot.chdir, path)?, surroundings);
    }
    let beside = [Some(boot.chdir.clone()), directory_of_file(boot)].into_iter().flatten().collect::<Vec<_>>();
    let usual = python::usual(invocation.variable("VIRTUAL_ENV"), &beside, path)?;
    options.found("python", usual.to_string_lossy());
    python::ask(&usual, surroundings)
}

/// Where the application lies, if it is named as a file.
fn directory_of_file(boot: &wire::Boot) -> Option<PathBuf> {
    let file = boot.application.split(".py").next().filter(|_| boot.application.contains(".py"))?;
    boot.chdir.join(file).parent().map(Path::to_path_buf)
}

/// Beside the executable, as cargo builds it, or where a package puts it.
pub fn engine(invocation: &Invocation) -> Result<PathBuf, Failure> {
    let fail = |why: String| Failure::new(Exit::Interpreter, why);
    if let Some(path) = invocation.variable(ENGINE_VARIABLE) {
        let path = invocation.directory.join(path);
        return if path.is_file() { Ok(path) } else { Err(fail(format!("there is no engine {}", path.display()))) };
    }
    let executable =
        env::current_exe().map_err(|error| fail(format!("could not find the executable: {}", words(&error))))?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let places = [directory.join(ENGINE), directory.join("../lib/ostler").join(ENGINE)];
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let [first, second] = places.map(|place| place.display().to_string());
        fail(format!("could not find ostler's engine: there is no {first} and no {second}"))
    })
}
