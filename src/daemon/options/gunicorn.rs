//! The settings of gunicorn that ostler has under no name of its own: what becomes of each. With [`super::SETTINGS`] the list is whole.

/// One of gunicorn's settings.
#[derive(Debug)]
pub struct Foreign {
    /// Its key in `gunicorn.conf.py`, with `-` for `_`.
    pub key: &'static str,
    /// Its flags without `--`, where they are not the key.
    pub flags: &'static [&'static str],
    /// Its flag of one letter.
    pub short: Option<char>,
    /// How it is said on the command line.
    pub form: Form,
    /// Values that say what holds anyway, as do those that Python takes for false.
    pub defaults: &'static [&'static str],
    /// What becomes of it.
    pub fate: Fate,
}

/// How one of gunicorn's settings is said on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `--flag VALUE`
    Value,
    /// `--flag`
    Flag,
    /// Not at all.
    FileOnly,
}

/// What becomes of a setting that ostler has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Taken, and does nothing. Nothing is lost, for this reason.
    Needless(&'static str),
    /// It is this value of one of our settings.
    Means(&'static str, &'static str),
    /// Python's: workers find it in the file.
    InWorkers,
    /// A hook of the workers: a function of the file, which they call.
    Hook,
    /// A hook of the master: a function of the file, which a process beside it calls.
    MasterHook,
    /// Refused: the site would be another one without it. This says what to do instead.
    Refused(&'static str),
}

impl Foreign {
    /// Its long flags, without `--`.
    pub fn flags(&self) -> &[&'static str] {
        match (self.form, self.flags) {
            (Form::FileOnly, _) => &[],
            (_, []) => std::slice::from_ref(&self.key),
            (_, flags) => flags,
        }
    }

    /// What it does when it has this value; none if that is its default.
    pub fn says(&self, value: &str) -> Option<Fate> {
        let default = ["", "0", "off", "false", "none"].contains(&value.to_ascii_lowercase().as_str());
        (!default && !self.defaults.contains(&value)).then_some(self.fate)
    }
}

/// The one of this key or flag; `_` and `-` are the same.
pub fn foreign(name: &str) -> Option<&'static Foreign> {
    let name = name.replace('_', "-");
    let is_it = |foreign: &&Foreign| {
        foreign.key == name
            || foreign.flags().contains(&name.as_str())
            || foreign.short.is_some_and(|letter| name == letter.to_string())
    };
    FOREIGN.iter().find(is_it)
}

/// Why there is no such setting, if it is one of gunicorn's. `name` has no dashes before it.
pub fn not_here(name: &str) -> Option<&'static str> {
    match foreign(name)?.fate {
        Fate::Refused(why) | Fate::Needless(why) => Some(why),
        Fate::Means(..) | Fate::InWorkers | Fate::Hook | Fate::MasterHook => None,
    }
}

/// What `--worker-class` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerClass {
    /// `sync` or `gthread`: with gunicorn too, `sync` and more than one thread is `gthread`, and here slow clients hold no thread in
    /// either.
    Threads,
    /// `gevent`, `eventlet` and their like: many requests at a time in one process.
    Green,
}

/// Reads `--worker-class`: a name, or the path of a class.
pub fn worker_class(word: &str) -> Result<WorkerClass, String> {
    let lower = word.to_ascii_lowercase();
    match word {
        "sync" | "gthread" | "gunicorn.workers.sync.SyncWorker" | "gunicorn.workers.gthread.ThreadWorker" => {
            Ok(WorkerClass::Threads)
        }
        "gevent" | "gevent_wsgi" | "gevent_pywsgi" | "eventlet" => Ok(WorkerClass::Green),
        _ if word.starts_with("gunicorn.workers.ggevent.") || word.starts_with("gunicorn.workers.geventlet.") => {
            Ok(WorkerClass::Green)
        }
        _ if ["asgi", "uvicorn", "aiohttp", "daphne", "hypercorn"].iter().any(|name| lower.contains(name)) => {
            Err("it is for ASGI, and ostler serves WSGI. Say sync, gthread or gevent for a WSGI application.".into())
        }
        _ if lower == "tornado" => Err("it is for applications of Tornado's own kind, and ostler serves WSGI".into()),
        _ => Err("ostler has one kind of worker. Say sync, gthread or gevent; what a class of your own does at the start of \
                  a worker can be done by the hooks post_fork, post_worker_init and worker_exit."
            .into()),
    }
}

const ASGI: Fate = Fate::Needless("it is about ASGI, and ostler serves WSGI");
const HTTP2: Fate = Fate::Needless("it is about HTTP/2, which gunicorn does not speak unless http_protocols says so");
const STRICT: Fate = Fate::Refused("requests are read as RFC 9112 has them, strictly");
const DIRTY: Fate = Fate::Refused("it has no dirty arbiters. A task queue such as Celery does such work.");
const HOOK: Fate =
    Fate::Refused("an upgrade executes the new program in the same process, and runs no Python before it");
const SSL_CONTEXT: Fate = Fate::Refused(
    "it has no SSLContext, because no process with Python has the key. --cert-reqs, --ca-certs and --ciphers say what it would.",
);

