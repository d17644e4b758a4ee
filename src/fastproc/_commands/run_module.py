"""`python -m fastproc run-module MODULE [ARGUMENT...]`: run a module with fastproc.subprocess installed."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec

from fastproc._commands.text import printable, write
from fastproc._engine import standard

USAGE = """\
usage: python -m fastproc run-module MODULE [ARGUMENT...]

Runs a module as `python -m MODULE` does, with fastproc.subprocess in the place of the standard subprocess."""


def run_module(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    if arguments[:1] in (["-h"], ["--help"]):
        write(lambda: USAGE)
        return 0
    if not arguments:
        standard.say(USAGE)
        return 2
    from fastproc._install import install

    install()
    name = arguments[0]
    try:
        found = find_spec(name)
    except ModuleNotFoundError as error:
        # The package that it would be in. What such a package fails to import itself is another matter.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        found = None
    if found is None:
        standard.say(printable(f"{sys.executable}: No module named {name}"))
        return 1
    sys.argv = arguments
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    return 0
