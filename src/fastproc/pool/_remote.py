"""The tasks of a pool that an executor runs in other processes.

A task waits for its turn in the pool's queue as every other: limit, rate, priority and retries are the pool's. Then it
is given to the executor, and ended by whatever means that has; what it amounts to comes back as from the C core.
"""

from __future__ import annotations

import pickle
from concurrent import futures
from itertools import count
from os import getpid, urandom

from fastproc import errors
from fastproc._values.status import Result
from fastproc.pool import _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.pool._loss import Loss
    from fastproc.pool._task import Task


class Link:
    """The way to an executor.

    Args:
        executor: of `concurrent.futures`, with workers that are other processes.

    Attributes:
        losses: what workers were lost, as far as the executor tells.
        owner: the process that it is of.
    """

    def __init__(self, executor: futures.Executor) -> None:
        self.executor = executor
        self.losses: list[Loss] = []
        self.owner = getpid()
        self._name = urandom(8).hex()
        _worker.links[self._name] = self
        self._serial = count(1)

    def open(self) -> None:
        """Told when the pool begins."""

    def begin(self, task: Task) -> Running:
        """Give a task whose turn has come to the executor."""
        running = Running(task, self, f"{self._name}-{next(self._serial)}")
        running.open()
        return running

    def submit(self, running: Running) -> futures.Future[bytes]:
        """Give it to the executor."""
        return self.executor.submit(_worker.perform, running.token, running.task.options)

    def stop(self, running: Running, _how: int) -> None:
        """End it, as far as that is possible: here only if it has not begun."""
        self.take_back(running)

    def take_back(self, running: Running) -> None:
        """Have the executor give it up, if it can."""
        future = running.future
        if future is not None:
            future.cancel()

    def forget(self, running: Running) -> None:
        """Told when it has come back."""

    def close(self) -> None:
        """Told when the pool has ended."""


class Running:
    """One task that the executor has.

    Args:
        task: whose turn has come.
        link: to the executor.
        token: what it is known by there.

    Attributes:
        future: the executor's, until it is done.
    """

    def __init__(self, task: Task, link: Link, token: str) -> None:
        self.task = task
        self.token = token
        self._link = link
        self.future: futures.Future[bytes] | None = None
        self._abandoned = False
        self._answer: bytes | None = None
        self._failure: BaseException | None = None

    def open(self) -> None:
        """Give it to the executor.

        Raises:
            WorkerLost: the executor is broken.
            RuntimeError: it was shut down.
        """
        # An interrupt after this, by a signal handler, finds it running; one within is the end of it.
        self.task.running = self
        try:
            future = self.future = self._link.submit(self)
            future.add_done_callback(self._on_done)
        except BaseException as error:
            self._abandoned = True
            self.task.running = None
            self._link.take_back(self)
            self._link.forget(self)
            if isinstance(error, futures.BrokenExecutor):
                raise self._lost(str(error)) from error
            raise

    def end(self, how: int) -> None:
        """End it, as its deadline would, or at once; it is done later."""
        self._link.stop(self, how)

    def _on_done(self, future: futures.Future[bytes]) -> None:
        """Called in any thread."""
        if not future.cancelled():
            self._failure = future.exception()
            if self._failure is None:
                self._answer = future.result()
        # An engine keeps a result, and makes a lost one again, as long as somebody has its future.
        self.future = None
        self.task.channel.call(self._finish)

    def _finish(self) -> None:
        if self._abandoned:
            return
        self._link.forget(self)
        result: Result | None = None
        error: BaseException | None = None
        try:
            result, error = self._outcome()
        except Exception as broken:
            error = broken
        self.task.channel.released(self.task, result, error)

    def _outcome(self) -> tuple[Result | None, BaseException | None]:
        failure = self._failure
        if failure is not None:
            if isinstance(failure, ModuleNotFoundError) and (failure.name or "").startswith("fastproc"):
                return None, errors.Unsupported(f"executor: its workers must have fastproc, as here: {failure}")
            error = self._lost(f"{type(failure).__name__}: {failure}")
            error.__cause__ = failure
            return None, error
        if self._answer is None:
            # Taken back before it began, or by somebody else.
            return None, None if self.task.asked else self._lost("it was cancelled there")
        worker, result, error = pickle.loads(self._answer)
        where = worker, self.task.lost
        for found in (result, getattr(error, "result", None)):
            if isinstance(found, Result):
                for one in (found, *getattr(found, "stages", ())):
                    one._where = where
        if result is None and error is None and not self.task.asked:
            error = self._lost("it was ended there")
        return result, error

    def _lost(self, reason: str) -> errors.WorkerLost:
        return errors.WorkerLost(str(self.task.expression), self.task.lost, reason)
