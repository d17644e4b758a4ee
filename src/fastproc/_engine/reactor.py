"""The place where the engine waits: one epoll, one heap of timers.

An embedding loop needs three things: wait until `fileno()` is readable or `timeout()` seconds have passed, then call
`run_once(0)`. Not thread-safe: one reactor per thread, see `borrowed`. Knows nothing of processes.
Invariant: a callback runs only for the registration it was given with, and never after `unwatch` or `cancel`.
"""

from __future__ import annotations

import os
import select
import sys
from _heapq import heapify, heappop, heappush
from _thread import _local
from errno import EMFILE, ENFILE
from time import monotonic
from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = 1
WRITE = 4
ERROR = 8
HANGUP = 16
"""The event bits of poll(2) and epoll_ctl(2), which are the same numbers. ERROR and HANGUP need not be asked for."""

BATCH = 64
"""Events taken by one look. The kernel turns its ready list, so that more of them starve nobody."""

LONGEST_WAIT = 86_400.0
"""Seconds of one system call: epoll_wait(2) takes 31 bits of milliseconds (GOTCHAS D19)."""

NEVER = 2.0**62 / 1e9
"""Seconds, about 146 years: later instants do not fit into 63 bits of nanoseconds with room to calculate."""

CANCELLED_MIN = 64
"""Cancelled timers that may lie in the heap however few others there are."""


def since_boot() -> float:
    """Seconds since the boot, those asleep too: the clock of the instants at which processes begin."""
    import time

    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else monotonic()


def booted_at() -> float:
    """The epoch's second at which the machine was booted, by the clocks of now."""
    import time

    return time.time() - since_boot()


def is_readable(fd: int) -> bool:
    """Return whether a descriptor has something to read now, or has come to its end: a pidfd's process has ended."""
    poller = select.poll()
    poller.register(fd, READ)
    return bool(poller.poll(0))


def deadline_from(name: str, seconds: float | None) -> float | None:
    """The monotonic instant `seconds` from now; None, infinity and what no clock can hold mean never (GOTCHAS D19).

    Raises:
        TypeError: not a number.
        ValueError: not a number in the other sense (NaN). The message starts with `name`.
    """
    if seconds is None:
        return None
    if seconds != seconds:
        raise ValueError(f"{name}: NaN is no time")
    try:
        when = monotonic() + seconds
    except OverflowError:
        when = NEVER if seconds > 0 else 0.0
    return when if when < NEVER else None


class Timer:
    """A callback that is due at an instant of the monotonic clock."""

    __slots__ = ("_reactor", "callback", "when")

    def __init__(self, when: float, callback: Callable[[], object], reactor: Reactor) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback
        self._reactor = reactor

    def cancel(self) -> None:
        """Make sure that the callback does not run (any more). Harmless when it has run."""
        if self.callback is not None:
            self.callback = None
            self._reactor._timer_cancelled()


_UNSURE = -1
"""Instead of events: a registration that was interrupted."""


