//! Has the number of workers follow the load, where `--workers` is a range: gathers the figures for the rule of elastic.rs while anybody is at
//! work, and hands what it decides to the state machine.

use std::{collections::BTreeMap, os::fd::AsFd, sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::scoreboard::WorkerState as Doing;
use slog::{info, warn};

use super::{
    Master,
    elastic::{Decision, Elastic, Figures, Processors, Room, WAITING},
    event::Event,
    generation::{Generation, Stage},
    perform::Performer,
    sampling::{self, Memory},
    slots::WorkerStage,
    state::State,
};
use crate::{
    exit::words,
    sys::{clock::Moment, descriptors, diag},
};

/// From one look to the next, while anybody is at work.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// After the first request that comes to a site at rest, others may come at the same time. Also while figures of memory are being read.
const SOON: Duration = Duration::from_millis(10);
/// How old figures of memory may be when workers are added.
const FRESH: Duration = Duration::from_millis(500);
/// What a worker is taken to need as long as none has answered a request: only then is it known.
const UNKNOWN: u64 = 256 << 20;
/// All of them have calls, so that what some do is what all do.
const WORKERS_LOOKED_AT: usize = 8;
/// A request that moves from worker to worker has more bytes than this, with what is told of its connection.
const SMALLEST: usize = 64;
/// What keeps a site from growing is told only so often.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(60);

/// The rule, and what was seen at the last look.
#[derive(Default)]
pub struct Sizing {
    rule: Option<Elastic>,
    /// When to look next; none while nobody is at work and nothing is to be taken back.
    pub next: Option<Moment>,
    /// For how long some workers had computed a while ago, as long as none is idle, and for which share of its time each has from then to now.
    used: Option<(Moment, BTreeMap<i32, Duration>)>,
    each: Option<f64>,
    complained: Option<Moment>,
    /// [`given_and_not_taken`], when no request was on its way from worker to worker.
    at_rest: i64,
    /// The workers that have answered a request, and since when that is known.
    answered: BTreeMap<i32, Moment>,
    /// What the largest worker of any generation that had answered one had to itself, and what it had when it had most.
    largest: Option<(u64, u64)>,
}

/// What was seen of the workers that serve.
#[derive(Default)]
struct Seen {
    figures: Figures,
    pids: Vec<i32>,
    /// Those of them that have answered a request.
    answered: Vec<i32>,
    /// One that is idle and in no call: the place that is the first to be given up.
    spare: Option<u16>,
}

impl Master<'_> {
    /// Looks whether the site has as many workers as it needs, if that is due.
    pub(super) fn size(&mut self, now: Moment) {
        let of = |serving: &Generation| Some((serving.number, serving.range?, serving.plan.shrink_after));
        let Some((generation, range, shrink_after)) = self.state.serving().and_then(of) else {
            self.sizing = Sizing::default();
            return;
        };
        let is_at_work = self.performer.watch.next.is_some();
        let sizing = &mut self.sizing;
        if !sizing.rule.as_ref().is_some_and(|rule| rule.is_for(generation, range)) {
            sizing.rule = Some(Elastic::new(generation, range, shrink_after, now));
            sizing.next = Some(now + SOON);
        }
        // It may have slept until a worker is needless.
        if is_at_work && sizing.next.is_none_or(|next| next > now + BETWEEN_LOOKS) {
            sizing.next = Some(now + SOON);
        }
        if sizing.next.is_none_or(|next| now < next) {
            return;
        }
        self.performer.turns.doing("how many workers are needed");
        let (decision, seen) = self.look_at_load(now);
        let Some(rule) = &self.sizing.rule else { return };
        self.sizing.next = match is_at_work {
            true => Some(now + if seen.figures.reading { SOON } else { BETWEEN_LOOKS }),
            false => rule.due(now),
        };
        match decision {
            Decision::Stay => {}
            Decision::Held(why) => self.sizing.complain(&why, &seen.figures, &self.performer, now),
            Decision::Grow(by, why) => self.handle(Event::Grow { generation, by, why }),
            Decision::Shrink(why) => {
                if let Some(slot) = seen.spare {
                    self.handle(Event::Shrink { generation, slot, why });
                }
            }
        }
    }

    fn look_at_load(&mut self, now: Moment) -> (Decision, Seen) {
        let mut seen = Seen::of(&self.state, &self.performer);
        let Some(most) = self.sizing.rule.as_ref().map(|rule| rule.range().most) else { return (Decision::Stay, seen) };
        let before = std::mem::take(&mut self.sizing.answered);
        let since = |pid: &i32| (*pid, before.get(pid).copied().unwrap_or(now));
        self.sizing.answered = seen.answered.iter().map(since).collect();
        let moving = self.sizing.moving(&self.state, &self.performer);
        if seen.figures.idle == 0 {
            seen.figures.waiting += accept_queues(&self.performer) + moving;
        }
        let is_full = seen.figures.idle == 0 && seen.figures.waiting > 0;
        match is_full && seen.figures.wanted < most {
            true => {
                let Performer { sampling, log, .. } = &mut self.performer;
                if let Err(error) = sampling.refresh_older(FRESH, self.state.pids(), now) {
                    warn!(log, "memory not read"; "reason" => words(&error));
                }
                seen.figures.reading = sampling.is_reading();
                seen.figures.room = self.sizing.room(&self.state, &self.performer);
                self.sizing.look_at_use(&seen.pids, now);
                let (each, there) = (self.sizing.each, self.performer.sampling.processors());
                let use_of = |each| there.map(|(count, pressure)| Processors { count, each, pressure });
                seen.figures.processors = each.and_then(use_of);
            }
            false => (self.sizing.used, self.sizing.each) = (None, None),
        }
        let decision = self.sizing.rule.as_mut().map_or(Decision::Stay, |rule| rule.look(&seen.figures, now));
        (decision, seen)
    }
}

