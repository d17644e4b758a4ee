"""The subcommands of `python -m fastproc`, one function each: it takes the arguments and returns the exit status.

One more is a line in COMMANDS and a module beside this one; what it prints with is in `text`.
"""

from __future__ import annotations

COMMANDS = {
    "map": ("map:map_", "run a command for each item, as xargs and GNU parallel do it"),
    "run-module": ("run_module:run_module", "run a module with fastproc.subprocess in subprocess's place"),
    "init": ("init:init", "run a program as process 1 of a container: reap orphans, pass signals on"),
    "syslog": ("syslog:syslog", "send what comes on standard input to syslog, line by line"),
    "ps": ("processes:ps", "show the processes of the machine, with any of their fields"),
    "tree": ("processes:show_tree", "show processes as a tree, as pstree does"),
    "top": ("top:top", "show the busiest processes, again and again"),
    "caps": ("identity:caps", "show what processes may do: their capabilities"),
    "daemon": ("daemon:daemon", "run any program as a daemon, and find, end and reload it by its pid file"),
    "id": ("identity:identify", "show who processes are: their users and groups"),
}
"""Name: where it is below this package, and one line about it."""

USAGE = """\
usage: python -m fastproc COMMAND [ARGUMENT...]

commands:
{}

`python -m fastproc COMMAND --help` tells more."""


def usage() -> str:
    """Return what there is to call."""
    width = max(map(len, COMMANDS))
    return USAGE.format("\n".join(f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items()))


def call(name: str, arguments: list[str]) -> int:
    """Run a subcommand; return its exit status."""
    from importlib import import_module

    module, _, function = COMMANDS[name][0].partition(":")
    status: int = getattr(import_module(f"{__name__}.{module}"), function)(arguments)
    return status
