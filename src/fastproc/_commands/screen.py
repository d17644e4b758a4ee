"""A terminal for a program that draws all of it: keys one at a time, another screen, and all as it was at the end.

Not here: what is drawn. Nothing but plain escape sequences (ECMA-48) is used: no terminfo, no curses.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import termios

from fastproc._engine.reactor import READ, borrowed, deadline_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
_LEAVE = "\x1b[?25h\x1b[?1049l"

_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O]|[\[O]?$)?", re.DOTALL)
"""What a key that sends several bytes sends: an arrow, F1, Alt with another; at the end also the beginning of one."""

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals by which others end it: it gives the terminal back first."""


class Screen:
    """The terminal on standard input and output, for the time of a `with` block."""

    def __init__(self) -> None:
        """Take the descriptors; nothing is changed yet."""
        self._in = sys.stdin.fileno()
        self._out = sys.stdout.fileno()
        self._before: list[object] | None = None
        self._handlers: dict[int, object] = {}
        self._resized = -1

    def __enter__(self) -> Screen:
        self._before = termios.tcgetattr(self._in)
        mode = termios.tcgetattr(self._in)
        mode[3] &= ~(termios.ECHO | termios.ICANON)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 0, 0
        # Ctrl-Z and Ctrl-\ would leave the terminal as it is now to the shell.
        mode[6][termios.VSUSP] = mode[6][termios.VQUIT] = b"\0"
        self._resized = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resize)
        for number in ENDING:
            self._handlers[number] = signal.signal(number, _end)
        termios.tcsetattr(self._in, termios.TCSAFLUSH, mode)
        self._write(_ENTER)
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            self._write(_LEAVE)
            if self._before is not None:
                termios.tcsetattr(self._in, termios.TCSAFLUSH, self._before)  # type: ignore[arg-type]
        except (OSError, termios.error):
            pass  # the terminal has gone
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            number, self._resized = self._resized, -1
            if number >= 0:
                os.close(number)

    def _resize(self, _number: int, _frame: FrameType | None) -> None:
        if self._resized >= 0:
            os.eventfd_write(self._resized, 1)

    def size(self) -> tuple[int, int]:
        """Columns and lines; 80 and 24 where the terminal does not know."""
        try:
            found = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        return found.columns or 80, found.lines or 24

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines from the top, in one piece so that nothing flickers."""
        _, height = self.size()
        text = "\r\n".join(line + "\x1b[0m\x1b[K" for line in lines[:height])
        self._write(f"\x1b[H{text}\x1b[J")

    def keys(self, seconds: float) -> bytes | None:
        """Wait for keys, without those that send several bytes.

        b"" when the time is over or the window has another size, None when there is no terminal any more.
        """
        deadline = deadline_from("seconds", seconds) or 0.0
        ready: list[int] = []
        with borrowed() as reactor:
            reactor.watch(self._in, READ, ready.append)
            reactor.watch(self._resized, READ, lambda _ready: ready.append(0))
            timer = reactor.call_at(deadline, lambda: ready.append(0))
            try:
                while not ready:
                    reactor.run_once()
            finally:
                timer.cancel()
                reactor.unwatch(self._resized)
                reactor.unwatch(self._in)
        if not any(ready):
            try:
                os.eventfd_read(self._resized)
            except BlockingIOError:
                pass
            return b""
        try:
            data = os.read(self._in, 64)
        except OSError:
            return None
        return _ESCAPE.sub(b"", data) if data else None

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._out, data) :]


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
