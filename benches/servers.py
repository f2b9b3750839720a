"""How each server is run: alone in its recommended production mode, one worker unless the workload asks for more.

Each function takes a Site and gives the command line; its docstring says what was chosen, and why where there was a choice.
"""

from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "target"
RELEASE = TARGET / "release"
ENVIRONMENT = TARGET / "bench" / "venv"


class Cannot(Exception):
    """The server has no such feature; the text says which."""


@dataclass(frozen=True)
class Site:
    """What is to be served, and how."""

    application: str
    port: int
    workers: int = 1
    access_log: Path | None = None
    only_thread: bool = False
    threads: int | None = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def module(self):
        return self.application.partition(":")[0]

    @property
    def control(self):
        """The path of the server's control socket, if it has one."""
        return TARGET / "bench" / f"{self.port}.control"

    @property
    def workers_text(self):
        return str(self.workers)


def tool(name):
    return str(ENVIRONMENT / "bin" / name)


def floor(site):
    """A bare epoll loop in Rust that answers whatever it reads with fixed bytes: what the kernel costs."""
    return [str(RELEASE / "floor"), site.address]


def loop(site):
    """ostler's loop with an application in Rust in the place of Python."""
    return [str(RELEASE / "loop"), site.address]


def ostler(site):
    """Its defaults."""
    log = ["--access-logfile", str(site.access_log)] if site.access_log else []
    command = [str(RELEASE / "ostler"), "-b", site.address, "-w", site.workers_text, "--control", str(site.control)]
    threads = ["--threads", str(site.threads)] if site.threads else []
    return [*command, "--python", tool("python"), *threads, *log, site.application]


def bjoern(site):
    """bjoern.run(), forked after listen() for more than one worker."""
    if site.access_log:
        raise Cannot("it has no access log")
    forks = "".join(f"os.fork() and " for _ in range(site.workers - 1))
    code = f"import bjoern, os, {site.module}; bjoern.listen({site.application.replace(':', '.')}, '127.0.0.1', {site.port}); {forks}0; bjoern.run()"
    return [tool("python"), "-c", code]


def fastwsgi(site):
    """fastwsgi.run()."""
    if site.access_log:
        raise Cannot("it has no access log")
    application = site.application.replace(":", ".")
    code = f"import fastwsgi, {site.module}; fastwsgi.run({application}, '127.0.0.1', {site.port}, workers={site.workers})"
    return [tool("python"), "-c", code]


def granian(site):
    """HTTP/1 only, no websockets, one blocking thread: faster here than its defaults."""
    log = ["--access-log"] if site.access_log else []
    command = [tool("granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(site.port), "--http", "1", "--no-ws"]
    return [*command, "--workers", site.workers_text, "--blocking-threads", str(site.threads or 1), *log, site.application]


def gunicorn(site, *worker_class):
    log = ["--access-logfile", str(site.access_log)] if site.access_log else []
    return [tool("gunicorn"), "-b", site.address, "-w", site.workers_text, *worker_class, *log, site.application]


def gunicorn_sync(site):
    """Its default worker, which closes each connection; with its parser in C (gunicorn_h1c)."""
    return gunicorn(site, "-k", "sync")


def gunicorn_gthread(site):
    """Four threads, keep-alive; with its parser in C (gunicorn_h1c)."""
    return gunicorn(site, "-k", "gthread", "--threads", str(site.threads or (1 if site.only_thread else 4)))


def uwsgi(site):
    """http-socket, which closes each connection: cheaper per request here than its keep-alive modes (http11-socket, http router).

    A stream goes through its router: without it a stream's end cannot be told from a broken connection.
    """
    entry = ["--http-socket", site.address, "--add-header", "Connection: close"]
    if site.application == "plain:stream":
        entry = ["--http", site.address, "--http-keepalive", "--http-auto-chunked"]
    log = ["--logto", str(site.access_log)] if site.access_log else ["--disable-logging"]
    command = [tool("uwsgi"), *entry, "--master", "--master-fifo", str(site.control), "--die-on-term", "-p", site.workers_text, *log]
    return [*command, "--need-app", "--single-interpreter", "--module", site.application]


def waitress(site):
    """Its default of four threads."""
    if site.access_log:
        raise Cannot("it has no access log")
    if site.workers > 1:
        raise Cannot("it has one process")
    return [tool("waitress-serve"), "--listen", site.address, site.application]


SERVERS = {
    "ostler": ostler,
    "bjoern": bjoern,
    "fastwsgi": fastwsgi,
    "granian": granian,
    "uwsgi": uwsgi,
    "gunicorn-gthread": gunicorn_gthread,
    "gunicorn-sync": gunicorn_sync,
    "waitress": waitress,
    "floor": floor,
    "loop": loop,
}

# Options of ostler that gunicorn has under the same name.
SHARED_OPTIONS = ("--header-map", "--forwarded-allow-ips")


def with_options(name, command, options):
    """The command with options of ostler's, if the server has them."""
    names = [word for word in options if word.startswith("--")]
    if name != "ostler" and not (name.startswith("gunicorn") and set(names) <= set(SHARED_OPTIONS)) and options:
        raise Cannot(f"it has no {' '.join(names)}")
    return [*command, *options]


# These have one fixed answer.
HELLO_ONLY = ("floor", "loop")

PACKAGES = {
    "bjoern": ["bjoern==3.2.2"],
    "fastwsgi": ["fastwsgi==0.0.9", "setuptools<81"],
    "granian": ["granian==2.8.7"],
    "gunicorn": ["gunicorn==27.0.1", "gunicorn_h1c==0.6.9"],
    "uwsgi": ["uWSGI==2.0.31"],
    "waitress": ["waitress==3.0.2"],
    "frameworks": ["Flask==3.1.3", "Django==5.2.*", "pyramid==2.1"],
}
