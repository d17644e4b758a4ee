"""A Command as text: the call that makes it, and a line for a POSIX shell."""

from __future__ import annotations

from fastproc._values.quoting import join, quote
from fastproc._values.redirect import DEVNULL, STDERR, STDOUT, Append

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from fastproc._values.command import Command

_MAPPINGS = ("env", "env_add", "fds")
_STREAMS = (("stdin", "<", ""), ("stdout", ">", ""), ("stderr", "2>", "2"))


def call(command: Command) -> str:
    """Return the `cmd(...)` call that makes an equal command, as far as the options' own repr() allow."""
    words = [repr(item) for item in command.argv]
    for name, value in command._options.values.items():
        if name in _MAPPINGS:
            value = dict(value)
        elif name == "rlimits":
            value = {number: (soft, hard) for number, soft, hard in value}
        words.append(f"{name}={value!r}")
    return f"cmd({', '.join(words)})"


def line(command: Command) -> str:
    """Return the command as a shell line: directory, environment, arguments, redirections.

    The values of environment variables are shown. What a shell has no word for (limits, signals, captured output) is
    not.
    """
    values = command._options.values
    words = [*_environment(values), join(command.argv), *_redirections(values)]
    text = " ".join(words)
    cwd = values.get("cwd")
    if cwd is None:
        return text
    return f"cd {quote(f'/dev/fd/{cwd}' if isinstance(cwd, int) else str(cwd))} && {text}"


def _environment(values: Mapping[str, Any]) -> Iterator[str]:
    removed: tuple[str, ...] = values.get("env_remove", ())
    added: dict[str, str] = dict(values.get("env_add", ()))
    if "env" in values:
        whole: dict[str, str] = dict(values["env"])
        added = {name: value for name, value in whole.items() if name not in removed} | added
        yield "env -i"
    elif removed:
        yield "env " + " ".join(f"-u {quote(name)}" for name in removed)
    for name, value in added.items():
        # A shell takes an assignment only with a plain name; env(1) takes any.
        yield f"{name}={quote(value)}" if name.isidentifier() else quote(f"{name}={value}")


def _redirections(values: Mapping[str, Any]) -> Iterator[str]:
    shown = [_redirection(values.get(name), sign, number) for name, sign, number in _STREAMS]
    if values.get("stdout") is STDERR:
        shown[1:] = reversed(shown[1:])  # a shell does them in order: stderr must be in place first
    yield from filter(None, shown)
    if "swap_outputs" in values:
        yield "3>&1 1>&2 2>&3 3>&-"
    for number, source in values.get("fds", ()):
        yield f"{number}<&{source if isinstance(source, int) else source.fileno()}"


def _redirection(stream: object, sign: str, number: str) -> str:
    if stream is DEVNULL:
        return sign + "/dev/null"
    if stream is STDOUT:
        return "2>&1"
    if stream is STDERR:
        return "1>&2"
    if isinstance(stream, str):
        return sign + quote(stream)
    if isinstance(stream, Append):
        return f"{number}>>{quote(stream.path)}"
    if isinstance(stream, int) and stream >= 0:
        return f"{sign}&{int(stream)}"
    if stream is not None and not isinstance(stream, int):
        return f"{sign}&{stream.fileno()}"  # type: ignore[attr-defined]
    return ""
