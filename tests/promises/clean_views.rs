//! What frameworks make of a request is the same under ostler and under gunicorn, for generated requests.

use ostler_tests::{Gunicorn, Python, Rig};
use serde_json::Value;

const COUNT: u64 = 200;

#[test]
fn frameworks_see_the_same_request_as_under_gunicorn() {
    let site = Rig::new("views.py").start();
    let gunicorn = Gunicorn::start(Python::usual(), "views.py", "application");
    let (mut ours, mut theirs) = (site.connect(), gunicorn.connect());
    for seed in 1..=COUNT {
        let request = Random(seed).request();
        let told = format!("request {seed}: {:?}", String::from_utf8_lossy(&request));
        let ours = ours.send(&request).try_answer().unwrap_or_else(|why| panic!("{told}: {why}"));
        let theirs = theirs.send(&request).try_answer().unwrap_or_else(|why| panic!("{told}: gunicorn: {why}"));
        assert_eq!((ours.status, theirs.status), (200, 200), "{told}: {}", ours.text());
        let view = |text| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(view(ours.text()), view(theirs.text()), "{told}");
    }
}

/// A small generator, so that a seed is a request.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (self.0 >> 29) ^ 0xD1B5;
        (self.0 >> 33) as usize % bound
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn request(&mut self) -> Vec<u8> {
        let path =
            self.of(&["/", "/a/b", "/%C3%BC/%20x", "/a%2Fb", "/%FF", "//double", "/a;b=c", "/~x/.", "/caf%C3%A9?"]);
        let query = self.of(&["", "a=1&a=2&b=", "q=%C3%BC+x", "q=%FF", "a%3Db=%26", "a;b", "=", "x=%zz"]);
        let (kind, body) = self.body();
        let method =
            if body.is_empty() { self.of(&["GET", "DELETE", "OPTIONS"]) } else { self.of(&["POST", "PUT", "PATCH"]) };
        let mut head = format!(
            "{method} {}?{query} HTTP/1.1\r\nHost: {}\r\n",
            path.trim_end_matches('?'),
            self.of(&["site.test", "site.test:8080", "[::1]:80"])
        );
        // Each at most once: gunicorn joins repeated fields, cookies too, by a comma without a space.
        for field in [
            self.of(&["Cookie: a=1; b=\"two\"\r\n", "Cookie: caf\u{e9}=x; c=%20; d\r\n"]),
            "Accept-Language: de, en;q=0.5\r\n",
            "X-Latin: caf\u{e9}\r\n",
            "Accept: text/html;q=0.9, */*\r\n",
            "If-None-Match: \"x\"\r\n",
            "X-Empty:\r\n",
            "X-Padded: \t padded \t \r\n",
        ] {
            if self.below(2) == 0 {
                head += field;
            }
        }
        if !kind.is_empty() {
            head += &format!("Content-Type: {kind}\r\n");
        }
        let mut request: Vec<u8> = head.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect();
        match (body.len(), self.below(2)) {
            (0, _) => request.extend(b"\r\n"),
            (length, 0) => {
                request.extend(format!("Content-Length: {length}\r\n\r\n").bytes());
                request.extend(body);
            }
            _ => {
                request.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for piece in body.chunks(1 + self.below(500)) {
                    request
                        .extend(format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"));
                }
                request.extend(b"0\r\n\r\n");
            }
        }
        request
    }

    fn body(&mut self) -> (String, Vec<u8>) {
        match self.below(5) {
            0 => (String::new(), vec![]),
            1 => {
                let form = self.of(&["a=1&a=2", "name=J%C3%B6rg+M", "a=%FF&b=%zz", "empty=&=x", "plain", "a=1;b=2"]);
                let charset = self.of(&["", "; charset=utf-8", "; charset=latin-1"]);
                (format!("application/x-www-form-urlencoded{charset}"), form.into())
            }
            2 => {
                let json =
                    self.of(&["{\"a\": [1, null, \"\u{fc}\"]}", "[]", "not json", "\"\\u00fc\"", "{\"a\":1,\"a\":2}"]);
                (self.of(&["application/json", "application/vnd.x+json", "text/json"]).into(), json.into())
            }
            3 => (String::from("multipart/form-data; boundary=\"a b:c\""), self.multipart("a b:c")),
            _ => {
                let length = 1 + self.below(3000);
                let bytes = (0..length).map(|_| self.below(256) as u8).collect();
                (self.of(&["application/octet-stream", "text/plain; charset=koi8-r", ""]).into(), bytes)
            }
        }
    }

    fn multipart(&mut self, boundary: &str) -> Vec<u8> {
        let mut body = vec![];
        for _ in 0..=self.below(4) {
            let part = self.of(&[
                "name=\"text\"\r\n\r\n",
                "name=\"t\u{fc}xt\"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
                "name=\"file\"; filename=\"a b.txt\"\r\nContent-Type: text/plain\r\n\r\n",
                "name=\"file\"; filename=\"\u{fc}.bin\"\r\n\r\n",
                "name=\"many\"; filename=\"\"\r\n\r\n",
            ]);
            body.extend(format!("--{boundary}\r\nContent-Disposition: form-data; {part}").bytes());
            let length = self.below(2000);
            body.extend((0..length).map(|_| self.below(256) as u8));
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").bytes());
        body
    }
}
