"""What each framework makes of a request: method, addresses, query, form, files, JSON, cookies, fields."""

import hashlib
import io
import json

import django
import flask
import webob
import werkzeug
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest

settings.configure(ALLOWED_HOSTS=["*"], DATA_UPLOAD_MAX_NUMBER_FIELDS=None)
django.setup()
site = flask.Flask(__name__)


def of_werkzeug(environ):
    return shown(werkzeug.Request(environ))


def of_flask(environ):
    with site.request_context(environ):
        return shown(flask.request)


def shown(request):
    return {
        "method": request.method,
        "url": request.url,
        "path": request.path,
        "root": request.root_url,
        "remote": request.remote_addr,
        "query": list(request.args.items(multi=True)),
        "cookies": list(request.cookies.items(multi=True)),
        "form": list(request.form.items(multi=True)),
        "files": [[name, file.filename, file.content_type, digest(file.read())] for name, file in request.files.items(multi=True)],
        "json": request.get_json(silent=True),
        "length": request.content_length,
        "fields": sorted(map(list, request.headers)),
        "languages": list(request.accept_languages),
    }


def of_django(environ):
    request = WSGIRequest(environ)
    return {
        "method": request.method,
        "url": request.build_absolute_uri(),
        "path": request.path,
        "query": sorted(request.GET.lists()),
        "cookies": request.COOKIES,
        "form": sorted(request.POST.lists()),
        "files": [[name, file.name, file.content_type, digest(file.read())] for name, file in sorted(request.FILES.items())],
        "encoding": request.encoding,
        "type": request.content_type,
        "fields": dict(request.headers),
    }


def of_webob(environ):
    request = webob.Request(environ)
    files = [[name, item.filename, item.type, digest(item.file.read())] for name, item in request.POST.items() if hasattr(item, "filename")]
    return {
        "method": request.method,
        "url": request.url,
        "path": request.path,
        "query": list(request.GET.items()),
        "cookies": sorted(request.cookies.items()),
        "form": [[name, value] for name, value in request.POST.items() if not hasattr(value, "filename")],
        "files": files,
        "charset": request.charset,
        "body": digest(request.body),
        "fields": sorted(request.headers.items()),
    }


def digest(content):
    return hashlib.sha256(content).hexdigest()


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = {}
    for view in (of_werkzeug, of_flask, of_django, of_webob):
        # Each reads the body for itself.
        own = {key: value for key, value in environ.items() if isinstance(value, (str, bool, tuple))}
        own |= {"wsgi.input": io.BytesIO(body), "wsgi.errors": environ["wsgi.errors"], "CONTENT_LENGTH": str(len(body))}
        try:
            seen[view.__name__] = view(own)
        except Exception as error:
            seen[view.__name__] = repr(error)
    answer = json.dumps(seen, sort_keys=True, default=repr).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
