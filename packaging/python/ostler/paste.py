"""`use = egg:ostler` in the [server:main] of a file of Paste Deploy, for pserve and its like."""

import difflib
import os
import sys

from .launching import launch

WAITRESS = {"listen": ["bind"], "unix_socket": ["bind"]}


def serve(app, global_conf, **settings):
    """Becomes ostler. Where that runs the program again, says what is to be served and how, as `use = egg:gunicorn` does."""
    config = getattr(sys.modules.get("gunicorn.config"), "Config", None)
    if not hasattr(config, "_ostler_set"):
        try:
            launch()
        except (RuntimeError, ValueError) as error:
            raise SystemExit(f"ostler: {error}") from None
    from gunicorn.app.pasterapp import has_logging_config
    from gunicorn.app.wsgiapp import WSGIApplication

    file, program = global_conf["__file__"], settings.pop("config", None)
    host, port = settings.pop("host", ""), settings.pop("port", "")
    if port:
        settings["bind"] = f"{host or '127.0.0.1'}:{port}"
    elif host:
        settings["bind"] = host.split(",")

    def mistake(sentence):
        made = config._ostler_mistake(sentence)
        made.path = file
        return made

    class PasteApplication(WSGIApplication):
        def load_config(self):
            self.cfg.__dict__["said_in"] = file
            if has_logging_config(file):
                self.cfg.set("logconfig", file)
            if program or os.path.exists("gunicorn.conf.py"):
                self.load_config_from_file(program or os.path.abspath("gunicorn.conf.py"))
            for name, value in settings.items():
                if name.lower() not in self.cfg.settings:
                    near = WAITRESS.get(name, difflib.get_close_matches(name, self.cfg.settings, 1))
                    nearest = f"; the nearest is {near[0]}" if near else ""
                    raise mistake(f"[server:...] sets {name}, which is no setting of gunicorn's{nearest}")
                try:
                    self.cfg.set(name.lower(), value)
                except Exception as error:
                    raise mistake(f"[server:...] sets {name}: {error}") from None

        def load(self):
            return app

    PasteApplication().run()
