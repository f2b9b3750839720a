//! What templates and workers send becomes events.

use ostler_wire::{FromTemplate, FromWorker};

use super::Performer;
use crate::{
    master::event::{Event, Number},
    resources::line::Heard,
    sys::{clock::Moment, pidfd::PidFd},
};

impl Performer<'_> {
    /// The next message of a template, if it has sent one. Closes the channel at its end.
    pub fn hear_template(&mut self, generation: Number) -> Option<Event> {
        let team = self.teams.get_mut(&generation)?;
        let line = team.template.as_mut()?;
        line.flush();
        match line.hear::<FromTemplate>() {
            Heard::Nothing => None,
            Heard::Message(FromTemplate::Forked { slot, pid }) => Some(self.forked(generation, slot, pid)),
            Heard::Message(says) => {
                if let FromTemplate::Stacks(stacks) = &says {
                    self.stacks_requests
                        .iter_mut()
                        .for_each(|request| request.answered((generation, None), Some(stacks)));
                }
                Some(Event::Template { generation, says })
            }
            Heard::End => {
                team.template = None;
                Some(Event::TemplateClosed(generation))
            }
            Heard::Nonsense(why) => {
                team.template = None;
                Some(Event::TemplateNonsense(generation, why))
            }
        }
    }

    /// A template may name any process. Only a child is ever killed.
    pub(super) fn forked(&mut self, generation: Number, slot: u16, pid: i32) -> Event {
        match PidFd::of_child(pid) {
            Ok(held) => {
                self.children.insert(pid, held);
                if let Some(hooks) = &mut self.hooks {
                    hooks.forked(slot, pid, &self.log);
                }
                Event::Template { generation, says: FromTemplate::Forked { slot, pid } }
            }
            Err(_) => Event::Alleged { generation, slot, pid },
        }
    }

    /// The next message of a worker, if it has sent one. Closes the channel at its end.
    pub fn hear_worker(&mut self, generation: Number, slot: u16) -> Option<Event> {
        let team = self.teams.get_mut(&generation)?;
        let line = team.workers.get_mut(&slot)?;
        line.flush();
        match line.hear::<FromWorker>() {
            Heard::Nothing => None,
            Heard::Message(says) => {
                if matches!(says, FromWorker::AtWork) && self.watch.begin((generation, slot), Moment::now()) {
                    line.allow_one_more();
                }
                if let FromWorker::Changed { .. } | FromWorker::NoApplication(_) = &says {
                    if team.settings.boot.reload.is_none() {
                        self.close_worker(generation, slot);
                        let why = "it tells what only --reload has it tell".to_owned();
                        return Some(Event::WorkerNonsense { generation, slot, why });
                    }
                    line.allow_one_more();
                }
                if let FromWorker::Stacks(stacks) = &says {
                    self.stacks_requests
                        .iter_mut()
                        .for_each(|request| request.answered((generation, Some(slot)), Some(stacks)));
                }
                Some(Event::Worker { generation, slot, says })
            }
            Heard::End => {
                self.close_worker(generation, slot);
                Some(Event::WorkerClosed { generation, slot })
            }
            Heard::Nonsense(why) => {
                self.close_worker(generation, slot);
                Some(Event::WorkerNonsense { generation, slot, why })
            }
        }
    }
}
