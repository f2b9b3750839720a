//! The spool directory and the logs.

use super::{finding, listed, size};
use crate::master::doctor::{Finding, facts::Facts, machine::Filesystem};

/// A file system has little room with less than this part of it left, or with less than this.
const PART: u64 = 20;
const LITTLE: u64 = 256 << 20;
/// A log that is longer has no rotation that works.
const LONG: u64 = 1 << 30;

/// `statfs(2) has 1.2 GiB free of 80.0 GiB`, if that is little.
fn little_room(filesystem: &Filesystem) -> Option<String> {
    let Filesystem { size: all, free, no_more_files, .. } = *filesystem;
    let little = free < all / PART || free < LITTLE;
    match (no_more_files, little) {
        (true, _) => Some("statfs(2) has no inode left".into()),
        (false, true) => Some(format!("statfs(2) has {} free of {}", size(free), size(all))),
        (false, false) => None,
    }
}

/// Large bodies have no room, or take memory.
pub fn spool(facts: &Facts) -> Option<Finding> {
    let shown = facts.worker.spool_directory.display();
    let filesystem = match facts.spool.as_ref()? {
        Ok(filesystem) => filesystem,
        Err(why) => {
            return Some(finding(
                format!("The spool directory {shown} cannot be used: large bodies may be refused."),
                format!("statfs(2) says {why}"),
                "Make it, or name another with --spool-directory.",
            ));
        }
    };
    if let Some(evidence) = little_room(filesystem) {
        return Some(finding(
            format!("The spool directory {shown} has little room: large bodies will be refused."),
            format!("{evidence}; --spool-limit is {} for each worker", facts.worker.spool_limit),
            "Make room there, or name another place with --spool-directory.",
        ));
    }
    filesystem.in_memory.then(|| {
        finding(
            format!("The spool directory {shown} is in memory: the bodies that are kept there to save memory take it."),
            format!(
                "statfs(2) says tmpfs, of {}; --spool-limit is {} for each worker",
                size(filesystem.size),
                facts.worker.spool_limit
            ),
            "Name a directory on a disk with --spool-directory, as /var/tmp, or lower --spool-limit.",
        )
    })
}

/// Nobody rotates it.
pub fn size_of_logs(facts: &Facts) -> Option<Finding> {
    let long = facts.logs.iter().filter(|log| log.size > LONG);
    let long: Vec<_> = long.map(|log| (log, format!("{} has {}", log.path.display(), size(log.size)))).collect();
    let (first, _) = long.first()?;
    let how = match first.reopened {
        true => "Have logrotate move it and run `ostler reopen`.",
        false => {
            "Name it with --error-logfile or --access-logfile, so that `ostler reopen` can open a new one; or have logrotate copy and truncate it."
        }
    };
    Some(finding(
        format!("The {} grows without a rotation.", first.name),
        listed(long.iter().map(|(_, text)| text)),
        how,
    ))
}

/// What is written there nobody sees, and no disk gets it back.
pub fn moved_logs(facts: &Facts) -> Option<Finding> {
    let log = facts.logs.iter().find(|log| log.moved)?;
    Some(finding(
        format!("The {} is written to a file that was moved or removed.", log.name),
        format!("{} is not the file that the master holds open, which has {}", log.path.display(), size(log.size)),
        match log.reopened {
            true => "`ostler reopen` opens it anew. Have logrotate run it after each rotation.",
            false => {
                "It is where the master's standard error or output leads: only a restart opens it anew. Have logrotate copy and truncate it."
            }
        },
    ))
}

/// Lines will be lost.
pub fn room_for_logs(facts: &Facts) -> Option<Finding> {
    let full = facts.logs.iter().find_map(|log| Some((log, little_room(log.filesystem.as_ref()?)?)));
    let (log, evidence) = full?;
    Some(finding(
        format!("The disk of the {} has little room: lines will be lost.", log.name),
        format!("{evidence} at {}", log.path.display()),
        "Make room there.",
    ))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::found, *};
    use crate::master::doctor::machine::LogFile;

    fn disk(all: u64, free: u64) -> Filesystem {
        Filesystem { size: all << 20, free: free << 20, ..Filesystem::default() }
    }

    #[test]
    fn a_spool_directory_that_is_gone_full_or_in_memory_is_found() {
        let with = |there| found(spool, |facts| facts.spool = Some(there));
        assert!(with(Err("no such file or directory".into())).unwrap().what.contains("cannot be used"));
        assert!(with(Ok(disk(100_000, 4000))).unwrap().evidence.starts_with("statfs(2) has 3.9 GiB free of 97.7 GiB"));
        assert!(with(Ok(disk(1000, 200))).unwrap().what.contains("has little room"));
        let no_inode = Filesystem { no_more_files: true, ..disk(100_000, 50_000) };
        assert!(with(Ok(no_inode)).unwrap().evidence.starts_with("statfs(2) has no inode left"));
        let memory = Filesystem { in_memory: true, ..disk(100_000, 50_000) };
        assert!(with(Ok(memory)).unwrap().what.contains("in memory"));
        assert_eq!(with(Ok(disk(100_000, 6000))), None);
    }

    fn log(name: &'static str) -> LogFile {
        LogFile { name, path: "/var/log/site.log".into(), reopened: true, ..LogFile::default() }
    }

    #[test]
    fn logs_that_nobody_rotates_are_found() {
        let long = LogFile { size: LONG + 1, ..log("access log") };
        let standard = LogFile { reopened: false, ..long.clone() };
        let told = found(size_of_logs, |facts| facts.logs = vec![log("error log"), long]).unwrap();
        assert_eq!(
            (told.what.as_str(), told.evidence.as_str()),
            ("The access log grows without a rotation.", "/var/log/site.log has 1.0 GiB")
        );
        let told = found(size_of_logs, |facts| facts.logs = vec![standard]).unwrap();
        assert!(told.advice.starts_with("Name it with "));
    }

    #[test]
    fn logs_that_were_moved_are_found() {
        let told = found(moved_logs, |facts| facts.logs = vec![LogFile { moved: true, ..log("error log") }]);
        assert!(told.unwrap().advice.starts_with("`ostler reopen` "));
    }

    #[test]
    fn a_disk_that_logs_fill_is_found() {
        let full = LogFile { filesystem: Some(disk(1000, 1)), ..log("error log") };
        let told = found(room_for_logs, |facts| facts.logs = vec![full]).unwrap();
        assert_eq!(told.evidence, "statfs(2) has 1.0 MiB free of 1000 MiB at /var/log/site.log");
    }
}
