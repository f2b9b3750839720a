"""Programs that embed gunicorn: the classes that they derive theirs from, and how such a program is run again, up to its `run()`.

ostler's master runs no Python. So `run()` of a program that was started by itself becomes the program `ostler`, which runs the program again
in each of its processes that need it: there, `run()` hands over the application object.
"""

import sys

# Becomes ostler; none where ostler is already.
launch = None

# Flags that are not the setting's name.
FLAGS = {
    "access_log_format": ["--access-logformat"],
    "accesslog": ["--access-logfile"],
    "bind": ["-b", "--bind"],
    "config": ["-c", "--config"],
    "control_socket_disable": ["--no-control-socket"],
    "daemon": ["-D", "--daemon"],
    "dirty_apps": ["--dirty-app"],
    "enable_stdio_inheritance": ["-R", "--enable-stdio-inheritance"],
    "errorlog": ["--error-logfile", "--log-file"],
    "group": ["-g", "--group"],
    "keepalive": ["--keep-alive"],
    "limit_request_field_size": ["--limit-request-field_size"],
    "logconfig": ["--log-config"],
    "logconfig_json": ["--log-config-json"],
    "loglevel": ["--log-level"],
    "paste": ["--paste", "--paster"],
    "pidfile": ["-p", "--pid"],
    "preload_app": ["--preload"],
    "proc_name": ["-n", "--name"],
    "proxy_allow_ips": ["--proxy-allow-from"],
    "raw_env": ["-e", "--env"],
    "raw_paste_global_conf": ["--paste-global"],
    "reload_extra_files": ["--reload-extra-file"],
    "syslog": ["--log-syslog"],
    "syslog_addr": ["--log-syslog-to"],
    "syslog_facility": ["--log-syslog-facility"],
    "syslog_prefix": ["--log-syslog-prefix"],
    "timeout": ["-t", "--timeout"],
    "umask": ["-m", "--umask"],
    "user": ["-u", "--user"],
    "uwsgi_allow_ips": ["--uwsgi-allow-from"],
    "worker_class": ["-k", "--worker-class"],
    "workers": ["-w", "--workers"],
}

# Settings without a flag that are no hooks.
FILE_ONLY = ["default_proc_name", "logconfig_dict", "secure_scheme_headers", "tmp_upload_dir", "wsgi_app"]


class Mistake(Exception):
    """One sentence; a traceback would tell nothing. It may be of another file than the program, and have a line."""

    path = line = None


class Reached(BaseException):
    """`run()` was called: the program has done its part."""


def extend(modules, hooks):
    """Adds what programs subclass to the package that stands in for gunicorn's."""
    modules.update(
        {
            "gunicorn.app": fill_app,
            "gunicorn.app.base": fill_base,
            "gunicorn.app.pasterapp": fill_pasterapp,
            "gunicorn.app.wsgiapp": fill_wsgiapp,
            "gunicorn.arbiter": fill_arbiter,
            "gunicorn.errors": fill_errors,
            "gunicorn.util": fill_util,
        }
    )
    FILE_ONLY.extend(hooks)


def command_line(cfg):
    """gunicorn's parser of options, by its settings."""
    import argparse

    made = argparse.ArgumentParser(usage=cfg.usage, prog=cfg.prog, allow_abbrev=True)
    made.add_argument("args", nargs="*", help=argparse.SUPPRESS)
    for name, setting in cfg.settings.items():
        if name in FILE_ONLY:
            continue
        flags, default = FLAGS.get(name) or ["--" + name.replace("_", "-")], setting.get()
        if name == "sendfile":
            made.add_argument("--no-sendfile", dest=name, action="store_const", const=False)
        elif name == "proxy_protocol":
            made.add_argument(*flags, dest=name, nargs="?", const="auto")
        elif isinstance(default, bool):
            made.add_argument(*flags, dest=name, action="store_true", default=None)
        elif isinstance(default, list):
            made.add_argument(*flags, dest=name, action="append")
        else:
            made.add_argument(*flags, dest=name)
    return made


def fill_app(module):
    module.__path__ = []


def fill_errors(module):
    class ConfigError(Exception):
        """A setting has a value that it cannot have."""

    class AppImportError(Exception):
        """The application could not be found."""

    module.ConfigError, module.AppImportError = ConfigError, AppImportError


def fill_util(module):
    def import_app(name):
        import ast
        from importlib import import_module

        target, _, attribute = name.partition(":")
        found, node, call = import_module(target), ast.parse(attribute or "application", mode="eval").body, None
        if isinstance(node, ast.Call):
            arguments = [ast.literal_eval(argument) for argument in node.args]
            call = arguments, {pair.arg: ast.literal_eval(pair.value) for pair in node.keywords}
            node = node.func
        found = getattr(found, ast.unparse(node))
        return found if call is None else found(*call[0], **call[1])

    module.import_app = import_app


