"""What one consumer of a pool has submitted, and where it comes back.

Plain commands are run by the C core; what needs Python on the way (limits, callbacks, pipelines, kill_tree) gets its
turn from the same queue and is run on the channel's reactor.
Invariant: a task is in `records` from its submission until it is delivered, which happens once.
"""

from __future__ import annotations

import sys
from _thread import RLock
from collections import deque
from itertools import count, starmap

from fastproc import _native, errors
from fastproc._engine import orphans
from fastproc._engine.fds import Opened
from fastproc._engine.reactor import READ, Reactor
from fastproc._engine.resolve import environment, resolve
from fastproc._native.pool import FAILED, FOREIGN, GONE, GRANTED, JOB, PLAIN, QUEUED, Tray, new_ticket
from fastproc._values.loading import loaded
from fastproc._values.plan import STRING_MAX, lower, search
from fastproc.pool._task import KILL, WITHDRAW, failure, plain_outcome, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc._native.pool import Done, Ticket
    from fastproc._values.command import Command
    from fastproc._values.plan import Plan
    from fastproc._values.status import Result
    from fastproc.pool._core import Crew
    from fastproc.pool._retries import Retries
    from fastproc.pool._task import Kind, Task

SLICE_NS = _native.SLICE_NS
PATIENT_NS = 1_000_000_000
"""The longest that a thread stays in C: the main thread, which runs the signal handlers, and others."""

_NOTHING = (b"\0", 1, b"\0", 1, b"\0", 0)


def open_channel(crew: Crew, reactor: Reactor | None = None) -> Channel:
    """Make the channel of one more consumer of a pool, which closes it.

    Args:
        crew: the pool.
        reactor: as of Channel.

    Raises:
        RuntimeError: as `Crew.check_usable()`.
    """
    crew.check_usable()
    channel = Channel(crew, reactor)
    crew.join(channel)
    return channel


