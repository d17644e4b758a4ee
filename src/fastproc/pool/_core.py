"""What the blocking and the asynchronous pool share: the threads, the limits, and what all tasks have in common.

A crew has the C core's threads and queue. Each consumer (a map, the thread that serves futures, an event loop) has a
channel: what it has submitted comes back there, and only there is anything done with it.
"""

from __future__ import annotations

import os

from fastproc._engine import standard
from fastproc._native.pool import Workers
from fastproc._values.redirect import DEVNULL
from fastproc.pool._task import STOP, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from fastproc._values.command import Command
    from fastproc._values.options import Options
    from fastproc.pool._loss import Loss
    from fastproc.pool._retries import Retries
    from fastproc.pool._task import Task

    class Channel(Protocol):
        """The part of a channel that its crew, and whoever ends the crew, use."""

        closed: bool
        records: dict[int, Task]
        waiters: list[Callable[[], object]]

        def give_up_lost(self) -> None: ...
        def close(self) -> None: ...
        def finish(self, how: int = ...) -> None: ...

    class Link(Protocol):
        """The part of the way to an executor that a crew and its channels use."""

        @property
        def losses(self) -> list[Loss]: ...
        def begin(self, task: Task) -> object: ...
        def close(self) -> None: ...


_KINDS_MAX = 256
# A group of its own makes a task's deadline and cancellation reach what it has started.
_LEADS = frozenset(("pgid", "setsid", "foreground", "ctty"))


class Crew:
    """The threads of a pool, its limits, and what its tasks have in common.

    Args:
        workers: how many tasks run at the same time.
        rate: how many start in a second at most.
        deadline: seconds for each try of a task.
        retries: of each task.
        fail_fast: whether the first failure ends all others.
        options: defaults of every command.
        link: to the executor that runs the tasks; None: they run here.
    """

    def __init__(
        self,
        workers: int,
        rate: float | None,
        deadline: float | None,
        retries: Retries,
        fail_fast: bool,
        options: Mapping[str, Any],
        link: Link | None = None,
    ) -> None:
        self.limit = workers
        self.interval_ns = 0 if rate is None else max(1, int(1e9 / rate))
        self.gated = False
        self.retries = retries
        self.fail_fast = fail_fast
        self.link = link
        self.failure: BaseException | None = None
        self.closed = False
        self.ending = 0
        self.owner = os.getpid()
        self.defaults = dict(options)
        self.defaults.setdefault("capture", True)
        if deadline is not None:
            self.defaults.setdefault("timeout", deadline)
        self._kinds: dict[tuple[Options, frozenset[str]], Kind] = {}
        self._channels: set[Channel] = set()
        # With an executor they only give turns.
        threads = 1 if link is not None else min(workers, len(os.sched_getaffinity(0)), 8)
        standard.reserve()
        self.workers = Workers(workers, threads)
        if self.interval_ns:
            self.adjust()

    @property
    def inert(self) -> bool:
        """Whether this is a forked copy (GOTCHAS I2)."""
        return os.getpid() != self.owner

    def adjust(self) -> None:
        """Tell the C core the limits."""
        self.workers.set(self.limit, self.interval_ns, self.gated)

    def check_own(self) -> None:
        """Refuse in a forked copy.

        Raises:
            RuntimeError: this is one.
        """
        if self.inert:
            raise RuntimeError(f"this pool belongs to process {self.owner}; process {os.getpid()} is a fork of it")

    def check_usable(self) -> None:
        """Refuse what comes too late.

        Raises:
            RuntimeError: the pool was closed, is a forked copy, or was ended by a failure, which is the cause.
        """
        self.check_own()
        self.check_open()

    def check_open(self) -> None:
        """As check_usable(), but for a submission: the C core refuses that in a forked copy, without a getpid(2) here.

        Raises:
            RuntimeError: the pool was closed, or was ended by a failure, which is the cause.
        """
        if self.failure is not None:
            raise RuntimeError("this pool was ended by the failure of a task") from self.failure
        if self.closed:
            raise RuntimeError("this pool is closed")

    def kind(self, command: Command, said: frozenset[str] = frozenset()) -> Kind:
        """Return what a command's options mean in this pool; `said` are the defaults that it does not want."""
        own = command._options
        kind = self._kinds.get((own, said))
        if kind is None:
            values = {**own.values, **dict.fromkeys(said)}
            given = {name: value for name, value in self.defaults.items() if name not in values}
            if "stdin" not in values and "input" not in values and "stdin" not in given:
                given["stdin"] = DEVNULL
            if _LEADS.isdisjoint(values) and _LEADS.isdisjoint(given):
                given["pgid"] = 0
            kind = Kind(own.merged(given) if given else own, self.link is not None)
            if "input" not in values and "on_line" not in values:
                if len(self._kinds) >= _KINDS_MAX:
                    self._kinds.clear()
                self._kinds[own, said] = kind
        return kind

    def run_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of the run of an expression that is no Command."""
        given = {**self.defaults, **options}
        if "stdin" not in given and "input" not in given:
            given["stdin"] = DEVNULL
        if _LEADS.isdisjoint(given):
            given["pgid"] = 0
        return given

    def join(self, channel: Channel) -> None:
        """Have one channel more.

        Raises:
            RuntimeError: as check_usable(); the channel is closed.
        """
        self._channels.add(channel)
        # Whoever closes the pool sets `closed` before he looks at the channels.
        if self.closed:
            channel.close()
            self.check_usable()

    # No lock: a signal handler may close a pool between any two bytecodes of whoever would hold it. Each of the steps
    # may be done twice, and the last of them, which both do, sees what the other has done.

    def leave(self, channel: Channel) -> None:
        """Have one channel less; without any the threads end once the pool is closed."""
        self._channels.discard(channel)
        if self.closed and not self._channels and not self.inert:
            self._close()

    def refuse(self) -> None:
        """Take no more: from now on no channel is made."""
        self.closed = True

    def end(self) -> None:
        """Take no more, and end the threads when no channel is left."""
        self.closed = True
        if not self._channels:
            self._close()

    def _close(self) -> None:
        self.workers.close()
        if self.link is not None:
            self.link.close()

    def channels(self) -> list[Channel]:
        """Those that are open."""
        return list(self._channels.copy())

    def break_off(self, how: int = STOP) -> None:
        """End all tasks of all channels."""
        for channel in self.channels():
            for task in list(channel.records.values()):
                task.cancel(how)
