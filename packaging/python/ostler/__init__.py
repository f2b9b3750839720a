"""A pre-forking WSGI server. The program is `ostler`; `python -m ostler` is the same, with this interpreter for the application.

For Python programs: `serve` runs the daemon, and `WSGIServer` serves in this process, for tests, notebooks and small tools.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ostler.daemon import serve as serve
    from ostler.server import WSGIServer as WSGIServer
    from ostler.server import make_server as make_server

__version__ = "@VERSION@"
__all__ = ["WSGIServer", "make_server", "serve"]


def __getattr__(name: str) -> object:
    # At the first use: `python -m ostler` needs none of it.
    if name in ("WSGIServer", "make_server"):
        from ostler import server

        return getattr(server, name)
    if name == "serve":
        from ostler.daemon import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
