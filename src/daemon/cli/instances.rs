//! `ostler status` without a name: the masters that run here, if there are several.

use std::path::PathBuf;

use super::ask::{ask_for_status, health};
use crate::{
    exit::{Exit, Failure},
    master::status::Status,
    options::Options,
    report,
    resources::control::is_beside,
};

/// Those of these sockets at which a master answers, or has to be asked by somebody else.
pub fn answering(found: Vec<(String, PathBuf)>) -> Vec<(String, PathBuf, Result<Status, Failure>)> {
    let asked = found.into_iter().map(|(name, socket)| {
        let status = ask_for_status(&socket, false);
        (name, socket, status)
    });
    let runs = |status: &Result<Status, Failure>| !status.as_ref().is_err_and(|why| why.exit == Exit::NotRunning);
    asked.filter(|(_, _, status)| runs(status)).collect()
}

/// A command that names nobody could do to one site what was meant for the other, if both have the usual name.
pub fn refuse_two_of_one_name(mut found: Vec<(String, PathBuf)>, options: &Options) -> Result<(), Failure> {
    let usual = options.given("name").texts.concat();
    found.retain(|(name, _)| is_beside(name, &usual));
    if found.len() < 2 {
        return Ok(());
    }
    let running: Vec<_> = answering(found).into_iter().map(|(name, ..)| name).collect();
    match running.len() {
        0 | 1 => Ok(()),
        _ => Err(Failure::usage(format!(
            "which site? Say --name with one of {}; `ostler status` shows them.",
            running.join(", ")
        ))),
    }
}

/// Prints a line for each, and says whether all of those that answer are in good order.
pub fn list(instances: &[(String, PathBuf, Result<Status, Failure>)]) -> Result<Exit, Failure> {
    let width = instances.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    let line = |name: &String, status: &Result<Status, Failure>| match status {
        Ok(status) => format!("{name:width$}  {}\n", status.line()),
        Err(why) => format!("{name:width$}  {}\n", why.message),
    };
    let lines: String = instances.iter().map(|(name, _, status)| line(name, status)).collect();
    report::print(&(lines + "`ostler status --name NAME` tells more of one.\n"))?;
    let ill = |status: &Status| health(status) == Exit::DEGRADED;
    let degraded = instances.iter().any(|(_, _, status)| status.as_ref().is_ok_and(ill));
    Ok(if degraded { Exit::DEGRADED } else { Exit::Success })
}
