"""An application under many names."""

import sys


class Holder:
    @staticmethod
    def inner(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr((sys.argv, __name__)).encode()]


app = Holder.inner
number = 7


def make(greeting, *, punctuation="."):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [(greeting + punctuation).encode()]

    return application


def make_nothing():
    return None


def make_trouble():
    raise OSError("no trouble spared")
