#!/usr/bin/env python3
"""Measures files of --static beside nginx: processor time of all processes per request, in paired turns that alternate.

Each has one worker on core 0 and its defaults, but for nginx's access log, which ostler has not by default, and its limit of a thousand requests per
connection. nginx opens each file anew, as ostler does. wrk has core 1; what it spends is told, too, because on the loopback device the client's
processor does a part of the sending.
"""

import argparse
import contextlib
import http.client
import resource
import statistics
import sys

import install
import measure
import processes
from servers import RELEASE, TARGET
from workloads import Workload

FOLDER = TARGET / "bench" / "static"
FILES = {"1 KiB": ("small.css", 1 << 10), "1 MiB": ("large.bin", 1 << 20)}
CLIENTS = (4, 32)
NGINX = """\
user root;
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/temp;
    server {{
        listen 127.0.0.1:{port};
        location /static/ {{ alias {folder}/files/; expires 60s; }}
    }}
}}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=int, default=1, help="length of a turn (default: 1)")
    parser.add_argument("--only", choices=FILES, action="append")
    options = parser.parse_args()
    for name in ("wrk", "nginx"):
        # Debian's nginx-light brings the program of that name.
        if not install.program(name) and not (name == "nginx" and install.apt(["nginx-light"])):
            sys.exit(f"the bench needs {name}")
    install.build("ostler", "ostler-engine")
    (FOLDER / "files").mkdir(parents=True, exist_ok=True)
    for name, length in FILES.values():
        (FOLDER / "files" / name).write_bytes(b"p { color: red }\n" * (length // 17) + b"\n" * (length % 17))
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(serving(name)) for name in ("ostler", "nginx")}
        print("| file, clients | ostler CPU µs | nginx CPU µs | ostler ÷ nginx | the same with the client's | ostler/s | nginx/s |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for title in options.only or FILES:
            for clients in CLIENTS:
                row(title, clients, servers, options)


@contextlib.contextmanager
def serving(name):
    port = processes.free_port()
    if name == "nginx":
        (FOLDER / "nginx.conf").write_text(NGINX.format(folder=FOLDER, port=port))
        command = ["nginx", "-c", FOLDER / "nginx.conf", "-p", FOLDER]
    else:
        static = ["--static", f"/static={FOLDER}/files", "--control", "off", "--chdir", measure.HERE / "apps"]
        command = [RELEASE / "ostler", "--name", "bench-static", "-b", f"127.0.0.1:{port}", "-w", "1", *static, "plain:hello"]
    with processes.running(command, port, FOLDER / f"{name}.log", measure.SERVER_CORE) as process:
        yield process, port


def row(title, clients, servers, options):
    file, length = FILES[title]
    rounds = {name: [] for name in servers}
    for _, port in servers.values():
        check(port, file, length)
        turn(port, file, clients, 1)
    for number in range(options.rounds):
        for name, (process, port) in sorted(servers.items(), reverse=number % 2):
            before, client = processes.time_of(process.pid), children()
            requests, rate = turn(port, file, clients, options.seconds)
            used, client = processes.time_of(process.pid) - before, children() - client
            alone = used.user + used.system
            rounds[name].append([alone / requests * 1e6, (alone + client) / requests * 1e6, rate])
    cost, _, rate = ({name: statistics.median(turn[place] for turn in turns) for name, turns in rounds.items()} for place in range(3))
    ratios = " | ".join(ratio(rounds, place) for place in range(2))
    print(f"| {title}, {clients} | {cost['ostler']:.1f} | {cost['nginx']:.1f} | {ratios} | {rate['ostler']:,.0f} | {rate['nginx']:,.0f} |", flush=True)


def ratio(rounds, place):
    """The median of the paired turns' ratios, and their middle half."""
    ratios = sorted(ours[place] / other[place] for ours, other in zip(rounds["ostler"], rounds["nginx"], strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[len(ratios) // 4]:.2f} to {ratios[-1 - len(ratios) // 4]:.2f})"


def children():
    """Processor seconds of the children that have ended: of wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def turn(port, file, clients, seconds):
    workload = Workload("", "", 0, connections=clients)
    result = measure.wrk(workload, port, seconds, f"/static/{file}")
    if result["errors"] or not result["requests"]:
        raise measure.Wrong(f"{result['errors']} errors in {result['requests']} requests")
    return result["requests"], result["requests"] / result["microseconds"] * 1e6


def check(port, file, length):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", f"/static/{file}")
        answer = connection.getresponse()
        if answer.status != 200 or len(answer.read()) != length or not answer.headers["ETag"]:
            raise measure.Wrong(f"it answered {answer.status}")


if __name__ == "__main__":
    main()
