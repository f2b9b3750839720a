"""What `import gunicorn` finds where gunicorn itself is not installed: its names, with ostler behind them.

ostler.pth puts this folder behind site-packages on `sys.path`.
"""

import sys
from importlib.machinery import PathFinder

from ostler import embedding, gunicorn_package, launching

# The folder of this file is on the path no more. Another one behind it may hold gunicorn itself.
if PathFinder.find_spec("gunicorn"):
    from importlib import import_module

    sys.meta_path.remove(gunicorn_package.Finder)
    del sys.modules["gunicorn"]
    import_module("gunicorn")
else:
    embedding.extend(gunicorn_package.MODULES, gunicorn_package.HOOKS)
    embedding.launch = launching.launch
    gunicorn_package.fill_gunicorn(sys.modules["gunicorn"])
    __path__ = []
