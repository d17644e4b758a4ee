"""What of a command can go to another process: a look for all that belongs to this one; its pickle. Pure."""

from __future__ import annotations

import pickle

from fastproc._values.combination import Scoped, parts
from fastproc._values.options import checked
from fastproc._values.redirect import MEMFD, Append, Special

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastproc._values.command import Expression

_STREAMS = frozenset(("stdin", "stdout", "stderr"))
_DIRECTORIES = frozenset(("cwd", "root", "cgroup"))
_LIMITS = frozenset(("stdout_limit", "stderr_limit"))
_NEVER = {
    **dict.fromkeys(("fds", "pass_fds", "listen_fds"), "its descriptors are this process's"),
    **dict.fromkeys(("ctty", "foreground"), "the terminal is this process's"),
    **dict.fromkeys(("on_line", "before_spawn"), "the function is called in this process"),
    "tee": "the copies go to streams of this process",
}


def check_sendable(expression: Expression) -> None:
    """Refuse an expression of which something belongs to this process.

    Raises:
        ValueError: the name of what it is comes first.
    """
    if isinstance(expression, Scoped):
        check_values({expression.name: expression.value})
    options = getattr(expression, "_options", None)
    if options is not None:
        check_values(options.values)
    for part in parts(expression):
        check_sendable(part)


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse normalised options of which something belongs to this process.

    Raises:
        ValueError: the option's name comes first.
    """
    for name, value in values.items():
        reason = _reason(name, value)
        if reason:
            raise ValueError(f"{name}: cannot go to another process: {reason}")


def _reason(name: str, value: Any) -> str:
    """Why an option cannot go, or ""."""
    if value is None or value is False or value == ():
        return ""
    if name in _NEVER:
        return _NEVER[name]
    if name in _STREAMS and not isinstance(value, (Special, str, Append)):
        return "the descriptor is this process's" if isinstance(value, int) else "the open file is this process's"
    if name in _DIRECTORIES and isinstance(value, int):
        return "the descriptor is this process's; give a path"
    if name == "input" and not isinstance(value, (bytes, tuple)):
        return "an iterator is read in this process; give bytes"
    if name in _LIMITS and value.spill is not None and value.spill is not MEMFD and not isinstance(value.spill, str):
        return "the file of its spill is this process's; give a path"
    return ""


def packed(expression: Expression, options: Mapping[str, Any] | None) -> bytes:
    """Return the pickle of an expression that says all itself, or with the options of its run.

    Raises:
        TypeError, ValueError: something cannot be sent; its name comes first.
    """
    check_sendable(expression)
    if options is not None:
        check_values(checked(options))
        options = {name: _plain(value) for name, value in options.items()}
    try:
        return pickle.dumps((expression, options), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise TypeError(f"{_culprit(expression, options)}: cannot go to another process: {error}") from error


def _plain(value: Any) -> Any:
    """Return os.environ and its like as a dict, which pickles."""
    return dict(value) if hasattr(value, "items") else value


def _culprit(expression: Expression, options: Mapping[str, Any] | None) -> str:
    """Name what does not pickle."""
    own = getattr(expression, "_options", None)
    for values in (options or {}, {} if own is None else own.values):
        for name, value in values.items():
            try:
                pickle.dumps(value)
            except Exception:
                return str(name)
    return "program"
