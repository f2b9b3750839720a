"""Finds the application that was named, or says in plain words why it could not be found."""

import gc
import importlib
import importlib.util
import os
import sys
import traceback


MOST_FRAMES = 1000


class NotLoaded(Exception):
    """Holds the kind of the failure, one sentence, and a traceback or nothing."""


def load(spec):
    """`module`, `module:attribute.path`, `module:factory('literal', key=1)` or `path/to/file.py[:...]`."""
    try:
        with CollectorOff():
            return find(spec)
    except NotLoaded:
        raise
    except BaseException as error:
        raise NotLoaded("Application", f"looking for {spec} raised {last_line(error)}", traceback_of(error)) from None


class CollectorOff:
    """Keeps the garbage collector off during an import: it would find little, and cost more with every module imported.

    If the application disables the collector, that takes effect afterwards; if it enables it, at once. Its thresholds are left alone.
    """

    def __enter__(self):
        self.wanted, self.over = gc.isenabled(), False
        self.real = gc.enable, gc.disable, gc.isenabled
        gc.enable, gc.disable, gc.isenabled = self.enable, self.disable, self.isenabled
        self.real[1]()
        # A child that the import forks may live long.
        os.register_at_fork(after_in_child=self.end)

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.over:
            return
        self.over = True
        for name, real in zip(("enable", "disable", "isenabled"), self.real):
            if getattr(gc, name) == getattr(self, name):
                setattr(gc, name, real)
        if self.wanted:
            self.real[0]()

    def enable(self):
        self.wanted = True
        self.real[0]()

    def disable(self):
        self.wanted = False
        self.real[1]()

    def isenabled(self):
        return self.real[2]() if self.over else self.wanted


def find(spec):
    if spec.startswith("program:"):
        return load_from_program(spec)
    target, attribute = split(spec)
    module = import_target(target)
    if not attribute:
        for attribute in ("application", "app"):
            if hasattr(module, attribute):
                break
        else:
            raise NotLoaded("Application", f'{target} has neither "application" nor "app"; {where(module)}', "")
    path, call = parse(spec, attribute)
    found = module
    for name in path:
        try:
            found = getattr(found, name)
        except AttributeError:
            what = f'{target} has no attribute "{".".join(path)}"'
            raise NotLoaded("Application", f"{what}; {where(module)}", "") from None
    named = f"{target}:{'.'.join(path)}"
    if call is not None:
        found, named = run_factory(named, found, *call), f"what {named}() returned"
    if not callable(found):
        raise NotLoaded("Application", f"{named} is not callable, it is of type {type(found).__name__}", "")
    return found


def load_from_program(spec):
    """What `load()` of a program returns that embeds gunicorn, and was run already (see gunicorn.py)."""
    try:
        found = sys.modules["_ostler_gunicorn"].application()
    except BaseException as error:
        raise NotLoaded("Application", f"load() of {spec} raised {last_line(error)}", traceback_of(error)) from None
    if not callable(found):
        raise NotLoaded("Application", f"what load() of {spec} returned is not callable, it is of type {type(found).__name__}", "")
    return found


def where(module):
    looked = f"it was looked for in {getattr(module, '__file__', None) or 'a module without a file'}"
    if module.__name__.partition(".")[0] in sys.stdlib_module_names:
        return f"{looked}, which is Python's own: give yours another name"
    return looked


def split(spec):
    file, end, attribute = spec.partition(".py:")
    if file and end:
        return f"{file}.py", attribute
    if spec.endswith(".py"):
        return spec, None
    target, _, attribute = spec.partition(":")
    return target, attribute


def import_target(target):
    try:
        if target.endswith(".py"):
            return import_file(target)
        return importlib.import_module(target)
    except BaseException as error:
        raise NotLoaded("Import", f"could not import {target}: {last_line(error)}{whose(error)}", beyond_last_line(error)) from None


def beyond_last_line(error):
    """The traceback, or nothing if it is no more than the last line."""
    text = traceback_of(error)
    return text if "\n" in text.strip() else ""


def whose(error):
    """A package that is not there is most often another interpreter's."""
    return f", looked for with {sys.executable}" if isinstance(error, ModuleNotFoundError) else ""


def import_file(path):
    path = os.path.abspath(path)
    name = os.path.basename(path)[: -len(".py")]
    sys.path.insert(0, os.path.realpath(os.path.dirname(path)))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def parse(spec, attribute):
    """The attribute's path, and a factory's arguments if it is called."""
    if attribute.isascii() and attribute.isidentifier():
        return [attribute], None
    import ast  # It takes milliseconds, and most sites do without it.

    try:
        node, call = ast.parse(attribute, mode="eval").body, None
        if isinstance(node, ast.Call):
            arguments = [ast.literal_eval(argument) for argument in node.args]
            call = arguments, {pair.arg: ast.literal_eval(pair.value) for pair in node.keywords if pair.arg}
            if len(call[1]) < len(node.keywords):
                raise ValueError
            node = node.func
        path = []
        while isinstance(node, ast.Attribute):
            path.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise ValueError
    except (SyntaxError, ValueError):
        raise NotLoaded(
            "Application", f'"{attribute}" in {spec} is neither an attribute nor a call with literal arguments', ""
        ) from None
    return [node.id, *path], call


def run_factory(named, factory, arguments, keywords):
    if not callable(factory):
        raise NotLoaded("Application", f"{named} is not callable, it is of type {type(factory).__name__}", "")
    try:
        return factory(*arguments, **keywords)
    except BaseException as error:
        raise NotLoaded("Application", f"the factory {named} raised {last_line(error)}", traceback_of(error)) from None


def traceback_of(error):
    """As Python prints it, without the frames of this file and of the import system above the application's own.

    An exception is the application's: showing it may run its code, which may raise again, and the chain of its causes may be
    too long to follow.
    """
    first = error.__traceback__
    while first is not None and is_ours(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    for chain in (True, False):
        try:
            return "".join(traceback.format_exception(type(error), error, first, limit=-MOST_FRAMES, chain=chain))
        except BaseException:
            pass
    return "".join(traceback.format_tb(first, limit=-MOST_FRAMES)) + last_line(error)


def last_line(error):
    """`ValueError: what it says`, without the notes added to it (PEP 678)."""
    try:
        told = traceback.TracebackException(type(error), error, None)
        told.__notes__ = None
        return list(told.format_exception_only())[-1].strip()
    except BaseException:
        return f"{type(error).__name__}, which cannot be shown"


def is_ours(filename):
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")
