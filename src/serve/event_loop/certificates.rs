//! Certificates and the keys of session tickets change while connections go on.

use std::{io, os::fd::OwnedFd, sync::Arc};

use ostler_tls::{Acceptor, Sign, keeper::Keeper};
use ostler_wire::{Boot, TicketKeys, Tls};
use slog::{debug, error};

use super::Loop;

/// What handshakes are made with, if there are certificates and somebody who signs.
pub(super) fn acceptor(boot: &Boot, signer: Option<Arc<dyn Sign>>) -> io::Result<Option<Arc<Acceptor>>> {
    let (Some(tls), Some(signer)) = (&boot.tls, signer) else { return Ok(None) };
    Acceptor::new(tls, signer, boot.ticket_keys.as_ref()).map(|acceptor| Some(Arc::new(acceptor)))
}

impl Loop {
    /// For the handshakes that begin from now on.
    pub(super) fn certificates(&mut self, tls: Tls, descriptors: Vec<OwnedFd>) {
        let Some(socket) = descriptors.into_iter().next() else {
            return error!(self.shared.log, "no way to the key keeper came with new certificates");
        };
        match Acceptor::new(&tls, Arc::new(Keeper::new(socket)), self.ticket_keys.as_ref()) {
            Ok(acceptor) => {
                self.acceptor = Some(Arc::new(acceptor));
                debug!(self.shared.log, "certificates taken");
            }
            Err(error) => error!(self.shared.log, "certificates kept"; "error" => %error),
        }
    }

    /// For the tickets that are made from now on.
    pub(super) fn ticket_keys(&mut self, keys: TicketKeys) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.change_ticket_keys(&keys);
        }
        self.ticket_keys = Some(keys);
    }
}
