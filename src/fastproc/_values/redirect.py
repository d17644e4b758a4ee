"""Where a standard stream of the child goes: the constants, `Append`, and the check of a given value.

PIPE, STDOUT and DEVNULL equal subprocess's constants of the same names, so either may be given.
"""

from __future__ import annotations

from os import PathLike

from fastproc._values.checks import check_fd, check_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastproc._values.aliases import HasFileno, Path, Text


class Special(int):
    """A destination that is neither a file nor a descriptor; shows and pickles by its name."""

    __module__ = "fastproc"

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the constant's name."""
        return _NAMES[int(self)]

    def __reduce__(self) -> str:
        """Pickle as the constant itself."""
        return _NAMES[int(self)]


_NAMES = {-1: "PIPE", -2: "STDOUT", -3: "DEVNULL", -4: "STDERR", -5: "MEMFD"}

INHERIT = None
"""The parent's own stream (the default)."""
PIPE = Special(-1)
"""A new pipe to the parent."""
STDOUT = Special(-2)
"""For stderr: wherever stdout goes."""
DEVNULL = Special(-3)
"""/dev/null."""
STDERR = Special(-4)
"""For stdout: wherever stderr goes."""
MEMFD = Special(-5)
"""For an output: a file in memory that the child writes itself; the Result has it as a memoryview, without a copy."""

_SPECIAL = {int(item): item for item in (PIPE, STDOUT, DEVNULL, STDERR, MEMFD)}


class Append:
    """Output appended to a file, as the shell's `>>`; the file is made when it is missing."""

    __module__ = "fastproc"

    __slots__ = ("path",)

    path: str

    def __init__(self, path: Path) -> None:
        """Take the file's path (str, bytes or os.PathLike)."""
        object.__setattr__(self, "path", check_path("Append", path))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: an Append may be a part of a Command's hash."""
        raise AttributeError(f"{name}: an Append is immutable")

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"Append({self.path!r})"

    def __eq__(self, other: object) -> bool:
        """Compare the path."""
        return self.path == other.path if isinstance(other, Append) else NotImplemented

    def __hash__(self) -> int:
        """Hash the path."""
        return hash((Append, self.path))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the call that makes it."""
        return Append, (self.path,)


if TYPE_CHECKING:
    Stream = None | Special | int | str | Append | HasFileno
    """A normalised stream."""
    StreamArgument = None | int | Text | Append | HasFileno


def check_stream(name: str, value: object) -> Stream:
    """Return the normalised destination of stdin, stdout or stderr.

    None, a Special, a path as str, an Append, a descriptor number, or an object with fileno(), which is kept.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        special = _SPECIAL.get(value)
        if special is None:
            return check_fd(name, value)
        if (special is STDOUT and name != "stderr") or (special is STDERR and name != "stdout"):
            raise ValueError(f"{name}: {special!r} is not possible here")
        if special is MEMFD and name == "stdin":
            raise ValueError("stdin: MEMFD is for outputs; use input")
        return special
    if isinstance(value, (str, bytes, PathLike)):
        return check_path(name, value)
    if isinstance(value, Append):
        if name == "stdin":
            raise ValueError("stdin: Append is for outputs")
        return value
    if callable(getattr(value, "fileno", None)):
        return value  # type: ignore[return-value]
    kinds = "None, PIPE, DEVNULL, a path, Append, a descriptor number or a file"
    raise TypeError(f"{name}: must be {kinds}, not {type(value).__name__}")


def streams(values: Mapping[str, Any]) -> tuple[Stream, Stream, Stream]:
    """Return stdin, stdout and stderr of normalised options, with `capture` and `input` taken into account."""
    first: Stream = PIPE if "input" in values else values.get("stdin")
    out: Stream = values.get("stdout")
    err: Stream = values.get("stderr")
    if "pty" in values:
        # What comes from a terminal is one stream, always read by us.
        return PIPE if first is INHERIT else first, PIPE, STDOUT if err is INHERIT else err
    if "capture" in values:
        out = PIPE if out is INHERIT else out
        err = PIPE if err is INHERIT else err
    return first, out, err


def on_terminal(values: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """Return which of the streams of normalised options are the terminal that `pty` asks for."""
    if "pty" not in values:
        return False, False, False
    return values.get("stdin") is INHERIT, True, values.get("stderr") in (INHERIT, STDOUT)


# FP_STDIO_* of csrc/fastproc.h, which a test compares.
STDIO_INHERIT = -1
STDIO_PIPE = -2
STDIO_NULL = -3
STDIO_STDOUT = -4
STDIO_STDERR = -5
STDIO_PARENT_STDOUT = -6
STDIO_PARENT_STDERR = -7

_NUMBERS = {int(PIPE): STDIO_PIPE, int(DEVNULL): STDIO_NULL, int(STDOUT): STDIO_STDOUT, int(STDERR): STDIO_STDERR}


def stdio_number(stream: Stream) -> int | None:
    """Return a normalised stream as FP_STDIO_* or a descriptor number; None when it must be opened or asked for."""
    if stream is INHERIT:
        return STDIO_INHERIT
    if isinstance(stream, int):
        return _NUMBERS.get(int(stream)) if isinstance(stream, Special) else stream
    return None
