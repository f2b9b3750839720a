//! Whether the site makes progress. While a worker has something to do, scoreboards and queues are looked at twice a second; when
//! nobody has, nothing is, until a worker says that it is at work: an idle site is not woken.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd,
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use ostler_wire::scoreboard::WorkerState as Doing;
use slog::warn;

use super::{
    event::{Event, Number},
    perform::Performer,
    slots,
    state::State,
};
use crate::sys::{clock::Moment, descriptors, diag};

const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// A saturated site says so only so often.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(60);

/// What was seen, and when to look again.
#[derive(Debug)]
pub struct Watch {
    /// When to look next; none while all sleep.
    pub next: Option<Moment>,
    /// Of each worker the turns of its loop, and the requests that it has answered.
    turns: BTreeMap<(Number, u16), (u32, u64)>,
    looked: Option<Moment>,
    /// How many requests a second all workers have answered between the last two looks.
    pub rate: f64,
    /// The workers that have said that they are at work since the last sleep began.
    woken_by: BTreeSet<(Number, u16)>,
    /// Since when clients have waited while all workers were busy, at each look.
    pub crowded: Option<Moment>,
    complained: Option<Moment>,
}

/// What the workers do, taken together.
#[derive(Default)]
struct Crowd {
    workers: usize,
    idle: usize,
    queued: u32,
}

impl Watch {
    /// One that looks at once: the workers may be those of an earlier executable.
    pub fn new(now: Moment) -> Watch {
        Watch {
            next: Some(now),
            turns: BTreeMap::new(),
            looked: None,
            rate: 0.0,
            woken_by: BTreeSet::new(),
            crowded: None,
            complained: None,
        }
    }

    /// A worker says that it is at work. Whether it was to say so: once for each sleep of ours.
    pub fn begin(&mut self, worker: (Number, u16), now: Moment) -> bool {
        self.next.get_or_insert(now + BETWEEN_LOOKS);
        self.woken_by.insert(worker)
    }

    /// Looks, and says what has changed since the last look.
    pub fn look(&mut self, state: &State, performer: &Performer, now: Moment) -> Vec<Event> {
        let (mut events, mut turns, mut crowd, mut quiet) = (Vec::new(), BTreeMap::new(), Crowd::default(), true);
        let mut answered = 0;
        for generation in state.generations() {
            let number = generation.number;
            let Some(team) = performer.teams.get(&number) else { continue };
            for worker in generation.slots.iter().filter(|worker| worker.stage == slots::WorkerStage::Ready) {
                let slot = team.scoreboard.slot(worker.slot);
                let (doing, turn, requests) = (slot.state(), slot.turns.load(Relaxed), slot.requests.load(Relaxed));
                let at_rest = matches!(doing, Doing::Idle | Doing::Booting);
                let before = self.turns.get(&(number, worker.slot));
                let turned = before.is_none_or(|(before, _)| *before != turn);
                // One that is new has answered all since the last look.
                let counted = before.map(|(_, requests)| *requests).or(self.looked.map(|_| 0));
                answered += counted.map_or(0, |counted| requests.saturating_sub(counted));
                // An engine of an earlier release counts no turns.
                let alive = at_rest || turned || turn == 0;
                if alive == worker.silent.is_some() {
                    events.push(Event::Pulse { generation: number, slot: worker.slot, alive });
                }
                quiet &= at_rest && !turned;
                turns.insert((number, worker.slot), (turn, requests));
                crowd.workers += 1;
                crowd.idle += usize::from(doing == Doing::Idle);
                crowd.queued = crowd.queued.saturating_add(slot.queued.load(Relaxed));
            }
        }
        self.turns = turns;
        let since = self.looked.replace(now).map_or(BETWEEN_LOOKS, |looked| now - looked);
        self.rate = answered as f64 / since.max(BETWEEN_LOOKS / 2).as_secs_f64();
        quiet &= !self.look_at_queues(performer, &crowd, now);
        self.next = (!quiet).then(|| now + BETWEEN_LOOKS);
        if quiet {
            self.woken_by.clear();
        }
        for (generation, slot) in self.turns.keys() {
            if let Some(team) = performer.teams.get(generation) {
                team.scoreboard.slot(*slot).watched.store(u32::from(!quiet), Relaxed);
            }
        }
        events
    }

    /// Whether anybody waits to be accepted. Two looks in a row at which somebody does while all are busy are a saturated site, and so
    /// is one at which a queue is full: the kernel drops who comes then.
    fn look_at_queues(&mut self, performer: &Performer, crowd: &Crowd, now: Moment) -> bool {
        let mut longest: Option<(&str, u32, u32)> = None;
        for bound in performer.listeners.iter() {
            descriptors::restore_listener(bound.socket.as_fd(), bound.room);
            if let Some((waiting, room)) = diag::queue(bound.socket.as_fd())
                && waiting > longest.map_or(0, |(_, longest, _)| longest)
            {
                longest = Some((&bound.told.name, waiting, room));
            }
        }
        let crowded = longest.is_some() && crowd.idle == 0 && crowd.workers > 0;
        let for_long = self.crowded.is_some() && crowded;
        self.crowded = crowded.then(|| self.crowded.unwrap_or(now));
        if let Some((address, waiting, room)) = longest
            && (for_long || waiting >= room)
            && self.complained.is_none_or(|last| now - last >= BETWEEN_COMPLAINTS)
        {
            self.complained = Some(now);
            warn!(performer.log, "site saturated"; "address" => address, "waiting" => waiting, "room" => room,
                "queued" => crowd.queued, "workers" => crowd.workers, "idle" => crowd.idle);
        }
        longest.is_some()
    }
}
