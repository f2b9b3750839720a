"""A page as Flask's users write it: a route, a query argument, a template with a loop."""

from flask import Flask, render_template, request

app = Flask(__name__)


@app.get("/")
def page():
    return render_template("page.html", name=request.args.get("name", "world"), rows=range(20))
