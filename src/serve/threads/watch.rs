//! What the stand-by watches while it does not lead: calls that are made while nobody leads.

use std::time::Duration;

use super::lead::{Lead, Threads};

/// How long a call may last before the stand-by takes the loop over: between one and two of these.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// The same under a steady load of short calls, where each tick costs the calls a context switch.
const STEADY_TICK: Duration = Duration::from_millis(3);
/// The load is steady when a call has ended in each of this many ticks in a row.
const STEADY_TICKS: u32 = 16;
/// After this many ticks without a call, the stand-by sleeps until there is one.
const QUIET_TICKS: u32 = 16;

/// What the stand-by has seen at its last tick.
#[derive(Default)]
pub(crate) struct Watch {
    unled: u64,
    /// How much processor time the thread of that call had used.
    processor: Option<Duration>,
    /// How many ticks in a row have seen a new call without a leader, and how many have seen none.
    steady: u32,
    quiet: u32,
}

/// What the stand-by does next.
pub(crate) enum Look {
    Again(Duration),
    Sleep,
    /// It leads: a call has lasted for a tick. `waits`: the call waits for something, rather than use a processor.
    Lead {
        waits: bool,
    },
}

impl Watch {
    /// `notes`: calls had left notes at this tick, so that there is to be another one.
    pub fn look(&mut self, threads: &Threads, notes: bool, processor_time: impl Fn(u16) -> Option<Duration>) -> Look {
        let same = threads.unled() == self.unled;
        self.steady = if same || notes { 0 } else { self.steady + 1 };
        self.quiet = if same && !notes { self.quiet + 1 } else { 0 };
        self.unled = threads.unled();
        let tick = if self.steady < STEADY_TICKS { TICK } else { STEADY_TICK };
        if let Lead::Calling(seat) = threads.lead() {
            let processor = processor_time(seat);
            let before = std::mem::replace(&mut self.processor, processor);
            if same {
                // Less than a tenth of a tick: the call waits. One that only lost its processor for a moment has used more.
                let waits = processor.zip(before).is_some_and(|(now, before)| now.saturating_sub(before) < TICK / 10);
                return Look::Lead { waits };
            }
            return Look::Again(tick);
        }
        if self.quiet < QUIET_TICKS { Look::Again(tick) } else { Look::Sleep }
    }
}
