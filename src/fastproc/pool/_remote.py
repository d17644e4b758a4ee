"""The tasks of a pool that an executor runs in other processes.

A task waits for its turn in the pool's queue as every other: limit, rate, priority and retries are the pool's. Then it
is given to the executor, and ended by whatever means that has; what it amounts to comes back as from the C core.
"""

from __future__ import annotations

import pickle
import sys
from concurrent import futures
from itertools import count
from os import getpid, urandom

from fastproc import errors
from fastproc._values.options import checked
from fastproc._values.status import Result
from fastproc.pool import _worker
from fastproc.pool._sendable import check_sendable, check_values
from fastproc.pool._task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NamedTuple

    from fastproc._values.expression import Expression

    class Loss(NamedTuple):
        """A worker that its executor has lost, and the tasks that it held: running, waiting, or their results.

        The executor has run them again elsewhere, or given them up, which is a WorkerLost.

        Attributes:
            worker: its name.
            expressions: what the tasks were.
        """

        worker: str
        expressions: tuple[Expression, ...]
else:
    from collections import namedtuple

    Loss = namedtuple("Loss", ("worker", "expressions"), module="fastproc.pool")
    Loss.__doc__ = "A worker that its executor has lost, and the tasks that it held."

_HINT = "such as client.get_executor() of distributed (fastproc[dask])"


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


def make_link(executor: Any, in_loop: bool = False) -> Link:
    """Return the way to an executor.

    Args:
        executor: as given to the pool.
        in_loop: whether the pool is one of an event loop.

    Raises:
        TypeError: it is none; or its workers are of this process; or its client is one of an event loop, whose thread a
            blocking pool would hold up.
    """
    if not isinstance(executor, futures.Executor):
        found = "the client itself" if hasattr(executor, "get_executor") else type(executor).__name__
        raise TypeError(f"executor: must be a concurrent.futures.Executor, {_HINT}, not {found}")
    from fastproc.pool._futures import Executor

    if isinstance(executor, Executor):
        raise TypeError("executor: runs commands itself, and here; give one whose workers are other processes")
    if isinstance(executor, futures.ThreadPoolExecutor):
        raise TypeError(f"executor: {_worker.IN_PROCESS}")
    module = sys.modules.get("distributed.cfexecutor")
    if module is not None and isinstance(executor, module.ClientExecutor):
        from fastproc.pool._dask import DaskLink, check_client

        check_client(executor._client, in_loop)
        return DaskLink(executor)
    return Link(executor)


def packed(expression: Expression, options: Mapping[str, Any] | None) -> bytes:
    """Return the pickle of an expression that says all itself, or with the options of its run.

    Raises:
        TypeError, ValueError: something cannot be sent; its name comes first.
    """
    check_sendable(expression)
    if options is not None:
        check_values(checked(options))
        options = {name: _plain(value) for name, value in options.items()}
    try:
        return pickle.dumps((expression, options), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise TypeError(f"{_culprit(expression, options)}: cannot go to another process: {error}") from error


def _plain(value: Any) -> Any:
    """Return os.environ and its like as a dict, which pickles."""
    return dict(value) if hasattr(value, "items") else value


def _culprit(expression: Expression, options: Mapping[str, Any] | None) -> str:
    """Name what does not pickle."""
    own = getattr(expression, "_options", None)
    for values in (options or {}, {} if own is None else own.values):
        for name, value in values.items():
            try:
                pickle.dumps(value)
            except Exception:
                return str(name)
    return "program"
