//! What gunicorn has and ostler has not, and what to do instead. For those who come from there.

/// Why there is no such setting, if it is one of gunicorn's. `name` has no dashes before it; `_` and `-` are the same.
pub fn not_here(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    let matches = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == **pattern,
    };
    ABSENT.iter().find(|(patterns, _)| patterns.iter().any(matches)).map(|(_, why)| *why)
}

/// Reads `--worker-class`. Both names that are taken change nothing: with gunicorn too, `sync` and more than one thread
/// is `gthread`, and here slow clients hold no thread in either.
pub fn worker_class(word: &str) -> Result<(), String> {
    match word {
        "sync" | "gthread" => Ok(()),
        _ if word == "asgi" || word.contains("uvicorn") => Err("ostler serves WSGI only".into()),
        _ => {
            Err("ostler has one kind of worker, called sync or gthread. Leave the option out and say --threads.".into())
        }
    }
}

const HOOKS: &[&str] = &[
    "on-starting",
    "on-reload",
    "when-ready",
    "pre-*",
    "post-*",
    "worker-int",
    "worker-abort",
    "child-exit",
    "worker-exit",
    "nworkers-changed",
    "on-exit",
    "ssl-context",
];

const TLS: &[&str] = &[
    "keyfile",
    "certfile",
    "ssl-version",
    "cert-reqs",
    "ca-certs",
    "suppress-ragged-eofs",
    "do-handshake-on-connect",
    "ciphers",
];

const ABSENT: &[(&[&str], &str)] = &[
    (&["check-config"], "say `ostler check`"),
    (&["print-config"], "say `ostler settings`"),
    (
        &["reload", "reload-*"],
        "it does not watch files. `ostler reload`, or HUP, brings new code without losing a request.",
    ),
    (&["reuse-port"], "its workers share the listening sockets, and no request waits while one of them is idle"),
    (&["worker-tmp-dir"], "its workers have no heartbeat file. Leave the option out."),
    (&["initgroups"], "the supplementary groups are always those of --user. Leave the option out."),
    (&["no-control-socket", "control-socket-disable"], "say --control=off"),
    (&["R", "enable-stdio-inheritance"], "standard error is the error log unless --error-logfile says otherwise"),
    (&["spew"], "it does not trace. `ostler stacks` shows what the workers do."),
    (&["asgi-*", "websocket-*", "dirty-*", "on-dirty-*"], "it serves WSGI only"),
    (&["http-protocols", "http2-*", "protocol", "uwsgi-*"], "it speaks HTTP/1.1 only. Put a proxy before it."),
    (TLS, "it does not speak TLS. Put a proxy before it."),
    (
        &["http-parser", "permit-*", "strip-header-spaces", "casefold-*"],
        "requests are read as RFC 9112 has them, strictly",
    ),
    (
        &["forwarder-headers", "secure-scheme-headers"],
        "use --forwarded-fields for what --forwarded-allow-ips are believed about",
    ),
    (
        &["log-config*", "logconfig*", "logger-class", "log-syslog*", "syslog*", "disable-redirect-access-to-syslog"],
        "it writes to files or standard error. journald and the like take it from there.",
    ),
    (&["statsd-*", "dogstatsd-tags", "enable-backlog-metric"], "it sends no metrics. `ostler status --json` has them."),
    (&["paste", "paster", "paste-global", "raw-paste-global-conf"], "name the application as module:attribute"),
    (HOOKS, "it runs no Python but the application"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SETTINGS;

    #[test]
    fn what_ostler_has_is_not_called_absent() {
        for setting in SETTINGS {
            for name in setting.aliases.iter().chain([&setting.name]) {
                assert_eq!(not_here(name), None, "{name}");
            }
        }
        assert!(not_here("post_fork").is_some());
    }

    #[test]
    fn worker_classes_have_a_plain_meaning_or_none() {
        assert_eq!((worker_class("sync"), worker_class("gthread")), (Ok(()), Ok(())));
        assert!(worker_class("gevent").unwrap_err().contains("--threads"));
        assert!(worker_class("uvicorn.workers.UvicornWorker").unwrap_err().contains("WSGI only"));
    }
}
