//! How long to wait before what has failed is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys::clock::Moment;

/// After that long without a failure, the next one is the first again.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// For what never became ready; a worker that has served is replaced at once. Exponential: the first failure is mended at once, the next ones after 250 ms, 500 ms … 30 s.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Backoff {
    failures: u32,
    /// Nothing is tried before.
    pub until: Moment,
}

impl Backoff {
    /// No failure yet.
    pub const NONE: Backoff = Backoff { failures: 0, until: Moment(0) };

    /// Whether something has failed, and not long ago.
    pub fn is_recent(&self, now: Moment) -> bool {
        self.failures > 0 && now <= self.until + FORGOTTEN
    }

    /// Notes a failure. Failures during a pause are one with that which began it.
    pub fn strike(&mut self, now: Moment) {
        if now < self.until {
            return;
        }
        if !self.is_recent(now) {
            self.failures = 0;
        }
        let pause = match self.failures {
            0 => 0,
            failures => (125_u64 << failures.min(10)).min(30_000),
        };
        self.failures += 1;
        self.until = now + Duration::from_millis(pause);
    }
}
