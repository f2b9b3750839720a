//! Werkzeug (which is Flask's), Django and WebOb see the same request under ostler and under gunicorn.

use ostler_tests::{Client, Gunicorn, Python, Rig};
use serde_json::Value;

/// Of generated requests, each seen by every framework.
const REQUESTS: u32 = 200;

#[test]
fn frameworks_see_two_hundred_generated_requests_as_under_gunicorn() {
    let site = Rig::new("views.py").start();
    let gunicorn = Gunicorn::start(Python::usual(), "views.py", "application");
    let mut ours = site.connect();
    let mut dice = Dice(0x5eed);
    let mut seen = Totals::default();
    for number in 0..REQUESTS {
        let request = Generated::throw(&mut dice);
        for framework in ["werkzeug", "django", "webob"] {
            let bytes = request.bytes(framework);
            let (our, their) = (view(&mut ours, &bytes), view(&mut gunicorn.connect(), &bytes));
            for (key, value) in our.as_object().expect("a view is a table") {
                assert_eq!(*value, their[key], "{key} of request {number}: {}", String::from_utf8_lossy(&bytes));
            }
            seen.count(&our);
        }
    }
    // What was compared was not nothing.
    let Totals { arguments, cookies, forms, files, json, bodies } = seen;
    for (what, count) in
        [("arguments", arguments), ("cookies", cookies), ("forms", forms), ("files", files), ("json", json)]
    {
        assert!(count > REQUESTS / 10, "{count} views with {what}");
    }
    assert!(bodies > REQUESTS / 2, "{bodies} views of bodies");
}

fn view(client: &mut Client, request: &[u8]) -> Value {
    let answer = client.send(request).answer();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(request));
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// How many views had something of a kind.
#[derive(Default)]
struct Totals {
    arguments: u32,
    cookies: u32,
    forms: u32,
    files: u32,
    json: u32,
    bodies: u32,
}

impl Totals {
    fn count(&mut self, view: &Value) {
        let holds = |key: &str| match &view[key] {
            Value::Array(list) => !list.is_empty(),
            Value::Object(table) => !table.is_empty(),
            Value::String(text) => !text.is_empty() && !text.contains("Error"),
            value => !value.is_null(),
        };
        self.arguments += u32::from(holds("arguments"));
        self.cookies += u32::from(holds("cookies"));
        self.forms += u32::from(holds("form"));
        self.files += u32::from(holds("files"));
        self.json += u32::from(holds("json"));
        self.bodies += u32::from(holds("body"));
    }
}

/// Xorshift: the same throws every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Some things, joined.
    fn some(&mut self, at_most: usize, joint: &str, mut thing: impl FnMut(&mut Dice) -> String) -> String {
        (0..self.below(at_most + 1)).map(|_| thing(self)).collect::<Vec<_>>().join(joint)
    }
}

const NAMES: [&str; 6] = ["a", "b", "name", "caf%C3%A9", "x[]", "a.b"];
const VALUES: [&str; 10] =
    ["", "1", "two+words", "two%20words", "%C3%BC%E2%82%AC", "%FF%FE", "a%26b%3Dc", "%2F..%2F", "100%25", "a;b"];
const TEXTS: [&str; 6] = ["", "plain", "J\u{f6}rg & Ada", "two\r\nlines", "\u{1f40e}", "--boundary"];

/// A request but for the framework's name.
struct Generated {
    method: &'static str,
    path: String,
    query: String,
    fields: String,
    body: Vec<u8>,
    chunked: bool,
}

