# What the master executes in each template: `python -c <this> <engine> [<descriptor>]`. It loads the engine, which stays.
# The interpreter is left as it starts by itself, but for sys.path[0] and a standard output that shows whole lines at once.
# A descriptor is passed by a template that executes itself afresh (see process/restart.rs).


def _enter():
    import sys

    del globals()["_enter"]

    def refuse(why):
        import json
        import socket

        failure = {"kind": "Interpreter", "message": why, "traceback": ""}
        socket.socket(fileno=3).send(json.dumps({"Failed": failure}).encode())
        sys.exit(1)

    version = sys.version.split()[0]
    if sys.implementation.name != "cpython" or sys.version_info < (3, 10):
        refuse("%s is %s %s; CPython 3.10 or later is needed" % (sys.executable, sys.implementation.name, version))
    if "t" in sys.abiflags:
        refuse("%s is a free-threaded build of Python %s, which is not supported" % (sys.executable, version))

    from importlib.machinery import ExtensionFileLoader, ModuleSpec
    from importlib.util import module_from_spec

    engine, restarted = sys.argv[1], [int(argument) for argument in sys.argv[2:]]
    try:
        loader = ExtensionFileLoader("ostler_engine", engine)
        module = module_from_spec(ModuleSpec("ostler_engine", loader, origin=engine))
        loader.exec_module(module)
    except ImportError as error:
        refuse("could not load %s into %s: %s" % (engine, sys.executable, error))
    if sys.path[:1] == [""]:
        del sys.path[0]
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)
    module.main(*restarted)


_enter()
