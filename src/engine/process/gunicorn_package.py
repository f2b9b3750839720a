"""What programs import from gunicorn, where gunicorn itself is not installed: its names, with ostler behind them."""

import sys

VERSION = (27, 0, 1)

# The folder of the wheel that holds the module for `import gunicorn`. Who has this code needs no other way to it.
sys.path[:] = [entry for entry in sys.path if not entry.endswith("/ostler/stand_in")]

HOOKS = """on_starting on_reload when_ready pre_fork post_fork post_worker_init worker_int worker_abort pre_exec pre_request post_request
child_exit worker_exit nworkers_changed on_exit ssl_context on_dirty_starting dirty_post_fork dirty_worker_init
dirty_worker_exit""".split()

# Every setting, with gunicorn's default; a hook has none.
DEFAULTS = {
    **dict.fromkeys(HOOKS),
    "access_log_format": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
    "accesslog": None,
    "asgi_disconnect_grace_period": 3,
    "asgi_lifespan": "auto",
    "asgi_loop": "auto",
    "backlog": 2048,
    "bind": ["127.0.0.1:8000"],
    "ca_certs": None,
    "capture_output": False,
    "casefold_http_method": False,
    "cert_reqs": 0,
    "certfile": None,
    "chdir": ".",
    "check_config": False,
    "ciphers": None,
    "config": "./gunicorn.conf.py",
    "control_socket": None,
    "control_socket_disable": False,
    "control_socket_mode": 384,
    "daemon": False,
    "default_proc_name": "gunicorn",
    "dirty_apps": [],
    "dirty_graceful_timeout": 30,
    "dirty_threads": 1,
    "dirty_timeout": 300,
    "dirty_workers": 0,
    "disable_redirect_access_to_syslog": False,
    "do_handshake_on_connect": False,
    "dogstatsd_tags": "",
    "enable_backlog_metric": False,
    "enable_stdio_inheritance": False,
    "errorlog": "-",
    "forwarded_allow_ips": "127.0.0.1,::1",
    "forwarder_headers": ["SCRIPT_NAME", "PATH_INFO"],
    "graceful_timeout": 30,
    "group": None,
    "header_map": "drop",
    "http2_cleartext": "off",
    "http2_initial_window_size": 65535,
    "http2_max_concurrent_streams": 100,
    "http2_max_frame_size": 16384,
    "http2_max_header_list_size": 65536,
    "http_parser": "auto",
    "http_protocols": "h1",
    "initgroups": False,
    "keepalive": 2,
    "keyfile": None,
    "limit_request_field_size": 8190,
    "limit_request_fields": 100,
    "limit_request_line": 4094,
    "logconfig": None,
    "logconfig_dict": {},
    "logconfig_json": None,
    "logger_class": "gunicorn.glogging.Logger",
    "loglevel": "info",
    "max_requests": 0,
    "max_requests_jitter": 0,
    "paste": None,
    "permit_obsolete_folding": False,
    "permit_unconventional_http_method": False,
    "permit_unconventional_http_version": False,
    "pidfile": None,
    "preload_app": False,
    "print_config": False,
    "proc_name": "gunicorn",
    "protocol": "http",
    "proxy_allow_ips": "127.0.0.1,::1",
    "proxy_protocol": False,
    "pythonpath": None,
    "raw_env": [],
    "raw_paste_global_conf": [],
    "reload": False,
    "reload_engine": "auto",
    "reload_extra_files": [],
    "reuse_port": False,
    "root_path": "",
    "secure_scheme_headers": {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
    "sendfile": None,
    "spew": False,
    "ssl_version": None,
    "statsd_host": None,
    "statsd_prefix": "",
    "strip_header_spaces": False,
    "suppress_ragged_eofs": True,
    "syslog": False,
    "syslog_addr": "udp://localhost:514",
    "syslog_facility": "user",
    "syslog_prefix": None,
    "threads": 1,
    "timeout": 30,
    "tmp_upload_dir": None,
    "umask": 0,
    "user": None,
    "uwsgi_allow_ips": "127.0.0.1,::1",
    "websocket_max_message_size": 16777216,
    "worker_class": "sync",
    "worker_connections": 1000,
    "worker_tmp_dir": None,
    "workers": 1,
    "wsgi_app": None,
}


def fill_gunicorn(module):
    module.version_info = VERSION
    module.__version__ = ".".join(map(str, VERSION))
    module.SERVER = "gunicorn"
    module.SERVER_SOFTWARE = f"gunicorn/{module.__version__}"


def fill_config(module):
    class Setting:
        """One entry of `Config.settings`."""

        name = value = default = section = cli = validator = type = meta = action = short = desc = None

        def __init__(self, name=None, value=None):
            self.name, self.value = name or self.name, value

        def get(self):
            return self.value

        def set(self, value):
            self.value = value

        def copy(self):
            return Setting(self.name, self.value)

    class Config:
        """`cfg`: settings by name."""

        def __init__(self, usage=None, prog=None):
            made = {name: Setting(name, value) for name, value in DEFAULTS.items()}
            self.__dict__.update(settings=made, usage=usage, prog=prog, env_orig={}, address=[])

        @property
        def is_ssl(self):
            return self.certfile or self.keyfile

        def __getattr__(self, name):
            try:
                return self.__dict__["settings"][name].get()
            except KeyError:
                raise AttributeError(f"No configuration setting for: {name}") from None

        def __setattr__(self, name, value):
            self.set(name, value)

        def set(self, name, value):
            if name not in self.settings:
                raise AttributeError(f"No configuration setting for: {name}")
            self.settings[name].set(value)

        def validate(self):
            pass

        @property
        def worker_class_str(self):
            return str(self.worker_class)

        @property
        def paste_global_conf(self):
            pairs = self.raw_paste_global_conf
            return {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)} or None

    def validate_callable(arity):
        def validate(value):
            if not callable(value):
                raise TypeError("Value is not callable: %s" % value)
            return value

        return validate

    module.Setting, module.Config, module.validate_callable = Setting, Config, validate_callable
    module.make_settings = lambda ignore=None: {name: Setting(name, value) for name, value in DEFAULTS.items()}
    module.KNOWN_SETTINGS = []
    for name in ("bool", "string", "list_string", "pos_int", "dict", "class", "file_exists"):
        setattr(module, f"validate_{name}", lambda value: value)


