"""A page for each corner of PEP 3333. The first segment of the path names the function."""

import hashlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain; charset=utf-8")]
closed = []


def hello(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"hello\n"]


def environment(environ, start_response):
    """The environ: strings as they are, of anything else its type."""
    seen = {key: value if isinstance(value, (str, bool, tuple)) else type(value).__name__ for key, value in environ.items()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


def process(environ, start_response):
    """Who answers: for tests that ask which process or thread, as whom, where."""
    umask = os.umask(0)
    os.umask(umask)
    seen = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "user": os.getuid(),
        "group": os.getgid(),
        "groups": os.getgroups(),
        "umask": umask,
        "directory": os.getcwd(),
        "path": sys.path,
        "thread": threading.current_thread().name,
        "main thread": threading.current_thread() is threading.main_thread(),
        "variables": dict(os.environ),
        "module": __name__,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [*TEXT, ("X-Length", environ.get("CONTENT_LENGTH", "none"))])
    return [body]


def digest(environ, start_response):
    digest, length = hashlib.sha256(), 0
    while block := environ["wsgi.input"].read(65536):
        digest.update(block)
        length += len(block)
    start_response("200 OK", TEXT)
    return [f"{digest.hexdigest()} {length}\n".encode()]


def reading(environ, start_response):
    """Reads the body by each method of wsgi.input, one after the other."""
    source = environ["wsgi.input"]
    seen = [
        ["read(3)", source.read(3)],
        ["readline()", source.readline()],
        ["readline(2)", source.readline(2)],
        ["readline(-1)", source.readline(-1)],
        ["read(0)", source.read(0)],
        ["readlines(1)", source.readlines(1)],
        ["next", next(iter(source))],
        ["readlines()", source.readlines()],
        ["read()", source.read()],
        ["readline()", source.readline()],
        ["list", list(source)],
    ]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen, default=bytes.decode).encode()]


def errors(environ, start_response):
    environ["wsgi.errors"].write("one line to wsgi.errors\n")
    environ["wsgi.errors"].writelines(["another ", "of three ", "pieces\n"])
    environ["wsgi.errors"].flush()
    print("and one printed to it", file=environ["wsgi.errors"])
    return hello(environ, start_response)


def printing(environ, start_response):
    print("printed by the application")
    return hello(environ, start_response)


def written(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"written, ")
    write(b"then ")
    return [b"returned\n"]


def two_blocks(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"one ", b"two\n"]


def empty_blocks(environ, start_response):
    """The head may not leave before the first block that is not empty, so the status may still change."""

    def blocks():
        start_response("200 OK", TEXT)
        yield b""
        try:
            raise RuntimeError("changed my mind")
        except RuntimeError:
            start_response("503 Service Unavailable", TEXT, sys.exc_info())
        yield b""
        yield b"changed\n"

    return blocks()


def late_error(environ, start_response):
    """An error after the head has left: start_response raises it again."""

    def blocks():
        start_response("200 OK", TEXT)
        yield b"the first block\n"
        try:
            raise RuntimeError("too late for another status")
        except RuntimeError:
            start_response("500 Internal Server Error", TEXT, sys.exc_info())
        yield b"never sent\n"

    return blocks()


def lazy(environ, start_response):
    """start_response is called only when the first block is asked for."""
    start_response("200 OK", TEXT)
    yield b"lazy\n"


def own_length(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    return iter([b"abc", b"def"])


def nothing(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


class Closing:
    """An iterable whose close() is counted."""

    def __init__(self, name, blocks):
        self.name, self.blocks = name, iter(blocks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        closed.append(self.name)


def closing(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing("whole", [b"a", b"b\n"])


def closing_after_error(environ, start_response):
    def blocks():
        yield b"a"
        raise RuntimeError("the iterable broke")

    start_response("200 OK", TEXT)
    return Closing("broken", blocks())


def closed_so_far(environ, start_response):
    body = json.dumps(closed).encode()
    closed.clear()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def file(environ, start_response):
    """A file from its present offset: what comes before is not sent."""
    made = tempfile.TemporaryFile()
    made.write(b"not this, " + b"but this " * 100_000)
    made.seek(10)
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](made, 4096)


def file_part(environ, start_response):
    """A Content-Length shorter than the file ends the answer."""
    made = tempfile.TemporaryFile()
    made.write(b"0123456789")
    made.seek(2)
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return environ["wsgi.file_wrapper"](made)


class Pretender:
    """Has read() and close(), and is no file."""

    def __init__(self):
        self.left = 3

    def read(self, size):
        self.left -= 1
        return b"x" * size if self.left >= 0 else b""

    def close(self):
        closed.append("pretender")


def file_like(environ, start_response):
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](Pretender(), 10)


def at_the_gate(path):
    """Connects to a socket, and returns what comes from it up to its end."""
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(path)
        return b"".join(iter(lambda: gate.recv(4096), b""))


def gated_block(environ, start_response):
    """Sends a block, then waits at the gate that the query names."""

    def blocks():
        yield b"before "
        yield at_the_gate(environ["QUERY_STRING"])

    start_response("200 OK", TEXT)
    return blocks()


def gated(environ, start_response):
    """Waits at the gate that the query names."""
    body = at_the_gate(environ["QUERY_STRING"])
    start_response("200 OK", TEXT)
    return [body]


def big(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"0123456789abcdef" * (1 << 16)]


def sleeping(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return hello(environ, start_response)


def raising(environ, start_response):
    raise RuntimeError("raised by the page")


def exiting(environ, start_response):
    sys.exit("exit called by the page")


def stranger(environ, start_response):
    """Leaves a grandchild whose parent ends at once."""
    if os.fork() == 0:
        grandchild = os.fork()
        if grandchild == 0:
            time.sleep(0.2)
        os._exit(0)
    os.wait()
    return hello(environ, start_response)


def dispatch(environ, start_response):
    name = environ["PATH_INFO"].split("/")[1]
    return globals()[name](environ, start_response)


checked = validator(dispatch)
application = dispatch