class Channel:
    """What one consumer has submitted, and where it comes back.

    Args:
        crew: the pool.
        reactor: where it is waited for; None for one of its own, if that is ever needed.

    Attributes:
        records: the tasks that are not delivered, by key.
        lock: held by whoever drives it.
        waiters: called whenever no record is left.
        closed: whether it takes and gives nothing any more.
    """

    def __init__(self, crew: Crew, reactor: Reactor | None) -> None:
        self.crew = crew
        self.tray = Tray(crew.workers)
        self.records: dict[int, Task] = {}
        self.lock = RLock()
        self.closed = False
        self.waiters: list[Callable[[], object]] = []
        self._serial = count(1)
        # What C has given and is not settled: outlives an interrupt, and is shared with a turn inside of a callback.
        self._arrived: deque[tuple[Done, bytes, bytes]] = deque()
        self._calls: deque[Callable[[], object]] = deque()
        self._own = reactor is None
        self._reactor = reactor
        if reactor is not None:
            reactor.watch(self.tray.fd, READ, self._on_ready)

    @property
    def reactor(self) -> Reactor:
        """Where the runs that Python drives are waited for."""
        reactor = self._reactor
        if reactor is None:
            made = Reactor()
            made.watch(self.tray.fd, READ, self._on_ready)
            # A handler may have made one meanwhile.
            reactor = self._reactor = self._reactor or made
            if reactor is not made:
                made.close()
        return reactor

    # Submitting

    def submit(self, task: Task) -> None:
        """Queue a new task.

        Raises:
            RuntimeError: the pool is closed.
        """
        task.key = next(self._serial)
        try:
            if self.closed:
                raise RuntimeError("this pool is closed")
            self._queue(task, 0)
        except BaseException:
            # An interrupt may come when it is in the queue already, even runs: then it needs what it has.
            if self.crew.workers.cancel(task.ticket, WITHDRAW) in (GONE, QUEUED):
                self.records.pop(task.key, None)
                # Somebody may wait for there being no record left.
                self.wake()
            raise

    def _queue(self, task: Task, delay_ns: int) -> None:
        task.tries += 1
        kind = task.kind
        request = None if kind is None else kind.request
        command: Any = _NOTHING
        if request is not None:
            try:
                command = self._lowered(task, kind)  # type: ignore[arg-type]
            except errors.SpawnError as error:
                self._fail_later(task, error)
                return
        task.held = command
        task.ticket = new_ticket()
        self.tray.submit(self.records, task, request, command, delay_ns)
        if task.asked or self.crew.ending:
            task.cancel(task.asked or self.crew.ending)

    def _fail_later(self, task: Task, error: BaseException) -> None:
        calls = map(self._calls.append, (lambda: self._settle(task, None, error),))
        for _ in zip(map(self.records.__setitem__, (task.key,), (task,)), calls, strict=False):
            pass
        if self.closed:
            # Whoever closes it looks at the records when he has said so.
            raise RuntimeError("this pool is closed")
        self.wake()

    @staticmethod
    def _lowered(task: Task, kind: Kind) -> tuple[bytes, int, bytes, int, bytes, int]:
        command: Command = task.expression  # type: ignore[assignment]
        env = environment()
        blob = command._blob
        if kind.simple and len(blob) <= STRING_MAX and len(env.blob) <= STRING_MAX:
            argv = command._argv
            if "/" in argv[0]:
                paths, npaths = blob, 1
            else:
                paths, npaths, _ = search(blob[: blob.index(0) + 1], env, env)
            sys.audit("subprocess.Popen", argv[0], argv, None, None)
            return paths, npaths, blob, len(argv), env.blob, env.count
        plan = lower(kind.applied(command), env)
        sys.audit("subprocess.Popen", *plan.audited)
        return plan.paths, plan.npaths, plan.argv, plan.argc, plan.env, plan.envc

    # Driving

    def turn(self, want: int = 1, seconds: float | None = None) -> None:
        """Wait until something has happened, for so many seconds at most, and do what follows from it.

        Args:
            want: for how many ends a moment is waited.
            seconds: None for no limit; it may come back early.
        """
        if self._arrived:
            self._take(want, 0)
        elif (reactor := self._reactor) is not None:
            rest = orphans.attend()
            if self._calls:
                seconds = 0.0
            try:
                reactor.run_once(rest if seconds is None else seconds if rest is None else min(rest, seconds))
            except (RuntimeError, LookupError, OSError, ValueError):
                # A signal handler may have closed it together with this channel.
                if not self.closed:
                    raise
        else:
            wait_ns = SLICE_NS if _native.in_main_thread() else PATIENT_NS
            if seconds is not None:
                wait_ns = min(wait_ns, int(seconds * 1e9))
            self._take(want, 0 if self._calls else max(wait_ns, 1))
            if orphans.pending:
                orphans.attend()
        self._run_calls()

    def call(self, function: Callable[[], object]) -> None:
        """Have something called by whoever drives this channel; from any thread."""
        self._calls.append(function)
        self.wake()

    def wake(self) -> None:
        """Have whoever drives this channel look at it."""
        self.tray.ring()

    def _run_calls(self) -> None:
        calls = self._calls
        while calls:
            call: Callable[[], object] | None = None
            begun = False
            try:
                first_one = starmap(calls.popleft, ((),))
                # As in _settle_arrived().
                for call in first_one if calls else ():  # noqa: B007
                    pass
                if call is not None:
                    begun = True
                    call()
            except BaseException:
                if call is not None and not begun:
                    calls.appendleft(call)
                raise

    def _on_ready(self, _ready: int) -> None:
        self._take(1, 0)
        self._run_calls()

    def _take(self, want: int, wait_ns: int) -> bool:
        """Settle what has ended; whether there was any."""
        try:
            if not self._arrived:
                self.tray.take(want, wait_ns, self._arrived)
            found = bool(self._arrived)
            self._settle_arrived()
        except BaseException:
            # The rest is still there.
            self.wake()
            raise
        return found

    def _settle_arrived(self) -> None:
        arrived = self._arrived
        while arrived:
            entry: tuple[Done, bytes, bytes] | None = None
            task: Task | None = None
            ticket = None
            try:
                first_one = starmap(arrived.popleft, ((),))
                # From the look at the queue into the name with no bytecode between: an interrupt finds the entry in one
                # place or the other, and a handler that drives this channel itself takes another one.
                for entry in first_one if arrived else ():  # noqa: B007
                    pass
                if entry is None:
                    return
                done, first, second = entry
                task = self.records.get(done[0])
                ticket = None if task is None else task.ticket
                if task is not None:
                    self._ended(task, done, first, second)
                elif done[3] in (JOB, FAILED) and done[2]:
                    self.tray.recycle(done[2])
            except BaseException as error:
                if entry is not None:
                    task = task or self.records.get(entry[0][0])
                    if task is not None and self.records.get(entry[0][0]) is task and ticket in (None, task.ticket):
                        self._interrupted(task, entry, error)
                raise

    def _ended(self, task: Task, done: Done, first: bytes, second: bytes) -> None:
        what = done[3]
        result: Result | None = None
        error: BaseException | None = None
        if what == PLAIN:
            result, error = plain_outcome(task, done, first, second)
        elif what == GRANTED:
            self._granted(task)
            return
        elif what == FAILED:
            error = failure(task, done[4], done[2])
        else:
            result, error = whole(task, done[2])
        self._settle(task, result, error)

    def _interrupted(self, task: Task, entry: tuple[Done, bytes, bytes], error: BaseException) -> None:
        """A signal handler has raised before a task was settled."""
        what = entry[0][3]
        if what == PLAIN:
            self._arrived.appendleft(entry)
        elif what != GRANTED:
            self.hand_over(task, None, error)
        elif task.running is None and self.crew.workers.cancel(task.ticket, 0) == FOREIGN:
            self.crew.workers.release(task.ticket)
            self.hand_over(task, None, error)

    # What becomes of one

    def _settle(self, task: Task, result: Result | None, error: BaseException | None) -> None:
        held, task.held = task.held, None
        if type(held) is tuple and len(held) == 3:
            held[0].close()
        # What an interrupt has given back already is not tried again.
        if not task.asked and task.key in self.records:
            retries = task.retries or self.crew.retries
            if retries.times and self._is_tried_again(task, retries, result, error):
                return
        self.hand_over(task, result, error)

    def _is_tried_again(self, task: Task, retries: Retries, result: Result | None, error: BaseException | None) -> bool:
        try:
            if not retries.wanted(task.tries, error or result):  # type: ignore[arg-type]
                return False
            from random import random

            delay_ns = int(retries.pause(task.tries, random()) * 1e9)
            self._queue(task, delay_ns)
        except BaseException as broken:
            # The predicate's own, or the pool has ended meanwhile.
            if self.crew.workers.cancel(task.ticket, WITHDRAW) not in (GONE, QUEUED):
                # An interrupt, and the next try is under way.
                raise
            if error is not None and broken.__context__ is None:
                broken.__context__ = error
            self.hand_over(task, None, broken)
            if not isinstance(broken, Exception):
                raise
        return True

    def hand_over(self, task: Task, result: Result | None, error: BaseException | None) -> None:
        """Take a task out of the records and deliver it, once."""
        found: Task | None = None
        try:
            for found in map(self.records.pop, (task.key,), (None,)):  # noqa: B007
                pass
            if found is not None:
                self._deliver(task, result, error)
        except BaseException:
            if found is not None:
                self._deliver(task, result, error)
            raise

    def _deliver(self, task: Task, result: Result | None, error: BaseException | None) -> None:
        crew = self.crew
        if task.asked and (error is not None or result is None or result.killed):
            # What it amounts to is that it was ended.
            task.cancelled = True
            error = None
        if error is not None and crew.fail_fast and crew.failure is None:
            crew.failure = error
            crew.break_off()
        # With an executor, its pickle.
        task.options = None
        task.deliver(task, result, error)
        if self.waiters and not self.records:
            for wake in tuple(self.waiters):
                wake()

    def _granted(self, task: Task) -> None:
        """Run, in Python or by the C core, a task whose turn has come."""
        loaded("fastproc.pool._foreign")
        from fastproc.pool import _foreign

        assert task.ticket is not None
        kind = task.kind
        try:
            if task.asked:
                self.released(task, None, None)
            elif self.crew.link is not None:
                task.running = self.crew.link.begin(task)
            elif kind is None or not kind.in_c:
                task.running = _foreign.begin(task, self.reactor)
                if self.records.get(task.key) is not task:
                    # A signal handler has ended the pool meanwhile.
                    task.break_off()
            else:
                self._open(task, kind, task.ticket)
        except Exception as error:
            self.released(task, None, error)

    def _open(self, task: Task, kind: Kind, ticket: Ticket) -> None:
        """Open the files of a command, and let the C core go on with it."""
        settled = kind.settled
        opened = Opened()
        try:
            plan: Plan = resolve(kind.applied(task.expression), opened)  # type: ignore[arg-type]
            attr, pairs = _native.prepare(settled, plan.fds, stays=True)
            data: bytes = settled.input or b""  # type: ignore[assignment]
            times_ns = settled.timeout_ns, settled.grace_ns, settled.drain_ns
            request = _native.make_request(
                *(attr, plan.stdio, data, times_ns, plan.cwd, plan.cgroup, pairs, len(plan.fds), plan.identity)
            )
            sys.audit("subprocess.Popen", *plan.audited)
            task.held = opened, plan, request
            if self.crew.workers.go(ticket, request, plan) < 0:
                raise RuntimeError("this pool has ended")
        except BaseException:
            # An interrupt may come when the C core has it already.
            if self.crew.workers.cancel(ticket, 0) in (FOREIGN, GONE):
                task.held = None
                opened.close()
            raise
        if task.asked:
            # It was said while nobody had anything to end.
            self.crew.workers.cancel(ticket, task.asked)

    def released(self, task: Task, result: Result | None, error: BaseException | None) -> None:
        """What a task amounts to that Python has run; its place is free."""
        task.running = None
        if task.ticket is not None:
            self.crew.workers.release(task.ticket)
        self._settle(task, result, error)

    def cut_off(self, task: Task, ticket: Ticket | None, error: BaseException) -> None:
        """What an exception amounts to that has halved a run of Python's, or what followed from its end."""
        # Not of a next try.
        if self.records.get(task.key) is task and task.ticket is ticket:
            task.running = None
            if ticket is not None and self.crew.workers.cancel(ticket, 0) == FOREIGN:
                self.crew.workers.release(ticket)
            self.hand_over(task, None, error)

    # Its end

    def finish(self, how: int = KILL) -> None:
        """End what is left of this channel, wait for it, and close it. May be called again after an interrupt."""
        if not self.crew.inert:
            for task in list(self.records.values()):
                task.cancel(how)
            with self.lock:
                while self.records:
                    before = len(self.records)
                    # Not longer: of what this has interrupted nothing may ever come.
                    if self._reactor is not None and self._reactor.halved:
                        # A signal handler within a step of a run that Python drives: that cannot go on meanwhile.
                        for task in list(self.records.values()):
                            task.break_off()
                        self._take(1, SLICE_NS)
                        self._run_calls()
                    else:
                        self.turn(1, SLICE_NS / 1e9)
                    if len(self.records) == before:
                        self.give_up_lost()
        self.close()

    def give_up_lost(self) -> None:
        """Deliver as cancelled what an interrupt has left in the records and nowhere else."""
        self._run_calls()
        lost = [(task, task.ticket) for task in list(self.records.values()) if self._is_gone(task)]
        # The C core does not know either what has ended and was not taken.
        while lost and self._take(1, 0):
            pass
        self._run_calls()
        for task, ticket in lost:
            if task.ticket is ticket and ticket is not None and self._is_gone(task):
                self.crew.workers.release(ticket)
                task.asked = task.asked or KILL
                self.hand_over(task, None, None)

    def _is_gone(self, task: Task) -> bool:
        # One whose turn has come is in the hands of what this has interrupted, if it is not running.
        return task.running is None and self.crew.workers.cancel(task.ticket, 0) in (GONE, FOREIGN)

    def close(self) -> None:
        """Give all back. No task of it is left. Harmless when repeated: what an interrupt has left is done then."""
        self.closed = True
        reactor = self._reactor
        if reactor is not None:
            # Before the descriptor: later its number may be a stranger's.
            reactor.unwatch(self.tray.fd)
            if self._own:
                reactor.close()
            self._reactor = None
        if not self.crew.inert:
            self.tray.close()
        # The last: whoever ends the pool looks at those that it has.
        self.crew.leave(self)
