"""An application whose import is four seconds of work. It answers with the time when that was done."""

import time

READY = time.monotonic() + 4
while time.monotonic() < READY:
    sum(range(10_000))
IMPORTED = f"{time.time():.6f}".encode()


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(IMPORTED)))])
    return [IMPORTED]
