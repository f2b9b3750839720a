//! Whether the code that runs is the code that is there, and still looked after.

use std::time::{Duration, SystemTime};

use super::{finding, listed, span};
use crate::master::doctor::{
    Finding,
    facts::Facts,
    processes::{Process, is_deleted},
};

/// The site's folder was removed, or another lies at its path.
pub fn folder(facts: &Facts) -> Option<Finding> {
    let shown = facts.directory.display();
    let then = facts.directory_then;
    let is_removed = |process: &&Process| process.directory.as_deref().is_some_and(is_deleted);
    // An application may have gone elsewhere by itself.
    let is_elsewhere =
        |process: &&Process| then.is_some() && process.directory_is == then && facts.directory_now != then;
    let process = facts.processes.iter().find(is_removed).or_else(|| facts.processes.iter().find(is_elsewhere))?;
    let (pid, generation) = (process.pid, facts.generation);
    let link = process.directory.as_deref().unwrap_or(&facts.directory).display();
    let what = match facts.directory_now {
        None => format!("Generation {generation} runs code whose folder {shown} is gone."),
        Some(_) => format!("Generation {generation} runs the code of a folder that is no longer the one at {shown}."),
    };
    Some(finding(
        what,
        format!("/proc/{pid}/cwd of the {} leads to {link}", process.name),
        "What a worker imports or opens late may be missing or newer. See to it that the right code is there, then `ostler reload`.",
    ))
}

/// Packages were replaced under running processes.
pub fn deleted(facts: &Facts) -> Option<Finding> {
    let process = facts.processes.iter().find(|process| !process.deleted.is_empty());
    let replaced: Vec<_> = process.iter().flat_map(|process| &process.deleted).map(|path| path.display()).collect();
    match (&facts.master_deleted, process) {
        (Some(path), _) => Some(finding(
            "The master runs an executable that was removed or replaced.",
            format!("/proc/{}/exe of the master leads to {}", facts.master, path.display()),
            "`ostler upgrade` puts the installed one in its place, and reloads.",
        )),
        (None, Some(process)) => Some(finding(
            format!("Generation {} runs libraries that were removed or replaced.", facts.generation),
            format!("/proc/{}/maps of the {} has {}", process.pid, process.name, listed(replaced.iter().take(5))),
            "Mended defects of them are still there in these processes. `ostler reload` starts an interpreter with the installed ones.",
        )),
        (None, None) => None,
    }
}

/// Files were edited and the site was not reloaded.
pub fn newer(facts: &Facts) -> Option<Finding> {
    let newer = facts.newer_files.as_ref()?;
    let (generation, count) = (facts.generation, newer.count);
    let files = if count == 1 { "A Python file was".into() } else { format!("{count} Python files were") };
    Some(finding(
        format!("{files} written after generation {generation} began to serve."),
        format!(
            "{} was written {} ago; generation {generation} serves for {}",
            newer.newest.display(),
            span(whole(newer.age)),
            span(whole(newer.since))
        ),
        "If the site imports them, it runs the old code: `ostler reload`.",
    ))
}

/// Packages were installed and the site was not reloaded.
pub fn packages(facts: &Facts) -> Option<Finding> {
    let newer = facts.newer_packages.as_ref()?;
    let generation = facts.generation;
    Some(finding(
        format!("Packages were installed or removed after generation {generation} began to serve."),
        format!(
            "{} has changed {} ago; generation {generation} serves for {}",
            newer.newest.display(),
            span(whole(newer.age)),
            span(whole(newer.since))
        ),
        "The site runs the old ones, and what it imports late may be of another release: `ostler reload`.",
    ))
}

fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

/// PEP 602: Python 3.N comes in October of this year and N, and is mended for five years.
const RELEASED: u64 = 2011;
const MENDED: u64 = 5;

/// The interpreter gets no security releases any more.
pub fn old_python(facts: &Facts) -> Option<Finding> {
    let version = &facts.python_version;
    let minor: u64 = version.strip_prefix("3.")?.split('.').next()?.parse().ok()?;
    let year = RELEASED + minor + MENDED;
    let now = facts.now?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let is_over = now >= Duration::from_secs(days_to_november(year) * 86_400);
    is_over.then(|| {
        finding(
            format!("Python {version} gets no security releases any more."),
            format!("{} is {version}; PEP 602 ends 3.{minor} in October {year}", facts.python.display()),
            "Install a newer one, say it with --python, and reload. A distribution may still mend its own package.",
        )
    })
}

