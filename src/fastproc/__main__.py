"""`python -m fastproc run-module MODULE [ARGUMENT...]`: run a module with fastproc.subprocess installed."""

from __future__ import annotations

import runpy
import sys

USAGE = """\
usage: python -m fastproc run-module MODULE [ARGUMENT...]

Runs a module as `python -m MODULE` does, with fastproc.subprocess in the place of the standard subprocess."""


def main() -> int:
    """Do what the command line says; return the exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if len(arguments) < 2 or arguments[0] != "run-module":
        print(USAGE, file=sys.stderr)
        return 2
    from fastproc._install import install

    install()
    sys.argv = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
