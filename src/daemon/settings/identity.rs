//! Who the application runs as: `--user` and `--group`, looked up.

use std::{
    ffi::{CString, OsStr, OsString},
    path::PathBuf,
};

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};
use serde::{Deserialize, Serialize};

use crate::{
    exit::{Exit, Failure},
    options::Options,
};

/// Who template and workers are.
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
    /// Looks up what was given; none if that is who we are already.
    pub fn of(options: &Options) -> Result<Option<Identity>, Failure> {
        let user = options.optional("user", user)?;
        let group = options.optional("group", group)?;
        let (uid, known) = user.unwrap_or_else(|| (geteuid(), None));
        let gid = match (group, &known, options.is_given("user")) {
            (Some(gid), ..) => gid,
            (None, Some(user), _) => user.gid,
            (None, None, false) => getegid(),
            (None, None, true) => {
                return Err(options.failure("user", "", "nobody has this id, so --group is needed too"));
            }
        };
        if uid == geteuid() && gid == getegid() {
            return Ok(None);
        }
        if !geteuid().is_root() {
            let whom = if options.is_given("user") { "user" } else { "group" };
            let name = &options.given(whom).texts[0];
            return Err(Failure::new(
                Exit::System,
                format!("could not become {whom} {name}: ostler was not started by root. Leave --{whom} out."),
            ));
        }
        let known = known.or_else(|| User::from_uid(uid).ok().flatten());
        let groups = supplementary(known.as_ref(), gid);
        let login = known.map(|user| Login { name: user.name, home: user.dir, shell: user.shell });
        Ok(Some(Identity { user: uid.as_raw(), group: gid.as_raw(), groups, login }))
    }

    /// [`VARIABLES`], as a login would set them.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let Some(login) = &self.login else { return Vec::new() };
        let values =
            [login.home.as_os_str(), OsStr::new(&login.name), login.shell.as_os_str(), OsStr::new(&login.name)];
        VARIABLES.into_iter().zip(values).map(|(name, value)| (name.into(), value.into())).collect()
    }
}

fn user(text: &str) -> Result<(Uid, Option<User>), String> {
    let by_name = User::from_name(text).map_err(|error| error.desc().to_lowercase())?;
    if let Some(user) = by_name {
        return Ok((user.uid, Some(user)));
    }
    let uid = text.parse().map(Uid::from_raw).map_err(|_| "there is no such user".to_string())?;
    Ok((uid, User::from_uid(uid).map_err(|error| error.desc().to_lowercase())?))
}

fn group(text: &str) -> Result<Gid, String> {
    match Group::from_name(text).map_err(|error| error.desc().to_lowercase())? {
        Some(group) => Ok(group.gid),
        None => text.parse().map(Gid::from_raw).map_err(|_| "there is no such group".into()),
    }
}

/// The groups that a login of this user would have; only the primary one for an id without a name.
fn supplementary(user: Option<&User>, gid: Gid) -> Vec<u32> {
    let name = user.and_then(|user| CString::new(user.name.as_str()).ok());
    let groups = name.and_then(|name| getgrouplist(&name, gid).ok()).unwrap_or_else(|| vec![gid]);
    groups.into_iter().map(Gid::as_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::Folder, options::parser};

    fn of(arguments: &[&str]) -> Result<Option<Identity>, Failure> {
        let invocation = Folder::new().invocation(arguments, &[]);
        Identity::of(&Options::gather(&invocation, &parser::parse(&invocation.arguments)?.texts)?)
    }

    #[test]
    fn to_become_oneself_is_nothing_to_do() {
        let (user, group) = (geteuid().to_string(), getegid().to_string());
        assert_eq!(of(&["a"]), Ok(None));
        assert_eq!(of(&["a", "-u", &user, "-g", &group]), Ok(None));
    }

    #[test]
    fn only_root_can_become_somebody_else() {
        // An id that nobody has.
        let found = of(&["a", "-u", "4100000001", "-g", "4100000002"]);
        match geteuid().is_root() {
            true => {
                let expected =
                    Identity { user: 4_100_000_001, group: 4_100_000_002, groups: vec![4_100_000_002], login: None };
                assert_eq!(found, Ok(Some(expected)));
                assert!(of(&["a", "-u", "4100000001"]).unwrap_err().message.contains("--group is needed too"));
            }
            false => assert_eq!(found.unwrap_err().exit, Exit::System),
        }
    }
}
