"""How much memory four Django workers take when they have answered ten thousand requests, with all the processes around them; and eight workers
of a site whose cache of 200 MB fills as it is used.

The proportional set size of each process is added up, so that memory which several of them share counts once.
"""

import contextlib
import http.client
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
import processes
from servers import HELLO_ONLY, Cannot
from workloads import Workload

TITLE = "memory of four Django workers after 10,000 requests"
DJANGO = Workload("Django with its admin", "django_site:app", 827)
REQUESTS, CLIENTS = 10_000, 10
# After this many requests a client comes back on a new connection, perhaps to another worker.
VISIT = 20
# Options by which, their manuals say, they take less memory.
VARIANTS = {"ostler": [["--warm-up=/"], ["--refork=off"]], "gunicorn-gthread": [["--preload"]]}

CACHE = Workload("a cache that fills", "growing_cache:app", 0)
CACHE_PAGES, CACHE_WORKERS = 1000, 8
# Of each worker: more than after which one is shared again, so that all have nearly all of the cache.
CACHE_REQUESTS = 14_000


def measure_all(servers):
    """{server: its figures, or why there are none}"""
    print(f"\n{TITLE}", file=sys.stderr)
    if "ostler" in servers:
        cache_all()
        cache_all(["--refork=off"])
    rows = {}
    for name in servers:
        if name not in HELLO_ONLY:
            rows[name] = figures(name, [])
            for options in VARIANTS.get(name, []):
                rows[" ".join([name, *options])] = figures(name, options)
    return rows


def cache_all(options=()):
    """The memory in MB of one worker whose cache is full and of eight, with the processes around them."""
    weights_of = {}
    for workers in (1, CACHE_WORKERS):
        with measure.serving("ostler", CACHE, options, workers=workers, only_thread=True) as (process, site):
            with ThreadPoolExecutor(CLIENTS) as clients:
                visits = workers * CACHE_REQUESTS // VISIT
                list(clients.map(visit_cache, [site.port] * visits, range(visits)))
            weights_of[workers] = sum(weights(process.pid))
    one, all_of_them = weights_of.values()
    text = " ".join(["ostler", *options])
    print(f"  {text:27} cache: {one:.1f} MB with one worker, {all_of_them:.1f} with {CACHE_WORKERS}: × {all_of_them / one:.2f}", file=sys.stderr, flush=True)
    return one, all_of_them


def visit_cache(port, seed):
    """Asks for pages at random."""
    choose = random.Random(seed)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        for _ in range(VISIT):
            connection.request("GET", f"/?{choose.randrange(CACHE_PAGES)}")
            if connection.getresponse().read()[:1] == b"":
                raise measure.Wrong("a page was empty")


def figures(name, options):
    try:
        with measure.serving(name, DJANGO, options, workers=4, only_thread=True) as (process, site):
            measure.check(DJANGO, site.port)
            before = weights(process.pid)
            ask(site.port)
            after = weights(process.pid)
            used = [(int(fields[11]) + int(fields[12])) * processes.TICK for _, fields in processes.tree(process.pid)]
    except Cannot as why:
        return f"left out: {why}"
    except (measure.Wrong, processes.NotUp, OSError, http.client.HTTPException) as why:
        return f"failed: {why}"
    result = {"processes": len(after), "before": sum(before), "after": sum(after)}
    # The processor time shows whether all workers had their share of the requests.
    each = " + ".join(f"{weight:.1f} ({seconds:.1f} s)" for weight, seconds in zip(after, used))
    print(f"  {' '.join([name, *options]):27} {sum(before):.1f} MB, then {sum(after):.1f} = {each}", file=sys.stderr, flush=True)
    return result


def weights(root):
    """The proportional set size of each process below `root`, in MB (of a million bytes)."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid, _ in processes.tree(root)]
    return [int(re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)[1]) * 1024 / 1e6 for text in texts]


def ask(port):
    """Sends all requests, from clients that keep their connections for a while if the server allows it."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(visit, [port] * (REQUESTS // VISIT)))


def visit(port):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        for _ in range(VISIT):
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise measure.Wrong(f"it answered {answer.status}")
