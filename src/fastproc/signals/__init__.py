r"""The signals of this process, with their origin: for blocking code, for event loops, and for several receivers.

>>> import os, signal
>>> from fastproc import signals
>>> with signals.Signals("USR1") as received:
...     signal.raise_signal(signal.SIGUSR1)
...     one = received.get()
>>> one.name, one.cause, one.pid == os.getpid()
('SIGUSR1', 'SI_TKILL', True)

A handler of the C core notifies every receiver, then calls the handler that was there before: asyncio's, one of
`signal.signal()`, or one of a library. No thread's signal mask is changed, so children of any library inherit nothing.
Children of fastproc start with default dispositions and an empty mask, see `sigmask=`.

On other systems than Linux `Unsupported` is raised.
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
    """Return the default action of a signal (signal(7)): "terminate", "core", "stop", "continue" or "ignore".

    Raises:
        TypeError, ValueError: the argument is not a signal.
    """
    return _names.default_of(_names.number("signal", signal))


def do_default(signal: int | str) -> None:
    """Perform the default action of a signal, for a program that has handled the signal and has cleaned up.

    If the action ends the process, the process ends by the signal. Its parent sees this signal (WIFSIGNALED) and not an
    exit status. Buffers are not written and no cleanup runs. If the action stops the process (SIGTSTP, ...), this
    returns when the process is continued, and the handler is in place again. If the default is to ignore the signal,
    nothing happens. Process 1 of a PID namespace cannot be ended by its own signals: it exits with 128 plus the number.

    Raises:
        TypeError, ValueError: the argument is not a signal.
    """
    _native.do_default(_names.number("signal", signal))
