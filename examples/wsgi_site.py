"""An example site without a framework: every kind of page that a server has to get right, in one file."""

import hashlib
import hmac
import html
import http.cookies
import os
import re
import string
import time
import urllib.parse

PAGE = string.Template("""<!doctype html>
<html lang="en">
<title>An example site</title>
<h1>Good day, $name</h1>
<ul>
$pages</ul>
<form action="/form" method="post"><input name="name" value="Ada"><button>Greet</button></form>
<form action="/upload" method="post" enctype="multipart/form-data"><input name="file" type="file"><button>Upload</button></form>
""")

PAGES = [
    ("/colour?set=green", "a cookie"),
    ("/visits", "a session"),
    ("/stream?blocks=5", "a streamed response"),
    ("/download", "a file"),
    ("/error", "an error"),
    ("/slow?seconds=2", "a slow page"),
]

SECRET = os.environ.get("SECRET_KEY", "anything but this one").encode()
TEXT = ("Content-Type", "text/plain; charset=utf-8")


def index(environ, start_response):
    pages = "".join(f'<li><a href="{html.escape(path)}">{text}</a></li>\n' for path, text in PAGES)
    page = PAGE.substitute(name=html.escape(query(environ).get("name", "stranger")), pages=pages)
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [page.encode()]


def form(environ, start_response):
    fields = urllib.parse.parse_qs(body(environ).decode())
    start_response("200 OK", [TEXT])
    return [f"Good day, {fields['name'][0]}\n".encode()]


def upload(environ, start_response):
    name, content = uploaded_file(environ)
    start_response("200 OK", [TEXT])
    return [f"{hashlib.sha256(content).hexdigest()} {len(content)} {name}\n".encode()]


def colour(environ, start_response):
    fields = [TEXT]
    if chosen := query(environ).get("set"):
        fields.append(("Set-Cookie", f"colour={urllib.parse.quote(chosen)}; Path=/"))
    start_response("200 OK", fields)
    return [f"colour: {cookie(environ, 'colour') or 'none'}\n".encode()]


def visits(environ, start_response):
    """The session is the counter itself, in a cookie that nobody else can sign."""
    count, _, signature = cookie(environ, "session").partition(".")
    visits = int(count) + 1 if hmac.compare_digest(signature, sign(count)) else 1
    session = f"session={visits}.{sign(str(visits))}; HttpOnly; Path=/"
    start_response("200 OK", [TEXT, ("Set-Cookie", session)])
    return [f"visits: {visits}\n".encode()]


def stream(environ, start_response):
    blocks = int(query(environ).get("blocks", "5"))
    start_response("200 OK", [TEXT])
    return (f"block {number}\n".encode() for number in range(1, blocks + 1))


def download(environ, start_response):
    file = open(__file__, "rb")
    fields = [
        ("Content-Type", "text/x-python; charset=utf-8"),
        ("Content-Disposition", f"attachment; filename={os.path.basename(__file__)}"),
        ("Content-Length", str(os.path.getsize(__file__))),
    ]
    start_response("200 OK", fields)
    return environ["wsgi.file_wrapper"](file)


def error(environ, start_response):
    raise RuntimeError("this page always fails")


def slow(environ, start_response):
    seconds = float(query(environ).get("seconds", "1"))
    time.sleep(seconds)
    start_response("200 OK", [TEXT])
    return [f"slept {seconds} s\n".encode()]


def not_found(environ, start_response):
    start_response("404 Not Found", [TEXT])
    return [b"not found\n"]


def query(environ):
    return dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))


def body(environ):
    if environ.get("wsgi.input_terminated"):
        return environ["wsgi.input"].read()
    return environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def uploaded_file(environ):
    """The name and the bytes of the first file in a multipart/form-data body."""
    boundary = re.search('boundary="?([^";]+)', environ["CONTENT_TYPE"])[1]
    for part in (b"\r\n" + body(environ)).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := re.search(b'filename="([^"]*)"', head):
            return name[1].decode(), content
    raise ValueError("the form holds no file")


def cookie(environ, name):
    morsel = http.cookies.SimpleCookie(environ.get("HTTP_COOKIE", "")).get(name)
    return urllib.parse.unquote(morsel.value) if morsel else ""


def sign(text):
    return hmac.new(SECRET, text.encode(), "sha256").hexdigest()


PATHS = {
    ("GET", "/"): index,
    ("POST", "/form"): form,
    ("POST", "/upload"): upload,
    ("GET", "/colour"): colour,
    ("GET", "/visits"): visits,
    ("GET", "/stream"): stream,
    ("GET", "/download"): download,
    ("GET", "/error"): error,
    ("GET", "/slow"): slow,
}


def application(environ, start_response):
    method = environ["REQUEST_METHOD"].replace("HEAD", "GET")
    return PATHS.get((method, environ["PATH_INFO"]), not_found)(environ, start_response)