/// All of them.
pub const FOREIGN: &[Foreign] = &[
    // Processes.
    flag(
        "reuse-port",
        Fate::Needless("its workers share the listening sockets, and no request waits while one of them is idle"),
    ),
    value("worker-tmp-dir", Fate::Needless("its workers have no heartbeat file")),
    flag("initgroups", Fate::Needless("the supplementary groups are always those of --user")),
    Foreign {
        short: Some('R'),
        ..flag(
            "enable-stdio-inheritance",
            Fate::Needless("standard error is the error log unless --error-logfile says otherwise"),
        )
    },
    Foreign { flags: &["no-control-socket"], ..flag("control-socket-disable", Fate::Means("control", "off")) },
    key("default-proc-name", Fate::Needless("--name says what the processes are called")),
    flag("check-config", Fate::Refused("say `ostler check`")),
    flag("print-config", Fate::Refused("say `ostler settings`")),
    flag("spew", Fate::Refused("it does not trace. `ostler stacks` shows what the workers do.")),
    value("asgi-loop", ASGI),
    value("asgi-lifespan", ASGI),
    value("asgi-disconnect-grace-period", ASGI),
    value("websocket-max-message-size", ASGI),
    Foreign { flags: &["dirty-app"], ..value("dirty-apps", DIRTY) },
    value("dirty-workers", DIRTY),
    value("dirty-timeout", Fate::Needless("it is about dirty arbiters")),
    value("dirty-threads", Fate::Needless("it is about dirty arbiters")),
    value("dirty-graceful-timeout", Fate::Needless("it is about dirty arbiters")),
    // HTTP.
    Foreign {
        defaults: &["h1"],
        ..value("http-protocols", Fate::Refused("it speaks HTTP/1.1 only. Put a proxy before it."))
    },
    Foreign { defaults: &["off"], ..value("http2-cleartext", HTTP2) },
    value("http2-max-concurrent-streams", HTTP2),
    value("http2-initial-window-size", HTTP2),
    value("http2-max-frame-size", HTTP2),
    value("http2-max-header-list-size", HTTP2),
    value("http-parser", Fate::Needless("it has one parser, which is the fast one")),
    flag("permit-obsolete-folding", STRICT),
    flag("strip-header-spaces", STRICT),
    flag("permit-unconventional-http-method", STRICT),
    flag("permit-unconventional-http-version", STRICT),
    flag("casefold-http-method", STRICT),
    // Logs.
    key("logconfig-dict", Fate::InWorkers),
    // TLS.
    value(
        "ssl-version",
        Fate::Needless("TLS 1.3 and 1.2 are spoken, and gunicorn ignores it, too; --ciphers can leave TLS 1.2 out"),
    ),
    flag(
        "suppress-ragged-eofs",
        Fate::Needless("a connection that ends without close_notify is a client's that has left"),
    ),
    flag("do-handshake-on-connect", Fate::Needless("a handshake holds nobody, whenever it comes")),
    key("ssl-context", SSL_CONTEXT),
    // Hooks.
    key("on-starting", Fate::MasterHook),
    key("on-reload", Fate::MasterHook),
    key("when-ready", Fate::MasterHook),
    key("pre-fork", Fate::MasterHook),
    key("post-fork", Fate::Hook),
    key("post-worker-init", Fate::Hook),
    key("worker-int", Fate::Hook),
    key("worker-abort", Fate::Hook),
    key("pre-exec", HOOK),
    key("pre-request", Fate::Hook),
    key("post-request", Fate::Hook),
    key("child-exit", Fate::MasterHook),
    key("worker-exit", Fate::Hook),
    key("nworkers-changed", Fate::MasterHook),
    key("on-exit", Fate::MasterHook),
    key("on-dirty-starting", DIRTY),
    key("dirty-post-fork", DIRTY),
    key("dirty-worker-init", DIRTY),
    key("dirty-worker-exit", DIRTY),
];

const fn value(key: &'static str, fate: Fate) -> Foreign {
    Foreign { key, flags: &[], short: None, form: Form::Value, defaults: &[], fate }
}

const fn flag(key: &'static str, fate: Fate) -> Foreign {
    Foreign { form: Form::Flag, ..value(key, fate) }
}

const fn key(key: &'static str, fate: Fate) -> Foreign {
    Foreign { form: Form::FileOnly, ..value(key, fate) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SETTINGS;

    #[test]
    fn what_ostler_has_is_not_called_foreign() {
        for setting in SETTINGS {
            for name in setting.aliases.iter().chain([&setting.name]) {
                assert!(foreign(name).is_none(), "{name}");
            }
        }
        assert!(not_here("spew").is_some() && not_here("post_fork").is_none());
    }

    #[test]
    fn a_default_says_nothing() {
        assert_eq!(foreign("http_protocols").unwrap().says("h1"), None);
        assert!(foreign("http_protocols").unwrap().says("h1,h2").is_some());
        assert_eq!(foreign("spew").unwrap().says("off"), None);
        assert_eq!(foreign("no-control-socket").unwrap().says("on"), Some(Fate::Means("control", "off")));
    }

    #[test]
    fn worker_classes_have_a_plain_meaning_or_none() {
        assert_eq!(
            (worker_class("sync"), worker_class("gthread")),
            (Ok(WorkerClass::Threads), Ok(WorkerClass::Threads))
        );
        assert_eq!(worker_class("gunicorn.workers.ggevent.GeventWorker"), Ok(WorkerClass::Green));
        assert!(worker_class("cl.workers.UvicornWorker").unwrap_err().contains("ASGI"));
        assert!(worker_class("mine.Worker").unwrap_err().contains("post_fork"));
    }
}
