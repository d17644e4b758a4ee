"""The typed door to csrc/self/signals.c: the taps of this process's signals, default actions, values sent along."""

from __future__ import annotations

import os
from collections import deque
from errno import ENOSPC
from functools import partial
from itertools import repeat, starmap
from operator import attrgetter

from fastproc import errors
from fastproc._native import _check
from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Counts = tuple[int, int, int]

COUNT: int = lib.FP_TAP_COUNT
PIPE: int = lib.FP_TAP_PIPE
FORWARD: int = lib.FP_TAP_FORWARD
FORCE: int = lib.FP_TAP_FORCE
TAPS_MAX: int = lib.FP_TAPS_MAX

check = _check

fp_signalfd = lib.fp_signalfd
"""A new descriptor of the signals in a mask that are blocked; it does not block itself. Or a negative errno."""

_OPTIONS = ffi.typeof("struct fp_tap_options *")
_COUNTS = ffi.typeof("struct fp_tap_counts *")
_WORD = ffi.typeof("uint64_t *")


class Tap:
    """One that is told of signals until it is removed, or dropped.

    Args:
        kind: COUNT, PIPE, FORWARD or FORCE.
        mask: the kernel's bit set of the signals.
        fd: PIPE: the end to write to, FORWARD: a pidfd; the tap keeps a copy.
        pid, group: FORWARD: the child, and whether its group is meant.
        quiet: whether handlers that were there before are not called.
        force: FORCE: the bit set of those that end the process, seconds after the first in which they do not yet, and
            the exit status, -1 for the signal itself.

    Raises:
        OSError: ENOSPC: there are 256 of them already.
        Unsupported: another system than Linux.
    """

    __slots__ = ("_drop", "_ids", "_owner", "_seen")

    # It ends when it is dropped, by functions in C alone: what a signal handler raises in one of Python's is lost.
    __del__ = property(attrgetter("_drop"))

    def __init__(
        self,
        kind: int,
        mask: int,
        fd: int = -1,
        pid: int = 0,
        group: bool = False,
        quiet: bool = False,
        force: tuple[int, float, int] = (0, 0.0, -1),
    ) -> None:
        """Begin."""
        ids = self._ids = _no_ids()
        self._drop: Any = partial(deque, map(lib.fp_tap_remove, ids), 0)
        self._owner = os.getpid()
        if not hasattr(os, "eventfd"):
            raise errors.Unsupported("signals with their origin need Linux")
        options = ffi.new(_OPTIONS)
        options.kind, options.mask, options.fd, options.pid = kind, mask, fd, pid
        options.group, options.quiet = group, quiet
        options.force_mask, options.status = force[0], force[2]
        options.patience_ns = int(force[1] * 1e9)
        # From the call into its place with no bytecode between at which an interrupt could lose it (GOTCHAS I4).
        ids.extend(map(lib.fp_tap_add, (options,)))
        r = ids[0]
        if r == -ENOSPC:
            raise OSError(ENOSPC, f"{TAPS_MAX} receivers, flags and forwardings of signals are open at once")
        _check(r)
        self._seen = lib.fp_tap_seen(r)

    @property
    def is_open(self) -> bool:
        """Whether it was not removed, and this is not a forked copy."""
        return bool(self._ids) and self._ids[0] >= 0 and self._owner == os.getpid()

    def seen(self) -> int:
        """How many signals came; only while it is open."""
        return self._seen[0]  # type: ignore[no-any-return]

    def counts(self) -> Counts:
        """Return how many came, how many found the pipe full, and when the first came, in nanoseconds; 0 for none.

        Raises:
            OSError: ENOENT: it is not open.
        """
        counts: Any = ffi.new(_COUNTS)
        _check(lib.fp_tap_look(self._ids[0] if self._ids else -1, counts))
        return counts.seen, counts.lost, counts.first_ns

    def remove(self) -> None:
        """End it. Harmless when repeated, and in a forked copy."""
        ids = self._ids
        # Taken out and removed with no bytecode between.
        taken = map(lib.fp_tap_remove, starmap(ids.pop, repeat((), len(ids))))
        deque(taken, 0)


def _no_ids() -> list[int]:
    return []


def renew(defaults: int) -> int:
    """Put the handlers of the taps back over those that others have installed since; return the bit set of these.

    Args:
        defaults: the signals whose other handler only does what happens by default, and is not called.

    Raises:
        OSError: sigaction(2).
    """
    word = ffi.new(_WORD)
    _check(lib.fp_signal_renew(defaults, word))
    return word[0]  # type: ignore[no-any-return]


def give_up_copies() -> None:
    """In a copy by fork: end all taps that it has inherited."""
    lib.fp_signals_forked()


def pump(fd: int) -> int:
    """Tell the taps of all signals that a signalfd has, as if they came now; return how many, 0 when there are none."""
    total = 0
    while n := _check(lib.fp_signal_pump(fd)):
        total += n
    return total


def do_default(sig: int) -> None:
    """Do what the signal does when nobody handles it. Returns after a stop, or where that is nothing.

    Raises:
        OSError: EINVAL: no signal number.
    """
    _check(lib.fp_signal_default(sig))


def queue(pidfd: int, pid: int, sig: int, value: int) -> None:
    """Send a signal with a value to one child, through its pidfd.

    Raises:
        ProcessLookupError: it has ended and was reaped.
        BlockingIOError: its queue is full (RLIMIT_SIGPENDING).
        OSError: pidfd_send_signal(2); EINVAL without a pidfd.
    """
    _check(lib.fp_signal_queue(pidfd, pid, sig, value))


def set_parent_death(sig: int) -> None:
    """Let the kernel send this process a signal when the thread that made it ends; 0 for none.

    Raises:
        OSError: prctl(2).
    """
    _check(lib.fp_parent_death(sig))
