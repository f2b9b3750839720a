"""Starts a server, pins it to a core, and counts the processor time of all its processes."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Time:
    """Processor seconds. The kernel counts their sum exactly and divides it into user and system by sampling."""

    user: float
    system: float

    def __sub__(self, other):
        return Time(self.user - other.user, self.system - other.system)


def tree(root):
    """Yields (pid, the fields of /proc/pid/stat behind the name) for `root` and its descendants."""
    stats = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
            stats[int(pid)] = file.read().rpartition(")")[2].split()
    family = [root] if root in stats else []
    for member in family:
        family += [pid for pid, fields in stats.items() if int(fields[1]) == member]
    return [(pid, stats[pid]) for pid in family]


def time_of(root):
    """The processor time of `root` and its descendants, with those that have ended and were waited for."""
    user = system = 0
    for _, fields in tree(root):
        utime, stime, cutime, cstime = map(int, fields[11:15])
        user += utime + cutime
        system += stime + cstime
    return Time(user * TICK, system * TICK)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class NotUp(Exception):
    """The server did not start; the text is its output."""


@contextlib.contextmanager
def running(command, port, output, core=0, environment=None, ready=None):
    """Runs `command` on one core until the block ends, and yields its process once it answers on `port`."""
    with open(output, "wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | (environment or {}),
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            start_new_session=True,
        )
    try:
        wait_until_up(process, port, output, ready)
        yield process
    finally:
        stop(process)


def wait_until_up(process, port, output, ready):
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            if ready is None or ready():
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    with open(output, errors="replace") as said:
        raise NotUp(f"{' '.join(map(str, process.args))}\n{said.read()[-2000:]}")


def stop(process):
    """Sends SIGTERM, then kills what is left of its process group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
