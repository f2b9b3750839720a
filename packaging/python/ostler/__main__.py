"""Becomes the program `ostler` that was installed with this package."""

import os
import sys

from ostler.installed import find


def main(name: str | None = None) -> None:
    """Does not return. `name`: what the program is told that it was started as."""
    if not os.environ.get("OSTLER_PYTHON"):
        os.environ["OSTLER_PYTHON"] = sys.executable
    try:
        path = find("bin", "ostler")
    except FileNotFoundError as error:
        sys.exit(f"ostler: {error}")
    os.execv(path, [name or str(path), *sys.argv[1:]])


if __name__ == "__main__":
    main()
