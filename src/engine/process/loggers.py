"""What applications know from gunicorn: the loggers `gunicorn.error` and `gunicorn.access`, which write to the error log, and the
package, where gunicorn is not installed. A site that uses neither pays nothing."""

import sys

# Takes level, text and traceback. Each process sets its own.
write = None
# Loads the package that stands in for gunicorn's.
load_package = None


def install(level):
    """Makes the loggers once `logging` is imported, and the package once `gunicorn` is."""
    # The folder of the wheel that `import gunicorn` finds outside of ostler.
    sys.path[:] = [entry for entry in sys.path if not entry.endswith("/ostler/stand_in")]
    sys.meta_path.append(Package)
    if "logging" in sys.modules:
        make(level)
    else:
        sys.meta_path.insert(0, Finder(level))


def settle():
    """The application is imported: from now on it finds `sys.meta_path` as its interpreter has it."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not Package and type(finder) is not Finder]


def make(level):
    import logging

    class ErrorLog(logging.Handler):
        """Hands records over, each with its level."""

        def emit(self, record):
            try:
                formatter = self.formatter or logging.Formatter()
                traceback = record.exc_text or ""
                if not traceback and record.exc_info and record.exc_info[0] is not None:
                    traceback = formatter.formatException(record.exc_info)
                if self.formatter:
                    text, traceback = self.format(record), ""
                else:
                    text = record.getMessage()
                write(record.levelno, text, traceback)
            except Exception:
                self.handleError(record)

    handler = ErrorLog()
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.propagate = False
            logger.setLevel(level)
            logger.addHandler(handler)


class Package:
    """Waits for the import of `gunicorn`. It stands behind all others, so that an installed one is found first."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "gunicorn":
            return None
        sys.meta_path.remove(Package)
        return load_package().Finder.find_spec(name)


class Finder:
    """Waits for the import of `logging`."""

    def __init__(self, level):
        self.level = level

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            del spec.loader.exec_module
            execute(module)
            make(self.level)

        spec.loader.exec_module = exec_module
        return spec