class Reactor:
    """One epoll and one heap of timers.

    Costs nothing before the first `watch`. A forked copy refuses to work, because the epoll is the parent's too: what
    the copy would register or remove there would change the parent's loop (GOTCHAS I2).
    """

    __slots__ = ("__weakref__", "_cancelled", "_owner", "_poller", "_serial", "_timers", "_watched", "halved")

    def __init__(self) -> None:
        self._poller: select.epoll | Poll | None = None
        # fd -> (events, callback, serial)
        self._watched: dict[int, tuple[int, Callable[[int], object], int]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        self._serial = 0
        self._owner = os.getpid()
        self.halved = False
        """Whether a callback did not come to its end, so that its owner may be in the middle of something."""

    @property
    def inert(self) -> bool:
        """Whether this is a forked copy."""
        return os.getpid() != self._owner

    @property
    def idle(self) -> bool:
        """Whether nothing is watched, no timer is set, and nothing was left in the middle."""
        return not self.halved and not self._watched and self.timeout() is None and not self.inert

    def fileno(self) -> int:
        """The descriptor that is readable when a watched one is ready. It stays the same until `close`.

        Raises:
            RuntimeError: in a forked copy.
            OSError: EMFILE, ENFILE: no descriptor is left.
            NotImplementedError: this system has no epoll(7).
        """
        poller = self._open()
        if poller.__class__ is Poll:
            poller = make_poller(embedded=True)
            number = poller.fileno()
            for fd, (events, _, _) in self._watched.items():
                poller.register(fd, events)
            self._poller = poller
            return number
        return poller.fileno()

    def timeout(self) -> float | None:
        """Seconds until the next timer is due, 0.0 when one is, None when there is none."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heappop(timers)
            self._cancelled -= 1
        if not timers:
            return None
        left = timers[0][0] - monotonic()
        return left if left > 0.0 else 0.0

    def watch(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        """Call `callback(ready_events)` whenever `fd` is ready, until `unwatch`. Replaces an earlier registration.

        Level-triggered: what the callback leaves unread is reported again. The caller must `unwatch` before it closes
        the descriptor: epoll remembers the open file, not the number, and where a copy of that lives on in another
        process it would report for ever what nobody can remove (GOTCHAS C15).

        Raises:
            OSError: EBADF, or EPERM for a regular file, which cannot be waited for (epoll_ctl(2)).
            RuntimeError: in a forked copy.
        """
        poller = self._open()
        self._serial += 1
        known = self._watched.get(fd)
        if known is None or known[0] == _UNSURE:
            # A signal handler that raises may come between: what may be registered is known before (GOTCHAS I4).
            self._watched[fd] = (_UNSURE, callback, self._serial)
            try:
                poller.register(fd, events)
            except FileExistsError:
                poller.modify(fd, events)
            except OSError:
                del self._watched[fd]
                raise
        elif known[0] != events:
            poller.modify(fd, events)
        self._watched[fd] = (events, callback, self._serial)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; harmless when it is not watched."""
        if self._watched.pop(fd, None) is None or self._poller is None or self.inert:
            return
        try:
            self._poller.unregister(fd)
        except OSError:
            # It was closed before: with the last copy of the open file gone the kernel has forgotten it by itself.
            pass

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback()` once, not before the monotonic instant `when`."""
        timer = Timer(when, callback, self)
        self._serial += 1
        heappush(self._timers, (when, self._serial, timer))
        return timer

    def call_after(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call `callback()` once, not before `seconds` from now."""
        return self.call_at(monotonic() + seconds, callback)

    def run_once(self, timeout: float | None = None) -> int:
        """Wait until something is ready or due, run its callbacks, and give their number.

        Args:
            timeout: seconds at most; None waits for the next timer or event. May return early with 0.

        Raises:
            RuntimeError: in a forked copy, or when there is nothing that could ever happen.
            BaseException: what a callback raises. The remaining events are reported again by the next call.
        """
        poller = self._open()
        due = self.timeout()
        if due is not None and (timeout is None or due < timeout):
            timeout = due
        if timeout is None:
            if not self._watched:
                raise RuntimeError("nothing is watched and no timer is set: this would wait for ever")
            timeout = LONGEST_WAIT
        serial = self._serial
        try:
            events = poller.poll(timeout if timeout < LONGEST_WAIT else LONGEST_WAIT, BATCH)
        except (OSError, ValueError):
            if self._poller is poller:
                raise
            # A signal handler has closed this reactor: that of a pool that it has stopped.
            return 0
        ran = 0
        self.halved = True
        callback: object = None
        try:
            for fd, ready in events:
                entry = self._watched.get(fd)
                # A callback of this batch may have closed this number and another may have registered it anew.
                if entry is not None and entry[2] <= serial:
                    callback = entry[1]
                    entry[1](ready)
                    callback = None
                    ran += 1
        except BaseException as error:
            _tell_halved(callback, error)
            raise
        if self._timers:
            ran += self._run_timers(serial)
        self.halved = False
        return ran

    def close(self) -> None:
        """Give the epoll back and forget everything."""
        self._watched = {}
        self._timers = []
        self._cancelled = 0
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.close()

    def _open(self) -> select.epoll | Poll:
        if self.inert:
            raise RuntimeError(f"this reactor belongs to process {self._owner}; process {os.getpid()} is a fork of it")
        if self._poller is None:
            self._poller = make_poller()
        return self._poller

    def _run_timers(self, serial: int) -> int:
        ran = 0
        timers = self._timers
        now = monotonic()
        # A timer set by a callback of this round waits for the next one, so that a chain of them cannot hold the loop.
        while timers and timers[0][0] <= now and timers[0][1] <= serial:
            callback: Callable[[], object] | None = None
            timer = timers[0][2]
            try:
                # In this order: what a signal handler raises in between leaves an entry that counts as cancelled.
                callback, timer.callback = timer.callback, None
                heappop(timers)
                if callback is None:
                    self._cancelled -= 1
                    continue
                callback()
            except BaseException as error:
                _tell_halved(callback, error)
                raise
            timers = self._timers
            ran += 1
        return ran

    def _timer_cancelled(self) -> None:
        # A deadline is nearly always cancelled: a million runs with a deadline of an hour must not pile up.
        self._cancelled += 1
        if self._cancelled > CANCELLED_MIN and self._cancelled * 2 > len(self._timers):
            self._timers[:] = [entry for entry in self._timers if entry[2].callback is not None]
            heapify(self._timers)
            self._cancelled = 0


def _tell_halved(callback: object, error: BaseException) -> None:
    """Tell the owner of a callback that it did not come to its end, if the callback has a method for that."""
    tell = getattr(callback, "halved", None)
    if tell is not None:
        tell(error)


class Poll:
    """poll(2) in the dress of an epoll, for systems that have none, and where no descriptor is left for one."""

    __slots__ = ("_poll", "_reason", "modify", "register", "unregister")

    def __init__(self, reason: OSError | None = None) -> None:
        self._reason = reason
        self._poll = select.poll()
        self.register = self._poll.register
        self.modify = self._poll.modify
        self.unregister = self._poll.unregister

    def fileno(self) -> int:
        """There is none.

        Raises:
            OSError: EMFILE, ENFILE: as there was none left.
            NotImplementedError: on a system without epoll(7).
        """
        if self._reason is not None:
            raise self._reason
        raise NotImplementedError("a descriptor to wait for needs epoll(7), which this system does not have")

    def poll(self, timeout: float, _maxevents: int) -> list[tuple[int, int]]:
        """Wait `timeout` seconds at most."""
        return self._poll.poll(timeout * 1000.0)

    def close(self) -> None:
        """Nothing to give back."""


def make_poller(embedded: bool = False) -> select.epoll | Poll:
    """An epoll whose number is above those of the standard streams (GOTCHAS C8).

    Args:
        embedded: whether it is only looked into, and never waited in. gevent's monkey patching takes epoll away and
            makes poll() one that lets others run: right for who waits, but it has no descriptor for another loop.
    """
    epoll: type[select.epoll] | None = getattr(select, "epoll", None)
    if epoll is None and embedded and "gevent.monkey" in sys.modules:
        epoll = sys.modules["gevent.monkey"].get_original("select", "epoll")
    if epoll is None:
        return Poll()
    try:
        poller = epoll()
    except OSError as error:
        if error.errno not in (EMFILE, ENFILE):
            raise
        # Children that took the last descriptors can be waited for all the same: poll(2) needs none.
        return Poll(error)
    if poller.fileno() >= 3:
        return poller
    import fcntl

    with poller:
        return epoll.fromfd(fcntl.fcntl(poller.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


_own = _local()


class borrowed:
    """The reactor of this thread for the time of a `with` block.

    One is kept for each thread, so that its epoll is made once. It is taken out for the time of the block: a driver
    inside a driver (an input iterator that runs a command itself, a signal handler) gets one of its own, as does a
    forked copy (GOTCHAS I2). It comes back only when nothing is left on it: one that an interrupt has left in the
    middle of something is given up.
    """

    __slots__ = ("_reactor",)

    def __enter__(self) -> Reactor:
        kept: Reactor | None = _own.__dict__.pop("reactor", None)
        self._reactor = Reactor() if kept is None or kept.inert else kept
        home = _own.__dict__.get("home")
        if home is None or home() is None or home().inert:
            _own.home = ref(self._reactor)
        return self._reactor

    def __exit__(self, *_exc: object) -> None:
        reactor = self._reactor
        if reactor.idle and _own.home() is reactor:
            _own.reactor = reactor
        else:
            reactor.close()
