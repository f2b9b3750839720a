"""What it costs to reload a site that holds many idle connections, and how that grows.

Each idle connection sends one request, in turn, and then nothing. Beside them eight clients send requests all the time, with a pause
between an answer and the next request. After the reload each idle connection sends one more: one that is closed instead is counted.
"""

import gc
import heapq
import json
import math
import multiprocessing
import os
import re
import resource
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import measure
import processes
from processes import NotUp
from servers import RELEASE, TARGET, Cannot
from tail import QUESTION, Client
from workloads import WORKLOADS

TITLE = "a reload with idle keep-alive connections, beside eight clients that ask"
WORKLOAD = WORKLOADS["hello"]
WORKERS, IDLE = 16, 10_000
# The values of the quantity that grows; the other one stays the same.
GROWTH = {"connections": [(WORKERS, IDLE // 4), (WORKERS, IDLE), (WORKERS, IDLE * 4)], "workers": [(2, IDLE), (6, IDLE), (WORKERS, IDLE)]}
CLIENTS, PAUSE, BEFORE, AFTER, PATIENCE = 8, 0.01, 1, 0.5, 60
# Each holder needs a descriptor for each of its connections, and an address of its own for as many ports.
HELD_BY_ONE = 10_000
OPTIONS = {"gunicorn-gthread": ["--keep-alive", "300"], "ostler": ["--keep-alive", "300", "--no-keep-previous"]}


def measure_all(servers):
    """{server: its figures, or why there are none}; and for ostler {"by connections" and "by workers": [figures, …]}"""
    print(f"\n{TITLE}", file=sys.stderr)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = {name: figures(name, WORKERS, IDLE) for name in servers if name in ("ostler", "granian", "gunicorn-gthread")}
    if "ostler" in rows:
        rows["ostler, none idle"] = figures("ostler", WORKERS, 0)
        for what, steps in GROWTH.items():
            rows[f"by {what}"] = [rows["ostler"] if step == (WORKERS, IDLE) else figures("ostler", *step) for step in steps]
    return rows


def exponent(steps, key, what):
    """The slope of the figure over what grew, both as logarithms, by least squares; None where it was not measured."""
    points = [(math.log(step[what]), math.log(step[key])) for step in steps if isinstance(step, dict) and step.get(key)]
    if len(points) < 2:
        return None
    mean = [sum(values) / len(points) for values in zip(*points)]
    above = sum((x - mean[0]) * (y - mean[1]) for x, y in points)
    return above / sum((x - mean[0]) ** 2 for x, _ in points)


def figures(name, workers, idle):
    try:
        with measure.serving(name, WORKLOAD, OPTIONS.get(name, ()), workers=workers) as (process, site):
            measure.check(WORKLOAD, site.port)
            with Holders(site.port, idle) as holders:
                holders.hold()
                result = {"workers": workers, "connections": idle, **reload(process, site)}
                result["ended"] = holders.ended()
            if name == "ostler":
                result |= told_by_log(TARGET / "bench" / "ostler.log")
    except Cannot as why:
        return f"left out: {why}"
    except (measure.Wrong, NotUp, OSError) as why:
        return f"failed: {why}"
    words = "  ".join(f"{key} {value:,.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in result.items())
    print(f"  {name:17} {words}", file=sys.stderr, flush=True)
    return result


def reload(process, site):
    """Times in milliseconds."""
    old = [os.pidfd_open(pid) for pid in children(process.pid)]
    result = {}
    with Askers(site.port) as askers:
        time.sleep(BEFORE)
        spread = spread_of(site)
        used, begun = time_of(process.pid), time.perf_counter()
        process.send_signal(signal.SIGHUP)
        wait_for_end(old, begun + PATIENCE)
        over = time.perf_counter()
        result["reload"] = (over - begun) * 1e3
        result["CPU"] = (time_of(process.pid) - used) * 1e3
        time.sleep(AFTER)
    during = sorted(took for asked, took in askers.times if begun - took <= asked <= over)
    before = [took for asked, took in askers.times if asked + took < begun]
    result["p99"] = during[int(len(during) * 0.99)] * 1e3
    result["longest"] = during[-1] * 1e3
    result["longest before"] = max(before) * 1e3
    if spread:
        result["spread before"], result["spread after"] = spread, spread_of(site)
    return result


def wait_for_end(pidfds, deadline):
    """Closes them, too."""
    for pidfd in pidfds:
        if not select.select([pidfd], [], [], max(0, deadline - time.perf_counter()))[0]:
            raise measure.Wrong(f"an old process lives after {PATIENCE} s")
        os.close(pidfd)


def children(root):
    """The child processes. No server here has grandchildren that live for long."""
    return [int(pid) for file in Path(f"/proc/{root}/task").glob("*/children") for pid in file.read_text().split()]


def time_of(root):
    """Processor seconds: to the nanosecond for processes that live, to the kernel's tick for those that were waited for.

    Reads nothing of the children in /proc: the kernel would have to free those entries when they end, in the time of `root`.
    """
    fields = Path(f"/proc/{root}/stat").read_text().rpartition(")")[2].split()
    return sum(map(clock_of, [root, *children(root)])) + sum(map(int, fields[13:15])) * processes.TICK


def clock_of(pid):
    """clock_getcpuclockid(3) of any process. One that has just ended counts among those that were waited for."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def spread_of(site):
    """The most connections of one worker divided by the mean, where the server reports them."""
    if not site.control.exists():
        return None
    told = subprocess.run([RELEASE / "ostler", "status", "--json", "--control", site.control], check=True, capture_output=True)
    serving = [each for each in json.loads(told.stdout)["generations"] if each["stage"] == "serving"]
    each = [worker["connections"] for worker in serving[0]["workers"]]
    return max(each) * len(each) / max(sum(each), 1)


def told_by_log(log):
    """From ostler's log: how long the old workers drained, in milliseconds, and how many packets they sent."""
    moments, sends = [], 0
    for line in log.read_text().splitlines():
        # A stop drains, too, but without a hand-over.
        if "worker draining" in line and "hand_over=true" in line or "worker drained generation=1 " in line:
            moments.append(datetime.fromisoformat(line.split()[0]))
        if told := re.search(r"connections handed over.* sends=(\d+)", line):
            sends += int(told[1])
    return {"drain": (max(moments) - min(moments)).total_seconds() * 1e3, "sends": sends}


class Holders:
    """Processes that hold the idle connections."""

    def __init__(self, port, idle):
        self.members = []
        for number, first in enumerate(range(0, idle, HELD_BY_ONE)):
            ours, theirs = multiprocessing.Pipe()
            task = (theirs, port, f"127.0.0.{number + 2}", min(HELD_BY_ONE, idle - first))
            process = multiprocessing.get_context("fork").Process(target=hold, args=task, daemon=True)
            self.members.append((process, ours))

    def __enter__(self):
        return self

    def hold(self):
        for process, pipe in self.members:
            process.start()
            told(pipe)

    def ended(self):
        """How many connections did not get a complete answer."""
        for _, pipe in self.members:
            pipe.send("ask")
        return sum(told(pipe) for _, pipe in self.members)

    def __exit__(self, *_):
        for process, _ in self.members:
            if process.pid:
                process.kill()
                process.join()


def told(pipe):
    """Returns the reason in place of the figure if a server does not answer this many connections."""
    if not pipe.poll(PATIENCE):
        raise measure.Wrong(f"its connections were not all answered within {PATIENCE} s")
    return pipe.recv()


def hold(pipe, port, address, count):
    os.sched_setaffinity(0, {measure.LOAD_CORE})
    connections = []
    for _ in range(count):
        connections.append(socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0)))
        # Its end is a reset, so that its port is free at once for the next run.
        connections[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if not answered(connections[-1]):
            raise measure.Wrong("a new connection was not answered")
    pipe.send("held")
    pipe.recv()
    pipe.send(sum(not answered(connection) for connection in connections))
    pipe.recv()


def answered(connection):
    data = b""
    try:
        connection.sendall(QUESTION)
        while not data.endswith(b"Hello, World!"):
            block = connection.recv(65536)
            if not block:
                return False
            data += block
    except OSError:
        return False
    return data.startswith(b"HTTP/1.1 200 ")


class Askers:
    """The clients that send requests all the time, on a thread of their own."""

    def __init__(self, port):
        self.port, self.times, self.over = port, [], threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def __enter__(self):
        self.mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {measure.LOAD_CORE})
        gc.disable()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        gc.enable()
        os.sched_setaffinity(0, self.mine)

    def ask(self):
        with selectors.DefaultSelector() as selector:
            due = [(time.perf_counter() + PAUSE * each / CLIENTS, each, Client(self.port, selector)) for each in range(CLIENTS)]
            clients = [client for *_, client in due]
            while not self.over.is_set():
                now = time.perf_counter()
                while due and due[0][0] <= now:
                    heapq.heappop(due)[2].ask()
                for key, _ in selector.select(max(0, due[0][0] - now) if due else PAUSE):
                    if key.data.read():
                        now = time.perf_counter()
                        self.times.append((key.data.asked, now - key.data.asked))
                        heapq.heappush(due, (now + PAUSE, id(key.data), key.data))
            for client in clients:
                if client.socket:
                    client.socket.close()