impl Generated {
    fn throw(dice: &mut Dice) -> Generated {
        let (content_type, body) = content(dice);
        let mut fields = String::new();
        if !content_type.is_empty() {
            fields += &format!("Content-Type: {content_type}\r\n");
        }
        let cookies = dice.some(3, "; ", |dice| {
            let name = dice.one(&["session", "a", "colour", "a"]);
            format!("{name}={}", dice.one(&["1", "", "\"quoted\"", "a=b", "caf\u{e9}", "%C3%A9", "\"a\\073b\""]))
        });
        if !cookies.is_empty() {
            fields += &format!("Cookie: {cookies}\r\n");
        }
        for (name, values) in [
            ("Accept-Language", ["de, en;q=0.5", "*"]),
            // No field comes twice: gunicorn joins values by a comma alone, and cookies too.
            ("X-One", ["one", "caf\u{e9}"]),
            ("X-Two", ["two", ""]),
            ("Authorization", ["Basic YTpi", "Bearer x"]),
        ] {
            if dice.below(3) == 0 {
                fields += &format!("{name}: {}\r\n", dice.one(&values));
            }
        }
        let segment =
            |dice: &mut Dice| dice.one(&["a", "caf%C3%A9", "%FF", "a%2Fb", "..", "", "a+b", "%25", "~b;c"]).into();
        let pair = |dice: &mut Dice| format!("{}={}", dice.one(&NAMES), dice.one(&VALUES));
        Generated {
            method: if body.is_empty() {
                dice.one(&["GET", "DELETE", "OPTIONS"])
            } else {
                dice.one(&["POST", "PUT", "PATCH", "POST"])
            },
            path: dice.some(3, "/", segment),
            query: dice.some(4, "&", pair),
            fields,
            chunked: !body.is_empty() && dice.below(4) == 0,
            body,
        }
    }

    fn bytes(&self, framework: &str) -> Vec<u8> {
        let Generated { method, path, query, fields, .. } = self;
        let mark = if query.is_empty() { "" } else { "?" };
        let head = format!("{method} /{framework}/{path}{mark}{query} HTTP/1.1\r\nHost: site.test:8000\r\n{fields}");
        // One character, one byte.
        let mut bytes: Vec<u8> = head.chars().map(|c| u8::try_from(c).expect("fields are latin-1")).collect();
        if self.chunked {
            bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in self.body.chunks(1000) {
                bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
                bytes.extend(piece);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else if !self.body.is_empty() {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", self.body.len()).bytes());
            bytes.extend(&self.body);
        } else {
            bytes.extend(b"\r\n");
        }
        bytes
    }
}

/// A content type and a body of it.
fn content(dice: &mut Dice) -> (&'static str, Vec<u8>) {
    match dice.below(6) {
        0 => ("", vec![]),
        1 | 2 => {
            let kind = ["application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-8"];
            let form = dice.some(5, "&", |dice| format!("{}={}", dice.one(&NAMES), dice.one(&VALUES)));
            (dice.one(&kind), form.into_bytes())
        }
        3 => {
            let json = ["{\"a\": [1, null, \"\u{fc}\"]}", "[]", "\"\\ud83d\\udc0e\"", "{broken", "12.50"];
            ("application/json", dice.one(&json).as_bytes().to_vec())
        }
        4 => ("text/plain; charset=latin-1", (0..dice.below(3000)).map(|n| (n * 7) as u8).collect()),
        _ => ("multipart/form-data; boundary=boundary", multipart(dice)),
    }
}

fn multipart(dice: &mut Dice) -> Vec<u8> {
    let mut body = vec![];
    for _ in 0..1 + dice.below(4) {
        let name = dice.one(&["a", "file", "caf\u{e9}", "x[]"]);
        body.extend(format!("--boundary\r\nContent-Disposition: form-data; name=\"{name}\"").bytes());
        if dice.below(2) == 0 {
            let file = dice.one(&["data.bin", "\u{fc}ber.txt", "C:\\path\\a.txt", "a b.txt", "../up.txt"]);
            body.extend(format!("; filename=\"{file}\"\r\nContent-Type: application/octet-stream\r\n\r\n").bytes());
            // Above 64 KiB now and then: beyond what is kept in memory by some of them.
            let length = dice.one(&["0", "10", "5000", "100000"]).parse().expect("a number");
            body.extend((0..length).map(|n: usize| (n * 31) as u8));
        } else {
            body.extend(b"\r\n\r\n");
            body.extend(dice.one(&TEXTS).bytes());
        }
        body.extend(b"\r\n");
    }
    body.extend(b"--boundary--\r\n");
    body
}