def config():
    """A new `cfg`, whatever gunicorn is installed."""
    made = type(sys)("config")
    fill_config(made)
    return made.Config()


def logger():
    """The Logger that is used where a configuration of `logging` is given, whatever gunicorn is installed."""
    made = type(sys)("glogging")
    fill_glogging(made)
    return made.Logger


def fill_glogging(module):
    import datetime
    import json
    import logging
    import logging.config
    import logging.handlers
    import os
    import time
    import traceback

    module.CONFIG_DEFAULTS = {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {
            "gunicorn.error": {"level": "INFO", "handlers": ["error_console"], "propagate": True, "qualname": "gunicorn.error"},
            "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": True, "qualname": "gunicorn.access"},
        },
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
            "error_console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"},
        },
        "formatters": {
            "generic": {
                "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
                "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
                "class": "logging.Formatter",
            }
        },
    }

    class SafeAtoms(dict):
        """The atoms of an access log line: quotation marks are escaped, and what is missing is `-`."""

        def __init__(self, atoms):
            super().__init__()
            for key, value in atoms.items():
                self[key] = value.replace('"', '\\"') if isinstance(value, str) else value

        def __getitem__(self, key):
            if key.startswith("{"):
                key = key.lower()
            return super().__getitem__(key) if key in self else "-"

    class Logger:
        """Writes the error log, and the access log where a configuration of `logging` or a class of its own asks for that."""

        LOG_LEVELS = {name: getattr(logging, name.upper()) for name in ("critical", "error", "warning", "info", "debug")}
        loglevel = logging.INFO
        error_fmt = r"%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
        datefmt = r"[%Y-%m-%d %H:%M:%S %z]"
        access_fmt = "%(message)s"
        syslog_fmt = "[%(process)d] %(message)s"
        atoms_wrapper_class = SafeAtoms

        def __init__(self, cfg):
            self.error_log = logging.getLogger("gunicorn.error")
            self.access_log = logging.getLogger("gunicorn.access")
            self.error_handlers, self.access_handlers, self.logfile, self.cfg = [], [], None, cfg
            self.setup(cfg)

        def setup(self, cfg):
            self.loglevel = self.LOG_LEVELS.get(str(cfg.loglevel).lower(), logging.INFO)
            self.error_log.setLevel(self.loglevel)
            self.access_log.setLevel(logging.INFO)
            self.access_log.propagate = self.error_log.propagate = False
            # Standard error is the error log.
            self._set_handler(self.error_log, "-", logging.Formatter(self.error_fmt, self.datefmt))
            self._set_handler(self.access_log, cfg.accesslog, logging.Formatter(self.access_fmt), sys.stdout)
            if cfg.logconfig_dict or cfg.logconfig_json:
                config = dict(module.CONFIG_DEFAULTS)
                if cfg.logconfig_dict:
                    config.update(cfg.logconfig_dict)
                else:
                    with open(cfg.logconfig_json, encoding="utf-8") as file:
                        config.update(json.load(file))
                logging.config.dictConfig(config)
            elif cfg.logconfig:
                defaults = {"__file__": cfg.logconfig, "here": os.path.dirname(cfg.logconfig)}
                logging.config.fileConfig(cfg.logconfig, defaults=defaults, disable_existing_loggers=False)

        def _set_handler(self, log, output, fmt, stream=None):
            """Writes a log to a file, to a stream for `-`, or nowhere. Classes of the site's own call it in `setup`."""
            log.handlers = [handler for handler in log.handlers if not hasattr(handler, "_gunicorn")]
            if not output:
                return
            if output == "-":
                handler = logging.StreamHandler(stream)
            else:
                # It opens the file again by itself, once that is another one.
                handler = logging.handlers.WatchedFileHandler(os.path.join(self.cfg.chdir, output))
            handler._gunicorn = True
            handler.setFormatter(fmt)
            log.addHandler(handler)

        def critical(self, msg, *args, **kwargs):
            self.error_log.critical(msg, *args, **kwargs)

        def error(self, msg, *args, **kwargs):
            self.error_log.error(msg, *args, **kwargs)

        def warning(self, msg, *args, **kwargs):
            self.error_log.warning(msg, *args, **kwargs)

        def info(self, msg, *args, **kwargs):
            self.error_log.info(msg, *args, **kwargs)

        def debug(self, msg, *args, **kwargs):
            self.error_log.debug(msg, *args, **kwargs)

        def exception(self, msg, *args, **kwargs):
            self.error_log.exception(msg, *args, **kwargs)

        def log(self, lvl, msg, *args, **kwargs):
            if isinstance(lvl, str):
                lvl = self.LOG_LEVELS.get(lvl.lower(), logging.INFO)
            self.error_log.log(lvl, msg, *args, **kwargs)

        def atoms(self, resp, req, environ, request_time):
            status = resp.status if isinstance(resp.status, str) else str(resp.status)
            status = status.split(None, 1)[0]
            microseconds = request_time.seconds * 1_000_000 + request_time.microseconds
            atoms = {
                "h": environ.get("REMOTE_ADDR", "-"),
                "l": "-",
                "u": self._get_user(environ) or "-",
                "t": self.now(),
                "r": "%s %s %s" % (environ["REQUEST_METHOD"], environ.get("RAW_URI", ""), environ["SERVER_PROTOCOL"]),
                "s": status,
                "m": environ.get("REQUEST_METHOD"),
                "U": environ.get("PATH_INFO"),
                "q": environ.get("QUERY_STRING"),
                "H": environ.get("SERVER_PROTOCOL"),
                "b": str(resp.sent) if getattr(resp, "sent", None) is not None else "-",
                "B": getattr(resp, "sent", None),
                "f": environ.get("HTTP_REFERER", "-"),
                "a": environ.get("HTTP_USER_AGENT", "-"),
                "T": request_time.seconds,
                "D": microseconds,
                "M": microseconds // 1000,
                "L": "%d.%06d" % (request_time.seconds, request_time.microseconds),
                "p": "<%s>" % os.getpid(),
            }
            for pairs, letter in ((req.headers, "i"), (resp.headers, "o"), (environ.items(), "e")):
                pairs = pairs.items() if hasattr(pairs, "items") else pairs
                atoms.update({"{%s}%s" % (name.lower(), letter): value for name, value in pairs})
            return atoms

        def access(self, resp, req, environ, request_time):
            cfg = self.cfg
            if not (cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json):
                return
            safe = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
            try:
                self.access_log.info(self.cfg.access_log_format, safe)
            except Exception:
                self.error(traceback.format_exc())

        def now(self):
            return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

        def reopen_files(self):
            pass

        def close_on_exec(self):
            pass

        def _get_user(self, environ):
            scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
            if scheme.lower() != "basic":
                return environ.get("REMOTE_USER")
            import base64

            try:
                return base64.b64decode(value.strip()).decode("utf-8").partition(":")[0]
            except ValueError:
                return None

    module.SafeAtoms, module.Logger, module.logging, module.datetime = SafeAtoms, Logger, logging, datetime
    module.loggers = lambda: [logging.getLogger(name) for name in logging.root.manager.loggerDict]


