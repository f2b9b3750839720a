"""How threads scale where the application waits: one worker, naps of one length, as many clients as threads and twice as many.

The servers of a line run side by side and take turns of a second. Beside that, a mix for eight threads and as many clients, who ask for a
page that takes no time, and one time in ten for one that naps 20 ms: how long the quick ones take.
"""

import contextlib
import random
import selectors
import statistics
import sys
import time

import measure
from processes import NotUp
from servers import Cannot
from tail import Client
from workloads import Workload

TITLE = "one worker whose application waits (as many clients as threads, and twice as many)"
MIX_TITLE = "90 % quick requests among 10 % that nap 20 ms (one worker of eight threads, eight clients)"
NAPS = (1, 2, 5, 10, 50)
THREADS = (1, 4, 16, 64)
PEERS = ("ostler", "granian", "gunicorn-gthread")
MIX = Workload("mix", "plain:mix", 13)
MIX_THREADS = 8
SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"


def measure_all(servers, rounds, quick):
    """{"naps": [line, …], "mix": {server: its figures in milliseconds, or why there are none}}"""
    print(f"\n{TITLE}", file=sys.stderr)
    servers = [name for name in PEERS if name in servers]
    naps, threads = ((10,), (16,)) if quick else (NAPS, THREADS)
    lines = [line(servers, nap, count, count * times, rounds) for nap in naps for count in threads for times in (1, 2)]
    return {"naps": lines, "mix": {name: mix(name, 2 if quick else 10) for name in servers}}


def line(servers, nap, threads, clients, rounds):
    """{nap, threads, clients, servers: {server: {rate, total, median, slow} or why there are none}}"""
    workload = Workload(f"nap {nap} ms", f"plain:nap_{nap}", 13, connections=clients)
    results, running = {}, {}
    with contextlib.ExitStack() as stack:
        for name in servers:
            try:
                running[name] = stack.enter_context(measure.serving(name, workload, threads=threads))
                measure.warm(running[name], workload)
                results[name] = []
            except (Cannot, measure.Wrong, NotUp, OSError) as why:
                results[name] = f"failed: {why}"
        for _ in range(rounds):
            for name, server in running.items():
                if isinstance(results[name], list):
                    try:
                        results[name].append(measure.turn(server, workload, 1))
                    except (measure.Wrong, OSError) as why:
                        results[name] = f"failed: {why}"
    figures = {name: its if isinstance(its, str) else medians(its) for name, its in results.items()}
    shown = "  ".join(f"{name} {its['rate']:.0f}/s" for name, its in figures.items() if isinstance(its, dict))
    print(f"  nap {nap} ms, {threads} threads, {clients} clients:  {shown}", file=sys.stderr, flush=True)
    return {"nap": nap, "threads": threads, "clients": clients, "servers": figures}


def medians(turns):
    return {key: statistics.median(getattr(turn, key) for turn in turns) for key in ("rate", "total", "median", "slow")}


def mix(name, seconds):
    try:
        with measure.serving(name, MIX, threads=MIX_THREADS) as (_, site):
            measure.check(MIX, site.port)
            ask_both(site.port, 1)
            times = sorted(ask_both(site.port, seconds))
    except (Cannot, measure.Wrong, NotUp, OSError) as why:
        return f"failed: {why}"
    return {"requests": len(times), "median": times[len(times) // 2] * 1e3, "99 %": times[int(len(times) * 0.99)] * 1e3}


def ask_both(port, seconds):
    """The time of every quick request, in seconds. Each client asks again at once."""
    chance = random.Random(0)
    end, times = time.perf_counter() + seconds, []
    with selectors.DefaultSelector() as selector:
        clients = [Client(port, selector) for _ in range(MIX_THREADS)]
        slow = set()
        for client in clients:
            client.ask()
        while time.perf_counter() < end:
            for key, _ in selector.select(end - time.perf_counter()):
                client = key.data
                if not client.read():
                    continue
                if client not in slow:
                    times.append(time.perf_counter() - client.asked)
                slow.discard(client)
                if chance.random() < 0.1:
                    slow.add(client)
                client.ask(SLOW if client in slow else None)
        for client in clients:
            if client.socket:
                client.socket.close()
    return times
