"""Remembers what it was asked in this process and in those that it was forked from."""

asked = []


def app(environ, start_response):
    asked.append("%(wsgi.url_scheme)s %(HTTP_HOST)s %(SCRIPT_NAME)s|%(PATH_INFO)s?%(QUERY_STRING)s" % environ)
    if environ["PATH_INFO"] == "/raise":
        raise LookupError("no warmth")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" then ".join(asked).encode("latin-1")]
