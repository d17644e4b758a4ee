"""This process's own standard streams: a closed one is the null device, and a full one is waited for, or is an error.

cron, containers and `>&-` start programs with fewer than three descriptors. Python has None for such a stream, and the
next file that is opened gets its number (GOTCHAS C8).
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from fastproc._engine.reactor import WRITE, borrowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMES = ("stdin", "stdout", "stderr")


def open_missing() -> None:
    """Open the null device for each of the three that is closed, and the object of `sys` for it.

    For a program that has just begun: what a thread opens meanwhile could get the number. Where there is no null device
    the stream stays closed.
    """
    for number, name in enumerate(NAMES):
        if _take(number):
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays


def reserve() -> None:
    """Open the null device for each of the three that is closed; no other program gets it by execve.

    For threads that open descriptors: one of theirs has such a number for a moment, until it is moved (GOTCHAS C8), and
    a child that another thread makes just then would inherit it as a standard stream.
    """
    for number in range(3):
        _take(number)


def _take(number: int) -> bool:
    """Open the null device with this number, if that is free; return whether it was."""
    try:
        os.fstat(number)
    except OSError:
        pass
    else:
        return False
    try:
        found = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # it stays closed
    if found != number:
        # Not one below: that is free no more. Another thread may have taken this one meanwhile.
        import fcntl

        moved = fcntl.fcntl(found, fcntl.F_DUPFD_CLOEXEC, number)
        os.close(found)
        if moved != number:
            os.close(moved)
            return False
    return True


def is_terminal(name: str) -> bool:
    """Return whether a stream is a terminal; one that is closed is not."""
    stream = getattr(sys, name)
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:
        return False


def write(name: str, data: bytes | memoryview) -> None:
    """Write all to stdout or stderr, behind what Python has written there. A closed one takes everything.

    Nothing stays in a buffer, so an error is not raised a second time at the end of the program.

    Raises:
        BrokenPipeError: nobody reads it any more.
        OSError: write(2); its filename is the stream's name.
    """
    target: Any = getattr(sys, name)
    if target is None or getattr(target, "closed", False) is True:
        return
    try:
        target.flush()
        buffer = getattr(target, "buffer", None)
        if buffer is None:
            # Somebody's replacement, such as a notebook's or io.StringIO.
            target.write(bytes(data).decode("utf-8", "replace"))
            return
        raw = getattr(buffer, "raw", buffer)
        if not isinstance(raw, io.FileIO):
            buffer.write(data)
            buffer.flush()
            return
        view = memoryview(data)
        while view:
            done = raw.write(view)
            if done is None:
                # Somebody has made it non-blocking, and it is full.
                _wait_until_writable(raw.fileno())
            else:
                view = view[done:]
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = name
        raise


def say(text: object) -> None:
    """Write a line to standard error. Raises nothing: there is nobody left to be told that it failed."""
    stream = sys.stderr
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with suppress(OSError, ValueError):
        write("stderr", f"{text}\n".encode(encoding, "backslashreplace"))


def end() -> OSError | None:
    """Write what is in the buffer of standard output; return why that is not possible. Nothing is left in it."""
    stream = sys.stdout
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        # The interpreter flushes once more at its end.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, stream.fileno())
            os.close(null)
        return error
    except ValueError:
        pass  # it is closed
    return None


def _wait_until_writable(fd: int) -> None:
    ready: list[int] = []
    with borrowed() as reactor:
        reactor.watch(fd, WRITE, ready.append)
        try:
            while not ready:
                reactor.run_once()
        finally:
            reactor.unwatch(fd)
