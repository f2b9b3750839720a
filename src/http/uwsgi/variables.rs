//! The variables of a packet: which describe the request, which the web server's client, and which are for the application.

use crate::{Refusal, h1::Limits, syntax::is_token_text};

/// What the variables say, as it came; empty what they do not.
#[derive(Default)]
pub struct Told<'p> {
    pub method: &'p [u8],
    pub uri: Option<&'p [u8]>,
    pub path: Option<&'p [u8]>,
    pub query: Option<&'p [u8]>,
    pub protocol: &'p [u8],
    pub content_type: &'p [u8],
    pub content_length: &'p [u8],
    pub script_name: &'p [u8],
    pub address: &'p [u8],
    pub port: &'p [u8],
    pub server_port: &'p [u8],
    pub uwsgi_scheme: &'p [u8],
    pub https: &'p [u8],
    pub scheme: &'p [u8],
    /// The fields of the client's head: names without HTTP_.
    pub fields: Vec<(&'p [u8], &'p [u8])>,
    /// For the application.
    pub variables: Vec<(String, Vec<u8>)>,
}

/// The name and value of each, in the order of the wire.
pub fn variables<'p>(mut rest: &'p [u8]) -> impl Iterator<Item = Result<(&'p [u8], &'p [u8]), Refusal>> {
    let part = |rest: &mut &'p [u8]| {
        let length = u16::from_le_bytes(rest.split_off(..2)?.try_into().ok()?);
        rest.split_off(..usize::from(length))
    };
    std::iter::from_fn(move || match rest {
        [] => None,
        _ => {
            let pair = part(&mut rest).and_then(|name| Some((name, part(&mut rest)?)));
            if pair.is_none() {
                rest = &[];
            }
            Some(pair.ok_or(Refusal::malformed("a variable is longer than its packet")))
        }
    })
}

impl<'p> Told<'p> {
    /// Of a name that comes twice, the last counts, as with uWSGI: nginx sends what its configuration says twice. But a request has one
    /// length.
    pub fn read(packet: &'p [u8], limits: &Limits) -> Result<Told<'p>, Refusal> {
        let mut told = Told::default();
        for variable in variables(packet) {
            let (name, value) = variable?;
            match name {
                b"REQUEST_METHOD" => told.method = value,
                b"REQUEST_URI" => told.uri = Some(value).filter(|value| !value.is_empty()),
                b"PATH_INFO" => told.path = Some(value),
                b"QUERY_STRING" => told.query = Some(value),
                b"CONTENT_TYPE" => told.content_type = value,
                b"CONTENT_LENGTH" if [b"", value].contains(&told.content_length) => told.content_length = value,
                b"CONTENT_LENGTH" => return Err(Refusal::malformed("more than one CONTENT_LENGTH")),
                b"SCRIPT_NAME" => told.script_name = value,
                b"REMOTE_ADDR" => told.address = value,
                b"REMOTE_PORT" => told.port = value,
                b"SERVER_PORT" => told.server_port = value,
                _ => match name.strip_prefix(b"HTTP_") {
                    // About the client's connection, not ours: the body has been taken apart.
                    Some(b"CONTENT_LENGTH" | b"CONTENT_TYPE" | b"TRANSFER_ENCODING") => {}
                    Some(field) => told.fields.push((field, value)),
                    None => told.note(name, value, limits)?,
                },
            }
        }
        Ok(told)
    }

    /// Keeps a variable for the application. A dot is in the names of the server's own keys alone (`wsgi.input`).
    fn note(&mut self, name: &'p [u8], value: &'p [u8], limits: &Limits) -> Result<(), Refusal> {
        match name {
            // PEP 3333: never empty.
            b"SERVER_PROTOCOL" | b"SERVER_NAME" if value.is_empty() => return Ok(()),
            b"SERVER_PROTOCOL" if !(value.starts_with(b"HTTP/") && is_token_text(&value[5..])) => {
                return Err(Refusal::malformed("SERVER_PROTOCOL is no version of HTTP"));
            }
            b"SERVER_PROTOCOL" => self.protocol = value,
            b"UWSGI_SCHEME" => self.uwsgi_scheme = value,
            b"HTTPS" => self.https = value,
            b"REQUEST_SCHEME" => self.scheme = value,
            // What these say is this server's to say.
            b"SERVER_SOFTWARE" | b"RAW_URI" => return Ok(()),
            _ => {}
        }
        if !is_token_text(name) || name.contains(&b'.') {
            return Err(Refusal::malformed(
                "a variable's name holds a dot or another character that has no place there",
            ));
        }
        if limits.fields > 0 && self.variables.len() >= limits.fields {
            return Err(Refusal::fields_too_large("too many variables"));
        }
        if limits.field > 0 && name.len() + value.len() > limits.field {
            return Err(Refusal::fields_too_large("variables too long"));
        }
        let name = String::from_utf8(name.into()).expect("a token is ASCII");
        self.variables.push((name, value.into()));
        Ok(())
    }
}
