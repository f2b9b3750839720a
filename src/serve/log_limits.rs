//! Rate limits for log lines that clients can cause as often as they like.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::moment::Moment;

/// The shortest time between two lines that say that the site, or its disk, is full.
pub(crate) const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(60);
/// Lines about single clients per second.
const LINES: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// A line that is logged at most once in [`BETWEEN_COMPLAINTS`], by any thread.
#[derive(Debug, Default)]
pub(crate) struct Rarely(Mutex<Option<Moment>>);

impl Rarely {
    /// Whether to log it now.
    pub fn is_due(&self, now: Moment) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= BETWEEN_COMPLAINTS);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// Lines about single clients: the first ones of each second are written, the others counted.
#[derive(Debug, Default)]
pub(crate) struct ClientLines {
    /// When the present second began.
    since: Option<Moment>,
    written: u32,
    left_out: u32,
}

impl ClientLines {
    /// Whether one more may be written.
    pub fn admit(&mut self, now: Moment) -> bool {
        if self.since.is_none_or(|since| since + SECOND <= now) && self.left_out == 0 {
            *self = ClientLines { since: Some(now), ..ClientLines::default() };
        }
        let admitted = self.written < LINES;
        self.written += u32::from(admitted);
        self.left_out += u32::from(!admitted);
        admitted
    }

    /// When to log how many lines were left out.
    pub fn due(&self) -> Option<Moment> {
        self.since.filter(|_| self.left_out > 0).map(|since| since + SECOND)
    }

    /// That number, once; zero if it is not due.
    pub fn take_left_out(&mut self, now: Moment) -> u32 {
        if self.due().is_none_or(|due| due > now) {
            return 0;
        }
        std::mem::take(self).left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_of_lines_the_first_are_written_and_the_rest_is_counted_once() {
        let (mut lines, start) = (ClientLines::default(), Moment::now());
        let admitted = (0..1000).filter(|_| lines.admit(start)).count();
        assert_eq!(admitted as u32, LINES);
        assert_eq!(lines.take_left_out(start), 0, "the second is not over");
        assert_eq!(lines.due(), Some(start + SECOND));
        assert_eq!(lines.take_left_out(start + SECOND), 1000 - LINES);
        assert_eq!((lines.due(), lines.take_left_out(start + SECOND)), (None, 0));
        assert!(lines.admit(start + SECOND));
    }

    #[test]
    fn few_lines_are_all_written() {
        let (mut lines, start) = (ClientLines::default(), Moment::now());
        assert!((0..100).all(|n| lines.admit(start + n * SECOND / LINES)));
        assert_eq!(lines.due(), None);
    }

    #[test]
    fn a_complaint_is_made_once_a_minute() {
        let (complaint, start) = (Rarely::default(), Moment::now());
        assert!(complaint.is_due(start));
        assert!(!complaint.is_due(start + BETWEEN_COMPLAINTS - SECOND));
        assert!(complaint.is_due(start + BETWEEN_COMPLAINTS));
    }
}
