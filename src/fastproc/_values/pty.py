"""What a pseudo-terminal for a child is like: its size and how it treats what is typed. Pure."""

from __future__ import annotations

from fastproc._values.checks import check_bool, check_int
from fastproc._values.redirect import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SIZE_MAX = 65_535
"""Of rows and columns: struct winsize has 16 bits (ioctl_tty(2))."""

LINE_MAX = 4095
"""Bytes of a line before its end that a terminal keeps in canonical mode; more are lost (termios(3))."""

ENDS = b"\n", b"\r", b"\x04"
"""What ends a line as a terminal is set up at first: newline, return (which becomes one), the end-of-file character."""


class Pty:
    """A pseudo-terminal: a child that has one behaves as it does for a person.

    Args:
        rows: lines of the window.
        cols: characters of a line.
        echo: whether what is written comes back among the output, as on a screen.
        raw: whether the terminal changes nothing of what passes: no echo, no signals from Ctrl-C, no end of input from
            Ctrl-D, no return before a newline (cfmakeraw(3)). A program may set this itself at any time.
    """

    __module__ = "fastproc"

    __slots__ = ("cols", "echo", "raw", "rows")

    rows: int
    cols: int
    echo: bool
    raw: bool

    def __init__(self, rows: int = 24, cols: int = 80, *, echo: bool = True, raw: bool = False) -> None:
        set_value = object.__setattr__
        set_value(self, "rows", check_int("rows", rows, 1, SIZE_MAX))
        set_value(self, "cols", check_int("cols", cols, 1, SIZE_MAX))
        set_value(self, "echo", check_bool("echo", echo) and not raw)
        set_value(self, "raw", check_bool("raw", raw))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a Pty is immutable; see Process.terminal for one that is in use")

    def _key(self) -> tuple[int, int, bool, bool]:
        return self.rows, self.cols, self.echo, self.raw

    def __repr__(self) -> str:
        more = ", raw=True" if self.raw else "" if self.echo else ", echo=False"
        return f"Pty({self.rows}, {self.cols}{more})"

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Pty) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[object, ...]:
        return _make_pty, self._key()


def _make_pty(rows: int, cols: int, echo: bool, raw: bool) -> Pty:
    return Pty(rows, cols, echo=echo, raw=raw)


_make_pty.__module__ = "fastproc"  # where pickles find it


def check_pty(name: str, value: object) -> Pty | None:
    """Return the option's value as a Pty, or None.

    Raises:
        TypeError, ValueError: it is neither a Pty, nor True or False, nor a pair of rows and columns.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Pty()
    if isinstance(value, Pty):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return Pty(check_int(f"{name}: rows", value[0], 1, SIZE_MAX), check_int(f"{name}: cols", value[1], 1, SIZE_MAX))
    raise TypeError(f"{name}: must be True, a pair (rows, cols) or a Pty, not {value!r}")


def check_pty_together(values: Mapping[str, Any]) -> None:
    """Refuse what excludes a terminal.

    Raises:
        ValueError: the message starts with the option's name.
    """
    if values.get("stdout") not in (None, PIPE):
        raise ValueError("stdout: is the terminal's with pty; stdin and stderr can go elsewhere")
    for name in ("ctty", "pgid", "swap_outputs"):
        if name in values:
            raise ValueError(f"{name}: cannot be used with pty, which gives the child its own session and terminal")
    if not values["pty"].raw:
        _check_input(values)


def _check_input(values: Mapping[str, Any]) -> None:
    """Refuse input that the terminal would lose a part of, as far as it is there already."""
    given = values.get("input")
    count = LineCount()
    for item in (given,) if isinstance(given, bytes) else given if isinstance(given, tuple) else ():
        count.check("input", item)
        count.add(item)


class LineCount:
    """Counts what a line has so far, of what is written to a terminal."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0

    def check(self, name: str, data: bytes) -> None:
        """Refuse data with a line that the terminal would cut; count nothing.

        Raises:
            ValueError: the message starts with `name`.
        """
        if len(data) + self.size <= LINE_MAX:
            return
        size = self.size
        for line in _lines(data):
            size += len(line)
            if size > LINE_MAX:
                raise ValueError(
                    f"{name}: a line has more than {LINE_MAX} bytes, of which a terminal loses the rest (termios(3)); "
                    "use Pty(raw=True), or stdin=PIPE"
                )
            size = 0

    def add(self, data: bytes) -> None:
        """Count what was written."""
        last = max(map(data.rfind, ENDS))
        self.size = len(data) - last - 1 if last >= 0 else self.size + len(data)


def _lines(data: bytes) -> list[bytes]:
    return data.replace(b"\r", b"\n").replace(b"\x04", b"\n").split(b"\n")


CHECKS = {"pty": check_pty}
