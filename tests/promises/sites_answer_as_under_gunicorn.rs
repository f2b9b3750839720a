//! The four example sites, unmodified, on every interpreter: each answer is correct, and equals gunicorn's.

use ostler_tests::{Answer, Client, Framing, Gunicorn, Python, Rig, application};

#[test]
fn flask_answers_as_it_does_under_gunicorn() {
    drive("flask_site.py", "app");
}

#[test]
fn django_answers_as_it_does_under_gunicorn() {
    drive("django_site.py", "application");
}

#[test]
fn pyramid_answers_as_it_does_under_gunicorn() {
    drive("pyramid_site.py", "application");
}

#[test]
fn plain_wsgi_answers_as_it_does_under_gunicorn() {
    drive("wsgi_site.py", "application");
}

fn drive(file: &str, attribute: &str) {
    for python in Python::every() {
        let site = Rig::new(file).workers(3).python(python).start();
        let ours = visit(&mut site.connect(), file, true);
        let gunicorn = Gunicorn::start(python, file, attribute);
        let theirs = visit(&mut gunicorn.connect(), file, ANSWER_FAULTS.contains(&file));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{file} on CPython {}", python.version);
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

/// Their frameworks answer an exception. One that reaches gunicorn is answered with a page of its own, which is not even HTTP on CPython 3.14:
/// its line ends are lost in textwrap.dedent.
const ANSWER_FAULTS: [&str; 2] = ["flask_site.py", "django_site.py"];

/// Gets every page over one connection, checks each answer, and returns what two servers must have in common.
fn visit(client: &mut Client, file: &str, fault: bool) -> Vec<Answer> {
    let mut seen = vec![];
    let mut see = |answer: Answer, status: u16, text: &str| {
        assert_eq!((answer.status, answer.text()), (status, text), "{file}");
        seen.push(comparable(answer));
    };

    let index = client.get("/?name=%3CAda%20%26%20Bob%3E");
    assert!(index.text().contains("<h1>Good day, &lt;Ada &amp; Bob&gt;</h1>"), "{file}: {}", index.text());
    let text = index.text().to_string();
    see(index, 200, &text);
    let head = client.send("HEAD /?name=%3CAda%20%26%20Bob%3E HTTP/1.1\r\nHost: ostler.test\r\n\r\n").answer_to_head();
    see(head, 200, "");

    let form = client.post("/form", "application/x-www-form-urlencoded", b"name=J%C3%B6rg+%26+Ada");
    see(form, 200, "Good day, J\u{f6}rg & Ada\n");

    for (content, digest) in [(vec![], EMPTY), (b"hello".to_vec(), HELLO), (every_byte(1 << 20), MILLION)] {
        let expected = format!("{digest} {} data.bin\n", content.len());
        see(upload(client, &content), 200, &expected);
    }

    see(client.get("/colour"), 200, "colour: none\n");
    let set = client.get("/colour?set=green");
    assert_eq!(set.field("set-cookie"), Some("colour=green; Path=/"), "{file}");
    see(set, 200, "colour: none\n");
    see(get_with_cookie(client, "/colour", "colour=green"), 200, "colour: green\n");

    let mut session = String::from("other=1");
    for count in 1..=3 {
        let answer = get_with_cookie(client, "/visits", &session);
        let cookie = answer.field("set-cookie").expect("a session sets a cookie");
        session = format!("other=1; {}", cookie.split(';').next().expect("a cookie has a value"));
        see(answer, 200, &format!("visits: {count}\n"));
    }

    let stream = client.get("/stream?blocks=100");
    assert_eq!(stream.framing, Framing::Chunked, "{file}");
    let blocks: String = (1..=100).map(|number| format!("block {number}\n")).collect();
    see(stream, 200, &blocks);

    let source = std::fs::read_to_string(application(file)).expect("the example is readable");
    see(client.get("/download"), 200, &source);
    see(client.get("/slow?seconds=0.25"), 200, "slept 0.25 s\n");

    let missing = client.get("/no/such/page");
    assert_eq!(missing.status, 404, "{file}");
    seen.push(comparable(missing));

    if fault {
        let error = client.get("/error");
        assert_eq!(error.status, 500, "{file}");
        if ANSWER_FAULTS.contains(&file) {
            seen.push(comparable(error));
        }
    }
    seen
}

fn upload(client: &mut Client, content: &[u8]) -> Answer {
    let mut body = b"--limit\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nnone\r\n--limit\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"data.bin\"\r\n\
        Content-Type: application/octet-stream\r\n\r\n"
        .to_vec();
    body.extend(content);
    body.extend(b"\r\n--limit--\r\n");
    client.post("/upload", "multipart/form-data; boundary=limit", &body)
}

fn get_with_cookie(client: &mut Client, target: &str, cookie: &str) -> Answer {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: ostler.test\r\nCookie: {cookie}\r\n\r\n")).answer()
}

/// Drops what two servers may do in their own way (their own fields, and how an unknown length is framed), and what differs
/// from run to run (signatures and dates in cookies).
fn comparable(mut answer: Answer) -> Answer {
    let own = ["date", "server", "connection", "keep-alive", "transfer-encoding", "content-length"];
    answer.fields.retain(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str()));
    for (name, value) in &mut answer.fields {
        name.make_ascii_lowercase();
        if name == "set-cookie" {
            let names: Vec<&str> = value.split("; ").map(|part| part.split('=').next().unwrap_or_default()).collect();
            *value = names.join("; ");
        }
    }
    answer.framing = Framing::None;
    answer
}

fn every_byte(length: usize) -> Vec<u8> {
    (0..=255).cycle().take(length).collect()
}

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const MILLION: &str = "fbbab289f7f94b25736c58be46a994c441fd02552cc6022352e3d86d2fab7c83";
