//! glibc's heap in a process that is about to fork: without gaps, so that forks do not copy pages for the little that they put there.

/// Gives back what is free in whole pages, and takes the gaps that are left, for good. What forks allocate is then on pages of their own. Measured with
/// four Django workers: 3 of 64 MB. Called while the process has one thread.
#[cfg(target_env = "gnu")]
pub fn close_gaps() {
    // SAFETY: has no preconditions.
    unsafe { libc::malloc_trim(0) };
    // SAFETY: asks only.
    let end = unsafe { libc::sbrk(0) };
    // From large to small, so that no gap is cut up that is to be taken whole. A larger one has pages that a fork need not copy.
    for size in (SMALLEST..=PAGE).rev().step_by(16) {
        loop {
            // SAFETY: has no preconditions.
            let taken = unsafe { libc::malloc(size) };
            // Of the heap as it has grown just now, or of none: there is no gap of this size left.
            if taken >= end || taken.is_null() {
                // SAFETY: it was allocated just now, or is null.
                unsafe { libc::free(taken) };
                break;
            }
        }
    }
}

/// Of the sizes of glibc's blocks, the smallest and that which leaves no room on a page.
#[cfg(target_env = "gnu")]
const SMALLEST: usize = 24;
#[cfg(target_env = "gnu")]
const PAGE: usize = 4088;

#[cfg(not(target_env = "gnu"))]
pub fn close_gaps() {}
