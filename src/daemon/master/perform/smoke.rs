//! Smoke tests: a worker is given one end of a connection, and a child asks at the other.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    time::Duration,
};

use ostler_wire::ToWorker;

use super::{Performer, system};
use crate::{
    exit::{Exit, Failure},
    master::event::{Event, Number},
    resources::smoke::{self, Verdict},
    sys::errand::Errand,
};

/// A child that asks.
pub struct SmokeErrand {
    pub generation: Number,
    test: usize,
    errand: Errand,
}

impl Performer<'_> {
    /// Begins a test; its verdict follows when the child ends.
    pub(super) fn smoke(&mut self, generation: Number, slot: u16, test: usize) -> Option<Event> {
        match self.begin_smoke(generation, slot, test) {
            Ok(errand) => {
                self.smoke = Some(SmokeErrand { generation, test, errand });
                None
            }
            Err(error) => {
                let verdict = Verdict::Failed(system("begin a smoke test", error));
                Some(Event::Smoked { generation, test, verdict })
            }
        }
    }

    fn begin_smoke(&mut self, generation: Number, slot: u16, test: usize) -> io::Result<Errand> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let team = self.teams.get_mut(&generation).ok_or_else(gone)?;
        let asked = team.settings.smoke.get(test).ok_or_else(gone)?.clone();
        let within = team.settings.smoke_timeout;
        let (ours, theirs) = UnixStream::pair()?;
        let line = team.workers.get_mut(&slot).ok_or_else(gone)?;
        let message = ToWorker::Smoke { https: asked.request.https, port: asked.request.port() };
        line.send(&message, &[theirs.as_fd()])?;
        // The child is to see the end of the connection, so that it must not have the worker's end itself.
        drop(theirs);
        Errand::begin(Duration::MAX, move || smoke::run(&asked, ours, within))
    }

    /// A child has ended. The verdict, if it was one that asked.
    pub(super) fn smoke_ended(&mut self, pid: i32) -> Option<Event> {
        let SmokeErrand { generation, test, errand } = self.smoke.take_if(|smoke| smoke.errand.pid == pid)?;
        let verdict = errand.outcome().unwrap_or_else(|| {
            Verdict::Failed(Failure::new(
                Exit::Smoke,
                "a smoke test came to nothing: the process that asked was killed",
            ))
        });
        Some(Event::Smoked { generation, test, verdict })
    }
}
