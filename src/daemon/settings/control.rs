//! Where the control socket is: the master makes it there, and the commands look for it in the same places.

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::{
    exit::{Exit, Failure},
    options::{Invocation, Options},
};

/// Where a master makes its socket; none with `--control=off`.
pub fn choose(invocation: &Invocation, options: &mut Options, chdir: &Path) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = named(options, chdir)? {
        return Ok(path);
    }
    let name = options.value("name", super::name)?;
    let own = Path::new("/tmp").join(format!("ostler-{}", geteuid()));
    let directory = match (invocation.variable("RUNTIME_DIRECTORY"), invocation.variable("XDG_RUNTIME_DIR")) {
        // systemd.exec(5): several are separated by colons.
        (Some(ours), _) => PathBuf::from(ours.split(':').next().unwrap_or(ours)),
        _ if geteuid().is_root() => "/run/ostler".into(),
        (None, Some(session)) if Path::new(session).is_dir() => Path::new(session).join("ostler"),
        _ => own,
    };
    let path = directory.join(format!("{name}.sock"));
    options.found("control", path.to_string_lossy());
    Ok(Some(path))
}

/// Where a command finds the socket of a running master.
pub fn find(invocation: &Invocation, options: &Options) -> Result<PathBuf, Failure> {
    let chdir = options.optional("chdir", |text| super::path(&invocation.directory, text))?;
    let chdir = chdir.unwrap_or_else(|| invocation.directory.clone());
    match named(options, &chdir)? {
        Some(Some(path)) => return Ok(path),
        Some(None) => {
            return Err(options.failure("control", "off", "this ostler takes no commands. Signals still work."));
        }
        None => {}
    }
    let name = options.value("name", super::name)?;
    let file = format!("{name}.sock");
    let places = [
        invocation.variable("RUNTIME_DIRECTORY").map(|ours| PathBuf::from(ours.split(':').next().unwrap_or(ours))),
        invocation.variable("XDG_RUNTIME_DIR").map(|session| Path::new(session).join("ostler")),
        Some("/run/ostler".into()),
        // RuntimeDirectory=ostler/%i of the unit.
        Some(Path::new("/run/ostler").join(&name)),
        Some(Path::new("/tmp").join(format!("ostler-{}", geteuid()))),
    ];
    let places: Vec<_> = places.into_iter().flatten().map(|directory| directory.join(&file)).collect();
    places.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let looked: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        let message = format!(
            "no ostler called {name} is running: there is no {}. Say --control or --name.",
            looked.join(", no ")
        );
        Failure::new(Exit::NotRunning, message)
    })
}

/// What `--control` says, if anything.
fn named(options: &Options, chdir: &Path) -> Result<Option<Option<PathBuf>>, Failure> {
    options.optional("control", |text| match text {
        "off" => Ok(None),
        _ => super::path(chdir, text).map(Some),
    })
}
