# Runs a settings file that is a Python program, as gunicorn runs its own, and says what it set: `python -c <this> file PATH DIRECTORY`,
# `module NAME DIRECTORY`, or `program COMMAND DIRECTORY` for one that embeds gunicorn. The program runs a second time in the template; what it prints is seen there, and not here.

# What hooks are called with.
ARGUMENTS = {
    **dict.fromkeys(["on_starting", "on_reload", "when_ready", "on_exit"], "server"),
    **dict.fromkeys(["post_worker_init", "worker_int", "worker_abort"], "worker"),
    **dict.fromkeys(["pre_fork", "post_fork", "child_exit", "worker_exit"], "server, worker"),
    "pre_request": "worker, req",
    "post_request": "worker, req, environ, resp",
    "nworkers_changed": "server, new_value, old_value",
}


def run():
    import json
    import os
    import sys

    kind, name, directory = sys.argv[1:4]
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    sys.argv[:] = ["ostler"]
    if sys.path[:1] == [""]:
        del sys.path[0]
    sys.path.insert(0, directory)

    def tell(said):
        answer.write("ostler runs\n" + json.dumps(said) + "\nend")
        answer.flush()
        os._exit(0)

    def text(value):
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, (bytes, bytearray)):
            return bytes(value).decode("utf-8", "surrogateescape")
        if isinstance(value, (str, int, float, os.PathLike)):
            return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        raise TypeError(type(value).__name__)

    def texts(value):
        if isinstance(value, dict):
            return [text(key) + "=" + text(item) for key, item in value.items()]
        if isinstance(value, (list, tuple, set, frozenset)):
            return [text(item) for item in value]
        return [text(value)]

    def misfit(key, function):
        """Why a hook could not be called, as gunicorn sees it at once."""
        import inspect

        if key not in ARGUMENTS:
            return None
        given = ARGUMENTS[key].split(", ")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return None
        # gunicorn gives post_request as many as it takes.
        for count in range(2 if key == "post_request" else len(given), len(given) + 1):
            try:
                signature.bind(*given[:count])
                return None
            except TypeError:
                pass
        return "expected a function of (" + ARGUMENTS[key] + "), found one of " + str(signature)

    def described(key, value):
        if value is None:
            return {"texts": []}
        if key in ("secure_scheme_headers", "forwarder_headers") and not value:
            return {"texts": ["none"]}
        if key in ARGUMENTS and isinstance(value, str):
            import pkgutil

            try:
                value = pkgutil.resolve_name(value)
            except Exception as error:
                why = "expected a function, or where one is: %r: %s" % (value, error)
                return {"texts": ["on"], "callable": True, "misfit": why}
        if isinstance(value, type) and key not in ARGUMENTS:
            return {"texts": [value.__module__ + "." + value.__qualname__]}
        if callable(value):
            return {"texts": ["on"], "callable": True, "misfit": misfit(key, value)}
        if key in ("umask", "control_socket_mode"):
            # As gunicorn reads it: a text with a leading 0 is octal, one without is decimal.
            number = value if isinstance(value, int) else int(value, 8 if str(value).startswith("0") else 10)
            return {"texts": ["%03o" % number]}
        try:
            return {"texts": texts(value)}
        except TypeError as error:
            return {"texts": [], "type": str(error)}

    def lines(source):
        import ast

        found = {}
        for node in ast.walk(ast.parse(source)):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.append(node.name)
            for assigned in names:
                found.setdefault(assigned, set()).add(node.lineno)
        return {key: max(places) for key, places in found.items() if len(places) == 1}

    def server_field():
        """What the file has made of gunicorn's name in the Server field, if it has."""
        package = sys.modules.get("gunicorn")
        ours = getattr(package, "SERVER", None), getattr(package, "SERVER_SOFTWARE", None)
        return next((name for name in ours if name is not None and not str(name).startswith("gunicorn")), None)

    def patched():
        """By whom `threading` was replaced, if by anybody: threads of Python do not work then."""
        gevent, eventlet = (sys.modules.get(name) for name in ("gevent.monkey", "eventlet.patcher"))
        if gevent and gevent.is_module_patched("threading"):
            return "gevent"
        if eventlet and eventlet.is_monkey_patched("thread"):
            return "eventlet"
        return None

    def failed(error, path):
        import traceback

        trace = traceback.extract_tb(error.__traceback__)
        ours = [frame.lineno for frame in trace if frame.filename == path]
        line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else (ours or [None])[-1]
        # The frames of this code and of the import system tell nothing.
        kept = error.__traceback__
        while kept is not None and kept.tb_frame.f_code.co_filename != path:
            kept = kept.tb_next
        shown = "".join(traceback.format_exception(type(error), error, kept))
        said = "".join(traceback.format_exception_only(type(error), error)).strip()
        # The lines before the last of a SyntaxError show where it is.
        reason = said.splitlines()[-1] if isinstance(error, SyntaxError) else " ".join(said.split())
        tell({"failed": {"path": path, "line": line, "reason": reason, "traceback": shown}})

    def describe(path, variables, places):
        said = {}
        server = server_field()
        if server is not None:
            said["server_header"] = {"texts": [server], "line": None}
        for key, value in variables.items():
            if key.startswith("_") or key != key.lower() or isinstance(value, type(sys)):
                continue
            said[key] = dict(described(key, value), line=places.get(key))
        tell({"path": path, "said": said, "patched": patched()})

    def main_file(command):
        """The file of the program that runs, or the words that name it."""
        import shlex

        try:
            words = shlex.split(command)
        except ValueError:
            words = []
        if words[:1] == ["--paste"]:
            words = [file.removeprefix("config:").partition("#")[0] for file in words[1:2]]
        if words and not words[0].startswith("-"):
            return os.path.abspath(os.path.join(directory, words[0]))
        return getattr(sys.modules["__main__"], "__file__", None) or "program:" + command

    path = name
    try:
        if kind == "program":
            extend(MODULES, HOOKS)
            module = None
            run_again(name, lambda said, file: describe(file or main_file(name), said, {}))
        elif kind == "file":
            from importlib.machinery import SourceFileLoader
            from importlib.util import module_from_spec, spec_from_loader

            loader = SourceFileLoader("__config__", name)
            module = module_from_spec(spec_from_loader("__config__", loader))
            sys.modules["__config__"] = module
            loader.exec_module(module)
        else:
            from importlib import import_module

            module = import_module(name)
            path = getattr(module, "__file__", None) or name
    except Mistake as error:
        path = error.path or (main_file(name) if kind == "program" else path)
        tell({"failed": {"path": path, "line": error.line, "reason": str(error), "traceback": ""}})
    except BaseException as error:
        failed(error, main_file(name) if kind == "program" else path)
    try:
        with open(path, "rb") as file:
            places = lines(file.read())
    except Exception:
        places = {}
    describe(path, vars(module), places)


run()
