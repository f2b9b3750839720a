//! What the loop is told: by the master, by SIGTERM, by its own process, by calls that are under way.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_wire::{FromWorker, Recycle, ToWorker, log, meters::MoveReason};
use slog::{error, warn};

use super::{Loop, Step};
use crate::{
    connection::{Backlog, Connection, Phase},
    life::Life,
    shared::notes::CallNote,
};

impl Loop {
    pub(super) fn read_alarm(&mut self) {
        self.shared.reset_alarm();
        self.read_notes();
    }

    /// Drains the outboxes that calls have named. Returns whether there were any.
    pub(super) fn read_notes(&mut self) -> bool {
        let notes = self.shared.notes().take();
        let any = !notes.is_empty();
        for note in notes {
            match note {
                CallNote::Outbox(token, outbox) => {
                    if let Some(Connection { phase: Phase::Called(_, place), .. }) = self.connection(token) {
                        // A note about the connection's previous call is out of date.
                        if !place.as_ref().is_some_and(|backlog| Arc::ptr_eq(&backlog.outbox, &outbox)) {
                            *place = Some(Backlog::new(outbox));
                        }
                        self.drain_outbox(token);
                    }
                }
            }
        }
        any
    }

    /// The same, at the stand-by's tick.
    pub(super) fn read_notes_at_tick(&mut self) -> bool {
        self.read_clock();
        let any = self.read_notes();
        self.shorten_wait();
        any
    }

    pub(super) fn read_messages(&mut self) {
        // Two waits may have reported the same message. Once it is read, another read would block.
        let Some(channel) = self.channel.as_ref().filter(|channel| is_readable(channel.as_fd())) else { return };
        let logger = self.shared.log.clone();
        match channel.receive_now::<ToWorker>() {
            Ok(Some((ToWorker::Serve, _))) => self.serve(),
            Ok(Some((ToWorker::Drain { within, hand_over, delay, closes, why }, _))) => {
                self.intake.expect_to_close(closes);
                self.drain(within, hand_over.then_some(why), delay);
            }
            Ok(Some((ToWorker::BecomeTemplate { within }, descriptors))) => {
                descriptors.into_iter().take(1).for_each(|channel| drop(self.becomes.set(channel.into())));
                self.drain(within, Some(MoveReason::Recycle), Duration::ZERO);
            }
            Ok(Some((ToWorker::Quit, _))) => self.quit(),
            Ok(Some((ToWorker::Smoke { https, port }, descriptors))) => {
                descriptors.into_iter().take(1).for_each(|socket| self.take_private(socket, https, port));
            }
            Ok(Some((ToWorker::TakeTurns(turns), _))) => {
                self.spread.take_turns(turns, self.connections.len(), self.clock.now);
                self.arm();
            }
            Ok(Some((ToWorker::Stacks, _))) => self.steps.push_back(Step::Stacks),
            Ok(Some((ToWorker::Show(failed), _))) => self.steps.push_back(Step::Show(failed)),
            // The master only waits for a turn of the loop, and this is one.
            Ok(Some((ToWorker::Nudge, _))) => {}
            Ok(Some((ToWorker::Inherit, descriptors))) => self.inherit(descriptors),
            Ok(Some((ToWorker::Certificates(tls), descriptors))) => self.certificates(*tls, descriptors),
            Ok(Some((ToWorker::TicketKeys(keys), _))) => self.ticket_keys(keys),
            Ok(Some((ToWorker::Reopen, descriptors))) => {
                let mut descriptors = descriptors.into_iter();
                if let Some(error_log) = descriptors.next()
                    && let Err(error) = log::replace(error_log.as_fd(), &[1, 2])
                {
                    warn!(logger, "could not reopen the error log"; "error" => %error);
                }
                if self.access_log.is_on() {
                    self.access_log.reopen(descriptors.next());
                }
            }
            Ok(None) => {
                warn!(logger, "the master is gone");
                let _ = self.poll.forget(channel);
                self.drain(self.shared.boot.worker.graceful_timeout, None, Duration::ZERO);
            }
            // The application has read it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => error!(logger, "could not read the master's message"; "error" => %error),
        }
    }

    pub(super) fn terminated(&mut self) {
        take_bytes(self.terminated.as_fd());
        match self.channel {
            // The master answers with a drain as soon as there is a replacement; if it is stopping itself, with that drain.
            Some(_) => self.ask_replacement(Recycle::Signal),
            None if self.life == Life::Serving => {
                self.drain(self.shared.boot.worker.graceful_timeout, None, Duration::ZERO);
            }
            None => {}
        }
    }

    /// The calling thread is wanted.
    pub(super) fn wants_attention(&mut self) {
        self.attention.iter().for_each(|attention| take_bytes(attention.as_fd()));
        self.steps.push_back(Step::Attend);
    }

    /// Sends the stacks that the master has asked for.
    pub(super) fn answer_stacks(&self, stacks: String) {
        self.tell(FromWorker::Stacks(ostler_wire::channel::fit(&stacks)));
    }
}

/// Reads what has woken the loop. Two waits may have reported the same bytes: once they are read, another read would block.
fn take_bytes(descriptor: BorrowedFd) {
    if is_readable(descriptor) {
        let _ = nix::unistd::read(descriptor, &mut [0; 64]);
    }
}

/// Whether a read would return at once: there is data, or the other end is closed.
fn is_readable(descriptor: BorrowedFd) -> bool {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    matches!(poll(&mut descriptors, PollTimeout::ZERO), Ok(1..))
}
