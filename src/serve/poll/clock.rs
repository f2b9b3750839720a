//! The loop's time. The clocks are read once for each turn and each call, and everything in it uses that reading.

use std::time::{Duration, SystemTime};

use crate::moment::Moment;

pub(crate) struct Clock {
    /// The last reading.
    pub now: Moment,
    /// One moment on both clocks: as a `Moment`, and in milliseconds of the scoreboard's clock.
    epoch: (Moment, u64),
    /// When the wall clock's next second begins, and which that is, in seconds since 1970.
    next_second: (Moment, u64),
    /// The wall clock's time, as in a response's Date field (RFC 9110 §6.6.1).
    pub date: [u8; 29],
}

impl Clock {
    pub fn new() -> Clock {
        let now = Moment::now();
        let mut clock =
            Clock { now, epoch: (now, ostler_wire::scoreboard::now()), next_second: (now, 0), date: [b' '; 29] };
        clock.read();
        clock
    }

    /// Reads the clocks. Returns whether a new second of the wall clock has begun.
    pub fn read(&mut self) -> bool {
        self.now = Moment::now();
        if self.now < self.next_second.0 {
            return false;
        }
        let now = SystemTime::now();
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_nanos(1_000_000_000 - u64::from(since_1970.subsec_nanos()));
        self.next_second = (self.now + left, since_1970.as_secs() + 1);
        self.date.copy_from_slice(httpdate::fmt_http_date(now).as_bytes());
        true
    }

    /// `now` on the wall clock, since 1970.
    pub fn since_1970(&self) -> Duration {
        let (at, second) = self.next_second;
        Duration::from_secs(second).saturating_sub(at - self.now)
    }

    /// `now` in milliseconds of the scoreboard's clock.
    pub fn milliseconds(&self) -> u64 {
        self.milliseconds_at(self.now)
    }

    /// Another moment in those milliseconds.
    pub fn milliseconds_at(&self, moment: Moment) -> u64 {
        self.epoch.1 + moment.saturating_duration_since(self.epoch.0).as_millis() as u64
    }
}

/// The time between two moments; zero if `to` is the earlier one.
pub(crate) fn took(from: Moment, to: Moment) -> Duration {
    to.saturating_duration_since(from)
}
