"""What a program looks at from time to time: was a signal received, was it asked to end."""

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
"""Seconds in which a second Ctrl-C is taken for the first: a terminal and a parent may both pass it on."""


class _Tapped:
    """What all that is not a receiver has in common: it is a tap of the C core."""

    __slots__ = ("__weakref__", "_final", "_tap")

    def __init__(self, tap: native.Tap) -> None:
        self._final = 0
        self._tap = tap

    @property
    def count(self) -> int:
        """How many signals came since it was made."""
        return self._tap.seen() if self._tap.is_open else self._final

    def close(self) -> None:
        """End it; the count stays. Harmless when repeated."""
        self._final = self.count
        self._tap.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Flag(_Tapped):
    """Whether a signal was received: `if flag:` costs no system call.

    It is set by the handler in the C core, at once, also while this program is busy in other C code. As with Signals,
    what the signal does by default does not happen as long as the flag is there. For signals that are not blocked.

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
        """Begin to look."""
        self._base = 0
        mask = mask_of("signals", signals)
        renew()
        super().__init__(native.Tap(native.COUNT, mask, quiet=not chain))

    def __bool__(self) -> bool:
        """Whether one came since the flag was made or cleared."""
        return self.count > self._base

    def clear(self) -> bool:
        """Reset it, and give what it was. One that comes meanwhile is seen now or later, and not missed."""
        count = self.count
        was, self._base = count > self._base, count
        return was


class Shutdown(_Tapped):
    """The first signal asks a program to end, a later Ctrl-C forces it.

    >>> import signal
    >>> from fastproc.signals import Shutdown
    >>> with Shutdown("USR1", force=()) as shutdown:
    ...     asked = shutdown.requested
    ...     signal.raise_signal(signal.SIGUSR1)
    ...     asked, shutdown.requested, shutdown.wait().name
    (False, True, 'SIGUSR1')

    `requested` costs no system call; `wait()` blocks, `await shutdown` waits in an event loop; any number may wait.
    Forcing is done by the handler in the C core, also where the program hangs in other C code and Python runs no
    handlers: the process ends by the signal, so that its parent sees the true reason. Nothing is cleaned up then: what
    must not outlive it is to be started with die_with_parent=True.

    Args:
        signals: those that ask.
        force: those that force, when any has asked before; of `signals`. Only SIGINT by default: a service manager
            may well send SIGTERM twice.
        patience: seconds after the first in which others are taken for the same request: a terminal and a parent may
            both pass a Ctrl-C on.
        status: the exit status with which a forced process ends; None: by the signal.
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
        """Begin to look."""
        mask = mask_of("signals", signals or ("INT", "TERM"))
        forcing = ("INT",) if force is None else force
        force_mask = _names.mask({_names.catchable("force", item) for item in forcing})
        if force is None:
            force_mask &= mask
        if force_mask & ~mask:
            raise ValueError("force: these signals must be among those that ask")
        if not 0 <= patience < 1e9:
            raise ValueError(f"patience: must be seconds from 0 on, not {patience!r}")
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
        """Whether it was asked for."""
        return self.count > 0

    @property
    def signal(self) -> Received | None:
        """The signal that asked first, with its origin; None as long as none has."""
        if self._first is None and self._inbox.look():
            self._first = self._inbox.take()
        return self._first

    def wait(self, timeout: float | None = None) -> Received:
        """Wait until it is asked for, and give the signal.

        Raises:
            TimeoutError: it was not.
            ValueError: this is closed.
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
        """Look no more; `requested` and `signal` stay. Harmless when repeated."""
        try:
            if not self._inbox.closed:
                self.signal  # noqa: B018
            super().close()
        finally:
            self._inbox.close()
