"""Dask distributed as the executor of a pool: how a running task is ended there, and which workers were lost.

Only loaded where distributed is: by a pool that was given its executor, and in its workers.

Distributed does not stop what runs: a task that is cancelled goes on in its thread, and its result is dropped. So a
pool tells all workers which tasks are to end, by `Client.run()`, which passes the queue; the one that has it ends it,
and its Result comes back as that of any other. And each worker has a plugin that ends what distributed has cancelled:
for a client that was closed, or died.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from distributed import WorkerPlugin

from fastproc.pool import _worker
from fastproc.pool._remote import Link, Loss, Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent import futures

    from fastproc.pool._task import Task

_NAME = "fastproc"
_RECENT = 1 << 12
_RECENT_SECONDS = 10.0
"""So many tasks that have come back, and for so long, may still be held, in the scheduler's eyes, by who ran them."""


class DaskLink(Link):
    """The way to `distributed.Client.get_executor()`."""

    def __init__(self, executor: Any) -> None:
        super().__init__(executor)
        self._client = executor._client
        self._lock = threading.Lock()
        self._asked: dict[str, int] = {}
        self._held: dict[str, Running] = {}
        self._recent: dict[str, tuple[Task, float]] = {}

    def open(self) -> None:
        """Told when the pool begins."""
        with _lock:
            watch = _watches.setdefault(self._client, _Watch())
        watch.join(self._client, self)

    def close(self) -> None:
        """Told when the pool has ended."""
        _watches[self._client].leave(self._client)

    def submit(self, running: Running) -> futures.Future[bytes]:
        """Give it to the scheduler, under a name of its own: equal commands are not one task."""
        token = running.token
        self._held[token] = running
        options: dict[str, Any] = {"key": _worker.PREFIX + token, "pure": False}
        future: futures.Future[bytes] = self.executor.submit(_worker.perform, token, running.task.options, **options)
        return future

    def forget(self, running: Running) -> None:
        """Keep its task for a while, see _RECENT."""
        moment = monotonic()
        recent = self._recent
        with self._lock:
            self._held.pop(running.token, None)
            recent[running.token] = running.task, moment
            while len(recent) > _RECENT or next(iter(recent.values()))[1] < moment - _RECENT_SECONDS:
                del recent[next(iter(recent))]

    def stop(self, running: Running, how: int) -> None:
        """Have it ended where it runs, or never begun."""
        with self._lock:
            first = not self._asked
            self._asked[running.token] = how
        if first:
            try:
                self._client.loop.add_callback(self._tell)
            except RuntimeError:
                # The client and its loop are closed; all of its futures are cancelled.
                running.give_up()

    async def _tell(self) -> None:
        with self._lock:
            asked, self._asked = self._asked, {}
        known: set[str] = set()
        try:
            answers = await self._client.run(_worker.stop, asked, on_error="ignore")
            known.update(*answers.values())
        finally:
            for token in asked:
                running = self._held.get(token)
                # Whoever has it gives its Result; where nobody has, nobody will begin it.
                if running is not None and token not in known:
                    running.give_up()

    def on_lost(self, worker: str, keys: list[Any]) -> None:
        """Take that a worker was lost, and what it held."""
        expressions = []
        for key in keys:
            token = key.removeprefix(_worker.PREFIX) if isinstance(key, str) else ""
            with self._lock:
                running = self._held.get(token)
                task = self._recent.get(token, (None, 0.0))[0] if running is None else running.task
            if running is not None and running.task.asked:
                # Workers that come later have not been told.
                running.give_up()
            if task is not None:
                task.lost = (*task.lost, worker)
                expressions.append(task.expression)
        if expressions:
            self.losses.append(Loss(worker, tuple(expressions)))


class _Watch:
    """What the scheduler says of lost workers to one client, for all pools on it.

    It is said in order with all else: before the results of tasks that are run again. A client has one handler for what
    is said of everything; another one's is called, too.
    """

    def __init__(self) -> None:
        self._links: WeakSet[DaskLink] = WeakSet()
        self._joined = 0
        self._previous: Any = None

    def join(self, client: Any, link: DaskLink) -> None:
        """Tell one more pool."""
        with _lock:
            self._links.add(link)
            self._joined += 1
            if self._joined == 1:
                previous = client._event_handlers.get(_TOPIC)
                self._previous = None if previous == self._on_event else previous
                client.subscribe_topic(_TOPIC, self._on_event)

    def leave(self, client: Any) -> None:
        """Have one pool less; it is still told what is on its way."""
        with _lock:
            self._joined -= 1
            if self._joined or client.status == "closed":
                return
            if self._previous is not None:
                client.subscribe_topic(_TOPIC, self._previous)
            else:
                client.unsubscribe_topic(_TOPIC)

    def _on_event(self, event: Any) -> Any:
        said = event[1]
        if isinstance(said, dict) and said.get("action") == "remove-worker":
            keys = [*said.get("processing-tasks", ()), *said.get("lost-computed-tasks", ())]
            for link in list(self._links):
                link.on_lost(str(said.get("worker")), keys)
        return None if self._previous is None else self._previous(event)


_TOPIC = "all"
_lock = threading.Lock()
_watches: WeakKeyDictionary[Any, _Watch] = WeakKeyDictionary()


class _Ending(WorkerPlugin):
    """Ends, in a worker, the commands of tasks that nobody wants any more, and all when the worker goes."""

    def transition(self, key: Any, start: str, finish: str, **_more: Any) -> None:
        """Called by the worker for each change of each task."""
        if finish == "released" and start in ("executing", "long-running") and isinstance(key, str):
            _worker.end(key.removeprefix(_worker.PREFIX))

    def teardown(self, worker: Any) -> None:
        """Called by a worker that closes."""
        _worker.stop_all()


def attend(worker: Any) -> None:
    """See that a worker has the plugin; called in the thread of a task."""
    if _NAME in worker.plugins:
        return
    added = threading.Event()

    async def add() -> None:
        try:
            if _NAME not in worker.plugins:
                await worker.plugin_add(_Ending(), name=_NAME)
        finally:
            added.set()

    worker.loop.add_callback(add)
    added.wait()
