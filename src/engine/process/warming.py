"""One request from within the template, before workers are forked: what it loads, they share."""

import io
import sys
from urllib.parse import unquote_to_bytes, urlsplit


def warm_up(application, method, url, root_path, multithread, multiprocess):
    """The status of the answer, whose body is thrown away."""
    status = "no status"

    def start_response(given, headers, exc_info=None):
        nonlocal status
        status = given
        return lambda block: None

    result = application(environ(method, url, root_path, multithread, multiprocess), start_response)
    try:
        for _ in result:
            pass
    finally:
        if hasattr(result, "close"):
            result.close()
    return status


def environ(method, url, root_path, multithread, multiprocess):
    """The environ of the request; a URL that is only a path stands for one of localhost."""
    parts = urlsplit(url)
    scheme = parts.scheme or "http"
    path = parts.path or "/"
    mounted = root_path and f"{path}/".startswith(f"{root_path}/")
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": root_path if mounted else "",
        "PATH_INFO": unquote_to_bytes(path[len(root_path) :] if mounted else path).decode("latin-1"),
        "QUERY_STRING": parts.query,
        "SERVER_NAME": parts.hostname or "localhost",
        "SERVER_PORT": str(parts.port or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": parts.netloc or "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
    }
