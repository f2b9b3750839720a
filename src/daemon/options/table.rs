//! Every setting, once. The order is that of the help.

use ostler_wire::access_format;

use super::{Kind, Preset, Setting};

/// The headings of the help.
pub const GROUPS: [&str; 10] = [
    "Basics",
    "Processes",
    "Requests",
    "Limits",
    "TLS",
    "Proxies",
    "Responses",
    "Logs",
    "Metrics",
    "Names, files and users",
];

const BASICS: usize = 0;
const PROCESSES: usize = 1;
const REQUESTS: usize = 2;
const LIMITS: usize = 3;
const TLS: usize = 4;
const PROXIES: usize = 5;
const RESPONSES: usize = 6;
const LOGS: usize = 7;
const METRICS: usize = 8;
const NAMES: usize = 9;

/// What is worth compressing, of what applications answer with.
const COMPRESSED_TYPES: &str = "text/*,application/json,application/*+json,application/javascript,application/xml,application/*+xml,\
                                application/yaml,application/wasm,image/svg+xml,font/ttf,font/otf";

/// Every setting.
pub static SETTINGS: &[Setting] = &[
    one(BASICS, "app", "APP", "What to serve: module, module:attribute, module:factory() or path/to/file.py")
        .alias(&["wsgi-app"])
        .common()
        .more(
            "MODULE is imported with the working directory first on sys.path. The attribute may have dots; a factory \
             may have literal arguments, as in shop:make_app('production', debug=False). Without an attribute, \
             `application` is tried and then `app`. A file is written with its path: deploy/shop.py:app.",
        ),
    one(BASICS, "config", "FILE", "Read settings from this file: TOML, or Python as gunicorn has it")
        .short('c')
        .found("ostler.toml in the directory of the start, or else gunicorn.conf.py there")
        .common()
        .more(
            "Keys are the long options without their dashes, `-` or `_` as you like: graceful-timeout = \"2m\". \
             Options that may be repeated take an array. The command line is stronger than the environment (OSTLER_…), \
             the environment is stronger than the file. A reload reads the file again; what happens without an operator, such as \
             the recovery of a lost template, goes on with the settings in force. An ostler.toml that appears after the start \
             is not read. A file that ends in .py, `file:PATH` and `python:MODULE` are Python programs, with gunicorn's keys and hooks: the site's \
             interpreter runs them. `program:COMMAND` is a program that embeds gunicorn: what stands behind `python` to start it, as in \
             'program:serve.py --port 80' or 'program:-m shop.serve'. With --user, the file and the directories above it may be writable neither by that user nor by everybody.",
        ),
    one(BASICS, "paste", "FILE#NAME", "Serve the application NAME, or main, of this file of Paste Deploy")
        .alias(&["paster"])
        .more(
            "As with gunicorn: the application comes from there, and with a [loggers] section so does the configuration of Python's logging. \
             [server:main] is not read; `pserve FILE` reads it, with `use = egg:ostler`. Needs PasteDeploy in the site's environment. \
             On the command line or in the environment only.",
        ),
    pairs(BASICS, "paste-global", "KEY=VALUE", "Set a variable of the file of --paste, as if it stood in [DEFAULT]; may be repeated")
        .alias(&["raw-paste-global-conf"])
        .more("As with --paste, in no settings file."),
    many(BASICS, "bind", "ADDRESS", "Listen on host:port, :port, [v6]:port, unix:path, unix:@name, fd://N or systemd")
        .short('b')
        .preset("127.0.0.1:8000")
        .foreign("PORT")
        .common()
        .more(
            "May be repeated. `uwsgi://` before an address: the uwsgi protocol is spoken there, as by nginx's uwsgi_pass; `http://`: HTTP; `https://`: \
             HTTP within TLS, which is what an address of TCP speaks without a word in front where there is a --certfile. A host without a port means port 8000; `:port` means every address of IPv6 and IPv4, and so does \
             [::]:port unless 0.0.0.0:port is named, too. `unix:@name` is a socket without a file. With PORT in the environment and no \
             address given, it is 0.0.0.0:$PORT; with sockets passed by systemd and no address given, it is those. `systemd` names \
             all of these, systemd:NAME those with that FileDescriptorName=, and without one the start fails.",
        ),
    one(BASICS, "workers", "COUNT", "Worker processes, as in 4, or as many as the load needs, as in 4..16")
        .short('w')
        .found("the CPUs that this process may use by affinity and cgroup quota, at least 2")
        .foreign("WEB_CONCURRENCY")
        .common()
        .more(
            "At most 512. With 4..16 there are 4 at first, more as soon as requests wait and no worker is idle, and fewer when they have not been \
             needed for --shrink-after: docs/elastic.md says by what rule. `ostler scale` changes the number or the range while the site runs, up to \
             the same bound, until the next reload.",
        ),
    one(BASICS, "threads", "COUNT", "Python threads of each worker that call the application")
        .preset("1")
        .common()
        .more("With 1, every call is made on the interpreter's main thread."),
    one(BASICS, "python", "PATH", "The interpreter, or the directory of a virtual environment")
        .found("VIRTUAL_ENV, then .venv beside the application, then the environment that ostler is installed in, then python3 on PATH")
        .common()
        .more(
            "Any CPython from 3.10 on. Each reload looks at the path again, through its symbolic links, so that a site \
             moves to another Python or another virtual environment by a reload.",
        ),
    one(BASICS, "chdir", "DIRECTORY", "Change to this directory first").found("the directory of the start").common().more(
        "It is first on sys.path, and every other relative path counts from there, except that of --config. A \
             symbolic link in it is followed anew by each reload.",
    ),
    many(BASICS, "pythonpath", "DIRECTORIES", "Put these on sys.path as well, separated by commas"),
    pairs(BASICS, "env", "KEY=VALUE", "Set a variable of the application's environment; may be repeated")
        .short('e')
        .alias(&["raw-env"])
        .common()
        .more("In OSTLER_ENV one stands on each line; in the file it may be a table: env = { KEY = \"value\" }."),
    one(PROCESSES, "shrink-after", "TIME", "With --workers 4..16: how long workers are needless before they go; 0 to keep them")
        .preset("30")
        .more("They go one at a time, as by `ostler scale -1`: never one that is in a call, and not while a reload is under way or a release is judged."),
    choice(PROCESSES, "preload", &["auto", "on", "off"], Some("on"), "Import the application before forking workers")
        .alias(&["preload-app"])
        .preset("auto")
        .more(
            "`auto` does so unless the import leaves something behind that processes must not share (threads, sockets, \
             files open for writing); the log names it then. A reload brings the new code with each of them.",
        ),
    lines(PROCESSES, "smoke", "REQUEST", "Have a new generation answer this before it serves anybody; may be repeated").more(
        "[METHOD ]TARGET[=STATUS][ TEXT]. TARGET is a path, or a URL that says scheme and host, too: applications look at them. STATUS is what \
         has to come, such as 200, or a class, such as 2xx; without it, 2xx or 3xx. TEXT has to be in the body, of which the first MiB is \
         looked at. As in /health=200, 'GET https://shop.example/cart=200 Checkout', 'HEAD /'. When all workers of a start, a reload or a \
         roll-back are ready, one of them answers each request in its turn, on a connection that no client has: whatever it is answered \
         otherwise, or not within --smoke-timeout, discards the generation, and the one that served goes on. A first start ends with code 15, \
         and so does `ostler reload`. \
         A target that has a = of its own in its path or its last parameter is followed by a STATUS, as in /page?id=200=2xx. In \
         OSTLER_SMOKE each request stands on a line of its own. Smoke tests are not counted as requests, and not in the access log; their \
         User-Agent begins with ostler-smoke/.",
    ),
    one(PROCESSES, "smoke-timeout", "TIME", "How long each request of --smoke may take").preset("30").more(
        "More than 0: without a bound, a reload could wait for ever. --timeout holds for smoke tests, too: where it is less, a call that hangs is \
         told as an answer of 504.",
    ),
    one(PROCESSES, "canary", "SHARE", "Have a reload begin with this share of the workers, beside the old generation").more(
        "A share such as 25%, or a number of workers; some have to be left. The old generation keeps the others, all accept from the same \
         sockets, and connections stay where they are. After --canary-time, or at once by `ostler promote`, the rest follow. `ostler rollback` \
         takes the canary back, as does another reload when that has come up. `ostler reload --canary SHARE` and \
         `--no-canary` say otherwise for once; `ostler reload --wait` waits until it is promoted or taken back, and ends with 16 if it was worse.",
    ),
    one(PROCESSES, "canary-time", "TIME", "How long a canary serves before the rest follow; 0 to wait for `ostler promote`").preset("300"),
    one(PROCESSES, "watch", "TIME", "Go back if a new generation is worse within this time after it has taken over; 0 not to watch").preset("0").more(
        "60 s are a good beginning. Worse means: more crashes, time-outs, failed requests (5xx, or an answer that is broken off) or slow ones than the old generation had \
         in its last hour, beyond chance (docs/deploying.md says how that is judged). The site goes back once; what was worse is not \
         booted again unless somebody asks for a reload. Needs --keep-previous. `ostler reload --wait` waits for the end of it.",
    ),
    switch(PROCESSES, "ready-after-watch", "off", "Do not be ready while a canary or a new generation is still judged").more(
        "For `ostler status --ready` and /health?ready, so that a fleet takes its time with each machine. A site that has gone back is ready, too: \
         `ostler reload --wait` tells whether the new release has stayed.",
    ),
    one(PROCESSES, "warm-up", "REQUEST", "Ask the application for this page before forking workers").more(
        "What a first request loads is then shared by all workers, which saves memory, and none of them is slow to give \
         its first answer. A path is enough; a whole URL says the host, too, for applications that look at it: \
         http://shop.example.com/. It is a request as that of --smoke, but nothing is expected of its answer: --smoke tests what is forked, \
         --warm-up loads what is shared. Not asked where each worker imports for itself (see --preload). With --reload, an exception that it \
         meets counts as code that does not come up.",
    ),
    one(PROCESSES, "worker-class", "WORD", "Taken for gunicorn's users: sync and gthread mean the same, gevent means many threads")
        .short('k')
        .preset("gthread")
        .more(
            "There is one kind of worker. It has as many threads as --threads says, and slow clients hold none of them. gevent, \
             gevent_pywsgi and eventlet ask for 64 threads, but for no more than --worker-connections, unless --threads says otherwise. \
             Classes for ASGI are refused.",
        ),
    switch(PROCESSES, "reload", "off", "Reload when a file of the site changes, for development").more(
        "Each worker looks at the files of the modules that it has imported, and at those of --reload-extra-file. A change is a reload like \
         any other: if the new code does not come up, the log says why, and the old code serves on, but for page loads (GET or HEAD whose \
         Accept names text/html): these are answered 500 with the traceback, until a change mends it. A start with code that does not come \
         up waits for that change, and answers everything so. Whoever reaches the site reads those tracebacks.",
    ),
    choice(PROCESSES, "reload-engine", &["auto", "inotify", "poll"], None, "How --reload learns of changes")
        .preset("auto")
        .more("`auto` and `inotify` have the kernel tell of them, and look once a second as well, because not every file system tells; `poll` only looks."),
    many(PROCESSES, "reload-extra-file", "FILES", "Files or patterns that --reload looks at beside the modules")
        .alias(&["reload-extra-files"]),
    one(PROCESSES, "boot-timeout", "TIME", "How long an import, and then each worker's start, may take")
        .preset("2m")
        .more("A reload that takes longer is given up, and the running generation goes on. 0 for no bound."),
    one(PROCESSES, "timeout", "TIME", "How long a request may stay in the application; 0 for no bound")
        .short('t')
        .preset("30")
        .common()
        .more(
            "When it passes, the log gets the request and the Python stacks of all threads, the client gets 504 if \
             nothing was sent yet, and that worker is replaced.",
        ),
    one(PROCESSES, "slow-request", "TIME", "Log the Python stacks of a request that takes longer; 0 for never")
        .preset("0")
        .more(
            "Once for each such request, with its id. The call is not disturbed, unless the interpreter lock cannot be had within 100 ms, \
             because code in C keeps it: then the stacks are taken by a signal, the log says so, and a system call that waits may end early.",
        ),
    one(PROCESSES, "graceful-timeout", "TIME", "How long the requests of a worker that stops may take to finish")
        .preset("30")
        .common(),
    one(PROCESSES, "drain-delay", "TIME", "Go on accepting for this long after a TERM")
        .preset("0")
        .more(
            "For load balancers that need a while to take a server off their list. `ostler status --ready` fails from the TERM on, and \
             each answer ends its connection. --graceful-timeout counts from the end of this delay.",
        ),
    switch(PROCESSES, "keep-previous", "on", "Do not keep the last generation ready for `ostler rollback`"),
    one(PROCESSES, "max-requests", "COUNT", "Replace a worker after this many requests; 0 for never").preset("0"),
    one(PROCESSES, "max-requests-jitter", "COUNT", "Add up to this many requests, at random for each worker, so that not all are replaced at once")
        .preset("0"),
    one(PROCESSES, "max-memory", "SIZE", "Replace a worker that has more private memory; 0 for never")
        .preset("0")
        .more("Measured over several samples. The replacement is ready first, and one worker is replaced at a time."),
    one(PROCESSES, "max-age", "TIME", "Replace a worker after this time; 0 for never").preset("0"),
    one(PROCESSES, "refork", "auto|off|REQUESTS", "Share what a worker has loaded after this many requests; auto: 1000, or half of --max-requests")
        .preset("auto")
        .more(
            "That worker hands its connections over, becomes the template, and the others are replaced one at a time by forks of it, once and \
             again after ten times as many requests. Where it holds what must not be shared (a thread, a socket, a file open for writing), the \
             log names that, and all stays as it is. A reload of a site at work does it after ten requests, before the new generation takes over. Not done by --preload=off, --reload and a single worker, nor while anything else is under way.",
        ),
    one(PROCESSES, "max-queue-time", "TIME", "Answer 503 to a request that waited longer for a thread (on TCP, the listener's queue included); 0 for never")
        .preset("0"),
    one(REQUESTS, "keep-alive", "TIME", "How long a connection may idle between requests; 0 closes after each")
        .alias(&["keepalive"])
        .preset("75")
        .more("Longer than the 60 s of common load balancers, so that they close idle connections first."),
    one(REQUESTS, "header-timeout", "TIME", "How long a client may take to send a request's head; 0 for no bound")
        .preset("20"),
    one(REQUESTS, "body-timeout", "TIME", "How long a client may pause within a request's body; 0 for no bound")
        .preset("30"),
    one(REQUESTS, "write-timeout", "TIME", "How long a client may pause in taking a response; 0 for no bound")
        .preset("60"),
    one(REQUESTS, "min-rate", "SIZE", "Give up a body or response that is slower than this many bytes a second; 0 for no bound")
        .preset("240"),
    switch(REQUESTS, "request-buffering", "on", "Call the application before the body has arrived")
        .more(
            "Then wsgi.input waits for the client, and 100-continue is sent at the first read. Reading a body that is too large, \
             malformed or late raises OSError. If the application does not answer then, the client gets 413, 400 or 408.",
        ),
    one(REQUESTS, "body-memory", "SIZE", "Keep a body of up to this size in memory, a larger one in a file")
        .preset("1m")
        .more(
            "All bodies of a worker that are in memory take no more than 32 times as much together. What finds no room there goes to \
             a file, too, if it is larger than 64 KiB.",
        ),
    one(REQUESTS, "spool-directory", "DIRECTORY", "Where large bodies are kept, in files without a name")
        .alias(&["tmp-upload-dir"])
        .found("TMPDIR, or /tmp"),
    one(REQUESTS, "spool-limit", "SIZE", "The most bytes of bodies that one worker keeps in files; 0 for no bound")
        .preset("4g")
        .more(
            "It counts bodies of requests, and responses that clients are slow to take. Above it a body gets 503, or 413 if it \
             would not fit alone, and an application waits for its clients. A response beyond 64 MiB that its client has still \
             to take makes the application wait in any case; that wait counts against --min-rate and --write-timeout, not \
             against --timeout.",
        ),
    one(REQUESTS, "root-path", "PATH", "The path that the site is mounted at: SCRIPT_NAME")
        .preset("")
        .foreign("SCRIPT_NAME")
        .more("Paths outside of it get 404. A proxy that takes it off the path may say so in X-Forwarded-Prefix instead (see --forwarded-fields)."),
    choice(REQUESTS, "header-map", &["drop", "refuse", "dangerous"], None, "What to do with header names that hold _")
        .preset("drop")
        .more(
            "Such a name would become the same key of environ as one with `-`: `drop` leaves the field out, `refuse` \
             answers 400, `dangerous` passes it on.",
        ),
    one(LIMITS, "limit-request-line", "SIZE", "The longest request line; 0: only --limit-request-head bounds it").preset("8190"),
    one(LIMITS, "limit-request-fields", "COUNT", "The most header fields of a request; 0: only --limit-request-head bounds them")
        .preset("100"),
    one(LIMITS, "limit-request-field-size", "SIZE", "The longest header field; 0: only --limit-request-head bounds it")
        .preset("8190"),
    one(LIMITS, "limit-request-head", "SIZE", "The longest head of a request: its request line and all of its fields").preset("64k"),
    one(LIMITS, "limit-request-body", "SIZE", "The largest body of a request; 0 for no bound").preset("0"),
    one(LIMITS, "worker-connections", "COUNT", "The most connections of one worker; 0 for no bound").preset("10000").more(
        "No more than seven eighths of what `ulimit -n` leaves; the rest is for spool files. Where there is no room, the connection \
         that has idled longest between two requests is closed for a new one.",
    ),
    one(LIMITS, "backlog", "COUNT", "The most connections that may wait to be accepted").preset("2048"),
    lines(TLS, "certfile", "FILE", "The site's certificate and those that have signed it, as PEM; may be repeated").more(
        "The site's own stands first, as in a fullchain.pem. Of several, clients have the one that is for the name they ask for, or else the first. \
         Key and certificate are checked before anybody is served by them, and the files are watched: renewed ones are used without a reload, \
         and ones that do not fit leave the old ones in use, which the log says. docs/tls.md tells more. In OSTLER_CERTFILE and \
         OSTLER_KEYFILE each stands on a line of its own.",
    ),
    lines(TLS, "keyfile", "FILE", "The key of each --certfile, in the same order; without it, keys stand in the certificates' files").more(
        "PEM of PKCS#8, PKCS#1 or SEC1, not encrypted. No process that runs Python reads it: the key keeper does, a process of its own that \
         signs for the workers. It reads as the user that starts ostler; started by root, it then becomes a user of its own (65530).",
    ),
    one(TLS, "ca-certs", "FILE", "Who signs the certificates of clients, as PEM"),
    one(TLS, "cert-reqs", "WORD", "Whether clients show a certificate: none, optional or required; 0, 1 and 2 mean the same")
        .preset("none")
        .more(
            "With --ca-certs, by whose authorities they are checked: one that is no good ends the handshake. What it says is in environ as mod_ssl \
             has it, SSL_CLIENT_S_DN and so on. Then there are no session tickets.",
        ),
    one(TLS, "ciphers", "LIST", "The cipher suites by OpenSSL's or IANA's names, best first, separated by colons")
        .more(
            "Without it all that there are: AES-GCM and ChaCha20-Poly1305, in TLS 1.2 with ECDHE. A list without suites of TLS 1.3 leaves those as they are, as with OpenSSL; one with nothing else means that TLS 1.2 is not spoken. \
             Groups such as HIGH are not known: there is no weak one.",
        ),
    switch(TLS, "redirect-https", "off", "Answer what comes to http:// addresses of TCP with a redirect to https://")
        .more("301 for GET and HEAD, 308 for what has a body, to the same host and path. The application is not asked."),
    one(TLS, "redirect-port", "PORT", "The port that --redirect-https names, if not that of the first https:// address")
        .more("Where clients reach the site by another port than it is bound to, as behind a container's ports."),
    one(TLS, "hsts", "TIME", "Have browsers come by https:// for so long: Strict-Transport-Security; 0 for not at all")
        .preset("0")
        .more("As in 365d. Sent with what goes out by TLS, unless the application sends its own. Browsers keep to it whatever the site says later."),
    many(PROXIES, "forwarded-allow-ips", "PEERS", "Proxies whose --forwarded-fields are believed")
        .preset("127.0.0.1,::1,unix:")
        .foreign("FORWARDED_ALLOW_IPS")
        .more("Addresses, networks (10.0.0.0/8), `unix:` for whoever comes by a Unix socket, or `*` for everybody."),
    choice(PROXIES, "request-id", &["off", "on", "response"], Some("on"), "Give each request an id, which the application and both logs have")
        .preset("off")
        .more(
            "It is what a peer of --forwarded-allow-ips sends in X-Request-ID, if that is up to 64 letters, digits and +-./:=@_; or else the trace id of that peer's \
             traceparent; or else one that is made: 32 hexadecimal digits. The application finds it in HTTP_X_REQUEST_ID; what others send there is \
             kept from it. It is request_id in an access log of JSON, %({x-request-id}i)s in gunicorn's format, request_id in the lines of the error log that \
             are about a request, and behind the request in `ostler status` and where a worker is lost. `response` sends it to the client, too, in \
             X-Request-ID, unless the application does.",
        ),
    many(PROXIES, "forwarded-fields", "FIELDS", "Which fields of those proxies are believed")
        .preset("x-forwarded-for,x-forwarded-proto")
        .more(
            "The list replaces the default. It may name x-forwarded-for, -proto, -protocol, -ssl, -host, -port, -prefix, \
             forwarded and x-request-start. Name only what each of these proxies sets itself or takes out of its clients' requests: in a field that it passes on unchanged, a client may claim anything. A field that is not named does not change REMOTE_ADDR, the scheme, the host or the \
             path; from such a proxy it reaches the application all the same, which may have a setting for it (Django's \
             USE_X_FORWARDED_HOST). From everybody else, Forwarded and every X-Forwarded-… field are kept from the application. From x-request-start (t=1512379167.574 of nginx, or a number of \
             seconds, milliseconds or microseconds) a request's queue_time is told in the access log; a proxy whose clock is ahead counts as one that had it just now, and what is \
             more than an hour ago as none.",
        ),
    pairs(PROXIES, "secure-scheme-headers", "FIELD=VALUE", "Fields of those proxies that tell the scheme, and their values for https")
        .more(
            "gunicorn's secure_scheme_headers; in the file it may be a table. Any other value means http, and a request in which two of \
             them disagree gets 400. They take the place of X-Forwarded-Proto, -Protocol and -Ssl in --forwarded-fields. `none`, or an \
             empty dict in gunicorn.conf.py: no field tells the scheme.",
        ),
    many(PROXIES, "forwarder-headers", "FIELDS", "Fields with an underscore in their names that those proxies set themselves")
        .more(
            "They reach the application whatever --header-map says, and SCRIPT_NAME is the path that the site is mounted at. `*` means all, `none` or an empty text none. \
             Where gunicorn's configuration is in force and does not say otherwise, they are gunicorn's: SCRIPT_NAME,PATH_INFO.",
        ),
    choice(PROXIES, "proxy-protocol", &["off", "auto", "v1", "v2"], Some("auto"), "Expect a PROXY header, version 1 or 2")
        .preset("off")
        .more("From the peers of --proxy-allow-from, who must then send one; from nobody else. `auto`, `v1` and `v2` mean the same."),
    many(PROXIES, "proxy-allow-from", "PEERS", "Who sends the PROXY header")
        .alias(&["proxy-allow-ips"])
        .preset("127.0.0.1,::1")
        .more("Written as for --forwarded-allow-ips."),
    choice(PROXIES, "protocol", &["http", "uwsgi"], None, "What is spoken where --bind does not say it")
        .preset("http"),
    many(PROXIES, "uwsgi-allow-from", "PEERS", "Who may speak the uwsgi protocol")
        .alias(&["uwsgi-allow-ips"])
        .preset("127.0.0.1,::1")
        .more(
            "Written as for --forwarded-allow-ips; whoever else asks gets 403. At a Unix socket it is whoever may connect. A web server \
             that speaks it says who its client is, whether that came by https, and what else is in environ; so it must not be \
             everybody. It is its client, REMOTE_ADDR, whose --forwarded-fields are believed or not.",
        ),
    one(RESPONSES, "server-header", "TEXT", "The Server field of responses; empty for none").preset("ostler"),
    one(RESPONSES, "generation-header", "NAME", "The field of responses that tells the generation, such as X-Ostler-Generation; empty for none")
        .preset("")
        .more(
            "By it a client, a proxy or a test sees whether a canary has answered. Whoever reads it can count reloads. An application that \
             sends this field itself is not contradicted. The access log tells the same without telling clients: see --access-logformat.",
        ),
    switch(RESPONSES, "sendfile", "on", "Do not let the kernel send the files of wsgi.file_wrapper")
        .foreign("SENDFILE"),
    pairs(RESPONSES, "static", "/URL=DIRECTORY", "Answer requests below this path with the files of this directory; may be repeated")
        .more(
            "As in /static=public. Python is not asked: the worker's loop sends the file, with ETag, Last-Modified, conditions and ranges, and \
             app.js.br, .zst or .gz beside app.js where the client takes that and it is no older. The longest path counts. GET and HEAD only; \
             where there is no such file, the application answers. The path is the one that clients send: with --root-path, it begins with \
             that. Links are followed, but not out of the directory. A link in the directory's own path is followed anew by each reload. \
             In OSTLER_STATIC one stands on each line; in the file it may be a table: static = { \"/static\" = \"public\" }. docs/static.md tells more.",
        ),
    lines(RESPONSES, "sendfile-root", "[/URL=]DIRECTORY", "Send files below this directory where the application names them; may be repeated").more(
        "In X-Sendfile by its path, DIRECTORY/report.pdf, and with a URL also in X-Accel-Redirect, /URL/report.pdf. The file takes the place of the body, with \
         ETag, conditions and ranges as for --static; the other fields are the application's, and these two never reach the client. What is not \
         below one of these directories is 404, and the log says so. Without this option both fields are passed on, as a proxy in front may want them.",
    ),
    switch(RESPONSES, "static-links", "off", "Follow links out of the directories of --static, as after `collectstatic --link`"),
    switch(RESPONSES, "static-index", "off", "Answer with index.html where the path of a directory of --static is asked for"),
    switch(RESPONSES, "static-only", "off", "Answer 404 where --static has no such file, instead of asking the application"),
    one(RESPONSES, "static-max-age", "TIME", "How long clients may keep a file of --static without asking again; 0 for not at all")
        .preset("60")
        .more(
            "It stands in Cache-Control. A name that holds a hash of its file, as Django's ManifestStaticFilesStorage makes it \
             (app.6b517d0d5813.css), may be kept for a year whatever this says.",
        ),
    switch(RESPONSES, "compress", "off", "Compress answers of the application for clients that take zstd or gzip").more(
        "BREACH: who can have a victim's browser ask for a page that holds both a secret (a token against cross-site requests, a mail address) \
         and text from the request, and sees how long the answers are, can guess the secret, over https, too. Django masks its tokens; whatever \
         else is secret in such a page is sent uncompressed where the application says Cache-Control: no-transform. Compressed is what is given in \
         one piece and is of --compress-types: no stream, no part (206), no file, nothing that is coded, signed or hashed already (Content-Encoding, \
         Content-MD5, Digest), and nothing above 16 MiB. ETags become weak, and Vary names Accept-Encoding. docs/compression.md tells more.",
    ),
    many(RESPONSES, "compress-types", "TYPES", "The types that --compress is for, separated by commas; `*` stands for any text in one")
        .preset(COMPRESSED_TYPES)
        .more("What is compressed in itself, such as images and archives, is left as it is whatever this says."),
    one(RESPONSES, "compress-min-size", "SIZE", "Answers that are shorter than this are not compressed").preset("1k"),
    switch(RESPONSES, "strict-application", "off", "Hold the application to the letter of PEP 3333, for development").more(
        "Without it the server takes what leaves the response right: fields as any iterable of pairs, a status without a \
         phrase, blocks that are bytes-like, and hop-by-hop fields such as Connection, which it leaves out and names once \
         in the log. With it each of these is an exception.",
    ),
    one(LOGS, "error-logfile", "FILE", "The error log; - for standard error")
        .alias(&["log-file", "errorlog"])
        .preset("-")
        .common()
        .more("Opened again by USR1 and `ostler reopen`."),
    choice(LOGS, "log-level", &["debug", "info", "warning", "error", "critical"], None, "The lowest level that is logged")
        .alias(&["loglevel"])
        .preset("info")
        .common(),
    choice(LOGS, "log-format", &["text", "json", "journald", "syslog"], None, "The form of the error log").preset("text").more(
        "`text` is what the place calls for: lines for a file, sentences and colours for a terminal, entries for standard error that leads to the \
         journal. `json` writes an object on each line, with numbers as numbers and a traceback in one value. `journald` sends entries to the \
         journal wherever standard error leads. `syslog` sends messages to --log-syslog-to and nothing to --error-logfile. What an application \
         writes to wsgi.errors and sys.stderr has the same form; to a file or a terminal, `text` writes it as it is.",
    ),
    switch(LOGS, "log-syslog", "off", "Send the error log and the access log to --log-syslog-to, too").alias(&["syslog"]).more(
        "In the form of RFC 5424 by UDP and TCP, where each message has its length in front (RFC 6587), and to a Unix socket as syslog(3) has it. \
         The names are PREFIX.error and PREFIX.access. Nobody waits for a syslog: what it does not take is lost and counted, and the \
         error log says so once, and when it takes messages again.",
    ),
    one(LOGS, "log-syslog-to", "ADDRESS", "Where the syslog is: unix:///dev/log, udp://host:port or tcp://host:port")
        .alias(&["syslog-addr"])
        .preset("udp://localhost:514")
        .more(
            "#stream behind the path of a Unix socket means that it takes no datagrams. A name is looked up at the start and by each reload, which is \
             what a host that has moved needs. UDP tells of a port that is closed, but not of a host that is away or too slow: what is lost there is \
             not counted.",
        ),
    one(LOGS, "log-syslog-prefix", "TEXT", "What the syslog knows the site by")
        .alias(&["syslog-prefix"])
        .more("Without it, --name. Where gunicorn's configuration is in force, gunicorn. stands before it."),
    one(LOGS, "log-syslog-facility", "WORD", "The facility of the syslog's messages: user, daemon, local0 and so on")
        .alias(&["syslog-facility"])
        .preset("user"),
    switch(LOGS, "disable-redirect-access-to-syslog", "off", "With --log-syslog, do not send the access log"),
    one(LOGS, "access-logfile", "FILE", "The access log; - for standard output")
        .alias(&["accesslog"])
        .common()
        .more("There is none unless it is named. Opened again by USR1 and `ostler reopen`."),
    one(LOGS, "access-logformat", "FORMAT", "The form of a line of the access log: gunicorn's atoms, or json")
        .alias(&["access-log-format"])
        .preset(access_format::DEFAULT)
        .more(
            "%(h)s client, %(l)s -, %(u)s user, %(t)s time, %(r)s request line, %(m)s method, %(U)s path, %(q)s query, \
             %(H)s protocol, %(s)s status, %(B)s and %(b)s bytes of the body (0 or - for none), %(f)s referrer, \
             %(a)s user agent, %(T)s seconds, %(M)s milliseconds, %(D)s microseconds, %(L)s decimal seconds, \
             %(p)s process, %({name}i)s field of the request, %({name}o)s field of the response, %({name}e)s variable \
             of environ, %({generation}x)s and %({worker}x)s those that have answered. With `json` each line is an object with time, request_id, client, method, path, query, status, bytes_in, bytes_out, \
             queue_time, application_time, total_time, worker, generation, user_agent and referrer; `json:time,status,{x-id}i` \
             names the fields, in their order: these, host, scheme, protocol, user, pid, and {name}i, {name}o and {name}e as above. \
             Times are seconds: queue_time from the arrival to the call, application_time in the call, total_time from \
             the first byte to the end of the response. Bytes are those of the bodies. What there is not is null. A line is written when the client has its response or gets no more of it. Status 499: the client \
             left before the application was called; status -: the worker ended before there was a response. No line stands for \
             a client that left before its connection was accepted, nor for the requests of a worker that was killed or \
             crashed; the error log names those.",
        ),
    many(LOGS, "access-log-skip", "PATHS", "Leave requests for these paths out of the access log: /health, /static/*").more(
        "A path as clients send it, without the query; `*` at its end stands for whatever follows. Only what was answered with a status \
         below 400 is left out: a health check that fails has its line.",
    ),
    one(LOGS, "access-log-slow", "TIME", "Leave requests out of the access log that take less than this, from their first byte to the end of their response")
        .preset("0"),
    switch(LOGS, "capture-output", "off", "Send what the application prints to the error log")
        .more(
            "That is sys.stdout, and the standard output of C code and of programs that it starts. Its standard error is the error log with or \
             without this.",
        ),
    one(LOGS, "log-config", "FILE", "Configure Python's logging by this file, as gunicorn does")
        .alias(&["logconfig"])
        .more(
            "In the form of logging.config.fileConfig. Its loggers gunicorn.error and gunicorn.access are configured there; the access log is \
             written by Python then, in each worker.",
        ),
    one(LOGS, "log-config-json", "FILE", "The same by a file in the form of logging.config.dictConfig, as JSON").alias(&["logconfig-json"]),
    one(LOGS, "logger-class", "CLASS", "A class of gunicorn's kind that writes both logs, as module.Class")
        .preset("gunicorn.glogging.Logger")
        .more("A class that is derived from gunicorn.glogging.Logger. It costs each request some microseconds; the default costs nothing."),
    one(METRICS, "metrics", "ADDRESS", "Serve numbers for Prometheus at host:port or unix:path, and the health of the site")
        .more(
            "GET / is a page for people. GET /metrics in Prometheus' format or OpenMetrics' (by Accept), GET /status as \
             `ostler status --json`, GET /health with 200 while a worker serves and 503 otherwise, GET /health?ready with 503 from a TERM on. The master answers by itself, without a \
             worker. Who can connect can read all of it, the request lines of the moment included, and change nothing; a Unix socket is for its \
             owner and group. `off` for none.",
        ),
    one(METRICS, "statsd-host", "ADDRESS", "Send numbers to a statsd at host:port or unix:path")
        .more(
            "With gunicorn's names: gunicorn.requests, gunicorn.request.status.200, gunicorn.request.duration, gunicorn.workers and \
             gunicorn.log.error among them. The master sends the sums of all workers once a second, in datagrams of at most 1432 bytes. \
             It looks a name up again every minute. A statsd that is not there costs nothing; the log says so once. Without a \
             port, 8125.",
        ),
    one(METRICS, "statsd-prefix", "TEXT", "Stands before the names that --statsd-host is sent").preset(""),
    one(METRICS, "dogstatsd-tags", "TAGS", "Tags for each number that --statsd-host is sent, separated by commas")
        .preset("")
        .more("In the form of DogStatsD: env:live,site:shop."),
    switch(METRICS, "enable-backlog-metric", "off", "Send gunicorn.backlog to --statsd-host, too")
        .more("How many connections wait to be accepted, as a histogram of DogStatsD's."),
    one(NAMES, "name", "NAME", "What the processes and the control socket are called")
        .short('n')
        .alias(&["proc-name"])
        .preset("ostler"),
    one(NAMES, "control", "PATH", "The control socket; off for none")
        .alias(&["control-socket"])
        .found(
            "NAME.sock in RUNTIME_DIRECTORY (systemd), /run/ostler (root), XDG_RUNTIME_DIR/ostler or /tmp/ostler-UID",
        )
        .more(
            "Only its owner and root may give commands there (see --control-mode). The commands look for it in the same places; those of root in /run/ostler \
             and /run/ostler-NAME alone, besides RUNTIME_DIRECTORY if it is root's. They speak to a master of root, of their \
             own user, or of the user to whom its directory was given, and to nobody else.",
        ),
    one(NAMES, "control-mode", "OCTAL", "The file mode of the control socket: who else may ask for status")
        .alias(&["control-socket-mode"])
        .found("660 with --control-group, else 600")
        .more(
            "Whoever may write to the socket may ask for `ostler status`, and for nothing else: every other command is for its owner \
             and root. status shows the request lines of the moment.",
        ),
    one(NAMES, "control-group", "GROUP", "The group of the control socket, by name or id; its members may ask for status")
        .found("that of the master"),
    one(NAMES, "pid", "FILE", "Write the master's process id there")
        .short('p')
        .alias(&["pidfile"])
        .more("The master holds a lock on it: only another ostler that lives prevents a start."),
    one(NAMES, "user", "USER", "Run the application as this user, by name or id").short('u').common().more(
        "The master stays root, and follows no symbolic link that somebody else can change on its way to log files, pid file \
         and sockets. The application has HOME, USER, LOGNAME and SHELL of its user.",
    ),
    one(NAMES, "group", "GROUP", "Run the application as this group, by name or id").short('g').common(),
    switch(NAMES, "new-privileges", "off", "Let the application of another user gain privileges by set-user-ID programs").more(
        "Where root starts the site for another user, sudo, ping and the like do not work in the application (no_new_privs of prctl(2)), \
         and neither does a sendmail that is set-group-ID.",
    ),
    one(NAMES, "umask", "OCTAL", "The file mode mask of the application and of Unix sockets")
        .short('m')
        .found("that of the start; everybody may connect to Unix sockets, as far as their directory lets them")
        .more(
            "Read as octal with or without a leading 0; a string in the file. Where gunicorn's configuration is in force, it is that of \
             sockets alone, as there.",
        ),
    switch(NAMES, "daemon", "off", "Go into the background once the site is being served").short('D'),
];

