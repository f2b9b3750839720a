"""What a program may do with its servers. Ends with `passed`."""

import errno
import gc
import http.client
import logging
import os
import socket
import threading
import time
import weakref
from contextlib import contextmanager

from ostler import WSGIServer, make_server

TOGETHER = threading.Barrier(4)


def app(environ, start_response):
    path, body = environ["PATH_INFO"], b"hello"
    if path == "/raises":
        raise ValueError("of the application")
    if path == "/together":
        TOGETHER.wait(30)
    if path == "/stop":
        servers[int(environ["QUERY_STRING"])].shutdown()
    if path == "/multi":
        body = f"{environ['wsgi.multithread']} {environ['wsgi.multiprocess']} {environ['SERVER_PORT']}".encode()
    if path == "/forks":
        child = os.fork()
        if child == 0:
            os._exit(7)
        body = str(os.waitpid(child, 0)[1] >> 8).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


servers = {}


@contextmanager
def live(server):
    """As a fixture of tests has it."""
    servers[server.server_port] = server
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with server:
        yield server
    thread.join(30)
    assert not thread.is_alive()


def get(server, path="/", connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def waits(holds):
    while not holds():
        time.sleep(0.01)


def raises(kind, call, *words):
    try:
        call()
    except kind as error:
        assert all(word in str(error) for word in words), error
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


# Two servers at once; port 0 is told.
with live(WSGIServer(("127.0.0.1", 0), app)) as one, live(make_server("127.0.0.1", 0, app, threads=4)) as two:
    assert one.server_port != two.server_port and one.listen_socket.getsockname() == ("127.0.0.1", one.server_port)
    assert get(one) == get(two) == (200, "hello") and one.server_name == "127.0.0.1"
    assert get(one, "/multi") == (200, f"False False {one.server_port}")
    assert get(two, "/multi") == (200, f"True False {two.server_port}")
    # Four calls wait for each other.
    clients = [threading.Thread(target=get, args=(two, "/together")) for _ in range(4)]
    [client.start() for client in clients]
    [client.join(30) for client in clients]
    assert TOGETHER.broken is False and not any(client.is_alive() for client in clients)
    # The address is in use.
    error = raises(OSError, lambda: WSGIServer(("127.0.0.1", one.server_port)), "127.0.0.1", str(one.server_port))
    assert error.errno == errno.EADDRINUSE
    raises(RuntimeError, one.serve_forever, "serves already")
    assert get(one, "/forks") == (200, "7")
    names = {thread.name for thread in threading.enumerate()}
assert [thread.name for thread in threading.enumerate()] == ["MainThread"], names

# An exception goes to the logger before its client has the answer.
records = []
logging.getLogger("ostler").addHandler(handler := logging.Handler())
handler.emit = records.append
with live(WSGIServer(("127.0.0.1", 0), app)) as server:
    assert get(server, "/raises")[0] == 500
    (record,) = records
    assert record.levelname == "ERROR" and record.exc_info[0] is ValueError and "/raises" in record.getMessage()
    assert record.exc_info[1].__traceback__.tb_next is None and record.exc_info[2] is not None
    # A client that keeps its connection does not hold up the end, and the server can begin again.
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    assert get(server, connection=connection) == (200, "hello")
    server.shutdown()
    assert connection.sock.recv(1) == b""
    connection.close()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    # In a request it does not wait for itself.
    assert get(server, f"/stop?{server.server_port}") == (200, "hello")
    thread.join(30)
    assert not thread.is_alive()
    # Remembered: the thread may come to it later.
    server.shutdown()
    server.serve_forever()
raises(OSError, lambda: (server.serve_forever(), server.serve_forever()), "closed")

# Nor does one that has stopped in the middle of a head or of a body, while a call under way is finished. (408 would be a time-out's.)
with live(WSGIServer(("127.0.0.1", 0), app, threads=4)) as server:
    TOGETHER.reset()
    answers = []
    client = threading.Thread(target=lambda: answers.append(get(server, "/together")))
    client.start()
    head, body, behind = (socket.create_connection(("127.0.0.1", server.server_port), 60) for _ in range(3))
    head.sendall(b"GET / HT")
    body.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
    behind.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT")
    assert behind.recv(4096).startswith(b"HTTP/1.1 200 OK")
    waits(lambda: TOGETHER.n_waiting == 1)
    threading.Thread(target=server.shutdown).start()
    answers += [b"".join(iter(lambda: each.recv(4096), b"")) for each in (head, body, behind)]
    assert answers[0] == answers[2] == b"" and answers[1].startswith(b"HTTP/1.1 503 "), answers
    [threading.Thread(target=TOGETHER.wait).start() for _ in range(3)]
    client.join(60)
    assert answers[3:] == [(200, "hello")], answers
    [each.close() for each in (head, body, behind)]

# Other families.
if socket.has_ipv6:
    with make_server("::1", 0, app) as six:
        assert six.server_address[0] == "::1" and f"[::1]:{six.server_port}" in repr(six)
with live(WSGIServer("served.sock", app)):
    client = socket.socket(socket.AF_UNIX)
    client.connect("served.sock")
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"\r\n\r\nhello")
    client.close()
