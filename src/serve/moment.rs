//! A moment on the machine's monotonic clock, in one word: a turn of the loop compares a dozen of them.

use std::{
    num::NonZeroU64,
    ops::{Add, Sub},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine started; they last for five centuries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

impl Moment {
    /// Is not reached.
    pub const NEVER: Moment = Moment(NonZeroU64::MAX);

    /// This moment.
    pub fn now() -> Moment {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
        Moment::at(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    }

    fn at(nanoseconds: u64) -> Moment {
        Moment(NonZeroU64::new(nanoseconds).unwrap_or(NonZeroU64::MIN))
    }

    /// None before the machine's start.
    pub fn checked_sub(self, time: Duration) -> Option<Moment> {
        NonZeroU64::new(self.0.get().checked_sub(nanoseconds(time))?).map(Moment)
    }

    /// The time from `earlier`; zero if that is the later one.
    pub fn saturating_duration_since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        Moment::now().saturating_duration_since(self)
    }
}

/// A time as long as the clock can tell stands for all longer ones.
fn nanoseconds(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(nanoseconds(time)))
    }
}

/// The moment so long before; the machine's start if that was later.
impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, time: Duration) -> Moment {
        Moment::at(self.0.get().saturating_sub(nanoseconds(time)))
    }
}

/// The time from the moment on the right; zero if that is the later one.
impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.saturating_duration_since(earlier)
    }
}
