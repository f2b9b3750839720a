"""One of the example sites, named by EXAMPLE; its answers tell when it was imported."""

import importlib
import os
import time

module, _, attribute = os.environ["EXAMPLE"].partition(":")
site = getattr(importlib.import_module(module), attribute)
IMPORTED = ("X-Imported", str(time.time()))


def app(environ, start_response):
    return site(environ, lambda status, headers, *error: start_response(status, [*headers, IMPORTED], *error))
