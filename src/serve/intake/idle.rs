//! Idle connections, between two requests: where there is no room for a new one, the one that has idled longest is closed.
//! Also: gives memory back to the system after a flood of connections.

use ostler_wire::WorkerSettings;

use crate::{
    connection::{Connection, connections::Connections},
    moment::Moment,
    poll::timers::Token,
};

/// How many idle connections one search finds, so that not each newcomer costs a look at all connections.
const FOUND: usize = 64;
/// From this many connections on, their memory is worth giving back.
const FLOOD: usize = 256;

#[derive(Default)]
pub(crate) struct Idle {
    /// The connections that had idled longest at the last search, and since when; the longest last.
    found: Vec<(Option<Moment>, Token)>,
    /// The most connections since memory was last given back.
    most: usize,
}

impl Idle {
    /// That many connections are there, or will be.
    pub fn count(&mut self, connections: usize) {
        self.most = self.most.max(connections);
    }

    /// Whether there was a flood of connections, and it is over. True once for each flood.
    pub fn has_ebbed(&mut self, connections: usize) -> bool {
        let ebbed = self.most >= FLOOD && connections <= self.most / 4;
        if ebbed {
            self.most = connections;
        }
        ebbed
    }

    /// The connection that has idled longest.
    pub fn longest(&mut self, connections: &Connections, worker: &WorkerSettings) -> Option<Token> {
        self.still_idle(connections, worker).or_else(|| {
            self.find(connections, worker);
            self.still_idle(connections, worker)
        })
    }

    /// The next of the connections found that has been idle ever since.
    fn still_idle(&mut self, connections: &Connections, worker: &WorkerSettings) -> Option<Token> {
        while let Some((since, token)) = self.found.pop() {
            if let Some(connection) = connections.peek(token)
                && idle_since(connection, worker) == Some(since)
                && !connection.transport.has_bytes()
            {
                return Some(token);
            }
        }
        None
    }

    fn find(&mut self, connections: &Connections, worker: &WorkerSettings) {
        let idle = |connection: &Connection| Some((idle_since(connection, worker)?, connection.token));
        let mut found: Vec<_> = connections.iter().filter_map(idle).collect();
        if found.len() > FOUND {
            found.select_nth_unstable(FOUND);
            found.truncate(FOUND);
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        self.found = found;
    }
}

/// Since when a connection is idle: `None` if it is not, `Some(None)` if it has no deadline to tell that from.
fn idle_since(connection: &Connection, worker: &WorkerSettings) -> Option<Option<Moment>> {
    (connection.gives_way() && !connection.readable).then(|| connection.idle_since(worker))
}

/// glibc keeps freed memory that lies between two blocks in use, until it is told to trim.
#[cfg(target_env = "gnu")]
pub(crate) fn trim() {
    // SAFETY: malloc_trim may be called by any thread at any time; it frees nothing that is in use.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}
