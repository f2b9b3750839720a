//! What a template and its workers are told, from what was typed.

use std::{env, path::Path};

use ostler_wire::{
    self as wire,
    access_format::{AccessFormat, Unreadable, json},
};

use super::{directory, log_level, name, parse, path, program::python_logs, static_files};
use crate::{
    exit::Failure,
    options::{Options, WorkerClass, nearest, worker_class},
};

/// As many requests of one worker may wait at a time where green threads were asked for.
const GREEN_THREADS: u32 = 64;

/// What a template is told; the master fills in what only it knows.
pub fn boot(options: &mut Options, application: String, chdir: &Path, workers: u16) -> Result<wire::Boot, Failure> {
    Ok(wire::Boot {
        application,
        chdir: chdir.into(),
        pythonpath: options.list("pythonpath", |text| path(chdir, text))?,
        preload: match options.choice("preload")?.as_str() {
            "on" => wire::Preload::On,
            "off" => wire::Preload::Off,
            _ => wire::Preload::Auto,
        },
        warm_up: options.optional("warm-up", str::parse)?,
        reload: reload(options, chdir)?,
        workers,
        process_name: options.value("name", name)?,
        log_level: log_level(options)?.as_str().to_ascii_lowercase(),
        worker: worker(options, chdir)?,
        ..wire::Boot::default()
    })
}

/// What the peers of each listener are believed.
pub fn trust(options: &mut Options) -> Result<wire::Trust, Failure> {
    Ok(wire::Trust {
        forwarded_allow: parse::peers(options.list("forwarded-allow-ips", parse::peer)?),
        forwarded_fields: options.list("forwarded-fields", parse::forwarded_field)?,
        secure_schemes: secure_schemes(options)?,
        forwarder_headers: options.list("forwarder-headers", forwarder_header)?,
        proxy_protocol: options.choice("proxy-protocol")? != "off",
        proxy_allow: parse::peers(options.list("proxy-allow-from", parse::peer)?),
        uwsgi_allow: parse::peers(options.list("uwsgi-allow-from", parse::peer)?),
    })
}

/// What gunicorn calls an empty dict is the word `none` here.
fn secure_schemes(options: &Options) -> Result<Option<Vec<(String, String)>>, Failure> {
    if options.given("secure-scheme-headers").texts == ["none"] {
        return Ok(Some(Vec::new()));
    }
    let field = |text: &str| match parse::pair(text)? {
        (name, _) if !is_field_name(&name) => Err(format!("{name:?} is no name of a header field")),
        (name, value) => Ok((name, header_value(&value)?)),
    };
    let schemes = options.list("secure-scheme-headers", field)?;
    Ok((!schemes.is_empty()).then_some(schemes))
}

fn forwarder_header(text: &str) -> Result<String, String> {
    match text == "*" || is_field_name(text) {
        true => Ok(text.to_ascii_uppercase()),
        false => Err("expected the name of a header field, or *".into()),
    }
}

/// RFC 9110 section 5.6.2
fn is_field_name(text: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(token)
}

