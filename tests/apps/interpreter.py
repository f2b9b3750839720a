"""What an interpreter says of itself: as a page when served, on standard output when run as a script."""

import json
import locale
import os
import site
import sys

try:
    import numpy
except ImportError:
    numpy = None


def facts():
    return {
        "argv is empty": not sys.argv or not sys.argv[0],
        "base_exec_prefix": sys.base_exec_prefix,
        "base_prefix": sys.base_prefix,
        "byteorder": sys.byteorder,
        "cache_tag": sys.implementation.cache_tag,
        "displayhook": sys.displayhook is sys.__displayhook__,
        "dont_write_bytecode": sys.dont_write_bytecode,
        "exec_prefix": sys.exec_prefix,
        "executable": sys.executable,
        "_base_executable": sys._base_executable,
        "file system": [sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()],
        "flags": {name: getattr(sys.flags, name) for name in dir(sys.flags) if not name.startswith(("_", "n_"))
                  and not callable(getattr(sys.flags, name))},
        "hash_info": sys.hash_info.width,
        "hexversion": sys.hexversion,
        "locale": [locale.getpreferredencoding(False), locale.setlocale(locale.LC_CTYPE)],
        "main": sys.modules["__main__"].__name__,
        "meta_path": [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path],
        "numpy": numpy and [numpy.__version__, int(numpy.arange(10) @ numpy.arange(10)), numpy.__file__],
        "path": sys.path,
        "platlibdir": sys.platlibdir,
        "prefix": sys.prefix,
        "recursion": sys.getrecursionlimit(),
        "site": [site.ENABLE_USER_SITE, site.USER_SITE, site.getsitepackages()],
        "streams": [[stream.encoding, stream.errors] for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "switchinterval": sys.getswitchinterval(),
        "variables": {name: value for name, value in os.environ.items() if name not in UNEQUAL},
        "version": sys.version,
        "warnoptions": sys.warnoptions,
        "xoptions": sys._xoptions,
    }


# Variables that tell the two runs apart, that a shell changes, or that name the worker.
UNEQUAL = {"RIG_OF_THE_TEST", "OSTLER_GENERATION", "OSTLER_SLOT", "PWD", "OLDPWD", "SHLVL", "_"}


def application(environ, start_response):
    body = json.dumps(facts(), indent=1, sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    print(json.dumps(facts(), indent=1, sort_keys=True))
