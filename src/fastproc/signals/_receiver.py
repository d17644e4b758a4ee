"""The receiver: an iterator, an asynchronous iterator, a context manager over signals.

Not here: how signals get into its inbox (_engine/receiving.py).
"""

from __future__ import annotations

from fastproc._engine.reactor import deadline_from
from fastproc._values import signals as _names
from fastproc.signals._inbox import Inbox, renew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from fastproc.signals._received import Received


def mask_of(name: str, given: tuple[int | str, ...]) -> int:
    """Return the kernel's bit set of signals that can be received.

    Raises:
        TypeError, ValueError: as _values.signals.catchable(); ValueError: there are none.
    """
    if not given:
        raise ValueError(f"{name}: at least one signal is needed")
    return _names.mask({_names.catchable(name, item) for item in given})


class Signals:
    """A receiver of signals: an iterator, an asynchronous iterator, a context manager. It receives from now on.

    Several are independent: each gets every signal. One may be shared by threads or tasks: then each signal goes to one
    of them. A process has 256 receivers, flags and forwardings at most.

    Where a signal is not blocked it is taken by a handler in the C core, in whatever thread it comes, and kept in a
    pipe of 1 MiB (16,384 signals) until it is asked for; `lost` counts what did not fit. The kernel itself keeps only
    one pending instance of each standard signal, and all of the real-time ones (signal(7)).
    Where it is blocked in all threads, by the program or by block=True, the kernel keeps it until some receiver is
    asked, by a signalfd(2): then senders of real-time signals are told when its queue is full, and nothing is lost.

    With the last receiver of a signal the handler that was there before comes back. Handlers that are installed
    meanwhile (`signal.signal()`, `loop.add_signal_handler()`) take a signal away only until the next wait of a
    receiver, or for half a second of one that waits; then both are called.

    Args:
        signals: numbers or names: "TERM", signal.SIGUSR1, "RTMIN+2".
        chain: whether the handlers of others are called, too. Never called are those that only do what happens by
            default: Python's KeyboardInterrupt, asyncio's and trio's end of the main task by Ctrl-C.
        block: whether the signals are blocked in this thread until `close()`, which has to be called in the same one.
            For programs with one thread. Children of other libraries than this one inherit it.

    Raises:
        TypeError, ValueError: no signal; one that cannot be received, with the reason: SIGKILL, SIGSTOP, those that
            tell of a fault in a thread (SIGSEGV, SIGBUS, SIGFPE, SIGILL), and 32 and 33, which the C library needs.
        OSError: no descriptor is left, or there are too many receivers (ENOSPC).
    """

    __module__ = "fastproc.signals"

    __slots__ = ("__weakref__", "_inbox", "_signals")

    def __init__(self, *signals: int | str, chain: bool = True, block: bool = False) -> None:
        """Begin to receive."""
        mask = mask_of("signals", signals)
        self._signals = tuple(_names.members(mask))
        self._inbox = Inbox(mask, not chain, block)

    def __repr__(self) -> str:
        """Show what it receives."""
        state = " closed" if self._inbox.closed else ""
        return f"<Signals {' '.join(map(_names.label, self._signals))}{state}>"

    @property
    def lost(self) -> int:
        """How many signals came and found the pipe full."""
        return self._inbox.lost

    def fileno(self) -> int:
        """The descriptor that is readable when `pending()` may give something, for a loop of another kind.

        Raises:
            ValueError: it is closed.
        """
        return self._inbox.fileno()

    def pending(self) -> list[Received]:
        """Give what has come, without waiting.

        Raises:
            ProcessError: in a forked copy.
        """
        inbox = self._inbox
        found = []
        renew()
        inbox.look()
        while (received := inbox.take()) is not None:
            found.append(received)
        return found

    def get(self, timeout: float | None = None) -> Received:
        """Wait for the next signal, and give it.

        Args:
            timeout: seconds at most; None for no limit.

        Raises:
            TimeoutError: none came.
            ValueError: it is closed.
            ProcessError: in a forked copy.
        """
        received = self._next(timeout)
        if received is None:
            if self._inbox.closed:
                raise ValueError("the receiver is closed")
            raise TimeoutError(f"no signal within {timeout} seconds")
        return received

    def _next(self, timeout: float | None) -> Received | None:
        deadline = deadline_from("timeout", timeout)
        while self._inbox.wait(deadline):
            received = self._inbox.take()
            if received is not None:
                return received
        return None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Received:
        """Wait for the next signal; the end is when it is closed, also by another thread."""
        received = self._next(None)
        if received is None:
            raise StopIteration
        return received

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        """As __next__(), in an event loop of asyncio, uvloop, trio or fastproc's Reactor."""
        if await come(self._inbox):
            received = self._inbox.take()
            # Another task may have been faster.
            return await self.__anext__() if received is None else received
        raise StopAsyncIteration

    def close(self) -> None:
        """Receive no more. Who waits gets the end of the iteration. Harmless when repeated.

        Raises:
            ValueError: signals were blocked for it in another thread; there they stay so.
        """
        self._inbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()


async def come(inbox: Inbox) -> bool:
    """Wait in the running loop until there is something to take; False when the receiver is closed."""
    from fastproc.aio._current import current_hub

    hub = current_hub()
    if inbox.look():
        await hub.breathe()
        return True
    while not inbox.look():
        if inbox.closed:
            return False
        event = hub.event()
        end = inbox.tell(event, hub.reactor)
        try:
            if not inbox.look():
                await event.wait()
        finally:
            end()
    return True