fn worker(options: &mut Options, chdir: &Path) -> Result<wire::WorkerSettings, Failure> {
    if !options.is_given("spool-directory") {
        options.found("spool-directory", env::temp_dir().to_string_lossy());
    }
    let threads = threads(options)?;
    let any = || parse::count(0..=u64::MAX);
    let max_requests = options.value("max-requests", any())?;
    Ok(wire::WorkerSettings {
        threads,
        timeout: options.value("timeout", parse::duration)?,
        slow_request: options.value("slow-request", parse::duration)?,
        keep_alive: options.value("keep-alive", parse::duration)?,
        header_timeout: options.value("header-timeout", parse::duration)?,
        body_timeout: options.value("body-timeout", parse::duration)?,
        write_timeout: options.value("write-timeout", parse::duration)?,
        min_rate: options.value("min-rate", parse::size)?,
        connections: options.value("worker-connections", parse::count(0..=u32::MAX.into()))?,
        max_queue_time: options.value("max-queue-time", parse::duration)?,
        max_requests,
        max_requests_jitter: options.value("max-requests-jitter", any())?,
        max_memory: options.value("max-memory", parse::size)?,
        max_age: options.value("max-age", parse::duration)?,
        refork: refork(options, max_requests)?,
        graceful_timeout: options.value("graceful-timeout", parse::duration)?,
        limit_request_line: options.value("limit-request-line", parse::small_size)?,
        limit_request_fields: options.value("limit-request-fields", parse::count(0..=32768))?,
        limit_request_field_size: options.value("limit-request-field-size", parse::small_size)?,
        limit_request_head: options.value("limit-request-head", head_size)?,
        limit_request_body: options.value("limit-request-body", parse::size)?,
        request_buffering: options.switch("request-buffering")?,
        body_memory: options.value("body-memory", parse::size)?,
        spool_directory: options.value("spool-directory", |text| directory(chdir, text))?,
        spool_limit: options.value("spool-limit", parse::size)?,
        root_path: options.value("root-path", root_path)?,
        header_map: match options.choice("header-map")?.as_str() {
            "refuse" => wire::HeaderMap::Refuse,
            "dangerous" => wire::HeaderMap::Dangerous,
            _ => wire::HeaderMap::Drop,
        },
        request_id: match options.choice("request-id")?.as_str() {
            "on" => wire::RequestId::On,
            "response" => wire::RequestId::Response,
            _ => wire::RequestId::Off,
        },
        access_log_format: match python_logs(options) {
            true => AccessFormat::default(),
            false => access_format(options)?,
        },
        access_log_filter: wire::access_format::AccessFilter {
            skip: options.list("access-log-skip", str::parse)?,
            slow: options.value("access-log-slow", parse::duration)?,
        },
        server_header: options.value("server-header", header_value)?,
        generation_header: options.value("generation-header", generation_header)?,
        redirect_https: options.switch("redirect-https")?,
        redirect_port: options.optional("redirect-port", parse::count(1..=u16::MAX.into()))?,
        hsts: options.value("hsts", parse::duration)?,
        sendfile: options.switch("sendfile")?,
        static_files: static_files::static_files(options, chdir)?,
        sendfile_roots: static_files::sendfile_roots(options, chdir)?,
        compression: compression(options)?,
        strict_application: options.switch("strict-application")?,
    })
}

fn compression(options: &Options) -> Result<Option<wire::CompressionSettings>, Failure> {
    let settings = wire::CompressionSettings {
        types: options.list("compress-types", parse::media_range)?,
        least: options.value("compress-min-size", parse::size)?,
    };
    Ok(options.switch("compress")?.then_some(settings))
}

/// Refuses what Python, where it writes the access log, would not obey.
pub fn access_log_is_ours(options: &Options) -> Result<(), Failure> {
    let ours = [
        ("access-log-skip", options.is_given("access-log-skip")),
        ("access-log-slow", options.is_given("access-log-slow")),
        ("access-logformat", AccessFormat::is_json(&options.given("access-logformat").texts.concat())),
    ];
    match ours.iter().find(|(_, given)| python_logs(options) && *given) {
        Some((name, _)) => {
            Err(options.failure(name, "", "Python writes the access log, as --log-config or --logger-class says"))
        }
        None => Ok(()),
    }
}

fn access_format(options: &mut Options) -> Result<AccessFormat, Failure> {
    let format = options.value("access-logformat", read_access_format)?;
    if format.is_constant() {
        let text = options.given("access-logformat").texts.concat();
        let word = text.split(':').next().unwrap_or_default();
        let hint = match nearest(&word.to_ascii_lowercase(), ["json"].into_iter()) {
            Some(near) => format!("Did you mean {near}?"),
            None => "`ostler help access-logformat` lists what there is.".into(),
        };
        let mistake = options.failure(
            "access-logformat",
            &text,
            &format!("there is no %(atom)s in it, so that each line would be the same. {hint}"),
        );
        match options.gunicorn {
            Some(_) => options.suspicious.push(mistake.message),
            None => return Err(mistake),
        }
    }
    Ok(format)
}

fn read_access_format(text: &str) -> Result<AccessFormat, String> {
    text.parse().map_err(|unreadable| match &unreadable {
        Unreadable::Field(name) => match nearest(name, json::FIELDS.iter().map(|(known, _)| *known)) {
            Some(near) => format!("{unreadable}. Did you mean {near}?"),
            None => format!("{unreadable}. `ostler --help` lists them."),
        },
        Unreadable::Other(why) => why.clone(),
    })
}

