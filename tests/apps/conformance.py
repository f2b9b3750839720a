"""The application of the cases in tests/cases: the path's first segment (or else X-Page) names the function, the query says how.

Every answer of the application carries `X-Application: reached`, so that it can be told from the server's own. Below
/validated/ the standard library's validator of PEP 3333 stands between server and application.
"""

import array
import io
import json
import tempfile
import urllib.parse
from wsgiref.validate import validator

MARK = ("X-Application", "reached")
TEXT = [("Content-Type", "text/plain"), MARK]
CONTENT = bytes(range(256)) * 40

# How often close() was called and the application entered, since the last request for these counts.
counts = {"close": 0, "calls": 0}


def application(environ, start_response):
    name = environ.get("PATH_INFO", "").strip("/").partition("/")[0] or environ.get("HTTP_X_PAGE", "")
    if name == "validated":
        return validator(below)(environ, start_response)
    if name != "counts":
        counts["calls"] += 1
    page = PAGES.get(name, hello)
    return page(environ, start_response)


def below(environ, start_response):
    environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + "/validated"
    environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/validated")
    return application(environ, start_response)


def query(environ):
    """The query's values; each character stands for one byte, as everywhere in PEP 3333."""
    return dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True, encoding="latin-1"))


def told(start_response, value):
    body = json.dumps(value).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body))), MARK])
    return [body]


# What the application is given


