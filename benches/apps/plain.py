"""The applications of the workloads that need no framework: one function each, as little Python as the workload allows."""

import os
import tempfile
import time

BORN = time.time()
HELLO = b"Hello, World!"
BLOCK = b"x" * 1024
MEBIBYTE = b"x" * 1048576
SIZED = {}

FILE = os.path.join(tempfile.gettempdir(), f"ostler-bench-{os.getuid()}.bin")
if not os.path.exists(FILE) or os.path.getsize(FILE) != len(MEBIBYTE):
    with open(f"{FILE}.{os.getpid()}", "wb") as new:
        new.write(MEBIBYTE)
    os.rename(new.name, FILE)


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [HELLO]


def browser(environ, start_response):
    """Looks at what a framework would look at: two fields and the cookies."""
    language = environ.get("HTTP_ACCEPT_LANGUAGE", "en")
    cookies = environ["HTTP_COOKIE"].split("; ")
    body = f"{environ['HTTP_HOST']} {language} {len(cookies)}".encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def post(environ, start_response):
    body = b"%d" % len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def mebibyte(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(MEBIBYTE)))])
    return [MEBIBYTE]


def sized(environ, start_response):
    """Answers with as many bytes as the path says, always from the same object."""
    length = int(environ["PATH_INFO"][1:] or 0)
    if length not in SIZED:
        SIZED[length] = b"x" * length
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))])
    return [SIZED[length]]


def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return (BLOCK for _ in range(100))


def large_stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return (MEBIBYTE[:20480] for _ in range(100))


def download(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(MEBIBYTE)))])
    file = open(FILE, "rb")
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](file, 65536)
    return blocks(file)


def by_path(environ, start_response):
    """The application that the path names."""
    return globals()[environ["PATH_INFO"][1:]](environ, start_response)


def blocks(file):
    with file:
        while block := file.read(65536):
            yield block


def nap(seconds):
    """An application that waits, as for a database."""
    import time

    def application(environ, start_response):
        time.sleep(seconds)
        return hello(environ, start_response)

    return application


nap_1, nap_2, nap_5, nap_10, nap_50 = (nap(milliseconds / 1000) for milliseconds in (1, 2, 5, 10, 50))


def mix(environ, start_response):
    """Naps 20 ms at /slow and takes no time elsewhere."""
    return (nap(0.02) if environ["PATH_INFO"] == "/slow" else hello)(environ, start_response)


def greedy(environ, start_response):
    """Reads whatever body there is, and says at /born when this code was imported."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left and (block := environ["wsgi.input"].read(min(left, 65536))):
        left -= len(block)
    if environ["PATH_INFO"] != "/born":
        return hello(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(BORN).encode()]


def slow(environ, start_response):
    """Takes a second at /slow and no time elsewhere."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1)
    return hello(environ, start_response)


KEPT = []


def hungry(environ, start_response):
    """Takes 60 MB at a worker's first call, as a site that fills its caches, and naps at /slow."""
    if not KEPT:
        KEPT.append(bytearray(os.urandom(1 << 20) * 60))
    return slow(environ, start_response)
