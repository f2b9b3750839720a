"""Runs servers under callgrind, and reads what it has counted.

Instructions do not depend on the machine's other work, as time does. The processes of a server dump their counts before and after a known
number of requests; what lies between is steady.
"""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import processes
from measure import SERVER_CORE
from servers import RELEASE, TARGET

ENGINE = "libostler_engine.so"
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long
# sys/ptrace.h and linux/wait.h
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000
# What ostler takes for the interpreter: it says who it is itself, and has its templates counted. The master is not: it holds processes by
# pidfd_open(2), which valgrind knows from 3.21 on.
INTERPRETER = """#!/bin/sh
[ $# -gt 2 ] || {{ {python} "$@" | sed "5s|.*|$0|"; exit; }}
exec valgrind --tool=callgrind {python} "$@"
"""


class Counted:
    """A server whose processes count what they execute."""

    def __init__(self, process, folder):
        self.process, self.folder, self.dumps = process, folder, 0

    def count(self):
        """What was executed since the last dump: the costs of the process that has executed most, as [`profile`] gives them."""
        self.dump()
        processes = defaultdict(list)
        for path in sorted(self.folder.glob(f"*.{self.dumps}-*")):
            processes[path.stem].append(path)
        found = [sum((profile(path.read_text()) for path in paths), Counter()) for paths in processes.values()]
        return max(found, key=lambda costs: sum(costs.values()))

    def dump(self):
        """Makes each process of the server write down what it has executed since it last did, and start over."""
        self.dumps += 1
        for pid, _ in processes.tree(self.process.pid):
            if "valgrind" not in os.readlink(f"/proc/{pid}/exe"):
                continue
            # callgrind_control would do the same, but finds no process that has set a title.
            subprocess.run(["vgdb", f"--pid={pid}", "dump"], check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def counting(name, command, port):
    """Runs the server, and yields it as [`Counted`]. Its command says itself what of it runs under valgrind."""
    with tempfile.TemporaryDirectory() as folder:
        # In the environment, not among the arguments: those are overwritten by a server that sets a title for `ps`.
        options = f"--trace-children=yes --separate-threads=yes --callgrind:callgrind-out-file={folder}/%p"
        # With seeds of their own, Python's dictionaries would take another number of steps each time.
        environment = {"PYTHONPATH": str(TARGET.parent / "benches" / "apps"), "VALGRIND_OPTS": options, "PYTHONHASHSEED": "0"}
        with processes.running(command, port, TARGET / "bench" / f"{name}.log", environment=environment) as process:
            yield Counted(process, Path(folder))


@contextlib.contextmanager
def stopped(process, name):
    """Stops the threads of this name with ptrace(2), which stops a thread alone. Under valgrind all takes fifty times as long, and ostler's
    stand-by would take the loop over from calls that are short elsewhere."""
    tasks = [task for pid, _ in processes.tree(process.pid) for task in Path(f"/proc/{pid}/task").iterdir()]
    threads = [int(task.name) for task in tasks if (task / "comm").read_text().startswith(name)]
    for thread in threads:
        ptrace(PTRACE_SEIZE, thread)
        ptrace(PTRACE_INTERRUPT, thread)
        os.waitid(os.P_PID, thread, os.WSTOPPED | WALL)
    try:
        yield
    finally:
        for thread in threads:
            ptrace(PTRACE_DETACH, thread)


def ptrace(request, thread):
    if LIBC.ptrace(request, thread, None, None):
        raise OSError(ctypes.get_errno(), "ptrace")


@contextlib.contextmanager
def before_the_server():
    """Has this process run whenever it can, and the server only when this one waits: what is sent at once then arrives at once, and the server
    has as much to do each time. PermissionError without the right to that: counts would vary by a few hundredths."""
    cores, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        yield
    finally:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setaffinity(0, cores)


def ostler(site, *options):
    """The command of an ostler of which all but the master is counted."""
    python = TARGET / "bench" / "counted-python"
    python.write_text(INTERPRETER.format(python=sys.executable))
    python.chmod(0o755)
    words = ["-b", site.address, "-b", f"unix:{unix_socket(site)}", "-w", "1", "--control", str(site.control), "--python", str(python), "--keep-alive", "600"]
    return [str(RELEASE / "ostler"), *words, *options, site.application]


def unix_socket(site):
    """Where it listens, too: bytes that are sent at once arrive there at once, where TCP divides them as its windows grow."""
    return f"{site.control}.socket"


def profile(text):
    """{(object's file, function): what it has executed itself}. In a dump these are the lines of costs below `ob=` and `fn=`, but for those
    of calls; a name is given once, and then its number."""
    names, costs, here, called = {}, Counter(), {"ob": "", "fn": ""}, False
    for line in text.splitlines():
        if found := re.match(r"(c?)(ob|fn)=(\(\d+\))(?: (.*))?", line):
            call, kind, number, name = found.groups()
            if name:
                names[kind, number] = plain(name)
            if not call:
                here[kind] = names[kind, number]
        elif line.startswith("calls="):
            called = True
        elif re.match(r"[-+*\d]", line):
            if not called:
                costs[here["ob"], here["fn"]] += int(line.split()[-1])
            called = False
    return costs


def plain(name):
    """An object without its folder; a function without the hash that each build gives it, the mark of recursion, and the type that its
    module's name tells already."""
    return re.sub(r"::h[0-9a-f]{16}|<impl [^<>]*>::|'\d+$", "", name.rpartition("/")[2] if name.startswith("/") else name)
