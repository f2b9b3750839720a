"""The Python stacks of all other threads, written as CPython's fault handler writes them."""

import sys

THREADS = DEEPEST = 100
LONGEST = 500


def plain(text):
    return ascii(text)[1:-1][-LONGEST:]


def stacks():
    found = []
    # First nothing but reading, which is over before another thread gets its turn: a frame that is kept for longer would keep
    # what its thread is about to free.
    for ident, frame in sys._current_frames().items():
        calls = []
        while frame is not None and frame.f_code is not stacks.__code__ and len(calls) <= DEEPEST:
            calls.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back
        if calls:
            found.append((ident, calls))
    del frame
    lines = []
    for ident, calls in found[:THREADS]:
        lines.append("Thread 0x%016x (most recent call first):" % ident)
        for code, number in calls[:DEEPEST]:
            lines.append('  File "%s", line %s in %s' % (plain(code.co_filename), number, plain(code.co_name)))
        if len(calls) > DEEPEST:
            lines.append("  ...")
    if len(found) > THREADS:
        lines.append("...")
    return "\n".join(lines)
