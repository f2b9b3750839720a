"""Leaves behind what must not be forked, and changes what a fresh start must not see."""

import os
import signal
import socket
import sys
import tempfile
import threading

listening = socket.create_server(("127.0.0.1", 0))
connected = socket.create_connection(listening.getsockname())
pair = os.pipe()
writable = tempfile.NamedTemporaryFile()
readable = open(__file__)
flusher = threading.Thread(target=threading.Event().wait, name="flush-queue", daemon=True)
flusher.start()
inheritable = os.dup(pair[0])
os.set_inheritable(inheritable, True)
os.environ["UNSAFE_WAS_IMPORTED"] = os.environ.get("UNSAFE_WAS_IMPORTED", "") + "x"
os.umask(0o007)
os.chdir("/")
signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    imported = os.environ["UNSAFE_WAS_IMPORTED"]
    return [f"{imported} {flusher.is_alive()} {sys.argv}".encode()]
