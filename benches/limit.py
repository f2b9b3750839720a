"""The limit: the application called in a bare loop of the same interpreter, without any server. What a server takes beyond it is its own share."""

import json
import os
import subprocess

from measure import HERE, SERVER_CORE, Round, Wrong
from servers import Cannot, tool

TITLE = "own share of the server, CPU µs per request: the total without what the application takes in a bare loop"
NAME = "limit"
# The workloads of the table. In the others the application is next to nothing, or waits for its body.
SHARES = ("hello", "browser", "flask", "django")


def turn(workload, seconds):
    """A turn as servers have it, in a process of its own."""
    if workload.body or workload.access_log:
        raise Cannot("it has no server")
    command = [tool("python"), HERE / "apps" / "bare_loop.py", workload.application, str(seconds), str(workload.answer), json.dumps(workload.headers)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}))
    if done.returncode:
        raise Wrong(f"the bare loop broke down: {done.stderr.strip()}")
    its = json.loads(done.stdout)
    calls = its["calls"]
    return Round(calls / its["seconds"], its["user"] / calls * 1e6, its["system"] / calls * 1e6, 0, 0)
