"""What frameworks make of a request, as JSON: the path's first segment says which of them."""

import hashlib
import json

import django.conf
import webob
import werkzeug
from django.core.handlers.wsgi import WSGIRequest

django.conf.settings.configure(ALLOWED_HOSTS=["*"], DEFAULT_CHARSET="utf-8")


def application(environ, start_response):
    view = VIEWS[environ["PATH_INFO"].split("/")[1]]
    body = json.dumps(view(environ), default=repr).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def view_of(**parts):
    """Each part's value, or the exception that asking for it raises."""
    seen = {}
    for name, part in parts.items():
        try:
            seen[name] = part()
        except Exception as error:
            seen[name] = f"{type(error).__name__}: {error}"
    return seen


def upload(name, filename, content_type, content):
    return [name, filename, content_type, len(content), hashlib.sha256(content).hexdigest()]


def of_werkzeug(environ):
    request = werkzeug.Request(environ)
    return view_of(
        line=lambda: [request.method, request.path, request.full_path, request.root_path, request.url, request.host],
        arguments=lambda: list(request.args.lists()),
        headers=lambda: sorted(request.headers.items()),
        cookies=lambda: list(request.cookies.lists()),
        json=lambda: request.get_json(silent=True),
        form=lambda: list(request.form.lists()),
        files=lambda: [upload(name, file.filename, file.content_type, file.read()) for name, file in request.files.items(multi=True)],
        body=lambda: request.get_data().decode("latin-1"),
        length=lambda: [request.content_length, request.mimetype, request.mimetype_params],
        languages=lambda: list(request.accept_languages),
        client=lambda: [request.remote_addr, request.scheme, request.is_secure],
    )


def of_django(environ):
    request = WSGIRequest(environ)
    return view_of(
        line=lambda: [request.method, request.path, request.get_full_path(), request.build_absolute_uri(), request.get_host()],
        arguments=lambda: list(request.GET.lists()),
        headers=lambda: sorted(request.headers.items()),
        cookies=lambda: request.COOKIES,
        type=lambda: [request.content_type, request.content_params, request.encoding],
        form=lambda: list(request.POST.lists()),
        files=lambda: [upload(name, file.name, file.content_type, file.read()) for name, files in request.FILES.lists() for file in files],
        body=lambda: request.body.decode("latin-1"),
        client=lambda: [request.META["REMOTE_ADDR"], request.scheme, request.is_secure()],
    )


def of_webob(environ):
    request = webob.Request(environ)
    return view_of(
        line=lambda: [request.method, request.path, request.path_info, request.path_qs, request.url, request.host],
        arguments=lambda: list(request.GET.items()),
        headers=lambda: sorted(request.headers.items()),
        cookies=lambda: sorted(request.cookies.items()),
        form=lambda: [upload(name, value.filename, value.type, value.file.read()) if hasattr(value, "file") else [name, value] for name, value in request.POST.items()],
        body=lambda: request.body.decode("latin-1"),
        json=lambda: request.json,
        length=lambda: [request.content_length, request.content_type, request.charset],
        client=lambda: [request.client_addr, request.scheme, request.is_body_readable],
    )


VIEWS = {"werkzeug": of_werkzeug, "django": of_django, "webob": of_webob}
