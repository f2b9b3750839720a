"""Says what it sees of the garbage collector during its import and after it. COLLECTOR is what its import does to it."""

import gc
import os

began = []


def note(phase, info):
    if phase == "start":
        began.append(info["generation"])


def make_garbage():
    """Whether that began a collection."""
    before = len(began)
    for _ in range(100_000):
        cycle = []
        cycle.append(cycle)
    return len(began) > before


def of_a_child():
    """What a process that was forked sees."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, repr(make_garbage()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as said:
        return said.read()


gc.callbacks.append(note)
exec(os.environ["COLLECTOR"])
at_import = f"{gc.isenabled()} {make_garbage()} {of_a_child()}"


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    own = type(gc.enable) is type(gc.disable) is type(gc.isenabled) is type(len)
    return [f"{at_import} then {gc.isenabled()} {make_garbage()} {gc.get_threshold()[0]} {gc.get_freeze_count() > 1000} {own}".encode()]
