"""How long quick requests wait beside clients that always have more to send, and how long a reload takes then.

Two workers of one thread each. Two clients upload at full speed and two send pipelined requests without a pause. Beside them
sixteen clients keep a connection each and request a page that takes no time, with a pause between an answer and the next
request. Under this load the code is then reloaded, where the server can do that.
"""

import contextlib
import gc
import multiprocessing
import os
import socket
import sys
import threading
import time

import measure
import tail
from processes import NotUp
from reload import RELOADS
from servers import HELLO_ONLY, Cannot
from workloads import Workload

TITLE = "16 keep-alive clients beside two uploads at full speed and two pipelined floods (two workers of one thread)"
GREEDY = Workload("greedy", "plain:greedy", 13)
FLOOD = tail.QUESTION * 256
LENGTH = 64 << 20
UPLOAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % LENGTH
BLOCK = b"x" * (1 << 18)
# How long the old code may answer after a reload, and for how long only the new code must have answered, in seconds.
PATIENCE, SETTLED = 60, 1


def measure_all(servers, seconds):
    """{server: its figures in milliseconds, the reload's in seconds, or why there are none}"""
    print(f"\n{TITLE}", file=sys.stderr)
    return {name: figures(name, seconds) for name in servers if name not in HELLO_ONLY}


def figures(name, seconds):
    try:
        with measure.serving(name, GREEDY, workers=2, only_thread=True) as (process, site):
            measure.check(GREEDY, site.port)
            with greedy_clients(site.port):
                times = sorted(quick_clients(site.port, seconds))
                taken = reload(name, process, site)
    except Cannot as why:
        return f"left out: {why}"
    except (measure.Wrong, NotUp, OSError) as why:
        return f"failed: {why}"
    result = {
        "requests": len(times),
        "median": times[len(times) // 2] * 1e3,
        "99.9 %": times[int(len(times) * 0.999)] * 1e3,
        "longest": times[-1] * 1e3,
        "reload s": taken,
    }
    words = "  ".join(f"{key} {'–' if value is None else format(value, '.2f')}" for key, value in result.items())
    print(f"  {name:17} {words}", file=sys.stderr, flush=True)
    return result


@contextlib.contextmanager
def greedy_clients(port):
    """The greedy clients. They are processes of their own, so that they go on while this one waits."""
    greedy = [multiprocessing.Process(target=task, args=(port,), daemon=True) for task in (upload, flood) * 2]
    for process in greedy:
        process.start()
    time.sleep(1)
    try:
        yield
    finally:
        for process in greedy:
            process.kill()
            process.join()


def quick_clients(port, seconds):
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {measure.LOAD_CORE})
    gc.disable()
    try:
        return tail.ask_quickly(port, time.perf_counter() + seconds)
    finally:
        gc.enable()
        os.sched_setaffinity(0, mine)


def upload(port):
    with greedily(port) as connect:
        while True:
            with contextlib.suppress(OSError), connect() as client:
                while True:
                    client.sendall(UPLOAD)
                    for _ in range(LENGTH // len(BLOCK)):
                        client.sendall(BLOCK)
                    if not client.recv(65536):
                        break


def flood(port):
    with greedily(port) as connect:
        while True:
            with contextlib.suppress(OSError), connect() as client:
                threading.Thread(target=forget, args=(client,), daemon=True).start()
                while True:
                    client.sendall(FLOOD)


def forget(client):
    with contextlib.suppress(OSError):
        while client.recv(1 << 20):
            pass
        client.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def greedily(port):
    """Runs at a lower priority, so that the measured clients get the core first."""
    os.sched_setaffinity(0, {measure.LOAD_CORE})
    os.nice(10)
    yield lambda: socket.create_connection(("127.0.0.1", port))


def reload(name, process, site):
    """For how many seconds the old code still answered; None if the server has no reload."""
    if name not in RELOADS or name == "uwsgi":
        return None
    change, begun = time.time(), time.perf_counter()
    RELOADS[name](process, site)
    wrong = begun
    while (now := time.perf_counter()) < wrong + SETTLED:
        if now > begun + PATIENCE:
            raise measure.Wrong(f"the old code still answers after {PATIENCE} s")
        if born(site.port) < change:
            wrong = time.perf_counter()
    return wrong - begun


def born(port):
    """The time of the import of the code that answers a new connection."""
    with contextlib.suppress(OSError, ValueError), socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"GET /born HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while block := client.recv(65536):
            answer += block
        return float(answer.rpartition(b"\r\n\r\n")[2])
    return 0
