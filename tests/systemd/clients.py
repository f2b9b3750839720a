"""usage: clients.py ADDRESS COUNT. Clients who ask again and again until standard input ends, and count what becomes of each request. Prints the
counts, and for how many seconds the most patient client has waited."""

import collections
import json
import re
import socket
import sys
import threading
import time

# A client that waits for the site to come back waits for this long.
PATIENCE = 90
REQUEST = b"GET / HTTP/1.1\r\nHost: site\r\n%s\r\n"
over = threading.Event()


def connect(address):
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        target = address
    else:
        connection = socket.socket(socket.AF_INET)
        host, port = address.rsplit(":", 1)
        target = (host, int(port))
    connection.settimeout(PATIENCE)
    connection.connect(target)
    return connection


def read(connection):
    """The body of an answer that is whole, and whether another may follow."""
    head, _, body = receive(connection, b"", lambda data: b"\r\n\r\n" in data).partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
    body = receive(connection, body, lambda data: len(data) >= length)
    return head.split()[1].decode() + " " + body.decode(), b"onnection: close" not in head


def receive(connection, data, enough):
    while not enough(data):
        more = connection.recv(65536)
        if not more:
            raise EOFError
        data += more
    return data


def client(address, kept, counts, waited):
    connection = None
    asked = time.monotonic()
    while not over.is_set():
        try:
            used = connection is not None
            connection = connection or connect(address)
        except OSError as error:
            counts[f"refused: {error.strerror}"] += 1
            over.wait(0.01)
            continue
        try:
            connection.sendall(REQUEST % (b"" if kept else b"Connection: close\r\n"))
            answer, more = read(connection)
            counts[answer] += 1
            waited.append(time.monotonic() - asked)
            asked = time.monotonic()
        except (OSError, EOFError) as error:
            # A server may close a connection that idles at the very moment at which a client asks again (RFC 9112, 9.3.1).
            counts["asked anew" if used else f"cut: {error!r}"] += 1
            more = False
        if not (kept and more):
            connection.close()
            connection = None


def main(address, count):
    counts = [collections.Counter() for _ in range(count)]
    waited = []
    threads = [threading.Thread(target=client, args=(address, place % 2 == 1, counts[place], waited)) for place in range(count)]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps([sum(counts, collections.Counter()), max(waited, default=0)]))


main(sys.argv[1], int(sys.argv[2]))
