"""One receiver of this process's signals: a pipe that the C core's handler fills, and a wait for it on any reactor.

Where a signal is blocked no handler runs, and a signalfd gives it instead; that goes through the pipe, too (the pump),
as each receiver is to be told of it, whoever has asked the signalfd.
Not here: who iterates how (signals.py), what the handler does (csrc/self/signals.c).
Invariants: the mask of a thread is changed only where that was asked for, and by that thread; a signal that is in the
pipe comes out once; descriptors are closed when nobody waits for them any more.
"""

from __future__ import annotations

import fcntl  # noqa: F401  as at the limit of descriptors nothing can be imported
import os
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_UNBLOCK,
    default_int_handler,
    getsignal,
    pthread_sigmask,
)
from _thread import RLock, get_ident
from _warnings import warn
from collections import deque
from itertools import chain
from operator import attrgetter
from time import monotonic

from fastproc import errors
from fastproc._engine.fds import OwnedFd, make_pipe, set_pipe_size
from fastproc._engine.finalizing import Finalizer
from fastproc._engine.reactor import READ, borrowed, make_poller
from fastproc._native import in_main_thread
from fastproc._native import signals as native
from fastproc._values import signals
from fastproc.signals._received import RECORD_SIZE, Received, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable
    from typing import Protocol

    from fastproc._engine.reactor import Poll, Reactor, Timer

    class Settable(Protocol):
        """What is told that there may be something."""

        def set(self) -> object:
            """Be told."""


PIPE_BYTES = 1 << 20
"""What a receiver's pipe is asked to hold, 16,384 signals; the system may allow less (GOTCHAS E11)."""

RENEW_EVERY = 0.5
"""Seconds after which a waiting receiver looks whether somebody has installed a handler over ours: nothing tells of it.
Not needed in a blocking wait of the main thread, which alone may do so."""

_BATCH = 1024

_DEFAULTS = {("asyncio.runners", "Runner._on_sigint")}
_DEFAULT_MODULES = ("trio._core._ki",)


def _is_default(handler: object) -> bool:
    """Return whether a handler of Python's only does what Ctrl-C does by default: raise, or cancel the main task."""
    if handler is default_int_handler:
        return True
    function = getattr(handler, "func", handler)
    module = getattr(function, "__module__", None)
    return module in _DEFAULT_MODULES or (module, getattr(function, "__qualname__", None)) in _DEFAULTS


def renew() -> None:
    """Put the C core's handlers over those that others have installed since; theirs are called after ours."""
    native.renew(signals.mask(number for number in _ALL if _is_default(getsignal(number))))


_ALL = tuple(range(1, 32))
"""Where a handler may be a default one."""

_blocking: dict[int, tuple[int, set[int]]] = {}
"""By the id of a receiver: the thread in which signals are blocked for it, and which."""


