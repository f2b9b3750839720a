"""What Python does at the end of a process: waits for threads, runs `atexit` functions, flushes streams."""

import atexit
import os
import sys
import threading


def end_child(error):
    """Ends a child that the application has forked, and whose request has returned to the server."""
    status = 1
    try:
        leave()
        status = exit_status(error)
    finally:
        os._exit(status)


def exit_status(error):
    """The exit status that Python gives for an exception that is not caught."""
    if not isinstance(error, SystemExit):
        return 0 if error is None else 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 255
    sys.stderr.write("%s\n" % (error.code,))
    return 1


def leave():
    """What Python does at its end, without finalizing the interpreter."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (AttributeError, ValueError, OSError):  # deleted, None, closed, or without a reader
            pass
