"""`serve`: the whole daemon, started from Python."""

from __future__ import annotations

import difflib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from ostler.installed import find
from ostler.settings import ON_BY_DEFAULT, Settings

if TYPE_CHECKING:
    from typing import Unpack

# Executed by this interpreter, and becomes the daemon: it is sent TERM should this process be killed, and so ends with it (prctl(2)).
BECOME = """import os, signal, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
except (ImportError, OSError):
    pass
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])"""
# What a daemon obeys; sent to this process, they are meant for it.
PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU", "SIGWINCH")

# Names of other servers for what is bind here.
ADDRESSES = ("address", "host", "listen", "port", "unix_socket")


def serve(app: str | Callable[..., Any], **settings: Unpack[Settings]) -> None:
    """Runs the daemon and waits for its end. Ctrl-C and TERM stop it, HUP reloads it, as if it had been started by itself.

    `app` is what would be typed, such as "module:app", or the application itself where it can be found again by name: the daemon imports it in
    processes of its own. The settings are those of the command line: `bind=["127.0.0.1:8000", "unix:/run/a.sock"], workers=4`. TypeError
    for others, and for an application without a name. SystemExit, with the daemon's exit status, if that is not 0.

    In a process of the daemon, which imports a script that calls this, it does nothing.
    """
    if "_ostler_loading" in sys.modules:
        logging.getLogger("ostler").info("ostler.serve() left out: a daemon imports this program, and serves already")
        return
    named = app if isinstance(app, str) else name_of(app, sys._getframe(1))
    arguments, variables = options(settings)
    environment = os.environ | {"OSTLER_PYTHON": os.environ.get("OSTLER_PYTHON") or sys.executable} | variables
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    begin = [sys.executable, "-I", "-S", "-c", BECOME, str(os.getpid()), str(find("bin", "ostler"))]
    status = run([*begin, named, *arguments], environment)
    if status:
        raise SystemExit(status if status > 0 else 128 - status)


def options(settings: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """As they would be typed; and as variables, where there is nothing to type."""
    typed, variables = [], {}
    for name, value in settings.items():
        if name not in Settings.__annotations__:
            near = difflib.get_close_matches(name, Settings.__annotations__, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            if name in ADDRESSES:
                hint = '; say where to listen as bind=["127.0.0.1:8000"]'
            raise TypeError(f"serve() has no setting {name}{hint}")
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            if name not in ON_BY_DEFAULT:
                typed.append(f"--{flag}={'on' if value else 'off'}")
            elif value:
                variables[f"OSTLER_{name.upper()}"] = "on"
            else:
                typed.append(f"--no-{flag}")
        elif isinstance(value, Mapping):
            typed += [f"--{flag}={key}={each}" for key, each in value.items()]
        elif isinstance(value, (str, int, float, os.PathLike)):
            typed.append(f"--{flag}={os.fspath(value) if isinstance(value, os.PathLike) else value}")
        elif isinstance(value, (list, tuple)):
            typed += [f"--{flag}={each}" for each in value]
        elif value is not None:
            raise TypeError(f"{name} is of type {type(value).__name__}")
    return typed, variables


def name_of(app: Callable[..., Any], caller: FrameType) -> str:
    """How the daemon finds it: `module:name` or `path/to/file.py:name`. TypeError if it cannot."""
    if not callable(app):
        raise TypeError(f"the application is not callable, it is of type {type(app).__name__}")
    main = sys.modules.get("__main__")
    near = sys.modules.get(caller.f_globals.get("__name__", ""))
    own = sys.modules.get(getattr(app, "__module__", None) or "")
    for module in dict.fromkeys((near, main, own, *list(sys.modules.values()))):
        if isinstance(module, ModuleType) and (attribute := attribute_of(app, module)) and (place := place_of(module)):
            return f"{place}:{attribute}"
    raise TypeError(
        f"the daemon could not find {app!r} again: its processes import the application by name, and no module that can be imported has "
        "it under one. Put it into a file, at the top level, and serve that (serve('module:app'), or 'module:make_app()' for a "
        "factory); or serve it in this process with ostler.WSGIServer."
    )


def attribute_of(app: Callable[..., Any], module: ModuleType) -> str | None:
    """Its name there."""
    qualified = getattr(app, "__qualname__", "")
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if qualified and found is app:
        return qualified
    return next((name for name, value in list(vars(module).items()) if value is app and name.isidentifier()), None)


def place_of(module: ModuleType) -> str | None:
    """What the daemon imports. A program that was started by its file is none of Python's modules, nor is what was typed."""
    if module.__name__ != "__main__":
        return module.__name__ if getattr(module, "__spec__", None) else None
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name)
    return os.path.abspath(file) if file and file.endswith(".py") and os.path.isfile(file) else None


def run(command: list[str], environment: Mapping[str, str]) -> int:
    """Its exit status, negative for a signal."""
    # Not in the terminal's group: Ctrl-C comes to this process, which passes it on once.
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    if threading.current_thread() is not threading.main_thread():
        return child.wait()

    def pass_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (getattr(signal, name) for name in PASSED_ON)}
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
