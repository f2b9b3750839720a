//! The request's fields in the pattern environ, under their CGI names.

use std::collections::HashMap;

use ostler_http::Framing;
use ostler_serve::Request;
use pyo3::{prelude::*, types::PyDict};

use super::entry::{Entry, same};

/// How many field names are remembered that the last request has not sent.
const MOST_ABSENT: usize = 128;
/// After this many removals the pattern is copied, which makes it compact: holes make copying slow.
const MOST_REMOVALS: usize = 16;

/// The request's fields under their CGI names.
#[derive(Default)]
pub struct Fields {
    names: Vec<Name>,
    by_key: HashMap<Vec<u8>, usize>,
    /// For each position in the head, the name that stood there last.
    at: Vec<usize>,
    /// Counts requests.
    stamp: u64,
    /// Names in the pattern.
    present: usize,
    /// Names in the pattern that this request has sent.
    seen: usize,
    /// Names that this request has sent more than once, and whose value is not in the pattern yet.
    joined: Vec<usize>,
    removals: usize,
}

struct Name {
    entry: Entry,
    /// As last spelled on the wire.
    spelled: Vec<u8>,
    /// The last request that sent it.
    stamp: u64,
    joint: &'static [u8],
}

impl Fields {
    /// Makes the pattern hold this request's fields and no others. Returns whether it should be copied to be compact again.
    pub fn put_all(
        &mut self,
        pattern: &Bound<'_, PyDict>,
        request: &Request<'_>,
        length: Option<u64>,
    ) -> PyResult<bool> {
        while let Some(index) = self.joined.pop() {
            // Left by a request that failed.
            self.names[index].entry.remove(pattern)?;
        }
        if self.names.len().saturating_sub(self.present) > MOST_ABSENT {
            self.forget();
        }
        self.stamp += 1;
        self.seen = 0;
        let chunked = request.head.framing == Framing::Chunked;
        let mut hidden = request.hidden.iter().peekable();
        for (position, field) in request.head.fields.iter().enumerate() {
            if hidden.next_if(|&&index| usize::from(index) == position).is_some()
                || (request.client.host.is_some() && request.head.host == Some(position as u16))
                || (chunked && field.name.of(request.bytes).eq_ignore_ascii_case(b"transfer-encoding"))
            {
                continue;
            }
            self.put(pattern, position, field.name.of(request.bytes), field.value.of(request.bytes))?;
        }
        if let Some(host) = &request.client.host {
            self.put(pattern, request.head.fields.len(), b"Host", host.as_bytes())?;
        }
        if let Some(length) = length.filter(|_| chunked) {
            self.put(pattern, request.head.fields.len() + 1, b"Content-Length", length.to_string().as_bytes())?;
        }
        if let Some(id) = request.id.filter(|_| request.adds_id) {
            self.put(pattern, request.head.fields.len() + 2, b"X-Request-ID", id.as_bytes())?;
        }
        while let Some(&index) = self.joined.last() {
            self.names[index].entry.write(pattern)?;
            self.joined.pop();
        }
        if self.seen != self.present {
            self.sweep(pattern)?;
        }
        let compact = self.removals > MOST_REMOVALS;
        if compact {
            self.removals = 0;
        }
        Ok(compact)
    }

    fn put(&mut self, pattern: &Bound<'_, PyDict>, position: usize, name: &[u8], value: &[u8]) -> PyResult<()> {
        let index = self.find(pattern.py(), position, name);
        let name = &mut self.names[index];
        let entry = &mut name.entry;
        if name.stamp == self.stamp {
            entry.value.extend_from_slice(name.joint);
            entry.value.extend_from_slice(value);
            // Written when all of it is there: a name that came a hundred times would be copied a hundred times.
            if std::mem::replace(&mut entry.present, false) {
                self.joined.push(index);
            }
            return Ok(());
        }
        name.stamp = self.stamp;
        self.present += usize::from(!entry.present);
        self.seen += 1;
        entry.put(pattern, value)?;
        Ok(())
    }

    /// The index of a name. A client sends the same names in the same order again and again.
    #[inline]
    fn find(&mut self, py: Python<'_>, position: usize, name: &[u8]) -> usize {
        match self.at.get(position) {
            Some(&index) if same(&self.names[index].spelled, name) => index,
            _ => self.look_up(py, position, name),
        }
    }

    #[inline(never)]
    fn look_up(&mut self, py: Python<'_>, position: usize, name: &[u8]) -> usize {
        let key = cgi_name(name);
        let index = match self.by_key.get(&key) {
            Some(&index) => index,
            None => {
                let text = std::str::from_utf8(&key).expect("a token is ASCII");
                let joint: &[u8] = if key == b"HTTP_COOKIE" { b"; " } else { b", " };
                self.names.push(Name { entry: Entry::new(py, text), spelled: Vec::new(), stamp: 0, joint });
                self.by_key.insert(key, self.names.len() - 1);
                self.names.len() - 1
            }
        };
        name.clone_into(&mut self.names[index].spelled);
        if self.at.len() <= position {
            self.at.resize(position + 1, index);
        }
        self.at[position] = index;
        index
    }

    /// Takes out what this request has not sent.
    fn sweep(&mut self, pattern: &Bound<'_, PyDict>) -> PyResult<()> {
        for name in self.names.iter_mut().filter(|name| name.entry.present && name.stamp != self.stamp) {
            name.entry.remove(pattern)?;
            self.removals += 1;
        }
        self.present = self.seen;
        Ok(())
    }

    /// Clients have sent many different names: forgets those that are not in the pattern.
    fn forget(&mut self) {
        let mut kept = 0;
        let moved: Vec<Option<usize>> = self
            .names
            .iter()
            .map(|name| {
                name.entry.present.then(|| {
                    kept += 1;
                    kept - 1
                })
            })
            .collect();
        self.by_key.retain(|_, index| moved[*index].inspect(|&to| *index = to).is_some());
        self.names.retain(|name| name.entry.present);
        self.at.clear();
    }
}

/// `HTTP_` and the name in capitals with `_` for `-`; but two names stand alone (RFC 3875 §4.1.2 and §4.1.3).
fn cgi_name(name: &[u8]) -> Vec<u8> {
    let capital = name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() });
    let capital: Vec<u8> = capital.collect();
    match &capital[..] {
        b"CONTENT_TYPE" | b"CONTENT_LENGTH" => capital,
        _ => [b"HTTP_", &capital[..]].concat(),
    }
}
