"""`WSGIServer`: ostler's event loop in this process, without master and workers; and `make_server`, as wsgiref has it."""

import atexit
import errno
import logging
import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ostler.installed import engine

Application = Callable[..., Any]

MOST_THREADS = 1000
# The kernel takes no more than net.core.somaxconn.
BACKLOG = 2048
# How long the end of the interpreter waits for the requests of a daemon thread's server, and then for those that were told to end.
AT_EXIT = (2.0, 3.0)


class WSGIServer:
    """Serves a WSGI application over HTTP/1.1 in this process.

    `address` is `(host, port)`, a path or `unix:path` for a Unix socket, or a socket that is bound. Port 0 takes a free one, which
    `server_port` tells. `threads` is how many calls of the application run at the same time; the thread that calls `serve_forever()` makes
    the first. OSError, as from a socket, if the address cannot be had.

        with WSGIServer(("127.0.0.1", 8888), app) as server:
            server.serve_forever()

    What it has to say, such as the traceback of an exception in the application, goes to the logger "ostler".
    """

    def __init__(self, address: Any, app: Application | None = None, *, threads: int = 1) -> None:
        if not isinstance(threads, int) or isinstance(threads, bool):
            raise TypeError(f"threads is a number, not {threads!r}")
        if not 1 <= threads <= MOST_THREADS:
            raise ValueError(f"threads is {threads}, and may be 1 to {MOST_THREADS}")
        self.application: Application | None = None
        if app is not None:
            self.set_app(app)
        self.threads = threads
        self.socket: socket.socket
        self._path: tuple[str, int] | None = None
        self._reset()
        self._listen(address)
        _servers.add(self)

    # As wsgiref and socketserver have it -----------------------------------------------------------------------------

    @property
    def listen_socket(self) -> socket.socket:
        """The listening socket."""
        return self.socket

    def set_app(self, app: Application) -> None:
        """Says what to serve. TypeError if it is not callable."""
        if not callable(app):
            raise TypeError(f"the application is not callable, it is of type {type(app).__name__}")
        self.application = app

    def get_app(self) -> Application | None:
        """What is served."""
        return self.application

    def fileno(self) -> int:
        """Of the listening socket."""
        return self.socket.fileno()

    def serve_forever(self) -> None:
        """Serves until `shutdown()`, or until something ends the program: KeyboardInterrupt (Ctrl-C), or SystemExit from a handler of a
        signal. Then it is raised here, after the requests under way have been answered. In the main thread, handlers of signals run at once.
        """
        application = self.application
        if application is None:
            raise TypeError("there is no application: call set_app() first")
        if self._begin():
            try:
                serve = engine().serve
                with _signals() as signals:
                    serve(_Plan(self, application, signals))
            finally:
                self._ended()

    def shutdown(self) -> None:
        """Ends `serve_forever()`: no new connections, idle ones are closed, requests under way are answered, those that have not
        come whole are cut. Waits for that, except in a request of this very server, which could wait for ever. Before `serve_forever()` it is remembered, and that returns at once.
        """
        with self._lock:
            self._end()
            waits = self._serves and threading.get_ident() not in self._idents
            over = self._over
        if waits:
            over.wait()

    def server_close(self) -> None:
        """Ends serving, if it does, and closes the listening socket. The path of a Unix socket is removed."""
        self.shutdown()
        self.socket.close()
        if self._path is not None:
            (path, inode), self._path = self._path, None
            try:
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
            except FileNotFoundError:
                pass

    def __enter__(self) -> "WSGIServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.server_close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name()}>"

    # The socket -------------------------------------------------------------------------------------------------------

    def _listen(self, address: Any) -> None:
        if isinstance(address, socket.socket):
            if not address.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise ValueError("the socket does not listen: call its listen() first")
            self.socket = address
        elif isinstance(address, (str, bytes, os.PathLike)):
            self._listen_at_path(os.fspath(address))
        elif isinstance(address, tuple) and len(address) >= 2:
            self._listen_at_port(*address[:2])
        else:
            raise TypeError(f"the address is (host, port), a path or a socket, not {address!r}")
        self.address_family = self.socket.family
        self.server_address = self.socket.getsockname()
        if self.address_family == socket.AF_UNIX:
            self.server_name, self.server_port = "localhost", 0
        else:
            self.server_name, self.server_port = self.server_address[:2]

    def _listen_at_port(self, host: str, port: int) -> None:
        if not isinstance(port, int):
            raise TypeError(f"the port is a number, not {port!r}")
        if not 0 <= port <= 65535:
            raise OverflowError(f"port {port} is not in 0 to 65535")
        # An empty host means every address, as in a socket's.
        family, _, _, _, found = socket.getaddrinfo(host or None, port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)[0]
        if not host:
            family, found = socket.AF_INET, ("0.0.0.0", port)
        self._bind(family, found)

    def _listen_at_path(self, path: str | bytes) -> None:
        path = os.fsdecode(path)
        host, colon, port = path.rpartition(":")
        if colon and port.isdecimal() and "/" not in path and not path.startswith("unix:"):
            raise ValueError(f"{path!r} would be the path of a Unix socket: say ({host.strip('[]')!r}, {int(port)}), or 'unix:{path}'")
        path = path.removeprefix("unix:")
        self._bind(socket.AF_UNIX, path)
        path = os.path.abspath(path)
        self._path = path, os.stat(path).st_ino

    def _bind(self, family: int, address: Any) -> None:
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family != socket.AF_UNIX:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(address)
            self.socket.listen(BACKLOG)
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, f"could not listen on {address}: {os.strerror(error.errno or 0)}") from None

    def _name(self) -> str:
        if self.address_family == socket.AF_UNIX:
            return f"unix:{os.fsdecode(self.server_address)}"
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}"

    # Begin and end ----------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._serves = False
        # shutdown() has come before serve_forever().
        self._shut = False
        self._over = threading.Event()
        self._idents: set[int] = set()
        self._ends: tuple[int, int] | None = None

    def _begin(self) -> bool:
        """Whether to serve."""
        with self._lock:
            if self._serves:
                raise RuntimeError("this server serves already")
            if self._shut:
                self._shut = False
                return False
            if self.socket.fileno() < 0:
                raise OSError(errno.EBADF, "the server is closed")
            self._ends = os.pipe()
            self._serves, self._over = True, threading.Event()
            self._idents.clear()
            return True

    def _end(self) -> None:
        with self._lock:
            if self._ends is None:
                self._shut = True
            else:
                os.write(self._ends[1], b"x")

    def _ended(self) -> None:
        with self._lock:
            for descriptor in self._ends or ():
                os.close(descriptor)
            self._ends, self._serves = None, False
            self._over.set()


