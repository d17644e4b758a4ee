"""`python -m fastproc COMMAND [ARGUMENT...]`."""

from __future__ import annotations

import sys

from fastproc._commands import COMMANDS, call, usage
from fastproc._commands.text import Unwritable, write
from fastproc._engine import standard

UNWRITABLE = 1
"""The exit status of a command that could not print its output."""


def main() -> int:
    """Do what the command line says; return the exit status."""
    standard.open_missing()
    name = " ".join(["python -m fastproc", *sys.argv[1:2]])
    try:
        status = _main(sys.argv[1:])
    except Unwritable as error:
        standard.say(f"{name}: {error}")
        status = UNWRITABLE
    except SystemExit as ended:
        if _end(name) and not ended.code:
            ended.code = UNWRITABLE
        raise
    return UNWRITABLE if _end(name) and status == 0 else status


def _main(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        write(usage)
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        standard.say(usage())
        return 2
    return call(arguments[0], arguments[1:])


def _end(name: str) -> bool:
    """Write what is left to be printed; return whether that failed for another reason than that its reader has gone."""
    error = standard.end()
    if error is None or isinstance(error, BrokenPipeError):
        return False
    standard.say(f"{name}: standard output: {error.strerror}")
    return True


if __name__ == "__main__":
    sys.exit(main())
