"""What requests have left in the thread that called the application, and the next request there would find: its context (contextvars), and its
values in objects of threading.local. Where that thread's process becomes a template, they are forgotten: other threads have ended with theirs.
So is what libuuid has, by which its forks would make the same uuid1() as each other."""

import _thread
import contextvars
import gc
import sys
import weakref


known = {}
context = contextvars.Context()


def note():
    """Remembers what there is before the first request."""
    global known, context
    known = {id(local): frozenset(values) for local, _, _, values in held()}
    context = contextvars.copy_context()


def forget(thread):
    """Forgets what there was not, and returns a context for this thread to enter. `thread`: what the interpreter keeps for this thread."""
    for local, threads, key, values in [*held()]:
        if id(local) in known:
            for name in values.keys() - known[id(local)]:
                del values[name]
        elif isinstance(key, weakref.ref):
            # Before Python 3.13, the local is made anew for a thread that has not its name.
            del thread["thread.local.%#x" % id(local)]
        else:
            del threads[key]
    do_without_libuuid(sys.modules.get("uuid"))
    return context.copy()


def do_without_libuuid(uuid):
    """libuuid keeps its clock in the thread, for ever. What uuid does where there is no libuuid takes its random bits from `random`."""
    generate = getattr(uuid, "_generate_time_safe", None)
    if generate and hasattr(uuid, "_node"):
        uuid._node = uuid.UUID(bytes=generate()[0]).node
        uuid._generate_time_safe = None


def held():
    """Each threading.local that has values for the only thread, with the dictionary that holds those of each thread, and the key there."""
    for found in gc.get_objects():
        # isinstance() would ask a proxy what it stands for.
        if issubclass(type(found), _thread._local):
            for threads in gc.get_referents(found):
                for key, values in threads.items() if type(threads) is dict else ():
                    if type(values) is dict and (isinstance(key, weakref.ref) or type(key).__name__ == "_localdummy"):
                        yield found, threads, key, values