def fill_base(module):
    import os

    class BaseApplication:
        """What programs derive theirs from: `load_config` sets `self.cfg`, `load` returns the application."""

        def __init__(self, usage=None, prog=None):
            self.usage, self.prog = usage, prog
            self.cfg = self.callable = self.logger = None
            self.do_load_config()

        def do_load_config(self):
            try:
                load_config(self)
            except Exception as error:
                print("\nError: %s" % error, file=sys.stderr)
                sys.exit(1)

        def load_default_config(self):
            from gunicorn.config import Config

            self.cfg = Config(self.usage, prog=self.prog)

        def init(self, parser, opts, args):
            raise NotImplementedError

        def load(self):
            raise NotImplementedError

        def load_config(self):
            raise NotImplementedError

        def reload(self):
            self.do_load_config()

        def wsgi(self):
            if self.callable is None:
                self.callable = self.load()
            return self.callable

        def run(self):
            if launch is None:
                raise RuntimeError("ostler serves already. Name this program as --config program:FILE, not as the application.")
            launch()

    class Application(BaseApplication):
        """The same with gunicorn's command line, its variable and its configuration file."""

        def chdir(self):
            os.chdir(self.cfg.chdir)
            if self.cfg.chdir not in sys.path:
                sys.path.insert(0, self.cfg.chdir)

        def load_config_from_file(self, location):
            if location.startswith("python:"):
                from importlib import import_module

                said = vars(import_module(location.removeprefix("python:")))
            else:
                from runpy import run_path

                said = run_path(location.removeprefix("file:"), run_name="__config__")
            for name, value in said.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)
            return said

        load_config_from_module_name_or_filename = load_config_from_file

        def load_config(self):
            import shlex

            parser = command_line(self.cfg)
            typed = parser.parse_args()
            for name, value in (self.init(parser, typed, typed.args) or {}).items():
                self.cfg.set(name.lower(), value)
            self.chdir()
            variable = parser.parse_args(shlex.split(os.environ.get("GUNICORN_CMD_ARGS", "")))
            config = typed.config or variable.config
            if config or os.path.exists("gunicorn.conf.py"):
                self.load_config_from_file(config or os.path.abspath("gunicorn.conf.py"))
            for options in (variable, typed):
                for name, value in vars(options).items():
                    if value is not None and name != "args":
                        self.cfg.set(name, value)
            self.chdir()

    module.BaseApplication, module.Application = BaseApplication, Application


def load_config(application):
    application.load_default_config()
    application.load_config()
    application.cfg.validate()


def fill_wsgiapp(module):
    from gunicorn.app.base import Application
    from gunicorn.errors import ConfigError

    class WSGIApplication(Application):
        """gunicorn's own program."""

        app_uri = None

        def init(self, parser, opts, args):
            import os

            self.app_uri = None
            if opts.paste:
                from gunicorn.app.pasterapp import has_logging_config

                self.app_uri = os.path.abspath(opts.paste)
                file = self.app_uri.partition("#")[0]
                if not os.path.exists(file):
                    raise ConfigError("%r not found" % file)
                self.cfg.set("default_proc_name", file)
                if has_logging_config(file):
                    self.cfg.set("logconfig", file)
            elif args:
                self.cfg.set("default_proc_name", args[0])
                self.app_uri = args[0]

        def load_config(self):
            super().load_config()
            self.app_uri = self.app_uri or self.cfg.wsgi_app
            if self.app_uri is None:
                raise ConfigError("No application module specified.")

        def load_wsgiapp(self):
            from gunicorn.util import import_app

            return import_app(self.app_uri)

        def load_pasteapp(self):
            from gunicorn.app.pasterapp import get_wsgi_app

            return get_wsgi_app(self.app_uri, defaults=self.cfg.paste_global_conf)

        def load(self):
            return self.load_wsgiapp() if self.cfg.paste is None else self.load_pasteapp()

    def run(prog=None):
        WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()

    module.WSGIApplication, module.run = WSGIApplication, run


def fill_pasterapp(module):
    def get_wsgi_app(config_uri, name=None, defaults=None):
        import os

        from paste.deploy import loadapp

        uri = config_uri if ":" in config_uri else "config:%s" % config_uri
        return loadapp(uri, name=name, relative_to=os.getcwd(), global_conf=defaults)

    def has_logging_config(config_file):
        import configparser

        parser = configparser.RawConfigParser(strict=False)
        parser.read([config_file])
        return parser.has_section("loggers")

    module.get_wsgi_app, module.has_logging_config = get_wsgi_app, has_logging_config


def fill_arbiter(module):
    class Arbiter:
        """ostler's master runs no Python: `run()` is that of the application."""

        def __init__(self, app):
            self.app, self.cfg = app, app.cfg

        def run(self):
            self.app.run()

    module.Arbiter = Arbiter


