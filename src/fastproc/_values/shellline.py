"""An expression as text: the calls that make it, and a line for a shell."""

from __future__ import annotations

from fastproc._values.quoting import quote
from fastproc._values.redirect import DEVNULL, STDERR, STDOUT, Append

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from fastproc._values.combination import Substitute
    from fastproc._values.command import Command
    from fastproc._values.expression import Expression

_MAPPINGS = ("env", "env_add", "fds")
_STREAMS = (("stdin", "<", ""), ("stdout", ">", ""), ("stderr", "2>", "2"))


def call(expression: Expression) -> str:
    """Return the calls that make an equal expression, as far as the options' own repr() allow."""
    from fastproc._values.command import Command

    if not isinstance(expression, Command):
        from fastproc._values.treeline import calls

        return calls(expression)
    values = expression._options.values
    words = [repr(item) for item in expression.argv]
    for index, item in substituted(expression):
        words[index] = repr(item)
    for name, value in values.items():
        if name in _MAPPINGS:
            value = dict(value)
        elif name == "rlimits":
            value = {number: (soft, hard) for number, soft, hard in value}
        elif name == "substitutes":
            continue
        words.append(f"{name}={value!r}")
    return f"cmd({', '.join(words)})"


def line(expression: Expression) -> str:
    """Return the expression as a shell line: directory, environment, arguments, redirections.

    The values of environment variables are shown. What a shell has no word for (limits, signals, captured output) is
    not.
    """
    from fastproc._values.command import Command

    if not isinstance(expression, Command):
        from fastproc._values.treeline import lines

        return lines(expression)
    values = expression._options.values
    words = [quote(word) for word in expression.argv]
    cwd = values.get("cwd")
    if "relative_to_parent" in values:
        # `cd` has put there where it comes from.
        words[0] = f'"$OLDPWD"/{words[0]}'
    for index, item in substituted(expression):
        words[index] = f"{'>' if item.writes else '<'}({line(item.expression)})"
    words = [*_environment(values), *words, *_redirections(values)]
    text = " ".join(words)
    if cwd is None:
        return text
    return f"cd {quote(f'/dev/fd/{cwd}' if isinstance(cwd, int) else str(cwd))} && {text}"


def substituted(command: Command) -> Iterator[tuple[int, Substitute]]:
    """Give the substitutions of a command with their places among the arguments."""
    substitutes = command._options.get("substitutes")
    if substitutes:
        from fastproc._values.combination import substituted_path

        for number, item in enumerate(substitutes):
            yield command.argv.index(substituted_path(number)), item


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
    shown = [redirection(values.get(name), sign, number) for name, sign, number in _STREAMS]
    if values.get("stdout") is STDERR:
        shown[1:] = reversed(shown[1:])  # a shell does them in order: stderr must be in place first
    yield from filter(None, shown)
    if "swap_outputs" in values:
        yield "3>&1 1>&2 2>&3 3>&-"
    for number, source in values.get("fds", ()):
        yield f"{number}<&{_number(source)}"


def redirection(stream: object, sign: str, number: str) -> str:
    """Return the redirection of one stream as a word of a shell; "" for one that stays, or is captured."""
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
        return f"{sign}&{_number(stream)}"
    return ""


def _number(source: object) -> object:
    """The descriptor of a number or a file; a file that has none any more shows as "?"."""
    if isinstance(source, int):
        return int(source)
    try:
        return source.fileno()  # type: ignore[attr-defined]
    except (OSError, ValueError):
        return "?"
