//! Certificates and the keys of session tickets change while connections go on.

use std::{os::fd::OwnedFd, sync::Arc};

use ostler_tls::keeper::Keeper;
use ostler_wire::{TicketKeys, Tls};
use slog::error;

use super::Loop;

impl Loop {
    /// For the handshakes that begin from now on.
    pub(super) fn certificates(&mut self, tls: Tls, descriptors: Vec<OwnedFd>) {
        let Some(socket) = descriptors.into_iter().next() else {
            return error!(self.shared.log, "no way to the key keeper came with new certificates");
        };
        self.signer = Some(Arc::new(Keeper::new(socket)));
        self.tls = Some(tls);
    }

    /// For the tickets that are made from now on.
    pub(super) fn ticket_keys(&mut self, keys: TicketKeys) {
        self.ticket_keys = Some(keys);
    }
}
