"""The parts of WSGI that are shorter in Python: `wsgi.file_wrapper`, `wsgi.errors` in somebody's program, and the names of threads."""

import io
import os
import stat
import sys
import threading


class FileWrapper:
    """`environ['wsgi.file_wrapper']`: an iterable of a file's blocks that the server may send by itself."""

    def __init__(self, filelike, block_size=8192):
        self.filelike = filelike
        self.block_size = self.blksize = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self):
        return self

    def __next__(self):
        block = self.filelike.read(self.block_size)
        if block:
            return block
        raise StopIteration


def plain_file(wrapper):
    """Descriptor, offset and remaining length, where the kernel can send what reading would give; or None.

    Objects with a fileno() of their own are not trusted: a GzipFile's is that of the compressed file.
    """
    file = wrapper.filelike
    tempfile = sys.modules.get("tempfile")
    if tempfile and isinstance(file, tempfile._TemporaryFileWrapper):
        file = file.file
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO or file.closed:
        return None
    if type(file) is io.BufferedRandom:
        file.flush()
    status = os.fstat(raw.fileno())
    if not stat.S_ISREG(status.st_mode):
        return None
    offset = file.tell()
    return raw.fileno(), offset, max(status.st_size - offset, 0)


class StandardError(io.TextIOBase):
    """`environ['wsgi.errors']` there: what `sys.stderr` is at the moment, which tests and notebooks replace."""

    def writable(self):
        return True

    def write(self, text):
        # None in a program without a terminal.
        return sys.stderr.write(text) if sys.stderr is not None else len(text)

    def flush(self):
        if sys.stderr is not None:
            sys.stderr.flush()


def forget_thread():
    """Takes the calling thread, which ends, out of the list of threads: Python keeps those that it has not started."""
    with threading._active_limbo_lock:
        threading._active.pop(threading.get_ident(), None)


def name_thread(name):
    """Gives the calling thread a Thread object, like one that Python has started.

    Python treats a thread that it has not started as a daemon, and the threads that the application starts in it would be daemons, too.
    """
    thread = threading.current_thread()
    thread.name = name
    thread._daemonic = False


def watch_raised():
    """Notes which exceptions the calling thread logs, as frameworks do with those that they catch. Returns what ends that and gives the last.

    Handlers are left alone: with one more, others would not be added, and `logging.basicConfig()` would do nothing.
    """
    logging = sys.modules.get("logging")
    if logging is None:
        return lambda: None
    thread, before, last = threading.get_ident(), logging.getLogRecordFactory(), None

    def make(name, level, path, line, message, args, exc_info, *more, **named):
        nonlocal last
        if exc_info and threading.get_ident() == thread:
            last = exc_info[1]
        return before(name, level, path, line, message, args, exc_info, *more, **named)

    def end():
        if logging.getLogRecordFactory() is make:
            logging.setLogRecordFactory(before)
        return last

    logging.setLogRecordFactory(make)
    return end
