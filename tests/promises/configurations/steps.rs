//! The steps of a configuration: what is done to a server that runs, and what is seen.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use ostler_tests::{Answer, Client, Folder, Lines, PATIENCE, Process, ends_within};

/// Fields that each server has in its own way.
const OWN_FIELDS: [&str; 5] = ["date", "server", "connection", "keep-alive", "transfer-encoding"];
/// Between two looks at what is to come.
const PAUSE: Duration = Duration::from_millis(20);

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// From the package index.
    Gunicorn,
    /// The built one.
    Ostler,
}

/// A server that was started with a configuration.
pub(super) struct Play {
    pub server: Server,
    pub folder: Folder,
    pub port: String,
    pub address: String,
    pub process: Process,
}

impl Play {
    /// Takes a step and says what was seen.
    pub fn step(&mut self, step: &str) -> Result<String, String> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "see" => Ok(shown(&self.ask(&see(rest))?)),
            "until" => self.until(rest),
            "raw" => self.raw(rest),
            "twice" => self.twice(),
            "workers" => self.workers(rest.parse().expect("a number")),
            "busy" => self.busy(rest.parse().expect("a number")),
            "signal" => self.signal(rest),
            "write" => {
                let content = second.replace("\\n", "\n");
                self.folder.write(first, &content);
                Ok("written".into())
            }
            "move" => {
                fs::rename(self.folder.join(first), self.folder.join(second)).map(|()| "moved".into()).map_err(text)
            }
            "file" => {
                self.wait_for_line(second, |play| fs::read_to_string(play.folder.join(first)).unwrap_or_default())
            }
            "read" => fs::read_to_string(self.folder.join(first)).map_err(text),
            "log" => self.wait_for_line(rest, |play| play.process.log.text()),
            "says" => self.wait_for_line(rest, |play| play.process.log.text()).map(|_| rest.into()),
            "prints" => self.wait_for_line(rest, |play| play.process.output.text()).map(|_| rest.into()),
            "output" => self.wait_for_line(rest, |play| play.process.output.text()),
            "logged" => Ok(after_each(rest, &self.whole(|process| &process.log))),
            "printed" => Ok(after_each(rest, &self.whole(|process| &process.output))),
            "lines" => Ok(after_each(second, &fs::read_to_string(self.folder.join(first)).map_err(text)?)),
            "mode" => {
                fs::metadata(self.folder.join(first)).map(|of| format!("{:o}", of.permissions().mode())).map_err(text)
            }
            "gone" => self.gone(rest),
            "end" => Ok(self.end()),
            _ => Ok(shown(&self.ask(&request(step))?)),
        }
    }

    /// A connection, when the server listens.
    fn connect(&mut self) -> Result<Client, String> {
        let deadline = Instant::now() + PATIENCE;
        let address = match self.address.strip_prefix("unix:") {
            Some(name) => format!("unix:{}", self.folder.join(name).display()),
            None => self.address.clone(),
        };
        loop {
            match Client::try_connect(&address) {
                Ok(client) => return Ok(client),
                // A daemon's first process ends well, and the site comes up.
                Err(_) if self.process.has_ended() && !self.process.wait().success() => {
                    return Err(format!("no server: {}", self.end()));
                }
                Err(error) if Instant::now() > deadline => return Err(format!("no connection: {}", error.kind())),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn ask(&mut self, request: &str) -> Result<Answer, String> {
        let mut client = self.connect()?;
        client.try_send(request).map_err(text)?;
        match request.starts_with("HEAD ") {
            true => client.try_answer_with_bytes(true).map(|(answer, _)| answer),
            false => client.try_answer(),
        }
        .map_err(|_| "no answer".into())
    }

    /// Asks until an expression has a value: `EXPRESSION == VALUE`.
    fn until(&mut self, text: &str) -> Result<String, String> {
        let (expression, value) = text.rsplit_once(" == ").expect("until EXPRESSION == VALUE");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(&see(expression));
            match answer {
                Ok(answer) if answer.text() == value => return Ok(value.into()),
                _ if Instant::now() > deadline || self.process.has_ended() => return Err(format!("{answer:?}")),
                _ => thread::sleep(PAUSE),
            }
        }
    }

    /// Sends bytes and says how the answers begin.
    fn raw(&mut self, bytes: &str) -> Result<String, String> {
        let mut client = self.connect()?;
        let _ = client.try_send(bytes.replace("\\r", "\r").replace("\\n", "\n"));
        let (answer, ending) = client.rest();
        let answer = String::from_utf8_lossy(&answer);
        let statuses: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/1.")).collect();
        if statuses.is_empty() {
            return Ok(format!("no answer: {ending:?}"));
        }
        Ok(statuses.iter().map(|line| line.split(' ').nth(1).unwrap_or_default()).collect::<Vec<_>>().join(" "))
    }

    /// Asks twice on one connection.
    fn twice(&mut self) -> Result<String, String> {
        let mut client = self.connect()?;
        let mut ask = || {
            client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").map_err(text)?;
            client.try_answer()
        };
        ask().map_err(|_| "no answer")?;
        Ok(if ask().is_ok() { "kept" } else { "closed" }.into())
    }

    /// Waits until there is this number of workers, and says how many there are.
    fn workers(&mut self, expected: usize) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        self.connect()?;
        loop {
            let count = self.count_of_workers();
            if count == expected || Instant::now() > deadline || self.process.has_ended() {
                return Ok(count.to_string());
            }
            thread::sleep(PAUSE);
        }
    }

    fn count_of_workers(&self) -> usize {
        let is_worker = |pid: &&i32| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let parent = read("status").lines().find_map(|line| Some(line.strip_prefix("PPid:")?.trim().to_string()));
            let is_child = parent.and_then(|parent| parent.parse().ok()) == Some(self.process.pid());
            is_child && (self.server == Server::Gunicorn || read("cmdline").contains(": worker"))
        };
        self.process.descendants().iter().filter(is_worker).count()
    }

    /// Has three times as many requests wait, and says how many of them the application holds at a time, and in how many processes.
    fn busy(&mut self, expected: usize) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut clients = vec![];
        for _ in 0..expected * 3 {
            let mut client = self.connect()?;
            client.try_send(request("GET /hold")).map_err(text)?;
            clients.push(client);
        }
        let inside = || -> Vec<String> {
            let entries = fs::read_dir(self.folder.join("inside")).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        while inside().len() < expected && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        // Only one that holds too many could be seen to do so now.
        thread::sleep(PAUSE * 5);
        let held = inside();
        let mut processes: Vec<_> = held.iter().filter_map(|name| name.split('-').next()).collect();
        processes.sort();
        processes.dedup();
        let seen = format!("{} at a time in {} processes", held.len(), processes.len());
        self.folder.write("release", "");
        for mut client in clients {
            client.try_answer().map_err(|_| "a held request has no answer")?;
        }
        let _ = fs::remove_dir_all(self.folder.join("inside"));
        let _ = fs::remove_file(self.folder.join("release"));
        Ok(seen)
    }

    fn signal(&mut self, name: &str) -> Result<String, String> {
        let signal = format!("SIG{name}").parse().expect("the name of a signal");
        self.connect()?;
        self.process.signal(signal);
        Ok("sent".into())
    }

    /// Waits for a line that holds a phrase, and returns the line from there on.
    fn wait_for_line(&mut self, phrase: &str, read: impl Fn(&Play) -> String) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        // The last lines may still be on their way.
        let mut looks_after_the_end = 0;
        loop {
            let ended = self.process.has_ended();
            if let Some(line) = read(self).lines().find_map(|line| Some(&line[line.find(phrase)?..])) {
                return Ok(line.into());
            }
            if looks_after_the_end > 5 || Instant::now() > deadline {
                return Err(format!("no line says {phrase:?}"));
            }
            looks_after_the_end += usize::from(ended);
            thread::sleep(PAUSE);
        }
    }

    /// All lines by now; all at all, once the server has ended.
    fn whole(&mut self, stream: impl Fn(&Process) -> &Lines) -> String {
        let ended = self.process.has_ended();
        let lines = stream(&self.process);
        if ended { lines.whole() } else { lines.text() }
    }

    fn gone(&mut self, name: &str) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        while self.folder.join(name).exists() && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        Ok(if self.folder.join(name).exists() { "there" } else { "gone" }.into())
    }

    pub fn end(&mut self) -> String {
        if !ends_within(self.process.pid(), PATIENCE) {
            return "does not end".into();
        }
        match self.process.wait().code() {
            Some(0) => "ended well".into(),
            Some(_) => "ended with a status that says why".into(),
            None => "was killed".into(),
        }
    }

    /// The same on every run: without the names of this one.
    pub fn plain(&self, seen: &str) -> String {
        let folder = self.folder.path().display().to_string();
        seen.replace(&folder, "{folder}").replace(&self.port, "{port}")
    }
}