/// `--reload` and what goes with it. The word `inotify` says what `auto` does.
fn reload(options: &Options, chdir: &Path) -> Result<Option<wire::FilesWatched>, Failure> {
    let extra = options.list("reload-extra-file", |text| path(chdir, text))?;
    let literal = |file: &&std::path::PathBuf| !file.to_string_lossy().contains(['*', '?', '[']);
    if let Some(missing) = extra.iter().filter(literal).find(|file| !file.exists()) {
        return Err(options.failure("reload-extra-file", &missing.to_string_lossy(), "there is no such file"));
    }
    let extra = extra.iter().map(|file| file.to_string_lossy().into()).collect();
    let poll = options.choice("reload-engine")? == "poll";
    Ok(options.switch("reload")?.then_some(wire::FilesWatched { poll, extra, shows_failure: false }))
}

/// After how many requests a worker is warm; zero for never. A worker that `--max-requests` replaces is so before that.
fn refork(options: &Options, max_requests: u64) -> Result<u32, Failure> {
    let requests = options.value("refork", |text| match text {
        "auto" if max_requests > 0 => Ok(wire::WARM.min(u32::try_from(max_requests / 2).unwrap_or(u32::MAX))),
        "auto" => Ok(wire::WARM),
        "off" => Ok(0),
        _ => parse::count(1..=u32::MAX.into())(text).map_err(|_| "expected auto, off or a number of requests".into()),
    })?;
    let shares = options.choice("preload")? != "off" && !options.switch("reload")?;
    Ok(if shares { requests } else { 0 })
}

/// What users of green workers want is that many requests can wait at a time: each has a thread.
fn threads(options: &mut Options) -> Result<u16, Failure> {
    if let Some(library) = options.patched.clone() {
        options.found("threads", "1");
        options.understood.push(format!(
            "{library} has replaced Python's threads (monkey patching): each worker serves one request at a time. \
             Without it, the same code is served by many threads."
        ));
        return Ok(1);
    }
    let green = options.value("worker-class", worker_class)? == WorkerClass::Green;
    if green && !options.is_given("threads") {
        let class = options.given("worker-class").texts[0].clone();
        let bound = options.value("worker-connections", parse::count(0..=u32::MAX.into()))?;
        let threads = if bound == 0 { GREEN_THREADS } else { GREEN_THREADS.min(bound) };
        options.found("threads", threads.to_string());
        options.understood.push(format!("worker class {class}: each worker serves with {threads} threads"));
    }
    options.value("threads", parse::count(1..=1024))
}

/// The head is held in memory until it is whole, so this is the one limit that cannot be off.
fn head_size(text: &str) -> Result<u32, String> {
    let size = parse::small_size(text)?;
    match (1024..=16 << 20).contains(&size) {
        true => Ok(size),
        false => Err("expected a size from 1k to 16M".into()),
    }
}

/// `SCRIPT_NAME` of PEP 3333: empty, or begins with a slash and ends with none.
fn root_path(text: &str) -> Result<String, String> {
    let text = parse::line(text)?;
    let path = text.trim_end_matches('/');
    match path.is_empty() || path.starts_with('/') {
        true => Ok(path.into()),
        false => Err("expected a path that begins with /".into()),
    }
}

/// Fields that say where a response ends, what becomes of its connection, or what is the server's own by another option.
const SPOKEN_FOR: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

fn generation_header(text: &str) -> Result<String, String> {
    match text {
        "" => Ok(String::new()),
        name if !is_field_name(name) => Err("expected the name of a header field".into()),
        name if SPOKEN_FOR.contains(&name.to_ascii_lowercase().as_str()) => {
            Err("this field has a meaning of its own; X-Ostler-Generation has none".into())
        }
        name => Ok(name.into()),
    }
}

/// RFC 9110 section 5.5, without obs-text.
fn header_value(text: &str) -> Result<String, String> {
    match text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) && text.trim() == text {
        true => Ok(text.into()),
        false => Err("expected plain ASCII characters".into()),
    }
}
