//! Whether the kernel has killed for want of memory: it counts that for each control group, and for the machine.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf};

use ostler_wire::limits;

use crate::sys::process::Ending;

const SIGKILLED: Ending = Ending::Signal(libc::SIGKILL);

/// The counter that covers the master and its children. Nothing if the kernel shows none.
#[derive(Debug)]
pub struct OomKills {
    file: Option<File>,
    seen: u64,
}

impl OomKills {
    /// Counts from now on.
    pub fn watch() -> OomKills {
        let of_group = |group: PathBuf| ["memory.events", "memory.oom_control"].map(|name| group.join(name));
        let files = limits::groups("memory").into_iter().flat_map(of_group).chain(["/proc/vmstat".into()]);
        let counts = |path: PathBuf| File::open(path).ok().filter(|file| count(file).is_some());
        let file = files.into_iter().find_map(counts);
        OomKills { seen: file.as_ref().and_then(count).unwrap_or(0), file }
    }

    /// How a child really ended, of whom the system says no more than SIGKILL.
    pub fn judge(&self, exit: Ending) -> Ending {
        let killed = || self.file.as_ref().and_then(count).is_some_and(|count| count > self.seen);
        if exit == SIGKILLED && killed() { Ending::OutOfMemory } else { exit }
    }

    /// All who have ended so far are judged: what the kernel has counted until now says nothing of others.
    pub fn settle(&mut self) {
        self.seen = self.file.as_ref().and_then(count).unwrap_or(self.seen);
    }

    /// What is to be said besides of a child that ended so by itself.
    pub fn explain(&self, exit: Ending) -> String {
        match exit {
            Ending::OutOfMemory => limits::memory().map(|limit| format!(" ({limit})")).unwrap_or_default(),
            SIGKILLED if self.file.is_some() => " (not by the kernel for want of memory)".into(),
            SIGKILLED => " (perhaps for want of memory)".into(),
            Ending::Status(_) | Ending::Signal(_) => String::new(),
        }
    }
}

/// `oom_kill 3`, as all of these files have it.
fn count(file: &File) -> Option<u64> {
    let mut text = vec![0; 16 << 10];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = String::from_utf8_lossy(&text[..length]);
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_believed_not_the_signal() {
        let folder = crate::fixture::Folder::new();
        let path = folder.file("memory.events", "oom 1\noom_kill 1\noom_group_kill 0\n");
        let file = File::open(&path).unwrap();
        let mut kills = OomKills { seen: count(&file).unwrap(), file: Some(file) };
        assert_eq!(kills.judge(SIGKILLED), SIGKILLED);
        assert!(kills.explain(SIGKILLED).contains("not by the kernel"));
        std::fs::write(&path, "oom 2\noom_kill 2\noom_group_kill 0\n").unwrap();
        assert_eq!(kills.judge(SIGKILLED), Ending::OutOfMemory);
        assert_eq!(kills.judge(Ending::Status(1)), Ending::Status(1));
        kills.settle();
        assert_eq!(kills.judge(SIGKILLED), SIGKILLED, "each kill is counted once");
        let none = OomKills { file: None, seen: 0 };
        assert_eq!(none.explain(none.judge(SIGKILLED)), " (perhaps for want of memory)");
    }
}
