"""How long quick requests wait when one of two workers is always busy with a slow one.

Two workers of one thread each. One client asks for a page that takes a second, again and again, on a fresh connection
each time. Beside it sixteen clients keep a connection each and ask for a page that takes no time, with a pause between
an answer and the next request. One worker is idle all the time, so no request would have to wait.
"""

import gc
import heapq
import os
import random
import selectors
import socket
import sys
import threading
import time

import measure
from processes import NotUp
from servers import HELLO_ONLY, Cannot
from workloads import Workload

TITLE = "one slow request after another beside 16 keep-alive clients (two workers of one thread)"
SLOW = Workload("slow", "plain:slow", 13)
CLIENTS = 16
PAUSE = 0.005
QUESTION = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def measure_all(servers, seconds):
    """{server: its figures in milliseconds, or why there are none}"""
    print(f"\n{TITLE}", file=sys.stderr)
    return {name: figures(name, seconds) for name in servers if name not in HELLO_ONLY}


def figures(name, seconds):
    try:
        with measure.serving(name, SLOW, workers=2, only_thread=True) as (_, site):
            measure.check(SLOW, site.port)
            times = sorted(beside_a_slow_one(site.port, seconds))
    except Cannot as why:
        return f"left out: {why}"
    except (measure.Wrong, NotUp, OSError) as why:
        return f"failed: {why}"
    result = {
        "requests": len(times),
        "median": times[len(times) // 2] * 1e3,
        "99.9 %": times[int(len(times) * 0.999)] * 1e3,
        "longest": times[-1] * 1e3,
    }
    print(f"  {name:17} " + "  ".join(f"{key} {value:.1f}" for key, value in result.items()), file=sys.stderr, flush=True)
    return result


def beside_a_slow_one(port, seconds):
    """The time of every quick request, in seconds."""
    over = threading.Event()
    slow = threading.Thread(target=ask_slowly, args=(port, over))
    slow.start()
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {measure.LOAD_CORE})
    gc.disable()
    try:
        return ask_quickly(port, time.perf_counter() + seconds)
    finally:
        gc.enable()
        os.sched_setaffinity(0, mine)
        over.set()
        slow.join()


def ask_slowly(port, over):
    while not over.is_set():
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while client.recv(65536):
                pass


class Client:
    """One keep-alive connection, which is made again whenever the server ends it."""

    def __init__(self, port, selector):
        self.port, self.selector, self.socket = port, selector, None
        self.asked = 0.0
        self.answer = b""

    def ask(self, question=None):
        self.asked = time.perf_counter()
        self.answer = b""
        self.question = question or QUESTION
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port))
            self.selector.register(self.socket, selectors.EVENT_READ, self)
        self.socket.sendall(self.question)

    def read(self):
        """Whether the answer is complete. If the connection ends before the first byte, the request is sent again: the server had closed an idle
        connection."""
        data = self.socket.recv(65536)
        self.answer += data
        complete = self.answer.endswith(b"Hello, World!")
        if not data or (complete and b"connection: close" in self.answer.lower()):
            self.selector.unregister(self.socket)
            self.socket.close()
            self.socket = None
            if not complete:
                asked = self.asked
                self.ask(self.question)
                self.asked = asked
        return complete


def ask_quickly(port, end):
    """A closed loop: each client asks again, a pause after its answer. A request without an answer at the end counts with its time so far."""
    times = []
    with selectors.DefaultSelector() as selector:
        due = [(time.perf_counter() + random.random() * PAUSE, number, Client(port, selector)) for number in range(CLIENTS)]
        clients = [client for _, _, client in due]
        heapq.heapify(due)
        number = CLIENTS
        while (now := time.perf_counter()) < end:
            while due and due[0][0] <= now:
                heapq.heappop(due)[2].ask()
            for key, _ in selector.select(max(0, due[0][0] - now) if due else end - now):
                if key.data.read():
                    now = time.perf_counter()
                    times.append(now - key.data.asked)
                    heapq.heappush(due, (now + PAUSE, number, key.data))
                    number += 1
        waiting = {id(client) for _, _, client in due}
        times += [end - client.asked for client in clients if id(client) not in waiting]
        for client in clients:
            if client.socket:
                client.socket.close()
    return times
