//! The keys of session tickets: the same in all workers, whichever generation they are of, so that what one of them has begun another one
//! goes on with. They change once an hour, and each is known for a time before and after it makes tickets.

use std::{io, time::Duration};

use ostler_tls::ticket_keys;
use ostler_wire::TicketKeys;
use serde::{Deserialize, Serialize};

use crate::sys::clock::Moment;

/// How long a key makes tickets. These hold for as long.
const EACH: Duration = Duration::from_secs(3600);

/// The keys of the moment.
#[derive(Clone, Serialize, Deserialize)]
pub struct Tickets {
    /// Those.
    pub keys: TicketKeys,
    /// When others follow.
    pub next: Moment,
}

impl Tickets {
    /// The first ones.
    pub fn new(now: Moment) -> io::Result<Tickets> {
        Ok(Tickets { keys: ticket_keys::first()?, next: now + EACH })
    }

    /// Those that follow.
    pub fn following(&self, now: Moment) -> io::Result<Tickets> {
        Ok(Tickets { keys: ticket_keys::following(&self.keys)?, next: now + EACH })
    }
}
