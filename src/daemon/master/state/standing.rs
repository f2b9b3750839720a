//! What the site is doing, in a line for people: `systemctl status` shows it.

use super::{Phase, State};
use crate::master::{
    event::Number,
    generation::{Generation, Stage, Template},
    slots::Worker,
};

impl State {
    /// `serving generation 7, 4 workers; booting 2 of 4 workers of generation 8`
    pub fn standing(&self) -> String {
        let staged = |stage: Stage| self.generations.iter().filter(move |generation| generation.stage == stage);
        let booting = staged(Stage::Booting).map(|generation| match self.phase {
            Phase::Starting => progress(generation),
            _ => format!("{} of generation {}", progress(generation), generation.number),
        });
        match &self.phase {
            Phase::Starting | Phase::Serving => {
                let draining =
                    staged(Stage::Draining).map(|generation| format!("draining generation {}", generation.number));
                let canary = staged(Stage::Canary).map(|generation| format!("canary: {}", served(generation)));
                staged(Stage::Serving)
                    .map(served)
                    .chain(canary)
                    .chain(booting)
                    .chain(draining)
                    .collect::<Vec<_>>()
                    .join("; ")
            }
            Phase::Stopping { result: Err(failure), .. } => failure.message.clone(),
            Phase::Stopping { .. } | Phase::Ended => {
                let left = self.generations.iter().map(|generation| generation.slots.iter().count()).sum();
                format!("draining, {} left", workers(left))
            }
        }
    }

    /// Every worker and template.
    pub fn pids(&self) -> Vec<i32> {
        let of = |generation: &Generation| {
            let workers = generation.slots.iter().filter_map(|worker| worker.pid);
            workers.chain(generation.template.pid()).collect::<Vec<_>>()
        };
        self.generations.iter().flat_map(of).collect()
    }

    /// Why clients are not served, if there is more to say than that.
    pub fn serves_nothing(&self) -> Option<String> {
        self.serving().and_then(Generation::serves_nothing)
    }

    /// Whether at least one worker takes clients: not while all boot or drain, but for the time that --drain-delay gives. One that has no
    /// application does not.
    pub fn takes_clients(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::Serving => self.serves(),
            Phase::Stopping { listens: Some(_), .. } => {
                self.generations.iter().any(|generation| !generation.slots.is_empty())
            }
            Phase::Stopping { listens: None, .. } | Phase::Ended => false,
        }
    }

    /// Whether new clients are to come here.
    pub fn wants_clients(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Serving) && self.serves() && self.awaits_verdict().is_none()
    }

    fn serves(&self) -> bool {
        let on = self.serving().filter(|serving| serving.failed.is_none()).into_iter().chain(self.canary());
        on.flat_map(|generation| generation.slots.iter()).any(Worker::serves)
    }

    /// The generation that is judged, if new clients are to come only when it has proved itself (`--ready-after-watch`).
    pub fn awaits_verdict(&self) -> Option<Number> {
        let judged = self.judged()?.new;
        let generation = self.generations.iter().find(|generation| generation.number == judged);
        generation.filter(|generation| generation.plan.ready_after_watch).map(|generation| generation.number)
    }

    /// Whether a worker answers, or none is to. One that makes no progress, or that a signal has stopped, does not.
    pub fn answers(&self) -> bool {
        let answers = |worker: &Worker| worker.serves() && worker.silent.is_none() && worker.stopped.is_none();
        self.serving().is_none_or(|serving| serving.wanted == 0 || serving.slots.iter().any(answers))
    }
}

fn served(generation: &Generation) -> String {
    if let Some(nothing) = generation.serves_nothing() {
        return nothing;
    }
    let (ready, wanted) = (generation.slots.count(Worker::serves), usize::from(generation.wanted));
    let of = if ready < wanted { format!("{ready} of ") } else { String::new() };
    format!("serving generation {}, {of}{}", generation.number, workers(wanted))
}

fn progress(generation: &Generation) -> String {
    match generation.template {
        Template::Loaded { .. } => generation.smoking().unwrap_or_else(|| {
            format!("booting {} of {}", generation.slots.count(Worker::serves), workers(generation.wanted.into()))
        }),
        _ => generation.doing().unwrap_or_else(|| "starting the interpreter".into()),
    }
}

fn workers(count: usize) -> String {
    format!("{count} worker{}", if count == 1 { "" } else { "s" })
}