assert not os.path.exists("served.sock")

# Mistakes.
raises(TypeError, lambda: WSGIServer(("127.0.0.1", 0), 5), "not callable", "int")
raises(TypeError, lambda: WSGIServer(("127.0.0.1", 0)).set_app("app"), "not callable", "str")
raises(TypeError, lambda: WSGIServer(("127.0.0.1", 0)).serve_forever(), "set_app")
raises(TypeError, lambda: WSGIServer(8000), "8000")
raises(TypeError, lambda: WSGIServer(("127.0.0.1", "http")), "the port is a number, not 'http'")
raises(ValueError, lambda: WSGIServer("127.0.0.1:8000"), "say ('127.0.0.1', 8000), or 'unix:127.0.0.1:8000'")
with WSGIServer("unix:127.0.0.1:8000"), WSGIServer("./named:8000"):
    assert os.path.exists("127.0.0.1:8000") and os.path.exists("named:8000")
assert not os.path.exists("127.0.0.1:8000")
raises(OverflowError, lambda: WSGIServer(("127.0.0.1", 80000)), "80000")
raises(ValueError, lambda: WSGIServer(("127.0.0.1", 0), threads=0), "threads")
raises(TypeError, lambda: make_server("127.0.0.1", 0, app, handler_class=object), "handler_class")
raises(TypeError, lambda: make_server("127.0.0.1", 0, app, server_class=object), "server_class")
raises(ValueError, lambda: WSGIServer(socket.socket()), "listen()")
with live(WSGIServer(socket.create_server(("127.0.0.1", 0)), app)) as server:
    assert get(server) == (200, "hello")

# A child that was forked beside a server has a server of its own, and leaves its parent's alone.
with live(WSGIServer(("127.0.0.1", 0), app)) as server:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with live(WSGIServer(("127.0.0.1", 0), app)) as own:
                assert get(own) == (200, "hello")
            server.shutdown()
            server.server_close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert get(server) == (200, "hello")

# Nothing keeps a server, and no descriptor stays open.
gc.collect()
before = len(os.listdir("/proc/self/fd"))
server = WSGIServer(("127.0.0.1", 0), app)
server.itself, seen = server, weakref.ref(server)
with live(server):
    get(server)
servers.clear()
del server
gc.collect()
assert seen() is None and len(os.listdir("/proc/self/fd")) == before

print("passed", flush=True)

# The interpreter ends while a thread serves: idle, and in a call.
for path in ("/", "/together"):
    server = WSGIServer(("127.0.0.1", 0), app)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    TOGETHER.reset()
    threading.Thread(target=get, args=(server, path), daemon=True).start()
