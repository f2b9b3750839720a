//! Questions for the Python stacks of processes.

use std::collections::BTreeMap;

use ostler_wire::{self as wire, ToWorker};

use super::Performer;
use crate::{
    master::stacks_request::{Asked, StacksRequest, Who},
    resources::control::Asker,
    sys::clock::Moment,
};

impl Performer<'_> {
    /// Asks these processes for their stacks.
    pub fn request_stacks(&mut self, asker: Asker, asked: BTreeMap<Who, Asked>) {
        for (&who, asked) in &asked {
            match (who, *asked) {
                ((generation, Some(slot)), Asked::ByMessage(_)) => self.tell(generation, slot, &ToWorker::Stacks),
                (_, Asked::BySignal(pid) | Asked::ByMessage(pid)) => self.ask_stacks(pid),
            }
        }
        self.stacks_requests.push(StacksRequest::new(asker, asked, Moment::now()));
    }

    /// One that does not hear does not answer.
    pub(super) fn ask_stacks(&self, pid: i32) {
        let _ = self.children.get(&pid).map(|child| child.signal(wire::stacks_signal()));
    }

    /// Tells the outcome of what is answered, or has to be by now.
    pub fn close_stacks_requests(&mut self, now: Moment) {
        let control = &mut self.control;
        self.stacks_requests.retain_mut(|request| match request.outcome(now) {
            Some(text) => {
                control.answer(request.asker, Ok(text));
                false
            }
            None => true,
        });
    }
}
