"""The application of tests/configurations, unless a case brings its own: says what it finds, at the path that asks for it."""

import logging
import os
import sys
import threading
import time

importer = os.getpid()
count = 0


def application(environ, start_response):
    global count
    count += 1
    answers = {"/hold": hold, "/speak": speak, "/hang": hang, "/see": see, "/raise": fail, "/stream": stream}
    body = answers.get(environ["PATH_INFO"], greet)(environ)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-One", "1"), ("X-One", "2")])
    return body


app = application


def greet(environ):
    return [b"hello\n"]


def see(environ):
    """The value of the Python expression that the request's body holds."""
    source = environ["wsgi.input"].read().decode()
    return [str(eval(source, globals(), {"environ": environ})).encode()]


def hold(environ):
    """Answers when the test says so: how many of these wait tells how many requests are served at a time."""
    name = f"inside/{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
    os.makedirs("inside", exist_ok=True)
    open(name, "w").close()
    while not os.path.exists("release"):
        time.sleep(0.01)
    return [str(os.getpid()).encode()]


def hang(environ):
    time.sleep(3600)


def fail(environ):
    raise ValueError("from the application")


def stream(environ):
    return (f"block {number}\n".encode() for number in range(3))


def speak(environ):
    print("print speaks", flush=True)
    print("stderr speaks", file=sys.stderr, flush=True)
    print("wsgi.errors speaks", file=environ["wsgi.errors"], flush=True)
    environ["wsgi.errors"].flush()
    logging.getLogger("gunicorn.error").debug("debug speaks")
    logging.getLogger("gunicorn.error").info("info speaks")
    logging.getLogger("gunicorn.error").warning("warning speaks %s", 7)
    logging.getLogger("site").warning("site speaks")
    return [b"spoken\n"]


def create_app(greeting="made", *, mark="."):
    """A factory."""

    def made(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [(greeting + mark).encode()]

    return made
