"""A Debian that systemd-nspawn boots: made once for each suite, kept under target/, and never written to."""

import atexit
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TREES = HERE.parent.parent / "target" / "machines"
PACKAGES = "systemd,systemd-sysv,python3,python3-flask,adduser"
# Whatever is waited for comes sooner, unless it never comes.
PATIENCE = 60
# Where control groups of version 2 may be, and systemd's of version 1 beside them.
GROUPS = [place for place in map(pathlib.Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"))
          if (place / "cgroup.procs").exists()]


class NotPossible(Exception):
    """This computer cannot boot a machine; the reason."""


def tree(suite):
    """The files of a Debian, from the cache or from the archive."""
    for tool in ("systemd-nspawn", "debootstrap", "nsenter", "setpriv", "dpkg-shlibdeps"):
        if not shutil.which(tool):
            raise NotPossible(f"{tool} is not installed (on Debian: apt-get install systemd-container debootstrap dpkg-dev)")
    if os.geteuid() != 0:
        raise NotPossible("only root can boot a machine")
    whole = TREES / suite
    if not whole.is_dir():
        print(f"making a Debian {suite} under {TREES}; this takes a few minutes, once", flush=True)
        begun = TREES / f"{suite}.new"
        shutil.rmtree(begun, ignore_errors=True)
        TREES.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, begun],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode:
            raise NotPossible(f"debootstrap could not make it: {made.stdout.strip().splitlines()[-1]}")
        begun.rename(whole)
    return whole


class Machine:
    """One that runs. What is written in it lies in memory and ends with it. It has a network of its own: a loopback."""

    def __init__(self, suite, package):
        whole = tree(suite)
        # Its control groups lie below those of systemd-nspawn, and so those of each machine need a place of their own.
        self.groups = [directory / f"ostler-{os.getpid()}" for directory in GROUPS]
        for place in self.groups:
            place.mkdir()
        enter = "".join(f"echo $$ >{place}/cgroup.procs; " for place in self.groups)
        # systemd-nspawn does not end its machine when it is killed. All that runs in a process namespace ends with its first process,
        # which ends with unshare, which ends with this process, however that ends.
        self.nspawn = subprocess.Popen(
            ["sh", "-ec", enter + 'exec "$@"', "sh", "setpriv", "--pdeathsig", "KILL",
             "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "systemd-nspawn", "--quiet",
             "--directory", whole, "--volatile=overlay", "--boot", "--private-network", "--register=no", "--keep-unit", "--console=pipe", f"--machine=ostler-{os.getpid()}",
             "--kill-signal=SIGRTMIN+14", f"--bind-ro={HERE}:/tests", f"--bind-ro={package.parent}:/package"],
            # systemd 256 and later do not boot on control groups of version 1, which this computer may have.
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        atexit.register(self.end)
        os.set_blocking(self.nspawn.stdout.fileno(), False)
        try:
            self.leader = wait_for("the machine's first process", self._leader)
            wait_for("systemd", self._runs)
        except AssertionError as late:
            raise NotPossible(str(late)) from None
        self.root = pathlib.Path(f"/proc/{self.leader}/root")
        self.systemd = int(self.run("systemctl", "--version").stdout.split()[1])

    def _leader(self):
        if self.nspawn.poll() is not None:
            raise NotPossible(f"systemd-nspawn ended: {self.nspawn.stdout.read().decode().strip()}")
        below = [child for own in children(self.nspawn.pid) for child in children(own)]
        return next((pid for pid in below if pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n"), None)

    def _runs(self):
        if self.nspawn.poll() is not None:
            raise NotPossible(f"the machine ended: {self.nspawn.stdout.read().decode().strip()[-1000:]}")
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def command(self, *words):
        return ["nsenter", "--target", str(self.leader), "--all", *words]

    def run(self, *words, check=True):
        """Runs a command as root of the machine."""
        done = subprocess.run(self.command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * PATIENCE)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def shell(self, line, check=True):
        return self.run("sh", "-ec", line, check=check)

    def write(self, path, text):
        """Puts a file into the machine, with the folders that lead there."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def show(self, unit, *names):
        """Properties of a unit: their values, in the order of the names."""
        shown = self.run("systemctl", "show", unit, "--property", ",".join(names)).stdout
        values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        found = [values.get(name, "") for name in names]
        return found if len(found) > 1 else found[0]

    def journal(self, *words):
        return self.run("journalctl", "--no-pager", "--output=cat", *words).stdout

    def load(self, address, clients=4):
        return Load(self, address, clients)

    def end(self):
        """Nothing of it is worth an orderly end."""
        atexit.unregister(self.end)
        self.nspawn.kill()
        self.nspawn.wait()
        for place in self.groups:
            wait_for(f"the end of all in {place}", lambda: removed(place))


class Load:
    """Clients in the machine who ask all the time, until the end of the block. Then `outcome` tells what became of their
    requests, and `longest` for how many seconds one of them has waited for an answer."""

    def __init__(self, machine, address, clients):
        self.command = machine.command("python3", "/tests/clients.py", address, str(clients))
        self.outcome = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "asking\n"
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.outcome, self.longest = json.loads(self.process.stdout.read())
        self.process.wait()


def children(pid):
    return map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def removed(group):
    """Whether a control group is gone, those below it first. Processes of the machine may still be about to end."""
    try:
        for place, _, _ in os.walk(group, topdown=False):
            os.rmdir(place)
    except OSError:
        return False
    return True


def wait_for(what, look, within=PATIENCE):
    """What `look` finds, as soon as it is something."""
    deadline = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {within} s")
        time.sleep(0.05)
    return found


if __name__ == "__main__":
    sys.exit("tests/systemd/run is the command")
