//! Work that is kept for reuse, so that its buffers are allocated once.

use std::sync::Arc;

use super::work::Work;
use crate::{
    moment::Moment,
    poll::timers::Token,
    request::{incoming::Arrival, peer::Peer},
    response::Outgoing,
    shared::Shared,
    transport::Transport,
};

/// About as many requests as a busy worker reads and queues at once.
const SPARE: usize = 32;

#[derive(Default)]
pub(crate) struct Pool {
    /// Boxed, because work is handed from place to place.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Work>>,
}

impl Pool {
    /// Work for a connection's next request.
    pub fn take(
        &mut self,
        shared: &Arc<Shared>,
        token: Token,
        transport: Arc<Transport>,
        peer: Peer,
        now: Moment,
    ) -> Box<Work> {
        let Some(mut work) = self.spare.pop() else {
            return Work::new(Outgoing::new(shared.clone(), token, transport), peer, now);
        };
        work.outgoing.token = token;
        work.outgoing.transport = Some(transport);
        work.incoming.client = peer.client;
        work.incoming.trusted = peer.trusted;
        work.incoming.arrival = Arrival::at(now);
        work
    }

    /// Keeps work for reuse.
    pub fn keep(&mut self, mut work: Box<Work>) {
        if self.spare.len() < SPARE {
            work.reset();
            self.spare.push(work);
        }
    }
}
