"""A small tool: serves until Ctrl-C."""

import signal
import sys
import tempfile

from ostler import WSGIServer


def app(environ, start_response):
    print(environ["REQUEST_METHOD"], environ["PATH_INFO"], flush=True)
    if environ["PATH_INFO"] == "/file":
        file = tempfile.TemporaryFile()
        file.write(b"of a file " * 100_000)
        file.seek(0)
        start_response("200 OK", [("Content-Length", "1000000")])
        return environ["wsgi.file_wrapper"](file)
    if environ["PATH_INFO"] == "/errors":
        environ["wsgi.errors"].write("for wsgi.errors\n")
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [body or b"hello"]


signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
with WSGIServer(("127.0.0.1", 0), app, threads=int(sys.argv[1])) as server:
    print("port", server.server_port, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