/// The setting of this name.
pub fn setting(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.name == name).expect("settings are asked for by the names of the table")
}

const fn declare(group: usize, name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        short: None,
        aliases: &[],
        kind,
        value,
        default: Preset::None,
        foreign: None,
        common: false,
        help,
        more: "",
        group,
    }
}

const fn one(group: usize, name: &'static str, value: &'static str, help: &'static str) -> Setting {
    declare(group, name, Kind::One, value, help)
}

const fn many(group: usize, name: &'static str, value: &'static str, help: &'static str) -> Setting {
    declare(group, name, Kind::Many, value, help)
}

const fn lines(group: usize, name: &'static str, value: &'static str, help: &'static str) -> Setting {
    declare(group, name, Kind::Lines, value, help)
}

const fn pairs(group: usize, name: &'static str, value: &'static str, help: &'static str) -> Setting {
    declare(group, name, Kind::Pairs, value, help)
}

const fn switch(group: usize, name: &'static str, default: &'static str, help: &'static str) -> Setting {
    declare(group, name, Kind::Switch, "on|off", help).preset(default)
}

const fn choice(
    group: usize,
    name: &'static str,
    words: &'static [&'static str],
    alone: Option<&'static str>,
    help: &'static str,
) -> Setting {
    declare(group, name, Kind::Choice(words, alone), "WORD", help)
}

impl Setting {
    const fn short(mut self, letter: char) -> Setting {
        self.short = Some(letter);
        self
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Setting {
        self.aliases = aliases;
        self
    }

    const fn preset(mut self, text: &'static str) -> Setting {
        self.default = Preset::Is(text);
        self
    }

    const fn found(mut self, how: &'static str) -> Setting {
        self.default = Preset::Found(how);
        self
    }

    const fn foreign(mut self, variable: &'static str) -> Setting {
        self.foreign = Some(variable);
        self
    }

    const fn common(mut self) -> Setting {
        self.common = true;
        self
    }

    const fn more(mut self, text: &'static str) -> Setting {
        self.more = text;
        self
    }
}
