"""The thread of a blocking pool that serves futures: it takes what has ended, and looks at the gate.

The only Python thread of fastproc. It begins with the first submit(), and ends with the pool.
"""

from __future__ import annotations

import threading
from errno import EAGAIN
from time import monotonic

from fastproc._values.gate import Gate
from fastproc.pool._futures import Future
from fastproc.pool._settings import look, make_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc._values.expression import Expression
    from fastproc._values.retries import Retries
    from fastproc.pool._channel import Channel
    from fastproc.pool._crew import Crew

WANT = 16


class Server:
    """Futures of one pool, and the thread that they are completed in.

    Args:
        crew: of the pool.
        gate: as of the pool.
    """

    def __init__(self, crew: Crew, gate: Gate | Callable[[], bool] | None) -> None:
        self._crew = crew
        self._gate = gate
        self.channel = crew.channel()
        self._idle = threading.Condition()
        self._ending = False
        if gate is not None:
            self.channel.reactor.call_after(self._interval(), self._look)
        self._thread = threading.Thread(target=self._run, name="fastproc pool", daemon=True)
        try:
            self._thread.start()
        except BaseException as error:
            # Interrupted while it began it ends by itself: whoever ends the pool waits for the lock that it holds.
            self._ending = True
            self.channel.wake()
            if isinstance(error, RuntimeError):
                # It has not begun: RLIMIT_NPROC, or no memory.
                self.channel.close()
                raise OSError(EAGAIN, "no thread can be started that serves the futures of a pool") from error
            raise

    def submit(self, expression: Expression, options: Any, priority: int, retries: Retries | None) -> Future:
        """Queue a task and return its Future."""
        future = Future()
        task = make_task(self._crew, self.channel, expression, options, priority, retries, future._deliver)
        future._task = task
        self.channel.submit(task)
        return future

    def drain(self, deadline: float | None) -> bool:
        """Wait until no task is left; whether that was so before the deadline."""
        records = self.channel.records
        if threading.current_thread() is self._thread:
            # A callback of a future: nobody else drives it.
            while records:
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return False
                self.channel.turn(1, left)
            return True
        with self._idle:
            while records:
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return False
                self._idle.wait(left)
        return True

    def withdraw(self) -> None:
        """End the tasks that have not begun."""
        for task in list(self.channel.records.values()):
            task.withdraw()

    def end_later(self) -> None:
        """End the thread when no task is left."""
        self._ending = True
        self.channel.wake()

    def end(self, how: int) -> None:
        """End all tasks, and the thread."""
        channel = self.channel
        for task in list(channel.records.values()):
            task.cancel(how)
        self._ending = True
        if threading.current_thread() is self._thread:
            # A callback of a future: the thread ends when it has returned.
            return
        channel.wake()
        self._thread.join()

    def ends_itself(self, channel: Channel) -> bool:
        """Whether this is the thread of the channel, which closes it when the callback has returned."""
        return channel is self.channel and threading.current_thread() is self._thread

    def _run(self) -> None:
        channel = self.channel
        with channel.lock:
            while not self._closes():
                try:
                    channel.turn(min(WANT, len(channel.records) // 4))
                except BaseException as error:
                    # Of a callback or a predicate, as SystemExit (other exceptions are caught there); or a bug, or no
                    # memory. The other futures do not suffer from it.
                    threading.excepthook(threading.ExceptHookArgs((type(error), error, None, self._thread)))
                if not channel.records:
                    with self._idle:
                        self._idle.notify_all()

    def _closes(self) -> bool:
        """Whether this is the end; the channel is closed then."""
        if not self._ending:
            return False
        # A task is in the records before the C core is asked to take it, which is done with this lock.
        with self._crew.workers.lock:
            if not self.channel.records:
                self.channel.close()
            return self.channel.closed

    def _interval(self) -> float:
        return self._gate.interval if isinstance(self._gate, Gate) else 1.0

    def _look(self) -> None:
        assert self._gate is not None
        self.channel.reactor.call_after(self._interval(), self._look)
        gated = not look(self._gate)
        if gated is not self._crew.gated:
            self._crew.gated = gated
            self._crew.adjust()
