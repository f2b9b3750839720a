"""What `import gunicorn` finds where gunicorn itself is not installed: its names, with ostler behind them. `python -m gunicorn` is ostler.

ostler.pth puts this folder behind site-packages on `sys.path`.
"""

import sys
from importlib.machinery import PathFinder

from ostler import embedding, gunicorn_package, launching

# The folder of this file is on the path no more. Another one behind it may hold gunicorn itself.
elsewhere = PathFinder.find_spec("gunicorn") is not None
if elsewhere:
    sys.meta_path.remove(gunicorn_package.Finder)

if __name__ == "__main__":
    if elsewhere:
        from runpy import run_module

        run_module("gunicorn", run_name="__main__", alter_sys=True)
    else:
        from ostler.__main__ import main

        main("gunicorn")
elif elsewhere:
    from importlib import import_module

    del sys.modules["gunicorn"]
    import_module("gunicorn")
else:
    embedding.extend(gunicorn_package.MODULES, gunicorn_package.HOOKS)
    embedding.launch = launching.launch
    gunicorn_package.fill_gunicorn(sys.modules["gunicorn"])
    __path__ = []
