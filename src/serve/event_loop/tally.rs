//! What the loop has counted since it began. Before each wait it is written to the meters, together: nobody else writes there.

use std::sync::atomic::Ordering::Relaxed;

use super::Loop;

/// Numbers that grow many times in a turn.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Bytes that were read from clients.
    pub received: u64,
    /// Bytes of responses that are over.
    pub sent: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that wait for a request now: see [`crate::connection::Connection::idle`].
    pub idle: u64,
}

impl Loop {
    pub(super) fn write_tally(&self) {
        let Some(meters) = self.shared.meters() else { return };
        let Tally { received, sent, accepted, idle } = self.tally;
        meters.received.store(received, Relaxed);
        meters.sent.store(sent, Relaxed);
        meters.accepted.store(accepted, Relaxed);
        meters.idle.store(idle, Relaxed);
        meters.spooled.store(self.shared.store.held(), Relaxed);
    }
}
