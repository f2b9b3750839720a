"""What a request costs when one part of it is doubled, again and again: fields, target, body, answer.

The cost is the processor time of the whole server, over requests that one client sends one after the other. The exponent says how
it grows: 0 not at all, 1 in proportion. A sudden rise shows in the steepest doubling, whose own exponent is given, too.
"""

import contextlib
import math
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import Callable

import measure
import processes
from servers import HELLO_ONLY, Cannot
from workloads import Workload

TITLE = "processor time of a request as one thing of it is doubled"
TURNS = 3
# Options that allow the largest of these heads; gunicorn has the same ones as ostler.
HEADS = ("--limit-request-fields=200", "--limit-request-line=8190", "--limit-request-field_size=0")
OPTIONS = {"ostler": HEADS[:2], "gunicorn-gthread": HEADS, "gunicorn-sync": HEADS, "uwsgi": ("--buffer-size=32768",)}
KILO, MEGA = 1024, 1 << 20


@dataclass(frozen=True)
class Series:
    """`question` makes the request of a size; `options` are for ostler alone."""

    title: str
    application: str
    sizes: tuple
    question: Callable[[int], bytes]
    options: tuple = ()


def doubled(first, last):
    return tuple(first << step for step in range(int(math.log2(last // first)) + 1))


def get(target="/", fields=b""):
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (target.encode(), fields)


def with_fields(count):
    return get(fields=b"".join(b"X-Field-%d: value %d\r\n" % (number, number) for number in range(count - 1)))


def with_escapes(length):
    return get("/" + ("%C3%A9" * length)[: (length - 1) // 3 * 3])


def with_body(length):
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (length, b"x" * length)


SERIES = {
    "fields": Series("header fields", "plain:hello", doubled(8, 128), with_fields),
    "target": Series("bytes of a target of escapes", "plain:hello", doubled(500, 8000), with_escapes),
    "body": Series("bytes of a body", "plain:post", doubled(16 * KILO, 4 * MEGA), with_body),
    "live": Series("bytes of a body, unbuffered", "plain:post", doubled(16 * KILO, 4 * MEGA), with_body, ("--no-request-buffering",)),
    "answer": Series("bytes of an answer", "plain:sized", doubled(16 * KILO, 64 * MEGA), lambda length: get(f"/{length}")),
}


def measure_all(servers, seconds):
    """{series: {server: microseconds for each size, None where it refused, or why there are none}}"""
    print(f"\n{TITLE}", file=sys.stderr)
    names = [name for name in servers if name not in HELLO_ONLY]
    return {key: {name: costs(name, series, seconds) for name in names} for key, series in SERIES.items()}


def costs(name, series, seconds):
    if series.options and name != "ostler":
        return "left out: it has no such option"
    workload = Workload(series.title, series.application, 0)
    try:
        with measure.serving(name, workload, (*OPTIONS.get(name, ()), *series.options)) as (process, site):
            best = {}
            for _ in range(TURNS):
                for size in series.sizes:
                    cost = turn(process.pid, site.port, series.question(size), seconds)
                    best[size] = min(cost, best.get(size, math.inf)) if cost else None
    except Cannot as why:
        return f"left out: {why}"
    except (measure.Wrong, processes.NotUp, OSError) as why:
        return f"failed: {why}"
    result = list(best.values())
    print(f"  {series.title}: {name:17}", *(f"{cost:.0f}" if cost else "–" for cost in result), file=sys.stderr, flush=True)
    return result


def turn(server, port, question, seconds):
    """The server's microseconds for one request; None if it refuses the request."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {measure.LOAD_CORE})
    try:
        with contextlib.closing(Client(port)) as client:
            for _ in range(3):
                if not client.ask(question):
                    return None
            before, requests, end = nanoseconds(server), 0, time.perf_counter() + seconds
            while time.perf_counter() < end or requests < 3:
                if not client.ask(question):
                    raise measure.Wrong("it refused what it had answered before")
                requests += 1
            return (nanoseconds(server) - before) / requests / 1000
    finally:
        os.sched_setaffinity(0, mine)


def nanoseconds(root):
    """Processor time of all threads of `root` and its descendants. Those that have ended do not count."""
    total = 0
    for pid, _ in processes.tree(root):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
    return total


class Client:
    """One connection, which is made again whenever the server ends it."""

    def __init__(self, port):
        self.port, self.socket, self.room = port, None, bytearray(MEGA)

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    def ask(self, question):
        """Whether the answer was 200. It is read to its end."""
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), 30)
        try:
            self.socket.sendall(question)
        except ConnectionError:
            # A refusal may come before the whole request is sent.
            self.close()
            return False
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self.socket.recv(65536)
            if not data:
                # Some servers refuse by closing the connection.
                self.close()
                return False
            answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
        fields = {name: value.strip() for name, _, value in lines}
        left = int(fields.get(b"content-length", 0)) - len(body)
        while left > 0:
            received = self.socket.recv_into(self.room)
            if not received:
                raise measure.Wrong("it broke off its answer")
            left -= received
        good = b" 200 " in lines[0][0]
        if not good or fields.get(b"connection") == b"close" or head.startswith(b"HTTP/1.0"):
            self.close()
        return good


def exponents(sizes, costs):
    """(the exponent over all sizes, that of the steepest doubling, the size before that doubling)"""
    points = [(size, cost) for size, cost in zip(sizes, costs) if cost]
    steps = [(math.log(cost / last) / math.log(size / before), before) for (before, last), (size, cost) in zip(points, points[1:])]
    steepest, at = max(steps)
    xs, ys = [math.log(size) for size, _ in points], [math.log(cost) for _, cost in points]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum((a - x) ** 2 for a in xs)
    return slope, steepest, at