def fill_workers(module):
    module.__path__ = []
    module.SUPPORTED_WORKERS = {name: name for name in ("sync", "gthread", "gevent", "eventlet")}


def fill_worker_base(module):
    module.Worker = type("Worker", (), {"__doc__": "gunicorn's kinds of workers have no meaning for ostler."})


def fill_worker(module):
    from gunicorn.workers.base import Worker

    for name in {"sync": ["SyncWorker"], "gthread": ["ThreadWorker"], "ggevent": ["GeventWorker", "GeventPyWSGIWorker"]}[
        module.__name__.rpartition(".")[2]
    ]:
        setattr(module, name, type(name, (Worker,), {"__module__": module.__name__}))


MODULES = {
    "gunicorn": fill_gunicorn,
    "gunicorn.config": fill_config,
    "gunicorn.glogging": fill_glogging,
    "gunicorn.workers": fill_workers,
    "gunicorn.workers.base": fill_worker_base,
    "gunicorn.workers.ggevent": fill_worker,
    "gunicorn.workers.gthread": fill_worker,
    "gunicorn.workers.sync": fill_worker,
}


class Finder:
    """Stands behind all others, so that an installed gunicorn is found first."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in MODULES:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, Finder, origin="ostler", is_package=name in ("gunicorn", "gunicorn.app", "gunicorn.workers"))

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        MODULES[module.__name__](module)


sys.meta_path.append(Finder)
