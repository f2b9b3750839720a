"""The settings of the daemon, as `ostler.serve` takes them. `make man` writes this file from src/daemon/options/table.rs."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict


class Settings(TypedDict, total=False):
    config: str | int | float
    """Read settings from this file: TOML, or Python as gunicorn has it."""
    paste: str | int | float
    """Serve the application NAME, or main, of this file of Paste Deploy."""
    paste_global: Mapping[str, str]
    """Set a variable of the file of --paste, as if it stood in [DEFAULT]; may be repeated."""
    bind: str | int | Sequence[str | int]
    """Listen on host:port, :port, [v6]:port, unix:path, unix:@name, fd://N or systemd."""
    workers: str | int | float
    """Worker processes, as in 4, or as many as the load needs, as in 4..16."""
    threads: str | int | float
    """Python threads of each worker that call the application."""
    python: str | int | float
    """The interpreter, or the directory of a virtual environment."""
    chdir: str | int | float
    """Change to this directory first."""
    pythonpath: str | int | Sequence[str | int]
    """Put these on sys.path as well, separated by commas."""
    env: Mapping[str, str]
    """Set a variable of the application's environment; may be repeated."""
    shrink_after: str | int | float
    """With --workers 4..16: how long workers are needless before they go; 0 to keep them."""
    preload: Literal["auto", "on", "off"] | bool
    """Import the application before forking workers."""
    smoke: str | Sequence[str]
    """Have a new generation answer this before it serves anybody; may be repeated."""
    smoke_timeout: str | int | float
    """How long each request of --smoke may take."""
    canary: str | int | float
    """Have a reload begin with this share of the workers, beside the old generation."""
    canary_time: str | int | float
    """How long a canary serves before the rest follow; 0 to wait for `ostler promote`."""
    watch: str | int | float
    """Go back if a new generation is worse within this time after it has taken over; 0 not to watch."""
    ready_after_watch: bool
    """Do not be ready while a canary or a new generation is still judged."""
    warm_up: str | int | float
    """Ask the application for this page before forking workers."""
    worker_class: str | int | float
    """Taken for gunicorn's users: sync and gthread mean the same, gevent means many threads."""
    reload: bool
    """Reload when a file of the site changes, for development."""
    reload_engine: Literal["auto", "inotify", "poll"]
    """How --reload learns of changes."""
    reload_extra_file: str | int | Sequence[str | int]
    """Files or patterns that --reload looks at beside the modules."""
    boot_timeout: str | int | float
    """How long an import, and then each worker's start, may take."""
    timeout: str | int | float
    """How long a request may stay in the application; 0 for no bound."""
    slow_request: str | int | float
    """Log the Python stacks of a request that takes longer; 0 for never."""
    graceful_timeout: str | int | float
    """How long the requests of a worker that stops may take to finish."""
    drain_delay: str | int | float
    """Go on accepting for this long after a TERM."""
    keep_previous: bool
    """Do not keep the last generation ready for `ostler rollback`."""
    max_requests: str | int | float
    """Replace a worker after this many requests; 0 for never."""
    max_requests_jitter: str | int | float
    """Add up to this many requests, at random for each worker, so that not all are replaced at once."""
    max_memory: str | int | float
    """Replace a worker that has more private memory; 0 for never."""
    max_age: str | int | float
    """Replace a worker after this time; 0 for never."""
    refork: str | int | float
    """Share what a worker has loaded after this many requests; auto: 1000, or half of --max-requests."""
    max_queue_time: str | int | float
    """Answer 503 to a request that waited longer for a thread (on TCP, the listener's queue included); 0 for never."""
    keep_alive: str | int | float
    """How long a connection may idle between requests; 0 closes after each."""
    header_timeout: str | int | float
    """How long a client may take to send a request's head; 0 for no bound."""
    body_timeout: str | int | float
    """How long a client may pause within a request's body; 0 for no bound."""
    write_timeout: str | int | float
    """How long a client may pause in taking a response; 0 for no bound."""
    min_rate: str | int | float
    """Give up a body or response that is slower than this many bytes a second; 0 for no bound."""
    request_buffering: bool
    """Call the application before the body has arrived."""
    body_memory: str | int | float
    """Keep a body of up to this size in memory, a larger one in a file."""
    spool_directory: str | int | float
    """Where large bodies are kept, in files without a name."""
    spool_limit: str | int | float
    """The most bytes of bodies that one worker keeps in files; 0 for no bound."""
    root_path: str | int | float
    """The path that the site is mounted at: SCRIPT_NAME."""
    header_map: Literal["drop", "refuse", "dangerous"]
    """What to do with header names that hold _."""
    limit_request_line: str | int | float
    """The longest request line; 0: only --limit-request-head bounds it."""
    limit_request_fields: str | int | float
    """The most header fields of a request; 0: only --limit-request-head bounds them."""
    limit_request_field_size: str | int | float
    """The longest header field; 0: only --limit-request-head bounds it."""
    limit_request_head: str | int | float
    """The longest head of a request: its request line and all of its fields."""
    limit_request_body: str | int | float
    """The largest body of a request; 0 for no bound."""
    worker_connections: str | int | float
    """The most connections of one worker; 0 for no bound."""
    backlog: str | int | float
    """The most connections that may wait to be accepted."""
    certfile: str | Sequence[str]
    """The site's certificate and those that have signed it, as PEM; may be repeated."""
    keyfile: str | Sequence[str]
    """The key of each --certfile, in the same order; without it, keys stand in the certificates' files."""
    ca_certs: str | int | float
    """Who signs the certificates of clients, as PEM."""
    cert_reqs: str | int | float
    """Whether clients show a certificate: none, optional or required; 0, 1 and 2 mean the same."""
    ciphers: str | int | float
    """The cipher suites by OpenSSL's or IANA's names, best first, separated by colons."""
    redirect_https: bool
    """Answer what comes to http:// addresses of TCP with a redirect to https://."""
    redirect_port: str | int | float
    """The port that --redirect-https names, if not that of the first https:// address."""
    hsts: str | int | float
    """Have browsers come by https:// for so long: Strict-Transport-Security; 0 for not at all."""
    forwarded_allow_ips: str | int | Sequence[str | int]
    """Proxies whose --forwarded-fields are believed."""
    request_id: Literal["off", "on", "response"] | bool
    """Give each request an id, which the application and both logs have."""
    forwarded_fields: str | int | Sequence[str | int]
    """Which fields of those proxies are believed."""
    secure_scheme_headers: Mapping[str, str]
    """Fields of those proxies that tell the scheme, and their values for https."""
    forwarder_headers: str | int | Sequence[str | int]
    """Fields with an underscore in their names that those proxies set themselves."""
    proxy_protocol: Literal["off", "auto", "v1", "v2"] | bool
    """Expect a PROXY header, version 1 or 2."""
    proxy_allow_from: str | int | Sequence[str | int]
    """Who sends the PROXY header."""
    protocol: Literal["http", "uwsgi"]
    """What is spoken where --bind does not say it."""
    uwsgi_allow_from: str | int | Sequence[str | int]
    """Who may speak the uwsgi protocol."""
    server_header: str | int | float
    """The Server field of responses; empty for none."""
    generation_header: str | int | float
    """The field of responses that tells the generation, such as X-Ostler-Generation; empty for none."""
    sendfile: bool
    """Do not let the kernel send the files of wsgi.file_wrapper."""
    static: Mapping[str, str]
    """Answer requests below this path with the files of this directory; may be repeated."""
    sendfile_root: str | Sequence[str]
    """Send files below this directory where the application names them; may be repeated."""
    static_links: bool
    """Follow links out of the directories of --static, as after `collectstatic --link`."""
    static_index: bool
    """Answer with index.html where the path of a directory of --static is asked for."""
    static_only: bool
    """Answer 404 where --static has no such file, instead of asking the application."""
    static_max_age: str | int | float
    """How long clients may keep a file of --static without asking again; 0 for not at all."""
    compress: bool
    """Compress answers of the application for clients that take zstd or gzip."""
    compress_types: str | int | Sequence[str | int]
    """The types that --compress is for, separated by commas; `*` stands for any text in one."""
    compress_min_size: str | int | float
    """Answers that are shorter than this are not compressed."""
    strict_application: bool
    """Hold the application to the letter of PEP 3333, for development."""
    error_logfile: str | int | float
    """The error log; - for standard error."""
    log_level: Literal["debug", "info", "warning", "error", "critical"]
    """The lowest level that is logged."""
    log_format: Literal["text", "json", "journald", "syslog"]
    """The form of the error log."""
    log_syslog: bool
    """Send the error log and the access log to --log-syslog-to, too."""
    log_syslog_to: str | int | float
    """Where the syslog is: unix:///dev/log, udp://host:port or tcp://host:port."""
    log_syslog_prefix: str | int | float
    """What the syslog knows the site by."""
    log_syslog_facility: str | int | float
    """The facility of the syslog's messages: user, daemon, local0 and so on."""
    disable_redirect_access_to_syslog: bool
    """With --log-syslog, do not send the access log."""
    access_logfile: str | int | float
    """The access log; - for standard output."""
    access_logformat: str | int | float
    """The form of a line of the access log: gunicorn's atoms, or json."""
    access_log_skip: str | int | Sequence[str | int]
    """Leave requests for these paths out of the access log: /health, /static/*."""
    access_log_slow: str | int | float
    """Leave requests out of the access log that take less than this, from their first byte to the end of their response."""
    capture_output: bool
    """Send what the application prints to the error log."""
    log_config: str | int | float
    """Configure Python's logging by this file, as gunicorn does."""
    log_config_json: str | int | float
    """The same by a file in the form of logging.config.dictConfig, as JSON."""
    logger_class: str | int | float
    """A class of gunicorn's kind that writes both logs, as module.Class."""
    metrics: str | int | float
    """Serve numbers for Prometheus at host:port or unix:path, and the health of the site."""
    statsd_host: str | int | float
    """Send numbers to a statsd at host:port or unix:path."""
    statsd_prefix: str | int | float
    """Stands before the names that --statsd-host is sent."""
    dogstatsd_tags: str | int | float
    """Tags for each number that --statsd-host is sent, separated by commas."""
    enable_backlog_metric: bool
    """Send gunicorn.backlog to --statsd-host, too."""
    name: str | int | float
    """What the processes and the control socket are called."""
    control: str | int | float
    """The control socket; off for none."""
    control_mode: str | int | float
    """The file mode of the control socket: who else may ask for status."""
    control_group: str | int | float
    """The group of the control socket, by name or id; its members may ask for status."""
    pid: str | int | float
    """Write the master's process id there."""
    user: str | int | float
    """Run the application as this user, by name or id."""
    group: str | int | float
    """Run the application as this group, by name or id."""
    new_privileges: bool
    """Let the application of another user gain privileges by set-user-ID programs."""
    umask: str | int | float
    """The file mode mask of the application and of Unix sockets."""
    daemon: bool
    """Go into the background once the site is being served."""


# Their flags turn them off.
ON_BY_DEFAULT = frozenset({"keep_previous", "request_buffering", "sendfile"})
