"""gunicorn's configuration file in templates and workers: runs it, and calls its hooks with the objects that they know."""

import datetime
import functools
import logging
import os
import pkgutil
import signal
import sys
import time

module = None
# The application object of a program that embeds gunicorn.
embedded = None
cfg = None
server = None
worker = None
# An object of gunicorn's Logger or of a class of the site's own, where the settings ask for one.
logger = None


class Log:
    """`log`: what gunicorn.glogging.Logger offers to hooks. Messages go to the error log."""

    def __init__(self):
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        for name in ("critical", "error", "warning", "info", "debug", "exception"):
            setattr(self, name, getattr(self.error_log, name))

    def log(self, level, message, *arguments, **keywords):
        level = getattr(logging, level.upper(), logging.INFO) if isinstance(level, str) else level
        self.error_log.log(level, message, *arguments, **keywords)


class Server:
    """`server`: what hooks read of gunicorn's Arbiter."""

    def __init__(self, pid, address):
        self.cfg, self.log, self.pid, self.address = cfg, logger or Log(), pid, address
        self.num_workers, self.worker_age, self.proc_name = cfg.workers, 0, cfg.proc_name
        self.WORKERS, self.LISTENERS = {}, []


class Worker:
    """`worker`: what hooks read of gunicorn's Worker. It takes attributes of their own."""

    def __init__(self, pid, ppid, age):
        self.pid, self.ppid, self.age, self.nr = pid, ppid, age, 0
        self.cfg, self.log = cfg, logger or Log()
        self.alive, self.booted, self.aborted = True, False, False
        self.timeout, self.sockets, self.app, self.tmp = cfg.timeout, [], None, None


class Request:
    """`req`: what hooks read of gunicorn's Request. It takes attributes of their own."""

    def __init__(self, environ):
        self.method = environ["REQUEST_METHOD"]
        self.uri = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        self.path = self.uri.partition("?")[0]
        self.query, self.fragment = environ.get("QUERY_STRING", ""), ""
        protocol = environ.get("SERVER_PROTOCOL", "HTTP/1.1").partition("/")[2].partition(".")
        self.version = (int(protocol[0] or 1), int(protocol[2] or 0))
        self.headers = [
            (key[5:].replace("_", "-"), value) for key, value in environ.items() if key.startswith("HTTP_")
        ]
        for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if environ.get(key):
                self.headers.append((key.replace("_", "-"), environ[key]))
        self.remote_addr = (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0))
        self.peer_addr, self.scheme = self.remote_addr, environ["wsgi.url_scheme"]
        self.body = environ["wsgi.input"]


class Response:
    """`resp`: what hooks read of gunicorn's Response."""

    def __init__(self, request, status, headers, sent):
        self.req, self.status, self.headers, self.sent = request, status, headers, sent
        self.status_code = int(status[:3]) if status[:3].isdigit() else None
        self.response_length = next((int(v) for k, v in headers if k.lower() == "content-length" and v.isdigit()), None)
        self.headers_sent = True


def run(kind, name, directory, embedding, quiet):
    """Runs the file or the program, or imports the module, from the directory of the start."""
    global module, embedded
    here = os.getcwd()
    os.environ.pop("OSTLER_LAUNCHED", None)
    os.chdir(directory)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        if kind == "program":
            from types import SimpleNamespace

            with Silence(quiet):
                embedded, said = embedding.run_again(name)
            module = SimpleNamespace(**said)
        elif kind == "module":
            from importlib import import_module

            module = import_module(name)
        else:
            from importlib.machinery import SourceFileLoader
            from importlib.util import module_from_spec, spec_from_loader

            loader = SourceFileLoader("__config__", name)
            module = module_from_spec(spec_from_loader("__config__", loader))
            sys.modules["__config__"] = module
            loader.exec_module(module)
    finally:
        os.chdir(here)


class Silence:
    """What a program prints before its run() was printed when it was started. Our own log has a descriptor of its own."""

    def __init__(self, errors):
        self.places = (1, 2) if errors else (1,)

    def __enter__(self):
        silent = os.open(os.devnull, os.O_WRONLY)
        self.kept = [(place, os.dup(place), os.dup2(silent, place)) for place in self.places]
        os.close(silent)

    def __exit__(self, *_):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        for place, kept, _ in self.kept:
            os.dup2(kept, place)
            os.close(kept)


def application():
    """What `load()` of the program returns."""
    return embedded.wsgi()


def read(texts):
    """A setting's value as Python would hold it."""
    if not texts:
        return None
    if len(texts) != 1:
        return list(texts)
    text = texts[0]
    if text in ("on", "off"):
        return text == "on"
    try:
        return int(text)
    except ValueError:
        return text


def set_up_logging(standard, mistake):
    """Makes the logger that the settings ask for, before the application is imported: what that configures comes later and counts."""
    global logger
    wanted = cfg.logger_class
    if isinstance(wanted, str) and wanted in ("gunicorn.glogging.Logger", "simple"):
        wanted = standard if cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json else None
    if isinstance(wanted, str):
        from importlib import import_module

        name, _, attribute = wanted.rpartition(".")
        wanted = getattr(import_module(name), attribute)
    if wanted is not None:
        for name in ("gunicorn.error", "gunicorn.access"):
            # A Logger has handlers of its own.
            logging.getLogger(name).handlers.clear()
        key = next((key for key in ("logconfig_dict", "logconfig_json", "logconfig") if getattr(cfg, key)), None)
        file = None if key in ("logconfig_dict", None) else getattr(cfg, key)
        try:
            if file:
                open(file, "rb").close()
        except OSError as error:
            raise mistake(f"{key} {file}: could not read it: {error.strerror.lower()}") from None
        try:
            server.log = logger = wanted(cfg)
        except Exception as error:
            if not file:
                raise
            raise ValueError(f"{key} {file}: {type(error).__name__}: {error}") from error
        if atoms := getattr(logger, "atoms", None):
            logger.atoms = lambda *about, **named: {**atoms(*about, **named), **place()}


