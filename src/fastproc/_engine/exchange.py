"""One child, its streams and its deadlines on a reactor: feeds, collects, stops, waits, until it is done.

Binds a Process to a Reactor by the table in _values/lifecycle.py: readiness becomes an event, an action a call. The C
core's fp_run() gives the same results; this is its reference, and does what it cannot. A whole run: running.py.
Invariant: whatever happens, after `finish` nothing of the exchange is left with the reactor.
"""

from __future__ import annotations

from time import monotonic, monotonic_ns

from fastproc import _native, errors
from fastproc._engine.fds import NOT_HELD, STDERR, STDIN, STDOUT
from fastproc._engine.job_control import PAUSE_FIRST, PAUSE_MAX
from fastproc._engine.reactor import READ, WRITE
from fastproc._engine.signal_api import HELD_EVERY, SIGKILL, SIGTERM, SWEEP_MAX, TREE_PATIENCE
from fastproc._engine.streams.collect import Collecting
from fastproc._engine.streams.feeder import Feeder
from fastproc._values import lifecycle
from fastproc._values.status import KILLED, TERMINATED, TIMED_OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastproc._engine.process import Process
    from fastproc._engine.reactor import Reactor, Timer
    from fastproc._engine.streams.sink import Capture
    from fastproc._engine.streams.tee import Copies

HELD_BY_OTHERS = _native.HELD_BY_OTHERS_SECONDS
"""Seconds after a deadline in which the pipes of a dead child must be closed by others too."""


