"""Another interpreter of this program's kind: as isolated as this one, and isolated always where it is privileged.

`python -I` trusts neither its environment nor the current directory. An interpreter that it starts with fewer options
would obey PYTHONPATH and run the sitecustomize of whoever chose the environment.
"""

from __future__ import annotations

import os
import sys

from fastproc._engine.loading import are_imports_refused
from fastproc._engine.trusted import is_privileged
from fastproc.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._values.aliases import Text

_SWITCHES = (
    ("ignore_environment", "E"),
    ("no_user_site", "s"),
    ("no_site", "S"),
    ("dont_write_bytecode", "B"),
    ("optimize", "O"),
    ("bytes_warning", "b"),
)
"""Fields of sys.flags that are a number of times an option was given."""

_OF_FLAGS = {"default", "default::BytesWarning", "error::BytesWarning"}
"""Warning filters that -X dev and -b bring along."""


def program() -> str:
    """Return the interpreter's program.

    Raises:
        Unsupported: this process does not know it, or is not one.
    """
    found = sys.executable
    if not found:
        raise Unsupported("this interpreter does not know its own program (sys.executable)")
    if are_imports_refused():
        raise Unsupported("this process is in another root (chroot), where the interpreter may be another program")
    if not os.path.isabs(found):
        # It would be looked for where this process is now.
        raise Unsupported(f"the interpreter's own program is not an absolute path (sys.executable is {found!r})")
    if getattr(sys, "frozen", False):
        raise Unsupported("this program is frozen: its executable runs the program, and is not an interpreter")
    return found


def options() -> list[str]:
    """Return the options with which another interpreter is as this one, without the current directory in its path.

    Where this process is privileged it is isolated in any case: its environment may be its program's.
    """
    flags = sys.flags
    isolated = flags.isolated or is_privileged() or os.getuid() != os.geteuid() or os.getgid() != os.getegid()
    found = ["-I" if isolated else "-P"]
    for name, letter in _SWITCHES:
        if isolated and letter in "Es":
            continue
        if times := getattr(flags, name):
            found.append("-" + letter * times)
    return [*found, *_x_options(), *_warnings()]


def _x_options() -> list[str]:
    given: dict[str, str | bool] = dict(getattr(sys, "_xoptions", {}))
    # What the environment has said, too: the other one may not listen to it.
    given["utf8"] = str(sys.flags.utf8_mode)
    if sys.flags.dev_mode:
        given["dev"] = True
    if sys.flags.warn_default_encoding:
        given["warn_default_encoding"] = True
    digits = getattr(sys.flags, "int_max_str_digits", -1)
    if digits >= 0:
        given["int_max_str_digits"] = str(digits)
    if sys.pycache_prefix is not None:
        given["pycache_prefix"] = sys.pycache_prefix
    return [part for name, value in given.items() for part in ("-X", name if value is True else f"{name}={value}")]


def _warnings() -> list[str]:
    return [part for option in sys.warnoptions if option not in _OF_FLAGS for part in ("-W", option)]


def path(own: bool) -> list[str]:
    """Return where this process finds modules, for another interpreter.

    Args:
        own: whether it runs this program's own code. If not, and privileged, it gets no relative names and no "": they
            mean another directory each time that the process changes its own, and anybody may have chosen that.
    """
    found = []
    for entry in sys.path:
        if isinstance(entry, str) and (os.path.isabs(entry) or own or not is_privileged()):
            try:
                found.append(os.path.abspath(entry))
            except FileNotFoundError:
                continue  # the current directory was removed
    return found


def command(code: str, *arguments: str, own: bool = True) -> list[Text]:
    """Return the command line of an interpreter that finds modules where this one does, and runs a program text.

    The text finds its arguments in sys.argv, from 1 on. `own`: as of `path()`.

    Raises:
        Unsupported: there is no such interpreter.
    """
    from json import dumps

    return [program(), *options(), "-c", _FIRST + code, *arguments, dumps(path(own))]


_FIRST = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
