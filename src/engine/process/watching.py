"""Which files `--reload` looks at."""

import glob
import importlib.machinery
import os
import sys
import time

MOST = 200
# Of each file that an import has read, what tells it from a changed one, as it was just before.
IMPORTED = {}


def note_imports():
    """An edit after the import is seen then, however late a module is imported and looked at.

    Python takes a cached module for current if the source has the same second and length, so code of this moment is not cached.
    """
    loader = importlib.machinery.SourceFileLoader
    path_stats, cache = loader.path_stats, loader._cache_bytecode

    def note(self, path):
        try:
            read = os.stat(path)
            IMPORTED.setdefault(path, (*divmod(read.st_mtime_ns, 1_000_000_000), read.st_ino, read.st_size))
        except (OSError, ValueError):
            pass
        return path_stats(self, path)

    def cache_if_old(self, source, *rest):
        try:
            age = time.time() - os.stat(source).st_mtime
        except OSError:
            return
        if age > 2:
            cache(self, source, *rest)

    loader.path_stats, loader._cache_bytecode = note, cache_if_old


def take_imported():
    """Those of which it has not told yet."""
    taken = []
    while IMPORTED:
        taken.append(IMPORTED.popitem())
    return taken


def files(extra):
    """The source files of all imported modules, and those that match the patterns."""
    found = set(modules())
    for pattern in extra:
        found.update(glob.glob(pattern, recursive=True) or [pattern])
    return sorted(found)


def modules():
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and not path.startswith("<"):
            yield path[:-1] if path.endswith((".pyc", ".pyo")) else path


def namespaces():
    """The directories of packages that have no file."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) is None:
            yield from (path for path in getattr(module, "__path__", ()) if isinstance(path, str))


def touched(error):
    """What a change may mend the failure in: the files that the exception has come through, the site's own modules, and the
    directories of these, where a module that is missing may appear. Absolute, the likeliest first."""
    found = [os.path.abspath(path) for path in [*named(error), *filter(is_own(), modules())] if not path.startswith("<")]
    directories = [os.getcwd(), *map(os.path.dirname, found), *namespaces()]
    return list(dict.fromkeys([*found[: MOST // 2], *directories, *found]))[:MOST]


def named(error):
    """The files in the tracebacks of an exception, the innermost frame first, and of its causes."""
    known, todo = [], [error]
    while todo and len(known) < MOST:
        error = todo.pop(0)
        if error is None or any(error is other for other in known):
            continue
        known.append(error)
        if isinstance(error, SyntaxError) and isinstance(error.filename, str):
            yield error.filename
        frames, traceback = [], error.__traceback__
        while traceback is not None:
            frames.append(traceback.tb_frame.f_code.co_filename)
            traceback = traceback.tb_next
        yield from dict.fromkeys(reversed(frames))
        todo += [error.__cause__, error.__context__]


def is_own():
    """Whether a module is neither Python's nor installed."""
    import sysconfig

    paths = sysconfig.get_paths()
    theirs = tuple(os.path.join(paths[kind], "") for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return lambda path: not path.startswith(theirs)
