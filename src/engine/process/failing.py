"""What `--reload` shows of code that does not come up."""

import html
import zlib

FIELD = "X-Ostler-Failed"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>The code does not come up</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }}
h1 {{ font-size: 1.3em; color: #a00 }}
pre {{ font: 14px/1.4 ui-monospace, monospace; padding: 1em; background: #f4f4f4; overflow-x: auto }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #ddd; background: #111 }} h1 {{ color: #f77 }} pre {{ background: #222 }}
}}
</style>
</head>
<body>
<h1>{message}</h1>
<pre>{traceback}</pre>
<p>{meanwhile} This page goes by itself when a change of a file has mended the code. It is shown because of <code>--reload</code>.</p>
<script>
setInterval(async () => {{
  if (document.hidden) return;
  try {{
    const answer = await fetch(location.href, {{ headers: {{ Accept: "text/html" }}, cache: "no-store" }});
    if (answer.headers.get("{field}") !== "{mark}") location.reload();
  }} catch {{}}
}}, 1000);
</script>
</body>
</html>
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'self'"


class Shown:
    """The application; while newer code does not come up, browsers that load a page are shown why.

    All is answered with that where no application was loaded.
    """

    def __init__(self, application, failed):
        self.application = application
        self.failed = failed

    def __call__(self, environ, start_response):
        failed = self.failed()
        page = failed and loads_a_page(environ)
        if self.application and not page:
            return self.application(environ, start_response)
        return show(*failed, page, self.application, start_response)


def loads_a_page(environ):
    accepted = environ.get("HTTP_ACCEPT", "").lower().split(",")
    return environ["REQUEST_METHOD"] in ("GET", "HEAD") and any(map(is_html, accepted))


def is_html(media_range):
    """One of an Accept field's; `q=0` says "not this" (RFC 9110, 12.4.2)."""
    kind, *parameters = (part.strip() for part in media_range.split(";"))
    return kind == "text/html" and not any(one.startswith("q=") and not one[2:].strip("0.") for one in parameters)


def show(message, traceback, page, application, start_response):
    mark = format(zlib.crc32(f"{message}\n{traceback}".encode("utf-8", "replace")), "08x")
    text, kind = f"{message}\n\n{traceback}", "text/plain"
    if page:
        meanwhile = "The code before it goes on, and answers all but page loads." if application is not None else ""
        shown = html.escape(message), html.escape(traceback)
        text = PAGE.format(message=shown[0], traceback=shown[1], meanwhile=meanwhile, field=FIELD, mark=mark)
        kind = "text/html"
    body = text.encode("utf-8", "replace")
    fields = [
        ("Content-Type", f"{kind}; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        (FIELD, mark),
    ]
    start_response("500 Internal Server Error", fields)
    return [body]
