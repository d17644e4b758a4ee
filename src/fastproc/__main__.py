"""`python -m fastproc COMMAND [ARGUMENT...]`."""

from __future__ import annotations

import sys

from fastproc._commands import COMMANDS, call, usage


def main() -> int:
    """Do what the command line says; return the exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        print(usage(), file=sys.stderr)
        return 2
    return call(arguments[0], arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
