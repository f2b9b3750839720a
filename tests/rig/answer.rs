//! A response as it came over the wire, parsed strictly: a byte too many or too few fails the test.

use std::io;

/// How a response marks the end of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The status or the method forbids a body.
    None,
    /// By Content-Length.
    Length,
    /// By chunks.
    Chunked,
    /// By closing the connection.
    Close,
}

/// One response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `HTTP/1.1`
    pub version: String,
    /// `200`
    pub status: u16,
    /// `OK`
    pub reason: String,
    /// Names as they came, in their order.
    pub fields: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// How it marks the body's end.
    pub framing: Framing,
}

impl Answer {
    /// The value of a field, or none; a field that comes twice fails the test.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} comes {} times: {:?}", values.len(), self.fields);
        values.first().copied()
    }

    /// The values of all fields of a name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// The body, which must be UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|_| panic!("the body is not UTF-8: {:?}", self.body))
    }

    /// Reads one. `fill` brings more bytes and says whether there were any.
    pub(crate) fn read(
        buffer: &mut Vec<u8>,
        to_head: bool,
        mut fill: impl FnMut(&mut Vec<u8>) -> io::Result<bool>,
    ) -> Result<Answer, String> {
        let mut reader = Reader { buffer, at: 0, fill: &mut fill };
        let mut answer = Answer::head(reader.until(b"\r\n\r\n")?)?;
        let length = answer.field("content-length").map(|text| text.parse::<usize>().map_err(|e| e.to_string()));
        (answer.framing, answer.body) = match (answer.status, length, answer.field("transfer-encoding")) {
            (100..200 | 204 | 304, ..) => (Framing::None, vec![]),
            _ if to_head => (Framing::None, vec![]),
            (_, None, Some("chunked")) => (Framing::Chunked, reader.chunks()?),
            (_, Some(length), None) => (Framing::Length, reader.exactly(length?)?),
            (_, None, None) => (Framing::Close, reader.rest()?),
            (_, length, encoding) => return Err(format!("framed by length {length:?} and encoding {encoding:?}")),
        };
        let end = reader.at;
        buffer.drain(..end);
        Ok(answer)
    }

    fn head(bytes: Vec<u8>) -> Result<Answer, String> {
        // As in PEP 3333, each character stands for one byte.
        let text: String = bytes.into_iter().map(char::from).collect();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let mut words = line.splitn(3, ' ');
        let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let status = status.parse().map_err(|_| format!("no status in {line:?}"))?;
        let reason = words.next().ok_or_else(|| format!("no reason in {line:?}"))?;
        let mut answer = Answer {
            version: version.into(),
            status,
            reason: reason.into(),
            fields: vec![],
            body: vec![],
            framing: Framing::None,
        };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("no field in {line:?}"))?;
            // RFC 9112 section 5: white space around a value is no part of it.
            answer.fields.push((name.into(), value.trim_matches([' ', '\t']).into()));
        }
        Ok(answer)
    }
}

struct Reader<'a> {
    buffer: &'a mut Vec<u8>,
    at: usize,
    fill: &'a mut dyn FnMut(&mut Vec<u8>) -> io::Result<bool>,
}

impl Reader<'_> {
    /// What comes before a mark, which is consumed too.
    fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, String> {
        loop {
            let unread = &self.buffer[self.at..];
            if let Some(length) = unread.windows(mark.len()).position(|window| window == mark) {
                let found = unread[..length].to_vec();
                self.at += length + mark.len();
                return Ok(found);
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() - self.at < length {
            self.more()?;
        }
        self.at += length;
        Ok(self.buffer[self.at - length..self.at].to_vec())
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = vec![];
        loop {
            let size = String::from_utf8(self.until(b"\r\n")?).map_err(|error| error.to_string())?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| format!("{size:?} is no size of a chunk"))?;
            body.extend(self.exactly(size)?);
            let end = self.until(b"\r\n")?;
            if !end.is_empty() {
                return Err(format!("{end:?} follows a chunk"));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn rest(&mut self) -> Result<Vec<u8>, String> {
        while (self.fill)(self.buffer).map_err(|error| error.to_string())? {}
        let rest = self.buffer[self.at..].to_vec();
        self.at = self.buffer.len();
        Ok(rest)
    }

    fn more(&mut self) -> Result<(), String> {
        match (self.fill)(self.buffer) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("the connection ended after {:?}", String::from_utf8_lossy(self.buffer))),
            Err(error) => Err(format!("{error} after {:?}", String::from_utf8_lossy(self.buffer))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(Answer, Vec<u8>), String> {
        let mut source = bytes.iter();
        let mut buffer = vec![];
        let answer = Answer::read(&mut buffer, false, |buffer| Ok(source.next().map(|b| buffer.push(*b)).is_some()))?;
        buffer.extend(source);
        Ok((answer, buffer))
    }

    #[test]
    fn each_framing_ends_where_it_says() {
        let (answer, rest) = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd").unwrap();
        assert_eq!((answer.text(), answer.framing, &rest[..]), ("ab", Framing::Length, &b"cd"[..]));
        let (answer, rest) =
            read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nb").unwrap();
        assert_eq!((answer.text(), answer.framing, &rest[..]), ("a", Framing::Chunked, &b"b"[..]));
        let (answer, rest) = read(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nabc").unwrap();
        assert_eq!((answer.text(), answer.framing, &rest[..]), ("abc", Framing::Close, &b""[..]));
    }

    #[test]
    fn what_is_cut_or_framed_twice_is_an_error() {
        read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").unwrap_err();
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").unwrap_err();
        read(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na").unwrap_err();
    }
}
