//! Plays the cases of tests/cases: bytes in, bytes out. The README there says what their keys mean.

use std::{collections::BTreeMap, fs};

use ostler_tests::{Answer, Client, Ending, Framing, Rig, Site, repository};
use serde_json::Value;

/// Options that change how requests are read, logged and answered, and so the expected outcome of a case.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Without `--no-request-buffering`.
    pub buffering: bool,
    /// With `--access-logfile`.
    pub access_log: bool,
    /// Without `--no-sendfile`.
    pub sendfile: bool,
    /// `--threads`
    pub threads: u8,
    /// Without `--keep-alive 0`.
    pub keep_alive: bool,
    /// With `--proxy-protocol`: each connection begins with a header.
    pub proxy_protocol: bool,
    /// `--header-map`
    pub header_map: &'static str,
    /// A Unix socket rather than TCP.
    pub unix_socket: bool,
}

/// The defaults, for which the cases are written.
const USUAL: Mode = Mode {
    buffering: true,
    access_log: false,
    sendfile: true,
    threads: 1,
    keep_alive: true,
    proxy_protocol: false,
    header_map: "drop",
    unix_socket: false,
};

const PROXY_HEADER: &str = "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n";
/// A line of the access log that the matrix asks for.
const FORMAT: &str = "line %(s)s %(B)s %(m)s %({host}i)s %({content-type}o)s";

/// How a client sends: the bytes of a step together, or each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Whole,
    ByteByByte,
}

/// The longest step that is sent byte by byte.
const SHORT: usize = 2000;

const KEYS: [&str; 17] = [
    "name",
    "section",
    "request",
    "options",
    "own",
    "or",
    "answers",
    "refused",
    "body",
    "body_length",
    "json",
    "lacks_json",
    "fields",
    "has",
    "lacks",
    "wire_has",
    "wire_lacks",
];

/// Plays a file's cases, whole and byte by byte, with one daemon for each group of options, and fails with a list of all mistakes. Then
/// plays the cases of correct applications again, with the standard library's validator between application and daemon.
pub fn play_all(file: &str) {
    play_some(file, "application", &[Sent::Whole, Sent::ByteByByte], |_| true);
    play_some(file, "validated", &[Sent::Whole], |case| is_well_behaved(case) && !upsets_the_validator(case));
}

/// Whether the application answers, and with 200 only.
fn is_well_behaved(case: &Value) -> bool {
    let answers = list(&case["answers"]);
    let well = |expected: &Value| *expected == 200 || *expected == "HEAD 200" || *expected == "end";
    !answers.is_empty() && answers.iter().all(well)
}

/// The validator forbids `read()` without a size and deviations from PEP 3333, and hides how many blocks there are.
fn upsets_the_validator(case: &Value) -> bool {
    let request = case["request"].to_string();
    ["/echo", "/length", "read ", "read;", "GET /blocks?count=1 ", "/types?wrong="]
        .iter()
        .any(|text| request.contains(text))
}

fn play_some(file: &str, application: &str, ways: &[Sent], wanted: impl Fn(&Value) -> bool) {
    let text = fs::read_to_string(repository("tests/cases").join(file)).expect("the file of the cases is there");
    let group: Value = toml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    for (name, key) in list(&group["case"])
        .iter()
        .flat_map(|case| case.as_object().expect("a table").keys().map(|key| (&case["name"], key)))
    {
        assert!(KEYS.contains(&key.as_str()), "{file}: {name}: no such key: {key}");
    }
    let mut by_options: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for case in list(&group["case"]).iter().filter(|case| wanted(case)) {
        by_options.entry(case["options"].to_string()).or_default().push(case);
    }
    let mut failures = vec![];
    for cases in by_options.values() {
        let apps = repository("tests/apps").display().to_string();
        let mut rig =
            Rig::new(&format!("conformance:{application}")).option("--pythonpath", &apps).env("CASES_SECRET", "leaked");
        if list(&cases[0]["options"]).iter().any(|word| word == "--workers") {
            rig = rig.without_workers();
        }
        for word in list(&cases[0]["options"]) {
            rig = rig.flag(string(word));
        }
        let site = rig.start();
        for (case, way) in cases.iter().flat_map(|case| ways.iter().map(move |way| (case, *way))) {
            let name = format!("{}: {}", string(&case["section"]), string(&case["name"]));
            match play(case, way, site.address(), USUAL) {
                Ok(()) => println!("{name}, {way:?} for {application}: ok"),
                Err(why) => failures.push(format!("{name}, {way:?}: {why}")),
            }
        }
        assert!(application != "validated" || site.logged("AssertionError") == 0, "the validator complains");
    }
    assert!(failures.is_empty(), "{} cases of {file} fail for {application}:\n{}", failures.len(), failures.join("\n"));
}

