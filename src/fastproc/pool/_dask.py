"""Dask distributed as the executor of a pool: how a running task is ended there, and which workers were lost.

Only loaded where distributed is, by a pool that was given its executor.

Distributed does not stop what runs: a task that is cancelled goes on in its thread, and its result is dropped. So a
pool tells all workers which tasks are to end, by `Client.run()`, which passes the queue; the one that has it ends it,
and its Result comes back as that of any other. And each worker has a plugin (_dask_worker.py) that ends what
distributed has cancelled: for a client that was closed, or died.
"""

from __future__ import annotations

import os
import threading
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from distributed import Future
from distributed.client import ClosedClientError
from distributed.utils import wait_for

from fastproc.pool import _worker
from fastproc.pool._loss import Loss
from fastproc.pool._remote import Link, Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent import futures

    from fastproc.pool._task import Task

_RECENT = 1 << 12
_RECENT_SECONDS = 10.0
"""So many tasks that have come back, and for so long, may still be held, in the scheduler's eyes, by who ran them."""

_PATIENCE_SECONDS = 5.0
"""How long all workers are given to say which of the tasks that are to end they have."""


class DaskLink(Link):
    """The way to `distributed.Client.get_executor()`."""

    def __init__(self, executor: Any) -> None:
        super().__init__(executor)
        self._client = executor._client
        self._lock = threading.RLock()
        self._asked: dict[str, int] = {}
        self._held: dict[str, Running] = {}
        self._recent: dict[str, tuple[Task, float]] = {}
        self._watch = _Watch()

    def open(self) -> None:
        """Told when the pool begins."""
        with _lock:
            self._watch = _watches.setdefault(self._client, self._watch)
        self._watch.join(self._client, self)

    def close(self) -> None:
        """Told when the pool has ended."""
        self._watch.leave(self._client)

    def submit(self, running: Running) -> futures.Future[bytes]:
        """Give it to the scheduler, under a name of its own: equal commands are not one task."""
        token = running.token
        self._watch.renew(self._client)
        self._held[token] = running
        options: dict[str, Any] = {"key": _worker.PREFIX + token, "pure": False}
        future: futures.Future[bytes] = self.executor.submit(_worker.perform, token, running.task.options, **options)
        return future

    def forget(self, running: Running) -> None:
        """Keep its task for a while, see _RECENT."""
        recent = self._recent
        with self._lock:
            self._held.pop(running.token, None)
            first = not recent
            recent[running.token] = running.task, monotonic()
            self._trim()
        if first:
            self._client.loop.add_callback(self._trim_later)

    def _trim(self) -> None:
        recent = self._recent
        oldest = monotonic() - _RECENT_SECONDS
        while recent:
            token = next(iter(recent))
            if len(recent) <= _RECENT and recent[token][1] > oldest:
                return
            del recent[token]

    def _trim_later(self) -> None:
        with self._lock:
            self._trim()
            if self._recent:
                self._client.loop.call_later(_RECENT_SECONDS, self._trim_later)

    def stop(self, running: Running, how: int) -> None:
        """Have it ended where it runs, or never begun."""
        with self._lock:
            first = not self._asked
            self._asked[running.token] = how
        if self._client.status == "closed":
            # With its loop; all of its futures are cancelled.
            super().take_back(running)
        elif first:
            self._client.loop.add_callback(self._tell)

    def take_back(self, running: Running) -> None:
        """Have the scheduler forget it: where it waits it never begins, and a worker that runs it ends it.

        Its future is cancelled by the client, once that is said. Its own cancel() would have nobody say it when it is
        called in the loop's thread.
        """
        if self._client.status == "closed":
            super().take_back(running)
        else:
            self._client.loop.add_callback(self._cancel, running.token)

    async def _cancel(self, token: str) -> None:
        client, key = self._client, _worker.PREFIX + token
        try:
            if key in client.futures:
                await client.cancel([Future(key, client)], asynchronous=True)
        except ClosedClientError:
            # So it has cancelled all.
            pass

    async def _tell(self) -> None:
        with self._lock:
            asked, self._asked = self._asked, {}
        known: set[str] = set()
        try:
            answers = self._client.run(_worker.stop, asked, on_error="ignore")
            known.update(*(await wait_for(answers, _PATIENCE_SECONDS)).values())
        except Exception:
            # Too late, or not at all: the scheduler is told, which cancels them with the workers that it reaches.
            pass
        for token in asked:
            running = self._held.get(token)
            # Whoever has it gives its Result; where nobody has, nobody will begin it.
            if running is not None and token not in known:
                self.take_back(running)

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
                self.take_back(running)
            if task is not None:
                task.lost = (*task.lost, worker)
                expressions.append(task.expression)
        if expressions:
            self.losses.append(Loss(worker, tuple(expressions)))


