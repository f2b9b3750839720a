#!/usr/bin/env python3
"""As many workers as needed: what a step of the load costs with 4..16 workers beside 16 from the start, what is lost when they go again, and whether
they stay within a control group of 512 MB where each takes 60 MB.

`benches/run --only elastic` measures the release; `benches/elastic.py PROGRAM` another build. The control group needs root and a controller of memory,
of version 1 or 2: without them that part says what is missing.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import processes
from servers import RELEASE, TARGET

TITLE = "a step to 16 slow clients with --workers 4..16 beside 16 from the start"
LEAST, MOST = 4, 16
CLIENTS = 16
APPS = Path(__file__).resolve().parent / "apps"
SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LIMIT = 512 << 20


def measure_all(rounds=5, program=RELEASE / "ostler"):
    """{"step": {workers: [longest, …] in milliseconds}, "down": its figures, "memory": its figures or why there are none}"""
    print(f"\n{TITLE}", file=sys.stderr)
    return {
        "step, site at rest": step(program, rounds, beside=False),
        "step, site at work": step(program, rounds, beside=True),
        "down": down(program),
        "memory": in_a_group(program),
    }


def rows(report):
    """The table: a header and its rows."""
    lines = [
        [f"{what}, --workers {workers}", f"{statistics.median(times):.0f}", f"{max(times):.0f}"]
        for what, steps in report.items()
        if what.startswith("step")
        for workers, times in steps.items()
    ]
    down, memory = report["down"], report["memory"]
    told = f"{down['requests']} requests, {down['lost']} lost, {down['connections closed']} kept connections closed"
    lines.append([f"the way down from {down['from']} workers to {down['to']}", told])
    if isinstance(memory, dict):
        memory = f"{memory['workers']} workers of 60 MB, {memory['killed for want of memory']} killed, {memory['requests failed']} requests failed"
    lines.append(["in 512 MB", memory])
    return ["slowest of 16 (1 s in the application), ms", "median", "longest"], lines


# A step --------------------------------------------------------------------------------------------------------------


def step(program, rounds, beside):
    """{workers: milliseconds of the slowest request of each round}; each takes a second in the application. `beside`: of a client who asks all the time."""
    result = {}
    for workers in (str(MOST), f"{LEAST}..{MOST}"):
        with serving(program, "plain:slow", workers) as site, asking(site.port, 1 if beside else 0):
            result[workers] = []
            for _ in range(rounds):
                wait_for(site, LEAST if ".." in workers else MOST)
                # In any phase of the looks.
                time.sleep(1 + (time.time_ns() % 100) / 1000)
                result[workers].append(round(max(all_at_once(site.port, MOST - beside)) * 1000, 1))
        print(f"  {'at work' if beside else 'at rest'}, --workers {workers:5} slowest of 16: {result[workers]} ms", file=sys.stderr, flush=True)
    return result


def all_at_once(port, clients):
    """The time of each, in seconds."""
    times, ready = [], threading.Barrier(clients)

    def ask():
        ready.wait()
        began = time.perf_counter()
        answer = slow_page(port)
        times.append(time.perf_counter() - began if b" 200 " in answer[:20] else float("inf"))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def slow_page(port):
    answer = b""
    with processes.socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(SLOW)
        while data := client.recv(65536):
            answer += data
    return answer


# The way down --------------------------------------------------------------------------------------------------------


def down(program):
    """Sixteen clients who keep their connections, and four with a new one each time, while twelve workers go."""
    with serving(program, "plain:slow", f"{LEAST}..{MOST}") as site:
        all_at_once(site.port, MOST)
        workers = site.workers()
        with asking(site.port, CLIENTS) as kept, asking(site.port, 4, fresh=True) as fresh:
            began = time.perf_counter()
            wait_for(site, LEAST + 2)
            took = time.perf_counter() - began
        result = {"from": workers, "to": site.workers(), "seconds": round(took, 1), "requests": kept.count + fresh.count, "lost": kept.lost + fresh.lost,
                  "connections closed": kept.closed, "longest ms": round(max(kept.longest, fresh.longest) * 1000, 1)}
    print(f"  down: {result}", file=sys.stderr, flush=True)
    return result


class Askers:
    """Clients who ask for a page that takes no time, one request after the other with a pause of 5 ms, and count."""

    def __init__(self, port, fresh):
        self.port, self.fresh, self.over = port, fresh, threading.Event()
        self.count = self.lost = self.closed = 0
        self.longest = 0.0

    def run(self):
        connection = None
        while not self.over.is_set():
            if connection is None or self.fresh:
                connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
            began = time.perf_counter()
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                good = answer.status == 200 and answer.read() == b"Hello, World!"
                self.closed += not self.fresh and answer.will_close
            except OSError as error:
                print(f"  lost: {error!r}", file=sys.stderr)
                good, connection = False, None
            self.lost += not good
            self.count += 1
            self.longest = max(self.longest, time.perf_counter() - began)
            time.sleep(0.005)


@contextlib.contextmanager
def asking(port, clients, fresh=False):
    askers = Askers(port, fresh)
    threads = [threading.Thread(target=askers.run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield askers
    finally:
        askers.over.set()
        for thread in threads:
            thread.join()


# Memory --------------------------------------------------------------------------------------------------------------


def in_a_group(program):
    """Sixteen slow clients for 15 s, where each worker takes 60 MB with its first call."""
    try:
        group = Group()
    except OSError as error:
        print(f"  NOT MEASURED: no control group of 512 MB: {error}", file=sys.stderr, flush=True)
        return f"not measured: {error}"
    with contextlib.closing(group), serving(program, "plain:hungry", f"{LEAST}..{MOST}", inside=group) as site:
        end, failed, most = time.perf_counter() + 15, 0, 0
        while time.perf_counter() < end:
            failed += all_at_once(site.port, MOST).count(float("inf"))
            most = max(most, site.workers())
        result = {"workers": most, "peak MB": group.peak() >> 20, "of MB": LIMIT >> 20, "killed for want of memory": group.kills(), "requests failed": failed}
        result["log"] = [line.partition(" info ")[2] for line in site.log() if " scaled " in line]
    print(f"  memory: {result}", file=sys.stderr, flush=True)
    return result


class Group:
    """A control group of its own with a limit of memory, of version 2 or 1."""

    def __init__(self):
        root = Path("/sys/fs/cgroup")
        unified = "memory" in (root / "cgroup.controllers").read_text().split() if (root / "cgroup.controllers").exists() else False
        self.path = (root if unified else root / "memory") / f"ostler-bench-{os.getpid()}"
        self.path.mkdir()
        names = ("memory.max", "memory.events", "memory.peak") if unified else ("memory.limit_in_bytes", "memory.oom_control", "memory.max_usage_in_bytes")
        limit, self.events, self.most = (self.path / name for name in names)
        try:
            limit.write_text(str(LIMIT))
        except OSError:
            self.close()
            raise

    def command(self, command):
        return ["/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self.path), *command]

    def kills(self):
        fields = dict(line.split() for line in self.events.read_text().splitlines())
        return int(fields["oom_kill"])

    def peak(self):
        return int(self.most.read_text())

    def close(self):
        for _ in range(50):
            with contextlib.suppress(OSError):
                return self.path.rmdir()
            time.sleep(0.1)


# The site ------------------------------------------------------------------------------------------------------------


class Site:
    def __init__(self, program, port):
        self.program, self.port = program, port
        self.control, self.output = TARGET / "bench" / f"{port}.control", TARGET / "bench" / "elastic.log"

    def workers(self):
        asked = subprocess.run([self.program, "status", "--json", "--control", self.control], capture_output=True, check=False)
        return json.loads(asked.stdout)["metrics"]["ostler_workers_wanted"]

    def log(self):
        return self.output.read_text(errors="replace").splitlines()


@contextlib.contextmanager
def serving(program, application, workers, inside=None):
    port = processes.free_port()
    site = Site(program, port)
    command = [str(program), "--bind", f"127.0.0.1:{port}", "--workers", workers, "--shrink-after", "1", "--control", str(site.control), application]
    environment = {"PYTHONPATH": str(APPS)}
    # Workers that come at the same time boot on all processors.
    command = ["taskset", "--cpu-list", f"0-{os.cpu_count() - 1}", *command]
    with processes.running(inside.command(command) if inside else command, port, site.output, 0, environment):
        yield site
    site.control.unlink(missing_ok=True)


def wait_for(site, workers):
    until = time.perf_counter() + 60
    while site.workers() > workers and time.perf_counter() < until:
        time.sleep(0.2)


if __name__ == "__main__":
    (TARGET / "bench").mkdir(parents=True, exist_ok=True)
    print(json.dumps(measure_all(program=Path(sys.argv[1]).resolve() if sys.argv[1:] else RELEASE / "ostler"), indent=1))
