//! Which Python interpreter runs the application, and where the engine for it is.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use ostler_wire as wire;

use super::{
    environment::Surroundings,
    python::{self, Interpreter, failure, refuse},
};
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
    if let [text, ..] = options.given("python").texts.as_slice() {
        return python::ask(&named(text, &boot.chdir, path)?, surroundings);
    }
    let beside = [Some(boot.chdir.clone()), directory_of_file(boot)].into_iter().flatten();
    let beside = beside.map(|directory| directory.join(".venv"));
    let near: Vec<_> = beside.chain(env::current_exe().ok().and_then(|program| environment_of(&program))).collect();
    let usual = usual(invocation.variable("VIRTUAL_ENV"), &near, path)?;
    options.found("python", usual.to_string_lossy());
    python::ask(&usual, surroundings)
}

/// The interpreter that `--python` names: a file, a virtual environment's directory, or a name to look up on PATH.
pub fn named(text: &str, base: &Path, path: Option<&str>) -> Result<PathBuf, Failure> {
    let written = base.join(text);
    if written.is_dir() {
        return in_environment(&written).ok_or_else(|| refuse(&written, "holds no bin/python"));
    }
    if !text.contains('/') && !is_there(&written) {
        return on_path(text, path).ok_or_else(|| failure(format!("there is no {text} on PATH")));
    }
    Ok(written)
}

/// The interpreter, if none is named: that of `VIRTUAL_ENV`, then of the first of these environments that is there, then PATH.
pub fn usual(virtual_env: Option<&str>, near: &[PathBuf], path: Option<&str>) -> Result<PathBuf, Failure> {
    if let Some(active) = virtual_env {
        let directory = Path::new(active);
        return in_environment(directory).ok_or_else(|| {
            failure(format!("VIRTUAL_ENV is {active}, which holds no bin/python. Unset it, or say --python."))
        });
    }
    let near = near.iter().find_map(|directory| in_environment(directory));
    near.or_else(|| on_path("python3", path)).ok_or_else(|| {
        failure("there is no VIRTUAL_ENV, no .venv beside the application and no python3 on PATH. Say --python.".into())
    })
}

/// The environment that pip has installed this program in: venv marks it with the one file, conda with the other folder.
fn environment_of(program: &Path) -> Option<PathBuf> {
    let directory = program.parent()?.parent()?;
    ["pyvenv.cfg", "conda-meta"].iter().any(|mark| directory.join(mark).exists()).then(|| directory.into())
}

fn in_environment(directory: &Path) -> Option<PathBuf> {
    ["bin/python", "bin/python3"].map(|name| directory.join(name)).into_iter().find(|path| is_there(path))
}

/// A symbolic link that leads nowhere is there: what is wrong with it is said later.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir())
}

fn on_path(name: &str, path: Option<&str>) -> Option<PathBuf> {
    let directories = path.unwrap_or("/usr/local/bin:/usr/bin:/bin").split(':').filter(|part| part.starts_with('/'));
    directories.map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// Where the application lies, if it is named as a file.
fn directory_of_file(boot: &wire::Boot) -> Option<PathBuf> {
    let file = boot.application.split(".py").next().filter(|_| boot.application.contains(".py"))?;
    boot.chdir.join(file).parent().map(Path::to_path_buf)
}

/// Beside the executable, as cargo builds it, or where a package of the system or a wheel puts it.
pub fn engine(invocation: &Invocation) -> Result<PathBuf, Failure> {
    let fail = |why: String| Failure::new(Exit::Interpreter, why);
    if let Some(path) = invocation.variable(ENGINE_VARIABLE) {
        let path = invocation.directory.join(path);
        return if path.is_file() { Ok(path) } else { Err(fail(format!("there is no engine {}", path.display()))) };
    }
    let executable =
        env::current_exe().map_err(|error| fail(format!("could not find the executable: {}", words(&error))))?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let above = directory.parent().unwrap_or(Path::new("/"));
    let places =
        [directory.to_owned(), above.join("lib/ostler"), above.join("libexec/ostler")].map(|place| place.join(ENGINE));
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let [first, second, third] = places.map(|place| place.display().to_string());
        fail(format!("could not find ostler's engine: there is no {first}, no {second} and no {third}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Folder, PLAIN};

    #[test]
    fn a_name_is_a_file_or_an_environment_or_on_the_path() {
        let folder = Folder::new();
        let plain = folder.interpreter("bin/python3.12", PLAIN);
        let in_venv = folder.interpreter("venv/bin/python3", PLAIN);
        folder.file("empty/readme", "");
        let path = format!("relative:/nonexistent:{}", folder.path().join("bin").display());
        let named = |text| named(text, folder.path(), Some(&path));
        assert_eq!(named("bin/python3.12").unwrap(), plain);
        assert_eq!(named("venv").unwrap(), in_venv);
        assert_eq!(named("python3.12").unwrap(), plain);
        assert!(named("empty").unwrap_err().message.ends_with("/empty holds no bin/python"));
        assert_eq!(named("python9").unwrap_err().message, "there is no python9 on PATH");
    }

    #[test]
    fn without_a_name_the_nearest_environment_is_taken() {
        let folder = Folder::new();
        let on_path = folder.interpreter("bin/python3", PLAIN);
        let path = folder.path().join("bin").to_string_lossy().into_owned();
        let site = folder.path().join("site");
        let near = [folder.path().join(".venv"), site.join(".venv")];
        let active = folder.path().join("active").to_string_lossy().into_owned();
        let find = |active: Option<&str>| usual(active, &near, Some(&path));
        assert_eq!(find(None).unwrap(), on_path);
        let adjacent = folder.interpreter("site/.venv/bin/python", PLAIN);
        assert_eq!(find(None).unwrap(), adjacent);
        assert!(find(Some(&active)).unwrap_err().message.starts_with(&format!("VIRTUAL_ENV is {active}, which holds")));
        let in_active = folder.interpreter("active/bin/python", PLAIN);
        assert_eq!(find(Some(&active)).unwrap(), in_active);
        assert!(usual(None, &[], Some("/nonexistent")).unwrap_err().message.contains("no python3 on PATH"));
    }

    #[test]
    fn a_program_in_an_environment_belongs_to_it() {
        let folder = Folder::new();
        let program = folder.file("here/bin/ostler", "");
        assert_eq!(environment_of(&program), None, "as in /usr");
        folder.file("here/pyvenv.cfg", "");
        assert_eq!(environment_of(&program), Some(folder.path().join("here")));
    }
}
