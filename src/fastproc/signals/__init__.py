r"""The signals of this process, received with their origin: in blocking code and in event loops, by several at once.

>>> import os, signal
>>> from fastproc import signals
>>> with signals.Signals("USR1") as received:
...     signal.raise_signal(signal.SIGUSR1)
...     one = received.get()
>>> one.name, one.cause, one.pid == os.getpid()
('SIGUSR1', 'SI_TKILL', True)

A handler of the C core tells everybody who asked, then calls the handler that was there before: asyncio's, one of
`signal.signal()`, a library's. The mask of no thread is changed, so children, of whatever library, inherit nothing.
What fastproc starts has default dispositions and an empty mask by itself, see `sigmask=`.

Linux only: elsewhere `Unsupported` is raised.
"""

from __future__ import annotations

from fastproc._native import signals as _native
from fastproc._values import signals as _names
from fastproc.signals._flags import Flag, Shutdown
from fastproc.signals._received import Received
from fastproc.signals._receiver import Signals
from fastproc.signals._sending import FORWARDED, Forwarding, forward, queue

__all__ = [
    "FORWARDED",
    "Flag",
    "Forwarding",
    "Received",
    "Shutdown",
    "Signals",
    "default_of",
    "do_default",
    "forward",
    "queue",
]


def default_of(signal: int | str) -> str:
    """Return what a signal does by default (signal(7)): "terminate", "core", "stop", "continue" or "ignore".

    Raises:
        TypeError, ValueError: no signal.
    """
    return _names.default_of(_names.number("signal", signal))


def do_default(signal: int | str) -> None:
    """Do what a signal does when nobody handles it, for a program that has handled it and is done.

    Ends this process by the signal, so that its parent sees the true reason (WIFSIGNALED) and not an exit status;
    buffers are not written out and nothing is cleaned up, as by the signal itself. Stops it until it is continued
    (SIGTSTP, ...), and returns then; the handler is there again. Does nothing for those that do nothing.
    As process 1 of a PID namespace, which no signal of its own can end, it exits with 128 plus the number.

    Raises:
        TypeError, ValueError: no signal.
    """
    _native.do_default(_names.number("signal", signal))
