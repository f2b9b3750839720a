#!/usr/bin/env python3
"""How long requests take around a reload of a Django site: sixteen workers, 300 requests a second that come when they are due, whatever became of the
ones before; half of them on connections that are kept, half on new ones.

`benches/run --only warm` measures the release; `benches/warm.py PROGRAM` another build.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import processes
from servers import RELEASE, TARGET

TITLE = "answers of a Django site from a reload to 5 s after its end (16 workers, 300 requests/s)"
ROOT = Path(__file__).resolve().parent
VARIANTS = ([], ["--refork", "off"], ["--warm-up", "/"])
WORKERS, RATE, CLIENTS = 16, 300, 60
BEFORE, AFTER = 4, 5


def measure_all(rounds=3, program=RELEASE / "ostler"):
    """{options: {figure: its values by round, in milliseconds}}"""
    print(f"\n{TITLE}", file=sys.stderr)
    report = {" ".join(["ostler", *options]): {} for options in VARIANTS}
    for _ in range(rounds):
        for options in VARIANTS:
            figures = one(program, options)
            for name, value in figures.items():
                report[" ".join(["ostler", *options])].setdefault(name, []).append(value)
            print(f"  {' '.join(options) or 'no option':15} {figures}", file=sys.stderr, flush=True)
    return report


def rows(report):
    """The table: a header and its rows."""
    middle = lambda values: sorted(values)[len(values) // 2]
    names = ["p50", "p99", "longest", "lost", "reload"]
    return [f"{TITLE}; ms", *names], [[title, *(f"{middle(figures[name]):g}" for name in names)] for title, figures in report.items()]


def one(program, options):
    port = processes.free_port()
    control = TARGET / "bench" / f"{port}.control"
    command = [str(program), "--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS), "--control", str(control), "--python", str(ROOT.parent / ".venv")]
    command = ["taskset", "--cpu-list", f"0-{os.cpu_count() - 1}", *command, *options, "django_site:app"]
    with processes.running(command, port, TARGET / "bench" / "warm.log", 0, {"PYTHONPATH": str(ROOT / "apps")}):
        crowd = Crowd(port)
        with contextlib.closing(crowd):
            time.sleep(BEFORE)
            began = time.perf_counter()
            subprocess.run([program, "reload", "--control", control], check=True, capture_output=True)
            took = time.perf_counter() - began
            time.sleep(AFTER)
        times = sorted(duration for due, duration in crowd.times if due >= began)
        lost = crowd.lost
    control.unlink(missing_ok=True)
    share = lambda part: round(times[int(len(times) * part)] * 1000, 1)
    return {"p50": share(0.5), "p99": share(0.99), "longest": round(times[-1] * 1000, 1), "requests": len(times), "lost": lost, "reload": round(took * 1000)}


class Crowd:
    """Clients that take the next request when they are free; it counts from when it was due."""

    def __init__(self, port):
        self.port, self.over, self.lock = port, threading.Event(), threading.Lock()
        self.begun, self.next, self.lost, self.times = time.perf_counter(), 0, 0, []
        self.threads = [threading.Thread(target=self.client, args=(number % 2 == 0,)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self, keeps):
        connection = None
        while not self.over.is_set():
            with self.lock:
                due = self.begun + self.next / RATE
                self.next += 1
            time.sleep(max(0, due - time.perf_counter()))
            if connection is None or not keeps:
                connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                good = answer.status == 200 and answer.read()
            except OSError as error:
                print(f"  lost: {error!r}", file=sys.stderr)
                good, connection = False, None
            self.lost += not good
            self.times.append((due, time.perf_counter() - due))

    def close(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


if __name__ == "__main__":
    (TARGET / "bench").mkdir(parents=True, exist_ok=True)
    print(json.dumps(measure_all(program=Path(sys.argv[1]).resolve() if sys.argv[1:] else RELEASE / "ostler"), indent=1))
