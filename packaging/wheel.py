"""Makes the wheel: the program, its engine and the package `ostler`.

It is a PEP 517 backend, so that `pip install .` works, and a program: `wheel.py BUILT DIST` packs what cargo has built in BUILT.
No common backend does both of what is needed here: a program, and a library that is no extension module of the package.
"""

import base64
import hashlib
import io
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import notices

try:
    # It finds a shorter way to say the same than zlib does, for any reader of zip files: 3 % of a wheel.
    from zopfli.zlib import compress as shortest
except ImportError:
    shortest = None

ROOT = Path(__file__).parents[1]
MANIFEST = (ROOT / "Cargo.toml").read_text()
VERSION = re.search(r'^version = "(.+)"', MANIFEST, re.MULTILINE)[1]
RUST = re.search(r'^rust-version = "(.+)"', MANIFEST, re.MULTILINE)[1]
NAME = f"ostler-{VERSION}"
LICENCES = ("LICENSE-APACHE", "LICENSE-MIT")
METADATA = f"""\
Metadata-Version: 2.4
Name: ostler
Version: {VERSION}
Summary: A pre-forking WSGI server whose reload is a transaction
Keywords: wsgi,server,http
License-Expression: MIT OR Apache-2.0
License-File: LICENSE-APACHE
License-File: LICENSE-MIT
Classifier: Environment :: No Input/Output (Daemon)
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: Implementation :: CPython
Classifier: Programming Language :: Rust
Classifier: Topic :: Internet :: WWW/HTTP :: WSGI :: Server
Requires-Python: >=3.10
Description-Content-Type: text/markdown

{(ROOT / "README.md").read_text()}"""

# What the engine brings, and programs outside of it import, too.
ENGINES_OWN = ("embedding.py", "gunicorn_package.py")
# What a manylinux system has, as far as Rust's programs ask for it (PEP 600).
EVERYWHERE = re.compile(r"(lib(gcc_s|c|m|dl|rt|util|pthread)|ld-linux-[a-z0-9-]+)\.so\.\d")
MACHINES = {62: "x86_64", 183: "aarch64"}


def build_wheel(directory, config_settings=None, metadata_directory=None):
    """PEP 517: builds, then packs."""
    if not shutil.which("cargo"):
        sys.exit(f"cargo is missing: install Rust {RUST} or later")
    for profile, package in [("release", "ostler-engine"), ("packed", "ostler")]:
        subprocess.run(["cargo", "build", "--profile", profile, "--locked", "-p", package], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    shutil.copy(target / "release/libostler_engine.so", target / "packed")
    return pack(target / "packed", Path(directory))


def build_sdist(directory, config_settings=None):
    """PEP 517: what git holds."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    with tarfile.open(Path(directory) / f"{NAME}.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in filter(None, listed.split("\0")):
            archive.add(ROOT / name, f"{NAME}/{name}", recursive=False)
        member = tarfile.TarInfo(f"{NAME}/PKG-INFO")
        member.size = len(METADATA.encode())
        archive.addfile(member, io.BytesIO(METADATA.encode()))
    return f"{NAME}.tar.gz"


class Shortest:
    """A compressor as zipfile expects it, by zopfli: raw Deflate (RFC 1951), so without the header and the checksum of zlib."""

    def __init__(self, *_):
        self.content = []

    def compress(self, content):
        self.content.append(content)
        return b""

    def flush(self):
        return shortest(b"".join(self.content))[2:-4]


def pack(built, directory):
    """Writes the wheel, and the debug information beside it. The wheel's name."""
    for tool in ("objcopy", "readelf"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: install binutils")
    programs = [built / "ostler", built / "libostler_engine.so"]
    tag = f"py3-none-{system(programs)}"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{NAME}-{tag}.whl"
    info = f"{NAME}.dist-info"
    if shortest:
        # zipfile has no public way to be given another compressor.
        zipfile._get_compressor = Shortest
    else:
        print("zopfli is not installed (pip install zopfli): the wheel is 3 % larger than it could be", file=sys.stderr)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
        record = []

        def add(name, content, mode=0o644):
            entry = zipfile.ZipInfo(name, time.gmtime(moment())[:6])
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}\n")

        package = ROOT / "packaging/python"
        for file in sorted(package.glob("ostler/**/*.*")):
            if "__pycache__" not in file.parts:
                add(file.relative_to(package).as_posix(), file.read_bytes().replace(b"@VERSION@", VERSION.encode()))
        for name in ENGINES_OWN:
            add(f"ostler/{name}", (ROOT / "src/engine/process" / name).read_bytes())
        # Behind site-packages on sys.path: it costs an interpreter nothing, and a gunicorn that is installed is found first.
        add("ostler.pth", b"ostler/stand_in\n")
        # Not data/lib: `pip install --target` would leave it out.
        places = ["scripts/ostler", "data/libexec/ostler/libostler_engine.so"]
        for program, place in zip(programs, places):
            add(f"{NAME}.data/{place}", stripped(program, directory / f"{NAME}-{program.name}.debug"), 0o755)
        for name in LICENCES:
            add(f"{info}/licenses/{name}", (ROOT / name).read_bytes())
        add(f"{info}/licenses/NOTICES", notices.text().encode())
        last = f"License-File: {LICENCES[-1]}\n"
        add(f"{info}/METADATA", METADATA.replace(last, f"{last}License-File: NOTICES\n").encode())
        add(f"{info}/entry_points.txt", b"[paste.server_runner]\nmain = ostler.paste:serve\n")
        add(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: ostler\nRoot-Is-Purelib: false\nTag: {tag}\n".encode())
        entry = f"{info}/RECORD"
        add(entry, "".join([*record, f"{entry},,\n"]).encode())
    return path.name


def stripped(program, debug):
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / program.name
        subprocess.run([ROOT / "packaging/strip", program, target, debug], check=True)
        return target.read_bytes()


def system(programs):
    """The platform of the wheel's tag: what the programs really ask of the dynamic linker, and no more."""
    versions, libraries = [(0, 0)], []
    for program in programs:
        said = subprocess.run(["readelf", "-Wd", "--version-info", program], check=True, capture_output=True, text=True).stdout
        versions += [(int(major), int(minor)) for major, minor in re.findall(r"GLIBC_(\d+)\.(\d+)", said)]
        libraries += re.findall(r"\(NEEDED\).*\[(.+)\]", said)
    (machine,) = struct.unpack_from("<H", programs[0].read_bytes(), 18)
    name = MACHINES.get(machine, platform.machine())
    major, minor = max(versions)
    portable = major and all(EVERYWHERE.fullmatch(library) for library in libraries)
    return f"manylinux_{major}_{minor}_{name}" if portable else f"linux_{name}"


def moment():
    """The same source makes the same wheel, where git tells how old it is."""
    command = ["git", "log", "-1", "--format=%ct"]
    told = shutil.which("git") and subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    return max(int(os.environ.get("SOURCE_DATE_EPOCH") or told or 0), 315532800)


if __name__ == "__main__":
    built, directory = map(Path, sys.argv[1:])
    name = pack(built, directory)
    print(f"{directory / name}: {(directory / name).stat().st_size / 1e6:.2f} MB")
