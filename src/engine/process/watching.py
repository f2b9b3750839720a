"""Which files `--reload` looks at."""

import glob
import sys


def files(extra):
    """The source files of all imported modules, and those that match the patterns."""
    found = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and not path.startswith("<"):
            found.add(path[:-1] if path.endswith((".pyc", ".pyo")) else path)
    for pattern in extra:
        found.update(glob.glob(pattern, recursive=True) or [pattern])
    return sorted(found)
