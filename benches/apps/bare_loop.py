"""Calls an application in a bare loop, without any server: what a request costs at least with this interpreter.

Usage: bare_loop.py MODULE:ATTRIBUTE SECONDS LENGTH FIELDS. LENGTH is that of the answer's body, FIELDS are the request's as JSON. Prints, as JSON, the
calls, the seconds they took, and the seconds of processor time in user space and in the kernel.
"""

import importlib
import io
import json
import os
import sys
import time

WARM = 200


def main():
    module, _, attribute = sys.argv[1].partition(":")
    seconds, length, fields = float(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    application = getattr(importlib.import_module(module), attribute)
    pattern = environ(fields)
    for _ in range(WARM):
        if answer(application, pattern) != length:
            sys.exit("another answer came than was expected")
    calls, begun, used = 0, time.monotonic(), os.times()
    while time.monotonic() < begun + seconds:
        for _ in range(50):
            answer(application, pattern)
        calls += 50
    took, now = time.monotonic() - begun, os.times()
    print(json.dumps({"calls": calls, "seconds": took, "user": now.user - used.user, "system": now.system - used.system}))


def answer(application, pattern):
    """One call as PEP 3333 has it: an environ of its own, each block taken, and the end. Returns the body's length."""
    result = application(pattern.copy(), start_response)
    length = 0
    for block in result:
        length += len(block)
    if hasattr(result, "close"):
        result.close()
    return length


def start_response(status, headers, exc_info=None):
    return write


def write(block):
    raise NotImplementedError("no workload writes")


def environ(fields):
    """As ostler makes it."""
    named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in ({"Host": "127.0.0.1:8000"} | fields).items()}
    return named | {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "RAW_URI": "/",
        "REQUEST_URI": "/",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_SOFTWARE": "bare loop",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "40000",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": io.BufferedReader,
        "wsgi.early_hints": write,
        "ostler.client_disconnected": write,
    }


if __name__ == "__main__":
    main()
