//! Builds `environ` (PEP 3333). One dict, the pattern, is kept from request to request. It is changed only where a request differs from
//! the one before, and each call gets a copy of it. Clients send nearly the same fields again and again, so most requests cost one copy.

use ostler_http::{RequestHead, Version, target::decode_path};
use ostler_serve::{Client, Request};
use ostler_wire::Listener;
use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyString},
};

mod entry;
mod fields;

use entry::{Entry, same};
use fields::Fields;

use crate::python::text::latin1;

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
    /// What TLS or a web server has told of the client last, and its keys and values. A connection's TLS tells the same for each request.
    told: Vec<(String, Vec<u8>)>,
    told_items: Vec<(Py<PyString>, Py<PyString>)>,
    scratch: Vec<u8>,
    listeners: Vec<Listener>,
    root_path: String,
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
            told: Vec::new(),
            told_items: Vec::new(),
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
        let environ = self.pattern.bind(py).copy()?;
        if self.told != request.client.variables {
            self.told.clone_from(&request.client.variables);
            let item =
                |(name, value): &(String, Vec<u8>)| (PyString::new(py, name).unbind(), latin1(py, value).unbind());
            self.told_items = self.told.iter().map(item).collect();
        }
        for (name, value) in &self.told_items {
            environ.set_item(name.bind(py), value.bind(py))?;
        }
        Ok(environ)
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

/// The part of a path behind `root`, for PATH_INFO. If the path does not begin with `root`, the proxy has removed it already. The
/// asterisk of OPTIONS is no path: PATH_INFO is empty or begins with a slash.
fn below<'a>(root: &[u8], path: &'a [u8]) -> &'a [u8] {
    match path.strip_prefix(root) {
        _ if path == b"*" => b"",
        Some(rest) if rest.is_empty() || rest[0] == b'/' => rest,
        _ => path,
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
