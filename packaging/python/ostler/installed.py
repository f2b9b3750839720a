"""Where pip has put the program and its engine."""

import functools
import threading
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.metadata import PackageNotFoundError, files
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType


def find(*place: str) -> Path:
    """A file of the wheel, by the end of its path. FileNotFoundError if it is not there."""
    # `pip install --target` moves everything, but leaves the record of what was where.
    moved = Path(__file__).parents[1].joinpath(*place)
    if moved.is_file():
        return moved
    try:
        recorded = files("ostler") or ()
    except PackageNotFoundError:
        recorded = ()
    for file in recorded:
        if file.parts[-len(place) :] == place:
            return Path(str(file.locate())).resolve()
    raise FileNotFoundError(f"{'/'.join(place)} is not where pip has installed it. Install ostler again.")


_loading = threading.Lock()


def engine() -> ModuleType:
    """The engine, loaded into this interpreter."""
    with _loading:
        return _load()


@functools.cache
def _load() -> ModuleType:
    path = str(find("libexec", "ostler", "libostler_engine.so"))
    loader = ExtensionFileLoader("ostler_engine", path)
    module = module_from_spec(ModuleSpec("ostler_engine", loader, origin=path))
    loader.exec_module(module)
    module.prepare()
    return module
