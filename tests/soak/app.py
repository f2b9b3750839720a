"""The site that the soak serves: answers of many kinds, each with the worker that gave it."""

import os
import time

VERSION = 1


def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/crash":
        os._exit(3)
    body = {"/echo": echo, "/slow": slow, "/large": large, "/stream": stream}.get(path, hello)(environ, query)
    headers = [("Content-Type", "text/plain"), ("X-Version", str(VERSION))]
    if isinstance(body, bytes):
        headers.append(("Content-Length", str(len(body))))
        body = [body]
    start_response("200 OK", headers)
    return body


def hello(environ, query):
    return b"hello " + query.encode()


def echo(environ, query):
    return environ["wsgi.input"].read()


def slow(environ, query):
    time.sleep(0.05)
    return hello(environ, query)


def large(environ, query):
    return query.encode() * 100_000


def stream(environ, query):
    return (query.encode() for _ in range(20))
