"""Signals that go on to children: forwarded when they come, or sent with a value."""

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
"""What `forward()` passes on when nothing else is said."""


class Forwarding:
    """Signals that are passed on to children; see forward()."""

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
        # Also while there is no child to send to, it is not this process that ends.
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
        """How many signals came."""
        return self._taps[0].seen() if self._taps and self._taps[0].is_open else 0

    def close(self) -> None:
        """Pass nothing on any more. Harmless when repeated."""
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
    r"""Pass signals that this process gets on to a child or to all of a pipeline, until `close()`; for `with`.

    The handler in the C core does it, through pidfds, at once: also while this program waits in C code. Who has ended
    gets nothing, and a stranger with its old number does not either. Values of sigqueue(3) are kept. What a terminal
    sends to its foreground group is not passed on to a child in our group, which has it already. What is blocked in
    all threads is passed on when a receiver is asked for it.

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
        target: a Process, or a Pipeline (commands that it starts later get them, too), of either door.
        signals: numbers or names; FORWARDED when there are none.
        group: to the process group that the child leads; not for pipelines.
        chain: as for Signals.

    Raises:
        TypeError, ValueError, OSError: as for Signals; TypeError: the target is none.
        Unsupported: the kernel has no pidfds.
    """
    mask = mask_of("signals", signals or FORWARDED)
    children, run = _children(target)
    if group and run is not None:
        raise ValueError("group: only for one child; a pipeline's commands get the signal each")
    if group and not children[0]._leads:
        raise ValueError("group: the child leads no process group; start it with pgid=0 or setsid=True")
    return Forwarding(target, mask, group, not chain)


forward.__module__ = "fastproc.signals"


def _children(target: object) -> tuple[list[Process], Any]:
    """Return the children to send to, and the run that may start more."""
    if isinstance(target, Process):
        return [target], None
    child = getattr(target, "child", None)
    if isinstance(child, Process):
        return [child], None
    # A pipeline of the blocking door, or of the other one.
    run = getattr(target, "_run", None) or getattr(getattr(target, "_running", None), "run", None)
    if run is None or not hasattr(run, "on_started"):
        raise TypeError(f"target: must be a Process or Pipeline of fastproc's, not {type(target).__name__}")
    return [child.process for child in run.ordered() if child.alive], run


def queue(target: Process | aio.Process, signal: int | str, value: int) -> None:
    """Send a signal with a value to a child, as sigqueue(3) does, through its pidfd. Nothing when it has ended.

    Of real-time signals ("RTMIN+1", ...) each one arrives, in order, with its value; of the others the kernel
    keeps one.

    Args:
        target: a Process of either door.
        signal: number or name.
        value: a number of 64 bits with sign; a receiver written in C may look at 32 of them (sival_int).

    Raises:
        TypeError, ValueError: no signal, no number, or too large a one.
        BlockingIOError: the child's queue is full (RLIMIT_SIGPENDING).
        PermissionError: the child runs as another user.
        Unsupported: the kernel has no pidfds.
        ProcessError: in a forked copy.
    """
    number = _names.number("signal", signal)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"value: must be an int, not {type(value).__name__}")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"value: {value} does not fit into 64 bits with sign")
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
        # It has just ended.
        pass
    finally:
        process.release()


queue.__module__ = "fastproc.signals"
