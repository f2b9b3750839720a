//! `ostler stacks`: asks templates and workers for the Python stacks of their threads, and puts the answers together.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use super::event::Number;
use crate::{resources::control::Asker, sys::clock::Moment};

/// How long a worker may take to answer; one that is stuck outside Python takes a while.
const PATIENCE: Duration = Duration::from_secs(5);

/// A worker by its slot, or the template of its generation.
pub type Who = (Number, Option<u16>);

/// How a process is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It reads its channel.
    ByMessage(i32),
    /// It may be in the middle of an import.
    BySignal(i32),
}

/// One that is under way.
#[derive(Debug)]
pub struct StacksRequest {
    /// The command that waits for the answer.
    pub asker: Asker,
    /// The processes that have not answered yet.
    awaited: BTreeMap<Who, Asked>,
    /// When patience ends.
    pub deadline: Moment,
    text: String,
}

impl StacksRequest {
    /// One to these processes.
    pub fn new(asker: Asker, awaited: BTreeMap<Who, Asked>, now: Moment) -> StacksRequest {
        StacksRequest { asker, awaited, deadline: now + PATIENCE, text: String::new() }
    }

    /// An answer, or none because the process is gone.
    pub fn answered(&mut self, who: Who, stacks: Option<&str>) {
        if let Some(asked) = self.awaited.remove(&who) {
            self.add(who, asked, stacks.unwrap_or("it has ended"));
        }
    }

    /// The whole text, if all have answered or the time is over.
    pub fn outcome(&mut self, now: Moment) -> Option<String> {
        if self.deadline <= now {
            for (who, asked) in std::mem::take(&mut self.awaited) {
                self.add(who, asked, &format!("no answer within {} s", PATIENCE.as_secs()));
            }
        }
        self.awaited.is_empty().then(|| std::mem::take(&mut self.text))
    }

    fn add(&mut self, (generation, slot): Who, asked: Asked, text: &str) {
        let (Asked::ByMessage(pid) | Asked::BySignal(pid)) = asked;
        let who = slot.map_or_else(|| format!("template g{generation}"), |slot| format!("worker g{generation}.{slot}"));
        let written = writeln!(self.text, "{who}[{pid}]\n{}\n", without_ours(text).trim_end());
        written.expect("writing to memory does not fail");
    }
}

/// The frames of the engine's boot.py, which are below everything that a process does.
const OURS: [&str; 2] = ["in _enter", "in <module>"];

/// The stacks without these. A thread that has no others waits for what its loop, or the master, gives it.
fn without_ours(text: &str) -> String {
    let mut shown = String::new();
    let mut lines = text.lines().peekable();
    let mut has_frames = false;
    while let Some(line) = lines.next() {
        let is = |line: &str, which: &str| line.starts_with("  File \"<string>\"") && line.ends_with(which);
        let ours = is(line, OURS[0]) && lines.next_if(|next| is(next, OURS[1])).is_some();
        match ours {
            true if has_frames => {}
            true => shown += "  idle\n",
            false => shown = shown + line + "\n",
        }
        has_frames = line.starts_with("  ");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_frames_of_the_application_is_idle() {
        let ours = "  File \"<string>\", line 39 in _enter\n  File \"<string>\", line 42 in <module>\n";
        let head = "Current thread 0x1 (most recent call first):\n";
        assert_eq!(without_ours(&format!("{head}{ours}")), format!("{head}  idle\n"));
        let call = "  File \"app.py\", line 3 in app\n";
        assert_eq!(without_ours(&format!("{head}{call}{ours}")), format!("{head}{call}"));
        let theirs = "  File \"<string>\", line 3 in _enter\n";
        assert_eq!(without_ours(&format!("{head}{theirs}")), format!("{head}{theirs}"));
    }

    #[test]
    fn it_waits_for_all_but_not_for_ever() {
        let asked = [((Number(1), None), Asked::BySignal(9)), ((Number(1), Some(0)), Asked::ByMessage(10))];
        let mut request = StacksRequest::new(Asker(1), BTreeMap::from(asked), Moment(0));
        request.answered((Number(1), None), Some("File \"site.py\", line 1\n"));
        assert_eq!(request.outcome(Moment(4999)), None);
        let text = request.outcome(Moment(5000)).unwrap();
        assert_eq!(text, "template g1[9]\nFile \"site.py\", line 1\n\nworker g1.0[10]\nno answer within 5 s\n\n");
    }
}