impl Sizing {
    /// For which share of its time each worker computes, or would if a processor were free. Over less time than requests have to wait, nothing
    /// could be said.
    fn look_at_use(&mut self, pids: &[i32], now: Moment) {
        let some = || pids.iter().take(WORKERS_LOOKED_AT);
        let used = || some().filter_map(|&pid| Some((pid, sampling::computing(pid)?))).collect();
        let (since, before) = self.used.get_or_insert_with(|| (now, used()));
        let elapsed = now - *since;
        if elapsed < WAITING {
            return;
        }
        let used: BTreeMap<i32, Duration> = used();
        let both = used.iter().filter_map(|(pid, used)| Some(used.saturating_sub(*before.get(pid)?)));
        let shares: Vec<f64> = both.map(|used| used.as_secs_f64() / elapsed.as_secs_f64()).collect();
        self.each = (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64);
        self.used = Some((now, used));
    }

    /// How many requests busy workers have given away that no other has taken yet. The kernel tells how many bytes they are, and the workers how
    /// many they have given and taken: since when none was on its way.
    fn moving(&mut self, state: &State, performer: &Performer) -> usize {
        let (bytes, balance) =
            (descriptors::unread(performer.exchange.take.as_fd()), given_and_not_taken(state, performer));
        if bytes == 0 {
            self.at_rest = balance;
            return 0;
        }
        usize::try_from(balance.wrapping_sub(self.at_rest)).unwrap_or(0).clamp(1, bytes.div_ceil(SMALLEST))
    }

