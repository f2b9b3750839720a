"""Counts the instructions of a request, with callgrind: a table of servers for the bench, and the guard against regressions for CI.

Run as a program it counts what a worker's own code executes for each of COUNTS: the engine's object, which has the loop in it. What the
interpreter executes does not count: it is another on each machine. It compares that with what is recorded in instructions.json, and fails
if a count has grown by more than TOLERANCE; then it prints which functions have. A change that is worth its instructions records the new
counts: `make instructions ARGS=--record`.
"""

import contextlib
import json
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import callgrind
import install
import measure
import processes
from servers import SERVERS, Site

TITLE = "user-space instructions per hello request (callgrind)"
# One process of these servers answers everything, in compiled code. The others' counts would mostly be the interpreter's.
TABLE = ("ostler", "bjoern", "fastwsgi", "floor", "loop")
RECORDED = measure.HERE / "instructions.json"
ROUNDS = 5
# Counts of two builds of the same source, and of two runs of the same build, differ by less than this.
TOLERANCE = 1.02
# A function that executes less than this per request is recorded with the others.
WORTH_RECORDING = 20
# How many functions are printed where a count has grown.
SHOWN = 15


@dataclass(frozen=True)
class Count:
    """A request, what it is asked of (one of SITES), how many bytes follow the head of its answer, and how often it is asked in
    a round."""

    site: str
    target: str
    answer: int
    method: str = "GET"
    body: bytes = b""
    close: bool = False
    unix: bool = False
    times: int = 200

    def question(self):
        fields = ["Host: localhost", "User-Agent: bench", "Accept: */*"]
        fields += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"] if self.body else []
        fields += ["Connection: close"] if self.close else []
        return "\r\n".join([f"{self.method} {self.target} HTTP/1.1", *fields, "", ""]).encode() + self.body


# Each is an application with options.
SITES = {
    "plain": ("plain:by_path",),
    "log": ("plain:by_path", "--access-logfile", "/dev/null", "--access-logformat", "json"),
    "threads": ("plain:by_path", "--threads", "4"),
    "flask": ("flask_page:app",),
    "django": ("django_page:app",),
}

COUNTS = {
    "hello": Count("plain", "/hello", 13),
    "small JSON": Count("plain", "/post", 2, "POST", b'{"name": "saddle", "price": 129.5, "colours": ["black", "brown"]}'),
    "new connection": Count("plain", "/hello", 13, close=True),
    "HEAD": Count("plain", "/hello", 0, "HEAD"),
    # To read it is for the interpreter to do.
    "POST of 64 KiB": Count("plain", "/hello", 13, "POST", bytes(65536), unix=True, times=50),
    "answer of 1 MiB": Count("plain", "/mebibyte", 1048576, times=50),
    "file of 1 MiB": Count("plain", "/download", 1048576, times=50),
    # 100 blocks of 20 KiB, each with its size and two ends of line, and the last chunk. How many shorter ones are joined is a matter of time,
    # of which valgrind takes too much.
    "stream of 100 blocks": Count("plain", "/large_stream", 100 * (20480 + 8) + 5, times=20),
    "access log": Count("log", "/hello", 13),
    "four threads": Count("threads", "/hello", 13),
    "Flask page": Count("flask", "/", 826, times=50),
    "Django page": Count("django", "/", 827, times=50),
}


def measure_all(servers):
    """{server: instructions per request, or why there is no figure}"""
    print(f"\n{TITLE}", file=sys.stderr)
    if not install.program("valgrind"):
        return {name: "left out: it needs valgrind" for name in servers}
    return {name: count_hello(name) for name in TABLE if name in servers}


def count_hello(name):
    site = Site("plain:hello", processes.free_port())
    command = callgrind.ostler(site) if name == "ostler" else ["valgrind", "--tool=callgrind", *SERVERS[name](site)]
    try:
        with callgrind.counting(name, command, site.port) as server:
            result = sum(costs_of(server, site, Count("plain", "/", 13)).values())
    except (processes.NotUp, OSError, ValueError, subprocess.CalledProcessError) as why:
        return f"failed: {why}"
    print(f"  {name:17} {result:9.0f}", file=sys.stderr, flush=True)
    return result


def costs_of(server, site, count):
    """The costs of one request, as a Counter, in the best of ROUNDS: in how many pieces bytes arrive is chance."""
    with contextlib.closing(Client(site, count)) as client:
        client.ask(count.times)
        server.dump()
        rounds = []
        for _ in range(ROUNDS):
            with callgrind.stopped(server.process, "ostler-standby"), callgrind.before_the_server():
                client.ask(count.times)
            rounds.append(server.count())
    best = min(rounds, key=lambda costs: sum(costs.values()))
    return Counter({key: cost / count.times for key, cost in best.items()})


