//! Certificates, and who can read their keys.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::{finding, listed, span};
use crate::{
    master::doctor::{Finding, facts::Facts},
    sys::identity::Identity,
};

/// Nobody has renewed one in time.
pub fn late(facts: &Facts) -> Option<Finding> {
    let late: Vec<_> = facts.certificates.iter().filter(|certificate| certificate.is_late).collect();
    let first = late.iter().min_by(|a, b| a.expires_in.total_cmp(&b.expires_in))?;
    let left = std::time::Duration::try_from_secs_f64(first.expires_in);
    let what = match left {
        Ok(left) => format!("In {} clients trust the site no more: its certificate ends.", span(left)),
        Err(_) => "Clients do not trust the site: its certificate has ended.".into(),
    };
    Some(finding(
        what,
        format!(
            "of the certificates in use, {} should have been renewed by now",
            listed(late.iter().map(|one| &one.name))
        ),
        "Look why certbot, lego or what else renews it does not (`certbot renew --dry-run`). ostler takes new files as they come.",
    ))
}

/// The key keeper keeps what the application could read by itself.
pub fn keys_of_the_application(facts: &Facts) -> Option<Finding> {
    let identity = facts.identity.as_ref()?;
    let may = |path: &Path, what| {
        fs::metadata(path).is_ok_and(|found| may(identity, what, (found.mode(), found.uid(), found.gid())))
    };
    let open = |key: &&Path| {
        let Ok(real) = key.canonicalize() else { return false };
        may(&real, READ) && real.ancestors().skip(1).all(|directory| may(directory, SEARCH))
    };
    let keys = facts.tls.iter().flat_map(|tls| &tls.files.pairs).map(|pair| pair.key.as_path());
    let open: Vec<_> = keys.filter(open).map(Path::display).collect();
    (!open.is_empty()).then(|| {
        finding(
            "The application can read the site's private key: whoever finds a hole in it has the key, too.",
            format!("by mode, owner and group, --user may read {}", listed(&open)),
            "Give the file to root, with mode 600. ostler reads it as root, and no process that runs Python needs to.",
        )
    })
}

const READ: u32 = 0o4;
const SEARCH: u32 = 0o1;

/// By mode, owner and group.
fn may(identity: &Identity, what: u32, (mode, user, group): (u32, u32, u32)) -> bool {
    match () {
        () if identity.user == user => mode & (what << 6) != 0,
        () if identity.group == group || identity.groups.contains(&group) => mode & (what << 3) != 0,
        () => mode & what != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::found, *};
    use crate::master::status::CertificateStatus;

    #[test]
    fn a_certificate_that_ends_is_told_of_and_one_that_lasts_is_not() {
        let one =
            |expires_in: f64, is_late| CertificateStatus { name: "a.example".into(), expires: 0, expires_in, is_late };
        assert!(found(late, |facts| facts.certificates = vec![one(1e7, false)]).is_none());
        let soon = found(late, |facts| facts.certificates = vec![one(1e7, false), one(7200.0, true)]).unwrap();
        assert!(soon.what.starts_with("In 2 h clients"));
        let ended = found(late, |facts| facts.certificates = vec![one(-5.0, true)]).unwrap();
        assert!(ended.what.contains("has ended") && ended.evidence.contains("a.example"));
    }

    #[test]
    fn who_reads_a_file_is_told_by_its_mode() {
        let shop = Identity { user: 7, group: 8, groups: vec![8, 9], login: None };
        let reads = |mode, user, group| may(&shop, READ, (mode, user, group));
        assert!(reads(0o400, 7, 0) && reads(0o640, 0, 9) && reads(0o644, 0, 0));
        assert!(!reads(0o600, 0, 8) && !reads(0o044, 7, 8) && !reads(0o640, 0, 0));
        assert!(may(&shop, SEARCH, (0o711, 0, 0)) && !may(&shop, SEARCH, (0o700, 0, 0)));
    }
}
