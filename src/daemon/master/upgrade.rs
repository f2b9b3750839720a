//! Upgrade in place: another executable goes on in this process, with the same children, sockets, files and number.
//!
//! What the master knows goes into a sealed memfd, and every descriptor it owns keeps its number. First a child of the
//! new executable has to read the very same state and find every descriptor open; it says so by the exit
//! status [`PROVEN`], which a program of another kind would hardly use. Then the master executes it. Whatever fails before that leaves all as it was.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs, io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ostler_wire::title;

use super::event::PROVEN;
use crate::{
    exit::{Exit, Failure, words},
    options::HANDOVER_VARIABLE,
    sys::{descriptors, pidfd::PidFd, process},
};

mod saved;

pub use saved::SavedMaster;

/// What this process was executed for, if it is part of an upgrade.
pub enum UpgradeRole {
    /// Read the state, and prove it.
    Prove(RawFd),
    /// Read the state, and go on.
    Take(RawFd),
}

impl UpgradeRole {
    /// As the variable says: `prove:N` for the trial, `take:N` in the master's own process.
    pub fn from_environment() -> Option<UpgradeRole> {
        let text = env::var(HANDOVER_VARIABLE).ok()?;
        let (what, number) = text.split_once(':')?;
        match what {
            "prove" => number.parse().ok().map(UpgradeRole::Prove),
            "take" => number.parse().ok().map(UpgradeRole::Take),
            _ => None,
        }
    }
}

/// Starts the trial.
pub fn try_out(saved: &SavedMaster, executable: &Path) -> Result<(i32, PidFd), String> {
    let state = saved.seal().map_err(|error| format!("could not write the state: {}", words(&error)))?;
    let mut command = Command::new(executable);
    command.args(title::arguments().iter().skip(1)).stdin(Stdio::null());
    command.env(HANDOVER_VARIABLE, format!("prove:{}", state.as_raw_fd()));
    let mut inherited = saved.descriptors();
    inherited.push(state.as_raw_fd());
    process::spawn_with(command, inherited).map_err(|error| not_executed(executable, &error))
}

/// Executes the new executable. Why that could not be, if it returns.
pub fn execute(saved: &SavedMaster, executable: &Path) -> String {
    let executed = saved.seal().and_then(|state| {
        let mut inherited = saved.descriptors();
        inherited.push(state.as_raw_fd());
        let arguments = title::arguments().iter().cloned().map(text).collect::<io::Result<Vec<_>>>()?;
        process::execute(executable, &arguments, &environment(state.as_raw_fd())?, &inherited)
    });
    match executed {
        Err(error) => not_executed(executable, &error),
    }
}

fn not_executed(executable: &Path, error: &io::Error) -> String {
    format!("could not execute {}: {}", executable.display(), words(error))
}

fn environment(state: RawFd) -> io::Result<Vec<CString>> {
    let pair = |(key, value): (OsString, OsString)| text([key.as_os_str(), value.as_os_str()].join(OsStr::new("=")));
    let mut all =
        env::vars_os().filter(|(key, _)| key != HANDOVER_VARIABLE).map(pair).collect::<io::Result<Vec<_>>>()?;
    all.push(text(OsString::from(format!("{HANDOVER_VARIABLE}=take:{state}")))?);
    Ok(all)
}

fn text(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// What to execute: the path by which this process was started, so that symbolic links are followed anew.
pub fn executable(directory: &Path) -> PathBuf {
    let actual = env::current_exe().unwrap_or_default();
    let name = title::arguments().first().cloned().unwrap_or_default();
    let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![directory.join(&name)]
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).map(|place| directory.join(place).join(&name)).collect()
    };
    let is_ours = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == actual);
    candidates.into_iter().find(is_ours).unwrap_or(actual)
}

/// Whether another file is there by now than the one that this process executes.
pub fn is_replaced(executable: &Path) -> bool {
    let marks = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let installed = marks(executable);
    installed.is_some() && installed != marks(Path::new("/proc/self/exe"))
}

/// The trial: whether this executable can go on from there.
pub fn prove(state: RawFd) -> Result<u8, Failure> {
    let saved = SavedMaster::read(state)?;
    for number in saved.descriptors() {
        descriptors::set_inheritable(number, false).map_err(|error| {
            Failure::new(Exit::Internal, format!("could not keep descriptor {number}: {}", words(&error)))
        })?;
    }
    Ok(PROVEN)
}
