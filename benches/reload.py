"""What clients notice of a reload of a site whose import takes four seconds.

Two workers. Sixteen clients ask all the time, with a pause between an answer and the next question: eight keep their
connections, eight make a new one for each question. The application answers with the time of its import, so that they see
when the new code answers, and when the old one does for the last time. The longest answers before the reload show what else
the machine is doing.
"""

import gc
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter

import measure
from processes import NotUp
from servers import RELEASE, Cannot
from workloads import Workload

TITLE = "a reload of a site whose import takes 4 s, under 16 clients (two workers)"
SLOW = Workload("an import of four seconds", "slow_import:app", 17)
CLIENTS, PAUSE, PATIENCE = 16, 0.01, 60
# How long the clients ask before the reload, and for how long all answers after it must have come from the right code, in seconds.
BEFORE, SETTLED = 5, 2


def hang_up(process, site):
    os.kill(process.pid, signal.SIGHUP)


def chain(process, site):
    """uWSGI's chain reload, its gentlest: one worker after the other."""
    site.control.write_text("c")


def roll_back(process, site):
    subprocess.run([RELEASE / "ostler", "rollback", "--control", site.control], check=True, capture_output=True)


RELOADS = {"ostler": hang_up, "granian": hang_up, "uwsgi": chain, "gunicorn-gthread": hang_up, "gunicorn-sync": hang_up}


def measure_all(servers):
    """{server: its figures, or why there are none}"""
    print(f"\n{TITLE}", file=sys.stderr)
    rows = {}
    for name in servers:
        if name in RELOADS:
            rows |= figures(name)
    return rows


def figures(name):
    options = ["--lazy-apps"] if name == "uwsgi" else []
    try:
        with measure.serving(name, SLOW, options, workers=2) as (process, site):
            measure.check(SLOW, site.port)
            moment = time.time()
            rows = {name: beside(name, site.port, lambda: RELOADS[name](process, site), later_than_the_change)}
            if name == "ostler":
                title = "ostler rollback"
                rows[title] = beside(title, site.port, lambda: roll_back(process, site), lambda imported, _: imported < moment)
    except Cannot as why:
        return {name: f"left out: {why}"}
    except (measure.Wrong, NotUp, OSError, subprocess.CalledProcessError) as why:
        return {name: f"failed: {why}"}
    return rows


def later_than_the_change(imported, change):
    return imported > change


def beside(title, port, change, is_right):
    """Has the clients ask before, during and after the change, and gives what they saw."""
    crowd = Crowd(port, is_right)
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {measure.LOAD_CORE})
    gc.disable()
    try:
        crowd.start()
        time.sleep(BEFORE)
        begun = crowd.expect_change()
        change()
        while time.perf_counter() < crowd.wrong + SETTLED:
            if time.perf_counter() > begun + PATIENCE:
                raise measure.Wrong(f"the old code still answers after {PATIENCE} s")
            time.sleep(0.1)
    finally:
        crowd.end()
        gc.enable()
        os.sched_setaffinity(0, mine)
    return crowd.figures(title, begun)


class Lost(Exception):
    """There was no answer, or an incomplete one, or an error; the text says which."""


class Crowd:
    """The clients, and what they have seen together. `is_right` is asked with the times of an import and of the change."""

    def __init__(self, port, is_right):
        self.port, self.is_right = port, is_right
        self.over = threading.Event()
        self.times, self.lost, self.ended = [], [], []
        self.change = float("inf")
        # When an answer last came from the wrong code.
        self.wrong = 0.0
        self.threads = [threading.Thread(target=self.client, args=(number % 2 == 0,)) for number in range(CLIENTS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def expect_change(self):
        """From now on, other code is expected to answer."""
        self.change = time.time()
        self.wrong = time.perf_counter()
        return self.wrong

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def client(self, keeps):
        connection = None
        while not self.over.wait(PAUSE):
            if connection and at_its_end(connection):
                connection = self.let_go(connection)
            asked = time.perf_counter()
            try:
                connection = connection or socket.create_connection(("127.0.0.1", self.port), 20)
                imported, kept = ask(connection, keeps)
                if not self.is_right(imported, self.change):
                    self.wrong = time.perf_counter()
            except (Lost, OSError) as why:
                self.lost.append(str(why))
                kept = False
            self.times.append((asked, time.perf_counter() - asked))
            if connection and not keeps:
                connection = connection.close()
            elif connection and not kept:
                connection = self.let_go(connection)
        if connection:
            connection.close()

    def let_go(self, connection):
        connection.close()
        self.ended.append(time.perf_counter())

    def figures(self, title, begun):
        """Times in milliseconds, except how long the old code still answered; `begun`: when the change began."""
        during = [took for asked, took in self.times if asked + took >= begun]
        result = {
            "answers": len(during) - len(self.lost),
            "median": statistics.median(during) * 1e3,
            "longest before": max(took for asked, took in self.times if asked + took < begun) * 1e3,
            "longest": max(during) * 1e3,
            "lost": len(self.lost),
            "ended": sum(ended >= begun for ended in self.ended),
            "seconds": self.wrong - begun,
        }
        words = "  ".join(f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in result.items())
        print(f"  {title:17} {words}  {dict(Counter(self.lost)) or ''}", file=sys.stderr, flush=True)
        return result


def at_its_end(connection):
    """Whether the server has closed an idle connection, on which it can send nothing else."""
    return bool(select.select([connection], [], [], 0)[0])


def ask(connection, keeps):
    """The time in the answer, and whether the connection may be used again."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n" % (b"keep-alive" if keeps else b"close"))
    data = head = body = b""
    while len(body) < SLOW.answer:
        block = connection.recv(65536)
        if not block:
            raise Lost("cut" if data else "closed without an answer")
        data += block
        head, _, body = data.partition(b"\r\n\r\n")
        if body and not data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
            raise Lost(data[9:12].decode())
    return float(body), b"connection: close" not in head.lower()
