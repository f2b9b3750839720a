"""One small application for each test: the path names it."""

import gc
import io
import os
import sys
import tempfile
import threading
import time

KEPT = {}
PLAIN = [("Content-Type", "text/plain")]


def application(environ, start_response):
    return globals()[environ["PATH_INFO"].strip("/").split("/")[0]](environ, start_response)


def hello(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "5")])
    return [b"hello"]


def environ(environ, start_response):
    start_response("200 OK", PLAIN)
    return ["".join(f"{key}={value!r}\n" for key, value in sorted(environ.items())).encode("latin-1")]


LARGE = bytes(range(256)) * 40_000


def large(environ, start_response):
    start_response("200 OK", PLAIN)
    return [LARGE]


def large_references(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"%d" % sys.getrefcount(LARGE)]


def known(environ, start_response):
    """How many fields have the very value that they had in the last request."""
    fields = {key: value for key, value in environ.items() if key.startswith("HTTP_X_")}
    same = sum(KEPT.get("fields", {}).get(key) is value for key, value in fields.items())
    KEPT["fields"] = fields
    start_response("200 OK", PLAIN)
    return [b"%d" % same]


def lengthless(environ, start_response):
    start_response("200 OK", PLAIN)
    return (b"one block",)


def blocks(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b""
    yield b"one "
    yield b""
    yield b"two"


class Sized:
    """Says that it has one block; has as many as it is told."""

    def __init__(self, *blocks):
        self.blocks = blocks

    def __len__(self):
        return 1

    def __iter__(self):
        return iter(self.blocks)


def sized(environ, start_response):
    start_response("200 OK", PLAIN)
    return Sized(b"only")


def liar(environ, start_response):
    start_response("200 OK", PLAIN)
    return Sized(b"first ", b"second")


def nothing(environ, start_response):
    start_response("204 No Content", [])
    return []


def written(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"")
    write(b"by write, ")
    return [b"then returned"]


class Closing:
    def __init__(self, blocks, name):
        self.blocks, self.name = iter(blocks), name
        KEPT[name] = 0

    def __iter__(self):
        return self

    def __next__(self):
        block = next(self.blocks)
        if isinstance(block, Exception):
            raise block
        return block

    def close(self):
        KEPT[self.name] += 1


def closing(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing([b"a", b"b"], "closing")


def breaking(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing([b"a", ValueError("broke on the way")], "breaking")


def endless(environ, start_response):
    start_response("200 OK", PLAIN)

    def nothing_at_all():
        while True:
            time.sleep(0.001)
            yield b""

    return Closing(nothing_at_all(), "endless")


def kept(environ, start_response):
    start_response("200 OK", PLAIN)
    return [repr(KEPT.get(environ["QUERY_STRING"])).encode()]


def raising(environ, start_response):
    raise KeyError("raised by the application")


def exiting(environ, start_response):
    raise SystemExit(3)


def never_started(environ, start_response):
    return [b"a body without a head"]


def twice(environ, start_response):
    start_response("200 OK", PLAIN)
    start_response("201 Created", PLAIN)
    return []


def replaced(environ, start_response):
    start_response("200 OK", [*PLAIN, ("X-Old", "1")])
    try:
        raise RuntimeError("half way")
    except RuntimeError:
        start_response("503 Later", [("X-New", "1")], sys.exc_info())
    return [b"sorry"]


def too_late(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"already out"
    try:
        raise RuntimeError("after the head")
    except RuntimeError:
        start_response("500 Oops", PLAIN, sys.exc_info())
    yield b"never"


REFUSED = {
    "status_type": (b"200 OK", PLAIN),
    "status_shape": ("OK", PLAIN),
    "headers_type": ("200 OK", tuple(PLAIN)),
    "pair_type": ("200 OK", [["A", "b"]]),
    "name_type": ("200 OK", [(b"A", "b")]),
    "value_type": ("200 OK", [("A", 1)]),
    "value_newline": ("200 OK", [("A", "b\r\nSet-Cookie: x=1")]),
    "value_latin": ("200 OK", [("A", "\u20ac")]),
    "value_surrogate": ("200 OK", [("A", "\ud800")]),
    "hop_by_hop": ("200 OK", [("Connection", "close")]),
}


def refused(environ, start_response):
    try:
        start_response(*REFUSED[environ["QUERY_STRING"]])
    except (TypeError, ValueError, AssertionError) as error:
        start_response("200 OK", PLAIN)
        return [f"{type(error).__name__}: {error}".encode()]
    return [b"accepted"]


def latin(environ, start_response):
    start_response("200 Tr\xe8s bien", [("X-Name", "\xe9")])
    return [b""]


def text_block(environ, start_response):
    start_response("200 OK", PLAIN)
    return ["a str"]


def late_call(environ, start_response):
    """Calls what an earlier request was given."""
    start_response("200 OK", PLAIN)
    if "late" not in KEPT:
        KEPT["late"] = start_response, environ["ostler.client_disconnected"], environ["wsgi.input"]
        return [b"kept"]
    old_start, old_disconnected, old_input = KEPT["late"]
    try:
        old_start("200 OK", [])
    except RuntimeError as error:
        fresh = environ["ostler.client_disconnected"]()
        return [f"{error}; {old_disconnected()} {fresh} {old_input.read()!r}".encode()]
    return [b"not refused"]


def body(environ, start_response):
    source = environ["wsgi.input"]
    how = environ["QUERY_STRING"]
    parts = {
        "read": lambda: [source.read()],
        "sizes": lambda: [source.read(0), source.read(3), source.read(-1), source.read(5)],
        "none": lambda: [source.read(None), source.read()],
        "line": lambda: [source.readline(), source.readline(2), source.readline(100), source.readline(-1), source.readline()],
        "lines": lambda: source.readlines(),
        "hint": lambda: source.readlines(1) + [b"|"] + source.readlines(),
        "iterate": lambda: list(source) + [source.read()],
        "mixed": lambda: [next(source), source.read(2), source.readline(), source.read()],
        "length": lambda: [str(len(source.read())).encode(), environ.get("CONTENT_LENGTH", "none").encode()],
        "keep": lambda: KEPT.update(input=source) or [b"kept"],
        "kept": lambda: [KEPT["input"].read()],
    }[how]()
    start_response("200 OK", PLAIN)
    return [repr(parts).encode()]


def download(environ, start_response):
    file = {"file": named, "bytes": io.BytesIO, "spooled": spooled, "gzip": gzipped}[environ["QUERY_STRING"]](b"0123456789" * 1000)
    file.seek(5)
    KEPT["download"] = file
    start_response("200 OK", [*PLAIN])
    return environ["wsgi.file_wrapper"](file, 1000)


def part(environ, start_response):
    file = named(b"0123456789")
    file.seek(2)
    start_response("200 OK", [*PLAIN, ("Content-Length", "4")])
    return environ["wsgi.file_wrapper"](file)


def named(content):
    handle, path = tempfile.mkstemp()
    os.write(handle, content)
    os.close(handle)
    file = open(path, "rb")
    os.unlink(path)
    return file


def spooled(content):
    file = tempfile.NamedTemporaryFile()
    file.write(content)
    return file


def gzipped(content):
    import gzip

    handle, path = tempfile.mkstemp()
    os.close(handle)
    with gzip.open(path, "wb") as file:
        file.write(content)
    file = gzip.open(path, "rb")
    os.unlink(path)
    return file


def closed(environ, start_response):
    start_response("200 OK", PLAIN)
    return [repr(KEPT["download"].closed).encode()]


def hints(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    start_response("200 OK", PLAIN)
    return [b"hinted"]


def errors(environ, start_response):
    environ["wsgi.errors"].write("said on wsgi.errors: \u2713\n")
    environ["wsgi.errors"].writelines(["one ", "line\n"])
    environ["wsgi.errors"].flush()
    print("said on standard output")
    return hello(environ, start_response)


def identity(environ, start_response):
    import random

    start_response("200 OK", PLAIN)
    main = threading.current_thread() is threading.main_thread()
    return [f"{os.getpid()} {random.random()} {main} {KEPT.get('hook')}".encode()]


os.register_at_fork(after_in_child=lambda: KEPT.update(hook=os.getpid()))


def locked(environ, start_response):
    """Holds the interpreter lock in C for a while."""
    print("about to hold the lock")
    sum(range(int(environ["QUERY_STRING"])))
    return hello(environ, start_response)


def validated(environ, start_response):
    from wsgiref.validate import validator

    environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/validated", environ["PATH_INFO"][len("/validated") :]
    return validator(application)(environ, start_response)


def allocated(environ, start_response):
    gc.collect()
    start_response("200 OK", PLAIN)
    return [str(sys.getallocatedblocks()).encode()]


def crash(environ, start_response):
    import ctypes

    ctypes.string_at(0)


def two_threads(environ, start_response):
    """Another thread of the application writes, and yet another asks."""
    write = start_response("200 OK", PLAIN)
    asked = []
    writer = threading.Thread(target=write, args=(b"from a thread, ",))
    writer.start()
    writer.join()
    asker = threading.Thread(target=lambda: asked.append(environ["ostler.client_disconnected"]()))
    asker.start()
    asker.join()
    return [repr(asked).encode()]
