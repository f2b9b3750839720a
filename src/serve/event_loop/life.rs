//! The steps of a worker's life: it begins to serve, drains, and ends.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::{FromWorker, Recycle, meters::MoveReason};
use slog::{info, warn};

use super::{Loop, Step};
use crate::{
    connection::{Connection, Interest, Next, Phase},
    life::{Drain, HANDSHAKE, LAST_REQUEST, Life, LoopEnd},
    moment::Moment,
    poll::timers::Token,
};

impl Loop {
    /// The generation is complete.
    pub(super) fn serve(&mut self) {
        if self.life == Life::Waiting {
            self.life = Life::Serving;
            self.arm();
        }
    }

    /// Begins to drain, or shortens a drain. Connections move, for this reason, or are closed.
    pub(super) fn drain(&mut self, within: Duration, hand_over: Option<MoveReason>, delay: Duration) {
        let drain = Drain::new(self.clock.now + delay + within, hand_over);
        let hand_over = hand_over.is_some();
        self.shared.closing.store(!hand_over, Relaxed);
        if !hand_over {
            self.intake.stop_deferring();
        }
        if self.channel.is_some() {
            info!(self.shared.log, "worker draining"; "within" => ?within, "hand_over" => hand_over);
        }
        self.life = Life::Leaving { from: self.clock.now + delay, drain };
        self.advance_drain();
    }

    /// Ends at once.
    pub(super) fn quit(&mut self) {
        self.cut_requests("the worker quits");
        self.life = Life::Over(LoopEnd::Quit);
        if self.calls.under_way() > 0 {
            self.steps.push_back(Step::Abandon(0));
        }
    }

    /// Begins the drain when its delay is over, and ends it when its bound is over.
    pub(super) fn advance_drain(&mut self) {
        match self.life {
            Life::Leaving { from, drain } if from <= self.clock.now && self.intake.turn_away() => {
                self.life = Life::Leaving { from: self.clock.now + HANDSHAKE, drain };
            }
            Life::Leaving { from, drain } if from <= self.clock.now => {
                if drain.hand_over.is_none() {
                    self.empty_queues();
                }
                self.life = Life::Draining(drain);
                self.handover.begin(drain.hand_over, &self.shared, self.clock.now);
                self.arm();
                self.intake.close();
                self.tell(FromWorker::AcceptsNoMore);
                if drain.hand_over.is_none() {
                    self.close_idle_later();
                }
                self.move_or_close_all_idle(drain.hand_over.is_some());
            }
            _ => {}
        }
        if let Life::Draining(drain) = self.life
            && drain.is_over(self.clock.now)
        {
            warn!(self.shared.log, "drain cut short"; "connections" => self.connections.len(), "calls" => self.calls.under_way());
            for seat in 0..self.shared.boot.worker.threads {
                if self.shared.underway(seat).is_some() {
                    self.steps.push_back(Step::Explain(seat, "request abandoned"));
                }
            }
            self.cut_requests("graceful-timeout");
            self.life = Life::Over(LoopEnd::Drained { deadline: self.clock.now });
            self.tell(FromWorker::Drained);
            self.steps.push_back(Step::Abandon(0));
        }
    }

    /// Moves or closes every connection that is between two requests; one that is in the middle of a request, too, if nobody waits for the
    /// rest.
    fn move_or_close_all_idle(&mut self, hand_over: bool) {
        let alone = self.ends_alone();
        let idle = self.connections.iter().filter(|connection| match connection.phase {
            Phase::Head => true,
            Phase::Body(..) | Phase::Lingering(_) => alone,
            Phase::Ready(_) | Phase::Called(..) | Phase::Writing(..) => false,
        });
        let idle: Vec<Token> = idle.map(|connection| connection.token).collect();
        match hand_over {
            true => idle.into_iter().for_each(|token| self.queue_to_move(token)),
            false => idle.into_iter().for_each(|token| self.turn.go_on(token)),
        }
    }

