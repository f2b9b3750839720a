"""What an application sees of its interpreter, as one line."""

import json
import locale
import os
import signal
import sys


def view():
    names = ["executable", "prefix", "base_prefix", "exec_prefix", "version", "flags", "warnoptions", "pycache_prefix"]
    seen = {name: repr(getattr(sys, name)) for name in names}
    seen["path"] = [os.getcwd() if entry == "" else entry for entry in sys.path]
    seen["encodings"] = [sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), locale.getpreferredencoding(False)]
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        seen[stream.name] = [stream.encoding, stream.errors]
    # What names the worker is added there.
    added = {"OSTLER_GENERATION", "OSTLER_SLOT"}
    seen["environ"] = {name: value for name, value in os.environ.items() if name not in added}
    seen["signals"] = [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)]
    seen["argv"] = bool(sys.argv)
    seen["main"] = [name for name in vars(sys.modules["__main__"]) if not name.startswith("__")]
    return json.dumps(seen, sort_keys=True)


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [view().encode()]
