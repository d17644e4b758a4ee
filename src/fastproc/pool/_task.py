"""One command or pipeline of a pool, from its submission to its end; and what options mean for all that have them."""

from __future__ import annotations

from fastproc import _native, _run, errors
from fastproc._engine.resolve import environment
from fastproc._native.pool import FOREIGN, QUEUED, RUNNING
from fastproc._values.command import Command
from fastproc._values.plan import lower, settle_options
from fastproc._values.redirect import PIPE
from fastproc._values.status import CORE_DUMPED, TIMED_OUT, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from typing import Any, Protocol

    from fastproc._native.pool import Done, Ticket, Tray, Workers
    from fastproc._values.command import Expression
    from fastproc._values.options import Options
    from fastproc.pool._retries import Retries

    class Crew(Protocol):
        """The part of a crew that its tasks use."""

        @property
        def workers(self) -> Workers: ...

    class Channel(Protocol):
        """The part of a channel that its tasks, and what runs them, use."""

        _calls: deque[Callable[[], object]]

        @property
        def crew(self) -> Crew: ...
        @property
        def tray(self) -> Tray: ...
        def call(self, function: Callable[[], object]) -> None: ...
        def wake(self) -> None: ...
        def hand_over(self, task: Task, result: Result | None, error: BaseException | None) -> None: ...
        def released(self, task: Task, result: Result | None, error: BaseException | None) -> None: ...
        def cut_off(self, task: Task, ticket: Ticket | None, error: BaseException) -> None: ...


STOP = 1
KILL = 2
WITHDRAW = -1
"""How a task is ended: as its deadline would, or at once; or only if it has not begun."""

_new = object.__new__
_MECHANISMS = _native.MECHANISMS
_BEST = _native.BEST_MECHANISMS
_NONE_REFUSED: dict[str, str] = {}


class Kind:
    """What one set of options means for all commands that have it.

    Attributes:
        options: the command's with the pool's defaults.
        settled: what they mean.
        in_c: whether the C core runs them.
        request: for the C core; None where files have to be opened first.
        simple: whether a command needs no Plan.
        out, err: whether the stream is captured.
    """

    __slots__ = ("err", "in_c", "options", "out", "request", "settled", "simple")

    def __init__(self, options: Options, remote: bool = False) -> None:
        self.options = options
        settled = self.settled = settle_options(options)
        forced: str = _run._FORCED_ENGINE
        self.in_c = not (settled.exchanged or settled.composed or settled.identity or forced == "exchange" or remote)
        self.request = None
        self.simple = settled.same_environment and settled.argv0 is None and not settled.relative_to_parent
        self.out = settled.streams[1] is PIPE
        self.err = settled.streams[2] is PIPE
        if self.in_c and not settled.needs_io:
            attr, pairs = _native.prepare(settled, settled.fds, stays=True)
            data: bytes = settled.input or b""  # type: ignore[assignment]
            times_ns = settled.timeout_ns, settled.grace_ns, settled.drain_ns
            assert settled.stdio is not None
            assert settled.fds is not None
            self.request = _native.make_request(
                *(attr, settled.stdio, data, times_ns, settled.cwd_fd, settled.cgroup_fd, pairs, len(settled.fds))
            )

    def applied(self, command: Command) -> Command:
        """Return the command with these options."""
        new = _new(Command)
        new._argv = command._argv
        new._blob = command._blob
        new._options = self.options
        new._plan = new._hash = None
        return new


