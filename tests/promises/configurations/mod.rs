//! Plays the configurations of tests/configurations on gunicorn and on ostler, and compares what was seen. The README there says what
//! their keys and steps mean.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use nix::sys::signal::Signal;
use ostler_tests::{Folder, Process, Python, built, repository};
use serde_json::{Map, Value};

use self::steps::{Play, Server};

mod steps;

const KEYS: [&str; 7] = ["name", "line", "files", "address", "steps", "shows", "differs"];
/// How many configurations are played at a time.
const AT_A_TIME: usize = 2;
/// What came of a configuration.
struct Played {
    /// Each step, and what was seen.
    seen: Vec<(String, String)>,
    /// What the server said, to be read by people.
    log: String,
}

/// Plays all configurations of a file, and fails with a list of what differs.
pub fn play_all(file: &str) {
    let text = fs::read_to_string(repository("tests/configurations").join(file)).expect("the file is there");
    let all: Value = toml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let wanted = std::env::var("CONFIGURATION").unwrap_or_default();
    let cases: Vec<&Value> = list(&all["case"]).iter().filter(|case| string(&case["name"]).contains(&wanted)).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(vec![]));
    // Made before the threads, which would wait for each other.
    environment_without_gunicorn();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    let (name, began) = (string(&case["name"]), Instant::now());
                    let compared = compare(case);
                    println!("{name}: {:.1?}", began.elapsed());
                    failures
                        .lock()
                        .expect("nobody panics with it")
                        .extend(compared.err().map(|why| format!("{name}: {why}")));
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics with it");
    assert!(failures.is_empty(), "{} of {} in {file}:\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}

fn compare(case: &Value) -> Result<(), String> {
    for key in case.as_object().expect("a case is a table").keys() {
        assert!(KEYS.contains(&key.as_str()), "{}: no such key: {key}", case["name"]);
    }
    let (theirs, ours) = thread::scope(|scope| {
        let gunicorn = scope.spawn(|| play(case, Server::Gunicorn));
        (gunicorn.join().expect("it was played"), play(case, Server::Ostler))
    });
    let mut wrong: Vec<String> = vec![];
    let all: String = theirs.seen.iter().map(|(step, seen)| format!("{step}: {seen}\n")).collect();
    for text in list(&case["shows"]).iter().map(string).filter(|text| !all.contains(text)) {
        wrong.push(format!("gunicorn does not show {text:?}"));
    }
    let mut declared: Vec<&Value> = list(&case["differs"]).iter().collect();
    for ((step, theirs), (_, ours)) in theirs.seen.iter().zip(&ours.seen) {
        let expected = declared.iter().position(|differs| differs["step"] == **step).map(|at| declared.remove(at));
        match expected {
            None if theirs != ours => wrong.push(format!("{step}\n  gunicorn: {theirs}\n  ostler:   {ours}")),
            Some(_) if theirs == ours => wrong.push(format!("{step}\n  does not differ any more: {ours}")),
            Some(differs) if !ours.contains(string(&differs["ostler"])) => {
                wrong.push(format!("{step}\n  declared: {}\n  ostler:   {ours}", differs["ostler"]));
            }
            Some(differs) => assert!(!string(&differs["why"]).is_empty(), "{step}: no reason is given"),
            None => (),
        }
    }
    assert!(declared.is_empty(), "{}: no such step: {declared:?}", case["name"]);
    assert!(!list(&case["shows"]).is_empty(), "{}: it has to say what gunicorn shows", case["name"]);
    if !wrong.is_empty() || std::env::var("CONFIGURATION").is_ok() {
        println!("=== {}\n--- gunicorn\n{}\n--- ostler\n{}", case["name"], theirs.log, ours.log);
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("\n  {}", wrong.join("\n  "))) }
}

fn play(case: &Value, server: Server) -> Played {
    let folder = Folder::new();
    let port = free_port().to_string();
    let here = folder.path().display().to_string();
    let fill =
        |text: &str| text.replace("{port}", &port).replace("{folder}", &here).replace("{long}", &"x".repeat(3000));
    folder.write("app.py", &fs::read_to_string(repository("tests/apps/seen.py")).expect("it is there"));
    for (name, content) in case["files"].as_object().unwrap_or(&Map::new()) {
        let path = folder.write(name, &fill(string(content)));
        if string(content).starts_with("#!") {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it was just written");
        }
    }
    let address = fill(case["address"].as_str().unwrap_or("127.0.0.1:{port}"));
    let mut command = shell(&fill(string(&case["line"])), server, &folder);
    let process = Process::start(&mut command, &here);
    let mut play = Play { server, folder, port: port.clone(), address, process };
    let mut seen = vec![];
    for step in list(&case["steps"]).iter().map(string) {
        let observed = play.step(&fill(step)).unwrap_or_else(|why| why);
        seen.push((step.into(), play.plain(&observed)));
    }
    if seen.iter().all(|(step, _)| step != "end") {
        if !play.process.has_ended() {
            play.process.signal(Signal::SIGTERM);
        }
        seen.push(("the end".into(), play.end()));
    }
    let log = [play.process.log.text(), play.process.output.text()].join("\n--- standard output\n");
    Played { seen, log }
}

/// The line as it would stand in a Procfile, with the one word replaced for ostler.
fn shell(line: &str, server: Server, folder: &Folder) -> Command {
    let of_ostler = || {
        let is_it = |word: &str| word == "gunicorn" || word.ends_with("/gunicorn");
        let words: Vec<&str> = line.split(' ').map(|word| if is_it(word) { "ostler" } else { word }).collect();
        words.join(" ")
    };
    let (line, environment) = match server {
        Server::Gunicorn => (line.to_string(), Python::usual().environment().path.clone()),
        Server::Ostler => (of_ostler(), environment_without_gunicorn().to_path_buf()),
    };
    let line = if line.contains("exec ") { line } else { format!("exec env {line}") };
    let programs = built("ostler");
    let path = [folder.join("bin"), environment.join("bin"), programs.parent().expect("target/PROFILE").into()];
    let path = path.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(folder.path()).stdin(Stdio::null()).env_clear();
    command.env("PATH", format!("{path}:/usr/bin:/bin")).env("LANG", "C.UTF-8");
    command.env("OSTLER_CONTROL", folder.join("control.sock"));
    command.env("HOME", folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    command
}

/// The environment of the tests without gunicorn, which people remove when they move.
fn environment_without_gunicorn() -> &'static Path {
    static MADE: OnceLock<(Folder, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let whole = &Python::usual().environment().path;
        let folder = Folder::new();
        let path = folder.join("venv");
        copy_by_links(whole, &path).expect("a private folder is writable");
        (folder, path)
    });
    path
}

fn copy_by_links(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let text = name.to_string_lossy();
        let on_the_way = ["bin", "lib", "site-packages"].contains(&&*text) || text.starts_with("python3.");
        match on_the_way && path.is_dir() {
            true => copy_by_links(&path, &to.join(&name))?,
            false if text.starts_with("gunicorn") => (),
            false => symlink(&path, to.join(&name))?,
        }
    }
    Ok(())
}

/// A port below those that the system gives to clients.
fn free_port() -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() as u16).wrapping_mul(64);
    loop {
        let port = 12_000 + start.wrapping_add(COUNT.fetch_add(1, Relaxed)) % 18_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
