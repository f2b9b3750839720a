//! Builds `environ` (PEP 3333). One dict, the pattern, is kept from request to request. It is changed only where a request differs from
//! the one before, and each call gets a copy of it. Clients send nearly the same fields again and again, so most requests cost one copy.

use std::collections::HashMap;

use ostler_http::{Framing, RequestHead, Version, target::decode_path};
use ostler_serve::{Client, Request};
use ostler_wire::Listener;
use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyString},
};

use crate::python::text::latin1;

/// How many field names are remembered that the last request has not sent.
const MOST_ABSENT: usize = 128;
/// After this many removals the pattern is copied, which makes it compact: holes make copying slow.
const MOST_REMOVALS: usize = 16;

/// Makes the environs of one thread.
pub struct Environ {
    pattern: Py<PyDict>,
    method: Entry,
    target: Entry,
    query: Entry,
    script_name: Entry,
    path_info: Entry,
    address: Entry,
    server_name: Entry,
    server_port: Entry,
    /// The path as sent and the prefix that SCRIPT_NAME and PATH_INFO were last made of.
    path: (Vec<u8>, Option<String>),
    port: Option<u16>,
    /// Listener, port and scheme that SERVER_NAME and SERVER_PORT were last made of.
    server: Option<(u16, Option<u16>, bool)>,
    version: Version,
    https: bool,
    fields: Fields,
    scratch: Vec<u8>,
    listeners: Vec<Listener>,
    root_path: String,
}

/// One key, and the bytes its value in the pattern was made of.
struct Entry {
    key: Py<PyString>,
    value: Vec<u8>,
    present: bool,
}

/// The request's fields under their CGI names.
#[derive(Default)]
struct Fields {
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

impl Environ {
    /// `constant` holds the keys that no request changes.
    pub fn new(
        py: Python<'_>,
        constant: &Bound<'_, PyDict>,
        listeners: &[Listener],
        root_path: &str,
    ) -> PyResult<Self> {
        let pattern = constant.copy()?;
        pattern.set_item("SERVER_PROTOCOL", "HTTP/1.1")?;
        pattern.set_item("wsgi.url_scheme", "http")?;
        pattern.set_item("SCRIPT_NAME", "")?;
        pattern.set_item("QUERY_STRING", "")?;
        let entry = |key| Entry::new(py, key);
        Ok(Environ {
            pattern: pattern.unbind(),
            method: entry("REQUEST_METHOD"),
            target: entry("RAW_URI"),
            query: Entry { present: true, ..entry("QUERY_STRING") },
            script_name: Entry { present: true, ..entry("SCRIPT_NAME") },
            path_info: entry("PATH_INFO"),
            address: entry("REMOTE_ADDR"),
            server_name: entry("SERVER_NAME"),
            server_port: entry("SERVER_PORT"),
            path: (Vec::new(), None),
            port: None,
            server: None,
            version: Version::Http11,
            https: false,
            fields: Fields::default(),
            scratch: Vec::new(),
            listeners: listeners.to_vec(),
            root_path: root_path.to_owned(),
        })
    }

    /// Puts an object into the pattern that is used for several requests, but not for all.
    pub fn set(&self, py: Python<'_>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.pattern.bind(py).set_item(PyString::intern(py, key), value)
    }

    /// The environ of this request. It describes what `wsgi.input` gives, not what the client has sent: a chunked body that was read whole
    /// has a Content-Length, its `length`, and no Transfer-Encoding. Without a length the application reads until the input ends.
    pub fn build<'py>(
        &mut self,
        py: Python<'py>,
        request: &Request<'_>,
        length: Option<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let pattern = self.pattern.bind(py).clone();
        self.request_line(&pattern, request.head, request.bytes, request.client)?;
        self.client(&pattern, request.client)?;
        if self.fields.put_all(&pattern, request, length)? {
            self.pattern = pattern.copy()?.unbind();
        }
        self.pattern.bind(py).copy()
    }

