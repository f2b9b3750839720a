//! The keys of session tickets (RFC 8446, 4.6.1): made by chance, and changed so that no ticket is refused that was made lately.

use std::io;

use ostler_wire::TicketKeys;
use ring::rand::{SecureRandom, SystemRandom};

/// The first ones.
pub fn first() -> io::Result<TicketKeys> {
    Ok(TicketKeys { previous: key()?, current: key()?, next: key()? })
}

/// Those that follow: what was to be is, and what was opens tickets for one time more.
pub fn following(keys: &TicketKeys) -> io::Result<TicketKeys> {
    Ok(TicketKeys { previous: keys.current, current: keys.next, next: key()? })
}

fn key() -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_known_before_it_is_used_and_after() {
        let before = first().unwrap();
        let now = following(&before).unwrap();
        assert_eq!((now.previous, now.current), (before.current, before.next));
        let all = [before.previous, before.current, before.next, now.next];
        assert!(all.iter().enumerate().all(|(place, key)| !all[..place].contains(key)));
    }
}