class Exchange(Collecting):
    """What happens between the spawn of one child and its result.

    Nothing here blocks: who drives the reactor, drives this.

    Args:
        process: the handle; its child need not exist before `open`.
        reactor: where everything is waited for.
        source: what is fed to its stdin, if that is a pipe.
        deadline: monotonic instant at which the child is stopped; None for never.
        grace: seconds from SIGTERM to SIGKILL; 0 for SIGKILL at once.
        drain_timeout: seconds to wait, after the child's end, for pipes that others still hold; None for no limit.
        on_done: called once, with this exchange, when it is done.
        captures: what is done with an output, by its number; what is not here is kept whole.
        idle_timeout: seconds without output after which the child is stopped; None for any.

    Attributes:
        process: the handle.
        state: of the lifecycle table.
        flags: TIMED_OUT, TERMINATED, KILLED, PIPES_OPEN of _values/status.py.
        deadline: as given.
        started_ns, ended_ns: monotonic nanoseconds at which the exchange was made and the child was reaped.
        on_done: as given; taken away when it is called.
        silent: whether it was stopped because of idle_timeout.
        overflowed: the first output that passed a limit with which the child is stopped.
        holders: pids of others that held the outputs when they were given up.
    """

    __slots__ = (
        "__weakref__",
        "_chunks",
        "_drain_timeout",
        "_feeder",
        "_grace",
        "_held",
        "_idle_timeout",
        "_killed",
        "_open",
        "_pause",
        "_reactor",
        "_sizes",
        "_source",
        "_timers",
        "captures",
        "deadline",
        "ended_ns",
        "on_done",
        "process",
        "silent",
        "started_ns",
        "state",
    )

    def __init__(
        self,
        process: Process,
        reactor: Reactor,
        *,
        source: bytes | Iterable[bytes] | None = None,
        deadline: float | None = None,
        grace: float = 0.1,
        drain_timeout: float | None = 1.0,
        on_done: Callable[[Exchange], object] | None = None,
        captures: dict[int, Capture] | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        self.process: Process = process
        self.state = lifecycle.RUNNING
        self.flags = 0
        self._reactor = reactor
        self._source = source
        self._feeder = Feeder(source)
        self.deadline = deadline
        self.started_ns = self.ended_ns = 0
        self._grace = grace
        self._drain_timeout: float | None = drain_timeout
        self.on_done = on_done
        self.captures = captures or {}
        self._idle_timeout = idle_timeout
        self._copies: Copies | None = None
        self._heard = self._killed = 0.0
        self.silent = False
        self.overflowed: Capture | None = None
        self.holders: tuple[int, ...] = ()
        # Streams that are still watched: number of the stream -> descriptor.
        self._open: dict[int, int] = {}
        self._chunks: dict[int, list[bytes]] = {}
        self._sizes = {STDOUT: 0, STDERR: 0}
        self._timers: dict[str, Timer] = {}
        self._held = NOT_HELD
        self._pause = PAUSE_FIRST
        # Whether all is done but the end of the rest of its tree, and of the copies.
        self._ending = False

    @property
    def done(self) -> bool:
        """Whether the child is reaped, its streams are closed, and nothing is left with the reactor."""
        return self.state is lifecycle.DONE and not self._ending

    @property
    def input_failed(self) -> bool:
        """Whether the iterator that gives the input has raised."""
        return self._feeder.failed

    def open(self) -> None:
        """Begin, once the child exists."""
        ends = self.process.ends
        if not ends[STDIN].closed:
            if ends.terminal is not None and ends.terminal.on_stdin:
                self._feeder = Feeder(ends.terminal.input(self._source))
            self._watch(STDIN, WRITE, self._on_stdin)
        self._watch_child()
        if self.deadline is not None:
            self._arm("deadline", self.deadline, self._on_deadline)
        if self._idle_timeout is not None:
            self._heard = monotonic()
            self._arm("idle", self._heard + self._idle_timeout, self._on_idle)
        if self.process.late:
            self._step(lifecycle.DEADLINE_KILL)

    def _watch_child(self) -> None:
        """Watch its outputs and its end. May be interrupted anywhere and then be called again."""
        for stream in (STDOUT, STDERR):
            if not self.process.ends[stream].closed:
                self._chunks.setdefault(stream, [])
                self._watch(stream, READ, lambda _, stream=stream: self._read(stream))  # type: ignore[misc]
        if not self._chunks and self.state is lifecycle.RUNNING:
            self.state = lifecycle.begin(False)
        if self._held == NOT_HELD:
            self._held = self.process.hold()
        if self._held >= 0:
            self._reactor.watch(self._held, READ, self._on_exit)
        else:
            self._look_again()

    def stop(self) -> None:
        """Ask the child to end: SIGTERM, SIGKILL when the grace is over."""
        self._hurry()
        self._step(lifecycle.STOP if self._grace > 0.0 else lifecycle.KILL)

    def kill(self) -> None:
        """End the child at once, feed it no more, and go on to the end of everything."""
        fd = self._open.pop(STDIN, None)
        if fd is not None:
            # Not closed yet: its end would tell the child that it has had it all.
            self._reactor.unwatch(fd)
        for capture in self.captures.values():
            capture.quiet = True
        self._hurry()
        self._step(lifecycle.KILL)

    def forsake(self) -> None:
        """Leave a child that does not die, or may not be killed: a later spawn reaps it. Done with this."""
        for stream in (STDOUT, STDERR):
            self._take_rest(stream)
        self.state = lifecycle.DONE
        self._ending = False
        self.process.detach()
        self._release()
        self._drop_copies()
        self._report()

    def abort(self, patience: float = 0.0) -> None:
        """Leave at once: kill and reap the child, forget everything. For errors on their way to the caller.

        Args:
            patience: seconds in which the child may end by itself before it is killed.
        """
        try:
            try:
                self.on_done = None
                for capture in self.captures.values():
                    capture.quiet = True
                self.process.adopt()
                if self.process.pid > 0 and patience > 0.0:
                    self._linger(monotonic() + patience)
            finally:
                self._give_up()
        finally:
            # Again, also after another Ctrl-C: what stays with the reactor would be called in the thread's next run.
            self._give_up()

    def cut_off(self) -> None:
        """As abort(), after the rest of the outputs; runs no reactor. For what a signal handler has raised anywhere.

        It may have come in the middle of a step, so that the end of the child would be reported to nobody.
        """
        try:
            if self.process.final is None:
                self.process.signal_tree(SIGKILL)
                self.flags |= KILLED
                self.process.await_death()
            for stream in (STDOUT, STDERR):
                self._take_rest(stream)
        except Exception:
            # It may not be killed (kill(2)), is held, or has ended nobody knows how: what is left is abort()'s.
            pass
        finally:
            self.abort()

    def _give_up(self) -> None:
        try:
            self._release()
            self._drop_copies()
        finally:
            if self.process.abandon():
                self.flags |= KILLED
            self.state = lifecycle.DONE
            self._ending = False

    def _linger(self, until: float) -> None:
        """Go on collecting, but not feeding. Stdin stays open: its end would tell the child that it has had it all."""
        fd = self._open.pop(STDIN, None)
        if fd is not None:
            self._reactor.unwatch(fd)
        if self.process.final is None:
            # Perhaps interrupted in `open`, or before it, while the program runs and has said something.
            self._watch_child()
        try:
            while not self.done and self.process.final is None and (left := until - monotonic()) > 0.0:
                self._reactor.run_once(left)
        except Exception:
            # Interrupted in the middle it cannot go on; the error on its way to the caller is the one to tell.
            pass
        for stream in (STDOUT, STDERR):
            self._take_rest(stream)

    # -- what the reactor reports

    def _on_stdin(self, _ready: int) -> None:
        if self._feeder.write(self._open[STDIN]):
            self._close(STDIN)

    def _on_exit(self, _ready: int) -> None:
        """The pidfd is readable, or it is time to look."""
        try:
            code = self.process.poll()
        except errors.ExitStatusUnknown:
            code = 0
        if code is not None:
            self.ended_ns = monotonic_ns()
            self._let_go()
            self._step(lifecycle.EXITED)
            return
        # Readable with nothing to reap, under a tracer: looked at by a timer, never spun on (GOTCHAS D6).
        self._reactor.unwatch(self._held)
        self._look_again()

    def _look_again(self) -> None:
        self._arm("look", monotonic() + self._pause, lambda: self._on_exit(READ))
        self._pause = min(self._pause * 2.0, PAUSE_MAX)

    def _on_deadline(self) -> None:
        self._step(lifecycle.DEADLINE if self._grace > 0.0 else lifecycle.DEADLINE_KILL)

    def _on_idle(self) -> None:
        assert self._idle_timeout is not None
        if self._copies is not None and self._copies.full:
            # It may be speaking: we do not listen.
            self._heard = monotonic()
        due = self._heard + self._idle_timeout
        if monotonic() < due:
            self._arm("idle", due, self._on_idle)
        elif self.state in (lifecycle.RUNNING, lifecycle.RUNNING_CLOSED):
            self.silent = True
            self._on_deadline()

    # -- what the table asks for

    def _step(self, event: str) -> None:
        self.state, actions = lifecycle.step(self.state, event)
        for action in actions:
            _ACTIONS[action](self)

    def _terminate(self) -> None:
        self._ask_no_more()
        self.process.signal_tree(SIGTERM)
        self.flags |= TERMINATED

    def _kill(self) -> None:
        self._ask_no_more()
        self.process.signal_tree(SIGKILL)
        self.flags |= KILLED
        self._killed = monotonic()
        self._arm("death", self._killed + HELD_EVERY, self._on_held)

    def _on_held(self) -> None:
        """Killed, and still there: what holds it, a tracer or a file system, must not hold up others."""
        if self.process.final is None:
            if self.process.is_held(self._killed):
                self.forsake()
            else:
                self._arm("death", monotonic() + HELD_EVERY, self._on_held)

    def _ask_no_more(self) -> None:
        """Leave an iterator alone from now on: it could hold up the SIGKILL. The pipe stays open, as in `_linger`."""
        if self._feeder.asks and STDIN in self._open:
            self._reactor.unwatch(self._open[STDIN])

    def _note_timed_out(self) -> None:
        self.flags |= TIMED_OUT

    def _arm_grace(self) -> None:
        self._arm("grace", monotonic() + self._grace, lambda: self._step(lifecycle.GRACE_OVER))

    def _disarm_grace(self) -> None:
        if "grace" in self._timers:
            self._timers.pop("grace").cancel()

    def _arm_drain_short(self) -> None:
        wanted = self._drain_timeout
        self._arm_drain_for(HELD_BY_OTHERS if wanted is None else min(wanted, HELD_BY_OTHERS))

    def _arm_drain_for(self, seconds: float | None) -> None:
        if seconds is not None:
            self._arm("drain", monotonic() + seconds, lambda: self._step(lifecycle.DRAIN_OVER))

    def _finish(self) -> None:
        self._release()
        self._end_tree(monotonic() + TREE_PATIENCE)

    def _end_tree(self, until: float) -> None:
        """Nothing of a contained tree outlives its run."""
        self._ending = not self.process.sweep_tree(monotonic() >= until)
        if self._ending:
            self._arm("tree", monotonic() + SWEEP_MAX, lambda: self._end_tree(until))
            return
        late = bool(self.flags & TIMED_OUT)
        self._ending = self._copies is not None and self._copies.end(self.deadline, late, self._end_copies)
        if not self._ending:
            self._report()

    def _report(self) -> None:
        self.process.ends.close()
        callback, self.on_done = self.on_done, None
        if callback is not None:
            callback(self)

    # -- with the reactor

    def _watch(self, stream: int, events: int, callback: Callable[[int], object]) -> None:
        fd = self.process.ends[stream].number
        self._open[stream] = fd
        self._reactor.watch(fd, events, callback)

    def _close(self, stream: int) -> None:
        fd = self._open.pop(stream, None)
        if fd is not None:
            self._reactor.unwatch(fd)
            self.process.ends[stream].close()

    def _arm(self, name: str, when: float, callback: Callable[[], object]) -> None:
        self._timers[name] = self._reactor.call_at(when, callback)

    def _release(self) -> None:
        """Leave nothing with the reactor. May be called again."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for fd in self._open.values():
            self._reactor.unwatch(fd)
        self._open.clear()
        self._let_go()

    def _let_go(self) -> None:
        """The pidfd is not needed any more. May be interrupted anywhere and then be called again."""
        held = self._held
        if held != NOT_HELD:
            self._reactor.unwatch(held)
            self._held = NOT_HELD
            self.process.release()


_ACTIONS: dict[str, Callable[[Exchange], None]] = {
    lifecycle.SIGNAL_TERM: Exchange._terminate,
    lifecycle.SIGNAL_KILL: Exchange._kill,
    lifecycle.NOTE_TIMED_OUT: Exchange._note_timed_out,
    lifecycle.ARM_GRACE: Exchange._arm_grace,
    lifecycle.DISARM_GRACE: Exchange._disarm_grace,
    lifecycle.CLOSE_STDIN: lambda exchange: exchange._close(STDIN),
    lifecycle.ARM_DRAIN: lambda exchange: exchange._arm_drain_for(exchange._drain_timeout),
    lifecycle.ARM_DRAIN_SHORT: Exchange._arm_drain_short,
    lifecycle.CLOSE_OUTPUTS: Exchange._close_outputs,
    lifecycle.FINISH: Exchange._finish,
}