class Client:
    """Asks for the same again and again."""

    def __init__(self, site, count):
        self.site, self.count, self.connection = site, count, None

    def connect(self):
        connection = socket.socket(socket.AF_UNIX if self.count.unix else socket.AF_INET)
        connection.settimeout(60)
        connection.connect(callgrind.unix_socket(self.site) if self.count.unix else ("127.0.0.1", self.site.port))
        return connection

    def ask(self, times):
        question = self.count.question()
        for _ in range(times):
            self.connection = self.connection or self.connect()
            self.connection.sendall(question)
            self.take_answer()
            if self.count.close:
                self.close()

    def take_answer(self):
        answer, end = b"", None
        while end is None or len(answer) < end:
            data = self.connection.recv(1 << 20)
            if not data:
                raise OSError("the server closed the connection")
            answer += data
            if end is None and b"\r\n\r\n" in answer:
                end = answer.index(b"\r\n\r\n") + 4 + self.count.answer
        if not answer.startswith(b"HTTP/1.1 200 ") or len(answer) > end:
            raise ValueError(f"another answer came than was expected: {answer[:200]!r}")

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def count_own(names):
    """{name of a count: {function of the engine: instructions per request}}"""
    counted = {}
    for name, (application, *options) in SITES.items():
        chosen = {each: count for each, count in COUNTS.items() if count.site == name and each in names}
        if not chosen:
            continue
        site = Site(application, processes.free_port())
        with callgrind.counting(f"counted-{name}", callgrind.ostler(site, *options), site.port) as server:
            for each, count in chosen.items():
                costs = costs_of(server, site, count)
                counted[each] = {function: cost for (file, function), cost in costs.items() if file == callgrind.ENGINE}
                own, all_of_it = sum(counted[each].values()), sum(costs.values())
                print(f"  {each:22} {own:9,.0f}  with the interpreter's {all_of_it:11,.0f}", flush=True)
    return counted


def record(compiler, counted):
    """Writes a line for each count: its functions, the greatest first, and the others together."""
    recorded = json.loads(RECORDED.read_text())["counts"] if RECORDED.exists() else {}
    for name, functions in counted.items():
        worth = {function: round(cost) for function, cost in functions.items() if cost >= WORTH_RECORDING}
        others = {"others": round(sum(functions.values())) - sum(worth.values())}
        recorded[name] = dict(sorted(worth.items(), key=lambda item: -item[1])) | others
    lines = (f" {json.dumps(name)}: {json.dumps(recorded[name])}" for name in COUNTS if name in recorded)
    RECORDED.write_text(f'{{"rust": {json.dumps(compiler)}, "counts": {{\n' + ",\n".join(lines) + "\n}}\n")


def grown(name, functions, recorded):
    """Says which functions a count has grown by, if it has grown by more than it may; None otherwise."""
    now, before = sum(functions.values()), sum(recorded.values())
    if now <= before * TOLERANCE:
        return None
    known = Counter({function: cost for function, cost in functions.items() if function in recorded or cost >= WORTH_RECORDING})
    known["others"] = now - sum(known.values())
    changes = {function: known[function] - recorded.get(function, 0) for function in known | recorded}
    greatest = sorted(changes, key=lambda function: -abs(changes[function]))[:SHOWN]
    lines = [f"  {changes[each]:+8.0f}  {recorded.get(each, 0):6} -> {known[each]:6.0f}  {each}" for each in greatest]
    return "\n".join([f"{name} takes {now:,.0f} instructions per request, {now / before - 1:.1%} more than recorded:", *lines])


def main():
    arguments = sys.argv[1:]
    names = [name for name in arguments if name in COUNTS] or list(COUNTS)
    compiler = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    if not install.program("valgrind"):
        return print("LEFT OUT: valgrind is not installed and could not be")
    (measure.TARGET / "bench").mkdir(parents=True, exist_ok=True)
    install.build("ostler", "ostler-engine")
    try:
        counted = count_own(names)
    except PermissionError as why:
        return print(f"LEFT OUT: what is needed to count steadily is forbidden here: {why}")
    except (processes.NotUp, OSError, ValueError, subprocess.SubprocessError) as why:
        sys.exit(f"it could not be counted: {why}")
    if "--record" in arguments:
        return record(compiler, counted)
    recorded = json.loads(RECORDED.read_text())
    if recorded["rust"] != compiler:
        return print(f"LEFT OUT: the counts were recorded with Rust {recorded['rust']}, and this is {compiler}")
    if faults := [fault for name in names if (fault := grown(name, counted[name], recorded["counts"][name]))]:
        sys.exit("\n\n".join(faults))


if __name__ == "__main__":
    main()
