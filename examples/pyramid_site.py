"""An example site in Pyramid: every kind of page that a server has to get right, in one file."""

import hashlib
import os
import time

import jinja2
from pyramid.config import Configurator
from pyramid.response import FileResponse, Response
from pyramid.session import SignedCookieSessionFactory

PAGE = """<!doctype html>
<html lang="en">
<title>An example site</title>
<h1>Good day, {{ name }}</h1>
<ul>
{% for path, text in pages %}<li><a href="{{ path }}">{{ text }}</a></li>
{% endfor %}</ul>
<form action="/form" method="post"><input name="name" value="Ada"><button>Greet</button></form>
<form action="/upload" method="post" enctype="multipart/form-data"><input name="file" type="file"><button>Upload</button></form>
"""

PAGES = [
    ("/colour?set=green", "a cookie"),
    ("/visits", "a session"),
    ("/stream?blocks=5", "a streamed response"),
    ("/download", "a file"),
    ("/error", "an error"),
    ("/slow?seconds=2", "a slow page"),
]


class PageRenderer:
    """Makes Jinja2 a renderer of Pyramid's."""

    template = jinja2.Environment(autoescape=True).from_string(PAGE)

    def __init__(self, info):
        pass

    def __call__(self, value, system):
        system["request"].response.content_type = "text/html"
        return self.template.render(value)


def text(body):
    return Response(body, content_type="text/plain", charset="utf-8")


def index(request):
    return {"name": request.GET.get("name", "stranger"), "pages": PAGES}


def form(request):
    return text(f"Good day, {request.POST['name']}\n")


def upload(request):
    field = request.POST["file"]
    content = field.file.read()
    return text(f"{hashlib.sha256(content).hexdigest()} {len(content)} {field.filename}\n")


def colour(request):
    response = text(f"colour: {request.cookies.get('colour', 'none')}\n")
    if chosen := request.GET.get("set"):
        response.set_cookie("colour", chosen)
    return response


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return text(f"visits: {request.session['visits']}\n")


def stream(request):
    blocks = int(request.GET.get("blocks", "5"))
    lines = (f"block {number}\n".encode() for number in range(1, blocks + 1))
    return Response(app_iter=lines, content_type="text/plain", charset="utf-8")


def download(request):
    response = FileResponse(__file__, request=request, content_type="text/x-python")
    response.charset = "utf-8"
    response.content_disposition = f"attachment; filename={os.path.basename(__file__)}"
    return response


def error(request):
    raise RuntimeError("this page always fails")


def slow(request):
    seconds = float(request.GET.get("seconds", "1"))
    time.sleep(seconds)
    return text(f"slept {seconds} s\n")


def make_application():
    secret = os.environ.get("SECRET_KEY", "anything but this one")
    with Configurator(session_factory=SignedCookieSessionFactory(secret)) as config:
        config.add_renderer("page", PageRenderer)
        config.add_route("index", "/", request_method="GET")
        config.add_view(index, route_name="index", renderer="page")
        for view in [form, upload]:
            config.add_route(view.__name__, f"/{view.__name__}", request_method="POST")
            config.add_view(view, route_name=view.__name__)
        for view in [colour, visits, stream, download, error, slow]:
            config.add_route(view.__name__, f"/{view.__name__}", request_method="GET")
            config.add_view(view, route_name=view.__name__)
        return config.make_wsgi_app()


application = make_application()