/// From the beginning of 1970 to the first of November; until 2100.
fn days_to_november(year: u64) -> u64 {
    let leap = u64::from(year.is_multiple_of(4));
    (year - 1970) * 365 + (year - 1969) / 4 + 304 + leap
}

#[cfg(test)]
mod tests {
    use super::{super::tests::found, *};
    use crate::master::doctor::machine::{NewerFiles, Place};

    const HERE: Place = Place { device: 1, inode: 2 };
    const THERE: Place = Place { device: 1, inode: 3 };

    fn serve_from(facts: &mut Facts, path: &str, is: Option<Place>) {
        facts.directory_then = Some(HERE);
        (facts.processes[0].directory, facts.processes[0].directory_is) = (Some(path.into()), is);
    }

    #[test]
    fn a_folder_that_is_gone_or_replaced_is_found() {
        let gone = found(folder, |facts| serve_from(facts, "/srv/site (deleted)", Some(HERE))).unwrap();
        assert_eq!(gone.what, "Generation 1 runs code whose folder /srv/site is gone.");
        assert_eq!(gone.evidence, "/proc/100/cwd of the worker 0 leads to /srv/site (deleted)");
        let renamed = found(folder, |facts| {
            serve_from(facts, "/srv/site.old", Some(HERE));
            facts.directory_now = Some(THERE);
        });
        assert!(renamed.unwrap().what.contains("no longer the one at /srv/site"));
    }

    #[test]
    fn an_application_may_go_where_it_likes() {
        let elsewhere = found(folder, |facts| {
            serve_from(facts, "/var/lib/site", Some(THERE));
            facts.directory_now = Some(HERE);
        });
        assert_eq!(elsewhere, None);
        assert_eq!(found(folder, |facts| serve_from(facts, "/var/lib/site", Some(THERE))), None);
    }

    #[test]
    fn replaced_libraries_and_executables_are_found() {
        let library = found(deleted, |facts| facts.processes[1].deleted = vec!["/lib/libssl.so.3 (deleted)".into()]);
        assert_eq!(library.unwrap().evidence, "/proc/101/maps of the worker 1 has /lib/libssl.so.3 (deleted)");
        let master = found(deleted, |facts| facts.master_deleted = Some("/bin/ostler (deleted)".into()));
        assert!(master.unwrap().advice.starts_with("`ostler upgrade` "));
    }

    #[test]
    fn newer_files_are_told_with_the_newest() {
        let seconds = Duration::from_secs;
        let files = NewerFiles { count: 3, newest: "/srv/site/a.py".into(), since: seconds(90), age: seconds(7) };
        let told = found(newer, |facts| facts.newer_files = Some(files)).unwrap();
        assert_eq!(told.what, "3 Python files were written after generation 1 began to serve.");
        assert_eq!(told.evidence, "/srv/site/a.py was written 7 s ago; generation 1 serves for 90 s");
        let place = NewerFiles { count: 1, newest: "/venv".into(), since: seconds(90), age: seconds(7) };
        let told = found(packages, |facts| facts.newer_packages = Some(place)).unwrap();
        assert_eq!(told.evidence, "/venv has changed 7 s ago; generation 1 serves for 90 s");
    }

    #[test]
    fn an_interpreter_is_old_from_the_november_after_five_years() {
        let at = |days: u64, version: &str| {
            found(old_python, |facts| {
                facts.now = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400));
                facts.python_version = version.into();
            })
        };
        // `date -d 2026-11-01 +%s` is 1793491200, and that of 2028-11-01 1856649600.
        let (november, leap) = (1_793_491_200 / 86_400, 1_856_649_600 / 86_400);
        assert!(at(november, "3.10.4").unwrap().evidence.ends_with("PEP 602 ends 3.10 in October 2026"));
        assert_eq!(at(november - 1, "3.10.4"), None);
        assert_eq!((at(leap, "3.12.1").is_some(), at(leap - 1, "3.12.1")), (true, None));
        assert_eq!(at(leap, "3.13.0rc1"), None);
    }
}
