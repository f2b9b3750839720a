//! Makes the ids of requests that nobody has named (`--request-id`).

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::Read,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::SystemTime,
};

use ostler_wire::RequestId;

/// Makes names: 32 hexadecimal digits, like a trace's. Each worker begins at a random number of 128 bits, so that no two in the world
/// have one name.
pub(crate) struct Names {
    first: u128,
    made: AtomicU64,
}

/// From one number to the next. It is odd, so that none comes twice, and large, so that two names in a row differ at first sight.
const STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

impl Names {
    /// None if requests have no ids.
    pub fn new(setting: RequestId) -> Option<Names> {
        (setting != RequestId::Off).then(|| Names { first: random(), made: AtomicU64::new(0) })
    }

    /// Appends a new name.
    pub fn make(&self, name: &mut String) {
        let number = self.first.wrapping_add(STEP.wrapping_mul(self.made.fetch_add(1, Relaxed).into()));
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half & 15)];
        let digits = number.to_be_bytes().map(|byte| [digit(byte >> 4), digit(byte)]);
        name.push_str(std::str::from_utf8(digits.as_flattened()).expect("digits are ASCII"));
    }
}

/// After the fork: what was random in the template would be the same in all of its workers.
fn random() -> u128 {
    let mut bytes = [0; 16];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u128::from_ne_bytes(bytes),
        Err(_) => {
            let moment = (SystemTime::now(), std::process::id());
            let half = || u128::from(RandomState::new().hash_one(moment));
            half() << 64 | half()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_names_are_the_same() {
        let workers = [0; 2].map(|_| Names::new(RequestId::On).unwrap());
        let mut names = BTreeSet::new();
        for worker in workers.iter().cycle().take(20_000) {
            let mut name = String::new();
            worker.make(&mut name);
            assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
            assert!(names.insert(name));
        }
        assert!(Names::new(RequestId::Off).is_none());
    }
}
