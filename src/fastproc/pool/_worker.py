"""The other side of a pool with an executor: one task in the process that the executor runs it in.

Runs in a worker, where nothing of the pool that has sent the task is. A command is run as by `run()`, on the threads
of one pool that this process keeps, so that it can be ended from outside.
Invariant: a token is in `_running` from its task's begin to its end, then in `_ended`; one that is to be ended before
it has come is in `_refused`.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading

from fastproc import errors
from fastproc.pool._pool import Pool
from fastproc.pool._settings import make_task
from fastproc.pool._task import KILL, STOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc._values.command import Command
    from fastproc._values.expression import Expression
    from fastproc.pool._task import Task

PREFIX = "fastproc-"
"""Of the names that tasks have in an engine that gives them names."""

RUNNING = 1
ENDED = 2

_KEPT = 1 << 14
"""Tokens of ended and refused tasks that are remembered: for the moment in which a word about them is on its way."""

_PLACES = 1024
# What was sent says all: none of this process's defaults is added.
_SAID = frozenset(("capture", "stdin", "pgid"))

_lock = threading.Lock()
_running: dict[str, _Held] = {}
_ended: dict[str, None] = {}
_refused: dict[str, None] = {}
_pool: Pool | None = None


class _Held:
    """One task here."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._task: Task | None = None
        self._asked = 0

    def begin(self, expression: Expression, options: Any) -> None:
        """Start it on the pool of this process."""
        pool = _local_pool()
        channel = pool._serve().channel
        said = _SAID if options is None else options
        task = make_task(pool._crew, channel, expression, said, 0, None, self._deliver)
        with self._lock:
            if self._asked:
                self.over.set()
                return
            self._task = task
            channel.submit(task)

    def end(self, how: int) -> None:
        """End it, from any thread."""
        with self._lock:
            self._asked = max(self._asked, how)
            if self._task is not None:
                self._task.cancel(how)

    def _deliver(self, _task: Task, result: Any, error: BaseException | None) -> None:
        self.result, self.error = result, error
        self.over.set()


def perform(token: str, data: bytes) -> bytes:
    """Run one task to its end; return the pickle of this worker's name, the Result or None, the exception or None.

    Args:
        token: what it is known by.
        data: the pickle of an expression, and of the options of its run or None.
    """
    worker = _place()
    held = _Held()
    with _lock:
        if token in _refused:
            return pickle.dumps((worker, None, None))
        _running[token] = held
    try:
        expression, options = pickle.loads(data)
        held.begin(_bound(expression), options)
        _outlast(held)
    except Exception as error:
        held.error = error
    finally:
        with _lock:
            del _running[token]
            _remember(_ended, token)
    return _packed(worker, held.result, held.error)


def stop(asked: dict[str, int]) -> dict[str, int]:
    """End tasks, by their tokens, and see that those which come later do not begin.

    Returns:
        RUNNING or ENDED for those that are, or were, here.
    """
    found = {}
    for token, how in asked.items():
        with _lock:
            held = _running.get(token)
            if held is None:
                if token in _ended:
                    found[token] = ENDED
                else:
                    _remember(_refused, token)
        if held is not None:
            found[token] = RUNNING
            held.end(how)
    return found


def stop_all() -> None:
    """End all that runs here."""
    for token in list(_running):
        end(token)


def end(token: str) -> None:
    """End what runs here by that token, if anything does."""
    held = _running.get(token)
    if held is not None:
        held.end(STOP)


def _outlast(held: _Held) -> None:
    """Wait for the end; an interrupt ends it."""
    try:
        held.over.wait()
    except BaseException:
        held.end(KILL)
        held.over.wait()
        raise


def _bound(expression: Expression) -> Expression:
    """Return it with every command ended by the kernel when this process dies: then it may be run elsewhere."""

    def change(command: Command) -> Command:
        values = command._options.values
        return command if "pdeathsig" in values or "die_with_parent" in values else command._with(_DIES)

    return expression._each(change)


_DIES = {"die_with_parent": True}


def _local_pool() -> Pool:
    global _pool
    with _lock:
        if _pool is None or _pool._crew.inert:
            _pool = Pool(_PLACES)
        return _pool


def _place() -> str:
    """Return the name of this worker."""
    module = sys.modules.get("distributed.worker")
    if module is not None:
        try:
            worker = module.get_worker()
        except ValueError:
            pass
        else:
            from fastproc.pool import _dask

            _dask.attend(worker)
            return str(worker.address)
    return f"{os.uname().nodename}:{os.getpid()}"


def _packed(worker: str, result: Any, error: BaseException | None) -> bytes:
    try:
        return pickle.dumps((worker, result, error), pickle.HIGHEST_PROTOCOL)
    except Exception as broken:
        told = errors.ProcessError(f"{type(error).__name__}: {error} (it cannot be sent: {broken})")
        return pickle.dumps((worker, result, told), pickle.HIGHEST_PROTOCOL)


def _remember(kept: dict[str, None], token: str) -> None:
    kept[token] = None
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]