    /// The site stops. A client that has just connected, or has just had an answer, may already have sent its next request. Its connection
    /// is kept until it has been idle for [`Loop::last_request`]. One that has been idle for longer is closed at once.
    fn close_idle_later(&mut self) {
        let (worker, last_request) = (&self.shared.boot.worker, self.last_request());
        let idle: Vec<(Token, Moment)> = self
            .connections
            .iter()
            .filter(|connection| connection.idles() && !self.turn.holds(connection.token))
            .filter_map(|connection| Some((connection.token, connection.idle_since(worker)? + last_request)))
            .collect();
        for (token, due) in idle {
            self.close_idle_at(token, due);
        }
    }

    /// Whether a server in somebody's program ends, and the program waits for that: nothing is waited for that a client may never send.
    pub(super) fn ends_alone(&self) -> bool {
        self.channel.is_none() && matches!(self.life, Life::Draining(_))
    }

    /// How long a connection must have been idle before it is closed because the site stops. A server in somebody's program ends when its
    /// program says so, which waits for that.
    fn last_request(&self) -> Duration {
        if self.channel.is_some() { LAST_REQUEST } else { Duration::ZERO }
    }

    /// Queues an idle connection for a move. It is served here until it moves. A smoke test is over when its worker drains.
    fn queue_to_move(&mut self, token: Token) {
        match self.connections.get(token) {
            Some(connection) if connection.private => self.close(token),
            Some(connection) => self.handover.queue(connection),
            None => {}
        }
    }

    fn close_idle_at(&mut self, token: Token, due: Moment) {
        if let Some(connection) = self.connections.get(token) {
            self.timers.set(token, &mut connection.deadline, Some(due));
        }
    }

    /// The step to take if the worker's life is over.
    pub(super) fn drained(&mut self) -> Option<Step> {
        match self.life {
            Life::Over(_) => Some(Step::End),
            Life::Draining(_) if self.turn.left() > 0 || self.calls.any_may_end() => None,
            Life::Draining(_) if self.connections.len() > self.calls.given_up() => None,
            Life::Draining(drain) => {
                // A sibling that did not know yet that the site stops may have put connections there.
                if drain.hand_over.is_none() && self.empty_exchange() {
                    return None;
                }
                self.life = Life::Over(drain.ending());
                self.access_log.close();
                if drain.hand_over.is_some() {
                    self.handover.log(&self.shared);
                }
                self.tell(FromWorker::Drained);
                Some(if self.calls.under_way() > 0 || self.held.is() { Step::Abandon(0) } else { Step::End })
            }
            Life::Waiting | Life::Serving | Life::Leaving { .. } => None,
        }
    }

    /// Deals with a connection that waits for (the rest of) a request while the worker drains: it is queued to move, or closed. Returns
    /// whether it needs nothing else.
    pub(super) fn move_or_close_idle(&mut self, token: Token) -> bool {
        let Life::Draining(drain) = self.life else { return false };
        if drain.hand_over.is_some() {
            self.queue_to_move(token);
            return false;
        }
        let (now, last_request, alone) = (self.clock.now, self.last_request(), self.ends_alone());
        match self.connection(token) {
            // A request has begun: the worker waits for the rest of it, within the drain's bound.
            Some(Connection { partial: Some(_), .. }) if !alone => false,
            Some(connection)
                if connection.partial.is_none() && connection.deadline.due().is_none_or(|due| due > now) =>
            {
                let latest = now + last_request;
                let due = connection.deadline.due().map_or(latest, |due| due.min(latest));
                self.close_idle_at(token, due);
                self.watch(token, Interest::Read);
                true
            }
            _ => {
                self.after(token, Next::Close);
                true
            }
        }
    }

    /// A request is over.
    pub(super) fn count_request(&mut self) {
        if self.recycling.warms() {
            self.tell(FromWorker::Warm);
        }
        if let Some(why) = self.recycling.count(self.clock.now) {
            self.ask_replacement(why);
        }
    }

    /// Tells the master, once, that this worker should be replaced. Without a master, nobody would replace it.
    pub(super) fn ask_replacement(&mut self, why: Recycle) {
        if self.channel.is_some() && self.recycling.ask() {
            info!(self.shared.log, "replacement asked for"; "reason" => ?why);
            self.tell(FromWorker::Replace(why));
        }
    }
}
