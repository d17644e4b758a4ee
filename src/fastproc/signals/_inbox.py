"""One receiver of this process's signals: a pipe that the C core's handler fills, and a wait for it on any reactor.

A blocked signal runs no handler and is read from a signalfd. It is then written to the pipes of all receivers (the
pump), so that each receiver gets it, whichever receiver has read the signalfd. The iterators are in `_receiver.py`, the
handler in csrc/self/signals.c. Invariants: the mask of a thread is changed only on request and only by that thread. A
signal in the pipe is taken once. Descriptors are closed when no thread or task waits for them.
"""

from __future__ import annotations

import fcntl  # noqa: F401  imported early: at the limit of descriptors an import fails
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
        """An object that is notified when a signal may have arrived."""

        def set(self) -> object:
            """Notify the object."""


PIPE_BYTES = 1 << 20
"""Requested size of a receiver's pipe: 16,384 signals. The system may allow less (GOTCHAS E11)."""

RENEW_EVERY = 0.5
"""Seconds between two checks of a waiting receiver for handlers that were installed over ours: nothing reports them.
A blocking wait in the main thread needs no check, because only the main thread can install a Python handler."""

_BATCH = 1024

_DEFAULTS = {("asyncio.runners", "Runner._on_sigint")}
_DEFAULT_MODULES = ("trio._core._ki",)


def _is_default(handler: object) -> bool:
    """Return whether a Python handler only performs the default of Ctrl-C: it raises, or cancels the main task."""
    if handler is default_int_handler:
        return True
    function = getattr(handler, "func", handler)
    module = getattr(function, "__module__", None)
    return module in _DEFAULT_MODULES or (module, getattr(function, "__qualname__", None)) in _DEFAULTS


def renew() -> None:
    """Put the C core's handlers above handlers that were installed later. Those are called after ours."""
    native.renew(signals.mask(number for number in _ALL if _is_default(getsignal(number))))


_ALL = tuple(range(1, 32))
"""The signals that may have a default handler."""

_blocking: dict[int, tuple[int, set[int]]] = {}
"""By the id of a receiver: the thread in which signals are blocked for it, and these signals."""


class Inbox:
    """A receiver.

    Args:
        mask: the kernel's bit set of the signals.
        quiet: whether other handlers of these signals are not called.
        block: whether the signals are blocked in this thread until `close()`, which this thread must call.

    Raises:
        OSError: no descriptor is left, or there are too many receivers.
        Unsupported: the system is not Linux.
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
        """Start receiving."""
        # The finalizer does nothing until the receiver is open.
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
            # Closed now, because the caller may keep the exception, which refers to this object.
            self.closed = False
            self.close()
            raise

    def _open(self, mask: int, quiet: bool, write: OwnedFd) -> None:
        for end in (self._read, write):
            os.set_blocking(end.number, False)
        set_pipe_size(write.number, PIPE_BYTES)
        # Also for signals that are not blocked, because that may change. A signalfd never reports unblocked signals.
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
        """Return the descriptor that is readable when a signal can be taken.

        Raises:
            ValueError: the receiver is closed.
        """
        if self.closed or self._poller is None:
            raise ValueError("the receiver is closed")
        return self._poller.fileno()

    @property
    def lost(self) -> int:
        """The number of signals that did not fit into the pipe."""
        return self._tap.counts()[1] if self._tap is not None and self._tap.is_open else 0

    def look(self) -> bool:
        """Read the pipe, and return whether a signal can be taken.

        Raises:
            ProcessError: this process is a forked copy.
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
            # GOTCHAS I4: one call moves the data from pipe to queue, so an interrupt comes before the read or loses
            # none.
            read = map(os.read, (self._read.number,), (_BATCH * RECORD_SIZE,))
            try:
                self._come.extend(chain.from_iterable(map(unpack, read)))
            except BlockingIOError:
                return
            full = len(self._come) - had >= _BATCH

    def take(self) -> Received | None:
        """Return the next signal that look() has read; None if there is none."""
        try:
            return Received(self._come.popleft())
        except IndexError:
            return None

    def wait(self, deadline: float | None) -> bool:
        """Wait until a signal can be taken; return False if the monotonic deadline passed or the receiver is closed."""
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
                    # Another thread has closed the receiver after look().
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
        """Set an event whenever a signal may be available; return a function that ends this.

        Must be called in the thread of the reactor. The event is also set when the receiver is closed, and may be set
        without a signal.
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
        """Stop receiving, and wake up waiters. Signals that were not taken are dropped. Further calls do nothing.

        Raises:
            ValueError: another thread has blocked the signals for this receiver. They stay blocked in that thread.
        """
        if self._owner != os.getpid():
            # A thread that the copy does not have may hold the lock. No other thread closes these numbers here.
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

    # In a closed receiver _drop is a C function, in which no signal handler runs.
    __del__ = Finalizer(attrgetter("_drop"))

    # Bound here: the module's names may be gone at the end of the interpreter (GOTCHAS I9).
    def _drop(self, _getpid: Callable[[], int] = os.getpid, _warn: Callable[..., None] = warn) -> None:
        """Stop receiving, when the object is garbage-collected."""
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
    """Unblock the signals of a receiver. This comes before its handlers are removed.

    Otherwise a pending signal would run its default action. Returns whether this thread has blocked them, or none were
    blocked.
    """
    thread, blocked = _blocking.pop(id(inbox), (0, set()))
    if blocked and thread == _get_ident():
        _set_mask(_how, blocked)
        return True
    return not blocked


def _after_fork() -> None:
    """In a forked copy: receive only the copy's own signals, and unblock all that were blocked (GOTCHAS I3)."""
    native.give_up_copies()
    for thread, blocked in _blocking.values():
        if thread == get_ident():
            pthread_sigmask(SIG_UNBLOCK, blocked)
    _blocking.clear()


os.register_at_fork(after_in_child=_after_fork)
