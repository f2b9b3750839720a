//! The answer as `--compress` has it: in a coding for a client that takes one, and with what that means for caches for every other client.

use ostler_http::{
    ResponseHead,
    representation::coded::{Said, is_kept_coded, said_of},
};

use super::{COPIED, Response, Waiting};
use crate::compression::{Compression, compress, wanted};

impl Response<'_> {
    /// The head, and the body if that is compressed, where an answer is not sent as the application gave it. `body`: all of it, as far as
    /// is known; nothing in answer to HEAD.
    #[inline]
    pub(super) fn compressed(
        &self,
        head: &ResponseHead,
        body: &[u8],
        wait: Waiting,
    ) -> Option<(ResponseHead, Option<Vec<u8>>)> {
        // Without a thread it is the loop's own answer.
        match (&self.out.shared.compression, self.out.thread) {
            (Some(compression), Some(_)) => self.compressed_by(compression, head, body, wait),
            _ => None,
        }
    }

    #[inline(never)]
    fn compressed_by(
        &self,
        compression: &Compression,
        head: &ResponseHead,
        body: &[u8],
        wait: Waiting,
    ) -> Option<(ResponseHead, Option<Vec<u8>>)> {
        if is_kept_coded(head, self.request, self.bytes) {
            return Some((said_of(head, Said::Kept), None));
        }
        let given = body.len() as u64;
        let length = head.content_length().unwrap_or(given);
        let is_whole = self.head_request() || length == given;
        if !is_whole || !compression.admits(head, length) {
            return None;
        }
        let plain = || Some((said_of(head, Said::Plain), None));
        let Some(coding) = wanted(self.request, self.bytes) else { return plain() };
        if self.head_request() {
            return Some((said_of(head, Said::Coded(coding.name, None)), None));
        }
        let mut coded = None;
        let mut work = || coded = compress(coding, body);
        if body.len() > COPIED {
            wait(&mut work)
        } else {
            work()
        }
        let Some(coded) = coded else { return plain() };
        Some((said_of(head, Said::Coded(coding.name, Some(coded.len() as u64))), Some(coded)))
    }
}
