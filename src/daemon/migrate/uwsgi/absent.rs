//! The options of uWSGI that are no setting of ostler's: what each meant, and what to do instead.

use crate::options::nearest;

/// Every option of uWSGI 2.0 and its plugins.
const NAMES: &str = include_str!("names.txt");

/// Why an option is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// ostler does so without being told, or needs it not.
    Anyway(&'static str),
    /// There is nothing like it: what it did, and what to do.
    Absent(&'static str),
}

use Fate::{Absent, Anyway};

/// What becomes of an option of uWSGI; none if there is no such option.
pub fn fate(key: &str) -> Option<Fate> {
    let matches = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => key == *pattern,
    };
    let known = NAMES.split_whitespace().any(|name| name == key);
    let listed = FATES.iter().find(|(patterns, _)| patterns.iter().any(matches)).map(|(_, fate)| *fate);
    known.then(|| listed.unwrap_or(Absent("it is a part of uWSGI that ostler does not have")))
}

/// The option that was probably meant.
pub fn nearest_option(key: &str) -> Option<&'static str> {
    let dashed = key.replace('_', "-").to_ascii_lowercase();
    let carried = super::CARRIED.iter().copied();
    nearest(&dashed, carried).filter(|near| *near == dashed).or_else(|| nearest(&dashed, NAMES.split_whitespace()))
}

const TLS: Fate = Absent("it was about TLS; docs/tls.md says how that is here");
const STATIC: Fate = Absent("it chose how files are served; docs/static.md says how they are here");
const ROUTE: Fate = Absent("it routed or rewrote requests; nginx does that with location, rewrite, return and map");
const HEADER: Fate = Absent("it changed fields of responses; nginx does that with add_header and proxy_hide_header");
const TIMER: Fate = Absent("it started work by the clock; a systemd timer, or cron, does that outside of the site");
const TASKS: Fate = Absent(
    "it ran work beside the requests, by uWSGI's own Python module; a task queue such as Celery or RQ does that",
);
const OWN: Fate = Absent(
    "it belongs to uWSGI's own Python module, which does not exist under ostler: a cache such as Redis, or files, do that",
);
const DAEMON: Fate =
    Absent("it kept another program running; that is a unit of systemd of its own (Wants= ties them together)");
const EMPEROR: Fate = Absent(
    "it ran several sites; each is an instance of the unit ostler@.service, started, reloaded and stopped by itself",
);
const CLUSTER: Fate = Absent(
    "it told a router of uWSGI's of this site; a proxy's list of servers does that, and `ostler status --ready` is its check",
);
const HOOK: Fate = Absent(
    "it ran something at a moment of uWSGI's life; ExecStartPre=, ExecStartPost= and ExecReload= of the unit do that, or the application when it is imported",
);
const CHEAPER: Fate = Absent(
    "it changed the number of workers by load; two numbers do that here, the fewest and the most: workers = \"4..16\"",
);
const GREEN: Fate =
    Absent("it ran many requests in one thread; ostler has threads: say threads = 32, without monkey patching");
const SANDBOX: Fate = Absent(
    "it shut the processes in; the unit of systemd does that (RootDirectory=, PrivateTmp=, CapabilityBoundingSet= …)",
);
const LIMIT: Fate = Absent(
    "it set a limit of the system; the unit of systemd does that (LimitNOFILE=, LimitNPROC=, LimitAS=, MemoryMax=, Nice=, CPUAffinity=)",
);
const ROTATE: Fate =
    Absent("it rotated or moved the log; logrotate does that, with `ostler reopen` or USR1 as postrotate");
const LOG: Fate = Absent(
    "it sent or changed lines of the log; ostler writes to files or standard error, or with log-syslog to a syslog; log-format chooses the form of the error log",
);
const FILTER: Fate = Absent(
    "it chose which requests are logged; ostler's access log has all of them but those of access-log-skip and access-log-slow: filter it by the status, or in nginx (access_log … if=…)",
);
const TOUCH: Fate = Absent(
    "it reloaded when a file changed; say `ostler reload` (or HUP) where the file was touched; in development, reload with reload-extra-file watches it",
);
const AUTORELOAD: Fate =
    Absent("it left modules out of the watch for development; reload watches all that the site imported");
const STATS: Fate = Absent(
    "it told figures; metrics serves them to Prometheus, statsd-host sends them, `ostler status --json` prints them",
);
const OTHER_LANGUAGE: Fate = Absent("it is for another language or protocol than WSGI");
const ONE_APP: Fate = Absent(
    "it was about several applications in one process; ostler serves one, and each other one is a site of its own",
);
const LAST_RESORT: Fate = Absent("it looked after a special case of uWSGI's processes that ostler does not have");

