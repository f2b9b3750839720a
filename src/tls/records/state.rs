//! The state of the records as bytes: what moves to another process.

use zeroize::Zeroizing;

use super::{KEY_UPDATE, Records, keys::Keys};
use crate::suite::Suite;

const UPDATE_ASKED: u8 = 1;
const ENDED: u8 = 2;
/// Then the secret for sending is zeros.
const LEFT_TO_KERNEL: u8 = 4;

impl Records {
    /// Appends the state: the suite, flags, the records without data, the length of a begun message and the message, and the number
    /// and the secret of each direction. Numbers are little-endian.
    pub fn export(&self, out: &mut Zeroizing<Vec<u8>>) {
        // Room at once: a vector that grows leaves a copy of the secrets behind.
        out.reserve(64 + 2 * self.sending.suite.secret_length());
        out.extend(self.suite().to_le_bytes());
        let flags = [(self.update_asked, UPDATE_ASKED), (self.ended, ENDED), (self.left_to_kernel, LEFT_TO_KERNEL)];
        out.push(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
        out.push(self.fruitless);
        out.push(self.begun.len() as u8);
        out.extend(&self.begun);
        for keys in [&self.receiving, &self.sending] {
            out.extend(keys.sequence.to_le_bytes());
            out.extend(keys.secret());
        }
    }

    /// Reads a state from the beginning of `bytes`, and advances `bytes` past it. `None` for what is none, or has a suite that this
    /// program does not know.
    pub fn import(bytes: &mut &[u8]) -> Option<Records> {
        let suite = Suite::of(u16::from_le_bytes(bytes.split_off(..2)?.try_into().ok()?))?;
        let &[flags, fruitless, begun] = bytes.split_off(..3)? else { return None };
        let begun = bytes.split_off(..usize::from(begun))?;
        if begun.len() > KEY_UPDATE.len() {
            return None;
        }
        let mut keys = || {
            let sequence = u64::from_le_bytes(bytes.split_off(..8)?.try_into().ok()?);
            Keys::new(suite, bytes.split_off(..suite.secret_length())?, sequence)
        };
        Some(Records {
            receiving: keys()?,
            sending: keys()?,
            update_asked: flags & UPDATE_ASKED != 0,
            begun: begun.to_vec(),
            fruitless,
            ended: flags & ENDED != 0,
            left_to_kernel: flags & LEFT_TO_KERNEL != 0,
        })
    }
}
