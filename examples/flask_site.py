"""An example site in Flask: every kind of page that a server has to get right, in one file.

`make serve` serves it. Its first page shows who answers; edit this file (a colour, the greeting, or a fault) and reload while you look.
"""

import hashlib
import os
import time

from flask import Flask, Response, jsonify, render_template_string, request, send_file, session

GREETING = "Good day"
COLOUR = "seagreen"

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>An example site</title>
<style>
:root { color-scheme: light dark; --colour: {{ colour }}; --faint: color-mix(in srgb, currentColor 12%, transparent) }
body { font: 17px/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1.2rem }
h1 { margin-bottom: 0 }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .4rem }
a, b { color: var(--colour) }
p { margin: .4rem 0 }
code { background: var(--faint); border-radius: .3rem; padding: .15rem .4rem }
pre code { display: block; overflow-x: auto; padding: .6rem .9rem }
button, input { font: inherit; max-width: 100% }
ul { columns: 2; padding-left: 1.2rem }
form { margin: .5rem 0 }
#answers { display: flex; flex-wrap: wrap; gap: .3rem; align-content: start; height: 3.6rem; overflow: hidden }
#answers span { border-radius: .3rem; color: white; font-size: .85rem; padding: .1rem .5rem }
</style>
<h1>{{ greeting }}, {{ name }}</h1>
<p id="who">This page asks once a second who answers.</p>
<div id="answers"></div>

<h2>Change the site while you look</h2>
<p>Edit <code>COLOUR</code> or <code>GREETING</code> in <code>{{ file }}</code>, then load the new code:</p>
<pre><code>target/release/ostler reload --name example</code></pre>
<p>The next generation of workers takes over when all of it is ready. No answer is lost.</p>
<p>Then break it: write <code>raise RuntimeError("oh no")</code> below the imports, and reload. The command prints the traceback and fails;
the old code goes on answering. <code>target/release/ostler rollback --name example</code> goes back a generation, and
<code>target/release/ostler status --name example</code> shows the workers.</p>

<h2>Every kind of page</h2>
<ul>
{% for path, text in pages %}<li><a href="{{ path }}">{{ text }}</a></li>
{% endfor %}</ul>
<form action="/form" method="post"><input name="name" value="Ada"> <button>Greet</button></form>
<form action="/upload" method="post" enctype="multipart/form-data"><input name="file" type="file"> <button>Upload</button></form>
<script>
const show = (text, colour) => {
  const answers = document.getElementById("answers"), answer = document.createElement("span")
  answer.textContent = text
  answer.style.background = colour
  answers.prepend(answer)
  if (answers.childElementCount > 60) answers.lastChild.remove()
}
const ask = async () => {
  try {
    const { worker, pid, greeting, colour } = await (await fetch("/worker")).json()
    const [, generation, slot] = worker.match(/g(\\d+)[.](\\d+)/) ?? []
    document.getElementById("who").innerHTML = generation
      ? `Worker <b>${slot}</b> of generation <b>${generation}</b> answered just now (process ${pid}).`
      : `Process <b>${pid}</b> answered just now.`
    document.querySelector("h1").textContent = greeting + {{ (", " ~ name)|tojson }}
    document.documentElement.style.setProperty("--colour", colour)
    show(generation ? `g${generation}.${slot}` : pid, colour)
  } catch {
    document.getElementById("who").textContent = "Nobody answers."
    show("no answer", "crimson")
  }
}
ask()
setInterval(ask, 1000)
</script>
</html>
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
    file = os.path.basename(__file__)
    name = request.args.get("name", "stranger")
    return render_template_string(PAGE, greeting=GREETING, colour=COLOUR, file=file, name=name, pages=PAGES)


@app.get("/worker")
def worker():
    """Who answers. ostler calls its workers `ostler g2.0`: generation 2, slot 0."""
    with open("/proc/self/comm") as name:
        return jsonify(worker=name.read().strip(), pid=os.getpid(), greeting=GREETING, colour=COLOUR)


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
