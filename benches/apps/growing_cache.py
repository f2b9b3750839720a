"""A site whose cache of pages fills as they are asked for: a thousand of 200,000 bytes each."""

PAGES, SIZE = 1000, 200_000
cache = {}


def app(environ, start_response):
    name = environ["QUERY_STRING"]
    if name not in cache and len(cache) < PAGES:
        cache[name] = name.encode().ljust(SIZE, b".")
    body = cache.get(name, b"")[:100]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
