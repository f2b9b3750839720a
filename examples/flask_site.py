"""An example site in Flask: every kind of page that a server has to get right, in one file."""

import hashlib
import os
import time

from flask import Flask, Response, render_template_string, request, send_file, session

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

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY", "anything but this one")


def text(body):
    return Response(body, mimetype="text/plain")


@app.get("/")
def index():
    return render_template_string(PAGE, name=request.args.get("name", "stranger"), pages=PAGES)


@app.post("/form")
def form():
    return text(f"Good day, {request.form['name']}\n")


@app.post("/upload")
def upload():
    file = request.files["file"]
    content = file.read()
    return text(f"{hashlib.sha256(content).hexdigest()} {len(content)} {file.filename}\n")


@app.get("/colour")
def colour():
    response = text(f"colour: {request.cookies.get('colour', 'none')}\n")
    if chosen := request.args.get("set"):
        response.set_cookie("colour", chosen)
    return response


@app.get("/visits")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return text(f"visits: {session['visits']}\n")


@app.get("/stream")
def stream():
    blocks = int(request.args.get("blocks", "5"))
    return text(f"block {number}\n" for number in range(1, blocks + 1))


@app.get("/download")
def download():
    return send_file(__file__, mimetype="text/x-python", as_attachment=True)


@app.get("/error")
def error():
    raise RuntimeError("this page always fails")


@app.get("/slow")
def slow():
    seconds = float(request.args.get("seconds", "1"))
    time.sleep(seconds)
    return text(f"slept {seconds} s\n")
