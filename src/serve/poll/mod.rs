//! What the loop waits for: events of descriptors, the clock, deadlines; and how much one turn may do. Here: the sources of events, and
//! the events of the last wait, one after the other.

pub(crate) mod clock;
pub(crate) mod timers;
pub(crate) mod turn;

use std::{os::fd::AsFd, sync::Arc};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use self::timers::Token;

use crate::moment::Moment;

/// Events taken from the kernel at once.
const EVENTS: usize = 64;
/// The serial number of tokens that name no connection.
const SPECIAL: u32 = u32::MAX;

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventSource {
    Connection(Token),
    /// By its number.
    Listener(u16),
    /// Connections whose requests wait are on the exchange.
    Waiting,
    /// Idle connections are on the exchange.
    Idle,
    /// The exchange has room for more of those.
    Room,
    /// The master has sent a message.
    Master,
    /// The worker is to end.
    Terminated,
    /// The calling thread is wanted.
    Attention,
    /// Another thread has something for the loop.
    Alarm,
}

impl EventSource {
    /// What the kernel keeps for it.
    fn number(self) -> u64 {
        let special = |place: u32| Token { place, serial: SPECIAL };
        let token = match self {
            EventSource::Connection(token) => token,
            EventSource::Listener(number) => special(number.into()),
            EventSource::Waiting => special(u32::MAX),
            EventSource::Idle => special(u32::MAX - 1),
            EventSource::Room => special(u32::MAX - 2),
            EventSource::Master => special(u32::MAX - 3),
            EventSource::Terminated => special(u32::MAX - 4),
            EventSource::Alarm => special(u32::MAX - 5),
            EventSource::Attention => special(u32::MAX - 6),
        };
        u64::from(token.place) | u64::from(token.serial) << 32
    }

    /// Of an event.
    pub fn of(event: &EpollEvent) -> EventSource {
        let token = Token { place: event.data() as u32, serial: (event.data() >> 32) as u32 };
        match (token.serial, token.place) {
            (SPECIAL, u32::MAX) => EventSource::Waiting,
            (SPECIAL, place) if place == u32::MAX - 1 => EventSource::Idle,
            (SPECIAL, place) if place == u32::MAX - 2 => EventSource::Room,
            (SPECIAL, place) if place == u32::MAX - 3 => EventSource::Master,
            (SPECIAL, place) if place == u32::MAX - 4 => EventSource::Terminated,
            (SPECIAL, place) if place == u32::MAX - 5 => EventSource::Alarm,
            (SPECIAL, place) if place == u32::MAX - 6 => EventSource::Attention,
            (SPECIAL, place) => EventSource::Listener(place as u16),
            _ => EventSource::Connection(token),
        }
    }

    pub fn event(self, flags: EpollFlags) -> EpollEvent {
        EpollEvent::new(flags, self.number())
    }
}

/// The epoll set, and what it has reported.
pub(crate) struct Poll {
    pub epoll: Arc<Epoll>,
    events: Vec<EpollEvent>,
    /// How many events there are, and how many of those were handled.
    filled: usize,
    cursor: usize,
    /// How many connections the current event has brought.
    brought: u32,
    /// The next event is one that was handled already and comes again.
    repeated: bool,
    /// Until when the leader waits for events; none while it does not wait.
    pub waits_until: Option<Moment>,
}

impl Poll {
    pub fn new() -> nix::Result<Poll> {
        Ok(Poll {
            epoll: Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?),
            events: vec![EpollEvent::empty(); EVENTS],
            filled: 0,
            cursor: 0,
            brought: 0,
            repeated: false,
            waits_until: None,
        })
    }

    pub fn watch(&self, descriptor: impl AsFd, source: EventSource, flags: EpollFlags) -> nix::Result<()> {
        self.epoll.add(descriptor, source.event(flags))
    }

    pub fn forget(&self, descriptor: impl AsFd) -> nix::Result<()> {
        self.epoll.delete(descriptor)
    }

    /// Where the leader's wait puts events.
    pub fn lend(&mut self) -> Vec<EpollEvent> {
        let mut events = std::mem::take(&mut self.events);
        events.resize(EVENTS, EpollEvent::empty());
        events
    }

    /// Adds events that a wait has returned. Another thread may lead by now, and may still be handling earlier ones.
    pub fn add(&mut self, mut events: Vec<EpollEvent>, filled: usize) {
        if self.left() > 0 {
            self.events.truncate(self.filled);
            self.events.extend_from_slice(&events[..filled]);
            self.filled += filled;
        } else {
            std::mem::swap(&mut self.events, &mut events);
            self.filled = filled;
            self.cursor = 0;
            self.brought = 0;
            self.repeated = false;
        }
    }

    /// The next event to handle.
    pub fn next_event(&mut self) -> Option<EpollEvent> {
        if self.left() == 0 {
            return None;
        }
        self.cursor += 1;
        self.repeated = false;
        Some(self.events[self.cursor - 1])
    }

    /// How many events are still to be handled.
    pub fn left(&self) -> usize {
        self.filled - self.cursor
    }

    /// Those of them that bring something as far as is known: not one that comes again, for there may be nothing more.
    pub fn certainly_left(&self) -> usize {
        self.left() - usize::from(self.repeated)
    }

    /// Returns the current event once more if it has brought a connection, up to `most` times: there may be another one.
    pub fn repeat_event(&mut self, one: bool, most: u32) {
        self.brought = if one { (self.brought + 1) % most } else { 0 };
        self.repeated = self.brought > 0;
        self.cursor -= usize::from(self.repeated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_told_from_the_others() {
        let token = |place, serial| EventSource::Connection(Token { place, serial });
        let sources = [
            token(0, 0),
            token(u32::MAX, SPECIAL - 1),
            EventSource::Listener(0),
            EventSource::Listener(u16::MAX),
            EventSource::Waiting,
            EventSource::Idle,
            EventSource::Room,
            EventSource::Master,
            EventSource::Terminated,
            EventSource::Alarm,
            EventSource::Attention,
        ];
        for source in sources {
            assert_eq!(EventSource::of(&source.event(EpollFlags::EPOLLIN)), source);
        }
    }

    #[test]
    fn an_event_that_brings_connections_comes_again_until_it_has_brought_enough() {
        let mut poll = Poll::new().unwrap();
        let events = poll.lend();
        poll.add(events, 1);
        for _ in 0..3 {
            assert!(poll.next_event().is_some());
            poll.repeat_event(true, 3);
            assert_eq!(poll.certainly_left(), 0);
        }
        assert!(poll.next_event().is_none());
    }
}
