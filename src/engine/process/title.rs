//! What `ps` and `top` call a process.

use std::{ffi::CString, fs};

use nix::sys::prctl;

/// The memory that held the command line's arguments, which the kernel shows as the command line.
pub struct Title(&'static mut [u8]);

impl Title {
    /// Finds it. To be called once; the arguments must have been read before the title is set.
    pub fn find() -> Option<Title> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // Fields are counted from 1, and the third follows the name in parentheses (proc_pid_stat(5)).
        let mut fields = stat[stat.rfind(')')? + 2..].split(' ').skip(48 - 3);
        let start: usize = fields.next()?.parse().ok()?;
        let end: usize = fields.next()?.parse().ok()?;
        let length = end.checked_sub(start).filter(|&length| start != 0 && length > 1)?;
        // SAFETY: the kernel has put the arguments there, on the initial stack, writable, for the life of the process. The
        // interpreter has copied them, and nothing else in this process reads them again.
        Some(Title(unsafe { std::slice::from_raw_parts_mut(start as *mut u8, length) }))
    }

    /// Shows `text`, cut to the room that there is. `short` (15 bytes at most) is the thread's name in `top`.
    pub fn set(&mut self, text: &str, short: &str) {
        let last = self.0.len() - 1;
        let shown = text.len().min(last - 1);
        self.0.fill(0);
        self.0[..shown].copy_from_slice(&text.as_bytes()[..shown]);
        // A last byte that is not zero tells the kernel that this is a title, and ends at its first zero.
        self.0[last] = b'.';
        if let Ok(short) = CString::new(short) {
            let _ = prctl::set_name(&short);
        }
    }
}
