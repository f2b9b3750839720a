"""The licences of the crates that are linked into the program and the engine, as these ask to be passed on. Needs cargo."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """\
ostler is linked with Rust's standard library (copyright of the Rust Project contributors; MIT OR Apache-2.0)
and with the crates below. Each may be used as its licence says.
"""


def text():
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", host()]
    told = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in told["packages"]}
    crates = [packages[crate] for crate in sorted(linked(told)) if packages[crate]["source"]]
    holders = {}
    for crate in crates:
        for file in sorted(Path(crate["manifest_path"]).parent.iterdir()):
            if file.is_file() and file.name.lower().startswith(("license", "copying", "notice")):
                words = file.read_text(errors="replace").strip()
                holders.setdefault(words, []).append(f"{crate['name']} {crate['version']}")
    table = "".join(f"{crate['name']} {crate['version']}: {crate['license']}\n" for crate in crates)
    rule = "\n" + "=" * 80 + "\n"
    return rule.join([HEAD + "\n" + table, *(f"{', '.join(names)}\n\n{words}\n" for words, names in holders.items())])


def linked(told):
    """Without what only builds or tests need: build scripts, procedural macros, test dependencies."""
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    macros = {package["id"] for package in told["packages"] if any("proc-macro" in target["kind"] for target in package["targets"])}
    ours = [package["id"] for package in told["packages"] if Path(package["manifest_path"]).is_relative_to(ROOT / "src")]
    found, open_ends = set(), ours
    while open_ends:
        crate = open_ends.pop()
        if crate not in found and crate not in macros:
            found.add(crate)
            open_ends += [edge["pkg"] for edge in nodes[crate]["deps"] if any(kind["kind"] is None for kind in edge["dep_kinds"])]
    return found


def host():
    told = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return next(line.split()[1] for line in told.splitlines() if line.startswith("host: "))


if __name__ == "__main__":
    print(text())
