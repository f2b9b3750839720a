//! `ostler stacks`: asks workers for the Python stacks of their threads, and puts the answers together.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use super::event::{Asker, Moment, Number};

/// How long a worker may take to answer; one that is stuck outside Python takes a while.
const PATIENCE: Duration = Duration::from_secs(5);

/// One that is under way.
#[derive(Debug)]
pub struct Inquiry {
    /// Who wants to know.
    pub asker: Asker,
    /// Who has not answered yet, with their processes.
    awaited: BTreeMap<(Number, u16), i32>,
    /// When patience ends.
    pub deadline: Moment,
    text: String,
}

impl Inquiry {
    /// One to these workers.
    pub fn new(asker: Asker, awaited: BTreeMap<(Number, u16), i32>, now: Moment) -> Inquiry {
        Inquiry { asker, awaited, deadline: now + PATIENCE, text: String::new() }
    }

    /// A worker's answer, or none because it is gone.
    pub fn answered(&mut self, generation: Number, slot: u16, stacks: Option<&str>) {
        if let Some(pid) = self.awaited.remove(&(generation, slot)) {
            self.add(generation, slot, pid, stacks.unwrap_or("it has ended"));
        }
    }

    /// The whole text, if all have answered or the time is over.
    pub fn outcome(&mut self, now: Moment) -> Option<String> {
        if self.deadline <= now {
            for ((generation, slot), pid) in std::mem::take(&mut self.awaited) {
                self.add(generation, slot, pid, &format!("no answer within {} s", PATIENCE.as_secs()));
            }
        }
        self.awaited.is_empty().then(|| std::mem::take(&mut self.text))
    }

    fn add(&mut self, generation: Number, slot: u16, pid: i32, text: &str) {
        let written = writeln!(self.text, "worker g{generation}.{slot}[{pid}]\n{}\n", text.trim_end());
        written.expect("writing to memory does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_all_but_not_for_ever() {
        let workers = BTreeMap::from([((Number(1), 0), 10), ((Number(1), 1), 11)]);
        let mut inquiry = Inquiry::new(Asker(1), workers, Moment(0));
        inquiry.answered(Number(1), 1, Some("File \"site.py\", line 1\n"));
        assert_eq!(inquiry.outcome(Moment(4999)), None);
        let text = inquiry.outcome(Moment(5000)).unwrap();
        assert_eq!(text, "worker g1.1[11]\nFile \"site.py\", line 1\n\nworker g1.0[10]\nno answer within 5 s\n\n");
    }
}