def hello(environ, start_response):
    """Does not touch the body."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"hello"]


def environment(environ, start_response):
    """The environ, and the body as `body`; of what JSON cannot hold, its type."""
    seen = {key: value if isinstance(value, (str, bool, int)) else type(value).__name__ for key, value in environ.items()}
    seen["body"] = environ["wsgi.input"].read(1 << 24).decode("latin-1")  # the validator wants an argument
    seen["wsgi.version"] = list(environ["wsgi.version"])
    seen["exact types"] = type(environ) is dict and all(type(value) is str for key, value in environ.items() if key[0].isupper())
    return told(start_response, seen)


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def length(environ, start_response):
    return told(start_response, len(environ["wsgi.input"].read()))


def reading(environ, start_response):
    """Reads the input as the query says: how=read,3;readline;readlines,10;iterate …; tells the pieces."""
    source = environ["wsgi.input"]
    pieces = []
    for step in query(environ)["how"].split(";"):
        method, _, size = step.partition(",")
        if method == "iterate":
            pieces += list(source)
        else:
            piece = getattr(source, method)(*[int(size)] if size else [])
            pieces += piece if isinstance(piece, list) else [piece]
    return told(start_response, [piece.decode("latin-1") for piece in pieces])


def complaint(environ, start_response):
    """Uses wsgi.errors in each way that PEP 3333 names."""
    errors = environ["wsgi.errors"]
    errors.write("a line for the log\n")
    errors.writelines(["two more ", "pieces\n"])
    errors.flush()
    return hello(environ, start_response)


# start_response and what follows it


def status(environ, start_response):
    """Sets the status, or a field, that the query gives."""
    given = query(environ)
    fields = [(given["name"], given["value"])] if "name" in given else []
    start_response(given.get("status", "200 OK"), [*TEXT, *fields])
    return [b"body"]


def types(environ, start_response):
    """Passes what PEP 3333 does not allow."""
    given = query(environ)["wrong"]
    write = start_response(
        {"status bytes": b"200 OK", "status number": 200, "status none": None}.get(given, "200 OK"),
        {
            "fields tuple": tuple(TEXT),
            "fields none": None,
            "fields items": dict([*TEXT, ("X-A", "b")]).items(),
            "fields generator": (field for field in [*TEXT, ("X-A", "b")]),
            "field list": [*TEXT, ["X-A", "b"]],
            "field single": [*TEXT, ("X-A",)],
            "field triple": [*TEXT, ("X-A", "b", "c")],
            "field string": [*TEXT, "XA"],
            "name bytes": [*TEXT, (b"X-A", "b")],
            "value bytes": [*TEXT, ("X-A", b"b")],
            "value number": [*TEXT, ("X-A", 1)],
            "value unicode": [*TEXT, ("X-A", "\N{SNOWMAN}")],
        }.get(given, TEXT),
    )
    if given == "body written":
        write(bytearray(b"bo"))
        return [memoryview(b"dy")]
    return {
        "body text": ["text"],
        "body number": [b"a", 1],
        "body none": None,
        "body bytearray": [bytearray(b"body")],
        "body memoryview": [memoryview(b"b.o.d.y")[::2]],
        "body array": iter([b"bo", bytearray(), array.array("B", b"dy")]),
    }.get(given, [b"body"])


def never(environ, start_response):
    return [b"no start_response"]


def late(environ, start_response):
    """Calls start_response when the first block is asked for, which PEP 3333 allows."""
    start_response("200 OK", TEXT)
    yield b"late"


def twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("202 Accepted", TEXT)
    return [b"twice"]


def replaced(environ, start_response):
    """An error before anything was sent: exc_info replaces status, fields and body."""
    write = start_response("200 OK", [*TEXT, ("X-Old", "old"), ("Set-Cookie", "old=1")])
    del write
    try:
        raise ValueError("the page broke")
    except ValueError as error:
        start_response("503 Service Unavailable", [*TEXT, ("X-New", "new")], (type(error), error, error.__traceback__))
    return [b"sorry"]


def too_late(environ, start_response):
    """An error after the first block: start_response must raise what it was given."""
    start_response("200 OK", TEXT)
    yield b"first block"
    try:
        raise ValueError("the page broke")
    except ValueError as error:
        start_response("500 Internal Server Error", TEXT, (type(error), error, error.__traceback__))
    yield b"start_response returned"


def swallowed(environ, start_response):
    """As too_late, but tells what start_response raised."""
    start_response("200 OK", TEXT)
    yield b"first "
    given = ValueError("the page broke")
    try:
        start_response("500 Internal Server Error", TEXT, (ValueError, given, None))
    except ValueError as raised:
        yield b"raised" if raised is given else b"another"
    else:
        yield b"returned"


def raising(environ, start_response):
    """Raises where the query says: before, started, block."""
    where = query(environ)["where"]
    if where != "before":
        start_response("200 OK", [*TEXT, ("X-Old", "old")])
    if where != "block":
        raise RuntimeError("the application broke")
    return broken_stream()


def broken_stream():
    yield b"first block"
    raise RuntimeError("the application broke")


def broken_empty(environ, start_response):
    """Raises from the iterable before any byte was given: an empty block sends nothing."""
    start_response("200 OK", TEXT)
    yield b""
    raise RuntimeError("the application broke")


def writing(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"written, ")
    write(b"")
    return [b"returned"]


def write_only(environ, start_response):
    start_response("200 OK", TEXT)(b"written")
    return []


# Bodies and their length


def blocks(environ, start_response):
    """As many blocks as the query says, and a Content-Length if it gives one."""
    given = query(environ)
    fields = [("Content-Length", given["length"])] if "length" in given else []
    start_response(given.get("status", "200 OK"), [*TEXT, *fields])
    body = [b"01234"] * int(given["count"])
    return iter(body) if "lazily" in given else body


def empties(environ, start_response):
    start_response("200 OK", TEXT)
    return iter([b"", b"a", b"", b"b", b""])


class Closing:
    def __init__(self, blocks, error=None):
        self.blocks, self.error = iter(blocks), error

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        counts["close"] += 1
        if self.error:
            raise self.error


def closing(environ, start_response):
    how = query(environ).get("how", "well")
    if how != "unstarted":
        start_response("200 OK", TEXT)
    if how == "broken":
        return Closing(broken_stream())
    if how == "long":
        return Closing(b"x" * 65536 for _ in range(2000))
    return Closing([b"closing"], RuntimeError("close() broke") if how == "raising" else None)


def count(environ, start_response):
    """Tells the counts and starts over."""
    seen = dict(counts)
    counts.update(close=0, calls=0)
    return told(start_response, seen)


# Files


def file(environ, start_response):
    """CONTENT as a file, from `offset`, with Content-Length `length`; `kind`: real or memory."""
    given = query(environ)
    if given.get("kind") == "memory":
        source = io.BytesIO(CONTENT)
    else:
        source = tempfile.TemporaryFile()
        source.write(CONTENT)
    source.seek(int(given.get("offset", 0)))
    fields = [("Content-Length", given["length"])] if "length" in given else []
    start_response("200 OK", [*TEXT, *fields])
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](source, 1000)
    return iter(lambda: source.read(1000), b"")


def hints(environ, start_response):
    more = [(environ["QUERY_STRING"], "close")] if environ["QUERY_STRING"] else []
    environ["wsgi.early_hints"]([*more, ("Link", "</style.css>; rel=preload; as=style")])
    return hello(environ, start_response)


validated = validator(application)

PAGES = {
    "environ": environment,
    "echo": echo,
    "length": length,
    "reading": reading,
    "complaint": complaint,
    "status": status,
    "types": types,
    "never": never,
    "late": late,
    "twice": twice,
    "replaced": replaced,
    "too-late": too_late,
    "swallowed": swallowed,
    "raising": raising,
    "broken-empty": broken_empty,
    "writing": writing,
    "write-only": write_only,
    "blocks": blocks,
    "empties": empties,
    "closing": closing,
    "counts": count,
    "file": file,
    "hints": hints,
}
