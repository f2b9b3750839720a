"""A pre-forking WSGI server. The program is `ostler`; `python -m ostler` is the same, with this interpreter for the application."""

__version__ = "@VERSION@"
