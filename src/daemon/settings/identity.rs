//! Who the application runs as: `--user` and `--group`, looked up.

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};

use crate::{
    exit::{Exit, Failure},
    options::Options,
    sys::identity::Identity,
};

/// Looks up what was given; none if that is who we are already.
pub fn identity(options: &Options) -> Result<Option<Identity>, Failure> {
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
    Ok(Some(Identity::new(uid, gid, known)))
}

fn user(text: &str) -> Result<(Uid, Option<User>), String> {
    let by_name = User::from_name(text).map_err(|error| error.desc().to_lowercase())?;
    if let Some(user) = by_name {
        return Ok((user.uid, Some(user)));
    }
    let uid = text.parse().map(Uid::from_raw).map_err(|_| "there is no such user".to_string())?;
    Ok((uid, User::from_uid(uid).map_err(|error| error.desc().to_lowercase())?))
}

/// A group by its name or id.
pub fn group(text: &str) -> Result<Gid, String> {
    match Group::from_name(text).map_err(|error| error.desc().to_lowercase())? {
        Some(group) => Ok(group.gid),
        None => text.parse().map(Gid::from_raw).map_err(|_| "there is no such group".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli, fixture::Folder};

    fn of(arguments: &[&str]) -> Result<Option<Identity>, Failure> {
        let invocation = Folder::new().invocation(arguments, &[]);
        identity(&Options::gather(&invocation, &cli::parse(&invocation.arguments)?.texts)?)
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