    fn request_line(
        &mut self,
        pattern: &Bound<'_, PyDict>,
        head: &RequestHead,
        bytes: &[u8],
        client: &Client,
    ) -> PyResult<()> {
        let py = pattern.py();
        self.method.put(pattern, head.method.of(bytes))?;
        if self.target.put(pattern, head.target.of(bytes))? {
            let target = pattern.get_item(self.target.key.bind(py))?;
            pattern.set_item(intern!(py, "REQUEST_URI"), target)?;
        }
        self.query.put(pattern, head.query.of(bytes))?;
        let path = head.path.of(bytes);
        if !same(&self.path.0, path) || self.path.1 != client.prefix || !self.path_info.present {
            self.path.0.clear();
            self.path.0.extend_from_slice(path);
            self.path.1.clone_from(&client.prefix);
            self.scratch.clear();
            decode_path(path, &mut self.scratch);
            let root = client.prefix.as_deref().unwrap_or(&self.root_path).as_bytes();
            self.script_name.put(pattern, root)?;
            self.path_info.put(pattern, below(root, &self.scratch))?;
        }
        if self.version != head.version {
            self.version = head.version;
            let name = if head.version == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
            pattern.set_item(intern!(py, "SERVER_PROTOCOL"), name)?;
        }
        Ok(())
    }

    fn client(&mut self, pattern: &Bound<'_, PyDict>, client: &Client) -> PyResult<()> {
        let py = pattern.py();
        self.address.put(pattern, client.address.as_bytes())?;
        if self.port != client.port {
            self.port = client.port;
            match client.port {
                Some(port) => pattern.set_item(intern!(py, "REMOTE_PORT"), latin1(py, decimal(port, &mut [0; 5])))?,
                None => pattern.del_item(intern!(py, "REMOTE_PORT"))?,
            }
        }
        if self.https != client.https {
            self.https = client.https;
            pattern.set_item(intern!(py, "wsgi.url_scheme"), if client.https { "https" } else { "http" })?;
        }
        let server = (client.listener, client.server_port, client.https);
        if self.server != Some(server) {
            self.server(pattern, client)?;
            self.server = Some(server);
        }
        Ok(())
    }

    fn server(&mut self, pattern: &Bound<'_, PyDict>, client: &Client) -> PyResult<()> {
        let listener = self.listeners.get(usize::from(client.listener));
        self.server_name.put(pattern, listener.map_or("localhost", |listener| &listener.host).as_bytes())?;
        let usual = if client.https { 443 } else { 80 };
        let port = client.server_port.or_else(|| listener?.port).unwrap_or(usual);
        self.server_port.put(pattern, decimal(port, &mut [0; 5]))?;
        Ok(())
    }
}

impl Entry {
    fn new(py: Python<'_>, key: &str) -> Entry {
        Entry { key: PyString::intern(py, key).unbind(), value: Vec::new(), present: false }
    }

    /// Makes the pattern hold this value. Returns whether that changed it.
    #[inline]
    fn put(&mut self, pattern: &Bound<'_, PyDict>, value: &[u8]) -> PyResult<bool> {
        if self.present && same(&self.value, value) {
            return Ok(false);
        }
        self.replace(pattern, value)?;
        Ok(true)
    }

    #[inline(never)]
    fn replace(&mut self, pattern: &Bound<'_, PyDict>, value: &[u8]) -> PyResult<()> {
        self.value.clear();
        self.value.extend_from_slice(value);
        self.write(pattern)
    }

    fn write(&mut self, pattern: &Bound<'_, PyDict>) -> PyResult<()> {
        // Until the new value is in, the old one must not be taken for it.
        self.present = false;
        pattern.set_item(self.key.bind(pattern.py()), latin1(pattern.py(), &self.value))?;
        self.present = true;
        Ok(())
    }

    fn remove(&mut self, pattern: &Bound<'_, PyDict>) -> PyResult<()> {
        self.value = Vec::new();
        self.present = false;
        pattern.del_item(self.key.bind(pattern.py()))
    }
}

impl Fields {
    /// Makes the pattern hold this request's fields and no others. Returns whether it should be copied to be compact again.
    fn put_all(&mut self, pattern: &Bound<'_, PyDict>, request: &Request<'_>, length: Option<u64>) -> PyResult<bool> {
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

/// The part of a path behind `root`, for PATH_INFO. If the path does not begin with `root`, the proxy has removed it already. The
/// asterisk of OPTIONS is no path: PATH_INFO is empty or begins with a slash.
fn below<'a>(root: &[u8], path: &'a [u8]) -> &'a [u8] {
    match path.strip_prefix(root) {
        _ if path == b"*" => b"",
        Some(rest) if rest.is_empty() || rest[0] == b'/' => rest,
        _ => path,
    }
}

/// Equality without a call: almost all of these strings are short. The last eight bytes overlap those before them.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
            (Some(end), Some(other_end)) => {
                let mut words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
                end == other_end && words.all(|(word, other)| word == other)
            }
            _ => one.iter().eq(other),
        }
}

fn decimal(mut number: u16, into: &mut [u8; 5]) -> &[u8] {
    let mut start = into.len();
    loop {
        start -= 1;
        into[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &into[start..];
        }
    }
}
