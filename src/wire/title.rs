//! What `ps` and `top` call a process.

use std::{
    env,
    ffi::{CString, OsString},
    fs,
    sync::LazyLock,
};

use nix::sys::prctl;

use crate::{Boot, log::Process};

static ARGUMENTS: LazyLock<Vec<OsString>> = LazyLock::new(|| env::args_os().collect());

/// The memory that held the command line's arguments, which the kernel shows as the command line.
pub struct Title {
    memory: &'static mut [u8],
    /// Of the arguments alone.
    arguments: usize,
}

/// This process's arguments, whatever its title is by now.
pub fn arguments() -> &'static [OsString] {
    &ARGUMENTS
}

/// What a process of a site is called: in `ps`, and, in 15 bytes, as a thread. People look for gunicorn's words where its configuration is
/// in force.
pub fn of(boot: &Boot, process: Process) -> (String, String) {
    let (name, process) = (boot.process_name.as_str(), process.to_string());
    let (kind, which) = process.split_once(' ').unwrap_or((&process, ""));
    if boot.gunicorn.as_ref().is_some_and(|gunicorn| gunicorn.in_force) {
        let name = if name == "ostler" { boot.application.as_str() } else { name };
        let title = format!("gunicorn: {kind} [{name}] {which}");
        return (title.trim_end().into(), "gunicorn".into());
    }
    let short = format!("ostler {}", if which.is_empty() { kind } else { which });
    (if name == "ostler" { format!("ostler: {process}") } else { format!("ostler: {process} [{name}]") }, short)
}

impl Title {
    /// Finds it. To be called once; [`arguments`] knows what they were.
    pub fn find() -> Option<Title> {
        Title::within(49)
    }

    /// With the memory of the environment, which moves elsewhere: a short command line leaves little room. Only while the process has one
    /// thread.
    pub fn find_with_environment() -> Option<Title> {
        for (name, value) in env::vars_os() {
            if !name.is_empty() && !name.as_encoded_bytes().contains(&b'=') {
                // SAFETY: there is no other thread, so nobody reads the environment meanwhile. The C library copies both.
                unsafe { env::set_var(name, value) };
            }
        }
        Title::within(51)
    }

    /// `end` is the field of proc_pid_stat(5) that says where the memory ends.
    fn within(end: usize) -> Option<Title> {
        arguments();
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // Fields are counted from 1, and the third follows the name in parentheses.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
        let start = field(48)?;
        let arguments = field(49)?.checked_sub(start).filter(|&length| start != 0 && length > 1)?;
        let length = field(end)?.checked_sub(start).filter(|&length| length >= arguments)?;
        // SAFETY: the kernel has put the arguments there, and behind them the environment, on the initial stack, writable, for the life of
        // the process. The arguments have been copied, and the environment has been if it is included; nothing else reads them again.
        Some(Title { memory: unsafe { std::slice::from_raw_parts_mut(start as *mut u8, length) }, arguments })
    }

    /// Shows a title, cut to the room that there is. `short` (15 bytes at most) is the thread's name in `top`.
    pub fn set(&mut self, (text, short): (String, String)) {
        let last = self.memory.len() - 1;
        let shown = text.len().min(last - 1);
        self.memory.fill(0);
        self.memory[..shown].copy_from_slice(&text.as_bytes()[..shown]);
        // An argument's last byte that is not zero tells the kernel that this is a title, and ends at its first zero.
        if shown < self.arguments {
            self.memory[self.arguments - 1] = b'.';
        }
        if let Ok(short) = CString::new(short) {
            let _ = prctl::set_name(&short);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gunicorn;

    #[test]
    fn gunicorn_s_words_come_first_where_its_configuration_is_in_force() {
        let gunicorn = |in_force| Gunicorn { in_force, source: None, directory: "/".into(), settings: Vec::new() };
        let boot = |name: &str, in_force| Boot {
            application: "shop:app".into(),
            process_name: name.into(),
            gunicorn: Some(gunicorn(in_force)),
            ..Boot::default()
        };
        let title = |name, in_force, process| of(&boot(name, in_force), process);
        let both = |title: &str, short: &str| (title.to_owned(), short.to_owned());
        assert_eq!(title("shop", true, Process::Master), both("gunicorn: master [shop]", "gunicorn"));
        assert_eq!(title("ostler", true, Process::Worker(1, 0)), both("gunicorn: worker [shop:app] g1.0", "gunicorn"));
        assert_eq!(title("shop", false, Process::Worker(1, 0)), both("ostler: worker g1.0 [shop]", "ostler g1.0"));
        assert_eq!(title("ostler", false, Process::Hooks), both("ostler: hooks", "ostler hooks"));
        assert_eq!(title("ostler", false, Process::Template(Some(2))), both("ostler: template g2", "ostler g2"));
    }
}