impl Mode {
    fn start(self) -> Site {
        let apps = repository("tests/apps").display().to_string();
        let mut rig = Rig::new("conformance:application").option("--pythonpath", &apps).env("CASES_SECRET", "leaked");
        rig = rig.option("--threads", &self.threads.to_string()).option("--header-map", self.header_map);
        for (flag, wanted) in [("--no-request-buffering", !self.buffering), ("--no-sendfile", !self.sendfile)] {
            rig = if wanted { rig.flag(flag) } else { rig };
        }
        if self.access_log {
            rig = rig.option("--access-logfile", "access.log").option("--access-logformat", FORMAT);
        }
        if !self.keep_alive {
            rig = rig.option("--keep-alive", "0");
        }
        if self.proxy_protocol {
            rig = rig.flag("--proxy-protocol").option("--proxy-allow-from", "127.0.0.1,unix:");
        }
        if self.unix_socket {
            let socket = format!("unix:{}", rig.folder().join("site.sock").display());
            rig = rig.bind(&socket);
        }
        rig.start()
    }

    fn connect(self, address: &str) -> Result<Client, String> {
        let mut client = Client::try_connect(address).map_err(|error| error.to_string())?;
        if self.proxy_protocol {
            client.try_send(PROXY_HEADER).map_err(|error| error.to_string())?;
        }
        Ok(client)
    }

    /// What a case expects under these options. None if the case makes no sense under them.
    fn of(self, case: &Value) -> Option<Value> {
        let mut case = case.clone();
        let request = case["request"].to_string();
        let has_body = ["chunked", "Content-Length"].iter().any(|text| request.contains(text));
        let underscore =
            |line: &str| line.split_once(':').is_some_and(|(name, _)| name.contains('_') && !name.contains('/'));
        let about_the_peer = request.contains("orwarded") || request.contains("PROXY");
        let other = (self.header_map != "drop" && request.split("\\r\\n").any(underscore))
            || (self.proxy_protocol && about_the_peer)
            || (!self.buffering && case["section"] == "buffering");
        if !case["options"].is_null() || other {
            return None;
        }
        if let Some(json) = case["json"].as_object_mut() {
            let peer = ["REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT"];
            json.retain(|key, _| {
                !((self.proxy_protocol || self.unix_socket) && peer.contains(&key.as_str()))
                    && !(self.threads > 1 && key == "wsgi.multithread")
                    // The length of a chunked body is known only when it is complete.
                    && (self.buffering || key != "CONTENT_LENGTH")
            });
        }
        if !self.buffering && request.contains("100-continue") {
            // Sent when the application reads, if it does.
            case["wire_has"] = Value::Null;
        }
        if !self.buffering && has_body && !case["refused"].is_null() {
            // The application is called before the fault has come: it answers, or its read fails, and the connection ends.
            case["unbuffered"] = true.into();
        }
        if !self.keep_alive {
            self.close_after_each(&mut case);
        }
        Some(case)
    }

    /// Without keep-alive the first answer on a connection is the last one.
    fn close_after_each(self, case: &mut Value) {
        let connects = case["request"].as_array().is_some_and(|steps| steps.iter().any(|step| step["connect"] == true));
        let answers = list(&case["answers"]).to_vec();
        let final_ones = answers.iter().filter(|answer| **answer != "end").count();
        if let Some(fields) = case["fields"].as_object_mut() {
            fields.remove("Connection");
        }
        for key in ["lacks", "wire_lacks"] {
            if let Some(texts) = case[key].as_array_mut() {
                texts.retain(|text| !string(text).contains("Connection"));
            }
        }
        if !connects && final_ones + list(&case["refused"]).len().min(1) > 1 {
            for key in ["refused", "body", "body_length", "json", "lacks_json", "fields", "has", "lacks", "wire_has"] {
                case[key] = Value::Null;
            }
            case["answers"] = vec![answers[0].clone(), "end".into()].into();
        } else if final_ones > 0 && answers.last().is_some_and(|last| last != "cut" && last != "end") {
            let ended = answers.into_iter().chain(["end".into()]);
            case["answers"] = ended.collect::<Vec<_>>().into();
        }
    }
}

