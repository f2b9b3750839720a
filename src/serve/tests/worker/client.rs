//! A client of raw bytes.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// A client that sends exactly the bytes that it is given.
pub struct Client<S = TcpStream>(pub S);

impl<S: Read + Write> Client<S> {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.write_all(bytes.as_ref()).unwrap();
        self
    }

    pub fn get(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    fn until(&mut self, end: &[u8]) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end) {
            let mut byte = [0];
            assert_eq!(self.0.read(&mut byte).unwrap(), 1, "closed after {:?}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    /// The body of one chunked response.
    pub fn chunked(&mut self) -> Vec<u8> {
        self.until(b"\r\n\r\n");
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(self.until(b"\r\n").trim_end(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.0.read_exact(&mut chunk).unwrap();
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return body;
            }
        }
    }

    /// One response with a Content-Length: status and body.
    pub fn answer(&mut self) -> (u16, Vec<u8>) {
        let head = self.until(b"\r\n\r\n");
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head[9..12].parse().unwrap(), body)
    }

    pub fn asks(&mut self, path: &str) -> (u16, Vec<u8>) {
        self.get(path).answer()
    }

    /// Everything up to the connection's end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub fn closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}
