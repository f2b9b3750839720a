//! Files in the proportions of public repositories: what comes of each, and that ostler takes it.

use std::{collections::BTreeMap, path::PathBuf};

use super::*;
use crate::{
    exit::Exit,
    options::{Texts, read_text},
};

/// Files and variables that exist nowhere else.
#[derive(Default)]
struct Paper {
    files: BTreeMap<PathBuf, String>,
    variables: BTreeMap<String, String>,
}

impl Machine for Paper {
    fn directory(&self) -> &std::path::Path {
        "/srv/shop".as_ref()
    }

    fn text(&self, path: &std::path::Path) -> Result<String, Failure> {
        let missing = || Failure::usage(format!("could not read {}: no such file", path.display()));
        self.files.get(path).cloned().ok_or_else(missing)
    }

    fn is_file(&self, path: &std::path::Path) -> bool {
        self.files.contains_key(path)
    }

    fn is_directory(&self, path: &std::path::Path) -> bool {
        self.files.keys().any(|file| file.parent() == Some(path))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

impl Paper {
    fn with(files: &[(&str, &str)]) -> Paper {
        let files = files.iter().map(|(name, text)| (PathBuf::from("/srv/shop").join(name), (*text).to_owned()));
        Paper { files: files.collect(), variables: BTreeMap::from([("HOME".into(), "/home/shop".into())]) }
    }
}

/// The page, and what ostler reads in it.
fn migrated(paper: &Paper, file: &str) -> (String, Texts) {
    let text = migrate(paper, file).unwrap_or_else(|failure| panic!("{failure}"));
    let read = read_text(&text).unwrap_or_else(|why| panic!("{why}:\n{text}"));
    (text, read)
}

/// A uwsgi.ini, the settings that come of it, and what is said besides.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const CASES: &[Case] = &[
    // Django behind nginx over a socket, as many tutorials have it.
    (
        "chdir = /srv/shop\nmodule = shop.wsgi\nhome = /srv/venv\nmaster = true\nprocesses = 10\nsocket = /run/shop.sock\nvacuum = true",
        &[
            ("app", "shop.wsgi:application"),
            ("chdir", "/srv/shop"),
            ("python", "/srv/venv"),
            ("workers", "10"),
            ("bind", "uwsgi://unix:/run/shop.sock"),
            ("server-header", ""),
            ("timeout", "0"),
        ],
        &["nginx keeps uwsgi_pass", "line 5: master = true: ostler always has a master"],
    ),
    // Flask in a container.
    (
        "wsgi-file = app.py\ncallable = app\nhttp-socket = :5000\nmaster = 1\nprocesses = 4\nthreads = 2\ndie-on-term = true",
        &[("app", "app.py:app"), ("bind", ":5000"), ("workers", "4"), ("threads", "2"), ("access-logfile", "-")],
        &["die-on-term = true: TERM stops ostler"],
    ),
    (
        "module = shop:app\nhttp = 0.0.0.0:8080\nmaster\nprocesses = 2",
        &[("app", "shop:app"), ("bind", "0.0.0.0:8080")],
        &["TERM reloaded uWSGI"],
    ),
    // Nothing but a socket.
    (
        "socket = 127.0.0.1:3031\nwsgi-file = shop.py",
        &[("workers", "1"), ("timeout", "0"), ("bind", "uwsgi://127.0.0.1:3031")],
        &["There was no master", "uWSGI had one process", "nginx keeps uwsgi_pass"],
    ),
    ("socket = :3031\nmodule = shop", &[("bind", "uwsgi://:3031")], &["named by uwsgi-allow-from"]),
    (
        "socket = /tmp/%n.sock\nprotocol = http\nmodule = shop",
        &[("bind", "unix:/tmp/uwsgi.sock")],
        &["protocol = http: it set an option of the sockets"],
    ),
    (
        "socket = a.sock\nchmod-socket = 664\nuid = www-data\ngid = www-data\nmodule = shop:app",
        &[("umask", "002"), ("user", "www-data"), ("group", "www-data")],
        &["It holds for the files of the application as well."],
    ),
    (
        "socket = a.sock\nchmod-socket = 666\nmodule = shop",
        &[("bind", "uwsgi://unix:a.sock")],
        &["chmod-socket = 666: everybody may connect"],
    ),
    (
        "socket = a.sock\nchmod-socket = 660\nchown-socket = shop:www-data\nmodule = shop",
        &[("umask", "007")],
        &["chown-socket = shop:www-data: it gave the socket away"],
    ),
    // Limits.
    (
        "module = shop\nharakiri = 30\nbuffer-size = 65535\nmax-requests = 5000\nmax-requests-delta = 10\nprocesses = 3\nreload-on-rss = 512\nlisten = 1024\nsocket-timeout = 65\nhttp-timeout = 90\nmax-worker-lifetime = 3600\nworker-reload-mercy = 60\npost-buffering = 8192\nlimit-post = 1048576",
        &[
            ("timeout", "30"),
            ("limit-request-head", "65535"),
            ("limit-request-line", "0"),
            ("limit-request-field-size", "0"),
            ("max-requests", "5000"),
            ("max-requests-jitter", "30"),
            ("max-memory", "512M"),
            ("backlog", "1024"),
            ("body-timeout", "90"),
            ("write-timeout", "90"),
            ("max-age", "3600"),
            ("graceful-timeout", "60"),
            ("limit-request-body", "1048576"),
        ],
        &["post-buffering = 8192: bodies are read before", "socket-timeout = 65: http-timeout counts"],
    ),
    // Logs.
    (
        "module = shop\ndaemonize = /var/log/uwsgi/shop.log\npidfile = /run/shop.pid\ndisable-logging = true\nlog-4xx = true\nlog-5xx = true",
        &[("daemon", "on"), ("error-logfile", "/var/log/uwsgi/shop.log"), ("pid", "/run/shop.pid")],
        &["disable-logging = true: there is no access log", "log-4xx = true: it chose which requests are logged"],
    ),
    (
        "module = shop\nlogto = /var/log/shop.log\nlog-maxsize = 1000000\nlogger = syslog:shop",
        &[("error-logfile", "/var/log/shop.log"), ("access-logfile", "/var/log/shop.log")],
        &["log-maxsize = 1000000: it rotated", "logger = syslog:shop: it sent or changed lines"],
    ),
    (
        "module = shop\nreq-logger = file:/var/log/requests.log\nlogger = file:/var/log/errors.log\nlog-format = %(addr) [%(ltime)] \"%(method) %(uri)\" %(status) %(core)\nlog-slow = 500",
        &[
            ("access-logfile", "/var/log/requests.log"),
            ("error-logfile", "/var/log/errors.log"),
            ("access-logformat", "%(h)s %(t)s \"%(m)s %({RAW_URI}e)s\" %(s)s -"),
            ("slow-request", "500ms"),
        ],
        &["There is no %(core); - stands in its place."],
    ),
    // Variables of the file and of the environment.
    (
        "project = shop\nbase = /srv/%(project)\nchdir = %(base)\nhome = $(HOME)/venv\nmodule = %(project).wsgi:application\nsocket = %(base)/%(project).sock\nprocesses = %(cores * 2)\ncores = 2",
        &[
            ("chdir", "/srv/shop"),
            ("python", "/home/shop/venv"),
            ("app", "shop.wsgi:application"),
            ("bind", "uwsgi://unix:/srv/shop/shop.sock"),
            ("workers", "4"),
        ],
        &[
            "home = $(HOME)/venv was read with HOME of the environment",
            "line 2: project = shop: its value stands where it was named",
        ],
    ),
    (
        "chdir = %d\npidfile = %dshop.pid\nprocname-prefix-spaced = shop\nmodule = shop\nenv = A=1\nenv = B=b=c\nenv = A=2",
        &[("chdir", "/srv/shop/"), ("pid", "/srv/shop/shop.pid"), ("name", "shop")],
        &["A = \"2\"", "B = \"b=c\""],
    ),
    (
        "module = shop\nprocesses = $(WORKERS)\nthreads = $(THREADS:-4)",
        &[("workers", "1"), ("threads", "4")],
        &["processes = $(WORKERS): the variable WORKERS is not set here"],
    ),
    (
        "if-env = HOME\nmodule = shop\nendif =\nif-not-env = HOME\nprocesses = 8\nelse =\nprocesses = 2\nendif =\nif-file = nothing.py\nthreads = 8\nendif\nfor = a b\npythonpath = /srv/%(_)\nendfor =",
        &[("app", "shop:application"), ("workers", "2"), ("pythonpath", "/srv/a /srv/b")],
        &[
            "processes = 8 is left out: there is a variable HOME here",
            "if-file = nothing.py was asked here and now, and does not hold",
            "threads = 8 is left out",
        ],
    ),
    // What belongs to others.
    (
        "module = shop\nstatic-map = /static=/srv/static\nstatic-map2 = /media=/srv\nstatic-expires-type-mtime = image/png=86400\nadd-header = X-Frame-Options: DENY\nroute = ^/old redirect:/new\noffload-threads = 2",
        &[],
        &[
            "location /static { alias /srv/static; }",
            "location /media { root /srv; }",
            "expires 7d;",
            "add_header",
            "offload-threads = 2: no thread waits",
        ],
    ),
    (
        "module = shop\ncron = 0 0 -1 -1 -1 /bin/backup\nspooler = /srv/spool\nmule = worker.py\nattach-daemon = celery -A shop worker\nhook-master-start = exec:date\ncheaper = 2\ncheaper-initial = 2\nstats = 127.0.0.1:9191\nmaster-fifo = /run/fifo\ntouch-reload = /srv/shop/reload\npy-autoreload = 1",
        &[("reload", "on")],
        &[
            "a systemd timer",
            "Celery or RQ",
            "a unit of systemd of its own",
            "ExecStartPre=",
            "workers = \"4..16\"",
            "`ostler status --json`",
            "say `ostler reload` (or HUP)",
        ],
    ),
    (
        "module = shop\nplugins = python3\nplugin = http,gevent\ngevent = 500\ngevent-monkey-patch = true\nhttp-websockets = true\nasync = 10",
        &[("threads", "64")],
        &[
            "plugins = python3: Python and HTTP need no plugin",
            "what gevent did is missing",
            "an ASGI server",
            "gevent's many requests are threads here",
        ],
    ),
    (
        "mount = /shop=shop.wsgi:app\nmount = /blog=blog:app\nmanage-script-name = true\nhttp = :80\nvhost = true",
        &[("app", "shop.wsgi:app"), ("root-path", "/shop")],
        &["mount = /blog=blog:app: ostler serves one application; start another"],
    ),
    (
        "wsgi-file = /srv/shop/django.wsgi\nhttp-socket = 127.0.0.1:9000\nlazy-apps = true\nneed-app\nsingle-interpreter = true\nenable-threads = true\nstrict = true\nthunder-lock = true\nauto-procname\nmemory-report = true\nno-orphans = true\nharakiri-verbose = true",
        &[("preload", "off"), ("app", "/srv/shop/django.wsgi:application")],
        &[
            "ln -s /srv/shop/django.wsgi /srv/shop/django_wsgi.py",
            "need-app: there is one application",
            "strict = true: ostler always refuses",
        ],
    ),
    (
        "module = shop\nwsgi_file = x.py\nproceses = 4\nZEROCONF-register = 1\nmax-fd = 10000\nsni = b.example b.crt,b.key\nsubscribe-to = 127.0.0.1:4000:x\nunsubscribe-on-graceful-reload = 1\nmaster = false",
        &[("workers", "1")],
        &[
            "wsgi_file = x.py: it did nothing; the nearest option is wsgi-file",
            "proceses = 4: it did nothing; the nearest option is processes",
            "ZEROCONF-register = 1: it did nothing",
            "LimitNOFILE=",
            "it was about TLS",
            "There was no master",
        ],
    ),
    (
        "module = shop\nhttps = :443,a.crt,a.key,HIGH,!ca.crt\nhttp-to-https = :80",
        &[
            ("certfile", "a.crt"),
            ("keyfile", "a.key"),
            ("ca-certs", "ca.crt"),
            ("cert-reqs", "required"),
            ("redirect-https", "on"),
        ],
        &["bind = [\"https://:443\", \"http://:80\"]", "The list of ciphers (HIGH) is left out"],
    ),
    (
        "callable = app\npaste = config:/srv/a.ini\nvirtualenv = venv\nmodule-x = 1",
        &[("python", "venv")],
        &["No application is named", "from paste.deploy import loadapp"],
    ),
];

#[test]
fn each_file_becomes_one_that_ostler_takes() {
    for (body, expected, said) in CASES {
        let paper = Paper::with(&[("uwsgi.ini", &format!("[uwsgi]\n{body}\n"))]);
        let (text, read) = migrated(&paper, "uwsgi.ini");
        for (name, value) in *expected {
            let texts = read.get(name).unwrap_or_else(|| panic!("{body}\nhas no {name}:\n{text}"));
            assert_eq!(texts.join(" "), *value, "{name} of {body}\n{text}");
        }
        let flowing = flowing(&text);
        for part in *said {
            assert!(flowing.contains(part), "{part:?} of {body}\n{text}");
        }
    }
    assert!(CASES.len() >= 20);
}

/// Comments without the ends of their lines.
fn flowing(text: &str) -> String {
    text.replace("\n#   ", " ")
}

#[test]
fn every_line_is_found_again() {
    for (body, ..) in CASES {
        let (text, _) = migrated(&Paper::with(&[("uwsgi.ini", &format!("[uwsgi]\n{body}\n"))]), "uwsgi.ini");
        for (index, line) in body.lines().enumerate() {
            let closes = ["end", "else"].iter().any(|word| line.starts_with(word)) || line.starts_with("for");
            assert!(closes || text.contains(&format!("uwsgi.ini, line {}:", index + 2)), "{line} of {body}\n{text}");
        }
    }
}

#[test]
fn a_file_may_include_others_and_name_a_section() {
    let paper = Paper::with(&[
        ("conf/site.ini", "[uwsgi]\nini = base.ini\nprocesses = 3\nini = :more\n[more]\nthreads = 5\n"),
        ("conf/base.ini", "[uwsgi]\nmodule = %n\nyaml = more.yaml\n"),
        ("conf/more.yaml", "uwsgi:\n  harakiri: 7\n  env:\n    - A=1\n    - B=2\n"),
        ("loop.ini", "[uwsgi]\nini = loop.ini\n"),
    ]);
    let (text, read) = migrated(&paper, "conf/site.ini");
    for (name, value) in
        [("workers", "3"), ("threads", "5"), ("app", "base:application"), ("timeout", "7"), ("env", "A=1 B=2")]
    {
        assert_eq!(read[name].join(" "), value, "{text}");
    }
    assert_eq!(migrated(&paper, "conf/site.ini:more").1["threads"], ["5"]);
    assert!(migrate(&paper, "loop.ini").unwrap_err().message.contains("include each other"));
}

#[test]
fn yaml_and_json_are_read_as_ini_is() {
    let paper = Paper::with(&[
        ("a.yaml", "uwsgi:\n  module: shop\n  processes: 3\n  master: true\n"),
        ("a.json", "{\"uwsgi\": {\"module\": \"shop\", \"processes\": 3, \"master\": true}}"),
        ("a.ini", "[uwsgi]\nmodule = shop\nprocesses = 3\nmaster = true\n"),
    ]);
    let [yaml, json, ini] = ["a.yaml", "a.json", "a.ini"].map(|file| migrated(&paper, file).1);
    assert!(yaml == ini && json == ini);
}

#[test]
fn what_cannot_be_is_refused_with_file_line_and_key() {
    for (body, expected) in [
        ("processes = many", "uwsgi.ini, line 2: processes: \"many\": expected a whole number"),
        ("\nprocesses = 0", "uwsgi.ini, line 3: processes: \"0\": expected at least 1"),
        ("chmod-socket = 8", "uwsgi.ini, line 2: chmod-socket: \"8\": expected three octal digits, such as 660"),
        ("ini = none.ini", "could not read /srv/shop/none.ini: no such file"),
    ] {
        let refusal = migrate(&Paper::with(&[("uwsgi.ini", &format!("[uwsgi]\n{body}"))]), "uwsgi.ini").unwrap_err();
        assert_eq!((refusal.message.as_str(), refusal.exit), (expected, Exit::Usage));
    }
    let refusal = migrate(&Paper::with(&[("tox.ini", "[tox]\na = 1")]), "tox.ini").unwrap_err();
    assert_eq!(refusal.message, "tox.ini: there is no section [uwsgi]; it has [tox]");
}

#[test]
fn a_socket_is_a_listener_for_the_uwsgi_protocol() {
    let paper = Paper::with(&[("uwsgi.ini", "[uwsgi]\nmodule = shop\nsocket = :3031\nsocket = /run/a.sock")]);
    let page = translate(&paper, "uwsgi.ini").unwrap();
    assert_eq!(page.settings["bind"].texts, ["uwsgi://:3031", "uwsgi://unix:/run/a.sock"]);
    let text = page.text();
    assert!(text.contains("nginx keeps uwsgi_pass") && text.contains("uwsgi-allow-from"), "{text}");
    let local = Paper::with(&[("uwsgi.ini", "[uwsgi]\nmodule = shop\nsocket = 127.0.0.1:3031")]);
    assert!(!translate(&local, "uwsgi.ini").unwrap().text().contains("uwsgi-allow-from"));
}