class Inbox:
    """A receiver.

    Args:
        mask: the kernel's bit set of the signals.
        quiet: whether handlers of others are not called for them.
        block: whether they are blocked in this thread until `close`, which is then for this thread to call.

    Raises:
        OSError: no descriptor is left, or there are too many receivers.
        Unsupported: another system than Linux.
    """

    __slots__ = (
        "__dict__",
        "_come",
        "_events",
        "_lock",
        "_owner",
        "_poller",
        "_read",
        "_signalfd",
        "_tap",
        "_waiting",
        "closed",
    )

    def __init__(self, mask: int, quiet: bool = False, block: bool = False) -> None:
        """Begin to receive."""
        # Until it is open.
        self._drop = int  # type: ignore[method-assign, assignment]
        self.closed = True
        self._owner = os.getpid()
        self._come: deque[tuple[int, ...]] = deque()
        self._lock = RLock()
        self._waiting = 0
        self._events: dict[Reactor, list[Settable]] = {}
        self._poller: select.epoll | Poll | None = None
        self._tap: native.Tap | None = None
        self._signalfd = OwnedFd()
        self._read, write = make_pipe()
        try:
            with write:
                self._open(mask, quiet, write)
            if block:
                fresh = set(signals.members(mask)) - pthread_sigmask(SIG_BLOCK, ())
                _blocking[id(self)] = get_ident(), fresh
                pthread_sigmask(SIG_BLOCK, fresh)
        except BaseException:
            # At once, whoever holds the exception.
            self.closed = False
            self.close()
            raise

    def _open(self, mask: int, quiet: bool, write: OwnedFd) -> None:
        for end in (self._read, write):
            os.set_blocking(end.number, False)
        set_pipe_size(write.number, PIPE_BYTES)
        # Blocked or not: that may change at any time, and one that is not blocked never shows here.
        native.check(self._signalfd.fill(native.fp_signalfd, mask))
        self._signalfd.lift()
        self._poller = make_poller(embedded=True)
        self._poller.fileno()
        for fd in (self._signalfd.number, self._read.number):
            self._poller.register(fd, READ)
        renew()
        self._tap = native.Tap(native.PIPE, mask, write.number, quiet=quiet)
        self.closed = False
        del self._drop

    def fileno(self) -> int:
        """The descriptor that is readable when there is something to take.

        Raises:
            ValueError: it is closed.
        """
        if self.closed or self._poller is None:
            raise ValueError("the receiver is closed")
        return self._poller.fileno()

    @property
    def lost(self) -> int:
        """How many signals found the pipe full."""
        return self._tap.counts()[1] if self._tap is not None and self._tap.is_open else 0

    def look(self) -> bool:
        """Read what has come, and return whether there is something to take.

        Raises:
            ProcessError: in a forked copy.
        """
        if self._owner != os.getpid():
            raise errors.ProcessError(f"this receiver belongs to process {self._owner}, of which this is a fork")
        with self._lock:
            if not self.closed:
                native.pump(self._signalfd.number)
            if not self._read.closed:
                self._drain()
        return bool(self._come)

    def _drain(self) -> None:
        full = True
        while full:
            had = len(self._come)
            # GOTCHAS I4: from pipe to queue in one call, so an interrupt comes before the read or loses nothing.
            read = map(os.read, (self._read.number,), (_BATCH * RECORD_SIZE,))
            try:
                self._come.extend(chain.from_iterable(map(unpack, read)))
            except BlockingIOError:
                return
            full = len(self._come) - had >= _BATCH

    def take(self) -> Received | None:
        """Give the next signal that look() has found; None when there is none."""
        try:
            return Received(self._come.popleft())
        except IndexError:
            return None

    def wait(self, deadline: float | None) -> bool:
        """Wait until there is something to take: True; False when a monotonic instant came, or it is closed."""
        renew()
        while not self.look():
            left = None if deadline is None else deadline - monotonic()
            if self.closed or (left is not None and left <= 0.0):
                return False
            if not in_main_thread():
                left = RENEW_EVERY if left is None else min(left, RENEW_EVERY)
            with borrowed() as reactor:
                try:
                    number = self._hold()
                except ValueError:
                    # Another thread has closed it since it was looked at.
                    return False
                try:
                    reactor.watch(number, READ, _nothing)
                    reactor.run_once(left)
                finally:
                    reactor.unwatch(number)
                    self._let_go()
            renew()
        return True

    def tell(self, event: Settable, reactor: Reactor) -> Callable[[], None]:
        """Set an event when there may be something to take; return what ends that. In the thread of the reactor.

        Also at times when there is nothing, and when it is closed.
        """
        timer: Timer
        events = self._events.setdefault(reactor, [])
        events.append(event)
        number = self._hold()

        def ready(_events: int) -> None:
            for each in events:
                each.set()

        def again() -> None:
            nonlocal timer
            timer = reactor.call_after(RENEW_EVERY, again)
            renew()

        def end() -> None:
            timer.cancel()
            events.remove(event)
            if not events:
                self._events.pop(reactor, None)
                reactor.unwatch(number)
            self._let_go()

        timer = reactor.call_after(RENEW_EVERY, again)
        try:
            if len(events) == 1:
                reactor.watch(number, READ, ready)
            renew()
        except BaseException:
            end()
            raise
        return end

    def _hold(self) -> int:
        with self._lock:
            number = self.fileno()
            self._waiting += 1
            return number

    def _let_go(self) -> None:
        with self._lock:
            self._waiting -= 1
            if self.closed:
                self._close_fds()

    def _close_fds(self) -> None:
        if self._waiting == 0:
            if self._poller is not None:
                self._poller.close()
            self._signalfd.close()
            self._read.close()

    def close(self) -> None:
        """Receive no more; who waits wakes up. What has come and was not taken is dropped. Harmless when repeated.

        Raises:
            ValueError: signals were blocked for it in another thread, where they stay blocked.
        """
        if self._owner != os.getpid():
            # A thread that the copy does not have may hold the lock. Nobody else closes these numbers here.
            self.closed, self._waiting = True, 0
            self._close_fds()
            return
        with self._lock:
            if self.closed:
                return
            self.closed = True
            mine = _unblock(self)
            if self._tap is not None:
                self._tap.remove()
            self._come.clear()
            self._close_fds()
            self._drop = int  # type: ignore[method-assign, assignment]
        if not mine:
            raise ValueError("signals were blocked in another thread, which has to close this receiver")

    # Of one that is closed it is a function in C, and no handler runs in it.
    __del__ = Finalizer(attrgetter("_drop"))

    # Bound here: the module's names may be gone at the end of the interpreter (GOTCHAS I9).
    def _drop(self, _getpid: Callable[[], int] = os.getpid, _warn: Callable[..., None] = warn) -> None:
        """Stop receiving."""
        if not getattr(self, "closed", True):
            self.closed = True
            _unblock(self)
            if self._tap is not None:
                self._tap.remove()
            if self._owner == _getpid():
                _warn("a receiver of signals was dropped; use `with` or close()", ResourceWarning, source=self)


def _nothing(_events: int) -> None:
    pass


def _unblock(
    inbox: Inbox,
    _blocking: dict[int, tuple[int, set[int]]] = _blocking,
    _get_ident: Callable[[], int] = get_ident,
    _set_mask: Callable[[int, set[int]], object] = pthread_sigmask,
    _how: int = SIG_UNBLOCK,
) -> bool:
    """End what was blocked for a receiver, before its handlers go: what is pending must not do what it does by default.

    Returns whether this is the thread that can do that.
    """
    thread, blocked = _blocking.pop(id(inbox), (0, set()))
    if blocked and thread == _get_ident():
        _set_mask(_how, blocked)
        return True
    return not blocked


def _after_fork() -> None:
    """What a copy must do at once: it is told of its own signals only, and has none blocked (GOTCHAS I3)."""
    native.give_up_copies()
    for thread, blocked in _blocking.values():
        if thread == get_ident():
            pthread_sigmask(SIG_UNBLOCK, blocked)
    _blocking.clear()


os.register_at_fork(after_in_child=_after_fork)
