"""Installs the peers, the load generator and ostler itself. Names and leaves out whatever cannot be installed."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from servers import ENVIRONMENT, PACKAGES, TARGET

HEADERS = {"bjoern": ["libev-dev", "python3-dev"], "uwsgi": ["python3-dev"]}


def ostler():
    """Builds the release of the daemon, its engine, and the two comparisons in Rust."""
    build("ostler", "ostler-engine", "ostler-benches")


def comparisons():
    """Builds the two comparisons in Rust alone."""
    build("ostler-benches")


def build(*names):
    packages = [word for name in names for word in ("-p", name)]
    subprocess.run(["cargo", "build", "--release", "--quiet", *packages], cwd=TARGET.parent, check=True)


def program(name):
    """Whether `name` can be run, having tried to install it where that is possible."""
    return bool(shutil.which(name)) or (apt([name]) and bool(shutil.which(name)))


def apt(packages):
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run(["apt-get", "install", "-y", *packages], **quietly).returncode == 0:
        return True
    subprocess.run(["apt-get", "update"], **quietly)
    return subprocess.run(["apt-get", "install", "-y", *packages], **quietly).returncode == 0


def peers(python):
    """Installs the peers for this interpreter and gives {name: why} of those that could not be."""
    kept = ENVIRONMENT / "installed.json"
    wanted = {"python": str(python), "packages": PACKAGES}
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(kept.read_text())
        if record["wanted"] == wanted and not record["missing"]:
            return {}
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([python, "-m", "venv", ENVIRONMENT], check=True)
    missing = {name: why for name in PACKAGES if (why := package(name))}
    kept.write_text(json.dumps({"wanted": wanted, "missing": missing}))
    return missing


def package(name):
    """Installs one peer and returns None, or why that did not work."""
    print(f"installing {' '.join(PACKAGES[name])}", flush=True)
    why = pip(PACKAGES[name])
    if why and name in HEADERS and apt(HEADERS[name]):
        why = pip(PACKAGES[name])
    if why and name in HEADERS:
        return f"{why} (it is built from source and needs {' and '.join(HEADERS[name])})"
    return why


def pip(packages):
    command = [ENVIRONMENT / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    errors = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
    return (errors or ["pip failed"])[0]


def versions():
    """{distribution: version} of all that is installed."""
    listing = subprocess.run([ENVIRONMENT / "bin" / "pip", "list", "--format=json"], capture_output=True, text=True).stdout
    return {entry["name"]: entry["version"] for entry in json.loads(listing)}


def machine():
    """The machine's properties that the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor")
    python = subprocess.run([ENVIRONMENT / "bin" / "python", "--version"], capture_output=True, text=True).stdout.strip()
    return f"{os.cpu_count()} × {model}, Linux {os.uname().release}, {python}"