class _Watch:
    """What the scheduler says of lost workers to one client, for all pools on it.

    It is said in order with all else: before the results of tasks that are run again. A client has one handler for what
    is said of everything; another one's is called, too.
    Invariant: subscribed and unsubscribed only in the client's loop, in the order in which it sends what it is given.
    """

    def __init__(self) -> None:
        self._links: WeakSet[DaskLink] = WeakSet()
        self._joined = 0
        self._previous: Any = None
        self._subscribed = False
        self._comm: Any = None

    def join(self, client: Any, link: DaskLink) -> None:
        """Tell one more pool."""
        with _lock:
            self._links.add(link)
            self._joined += 1
        client.loop.add_callback(self._adjust, client)

    def leave(self, client: Any) -> None:
        """Have one pool less; it is still told what is on its way."""
        with _lock:
            self._joined -= 1
        client.loop.add_callback(self._adjust, client)

    def renew(self, client: Any) -> None:
        """Subscribe again when the client has another connection: a scheduler that begins knows of nothing."""
        if client.scheduler_comm is not self._comm:
            client.loop.add_callback(self._adjust, client)

    def _adjust(self, client: Any) -> None:
        if client.status not in ("running", "connecting", "newly-created"):
            return
        found = client._event_handlers.get(_TOPIC)
        is_own = found == self._on_event
        is_new = client.scheduler_comm is not self._comm
        self._comm = client.scheduler_comm
        if self._joined and not self._subscribed:
            self._previous = None if is_own else found
            self._subscribed = True
            client.subscribe_topic(_TOPIC, self._on_event)
        elif self._joined and is_own and is_new:
            client.subscribe_topic(_TOPIC, self._on_event)
        elif self._subscribed and not self._joined:
            self._subscribed = False
            # Another one that was set meanwhile stays.
            if is_own and self._previous is not None:
                client.subscribe_topic(_TOPIC, self._previous)
            elif is_own:
                client.unsubscribe_topic(_TOPIC)

    def _on_event(self, event: Any) -> Any:
        said = event[1]
        if isinstance(said, dict) and said.get("action") == "remove-worker":
            keys = [*said.get("processing-tasks", ()), *said.get("lost-computed-tasks", ())]
            for link in list(self._links):
                link.on_lost(str(said.get("worker")), keys)
        return None if self._previous is None else self._previous(event)


_TOPIC = "all"
# Taken again by what the collector of garbage calls while it is held, as a pool that is left.
_lock = threading.RLock()
_watches: WeakKeyDictionary[Any, _Watch] = WeakKeyDictionary()


def _after_fork() -> None:
    """Have a lock that nobody holds who is not here."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


def check_client(client: Any, in_loop: bool) -> None:
    """Refuse a client whose workers are threads of this process, or with a loop that a blocking pool would hold up.

    Raises:
        TypeError: it is one.
    """
    if not in_loop and getattr(client, "_asynchronous", False):
        raise TypeError("executor: its client is asynchronous; use fastproc.aio.Pool, or a client that is not")
    if str(getattr(client.scheduler, "address", "")).startswith("inproc:"):
        raise TypeError(f"executor: {_worker.IN_PROCESS}")
