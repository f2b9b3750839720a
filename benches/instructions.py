"""Counts the instructions that a server's own code executes per hello request, with callgrind.

Unlike time this does not depend on the machine's other work, so a later change can be compared with it. The server runs under
valgrind; the process that answers dumps its counts before and after a known number of requests.

Run as a program it compares the counts of ostler's loop, without an access log and with one in JSON, and of a worker's own code, with
those recorded in instructions.json, and fails if one has grown. A worker's own code is the engine's object, which has the loop in it; what the
interpreter executes does not count.
A change that is worth its instructions records the new count: `make instructions ARGS=--record`.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import install
import measure
import processes
from servers import RELEASE, SERVERS, Site

TITLE = "user-space instructions per hello request (callgrind)"
# One process of these servers answers everything, in compiled code. The others' counts would mostly be the interpreter's.
COUNTED = ("ostler", "bjoern", "fastwsgi", "floor", "loop")
WARM, REQUESTS = 300, 1000
RECORDED = measure.HERE / "instructions.json"
# Counts of two builds of the same source differ by less than this.
TOLERANCE = 1.02
# What the master takes for the interpreter: it says who it is itself, and has its templates counted. The master is not: it holds
# processes by pidfd_open(2), which valgrind knows from 3.21 on.
INTERPRETER = """#!/bin/sh
[ $# -gt 2 ] || {{ {python} "$@" | sed "5s|.*|$0|"; exit; }}
exec valgrind --tool=callgrind {python} "$@"
"""
ENGINE = "libostler_engine.so"
QUESTION = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"


def measure_all(servers):
    """{server: instructions per request, or why there is no figure}"""
    print(f"\n{TITLE}", file=sys.stderr)
    if not install.program("valgrind"):
        return {name: "left out: it needs valgrind" for name in servers}
    return {name: count(name) for name in COUNTED if name in servers}


def count(name, *words):
    def command(site):
        return ["valgrind", "--tool=callgrind", *SERVERS[name](site), *words]

    return counted(" ".join([name, *words]), command, second_dump)


def count_engine():
    def command(site):
        words = ["-b", site.address, "-w", "1", "--control", str(site.control), "--python", str(python)]
        return [str(RELEASE / "ostler"), *words, site.application]

    python = measure.TARGET / "bench" / "counted-python"
    python.write_text(INTERPRETER.format(python=sys.executable))
    python.chmod(0o755)
    return counted("engine", command, lambda text: own(text, ENGINE))


def counted(name, command_for, read):
    site = Site("plain:hello", processes.free_port())
    with tempfile.TemporaryDirectory() as folder:
        # In the environment, not among the arguments: those are overwritten by a server that sets a title for `ps`.
        options = f"--trace-children=yes --callgrind:callgrind-out-file={folder}/%p"
        environment = {"PYTHONPATH": str(measure.HERE / "apps"), "VALGRIND_OPTS": options}
        command = command_for(site)
        output = measure.TARGET / "bench" / f"{name.replace(' ', '-')}.log"
        try:
            with processes.running(command, site.port, output, environment=environment) as process:
                with contextlib.closing(socket.create_connection(("127.0.0.1", site.port))) as client:
                    ask(client, WARM)
                    dump(process)
                    ask(client, REQUESTS)
                    dump(process)
                result = max(read(path.read_text()) for path in Path(folder).glob("*.2")) / REQUESTS
        except (processes.NotUp, OSError, ValueError, subprocess.CalledProcessError) as why:
            said = output.read_text(errors="replace")
            # Its master holds processes by pidfd_open(2), which valgrind knows from 3.21 on.
            return "left out: it needs valgrind 3.21 or later" if "not implemented" in said.lower() else f"failed: {why}"
    print(f"  {name:17} {result:9.0f}", file=sys.stderr, flush=True)
    return result


def ask(client, times):
    for _ in range(times):
        client.sendall(QUESTION)
        answer = b""
        while not answer.endswith(b"Hello, World!"):
            data = client.recv(65536)
            if not data:
                raise OSError("the server closed the connection")
            answer += data


def dump(process):
    """Makes each process of the server write down what it has executed since it last did, and start over."""
    for pid, _ in processes.tree(process.pid):
        if "valgrind" not in os.readlink(f"/proc/{pid}/exe"):
            continue
        # callgrind_control would do the same, but finds no process that has set a title.
        subprocess.run(["vgdb", f"--pid={pid}", "dump"], check=True, capture_output=True, timeout=60)


def second_dump(text):
    return int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1])


def own(text, name):
    """What the code of one object has executed itself: the lines of costs below its `ob=`, but for those of calls."""
    names, total, counts, called = {}, 0, False, False
    for line in text.splitlines():
        if found := re.match(r"c?ob=(\(\d+\))(?: (.*))?", line):
            if found[2]:
                names[found[1]] = found[2]
            if line.startswith("ob="):
                counts = names[found[1]].endswith(name)
        elif line.startswith("calls="):
            called = True
        elif re.match(r"[-+*\d]", line):
            total += int(line.split()[-1]) if counts and not called else 0
            called = False
    return total


def main():
    compiler = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    if not install.program("valgrind"):
        return print("LEFT OUT: valgrind is not installed and could not be")
    install.comparisons()
    (measure.TARGET / "bench").mkdir(parents=True, exist_ok=True)
    install.build("ostler", "ostler-engine")
    counted = {"loop": count("loop"), "json": count("loop", "json"), "engine": count_engine()}
    for name, figure in counted.items():
        if isinstance(figure, str):
            sys.exit(f"{name}: {figure}")
    if "--record" in sys.argv[1:]:
        RECORDED.write_text(json.dumps({"rust": compiler} | {name: round(figure) for name, figure in counted.items()}) + "\n")
    recorded = json.loads(RECORDED.read_text())
    if recorded["rust"] != compiler:
        return print(f"LEFT OUT: the counts were recorded with Rust {recorded['rust']}, and this is {compiler}")
    for name, figure in counted.items():
        if figure > recorded[name] * TOLERANCE:
            sys.exit(f"{name} takes {figure:.0f} instructions per request, {figure / recorded[name] - 1:.1%} more than recorded")


if __name__ == "__main__":
    main()
