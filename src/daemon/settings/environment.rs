//! What template and workers inherit: the variables, and the mask of files.

use std::ffi::OsString;

use super::parse;
use crate::{
    exit::Failure,
    options::{ENGINE_VARIABLE, Invocation, Options},
    sys::{
        identity::{Identity, VARIABLES},
        process::Guise,
    },
};

/// As whom, where and with what an interpreter is asked: as the template will be executed.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The whole environment.
    pub environment: &'a [(OsString, OsString)],
    /// Who it is there, and where.
    pub guise: Guise<'a>,
}

/// Meant for the master alone; an application that found them would take them for its own.
const MASTERS_VARIABLES: [&str; 7] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "FDSTORE", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Beside what the master was given: where somebody else's application is at home, and under what name. systemd does the
/// same for `User=` (systemd.exec(5)). Of a user who has no name, nothing is said.
pub fn environment(
    invocation: &Invocation,
    options: &Options,
    identity: Option<&Identity>,
) -> Result<Vec<(OsString, OsString)>, Failure> {
    let laid_over = options.list("env", parse::pair)?;
    let is_ours = |key: &OsString| MASTERS_VARIABLES.iter().any(|name| key == name) || key == ENGINE_VARIABLE;
    let is_laid_over = |key: &OsString| laid_over.iter().any(|(name, _)| key.to_str() == Some(name));
    let is_roots = |key: &OsString| identity.is_some() && VARIABLES.iter().any(|name| key == name);
    let kept = invocation.environment.iter().filter(|(key, _)| !is_ours(key) && !is_roots(key)).cloned();
    let login = identity.map(Identity::variables).unwrap_or_default();
    let kept = kept.chain(login).filter(|(key, _)| !is_laid_over(key));
    // The last of several values of one key counts.
    let last =
        |(place, (key, _)): &(usize, &(String, String))| laid_over[place + 1..].iter().all(|(name, _)| name != key);
    let over = laid_over.iter().enumerate().filter(last).map(|(_, (key, value))| (key.into(), value.into()));
    Ok(kept.chain(over).collect())
}

/// The mask of files, and the mode of Unix sockets. gunicorn's users expect that a proxy under another user may connect
/// unless they say otherwise, and that their files are not open to everybody for all that. In their configuration the umask is that
/// of sockets alone: many have `umask = 0`.
pub fn masks(options: &mut Options) -> Result<(u32, u32), Failure> {
    match options.optional("umask", parse::umask)? {
        Some(mask) if options.gunicorn.is_some() => Ok((own_umask(), 0o777 & !mask)),
        Some(mask) => Ok((mask, 0o777 & !mask)),
        None => {
            let mask = own_umask();
            options.found("umask", format!("{mask:03o}"));
            Ok((mask, 0o777))
        }
    }
}

/// umask(2) can only be read by setting it; proc(5) tells without.
fn own_umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}
