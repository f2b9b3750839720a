"""An example site in Django: every kind of page that a server has to get right, in one file."""

import hashlib
import os
import time

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

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

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "anything but this one"),
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", {"index.html": PAGE})]},
        }
    ],
)
django.setup()


def text(body):
    return HttpResponse(body, content_type="text/plain; charset=utf-8")


@require_safe
def index(request):
    return render(request, "index.html", {"name": request.GET.get("name", "stranger"), "pages": PAGES})


@require_POST
def form(request):
    return text(f"Good day, {request.POST['name']}\n")


@require_POST
def upload(request):
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return text(f"{digest.hexdigest()} {file.size} {file.name}\n")


@require_safe
def colour(request):
    response = text(f"colour: {request.COOKIES.get('colour', 'none')}\n")
    if chosen := request.GET.get("set"):
        response.set_cookie("colour", chosen)
    return response


@require_safe
def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return text(f"visits: {request.session['visits']}\n")


@require_safe
def stream(request):
    blocks = int(request.GET.get("blocks", "5"))
    lines = (f"block {number}\n" for number in range(1, blocks + 1))
    return StreamingHttpResponse(lines, content_type="text/plain; charset=utf-8")


@require_safe
def download(request):
    return FileResponse(open(__file__, "rb"), as_attachment=True, content_type="text/x-python; charset=utf-8")


@require_safe
def error(request):
    raise RuntimeError("this page always fails")


@require_safe
def slow(request):
    seconds = float(request.GET.get("seconds", "1"))
    time.sleep(seconds)
    return text(f"slept {seconds} s\n")


urlpatterns = [
    path("", index),
    path("form", form),
    path("upload", upload),
    path("colour", colour),
    path("visits", visits),
    path("stream", stream),
    path("download", download),
    path("error", error),
    path("slow", slow),
]

application = get_wsgi_application()
