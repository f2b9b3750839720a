//! What the loop has counted since its last wait. Before each wait it is written to the meters, together.

use std::sync::atomic::Ordering::Relaxed;

use ostler_wire::meters::grow;

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
    /// Connections that wait for a request. It is not begun anew: see [`crate::connection::Connection::idle`].
    pub idle: u64,
}

impl Loop {
    pub(super) fn write_tally(&mut self) {
        let Some(meters) = self.shared.meters() else { return };
        let Tally { received, sent, accepted, idle } = std::mem::take(&mut self.tally);
        self.tally.idle = idle;
        grow(&meters.received, received);
        grow(&meters.sent, sent);
        grow(&meters.accepted, accepted);
        meters.idle.store(idle, Relaxed);
        meters.spooled.store(self.shared.store.held(), Relaxed);
    }
}
