"""The thread of a blocking pool that serves futures: it takes what has ended, and looks at the gate.

The only Python thread of fastproc. It begins with the first submit(), and ends with the pool.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from errno import EAGAIN
from time import monotonic

from fastproc.pool._client import open_channel
from fastproc.pool._future import Future
from fastproc.pool._gate import Gate
from fastproc.pool._settings import look, make_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc._values.command import Expression
    from fastproc.pool._core import Crew
    from fastproc.pool._retries import Retries

WANT = 16


class Server:
    """Futures of one pool, and the thread that they are completed in.

    Args:
        crew: of the pool.
        gate: as of the pool.
    """

    # A signal handler may use the pool, and end it, between any two bytecodes of whoever uses it in the same thread. So
    # no lock is held that the serving thread needs, and all that is made once is made by whoever comes first.

    def __init__(self, crew: Crew, gate: Gate | Callable[[], bool] | None) -> None:
        self._crew = crew
        self._gate = gate
        self.channel = open_channel(crew)
        self._ending = False
        # Who wait for there being no task left, and for the end of the thread.
        self._idle: list[Any] = []
        self._over = False
        self._ended = allocate_lock()
        self._ended.acquire()
        # The thread that serves, the first that asks; or None, when there will never be one.
        self._claim: dict[int, threading.Thread | None] = {}
        self.ready = False

    def begin(self) -> None:
        """Have a thread serve. Where a handler comes while it is started there may be two: the second ends at once.

        Raises:
            OSError: EAGAIN: there is none to be had.
        """
        thread = threading.Thread(target=self._run, name="fastproc pool", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # It has not begun: RLIMIT_NPROC, or no memory.
            raise OSError(EAGAIN, "no thread can be started that serves the futures of a pool") from error
        self.ready = True

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
        if self._serves():
            # A callback of a future: nobody else drives it.
            while records:
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return False
                self.channel.turn(1, left)
            return True
        while records:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return False
            self._await_idle(-1.0 if left is None else min(left, threading.TIMEOUT_MAX))
        return True

    def _await_idle(self, seconds: float) -> None:
        idle = allocate_lock()
        idle.acquire()
        self._idle.append(idle)
        try:
            if self.channel.records:
                idle.acquire(True, seconds)
        finally:
            self._idle.remove(idle)

    def _tell_idle(self) -> None:
        for idle in self._idle.copy():
            if idle.locked():
                try:
                    idle.release()
                except RuntimeError:
                    pass

    def withdraw(self) -> None:
        """End the tasks that have not begun."""
        for task in list(self.channel.records.values()):
            task.withdraw()

    def end_later(self) -> None:
        """End the thread when no task is left."""
        self._ending = True
        self.channel.wake()

    def end(self, how: int) -> None:
        """End all tasks, and the thread. After an interrupt it may be called again."""
        channel = self.channel
        for task in list(channel.records.values()):
            task.cancel(how)
        self._ending = True
        channel.wake()
        server = self._claim.setdefault(0, None)
        if server is None:
            channel.finish(how)
        elif server is not threading.current_thread():
            # Not join(): until Python 3.12 an interrupt there makes it take the thread for one that has ended.
            try:
                # A handler that comes after this may wait too: not for this thread, which has the lock.
                if not self._over:
                    self._ended.acquire()
            finally:
                self._pass_on()
            server.join()

    def _pass_on(self) -> None:
        """Let the next know that the thread has ended: the lock is nobody's from then on."""
        if self._over:
            try:
                self._ended.release()
            except RuntimeError:
                pass

    def _serves(self) -> bool:
        return self._claim.get(0) is threading.current_thread()

    def ends_itself(self, channel: object) -> bool:
        """Whether this is the thread that serves a channel, which it closes when its callback has returned."""
        return channel is self.channel and self._serves()

    def _run(self) -> None:
        me = threading.current_thread()
        if self._claim.setdefault(0, me) is not me:
            return
        channel = self.channel
        try:
            if self._gate is not None:
                channel.reactor.call_after(self._interval(), self._look)
            with channel.lock:
                while not self._closes():
                    try:
                        channel.turn(min(WANT, len(channel.records) // 4))
                    except BaseException as error:
                        # Of a callback or a predicate, as SystemExit (other exceptions are caught there); or a bug, or
                        # no memory. The other futures do not suffer from it.
                        threading.excepthook(threading.ExceptHookArgs((type(error), error, None, me)))
                    if not channel.records:
                        self._tell_idle()
        finally:
            self._over = True
            self._pass_on()

    def _closes(self) -> bool:
        """Whether this is the end; the channel is closed then."""
        if not self._ending:
            return False
        # A task is in the records before anybody looks whether the channel is closed, and closed is set before they are
        # looked at once more: one of both sees the other.
        channel = self.channel
        if channel.records:
            return False
        channel.closed = True
        if channel.records:
            channel.closed = False
            return False
        channel.close()
        return True

    def _interval(self) -> float:
        return self._gate.interval if isinstance(self._gate, Gate) else 1.0

    def _look(self) -> None:
        assert self._gate is not None
        self.channel.reactor.call_after(self._interval(), self._look)
        gated = not look(self._gate)
        if gated is not self._crew.gated:
            self._crew.gated = gated
            self._crew.adjust()
