#!/usr/bin/env python3
"""TLS: processor time of the whole server for a request on a connection that is kept, for a new connection with a request and a full handshake or one
that is resumed, and for an answer of 1 MiB, beside the peers and beside nginx before ostler; and the memory of idle connections.

`benches/run --only tls` measures; `benches/tls.py ROUNDS` does it alone. The certificate's key is of ECDSA over P-256, as those of Let's Encrypt.
"""

import contextlib
import json
import os
import re
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import install
import processes
from measure import LOAD_CORE, SERVER_CORE
from servers import SERVERS, TARGET, Cannot, Site

TITLE = "TLS: processor time of the whole server in µs"
ROOT = Path(__file__).resolve().parent
SECONDS = 3
IDLE = 2000
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1; user root;
events {{ worker_connections 8192; }}
http {{
  access_log off; proxy_temp_path {folder}/temp; client_body_temp_path {folder}/body;
  upstream site {{ server 127.0.0.1:{behind}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    ssl_session_cache shared:s:10m; keepalive_requests 100000000; keepalive_timeout 600;
    location / {{ proxy_pass http://site; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


def measure_all(rounds=5):
    """{server: {figure: its values by round}}, or why there are none."""
    print(f"\n{TITLE}", file=sys.stderr)
    report = {}
    with tempfile.TemporaryDirectory(dir=TARGET / "bench") as folder, contextlib.ExitStack() as stack:
        folder = Path(folder)
        certificate(folder)
        up = {}
        for name, start in STARTS.items():
            for application in ("plain:hello", "plain:mebibyte"):
                try:
                    up[name, application] = stack.enter_context(start(folder, application))
                except (Cannot, processes.NotUp, OSError) as why:
                    report[name] = f"left out: {why}"
        for number in range(rounds):
            for (name, application), server in up.items():
                figures = report.setdefault(name, {})
                if isinstance(figures, str):
                    continue
                for what, value in (of_hello(server) if application == "plain:hello" else of_large(server)).items():
                    figures.setdefault(what, []).append(round(value, 2))
                print(f"  {number + 1} {name:12} {application:12} {figures}", file=sys.stderr, flush=True)
        if not isinstance(report.get("ostler"), str):
            report["ostler"]["KiB per idle connection"] = [idle(up["ostler", "plain:hello"])]
    return report


def rows(report):
    """The table: a header and its rows."""
    names = ["request", "full, v1.3", "resumed, v1.3", "full, v1.2", "resumed, v1.2", "1 MiB", "KiB per idle connection"]
    line = lambda figures: [f"{statistics.median(figures[name]):.3g}" if name in figures else "" for name in names]
    return [TITLE, *names], [[name, *(line(figures) if isinstance(figures, dict) else [figures])] for name, figures in report.items()]


def certificate(folder):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*command, *names], check=True, capture_output=True)


# The servers ---------------------------------------------------------------------------------------------------------


class Server:
    def __init__(self, port, pids, secure=True):
        self.port, self.pids, self.secure = port, pids, secure

    def time(self):
        return sum(time.user + time.system for time in map(processes.time_of, self.pids))


@contextlib.contextmanager
def run(command, port, name):
    with processes.running(command, port, TARGET / "bench" / f"tls-{name}.log", SERVER_CORE, {"PYTHONPATH": str(ROOT / "apps")}) as process:
        yield process.pid


@contextlib.contextmanager
def ostler_plain(folder, application):
    site = Site(application, processes.free_port())
    with run(SERVERS["ostler"](site), site.port, "plain") as pid:
        yield Server(site.port, [pid], secure=False)
    site.control.unlink(missing_ok=True)


def with_options(name, *options):
    @contextlib.contextmanager
    def start(folder, application):
        site = Site(application, processes.free_port())
        words = [word.format(cert=folder / "cert.pem", key=folder / "key.pem") for word in options]
        command = SERVERS[name](site)
        with run([*command[:-1], *words, command[-1]], site.port, name) as pid:
            yield Server(site.port, [pid])
        site.control.unlink(missing_ok=True)

    return start


@contextlib.contextmanager
def nginx(folder, application):
    if not install.program("nginx"):
        raise Cannot("nginx is not installed and could not be")
    with ostler_plain(folder, application) as behind:
        port = processes.free_port()
        settings = folder / f"nginx-{port}.conf"
        settings.write_text(NGINX.format(folder=folder, port=port, behind=behind.port))
        with run(["nginx", "-c", str(settings)], port, "nginx") as pid:
            yield Server(port, [pid, *behind.pids])


SSL = ("--certfile", "{cert}", "--keyfile", "{key}")
STARTS = {
    "ostler, plain": ostler_plain,
    "ostler": with_options("ostler", *SSL),
    "nginx before ostler": nginx,
    "granian": with_options("granian", "--ssl-certificate", "{cert}", "--ssl-keyfile", "{key}"),
    "gunicorn-gthread": with_options("gunicorn-gthread", *SSL),
}


# The load ------------------------------------------------------------------------------------------------------------


def of_hello(server):
    figures = {"request": cost(server, lambda: wrk(server, 1))}
    if server.secure:
        for version in ("TLSv1_3", "TLSv1_2"):
            for what, resumes in (("full", False), ("resumed", True)):
                # granian does not speak 1.2.
                with contextlib.suppress(subprocess.CalledProcessError):
                    figures[f"{what}, {version[3:].replace('_', '.')}"] = cost(server, lambda: handshakes(server, version, resumes))
    return figures


def of_large(server):
    return {"1 MiB": cost(server, lambda: wrk(server, 4))}


def cost(server, load):
    """Microseconds for each of what the load has counted."""
    before = server.time()
    count = load()
    return (server.time() - before) / count * 1e6


def wrk(server, connections):
    scheme = "https" if server.secure else "http"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", f"{scheme}://localhost:{server.port}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}))
    if found := re.search(r"Socket errors: .*|Non-2xx.*", done.stdout):
        raise ValueError(found[0])
    return int(re.search(r"(\d+) requests in", done.stdout)[1])


def handshakes(server, version, resumes):
    """New connections with a request each, and a full handshake or one that is resumed."""
    return int(subprocess.run(
        [sys.executable, __file__, "--handshakes", str(server.port), version, str(int(resumes))],
        capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
    ).stdout)


def shake_hands(port, version, resumes):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    session, until, count = None, time.perf_counter() + SECONDS, 0
    while time.perf_counter() < until:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, session=session) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := client.recv(4096):
                answer += data
            if not answer.endswith(b"World!") or session is not None and not client.session_reused:
                raise ValueError(f"resumed {client.session_reused}, {answer!r}")
            if resumes:
                session = client.session
        count += 1
    print(count)


def idle(server):
    """What a connection costs that was used once and is kept, in KiB: the worker's own memory with them and without."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + 1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    before = own_memory(server.pids[0])
    clients = []
    for _ in range(IDLE):
        client = context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"World!" not in answer:
            answer += client.recv(4096)
        clients.append(client)
    time.sleep(1)
    grown = own_memory(server.pids[0]) - before
    for client in clients:
        client.close()
    return round(grown / IDLE / 1024, 2)


def own_memory(root):
    total = 0
    for pid, _ in processes.tree(root):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(found) << 10 for found in re.findall(r"Private_(?:Dirty|Clean): +(\d+)", rollup))
    return total


if __name__ == "__main__" and sys.argv[1:2] == ["--handshakes"]:
    shake_hands(int(sys.argv[2]), sys.argv[3], sys.argv[4] == "1")
elif __name__ == "__main__":
    (TARGET / "bench").mkdir(parents=True, exist_ok=True)
    print(json.dumps(measure_all(int(sys.argv[1]) if sys.argv[1:] else 5), indent=1))
