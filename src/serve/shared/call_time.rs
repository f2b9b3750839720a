//! How long a call has waited for its client. `--timeout` and `--slow-request` do not count that time: they bound the application's.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use ostler_wire::scoreboard::now;

/// The waits of one Python thread's call. Written by that thread, read by the loop.
#[derive(Debug, Default)]
pub(crate) struct CallTime {
    /// When the present wait began, in milliseconds of the scoreboard's clock; 0 while the call does not wait.
    since: AtomicU64,
    /// The length of all earlier waits, in milliseconds.
    waited: AtomicU64,
    /// Whether the call was logged as a slow request.
    pub explained: AtomicBool,
}

impl CallTime {
    /// A new call begins.
    pub fn begin(&self) {
        self.since.store(0, Relaxed);
        self.waited.store(0, Relaxed);
        self.explained.store(false, Relaxed);
    }

    /// Counts the time that `wait` takes.
    pub fn during<T>(&self, wait: impl FnOnce() -> T) -> T {
        let since = now();
        self.since.store(since, Relaxed);
        let outcome = wait();
        self.since.store(0, Relaxed);
        self.waited.fetch_add(now() - since, Relaxed);
        outcome
    }

    /// How long it has waited by now, on the scoreboard's clock.
    pub fn waited(&self, now: u64) -> Duration {
        let wait = match self.since.load(Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        };
        Duration::from_millis(self.waited.load(Relaxed) + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_while_it_lasts_and_afterwards() {
        let time = CallTime::default();
        time.during(|| {
            let since = time.since.load(Relaxed);
            assert_eq!(time.waited(since + 5000), Duration::from_secs(5));
        });
        let (waited, later) = (time.waited.load(Relaxed), now() + 5000);
        assert_eq!(time.waited(later), Duration::from_millis(waited), "it is over");
        time.begin();
        assert_eq!(time.waited(later), Duration::ZERO);
    }
}
