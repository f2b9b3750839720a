"""Clients that check each answer, and know which requests a crash may have cost."""

import http.client
import random
import threading
import time
from dataclasses import dataclass, field

CLIENTS = 8
PATIENCE = 60
# How long after a request a client thinks, at most, in seconds.
THOUGHT = 0.02


@dataclass
class Figures:
    """What the clients have seen since the figures were last taken."""

    times: list = field(default_factory=list)
    """Of /hello, in seconds."""
    answers: int = 0
    lost: list = field(default_factory=list)
    """(when the request began, when it failed, why)"""


class Load:
    """The clients, while the block runs."""

    def __init__(self, port, seed):
        self.port = port
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.figures = Figures()
        self.threads = [
            threading.Thread(target=self.client, args=(random.Random(seed + number), number % 2 == 0)) for number in range(CLIENTS)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def take(self):
        with self.lock:
            taken, self.figures = self.figures, Figures()
        return taken

    def client(self, chance, keeps):
        connection = None
        while not self.over.wait(chance.random() * THOUGHT):
            connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            began = time.monotonic()
            try:
                kind = self.ask(connection, chance, keeps)
            except (OSError, http.client.HTTPException, AssertionError) as why:
                with self.lock:
                    self.figures.lost.append((began, time.monotonic(), f"{type(why).__name__}: {why}"))
                connection.close()
                connection = None
                continue
            with self.lock:
                self.figures.answers += 1
                if kind == "hello":
                    self.figures.times.append(time.monotonic() - began)
            if not keeps:
                connection.close()
                connection = None
        if connection:
            connection.close()

    def ask(self, connection, chance, keeps):
        """Sends one request and checks its answer. Returns of what kind it was."""
        kind = chance.choices(["hello", "echo", "slow", "large", "stream"], [60, 15, 10, 5, 10])[0]
        text = f"{chance.randrange(10**9):09}"
        sent = (text * chance.choice([1, 100, 20_000])).encode() if kind == "echo" else None
        headers = {} if keeps else {"Connection": "close"}
        connection.request("POST" if sent else "GET", f"/{kind}?{text}", sent, headers)
        response = connection.getresponse()
        body = response.read()
        expected = {
            "hello": b"hello " + text.encode(),
            "slow": b"hello " + text.encode(),
            "echo": sent,
            "large": text.encode() * 100_000,
            "stream": text.encode() * 20,
        }[kind]
        assert response.status == 200, f"status {response.status} for {kind}"
        assert body == expected, f"{len(body)} bytes for {kind}, not the {len(expected)} expected"
        return kind


def crash(port):
    """Has the application end its worker in the middle of a call. Returns when that was."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/crash")
        connection.getresponse()
        raise AssertionError("a crash was answered")
    except (ConnectionError, http.client.HTTPException):
        return began, time.monotonic()
    finally:
        connection.close()
