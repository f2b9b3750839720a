"""The streams that lead to the error log: what is written to them becomes entries of it, each with the id of its request.

`sys.stderr` is one, and `sys.stdout` where it leads there; and `environ['wsgi.errors']`. To Python they are what they were: text streams
on the descriptors 1 and 2, which C code and child processes write to as ever.
"""

import functools
import io
import os
import sys
import threading
import traceback


class LogStream(io.BufferedIOBase):
    """Hands bytes over to the error log. `plain` is what they are written to once the descriptor leads elsewhere."""

    def __init__(self, outlet, name, number, plain=None):
        self.outlet = outlet
        self.name = name
        self.number = number
        # The text stream, which would close its buffer when it is freed.
        self.plain = plain

    def writable(self):
        return True

    def fileno(self):
        return self.number

    def isatty(self):
        return os.isatty(self.number)

    def write(self, data):
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        data = bytes(data)
        if not self.outlet.write(data):
            self.plain.buffer.write(data)
            self.plain.buffer.flush()
        return len(data)

    def flush(self):
        super().flush()
        self.outlet.flush()


def text_stream(stream, encoding, errors):
    # What is unfinished waits in the outlet, for each thread by itself: here, the next thread would send it along with its own.
    text = io.TextIOWrapper(stream, encoding, errors, newline="\n", write_through=True)
    text.mode = "w"
    return text


def error_stream(outlet, number):
    """`environ['wsgi.errors']`: it leads to the error log even if sys.stderr was closed or replaced."""
    return text_stream(LogStream(outlet, "<wsgi.errors>", number), "utf-8", "backslashreplace")


def install(outlets, hold, release):
    """Takes the place of those standard streams that `outlets` names, with their descriptors: `{"stderr": (outlet, 2)}`."""
    for name, (outlet, number) in outlets.items():
        plain = getattr(sys, name)
        if type(plain) is io.TextIOWrapper:
            stream = LogStream(outlet, plain.name, number, plain)
            stream = text_stream(stream, plain.encoding, plain.errors)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    def whole(function):
        @functools.wraps(function)
        def told_whole(*arguments, **named):
            hold()
            try:
                return function(*arguments, **named)
            finally:
                release()

        return told_whole

    # What these print piece by piece is one entry. All others of `traceback` call the first two.
    traceback.print_exception = whole(traceback.print_exception)
    traceback.print_list = whole(traceback.print_list)
    threading.excepthook = whole(threading.excepthook)
    sys.unraisablehook = whole(sys.unraisablehook)