/// From the special to the general: the first that matches counts.
const FATES: &[(&[&str], Fate)] = &[
    (&["master", "master-as-root"], Anyway("ostler always has a master, which stays root if root starts it")),
    (&["vacuum"], Anyway("ostler removes its sockets and its pid file")),
    (&["die-on-term", "exit-on-reload"], Anyway("TERM stops ostler, and HUP reloads it")),
    (&["enable-threads"], Anyway("threads of the application always run")),
    (
        &["single-interpreter", "need-app", "no-default-app"],
        Anyway("there is one application, in one interpreter, and a start without it fails"),
    ),
    (&["strict"], Anyway("ostler always refuses what it does not know")),
    (
        &["thunder-lock", "thunder-lock-watchdog", "reuse-port", "no-defer-accept"],
        Anyway("connections are spread over the workers that have time for them"),
    ),
    (&["auto-procname", "procname-append"], Anyway("ps shows the name, the generation and the slot of each process")),
    (
        &["post-buffering", "post-buffering-bufsize"],
        Anyway(
            "bodies are read before the application is called: up to body-memory (1m) in memory, larger ones in files",
        ),
    ),
    (
        &[
            "http-post-buffering*",
            "http-chunked-input",
            "wsgi-manage-chunked-input",
            "http-raw-body",
            "chunked-input-*",
        ],
        Anyway("bodies are read and taken out of their chunks before the application is called"),
    ),
    (
        &["py-call-osafterfork", "py-call-uwsgi-fork-hooks", "close-on-exec*", "skip-atexit*"],
        Anyway("workers are forked as Python wants it"),
    ),
    (
        &["ignore-sigpipe", "ignore-write-errors", "disable-write-exception", "write-errors-*"],
        Anyway("a client that leaves is no error; the access log says 499 or the bytes it got"),
    ),
    (
        &["harakiri-verbose", "py-tracebacker", "backtrace-depth"],
        Anyway(
            "a request that takes longer than timeout is logged with the stacks of all threads; `ostler stacks` shows them at any time",
        ),
    ),
    (
        &["harakiri-graceful-*"],
        Anyway("the client gets 504 and the stacks are in the log; the worker's other requests have graceful-timeout"),
    ),
    (
        &["harakiri*", "no-harakiri*", "http-harakiri"],
        Absent("it refined the time-out of requests; ostler has one for all, timeout"),
    ),
    (&["memory-report"], Anyway("`ostler status` shows the memory of each worker")),
    (&["no-orphans"], Anyway("workers end with their master")),
    (
        &["offload-thread", "offload-threads", "file-serve-mode", "fileserve-mode"],
        Anyway("no thread waits while a client takes a file or a slow response"),
    ),
    (&["log-date", "logdate", "log-micros", "log-prefix"], Anyway("each line of the log has its time")),
    (
        &["log-master*", "threaded-logger", "log-x-forwarded-for"],
        Anyway(
            "the master opens the logs, the workers write them, and the client is the one that a trusted proxy names",
        ),
    ),
    (
        &["http-keepalive", "so-keepalive", "tcp-nodelay", "http-auto-chunked", "http-manage-expect"],
        Anyway("HTTP/1.1 with persistent connections is spoken always"),
    ),
    (
        &["show-config", "dump-options", "binary-path", "autoload", "plugins-dir", "plugin-dir", "print", "iprint"],
        Anyway("`ostler settings` shows every value and where it came from; there are no plugins"),
    ),
    (&["manage-script-name"], Anyway("root-path says where the site is mounted, and paths are taken apart there")),
    (
        &[
            "reload-os-env",
            "honour-stdin",
            "wsgi-env-behavio*",
            "no-threads-wait",
            "start_response-nodelay",
            "wsgi-strict",
        ],
        Anyway("ostler has no counterpart and needs none: the environment of a generation is made anew"),
    ),
    (&["log-4xx", "log-5xx", "log-ioerror", "log-zero", "log-big", "log-sendfile"], FILTER),
    (&["log-maxsize", "log-truncate", "log-backupname", "log-reopen", "touch-logr*"], ROTATE),
    (
        &["logfile-ch*"],
        Absent(
            "it set owner or mode of the log; ostler opens it as root before it takes --user: create it beforehand, or in logrotate's create",
        ),
    ),
    (&["touch-exec", "touch-signal", "touch-mules*", "touch-spoolers*"], TASKS),
    (&["touch-*", "fs-*", "propagate-touch"], TOUCH),
    (&["py-auto-reload-ignore"], AUTORELOAD),
    (
        &["master-fifo"],
        Absent("it took commands of one letter; ostler has commands: reload, stop, scale, reopen, status, stacks"),
    ),
    (
        &[
            "stats*",
            "metric*",
            "memory-report",
            "snmp*",
            "carbon*",
            "rrdtool*",
            "enable-metrics",
            "statsd*",
            "zabbix*",
            "nagios",
            "http-stats*",
            "http-ss",
            "mem-collector-freq",
        ],
        STATS,
    ),
    (&["https*", "ssl-*", "sni*", "suwsgi-socket"], TLS),
    (
        &["static-map2"],
        Absent(
            "it served files, from the directory with the whole path behind it. In nginx: location /static/ { root /srv; } for static-map2 = /static=/srv",
        ),
    ),
    (
        &["check-static*", "static-check"],
        Absent(
            "it served files that exist; --static /=DIRECTORY looks there first, too. In nginx: root /srv/public; try_files $uri @site;",
        ),
    ),
    (
        &["static-expires*"],
        Absent("it set the age of static files; --static-max-age does here, for all of them; in nginx: expires 7d;"),
    ),
    (
        &["static-gzip*"],
        Absent("it served compressed files; --static does so whenever they are there; in nginx: gzip_static on;"),
    ),
    (&["static-*", "mime*", "honour-range"], STATIC),
    (&["http-auto-gzip"], Absent("it compressed responses; --compress does here, and in nginx: gzip on;")),
    (
        &["error-page*"],
        Absent("it showed pages for errors; in nginx: proxy_intercept_errors on; error_page 500 /500.html;"),
    ),
    (&["route*", "final-route*", "error-route*", "response-route*", "plshell*"], ROUTE),
    (&["add-header", "rem-header", "del-header", "collect-header", "pull-header", "response-header*"], HEADER),
    (
        &["http-websockets", "websocket*"],
        Absent("it passed WebSockets on; WSGI has none: an ASGI server beside this site does that"),
    ),
    (&["cron*", "unique-cron*", "legion-c*", "unique-legion*", "timer", "rbtimer", "curl-cron*", "cron-curl*"], TIMER),
    (&["spooler*", "mule*", "farm", "signal*", "rpc*"], TASKS),
    (
        &[
            "cache*",
            "add-cache*",
            "load-file-in-cache*",
            "queue*",
            "sharedarea",
            "py-sharedarea",
            "locks",
            "lock-engine",
            "check-cache",
            "persistent-ipcsem",
            "ftok",
        ],
        OWN,
    ),
    (&["attach-*", "smart-attach-*", "legion-attach-daemon", "legion-smart-attach*", "daemons-*"], DAEMON),
    (&["emperor*", "early-emperor", "vassal*", "imperial*", "zeus", "heartbeat", "weight", "auto-weight"], EMPEROR),
    (
        &[
            "subscri*",
            "unsubscribe*",
            "start-unsubscribed",
            "fastrouter*",
            "rawrouter*",
            "sslrouter*",
            "forkpty*",
            "http-subscription*",
            "http-use-*",
            "http-zerg",
            "http-resubscribe",
            "router*",
            "notify-socket",
            "zerg*",
            "fork-socket",
            "fork-server",
        ],
        CLUSTER,
    ),
    (&["legion*", "multicast*"], CLUSTER),
    (
        &[
            "exec-*",
            "call-*",
            "hook-*",
            "after-request-*",
            "mount-*",
            "umount-*",
            "print-sym*",
            "wait-for-*",
            "wait-i*",
            "file-write",
            "worker-mount",
            "worker-exec*",
        ],
        HOOK,
    ),
    (&["cheaper*", "cheap", "idle", "die-on-idle", "die-on-no-workers", "http-cheap", "re-fork*", "refork*"], CHEAPER),
    (
        &["async", "ugreen*", "asyncio", "greenlet", "stackless", "tornado", "fiber", "coroae", "loop", "gevent-*"],
        GREEN,
    ),
    (
        &[
            "chroot",
            "pivot*",
            "jail*",
            "namespace*",
            "ns",
            "ns-net",
            "unshare*",
            "cap",
            "cgroup*",
            "setns*",
            "libjail",
            "drop-after*",
        ],
        SANDBOX,
    ),
    (
        &[
            "limit-as",
            "limit-nproc",
            "max-fd",
            "prio",
            "cpu-affinity",
            "never-swap",
            "ksm",
            "reload-on-as",
            "evil-reload-on-as",
            "threads-stack*",
            "thread-stacksize",
        ],
        LIMIT,
    ),
    (
        &[
            "log-*",
            "logger*",
            "worker-logger*",
            "worker-log*",
            "alarm*",
            "listen-queue-alarm",
            "lq-alarm",
            "backlog-alarm",
            "segfault-alarm",
            "not-alarm-log",
            "not-log-alarm",
            "rsyslog*",
            "req-logger",
            "logger-list",
        ],
        LOG,
    ),
    (&["vhost*", "max-apps", "dynamic-apps", "mount", "no-site", "chdir2", "wsgi-lite"], ONE_APP),
    (
        &[
            "import",
            "pyimport",
            "py-import",
            "python-import",
            "shared-import",
            "shared-py*",
            "early-py*",
            "shared-python-import",
        ],
        Absent("it imported a module beside the application; import it in the application's module"),
    ),
    (
        &[
            "pymodule-alias",
            "post-pymodule-alias",
            "pyargv",
            "py-programname",
            "py-program-name",
            "py-executable",
            "py-sys-executable",
            "python-raw",
            "pyrun",
            "pyshell*",
            "eval",
        ],
        Absent("it changed how uWSGI loads Python; ostler runs the interpreter that python names, as it is"),
    ),
    (
        &["ini-paste*", "paste*", "pecan"],
        Absent(
            "it loaded an application from a Paste file. Write a module: from paste.deploy import loadapp; application = loadapp('config:/srv/site.ini'), and name it as app.",
        ),
    ),
    (
        &["envdir", "early-envdir"],
        Absent("it read variables from a directory; the unit of systemd has EnvironmentFile=, and ostler has env"),
    ),
    (&["unenv"], Absent("it removed a variable; UnsetEnvironment= of the unit does that")),
    (
        &["chown-socket"],
        Absent(
            "it gave the socket away; here everybody may connect unless umask says otherwise. Put it in a directory that only the proxy's group may enter, or make the proxy a member of group and say umask = \"007\".",
        ),
    ),
    (
        &["catch-exceptions", "exception-handler", "reload-on-exc*"],
        Absent(
            "it treated exceptions of the application; they are logged with their traceback, and the client gets 500",
        ),
    ),
    (
        &["reload-on-fd", "brutal-reload-on-fd", "min-worker-lifetime", "max-worker-lifetime-delta"],
        Absent(
            "it refined when a worker is replaced; ostler has max-requests, max-requests-jitter, max-age and max-memory",
        ),
    ),
    (
        &[
            "fastcgi*",
            "scgi*",
            "raw-*",
            "puwsgi*",
            "http-socket-mod*",
            "https-socket-mod*",
            "zmq*",
            "zeromq*",
            "mongrel2*",
            "udp",
            "shared-socket",
            "undeferred-*",
            "map-socket",
        ],
        Absent(
            "it spoke another protocol than HTTP; ostler speaks HTTP/1.1: say proxy_pass in nginx and `proxy` in Apache",
        ),
    ),
    (
        &[
            "http-to",
            "http-processes",
            "http-workers",
            "http-modifier*",
            "http-var",
            "http-events",
            "http-buffer-size",
            "http-gracetime",
            "http-quiet",
            "http-*",
            "httprouter",
        ],
        Absent("it was about uWSGI's HTTP router, a process before the workers; ostler's workers read HTTP themselves"),
    ),
    (
        &["so-*", "socket-*", "tcp-fast*", "freebind", "protocol", "abstract-socket"],
        Absent("it set an option of the sockets, which ostler sets itself"),
    ),
    (
        &[
            "php*",
            "rack*",
            "rails",
            "ruby*",
            "rb*",
            "psgi*",
            "perl*",
            "lua*",
            "jvm*",
            "mono*",
            "cgi*",
            "go-*",
            "gccgo*",
            "pypy*",
            "web3",
            "pump",
            "rvm*",
            "gem*",
            "jwsgi",
            "ring-*",
            "clojure-*",
        ],
        OTHER_LANGUAGE,
    ),
    (
        &[
            "help",
            "usage",
            "version",
            "stop",
            "reload",
            "pause",
            "suspend",
            "resume",
            "connect-and-read",
            "extract",
            "cflags",
            "dot-h",
            "config-py",
            "build-plugin",
            "get",
            "exit",
        ],
        Absent("it is for uWSGI's command line, and no setting: see `ostler --help`"),
    ),
    (
        &[
            "reaper",
            "forkbomb-delay",
            "use-abort",
            "check-interval",
            "max-vars",
            "skip-zero",
            "flock*",
            "binsh",
            "command-mode",
            "no-server",
        ],
        LAST_RESORT,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_about_options_that_exist() {
        for (patterns, fate) in FATES {
            for pattern in *patterns {
                let words = pattern.trim_matches('*');
                assert!(NAMES.split_whitespace().any(|name| name.contains(words)), "{pattern}: {fate:?}");
            }
        }
    }

    #[test]
    fn an_option_of_nobody_has_a_nearest_one() {
        assert_eq!((fate("wsgi_file"), nearest_option("wsgi_file")), (None, Some("wsgi-file")));
        assert_eq!((fate("procceses"), nearest_option("procceses")), (None, Some("processes")));
        assert_eq!((fate("quux"), nearest_option("ZEROCONF-register")), (None, None));
    }
}