/// Plays the cases of all files that have an expected outcome under these options.
pub fn play_under(mode: Mode) {
    let site = mode.start();
    let (mut failures, mut played) = (vec![], 0);
    let folder = fs::read_dir(repository("tests/cases")).expect("the folder is there").flatten();
    let mut files: Vec<_> =
        folder.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    for file in files {
        let group: Value =
            toml::from_str(&fs::read_to_string(&file).expect("a file of cases")).expect("cases are TOML");
        for case in list(&group["case"]).iter().filter_map(|case| mode.of(case)) {
            // With several threads the next request may be answered before close() has been called for this one.
            if mode.threads > 1 && string(&case["section"]) == "PEP 3333, close()" {
                continue;
            }
            played += 1;
            if let Err(why) = play(&case, Sent::Whole, site.address(), mode) {
                failures.push(format!("{}: {}: {why}", string(&case["section"]), string(&case["name"])));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {played} cases fail under {mode:?}:\n{}", failures.len(), failures.join("\n"));
    assert!(played > 250, "only {played} cases were played");
    assert_eq!(site.logged("panic"), 0);
    check_access_log(site, mode);
}

/// Checks that each line of the access log is complete, whatever was read, refused or cut.
fn check_access_log(mut site: Site, mode: Mode) {
    site.stop();
    if !mode.access_log {
        return;
    }
    let log = site.folder().read("access.log");
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let status = words.get(1).and_then(|status| status.parse::<u16>().ok());
        assert!(words[0] == "line" && words.len() >= 6 && status.is_some_and(|status| status >= 200), "{line:?}");
    }
    assert!(log.lines().count() > 250, "{} lines", log.lines().count());
}

/// What came back for one case.
struct Seen {
    client: Client,
    /// Everything that the server sent, on all connections of the case.
    wire: Vec<u8>,
    last: Option<Answer>,
}

fn play(case: &Value, way: Sent, address: &str, mode: Mode) -> Result<(), String> {
    let client = mode.connect(address)?;
    let mut seen = Seen { client, wire: vec![], last: None };
    let mut expected = list(&case["answers"]).iter();
    let request = std::slice::from_ref(&case["request"]);
    for step in if case["request"].is_array() { list(&case["request"]) } else { request } {
        if step["connect"] == true {
            seen.take(expected.next().expect("a step that connects follows an answer"))?;
            seen.client = mode.connect(address)?;
        } else if step["half_close"] == true {
            let _ = seen.client.finish();
        } else if let Some(mark) = step["until"].as_str() {
            seen.client.sight(&bytes(mark))?;
        } else {
            let times = step["times"].as_u64().unwrap_or(1) as usize;
            // A server that has refused the request may close before all of it is sent.
            let bytes = bytes(step["repeat"].as_str().unwrap_or_else(|| string(step))).repeat(times);
            let together = if way == Sent::Whole || bytes.len() > SHORT { bytes.len().max(1) } else { 1 };
            let _ = bytes.chunks(together).try_for_each(|piece| seen.client.try_send(piece));
        }
    }
    for expected in expected.filter(|expected| **expected != "end") {
        seen.take(expected)?;
    }
    if case["unbuffered"] == true {
        return unbuffered(seen);
    }
    let last = seen.last.take();
    let wire = finish(case, &last, seen)?;
    inspect(case, &last, &wire)
}

impl Seen {
    /// Reads one answer and compares it with `200`, `"HEAD 200"` or `"cut"`.
    fn take(&mut self, expected: &Value) -> Result<(), String> {
        if expected == "cut" {
            return self.take_cut();
        }
        let (to_head, status) = match expected.as_str().and_then(|text| text.strip_prefix("HEAD ")) {
            Some(status) => (true, status.parse().expect("a status")),
            None => (false, expected.as_u64().expect("a status")),
        };
        let answer = self.answer(to_head)?;
        let right = u64::from(answer.status) == status;
        let told = format!("status {} instead of {status}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        self.last = Some(answer);
        if right { Ok(()) } else { Err(told) }
    }

    /// One final answer; interim ones before it are skipped.
    fn answer(&mut self, to_head: bool) -> Result<Answer, String> {
        loop {
            let (answer, raw) = self.client.try_answer_with_bytes(to_head)?;
            self.wire.extend(raw);
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    fn take_cut(&mut self) -> Result<(), String> {
        match self.client.try_answer() {
            Ok(answer) => Err(format!("the answer looks whole: {answer:?}")),
            Err(_) if self.client.unread().starts_with(b"HTTP/1.1 200 ") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// After a malformed body there is at most one answer, and no further request is read.
fn unbuffered(seen: Seen) -> Result<(), String> {
    let (rest, _) = seen.client.rest();
    let answers = String::from_utf8_lossy(&rest).matches("HTTP/1.1 ").count()
        - rest.windows(12).filter(|text| text == b"HTTP/1.1 100").count();
    if answers <= 1 { Ok(()) } else { Err(format!("behind the body came {:?}", String::from_utf8_lossy(&rest))) }
}

/// Checks what follows the answers: a refusal, the end, or one more request. Returns all bytes received.
fn finish(case: &Value, last: &Option<Answer>, mut seen: Seen) -> Result<Vec<u8>, String> {
    let closes = |answer: &Answer| {
        let connection = answer.field("connection").unwrap_or_default().to_ascii_lowercase();
        connection == "close" || answer.framing == Framing::Close
    };
    let refused = list(&case["refused"]);
    let mut ends = list(&case["answers"]).iter().any(|expected| expected == "end") || last.as_ref().is_some_and(closes);
    if !refused.is_empty() {
        let answer = seen.answer(false)?;
        if !refused.contains(&Value::from(answer.status)) {
            return Err(format!("status {} instead of {}", answer.status, case["refused"]));
        }
        if answer.field("x-application").is_some() {
            return Err("the application was reached".into());
        }
        ends = true;
    }
    if list(&case["answers"]).last().is_some_and(|expected| expected == "cut") {
        seen.wire.extend(seen.client.rest().0);
    } else if ends {
        let (rest, ending) = seen.client.rest();
        if !rest.is_empty() || ending != Ending::Closed {
            return Err(format!("behind the answer, {ending:?}, came {:?}", String::from_utf8_lossy(&rest)));
        }
    } else {
        let _ = seen.client.try_send("GET / HTTP/1.1\r\nHost: ping\r\n\r\n");
        let next = seen.answer(false).map_err(|why| format!("the next request: {why}"))?;
        if next.body != b"hello" {
            return Err(format!("the next request was answered by {next:?}"));
        }
    }
    Ok(seen.wire)
}

fn inspect(case: &Value, last: &Option<Answer>, wire: &[u8]) -> Result<(), String> {
    let empty = serde_json::Map::new();
    let holds = |text: &Value| wire.windows(string(text).len()).any(|window| window == bytes(string(text)));
    if let Some(text) = list(&case["wire_has"]).iter().find(|text| !holds(text)) {
        return Err(format!("no {text} was sent"));
    }
    if let Some(text) = list(&case["wire_lacks"]).iter().find(|text| holds(text)) {
        return Err(format!("{text} was sent"));
    }
    let Some(last) = last else { return Ok(()) };
    if case["body"].as_str().is_some_and(|body| bytes(body) != last.body) {
        return Err(format!("body {:?}", String::from_utf8_lossy(&last.body)));
    }
    if case["body_length"].as_u64().is_some_and(|length| length != last.body.len() as u64) {
        return Err(format!("{} bytes of body", last.body.len()));
    }
    inspect_json(case, &last.body)?;
    for (name, value) in case["fields"].as_object().unwrap_or(&empty) {
        if last.values(name).join(", ") != string(value) {
            return Err(format!("{name}: {:?}", last.values(name)));
        }
    }
    if let Some(name) = list(&case["has"]).iter().find(|name| last.values(string(name)).is_empty()) {
        return Err(format!("no {name}"));
    }
    if let Some(name) = list(&case["lacks"]).iter().find(|name| !last.values(string(name)).is_empty()) {
        return Err(format!("{name}: {:?}", last.values(string(name))));
    }
    Ok(())
}

fn inspect_json(case: &Value, body: &[u8]) -> Result<(), String> {
    if case["json"].is_null() && case["lacks_json"].is_null() {
        return Ok(());
    }
    let seen: Value = serde_json::from_slice(body).map_err(|_| format!("body {:?}", String::from_utf8_lossy(body)))?;
    if let Some(table) = case["json"].as_object() {
        if let Some((key, _)) = table.iter().find(|(key, value)| seen[*key] != **value) {
            return Err(format!("{key}: {}", seen[key]));
        }
    } else if !case["json"].is_null() && seen != case["json"] {
        return Err(seen.to_string());
    }
    match list(&case["lacks_json"]).iter().find(|key| seen.get(string(key)).is_some()) {
        Some(key) => Err(format!("{key}: {}", seen[string(key)])),
        None => Ok(()),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

/// One character stands for one byte.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("cases hold bytes only")).collect()
}
