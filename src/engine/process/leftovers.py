"""Says what an import left behind that forked processes would share: threads, sockets, pipes, files open for writing."""

import fcntl
import os
import stat
import threading


MOST_PHRASES = 20


def descriptors():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # the directory's own
            continue
        found.append(int(name))
    return found


def leftovers(before, read=False):
    """One phrase for each thing found; beyond MOST_PHRASES, their number. `before` is what descriptors() gave before the import. `read`: files
    that are only read count, too: who has opened one at a request expects its position and its locks to be those of one process."""
    phrases = [*threads()]
    for descriptor in sorted({*descriptors()} - {*before}):
        try:
            phrase = describe(descriptor, read)
        except OSError as error:
            phrase = f"descriptor {descriptor} ({error.strerror})"
        if phrase and phrase not in phrases:
            phrases.append(phrase)
    if len(phrases) > MOST_PHRASES:
        phrases[MOST_PHRASES:] = [f"{len(phrases) - MOST_PHRASES} more"]
    return phrases


def children():
    """Of a process that has one thread. Only their parent can wait for them."""
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/children") as listed:
            return [f"child process {pid}" for pid in listed.read().split()]
    except OSError:  # a kernel that does not tell
        return []


def threads():
    tasks = {int(task) for task in os.listdir("/proc/self/task")}
    known = {threading.get_native_id()}
    for thread in threading.enumerate():
        # After a fork, older versions of Python have another process' number there.
        if thread.ident == threading.get_ident():
            continue
        known.add(thread.native_id)
        # Before Python 3.13, threads that Python has not started are listed after their end.
        ended = isinstance(thread, threading._DummyThread) and thread.native_id not in tasks
        if not ended:
            yield f'thread "{thread.name}"'
    for task in tasks:
        if task not in known:
            try:
                with open(f"/proc/self/task/{task}/comm") as comm:
                    yield f'thread "{comm.read().strip()}", not started by Python'
            except OSError:  # it has ended
                continue


def describe(descriptor, read):
    status = os.fstat(descriptor)
    link = os.readlink(f"/proc/self/fd/{descriptor}")
    if stat.S_ISSOCK(status.st_mode):
        return describe_socket(descriptor)
    if stat.S_ISFIFO(status.st_mode):
        return f"pipe {link}" if link.startswith("pipe:") else f"named pipe {link}"
    if link.startswith("anon_inode:"):
        return f"event descriptor {link[len('anon_inode:'):].strip('[]')}"
    writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    if writable and stat.S_ISREG(status.st_mode):
        return f"file open for writing: {link}"
    if read and stat.S_ISREG(status.st_mode):
        return f"open file: {link}"
    return None


def describe_socket(descriptor):
    import socket  # It takes milliseconds, and most sites do without it.

    with socket.socket(fileno=os.dup(descriptor)) as copy:
        try:
            return f"socket connected to {address(copy.getpeername())}"
        except OSError:
            pass
        if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"socket listening at {address(copy.getsockname())}"
        return f"socket at {address(copy.getsockname())}"


def address(name):
    if isinstance(name, tuple) and len(name) >= 2:
        host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
        return f"{host}:{name[1]}"
    return os.fsdecode(name) or "a socket without a name"
