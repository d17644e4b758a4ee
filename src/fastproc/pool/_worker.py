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
from weakref import WeakValueDictionary

from fastproc import errors
from fastproc.pool._base import PoolBase
from fastproc.pool._core import Crew
from fastproc.pool._retries import as_retries
from fastproc.pool._settings import make_task
from fastproc.pool._task import KILL, STOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from fastproc._values.command import Command, Expression
    from fastproc.pool._task import Task

    class Link(Protocol):
        """The way to an executor, of a pool of this process."""

        owner: int


PREFIX = "fastproc-"
"""Of the names that tasks have in an engine that gives them names."""

RUNNING = 1
ENDED = 2

_KEPT = 1 << 14
"""Tokens of ended and refused tasks that are remembered: for the moment in which a word about them is on its way."""

_PLACES = 1024
_PATIENCE_SECONDS = 10.0
"""How long a task waits for its worker to take the plugin."""

IN_PROCESS = "its workers must be other processes, each with one worker, not threads of the pool's own"

# The ways to executors that this process has, by the first part of their tokens.
links: WeakValueDictionary[str, Link] = WeakValueDictionary()

# What was sent says all: none of this process's defaults is added.
_SAID = frozenset(("capture", "stdin", "pgid"))

# Taken again by what the collector of garbage calls while it is held.
_lock = threading.RLock()
_running: dict[str, _Held] = {}
_ended: dict[str, None] = {}
_refused: dict[str, None] = {}
_pool: PoolBase | None = None


class _Held:
    """One task here."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self._lock = threading.RLock()
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
    try:
        worker = _place(token)
    except errors.Unsupported as error:
        return pickle.dumps(("", None, error))
    held = _Held()
    with _lock:
        if token in _refused:
            return pickle.dumps((worker, None, None))
        _running[token] = held
    try:
        expression, options = pickle.loads(data)
        held.begin(_bound(expression, options), options)
        _outlast(held)
    except Exception as error:
        held.error = error
    finally:
        with _lock:
            _running.pop(token, None)
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


def end_key(key: str) -> None:
    """End what runs here as the task of that name in an engine."""
    end(key.removeprefix(PREFIX))


def _outlast(held: _Held) -> None:
    """Wait for the end; an interrupt ends it."""
    try:
        held.over.wait()
    except BaseException:
        held.end(KILL)
        held.over.wait()
        raise


def _bound(expression: Expression, options: Any) -> Expression:
    """Return it with every command ended by the kernel when this process dies: then it may be run elsewhere.

    Not where the options of the run say something of that.
    """
    if options is not None and not _SAYS_WHO_DIES.isdisjoint(options):
        return expression

    def change(command: Command) -> Command:
        values = command._options.values
        return command._with(_DIES) if _SAYS_WHO_DIES.isdisjoint(values) else command

    return expression._each(change)


_DIES = {"die_with_parent": True}
_SAYS_WHO_DIES = frozenset(("pdeathsig", "die_with_parent"))


def _local_pool() -> PoolBase:
    global _pool
    with _lock:
        if _pool is None or _pool._crew.inert:
            _pool = PoolBase(Crew(_PLACES, None, None, as_retries(0), False, {}))
        return _pool


def _place(token: str) -> str:
    """Return the name of this worker.

    Raises:
        Unsupported: it is a thread of the process that the task comes from, or shares its process with another.
    """
    link = links.get(token.partition("-")[0])
    if link is not None and link.owner == os.getpid():
        raise errors.Unsupported(f"executor: {IN_PROCESS}")
    module = sys.modules.get("distributed.worker")
    if module is not None:
        try:
            worker = module.get_worker()
        except ValueError:
            pass
        else:
            from fastproc.pool import _dask_worker

            if not _dask_worker.is_alone(worker):
                raise errors.Unsupported(f"executor: {IN_PROCESS}")
            _dask_worker.attend(worker, _PATIENCE_SECONDS, end_key, stop_all)
            return str(worker.address)
    return f"{os.uname().nodename}:{os.getpid()}"


def _packed(worker: str, result: Any, error: BaseException | None) -> bytes:
    try:
        return pickle.dumps((worker, result, error), pickle.HIGHEST_PROTOCOL)
    except Exception as broken:
        what = "the result" if error is None else f"{type(error).__name__}: {error}"
        told = errors.ProcessError(f"{what} (it cannot be sent: {broken})")
        try:
            return pickle.dumps((worker, result, told), pickle.HIGHEST_PROTOCOL)
        except Exception:
            return pickle.dumps((worker, None, told), pickle.HIGHEST_PROTOCOL)


def _after_fork() -> None:
    """Have nothing of the parent's: whoever held the lock is not here."""
    global _lock
    _lock = threading.RLock()
    _running.clear()


os.register_at_fork(after_in_child=_after_fork)


def _remember(kept: dict[str, None], token: str) -> None:
    kept[token] = None
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]