    /// What memory is left for more workers of the generation that serves, and of one that is to follow it.
    fn room(&mut self, state: &State, performer: &Performer) -> Option<Room> {
        let sampling = &performer.sampling;
        let (left, begun) = (sampling.memory_left()?, sampling.begun()?);
        let ready = state.serving()?.slots.iter().filter(|worker| worker.stage == WorkerStage::Ready);
        let memory: Vec<(i32, Memory)> =
            ready.filter_map(|worker| Some((worker.pid?, sampling.of(worker.pid?)?))).collect();
        let had_answered = |(pid, _): &&(i32, Memory)| self.answered.get(pid).is_some_and(|since| *since <= begun);
        let known = || memory.iter().filter(had_answered).map(|(_, memory)| memory);
        if let (Some(held), Some(peak)) =
            (known().map(|memory| memory.private).max(), known().map(|memory| memory.peak).max())
        {
            self.largest = Some((held, peak));
        }
        // A worker to come will have its peak with its first requests, as all have had theirs.
        let (held, each) = self.largest.unwrap_or((UNKNOWN, UNKNOWN));
        let growing = memory.iter().map(|(_, memory)| held.saturating_sub(memory.private)).fold(0, u64::saturating_add);
        let followed = state.generations().iter().any(|generation| generation.stage == Stage::Booting);
        Some(Room {
            limit: left.limit,
            which: left.which.clone(),
            free: left.free,
            each: if followed { each.saturating_mul(2) } else { each },
            is_known: self.largest.is_some(),
            growing,
            pressure: sampling.pressure_of_memory(),
        })
    }

    fn complain(&mut self, why: &str, figures: &Figures, performer: &Performer, now: Moment) {
        if self.complained.is_none_or(|last| now - last >= BETWEEN_COMPLAINTS) {
            self.complained = Some(now);
            info!(performer.log, "not scaled"; "workers" => figures.wanted, "waiting" => figures.waiting, "reason" => why);
        }
    }
}

impl Seen {
    fn of(state: &State, performer: &Performer) -> Seen {
        let mut seen = Seen::default();
        seen.figures.settled = state.may_shrink();
        for generation in state.serving().into_iter().chain(state.canary()) {
            let Some(team) = performer.teams.get(&generation.number) else { continue };
            let (board, serves) = (&team.scoreboard, generation.stage == Stage::Serving);
            seen.figures.wanted += generation.wanted;
            seen.figures.threads = board.threads();
            seen.figures.coming += generation.slots.count(|worker| worker.counts() && !worker.serves());
            for worker in generation.slots.iter().filter(|worker| worker.stage == WorkerStage::Ready) {
                let slot = board.slot(worker.slot);
                let calls =
                    (0..board.threads()).filter(|&thread| board.activity(worker.slot, thread).is_underway()).count();
                let queued = slot.queued.load(Relaxed);
                seen.figures.calls += calls;
                seen.figures.waiting = seen.figures.waiting.saturating_add(queued as usize);
                seen.pids.extend(worker.pid);
                seen.answered.extend(worker.pid.filter(|_| slot.requests.load(Relaxed) > 0));
                // One that a signal has stopped takes nothing.
                if slot.state() == Doing::Idle && worker.stopped.is_none() {
                    seen.figures.idle += 1;
                    let is_spare = serves && worker.serves() && calls == 0 && queued == 0;
                    seen.spare = seen.spare.max(is_spare.then_some(worker.slot));
                }
            }
        }
        seen
    }
}

/// How many wait to be accepted.
fn accept_queues(performer: &Performer) -> usize {
    let queues = performer.listeners.iter().filter_map(|bound| diag::queue(bound.socket.as_fd()));
    queues.map(|(waiting, _)| waiting as usize).sum()
}

/// How many connections the workers have given away more than they have taken, those that are gone left out.
fn given_and_not_taken(state: &State, performer: &Performer) -> i64 {
    let boards =
        state.generations().iter().filter_map(|one| Some((one, &performer.teams.get(&one.number)?.scoreboard)));
    let slots = boards.flat_map(|(one, board)| one.slots.iter().map(|worker| board.slot(worker.slot)));
    slots.map(|slot| slot.given.load(Relaxed).wrapping_sub(slot.taken.load(Relaxed)) as i64).fold(0, i64::wrapping_add)
}
