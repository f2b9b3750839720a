//! A file in place of the body, where the application names one (X-Sendfile, X-Accel-Redirect).

use ostler_http::{ResponseHead, error_answer};
use slog::info;

use super::Response;
use crate::files::{NamedAnswer, NamedFiles, carry_to_page};

impl Response<'_> {
    /// Whether a file is to be sent in place of the body that comes with this head.
    #[inline]
    pub fn is_replaced(&self, head: &ResponseHead) -> bool {
        head.names_file() && self.out.shared.named_files.is_some()
    }

    /// Sends the file that the head names, as if the application had: the page for 404 if it may not be sent.
    #[cold]
    pub(super) fn named_file(&mut self, head: &ResponseHead) {
        let shared = self.out.shared.clone();
        let Some(files) = &shared.named_files else { return };
        match files.answer(head, self.request, self.bytes) {
            // The length in its head is the file's.
            NamedAnswer::Bytes(head, file, range) => {
                _ = self.file(&head, file.into(), range.start, range.end - range.start)
            }
            NamedAnswer::Failed => self.without_file(head, 412, &[]),
            NamedAnswer::Unsatisfiable(range) => self.without_file(head, 416, &[("Content-Range", &range)]),
            NamedAnswer::Missing(why) => {
                self.tell_missing(files, head, &why);
                self.without_file(head, 404, &[]);
            }
        }
    }

    /// The page for an error, with what the application says to the client beside its file.
    fn without_file(&mut self, said: &ResponseHead, status: u16, fields: &[(&str, &str)]) {
        let mut answer = error_answer(status, self.request.value(self.bytes, b"accept"), fields);
        carry_to_page(said, &mut answer.head);
        self.answer(&answer);
    }

    fn tell_missing(&self, files: &NamedFiles, head: &ResponseHead, why: &str) {
        if files.may_log() {
            let named = head.value(b"x-sendfile").or_else(|| head.value(b"x-accel-redirect")).unwrap_or_default();
            info!(self.out.shared.log, "file not served"; "path" => String::from_utf8_lossy(named).into_owned(), "reason" => why,
                "request" => self.request_line(), "request_id" => self.id);
        }
    }
}
