"""How long the example sites take to start, to be reloaded and to be rolled back; and what thirty of them cost on one machine.

Two workers. The start is over with the first answer, and a reload when the old code has answered for the last time; a client asks all
the time, on a new connection each. Of thirty sites at rest, the memory is held against thirty times that of one, and it is counted how
often a process was woken.
"""

import contextlib
import http.client
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import memory
import processes
from reload import RELOADS, roll_back
from servers import HELLO_ONLY, SERVERS, TARGET, Cannot, Site

TITLE = "start, reload and roll-back of the example sites, in ms (two workers)"
MANY_TITLE = "many sites of Flask at rest (two workers each)"
HERE = Path(__file__).resolve().parent
EXAMPLES = {
    "WSGI": "wsgi_site:application",
    "Flask": "flask_site:app",
    "Django": "django_site:application",
    "Pyramid": "pyramid_site:application",
}
TURNS, SITES = 5, 30
# A start or reload may take so long; only new code must have answered for as long; sites are looked at for as long: in seconds.
PATIENCE, SETTLED, LOOK = 60, 0.5, 10


class Failed(Exception):
    """The server did not do it; the text says what."""


def measure_all(servers):
    """{example: {server: its figures in milliseconds, or why there are none}}"""
    print(f"\n{TITLE}", file=sys.stderr)
    return {example: {name: figures(name, example) for name in servers if name not in HELLO_ONLY} for example in EXAMPLES}


def figures(name, example):
    try:
        turns = [turn(name, example) for _ in range(TURNS)]
    except Cannot as why:
        return f"left out: {why}"
    except (Failed, OSError, subprocess.CalledProcessError) as why:
        return f"failed: {why}"
    result = {key: statistics.median(each[key] for each in turns) * 1e3 for key in turns[0]}
    words = "  ".join(f"{key} {value:,.0f}" for key, value in result.items())
    print(f"  {example:8} {name:17} {words}", file=sys.stderr, flush=True)
    return result


def turn(name, example):
    with started(name, example) as (process, site, took):
        result = {"start": took}
        if name in RELOADS:
            begun = time.time()
            result["reload"] = changed(site.port, lambda: RELOADS[name](process, site), lambda imported: imported < begun)
            if name == "ostler":
                result["roll-back"] = changed(site.port, lambda: roll_back(process, site), lambda imported: imported > begun)
    return result


@contextlib.contextmanager
def started(name, example):
    """The server's process, its site, and in how many seconds it has answered."""
    site = Site("example:app", processes.free_port(), workers=2, only_thread=True)
    environment = os.environ | {"PYTHONPATH": f"{HERE.parent / 'examples'}:{HERE / 'apps'}", "EXAMPLE": EXAMPLES[example]}
    # A reload of uWSGI's is one only where each worker imports for itself.
    command = [*SERVERS[name](site), *(["--lazy-apps"] if name == "uwsgi" else [])]
    begun = time.perf_counter()
    with open(TARGET / "bench" / f"{name}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        while imported(site.port) is None:
            if process.poll() is not None or time.perf_counter() > begun + PATIENCE:
                raise Failed("it did not start")
            time.sleep(0.002)
        yield process, site, time.perf_counter() - begun
    finally:
        processes.stop(process)
        site.control.unlink(missing_ok=True)


def changed(port, change, is_old):
    """In how many seconds after the change the code before it has answered for the last time."""
    begun = last = time.perf_counter()
    change()
    while time.perf_counter() < last + SETTLED:
        when = imported(port)
        if when is None or is_old(when):
            last = time.perf_counter()
        if last > begun + PATIENCE:
            raise Failed("the old code still answers")
    return last - begun


def imported(port):
    """When the code that answers was imported; None if nothing answers."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            return float(connection.getresponse().headers.get("X-Imported", "nan"))
        except (OSError, http.client.HTTPException):
            return None


def many():
    """Of one site and of thirty: megabytes (of a million bytes, proportional) and wake-ups a second, of all processes together."""
    print(f"\n{MANY_TITLE}", file=sys.stderr)
    result = {}
    for count in (1, SITES):
        with contextlib.ExitStack() as stack:
            masters = [stack.enter_context(started("ostler", "Flask"))[0].pid for _ in range(count)]
            time.sleep(LOOK)
            before = wake_ups(masters)
            time.sleep(LOOK)
            woken = (wake_ups(masters) - before) / LOOK
            result[count] = {"MB": sum(sum(memory.weights(pid)) for pid in masters), "wake-ups": woken}
        print(f"  {count:3} {result[count]['MB']:.1f} MB  {woken:.1f} wake-ups/s", file=sys.stderr, flush=True)
    return result


def wake_ups(masters):
    """How often a thread of these sites has been woken."""
    statuses = [file for root in masters for pid, _ in processes.tree(root) for file in Path(f"/proc/{pid}/task").glob("*/status")]
    lines = [line for file in statuses for line in file.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