/// What a request looks like that is written as `GET /path | Field: value || body`.
fn request(step: &str) -> String {
    let (head, body) = step.split_once(" || ").unwrap_or((step, ""));
    let mut parts = head.split(" | ");
    let line = parts.next().unwrap_or_default();
    let fields: String = parts.map(|field| format!("{field}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{line} HTTP/1.1\r\nHost: test\r\n{fields}{length}Connection: close\r\n\r\n{body}")
}

fn see(expression: &str) -> String {
    let (expression, fields) = expression
        .split_once(" | ")
        .map_or((expression, String::new()), |(expression, fields)| (expression, format!(" | {fields}")));
    request(&format!("POST /see{fields} || {expression}"))
}

fn shown(answer: &Answer) -> String {
    let mut fields: Vec<String> = answer
        .fields
        .iter()
        .filter(|(name, _)| !OWN_FIELDS.contains(&name.to_ascii_lowercase().as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    fields.retain(|field| !field.to_ascii_lowercase().starts_with("content-length"));
    // The pages of the servers' own are not compared.
    let body = if answer.status >= 400 { "" } else { &String::from_utf8_lossy(&answer.body) };
    let fields = if answer.status >= 400 { String::new() } else { fields.join("; ") };
    format!("{} {} [{fields}] {}", answer.status, answer.reason, body.trim_end())
}

/// What follows a phrase in each line that holds it.
fn after_each(phrase: &str, text: &str) -> String {
    text.lines().filter_map(|line| Some(line.split_once(phrase)?.1)).collect::<Vec<_>>().join(" / ")
}

fn text(error: std::io::Error) -> String {
    error.kind().to_string()
}
