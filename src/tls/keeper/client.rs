//! The worker's end: asks the keeper, and waits no longer than a client would.

use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_wire::{Channel, channel};

use super::{HEAD, NUMBER};
use crate::Sign;

/// How long a signature may take. RSA takes a millisecond, and each of the other workers may ask for one at the same time.
const WITHIN: Duration = Duration::from_secs(1);
/// How long one may take of a keeper that has not answered the last question: nobody else is served meanwhile.
const OF_SILENT: Duration = Duration::from_millis(50);
/// How long such a keeper is not asked.
const REST: Duration = Duration::from_secs(1);

/// A worker's way to the keys.
#[derive(Debug)]
pub struct Keeper(Mutex<Way>);

#[derive(Debug)]
struct Way {
    channel: Channel,
    /// Of the last question.
    number: u32,
    /// It has not answered the last question, and is asked again from then on.
    silent: Option<Instant>,
}

impl Keeper {
    /// Over the socket that the master has made for this worker.
    pub fn new(socket: OwnedFd) -> Keeper {
        Keeper(Mutex::new(Way { channel: socket.into(), number: 0, silent: None }))
    }
}

impl Sign for Keeper {
    fn sign(&self, key: u64, scheme: u16, message: &[u8]) -> io::Result<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ask(key, scheme, message)
    }
}

impl Way {
    fn ask(&mut self, key: u64, scheme: u16, message: &[u8]) -> io::Result<Vec<u8>> {
        let now = Instant::now();
        if self.silent.is_some_and(|until| now < until) {
            return Err(silent());
        }
        let within = if self.silent.is_some() { OF_SILENT } else { WITHIN };
        let answer = self.ask_within(now + within, key, scheme, message);
        let late = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut);
        self.silent = late.then(|| Instant::now() + REST);
        answer
    }

    fn ask_within(&mut self, until: Instant, key: u64, scheme: u16, message: &[u8]) -> io::Result<Vec<u8>> {
        self.number = self.number.wrapping_add(1);
        let number = self.number.to_le_bytes();
        let mut question = Vec::with_capacity(HEAD + message.len());
        question.extend([&number[..], &key.to_le_bytes(), &scheme.to_le_bytes(), message].concat());
        channel::send(self.channel.as_fd(), &question, &[])?;
        loop {
            self.wait(until)?;
            let Some((answer, _)) = self.channel.packet()? else { return Err(ErrorKind::UnexpectedEof.into()) };
            match answer.split_at_checked(NUMBER) {
                Some((asked, [])) if asked == number => {
                    return Err(io::Error::other("the key keeper does not sign this"));
                }
                Some((asked, signature)) if asked == number => return Ok(signature.to_vec()),
                // An answer that came too late.
                _ => {}
            }
        }
    }

    /// Until there is an answer to read.
    fn wait(&self, until: Instant) -> io::Result<()> {
        let mut polled = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) => return Err(silent()),
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn silent() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "the key keeper does not answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_are_passed_over_and_a_refusal_is_an_error() {
        let (ours, theirs) = super::super::pair().unwrap();
        let keeper = Keeper::new(ours.into());
        let answer = |number: u32, signature: &[u8]| {
            channel::send(theirs.as_fd(), &[&number.to_le_bytes()[..], signature].concat(), &[]).unwrap();
        };
        answer(0, b"late");
        answer(1, b"signed");
        assert_eq!(keeper.sign(7, 0x0804, b"message").unwrap(), b"signed");
        let (question, _) = theirs.packet().unwrap().unwrap();
        assert_eq!(question, b"\x01\0\0\0\x07\0\0\0\0\0\0\0\x04\x08message");
        answer(2, b"");
        assert_eq!(keeper.sign(7, 0x0804, b"").unwrap_err().to_string(), "the key keeper does not sign this");
        drop(theirs);
        assert!(keeper.sign(7, 0x0804, b"").is_err());
    }

    #[test]
    fn a_silent_keeper_is_waited_for_once() {
        let (ours, theirs) = super::super::pair().unwrap();
        let keeper = Keeper::new(ours.into());
        let ask = || keeper.sign(7, 0x0804, b"").map_err(|error| error.kind());
        assert_eq!(ask(), Err(ErrorKind::TimedOut));
        theirs.packet().unwrap().unwrap();
        // It is not even asked.
        assert_eq!(ask(), Err(ErrorKind::TimedOut));
        assert_eq!(poll(&mut [PollFd::new(theirs.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO), Ok(0));
        keeper.0.lock().unwrap().silent = Some(Instant::now());
        channel::send(theirs.as_fd(), b"\x02\0\0\0signed", &[]).unwrap();
        assert_eq!(ask(), Ok(b"signed".to_vec()));
        assert!(keeper.0.lock().unwrap().silent.is_none());
    }
}
