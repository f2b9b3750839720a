//! `ostler status` without a name: the masters that run here, if there are several.

use std::path::PathBuf;

use super::ask::{ask_for_status, health};
use crate::{
    exit::{Exit, Failure},
    master::status::Status,
    report,
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
