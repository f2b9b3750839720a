//! A user and the groups that a process can become.

use std::{
    ffi::{CString, OsStr, OsString},
    path::PathBuf,
};

use nix::unistd::{Gid, Uid, User, getgrouplist};
use serde::{Deserialize, Serialize};

/// The user and the groups of template and workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub user: u32,
    /// Primary group id.
    pub group: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// What the system knows of the user.
    pub login: Option<Login>,
}

/// A user as the system knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    name: String,
    home: PathBuf,
    shell: PathBuf,
}

/// What is theirs in the environment.
pub const VARIABLES: [&str; 4] = ["HOME", "LOGNAME", "SHELL", "USER"];

impl Identity {
    /// Looks up the groups that a login of this user would have; only the primary one for an id without a name.
    pub fn new(uid: Uid, gid: Gid, known: Option<User>) -> Identity {
        let known = known.or_else(|| User::from_uid(uid).ok().flatten());
        let groups = supplementary(known.as_ref(), gid);
        let login = known.map(|user| Login { name: user.name, home: user.dir, shell: user.shell });
        Identity { user: uid.as_raw(), group: gid.as_raw(), groups, login }
    }

    /// [`VARIABLES`], as a login would set them.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let Some(login) = &self.login else { return Vec::new() };
        let values =
            [login.home.as_os_str(), OsStr::new(&login.name), login.shell.as_os_str(), OsStr::new(&login.name)];
        VARIABLES.into_iter().zip(values).map(|(name, value)| (name.into(), value.into())).collect()
    }
}

fn supplementary(user: Option<&User>, gid: Gid) -> Vec<u32> {
    let name = user.and_then(|user| CString::new(user.name.as_str()).ok());
    let groups = name.and_then(|name| getgrouplist(&name, gid).ok()).unwrap_or_else(|| vec![gid]);
    groups.into_iter().map(Gid::as_raw).collect()
}
