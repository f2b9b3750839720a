//! The last of what the master has told its log, for those who ask how the site is: `ostler status`, `ostler top`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ostler_wire::log::sentence_of;
use serde::{Deserialize, Serialize};
use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, o};

use crate::sys::clock::Moment;

/// So many are kept.
const MOST: usize = 50;

/// A longer text is cut.
const LONGEST: usize = 400;

/// The tag of a record that is not kept: what happens for each worker at each start, and would push out the rest.
pub const ROUTINE: &str = "routine";

/// The oldest first. A logger needs its own hold of them, so they are shared; only the master's one thread uses them.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<VecDeque<Event>>>);

/// One record of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// `info`, `warning`, `error` or `critical`
    pub level: String,
    /// A sentence for people.
    pub text: String,
}

impl Events {
    /// A logger that keeps here what it logs, whatever the level of the log.
    pub fn along(&self, log: Logger) -> Logger {
        Logger::root(slog::Duplicate::new(log, self.clone()).ignore_res(), o!())
    }

    /// All of them.
    pub fn all(&self) -> Vec<Event> {
        self.held().iter().cloned().collect()
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Vec<Event>> for Events {
    fn from(events: Vec<Event>) -> Events {
        Events(Arc::new(Mutex::new(events.into())))
    }
}

impl Drain for Events {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<(), Never> {
        if record.level().is_at_least(Level::Info) && record.tag().is_empty() {
            let text = sentence_of(record, values).chars().take(LONGEST).collect();
            let event = Event { at: Moment::now(), level: record.level().as_str().to_lowercase(), text };
            let mut held = self.held();
            if held.len() >= MOST {
                held.pop_front();
            }
            held.push_back(event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use slog::{Discard, debug, error, info, warn};

    use super::*;

    #[test]
    fn the_last_are_kept_and_what_is_routine_is_not() {
        let events = Events::default();
        let log = events.along(Logger::root(Discard, o!()));
        error!(log, "first");
        for number in 1..=MOST {
            info!(log, "reload asked for"; "number" => number);
            info!(log, #ROUTINE, "worker ready");
            debug!(log, "setting without effect");
        }
        let texts: Vec<_> = events.all().into_iter().map(|event| event.text).collect();
        assert_eq!((texts.len(), texts[0].as_str()), (MOST, "reload asked for: number 1"));
        warn!(log, "worker distrusted"; "reason" => "x".repeat(2 * LONGEST));
        let last = Events::from(events.all()).all().pop().expect("one was just logged");
        assert_eq!((last.level.as_str(), last.text.len()), ("warning", LONGEST));
    }
}
