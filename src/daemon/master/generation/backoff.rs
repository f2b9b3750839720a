//! How long to wait before what has failed is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys::clock::Moment;

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

    /// Notes a failure. Failures during a pause are one with that which began it.
    pub fn strike(&mut self, now: Moment) {
        if now < self.until {
            return;
        }
        if now - self.until > Duration::from_secs(60) {
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