def place():
    """What the access log can tell of who has answered, as it does where ostler writes it."""
    told = {"generation": "OSTLER_GENERATION", "worker": "OSTLER_SLOT"}
    return {"{%s}x" % name: os.environ.get(variable, "-") for name, variable in told.items()}


def prepare(config, values, pid, address):
    """Makes `cfg` and `server`. `values` are the settings in force, which the command line may have changed."""
    global cfg, server
    cfg = config()
    for name, value in vars(module).items() if module else ():
        if name in cfg.settings:
            cfg.set(name, value)
    for name, texts in values:
        said, value = getattr(module, name, None), read(texts)
        if isinstance(said, type) and texts == [f"{said.__module__}.{said.__qualname__}"] or name not in cfg.settings:
            # The class itself, wherever it was made.
            continue
        if name in ("bind", "raw_env", "forwarder_headers"):
            value = value if isinstance(value, list) else [] if value is None else [value]
        cfg.set(name, value)
    # By now this process is whose it is to be.
    cfg.set("user", os.geteuid())
    cfg.set("group", os.getegid())
    before, server = server, Server(pid, address)
    if before is not None:
        # Hooks keep what they like on it.
        server.__dict__.update({key: value for key, value in vars(before).items() if key not in vars(server)})
        server.WORKERS, server.worker_age = before.WORKERS, before.worker_age


def hook(name):
    """The hook of this name, if the file has one."""
    found = getattr(module, name, None)
    if isinstance(found, str):
        found = pkgutil.resolve_name(found)
    return found if callable(found) else None


def call(name, *arguments):
    """Calls a hook. One that raises does not hurt the site; one that exits before the worker serves keeps it from serving."""
    found = hook(name)
    if found is not None:
        try:
            found(*arguments)
        except BaseException as error:
            server.log.exception("hook %s raised", name)
            if isinstance(error, SystemExit) and name in ("post_fork", "post_worker_init"):
                raise


def begun():
    """The process of the master's hooks begins."""
    call("nworkers_changed", server, server.num_workers, None)
    call("on_starting", server)


def reloaded():
    """The file was run again."""
    call("on_reload", server)


def is_ready():
    """The addresses are bound."""
    call("when_ready", server)


def forking(age):
    """A worker is about to be forked."""
    server.worker_age = age
    call("pre_fork", server, Worker(None, server.pid, age))


def has_forked(age, pid):
    """It was forked."""
    server.WORKERS[pid] = Worker(pid, server.pid, age)


def died(pid):
    """A worker has ended."""
    gone = server.WORKERS.pop(pid, None) or Worker(pid, server.pid, 0)
    gone.alive = False
    call("child_exit", server, gone)


def count_changed(new, old):
    """There are to be more workers, or fewer."""
    server.num_workers = new
    call("nworkers_changed", server, new, old)


def leaves():
    """The master ends."""
    call("on_exit", server)


def forked(pid, ppid, age):
    """A worker begins."""
    global worker
    worker = Worker(pid, ppid, age)
    call("post_fork", server, worker)


def initialised():
    """It has its application."""
    call("post_worker_init", worker)
    worker.booted = True


def exited():
    """It ends."""
    worker.alive = False
    call("worker_exit", server, worker)


def interrupted():
    """It was told to end at once."""
    worker.alive = False
    call("worker_int", worker)


def aborted(*_):
    """A request has taken too long: called once, by a signal on the main thread or on another."""
    if not worker.aborted:
        worker.alive, worker.aborted = False, True
        call("worker_abort", worker)
        call("worker_exit", server, worker)
        os._exit(1)


def heed(number):
    """Has the main thread call `aborted` when the signal comes, if there is a hook for it."""
    if hook("worker_abort"):
        signal.signal(number, aborted)
        return True
    return False


@functools.lru_cache
def positional(function):
    """How many of worker, req, environ and resp it takes."""
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 4
    if any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters):
        return 4
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return max(2, min(4, sum(parameter.kind in kinds for parameter in parameters)))


def watches_requests():
    """Whether the file has a hook for requests, or a logger writes the access log."""
    return bool(hook("pre_request") or hook("post_request") or logger)


def logs_access():
    """Whether a logger writes the access log."""
    return logger is not None


def before(environ):
    """A request begins; what `after` needs of it."""
    worker.nr += 1
    request = Request(environ)
    request._began = time.monotonic()
    call("pre_request", worker, request)
    return request


def after(request, environ, status, headers, sent):
    """It ends."""
    response = Response(request, status, headers, sent)
    found = hook("post_request")
    if found is not None:
        call("post_request", *(worker, request, environ, response)[: positional(found)])
    if logger is not None:
        took = datetime.timedelta(seconds=time.monotonic() - request._began)
        try:
            logger.access(response, request, environ, took)
        except Exception:
            server.log.exception("access log not written")
