"""Becomes the program `ostler` that was installed with this package."""

import os
import sys
from importlib.metadata import files
from pathlib import Path


def program() -> Path:
    # `pip install --target` moves everything, but leaves the record of what was where.
    moved = Path(__file__).parents[1] / "bin/ostler"
    if moved.is_file():
        return moved
    for file in files("ostler") or ():
        if file.parts[-2:] == ("bin", "ostler"):
            return Path(str(file.locate())).resolve()
    sys.exit("ostler: the program is not where pip has installed it. Install ostler again.")


def main() -> None:
    if not os.environ.get("OSTLER_PYTHON"):
        os.environ["OSTLER_PYTHON"] = sys.executable
    path = program()
    os.execv(path, [str(path), *sys.argv[1:]])


if __name__ == "__main__":
    main()
