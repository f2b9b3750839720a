//! What the workers have counted, of the whole site and of each generation.

use ostler_wire as wire;

use super::Performer;
use crate::master::{event::Number, state::State, team::Team, totals::Totals, verdict::figures::Figures};

impl Performer<'_> {
    /// Brings the totals up to date.
    pub fn count(&mut self, state: &State) {
        for generation in state.generations() {
            let Some(team) = self.teams.get(&generation.number) else { continue };
            for worker in generation.slots.iter() {
                count_worker(&mut self.totals, generation.number, team, worker.slot);
                if let Some(time) = worker.pid.and_then(|pid| self.sampling.cpu(pid)) {
                    self.totals.spent(generation.number, worker.slot, time);
                }
            }
        }
        let (logged, lost) = wire::log::take_counts();
        self.totals.add_logged(logged, lost);
    }

    /// A canary begins to serve: from here on it is compared with the generation beside it.
    pub(super) fn canary_begins(&mut self) {
        for (&number, team) in &mut self.teams {
            team.workers.keys().for_each(|&slot| count_worker(&mut self.totals, number, team, slot));
            team.before_canary = figures(&self.totals, number, team);
        }
    }

    /// What a generation has done so far, as of the last count.
    pub fn figures(&self, generation: Number) -> Figures {
        self.teams.get(&generation).map(|team| figures(&self.totals, generation, team)).unwrap_or_default()
    }

    /// What a generation has done since the last canary began to serve, as of the last count.
    pub fn figures_beside_canary(&self, generation: Number) -> Figures {
        let figures = self.figures(generation);
        self.teams.get(&generation).map(|team| figures.since(&team.before_canary)).unwrap_or_default()
    }
}

fn count_worker(totals: &mut Totals, generation: Number, team: &Team, slot: u16) {
    totals.look(generation, slot, team.scoreboard.slot(slot), team.scoreboard.meters(slot));
}

fn figures(totals: &Totals, generation: Number, team: &Team) -> Figures {
    Figures::read(|field| totals.of_generation(generation, field), team.crashes.count, team.timeouts)
}