class _Plan:
    """What the engine is told."""

    def __init__(self, server: WSGIServer, application: Application, signals: int | None) -> None:
        assert server._ends is not None
        server.socket.setblocking(False)
        host, port = server.server_name, server.server_port
        if server.address_family == socket.AF_UNIX:
            host, port = os.fsdecode(server.server_address), None
        self.application = application
        self.logger = logging.getLogger("ostler")
        self.listeners = [(server.fileno(), server._name(), host, port)]
        self.threads = server.threads
        self.ends, _ = server._ends
        self.end = server._end
        self.signals = signals
        self.entered = lambda: server._idents.add(threading.get_ident())


@contextmanager
def _signals() -> Iterator[int | None]:
    """A descriptor that is readable when a signal has come, in the thread that runs the handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    comes, tell = socket.socketpair()
    with comes, tell:
        tell.setblocking(False)
        before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
        try:
            yield comes.fileno()
        finally:
            signal.set_wakeup_fd(before)


def make_server(
    host: str,
    port: int,
    app: Application,
    server_class: type[WSGIServer] = WSGIServer,
    handler_class: None = None,
    *,
    threads: int = 1,
) -> WSGIServer:
    """A `WSGIServer` for `app`, as `wsgiref.simple_server.make_server`. TypeError for classes of wsgiref's: HTTP is not read in Python here."""
    if not (isinstance(server_class, type) and issubclass(server_class, WSGIServer)):
        raise TypeError(f"server_class is a class of ostler's WSGIServer, not {server_class!r}")
    if handler_class is not None:
        raise TypeError("there is no handler_class: no Python reads HTTP here. Wrap the application instead.")
    return server_class((host, port), app, threads=threads)


_servers: "weakref.WeakSet[WSGIServer]" = weakref.WeakSet()


def _end_all() -> None:
    """The interpreter ends, and would stop threads where they come back to it. Servers in daemon threads end before."""
    serving = [server for server in list(_servers) if server._serves and threading.get_ident() not in server._idents]
    for server in serving:
        server._end()
    for patience in AT_EXIT:
        for server in serving:
            if not server._over.wait(patience):
                for ident in server._idents:
                    engine().end_thread(ident)


def _forked() -> None:
    """A child has the sockets, but none of the threads that serve."""
    for server in list(_servers):
        for descriptor in server._ends or ():
            os.close(descriptor)
        server._path = None
        server._reset()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forked)