class Task:
    """One command or pipeline of a pool, from its submission to its end.

    Attributes:
        channel: where it comes back.
        expression: what to run, as it was given; kind: of a Command.
        options: of the run of an expression that is no Command; for an executor the pickle of both.
        lost: the executor's workers that held it and were lost.
        deliver: called with the task, its Result or None, and its exception or None.
        cancelled: whether it was delivered as cancelled: with the Result up to then if it ran.
        priority, retries: as given.
        tries: how often it was started.
        asked: 0, or how it is to be ended.
        key, ticket: what the channel and the C core know it by.
        held: what must live while it runs.
        running: the run that the channel's reactor drives.
    """

    __slots__ = (
        *(
            "asked",
            "cancelled",
            "channel",
            "deliver",
            "expression",
            "held",
            "key",
            "kind",
            "lost",
            "options",
            "priority",
            "retries",
        ),
        *("running", "ticket", "tries"),
    )

    def __init__(
        self,
        channel: Channel,
        expression: Expression,
        kind: Kind | None,
        options: Any,
        priority: int,
        retries: Retries | None,
        deliver: Callable[[Task, Result | None, BaseException | None], object],
    ) -> None:
        self.channel = channel
        self.expression = expression
        self.kind = kind
        self.options = options
        self.priority = priority
        self.retries = retries
        self.deliver = deliver
        self.tries = 0
        self.asked = 0
        self.cancelled = False
        self.lost: tuple[str, ...] = ()
        self.key = 0
        self.ticket: Ticket | None = None
        self.held: object = None
        self.running: Any = None

    def cancel(self, how: int = STOP) -> None:
        """End it; from any thread and from signal handlers. It is delivered by whoever drives its channel."""
        self.asked = max(self.asked, how)
        self._cancel(how)

    def withdraw(self) -> None:
        """End it if it has not begun."""
        self._cancel(WITHDRAW)

    def _cancel(self, how: int) -> None:
        channel = self.channel
        calls = channel._calls
        # What follows from what the task was: one that the C core takes out of its queue comes to the channel in the
        # same call, with no bytecode between at which a signal handler could wait for it.
        follows = {QUEUED: self._taken_out, FOREIGN: self.stop_running} if how > 0 else {QUEUED: self._taken_out}
        found = filter(None, map(follows.get, channel.crew.workers.cancelling(self.ticket, how)))
        calls.extend(found)
        if calls:
            channel.wake()

    def _taken_out(self) -> None:
        channel = self.channel
        self.asked = self.asked or STOP
        try:
            channel.hand_over(self, None, None)
        finally:
            # Whatever a callback raises: others wait for there being no record left.
            channel.wake()

    def stop_running(self) -> None:
        """End what the reactor drives."""
        if self.running is not None:
            self.running.end(self.asked)

    def break_off(self) -> None:
        """End what the reactor drives at once, where it stands."""
        running = self.running
        if running is not None and hasattr(running, "break_off"):
            running.break_off()
            self.asked = KILL
            self.channel.released(self, None, None)

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.channel.crew.workers.cancel(self.ticket, 0) in (RUNNING, FOREIGN)


def plain_outcome(task: Task, done: Done, first: bytes, second: bytes) -> tuple[Result, BaseException | None]:
    """The Result of a task of which all came with its record, and the exception that it amounts to."""
    _, _, _, _, _, _, _, returncode, flags, core, _, pid, mechanism, duration_ns, _, _, _, usage = done
    kind: Kind = task.kind  # type: ignore[assignment]
    settled = kind.settled
    result = _new(Result)
    result.argv = task.expression._argv  # type: ignore[attr-defined]
    result.returncode = returncode
    if settled.swapped:
        first, second = second, first
    result.stdout = first if kind.out else None
    result.stderr = second if kind.err else None
    result.pid = pid
    result.mechanism = name = _MECHANISMS[mechanism]
    result.mechanism_refused = _NONE_REFUSED if name in _BEST else _native.refused()
    result._duration_ns = duration_ns
    result._usage = usage
    result._flags = flags | CORE_DUMPED if core else flags
    result._ok_codes = settled.ok_codes
    if flags & TIMED_OUT:
        return result, errors.timeout_expired(result.argv, settled.timeout_ns / 1e9, result)
    if settled.check and returncode not in settled.ok_codes:
        return result, errors.exit_error(result)
    return result, None


def failure(task: Task, code: int, address: int) -> BaseException:
    """Make the error of a task that could not be started."""
    assert task.kind is not None
    tray = task.channel.tray
    try:
        plan = task.held[1] if len(task.held) == 3 else lower(task.kind.applied(task.expression), environment())  # type: ignore[arg-type, index]
        return tray.failure(plan, code, address)
    finally:
        if address:
            tray.recycle(address)


def whole(task: Task, address: int) -> tuple[Result | None, BaseException | None]:
    """What became of a task whose job has more to it than a record holds."""
    tray = task.channel.tray
    job = tray.job(address)
    assert task.kind is not None
    try:
        return _run._finish(task.expression._argv, task.kind.settled, job, id), None  # type: ignore[attr-defined]
    except (errors.ProcessError, OSError) as error:
        return getattr(error, "result", None), error
    finally:
        tray.recycle(address)
