//! The open connections of a worker, by their tokens.

use slab::Slab;

use super::Connection;
use crate::poll::timers::Token;

/// The highest serial number of a connection is below this; see [`crate::poll::EventSource`].
const SERIALS: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Connections {
    places: Slab<Connection>,
    serial: u32,
}

impl Connections {
    /// The connection that a token names, if it is still that one.
    pub fn get(&mut self, token: Token) -> Option<&mut Connection> {
        self.places.get_mut(token.place as usize).filter(|connection| connection.token == token)
    }

    /// The same, read-only.
    pub fn peek(&self, token: Token) -> Option<&Connection> {
        self.places.get(token.place as usize).filter(|connection| connection.token == token)
    }

    /// Adds the connection that is made for a new token.
    pub fn insert(&mut self, make: impl FnOnce(Token) -> Connection) -> Token {
        self.serial = (self.serial + 1) % SERIALS;
        let entry = self.places.vacant_entry();
        let token = Token { place: entry.key() as u32, serial: self.serial };
        entry.insert(make(token));
        token
    }

    pub fn remove(&mut self, token: Token) -> Option<Connection> {
        self.peek(token)?;
        self.places.try_remove(token.place as usize)
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.places.iter().map(|(_, connection)| connection)
    }

    pub fn tokens(&self) -> Vec<Token> {
        self.iter().map(|connection| connection.token).collect()
    }

    /// Frees memory that is not needed any more.
    pub fn shrink(&mut self) {
        self.places.shrink_to_fit();
    }
}