def intercept(reached):
    """Has `run()` call this with the application object, and notes what is set on `cfg`. gunicorn may be its own or what stands in for it."""
    from gunicorn import arbiter, config
    from gunicorn.app import base

    if hasattr(config.Config, "_ostler_set"):
        setting = config.Config._ostler_set
    else:
        setting = config.Config._ostler_set = config.Config.set

    def note(cfg, name, value):
        setting(cfg, name, value)
        cfg.__dict__.setdefault("said", {})[name.lower()] = value

    config.Config.set, config.Config._ostler_mistake = note, Mistake
    base.BaseApplication.do_load_config = load_config
    base.BaseApplication.run = base.Application.run = reached
    arbiter.Arbiter.__init__ = lambda self, app: self.__dict__.update(app=app, cfg=app.cfg)
    arbiter.Arbiter.run = lambda self: reached(self.app)


def run_again(command, then=None):
    """Runs a program up to its `run()`; the application object, and what the program has set. `then` is called in its `run()`."""
    import os
    import shlex

    found, began = [], os.getcwd()

    def reached(application):
        if not found:
            said = dict(application.cfg.__dict__.get("said", {}), wsgi_app="program:" + command)
            for name in ("config", "default_proc_name", "paste", "raw_paste_global_conf"):
                # Obeyed here already.
                said.pop(name, None)
            if os.getcwd() != began:
                said.setdefault("chdir", os.getcwd())
            found.extend([application, said])
            if then:
                then(said, application.cfg.__dict__.get("said_in"))
        raise Reached

    try:
        words = shlex.split(command)
    except ValueError:
        raise Mistake(f"a quotation mark is not closed in {command}") from None
    if not words or words[0] in ("-c", "-m", "--paste") and not any(words[1:2]):
        raise Mistake("no program is named. Say program:FILE.")
    intercept(reached)
    try:
        execute(words)
    except Reached:
        pass
    if not found:
        raise Mistake("the program has ended, and has not called run() of a gunicorn application")
    return found


def execute(words):
    """Runs a program as Python would: `FILE …`, `-m MODULE …`, `-c CODE …`, or gunicorn's own for `--paste …`."""
    import os
    import pkgutil
    from importlib.util import find_spec

    first, rest, spec = words[0], words[1:], None
    file = first
    if first == "-c":
        sys.path.insert(0, "")
        file, code, rest = None, compile(rest[0], "<string>", "exec", dont_inherit=True), rest[1:]
    elif first == "-m":
        sys.path.insert(0, os.getcwd())
        try:
            spec = find_spec(rest[0])
        except ModuleNotFoundError:
            pass
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(rest[0] + ".__main__")
        if spec is None:
            raise Mistake(f"there is no module {rest[0]}, looked for with {sys.executable}")
        first, rest = spec.origin, rest[1:]
    elif first == "--paste":
        rest[0] = rest[0].removeprefix("config:")
        check_paste(rest[0])
        first, rest = "ostler", ["--paste", *rest]
        file, code = None, compile("from gunicorn.app.wsgiapp import run; run()", "<ostler>", "exec", dont_inherit=True)
    elif importer := pkgutil.get_importer(os.path.abspath(first)):
        sys.path.insert(0, os.path.abspath(first))
        spec = importer.find_spec("__main__")
        if spec is None:
            raise Mistake(f"{first} holds no __main__.py")
    else:
        file = os.path.abspath(first)
        sys.path.insert(0, os.path.dirname(os.path.realpath(file)))
        try:
            with open(file, "rb") as source:
                code = compile(source.read(), file, "exec", dont_inherit=True)
        except OSError as error:
            raise Mistake(f"could not read it: {error.strerror.lower()}") from None
    module = type(sys)("__main__")
    if spec is not None:
        code, file, module.__package__ = spec.loader.get_code(spec.name), spec.origin, spec.parent
    if file is not None:
        module.__file__ = file
    module.__spec__ = spec
    sys.modules["__main__"], sys.argv = module, [first, *rest]
    exec(code, module.__dict__)


def check_paste(named):
    """Says in plain words what is wrong with the file of `--paste`, before PasteDeploy meets it."""
    import configparser
    from importlib.util import find_spec

    file, _, name = named.partition("#")
    if find_spec("paste") is None or find_spec("paste.deploy") is None:
        raise Mistake("--paste needs PasteDeploy, which is not installed. Say `pip install PasteDeploy`.")
    parser = configparser.RawConfigParser(strict=False)
    try:
        with open(file, encoding="utf-8") as text:
            parser.read_file(text)
    except OSError as error:
        raise Mistake(f"could not read it: {error.strerror.lower()}") from None
    except UnicodeDecodeError:
        raise Mistake("it is not a text in UTF-8") from None
    except configparser.ParsingError as error:
        mistake = Mistake("this is neither a section nor a key with a value")
        mistake.line = error.errors[0][0] if error.errors else error.lineno
        raise mistake from None
    kinds = ("app", "application", "composite", "composit", "pipeline", "filter-app")
    wanted = {f"{kind}:{name or 'main'}" for kind in kinds} | (set() if name not in ("", "main") else set(kinds))
    if not wanted.intersection(map(normal, parser.sections())):
        raise Mistake(f"there is no section [app:{name or 'main'}]")


def normal(section):
    return ":".join(part.strip() for part in section.split(":", 1))
