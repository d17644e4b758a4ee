"""A pseudo-terminal between a child and us: opening it, its window, its settings, what its keys send.

Opened by the parent without trusting a path: the master from the one device that /dev/ptmx must be, the child's end
from the master itself (TIOCGPTPEER, Linux 4.13), never by a name in a mount namespace that could be another's.
Not here: reading and writing it, which is stream.py's and exchange.py's as for any pipe; the child's session and
controlling terminal, which are steps of the spawn.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOTTY

from fastproc import errors
from fastproc._engine.fds import OwnedFd
from fastproc._values.checks import check_int
from fastproc._values.pty import SIZE_MAX, LineCount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from fastproc._values.pty import Pty

# asm-generic/ioctls.h: x86_64, aarch64 and most others.
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
IUTF8 = 0o40000

PTMX = "/dev/ptmx"
PTMX_DEVICE = 5, 2
"""Major and minor number (Documentation/admin-guide/devices.txt)."""

_FLAGS = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC

KEYS = ("intr", "quit", "susp", "eof", "erase", "kill", "start", "stop")
"""The special characters of termios(3), by their names there without the V."""


class Terminal:
    """The terminal of a child, from the side of the one who sits at it.

    Closed with the streams of its Process.
    """

    __slots__ = ("_count", "_master", "on_stdin", "slave")

    def __init__(self, pty: Pty, on_stdin: bool) -> None:
        """Open one.

        Raises:
            Unsupported: this system has no such terminals.
            OSError: open(2), ioctl_tty(2): ENOSPC where there are too many of them.
        """
        self._master = OwnedFd()
        self.slave = OwnedFd()
        self.on_stdin = on_stdin
        self._count = LineCount()
        try:
            self._open()
            self._set_up(pty)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        import fcntl
        from stat import S_ISCHR

        if not hasattr(os, "O_PATH"):
            raise errors.Unsupported("pty: needs Linux")
        self._master.fill(os.open, PTMX, _FLAGS | os.O_NONBLOCK)
        master = self._master.lift()
        status = os.fstat(master)
        if not S_ISCHR(status.st_mode) or (os.major(status.st_rdev), os.minor(status.st_rdev)) != PTMX_DEVICE:
            raise errors.Unsupported(f"pty: {PTMX} is not the device that makes pseudo-terminals (pts(4))")
        try:
            fcntl.ioctl(master, TIOCSPTLCK, b"\0\0\0\0")
            self.slave.fill(fcntl.ioctl, master, TIOCGPTPEER, _FLAGS)
        except OSError as error:
            if error.errno in (ENOTTY, EINVAL):
                raise errors.Unsupported("pty: this kernel or sandbox has no TIOCGPTPEER (Linux 4.13)") from error
            raise
        self.slave.lift()

    def _set_up(self, pty: Pty) -> None:
        import termios

        termios.tcsetwinsize(self._master.number, (pty.rows, pty.cols))
        mode = termios.tcgetattr(self._master.number)
        mode[0] |= IUTF8
        if not pty.echo:
            mode[3] &= ~termios.ECHO
        if pty.raw:
            _make_raw(mode)
        termios.tcsetattr(self._master.number, termios.TCSANOW, mode)

    def close(self) -> None:
        """Give it back. What still runs on it gets SIGHUP once all our ends are closed (termios(3), GOTCHAS H4)."""
        self._master.close()
        self.slave.close()

    # -- the window

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        import termios

        rows, cols = termios.tcgetwinsize(self._master.fileno())
        return rows, cols

    def resize(self, rows: int, cols: int) -> None:
        """Change the size of the window; programs on it get SIGWINCH.

        Raises:
            ValueError: not possible, or the terminal is closed.
        """
        import termios

        size = check_int("rows", rows, 1, SIZE_MAX), check_int("cols", cols, 1, SIZE_MAX)
        termios.tcsetwinsize(self._master.fileno(), size)

    # -- its settings, which the child may change too

    @property
    def echo(self) -> bool:
        """Whether what is typed comes back; off while a program asks for a password."""
        import termios

        return bool(self._mode()[3] & termios.ECHO)

    @echo.setter
    def echo(self, on: bool) -> None:
        import termios

        mode = self._mode()
        mode[3] = mode[3] | termios.ECHO if on else mode[3] & ~termios.ECHO
        termios.tcsetattr(self._master.number, termios.TCSANOW, mode)

    @property
    def canonical(self) -> bool:
        """Whether the terminal gives the program whole lines, and an end of input for Ctrl-D (termios(3))."""
        import termios

        return bool(self._mode()[3] & termios.ICANON)

    def make_raw(self) -> None:
        """Let everything pass unchanged, as Pty(raw=True)."""
        import termios

        mode = self._mode()
        _make_raw(mode)
        termios.tcsetattr(self._master.number, termios.TCSANOW, mode)

    def _mode(self) -> list[Any]:
        import termios

        return termios.tcgetattr(self._master.fileno())

    # -- what is typed

    def key(self, name: str) -> bytes:
        """Return what a special key sends; for "eof" as often as it takes to end the input.

        Raises:
            ValueError: there is no such key, or it is switched off.
        """
        import termios

        if name not in KEYS:
            raise ValueError(f"name: {name!r} is none of {', '.join(KEYS)}")
        mode = self._mode()
        character: bytes = mode[6][getattr(termios, f"V{name.upper()}")]
        if character == b"\0":
            raise ValueError(f"name: {name} is switched off on this terminal")
        # Within a line the first one only hands out what there is of it (termios(3), VEOF).
        twice = name == "eof" and mode[3] & termios.ICANON and self._count.size
        return character * 2 if twice else character

    def check(self, data: bytes) -> None:
        """Refuse what the terminal would lose, and count what is written.

        Raises:
            ValueError: a line is too long.
        """
        if self.canonical:
            self._count.check("data", data)
        self._count.add(data)

    def input(self, source: bytes | Iterable[bytes] | None) -> Iterator[bytes]:
        """Return what a whole run feeds: the source, and then the end of input.

        Raises:
            ValueError: while it is iterated: a line is too long.
        """
        for item in (source,) if isinstance(source, bytes) else source or ():
            if isinstance(item, (bytes, bytearray, memoryview)):
                self.check(bytes(item))
            yield item
        # On a raw terminal there is nothing to say it with.
        if self.canonical:
            yield self.key("eof")


def _make_raw(mode: list[Any]) -> None:
    """Do cfmakeraw(3) to what tcgetattr gave."""
    import termios as t

    mode[0] &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
    mode[1] &= ~t.OPOST
    mode[2] = mode[2] & ~(t.CSIZE | t.PARENB) | t.CS8
    mode[3] &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
