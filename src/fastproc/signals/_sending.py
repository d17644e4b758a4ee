"""Signals to children: forwarded when this process gets them, or sent with a value."""

from __future__ import annotations

import os

from fastproc import errors
from fastproc._engine.fds import OwnedFd
from fastproc._engine.process import Process
from fastproc._native import signals as native
from fastproc._values import signals as _names
from fastproc.signals._inbox import renew
from fastproc.signals._receiver import mask_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from fastproc import aio, pipeline

    Target = Process | aio.Process | pipeline.Pipeline | aio.Pipeline

FORWARDED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH")
"""The default signals of `forward()`."""


class Forwarding:
    """Signals that are forwarded to children; see forward()."""

    __module__ = "fastproc.signals"

    __slots__ = ("__weakref__", "_group", "_mask", "_quiet", "_run", "_taps")

    def __init__(self, target: Target, mask: int, group: bool, quiet: bool) -> None:
        self._mask = mask
        self._group = group
        self._quiet = quiet
        self._taps: list[native.Tap] = []
        self._run: Any = None
        children, self._run = _children(target)
        renew()
        # Also without a child to forward to, the signal must not end this process.
        self._taps.append(native.Tap(native.COUNT, mask, quiet=quiet))
        try:
            if self._run is not None:
                self._run.on_started.append(self._add)
            for child in children:
                self._add(child)
        except BaseException:
            self.close()
            raise

    def _add(self, process: Process) -> None:
        with OwnedFd() as copy:
            number = process.hold()
            try:
                if process.pid <= 0 or process.final is not None:
                    return
                if number < 0:
                    raise errors.Unsupported("forwarding needs pidfds, which this kernel does not have (Linux 5.3)")
                copy.fill(os.dup, number)
            finally:
                process.release()
            self._taps.append(
                native.Tap(native.FORWARD, self._mask, copy.number, process.pid, self._group, self._quiet)
            )

    @property
    def count(self) -> int:
        """The number of signals that were received."""
        return self._taps[0].seen() if self._taps and self._taps[0].is_open else 0

    def close(self) -> None:
        """Stop forwarding. Further calls do nothing."""
        run, self._run = self._run, None
        if run is not None and self._add in run.on_started:
            run.on_started.remove(self._add)
        taps, self._taps = self._taps, []
        for tap in reversed(taps):
            tap.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def forward(target: Target, *signals: int | str, group: bool = False, chain: bool = True) -> Forwarding:
    r"""Forward signals of this process to a child, or to all children of a pipeline, until `close()`; for `with`.

    The handler of the C core forwards them at once, through pidfds, also while this program waits in C code. A child
    that has ended gets nothing, and neither does a stranger with its old pid. Values of sigqueue(3) are kept. Signals
    that a terminal sends to its foreground group are not forwarded to a child in this process's group, which has them
    already. Signals that are blocked in all threads are forwarded when a receiver of them is read.

    >>> import fastproc, signal
    >>> from fastproc.signals import forward
    >>> script = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done"
    >>> child = fastproc.start("sh", "-c", script, stdout=fastproc.PIPE)
    >>> with child, forward(child, "USR1"):
    ...     line = child.readline()
    ...     signal.raise_signal(signal.SIGUSR1)
    ...     line, child.wait()
    (b'ready\n', 7)

    Args:
        target: a Process or Pipeline, also of `fastproc.aio`. Commands that a Pipeline starts later get the signals
            too.
        signals: numbers or names. Default: FORWARDED.
        group: send to the process group that the child leads; not for pipelines.
        chain: as for Signals.

    Raises:
        TypeError, ValueError, OSError: as for Signals. TypeError: `target` is not a Process or Pipeline. ValueError:
            `group` is given, and `target` is a Pipeline or does not lead a process group.
        Unsupported: the kernel has no pidfds.
    """
    mask = mask_of("signals", signals or FORWARDED)
    children, run = _children(target)
    if group and run is not None:
        raise ValueError("group: is for one child; each command of a pipeline gets the signal")
    if group and not children[0]._leads:
        raise ValueError("group: the child does not lead a process group; start it with pgid=0 or setsid=True")
    return Forwarding(target, mask, group, not chain)


forward.__module__ = "fastproc.signals"


def _children(target: object) -> tuple[list[Process], Any]:
    """Return the children of a target, and its run if that may start more."""
    if isinstance(target, Process):
        return [target], None
    child = getattr(target, "child", None)
    if isinstance(child, Process):
        return [child], None
    # The Pipeline is of `fastproc` or of `fastproc.aio`.
    run = getattr(target, "_run", None) or getattr(getattr(target, "_running", None), "run", None)
    if run is None or not hasattr(run, "on_started"):
        raise TypeError(f"target: must be a Process or Pipeline of fastproc, not {type(target).__name__}")
    return [child.process for child in run.ordered() if child.alive], run


def queue(target: Process | aio.Process, signal: int | str, value: int) -> None:
    """Send a signal with a value to a child through its pidfd, as sigqueue(3). Does nothing if the child has ended.

    Every real-time signal ("RTMIN+1", ...) arrives, in order, with its value. Of other signals the kernel keeps only
    one pending instance.

    Args:
        target: a Process, also of `fastproc.aio`.
        signal: a number or name.
        value: a signed number of 64 bits; a receiver written in C may use only 32 of them (sival_int).

    Raises:
        TypeError, ValueError: `signal` is not a signal, or `value` is not an int of 64 bits.
        BlockingIOError: the child's queue is full (RLIMIT_SIGPENDING).
        PermissionError: the child runs as another user.
        Unsupported: the kernel has no pidfds.
        ProcessError: this process is a forked copy.
    """
    number = _names.number("signal", signal)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"value: must be an int, not {type(value).__name__}")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"value: {value} is not a signed number of 64 bits")
    children, run = _children(target)
    if run is not None:
        raise TypeError("target: a value is sent to one Process, not to a Pipeline")
    process = children[0]
    if process.poll() is not None:
        return
    pidfd = process.hold()
    try:
        if pidfd < 0:
            raise errors.Unsupported("a signal with a value needs a pidfd, which this kernel does not have (Linux 5.3)")
        native.queue(pidfd, process.pid, number, value)
    except ProcessLookupError:
        # The child has just ended.
        pass
    finally:
        process.release()


queue.__module__ = "fastproc.signals"
