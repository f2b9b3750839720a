"""Drives one server with one workload. The servers have core 0, one at a time, and the load has core 1."""

import contextlib
import http.client
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import processes
from servers import HELLO_ONLY, SERVERS, TARGET, Cannot, Site
from workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
SERVER_CORE, LOAD_CORE = 0, 1


@dataclass(frozen=True)
class Round:
    """Requests per second, processor microseconds per request of the whole server, and milliseconds of the median and the 99th percentile."""

    rate: float
    user: float
    system: float
    median: float
    slow: float

    @property
    def total(self):
        return self.user + self.system


class Wrong(Exception):
    """The server answered something else than the workload asks for."""


@contextlib.contextmanager
def serving(name, workload, options=(), **how):
    """Runs the server for this workload, with options of its own; yields its process and its site."""
    if name in HELLO_ONLY and workload is not WORKLOADS["hello"]:
        raise Cannot("it has one fixed answer")
    folder = TARGET / "bench"
    log = folder / f"{name}.access.log" if workload.access_log else None
    site = Site(workload.application, processes.free_port(), access_log=log, **how)
    # Servers disagree on whether the current directory is on sys.path.
    environment = {"PYTHONPATH": str(HERE / "apps")}
    command = [*SERVERS[name](site), *options]
    with processes.running(command, site.port, folder / f"{name}.log", SERVER_CORE, environment) as process:
        yield process, site
    if log:
        log.unlink(missing_ok=True)
    site.control.unlink(missing_ok=True)


def warm(server, workload):
    _, site = server
    check(workload, site.port)
    wrk(workload, site.port, 1)


def turn(server, workload, seconds):
    process, site = server
    before = processes.time_of(process.pid)
    result = wrk(workload, site.port, seconds)
    used = processes.time_of(process.pid) - before
    requests = result["requests"]
    if result["errors"] or not requests:
        raise Wrong(f"{result['errors']} errors in {requests} requests")
    return Round(requests / result["microseconds"] * 1e6, used.user / requests * 1e6, used.system / requests * 1e6, result["median"], result["slow"])


def check(workload, port):
    """Asks twice, to notice a first answer that breaks the second."""
    for _ in range(2):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            method, body = ("POST", b"x" * workload.body) if workload.body else ("GET", None)
            connection.request(method, "/", body, workload.headers)
            answer = connection.getresponse()
            length = len(answer.read())
            if answer.status != 200 or length != workload.answer:
                raise Wrong(f"it answered {answer.status} with {length} bytes instead of {workload.answer}")


def wrk(workload, port, seconds, path="/"):
    headers = [word for name, value in workload.headers.items() for word in ("-H", f"{name}: {value}")]
    size = ["-t1", f"-c{workload.connections}", f"-d{seconds}s"]
    command = ["wrk", *size, "-s", HERE / "wrk.lua", *headers, f"http://127.0.0.1:{port}{path}"]
    environment = os.environ | {"BENCH_BODY": str(workload.body)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
    )
    if done.returncode:
        raise Wrong(f"the server broke down: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])
