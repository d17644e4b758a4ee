"""The receiver of signals: an iterator, an asynchronous iterator and a context manager.

`_inbox.py` brings the signals into its inbox.
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
        TypeError, ValueError: as for _values.signals.catchable(); ValueError also if no signal is given.
    """
    if not given:
        raise ValueError(f"{name}: at least one signal is needed")
    return _names.mask({_names.catchable(name, item) for item in given})


class Signals:
    """A receiver of signals: an iterator, an asynchronous iterator, a context manager. It starts when it is created.

    Several receivers are independent: each gets every signal. Threads and tasks may share a receiver: then each signal
    goes to one of them. A process can have 256 receivers, flags and forwardings together.

    A signal that is not blocked runs a handler of the C core, in any thread. The handler writes it to a pipe of 1 MiB
    (16,384 signals), where it stays until it is taken. `lost` counts signals that did not fit. The kernel keeps only
    one pending instance of each standard signal, and all of each real-time signal (signal(7)). If a signal is blocked
    in all threads, by the program or by block=True, the kernel keeps it until a receiver reads it from a signalfd(2).
    Then senders of real-time signals get an error when the kernel's queue is full, and no signal is lost.

    When the last receiver of a signal is closed, the earlier handler is restored. A handler that is installed meanwhile
    (`signal.signal()`, `loop.add_signal_handler()`) takes the signal from the receiver only until the next wait, or for
    at most half a second if the receiver is waiting. Then both are called.

    Args:
        signals: numbers or names: "TERM", signal.SIGUSR1, "RTMIN+2".
        chain: whether other handlers are called too. Handlers that only perform the default of Ctrl-C are never called:
            Python's, which raises KeyboardInterrupt, and those of asyncio and trio, which cancel the main task.
        block: whether the signals are blocked in this thread until `close()`, which the same thread must call. For
            programs with one thread. Children of other libraries inherit the mask.

    Raises:
        TypeError, ValueError: an argument is not a signal, or cannot be received; the message has the reason. These are
            SIGKILL, SIGSTOP, the signals of a fault in a thread (SIGSEGV, SIGBUS, SIGFPE, SIGILL), and 32 and 33, which
            the C library uses.
        OSError: no descriptor is left, or there are too many receivers (ENOSPC).
    """

    __module__ = "fastproc.signals"

    __slots__ = ("__weakref__", "_inbox", "_signals")

    def __init__(self, *signals: int | str, chain: bool = True, block: bool = False) -> None:
        """Start receiving."""
        mask = mask_of("signals", signals)
        self._signals = tuple(_names.members(mask))
        self._inbox = Inbox(mask, not chain, block)

    def __repr__(self) -> str:
        """Show the signals."""
        state = " closed" if self._inbox.closed else ""
        return f"<Signals {' '.join(map(_names.label, self._signals))}{state}>"

    @property
    def lost(self) -> int:
        """The number of signals that did not fit into the pipe."""
        return self._inbox.lost

    def fileno(self) -> int:
        """Return a descriptor for another event loop. It is readable when `pending()` may return a signal.

        Raises:
            ValueError: the receiver is closed.
        """
        return self._inbox.fileno()

    def pending(self) -> list[Received]:
        """Return all signals that have arrived, without a wait.

        Raises:
            ProcessError: this process is a forked copy.
        """
        inbox = self._inbox
        found = []
        renew()
        inbox.look()
        while (received := inbox.take()) is not None:
            found.append(received)
        return found

    def get(self, timeout: float | None = None) -> Received:
        """Wait for the next signal, and return it.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            TimeoutError: no signal arrived in time.
            ValueError: the receiver is closed.
            ProcessError: this process is a forked copy.
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
        """Wait for the next signal. The iteration ends when the receiver is closed, also by another thread."""
        received = self._next(None)
        if received is None:
            raise StopIteration
        return received

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        """Wait for the next signal in an event loop of asyncio, uvloop, trio or fastproc's Reactor."""
        if await come(self._inbox):
            received = self._inbox.take()
            # Another task may have taken the signal.
            return await self.__anext__() if received is None else received
        raise StopAsyncIteration

    def close(self) -> None:
        """Stop receiving, and end the iteration of waiters. Further calls do nothing.

        Raises:
            ValueError: another thread has blocked the signals for this receiver. They stay blocked in that thread.
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
    """Wait in the running loop until a signal can be taken; return False if the receiver is closed."""
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
