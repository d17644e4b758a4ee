"""A worker of Dask distributed, in its own process: it ends the commands that distributed has cancelled.

Only loaded where distributed is.
"""

from __future__ import annotations

import threading
from typing import Any

from distributed import Worker, WorkerPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = "fastproc"


def is_alone(worker: Any) -> bool:
    """Whether a worker is the only one of this process that is open."""
    return not any(other is not worker and other.status == worker.status for other in list(Worker._instances))


class _Ending(WorkerPlugin):
    """Ends, in a worker, the commands of tasks that nobody wants any more, and all when the worker goes.

    Args:
        end: ends the command of the task with this key.
        stop_all: ends all.
    """

    def __init__(self, end: Callable[[str], object], stop_all: Callable[[], object]) -> None:
        self._end = end
        self._stop_all = stop_all

    def transition(self, key: Any, start: str, finish: str, **_more: Any) -> None:
        """Called by the worker for each change of each task."""
        if finish == "released" and start in ("executing", "long-running") and isinstance(key, str):
            self._end(key)

    def teardown(self, worker: Any) -> None:
        """Called by a worker that closes."""
        self._stop_all()


def attend(worker: Any, seconds: float, end: Callable[[str], object], stop_all: Callable[[], object]) -> None:
    """See that a worker has the plugin, within so many seconds or later; called in the thread of a task.

    Args:
        worker: of this process.
        seconds: to wait for it.
        end: ends the command of the task with this key.
        stop_all: ends all.
    """
    if _NAME in worker.plugins:
        return
    added = threading.Event()

    async def add() -> None:
        try:
            if _NAME not in worker.plugins:
                await worker.plugin_add(_Ending(end, stop_all), name=_NAME)
        finally:
            added.set()

    worker.loop.add_callback(add)
    added.wait(seconds)
