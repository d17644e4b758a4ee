"""State that a program polls: whether a signal was received, and whether a shutdown was requested."""

from __future__ import annotations

from fastproc._engine.reactor import deadline_from
from fastproc._native import signals as native
from fastproc._values import signals as _names
from fastproc.signals._inbox import Inbox, renew
from fastproc.signals._receiver import come, mask_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Self

    from fastproc.signals._received import Received

PATIENCE = 0.2
"""Seconds after the first Ctrl-C in which another counts as the same: a terminal and a parent may both deliver it."""


class _Tapped:
    """The common part of Flag and Shutdown: a tap of the C core that counts signals."""

    __slots__ = ("__weakref__", "_final", "_tap")

    def __init__(self, tap: native.Tap) -> None:
        self._final = 0
        self._tap = tap

    @property
    def count(self) -> int:
        """The number of signals that were received."""
        return self._tap.seen() if self._tap.is_open else self._final

    def close(self) -> None:
        """Stop counting; the count is kept. Further calls do nothing."""
        self._final = self.count
        self._tap.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Flag(_Tapped):
    """Whether a signal was received: `if flag:` makes no system call.

    The handler of the C core sets the flag at once, also while this program runs other C code. As with `Signals`, the
    default action does not happen while the flag exists. A blocked signal does not set the flag.

    >>> import signal
    >>> from fastproc.signals import Flag
    >>> with Flag("USR2") as flag:
    ...     before = bool(flag)
    ...     signal.raise_signal(signal.SIGUSR2)
    ...     before, bool(flag), flag.count, flag.clear(), bool(flag)
    (False, True, 1, True, False)

    Args:
        signals: numbers or names.
        chain: as for Signals.

    Raises:
        TypeError, ValueError, OSError: as for Signals.
    """

    __module__ = "fastproc.signals"

    __slots__ = ("_base",)

    def __init__(self, *signals: int | str, chain: bool = True) -> None:
        """Start counting."""
        self._base = 0
        mask = mask_of("signals", signals)
        renew()
        super().__init__(native.Tap(native.COUNT, mask, quiet=not chain))

    def __bool__(self) -> bool:
        """Whether a signal was received since the flag was created or cleared."""
        return self.count > self._base

    def clear(self) -> bool:
        """Reset the flag, and return its earlier value. A signal that arrives meanwhile is seen now or later."""
        count = self.count
        was, self._base = count > self._base, count
        return was


class Shutdown(_Tapped):
    """A shutdown in two steps: the first signal requests it, a later Ctrl-C forces it.

    >>> import signal
    >>> from fastproc.signals import Shutdown
    >>> with Shutdown("USR1", force=()) as shutdown:
    ...     asked = shutdown.requested
    ...     signal.raise_signal(signal.SIGUSR1)
    ...     asked, shutdown.requested, shutdown.wait().name
    (False, True, 'SIGUSR1')

    `requested` makes no system call. `wait()` blocks; `await shutdown` waits in an event loop. Any number of threads
    and tasks may wait. The handler of the C core forces the end, also if the program hangs in other C code and Python
    runs no handlers. The process then ends by the signal, so its parent sees the true reason. No cleanup runs: start
    children that must not outlive this process with die_with_parent=True.

    Args:
        signals: the signals that request a shutdown. Default: SIGINT and SIGTERM.
        force: those of `signals` that force the end after a request. Default: SIGINT, if it is one of `signals`.
            SIGTERM is not a default, because a service manager may send it twice.
        patience: seconds after the first signal in which other signals count as the same request: a terminal and a
            parent may both deliver a Ctrl-C.
        status: the exit status of a forced end; None: end by the signal.
        chain: as for Signals.

    Raises:
        TypeError, ValueError, OSError: as for Signals.
    """

    __module__ = "fastproc.signals"

    __slots__ = ("_first", "_inbox")

    def __init__(
        self,
        *signals: int | str,
        force: tuple[int | str, ...] | None = None,
        patience: float = PATIENCE,
        status: int | None = None,
        chain: bool = True,
    ) -> None:
        """Start receiving."""
        mask = mask_of("signals", signals or ("INT", "TERM"))
        forcing = ("INT",) if force is None else force
        force_mask = _names.mask({_names.catchable("force", item) for item in forcing})
        if force is None:
            force_mask &= mask
        if force_mask & ~mask:
            raise ValueError("force: each of these signals must be one of `signals`")
        if not 0 <= patience < 1e9:
            raise ValueError(f"patience: must be seconds of 0 or more, not {patience!r}")
        if status is not None and (isinstance(status, bool) or not isinstance(status, int) or not 0 <= status <= 255):
            raise ValueError(f"status: must be an exit status (0 to 255) or None, not {status!r}")
        self._first: Received | None = None
        self._inbox = Inbox(mask, not chain)
        try:
            super().__init__(
                native.Tap(native.FORCE, mask, force=(force_mask, patience, -1 if status is None else status))
            )
        except BaseException:
            self._inbox.close()
            raise

    @property
    def requested(self) -> bool:
        """Whether a shutdown was requested."""
        return self.count > 0

    @property
    def signal(self) -> Received | None:
        """The signal that requested the shutdown, with its origin; None if there was none."""
        if self._first is None and self._inbox.look():
            self._first = self._inbox.take()
        return self._first

    def wait(self, timeout: float | None = None) -> Received:
        """Wait until a shutdown is requested, and return the signal.

        Raises:
            TimeoutError: no shutdown was requested in time.
            ValueError: this object is closed.
        """
        deadline = deadline_from("timeout", timeout)
        while (first := self.signal) is None:
            if not self._inbox.wait(deadline):
                if self._inbox.closed:
                    raise ValueError("the shutdown helper is closed")
                raise TimeoutError(f"no request within {timeout} seconds")
        return first

    def __await__(self) -> Generator[Any, Any, Received]:
        return self._wait().__await__()

    async def _wait(self) -> Received:
        while (first := self.signal) is None:
            if not await come(self._inbox):
                raise ValueError("the shutdown helper is closed")
        return first

    def close(self) -> None:
        """Stop receiving; `requested` and `signal` are kept. Further calls do nothing."""
        try:
            if not self._inbox.closed:
                self.signal  # noqa: B018
            super().close()
        finally:
            self._inbox.close()
