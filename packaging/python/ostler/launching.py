"""A program that embeds gunicorn becomes ostler, which runs the program again in its own processes."""

import os
import shlex
import sys
import threading

from .installed import find

# Where the program was started, unless it has moved before it imported gunicorn.
STARTED_IN = os.getcwd()
TAKE_A_VALUE = ("X", "W")


def command():
    """What stood behind `python` to start this program, without Python's own options."""
    words = iter(sys.orig_argv[1:])
    for word in words:
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(words)
            continue
        if word == "-" or not word.startswith("-"):
            return [word, *words]
        for place, letter in enumerate(word[1:], 2):
            if letter in "cm":
                return ["-" + letter, word[place:] or next(words), *words]
            if letter in TAKE_A_VALUE:
                word[place:] or next(words)
                break
    return ["-"]


def launch():
    """Becomes ostler. Does not return."""
    hupper = sys.modules.get("hupper")
    if hupper is not None and hupper.is_active():
        raise RuntimeError("ostler cannot be watched by hupper: leave --reload out, and set `reload = true` for ostler")
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        raise RuntimeError("ostler cannot take the place of a process of multiprocessing: start it by subprocess")
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("run() works only in the main thread of the program")
    words = command()
    if words[0] == "-":
        raise RuntimeError("a program that is typed or read from standard input cannot be run again: save it as a file")
    path, environment = find("bin", "ostler"), dict(os.environ)
    if not environment.get("OSTLER_PYTHON"):
        environment["OSTLER_PYTHON"] = sys.executable
    # What the program has printed so far need not come again.
    environment["OSTLER_LAUNCHED"] = str(os.getpid())
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.chdir(STARTED_IN)
    os.execve(path, [str(path), "--config", "program:" + shlex.join(words)], environment)
