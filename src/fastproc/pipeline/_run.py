"""One running expression on a reactor: n children, their pipes, captured outputs, deadlines, until it is done.

What an Exchange is for one child, by the same lifecycle table: EXITED means that no child is left and none will be
started, a signal goes to every child. Which child is started when, with which streams, is in nodes.py.
Invariant: whatever happens, after the end no child, descriptor, watch or timer of it is left.
"""

from __future__ import annotations

from time import monotonic, monotonic_ns

from fastproc import errors
from fastproc._engine.exchange import HELD_BY_OTHERS
from fastproc._engine.exit_watch import ExitWatch
from fastproc._engine.signal_api import ABANDON_LIMIT, HELD_EVERY, SIGKILL, SIGTERM, SWEEP_MAX, TREE_PATIENCE
from fastproc._values import lifecycle
from fastproc._values.checks import IDENTITY
from fastproc._values.combination import leaves
from fastproc._values.status import KILLED, PIPES_OPEN, TERMINATED, TIMED_OUT
from fastproc.pipeline._member import Child
from fastproc.pipeline._nodes import OUTSIDE, make_node
from fastproc.pipeline._plumbing import Plumbing
from fastproc.pipeline._result import SIGPIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.process import Process
    from fastproc._engine.reactor import Reactor, Timer
    from fastproc._engine.streams.sink import Capture
    from fastproc._values.command import Command, Expression
    from fastproc.pipeline._member import Settings
    from fastproc.pipeline._nodes import Node
    from fastproc.pipeline._result import Outcome

_OPEN_STATES = (lifecycle.RUNNING, lifecycle.STOPPING, lifecycle.KILLING, lifecycle.DRAINING)


class Run:
    """What happens between the start of an expression's first command and its result.

    Nothing here blocks, but for what is opened and started: who drives the reactor, drives this.

    Args:
        expression: what to run.
        reactor: where everything is waited for.
        settings: of the whole.
        on_done: called once, with this, when it is done.

    Attributes:
        children: all that were started.
        state, flags, started_ns, ended_ns, on_done: as an Exchange has them.
        error: what broke the run off from inside, to be raised with its result.
        stopping: whether no further command is started.
        entered: whether a `with` block of the handle was entered, so that dropped children are killed.
        silent: whether it was stopped because of idle_timeout.
        overflowed: the first output that passed a limit with which the run is stopped.
        plumbing: its pipes.
        first: the first command, for messages.
        on_started: called with each process that is started from now on.
    """

    __slots__ = (
        *("__weakref__", "_ending", "_exited", "_killed", "_leader", "_places", "_root", "_timers"),
        *("_unstarted", "children", "ended_ns", "entered", "error", "expression", "first", "flags", "on_done"),
        *("on_started", "overflowed", "plumbing", "reactor", "settings", "silent", "started_ns", "state", "stopping"),
    )

    def __init__(
        self,
        expression: Expression,
        reactor: Reactor,
        settings: Settings,
        on_done: Callable[[Run], object] | None = None,
    ) -> None:
        self.expression = expression
        self.settings = settings
        self.state = lifecycle.RUNNING
        self.flags = 0
        self.children: list[Child] = []
        self.error: BaseException | None = None
        self.stopping = False
        self.silent = False
        self.overflowed: Capture | None = None
        self.plumbing = Plumbing(reactor, settings.keeping, self.look_at_streams, self._on_over, self.fail)
        self._leader = 0
        self.reactor = reactor
        self.on_done = on_done
        self.on_started: list[Callable[[Process], object]] = []
        self.started_ns = monotonic_ns()
        self.ended_ns = 0
        self._exited = False
        self._killed = 0.0
        # Whether all is done but the end of the copies, and of what is left of the stages' trees.
        self._ending = False
        self._timers: dict[str, Timer] = {}
        commands = list(leaves(expression))
        self.first = commands[0]
        self._unstarted = len(commands)
        self._places = 0
        self.entered = False
        self._root = make_node(self, expression, self._on_root)

    @property
    def done(self) -> bool:
        """Whether no child is left, all outputs are closed, and nothing is left with the reactor."""
        return self.state is lifecycle.DONE and not self._ending

    def open(self) -> None:
        """Start what is to be started first.

        Raises:
            SpawnError: a command could not be started; those before it have been killed and reaped.
            BaseException: of a signal handler; to abort is then left to the caller, who may know of a better end.
        """
        settings = self.settings
        self.state = lifecycle.begin(True)
        if settings.deadline is not None:
            self._arm("deadline", settings.deadline, self._on_deadline)
        if settings.idle_timeout is not None:
            self._arm("idle", monotonic() + settings.idle_timeout, self._on_idle)
        try:
            self._root.start(OUTSIDE)
            self.look_at_streams()
        except Exception:
            self.abort()
            raise

    def stop(self) -> None:
        """Ask every child to end: SIGTERM, SIGKILL when the grace is over. No further command is started."""
        self.plumbing.hurry()
        if not self.done:
            self._step(lifecycle.STOP if self.settings.grace > 0.0 else lifecycle.KILL)

    def send_signal(self, sig: int) -> None:
        """Send a signal to every child that runs, and to the trees of commands with kill_tree=True. From any thread.

        Raises:
            PermissionError: one of them runs as another user; the others got it.
        """
        refused = None
        for child in list(self.children):
            if child.alive or (child.process.pid > 0 and child.process.tree is not None):
                try:
                    child.process.signal_tree(sig)
                except PermissionError as error:
                    refused = error
        if refused is not None:
            raise refused

    def kill(self) -> None:
        """End every child at once, feed them no more, and go on to the end of everything."""
        self.plumbing.pause_feeding()
        self.plumbing.be_quiet()
        self.plumbing.hurry()
        if not self.done:
            self._step(lifecycle.KILL)

    def forsake(self) -> None:
        """Leave children that do not die, or may not be killed: a later spawn reaps them. Done with this."""
        self.state = lifecycle.DONE
        for child in self.children:
            child.left = child.alive
        self._ending = False
        self.release()
        for child in self.children:
            child.process.orphan()
        self._report()

    def abort(self, patience: float = 0.0) -> None:
        """Leave at once: kill and reap the children, forget everything. For errors on their way to the caller.

        Args:
            patience: seconds in which the children may end by themselves before they are killed.
        """
        # Twice: what an interrupt leaves in the first is done in the second.
        try:
            try:
                if patience > 0.0:
                    self._linger(monotonic() + patience)
            finally:
                self._abandon()
        finally:
            self._abandon()

    def enter(self) -> None:
        """Have the children killed that are dropped: an interrupt can come before the end of a block has begun."""
        self.entered = True
        for child in list(self.children):
            child.process.__enter__()

    # Each of these may be interrupted anywhere, and is then called again.

    def _linger(self, until: float) -> None:
        """Let the children end by themselves until a monotonic instant, and read what they write."""
        self._be_left()
        self.plumbing.pause_feeding()
        try:
            while not self.done and any(child.alive for child in self.children) and (left := until - monotonic()) > 0.0:
                self.reactor.run_once(min(left, HELD_EVERY))
        except Exception:
            # Interrupted in the middle it cannot go on; the exception on its way to the caller is the one to tell.
            pass

    def _abandon(self) -> None:
        """Kill and reap the children, forget everything."""
        self._be_left()
        self.release()
        live = [child.process for child in self.children if child.process.final is None]
        # All of them first, so that they die side by side; then each is reaped.
        try:
            if live:
                self.flags |= KILLED
            self.send_signal(SIGKILL)
        except (OSError, errors.ProcessError):
            # The error on its way to the caller is the one to tell.
            pass
        until = monotonic() + ABANDON_LIMIT
        for process in live:
            if monotonic() < until:
                process.abandon()
            else:
                process.detach()
        for child in self.children:
            child.process.end_tree(max(0.0, until - monotonic()))
        # No child is left, or not in our hands.
        self._ending = False
        self.ended_ns = self.ended_ns or monotonic_ns()
        self.state = lifecycle.DONE

    def _be_left(self) -> None:
        """Start nothing more, and call nobody."""
        self.stopping = True
        self.on_done = None
        self._unstarted = 0
        self.plumbing.be_quiet()

    # -- for the nodes

    def new_place(self) -> int:
        """Return the place of the next command of the expression."""
        self._places += 1
        return self._places - 1

    def new_child(self, command: Command, place: int) -> Child:
        """Return the Child of a command that is about to be started."""
        child = Child(command, place)
        self.children.append(child)
        return child

    def grouped(self, command: Command) -> Command:
        """Return a command that joins the run's process group, or leads it; as it is where none is asked for."""
        values = command._options.values
        if not self.settings.group or "pgid" in values or values.get("setsid", not IDENTITY.isdisjoint(values)):
            return command
        # The group lasts as long as a member is unreaped, even when the one who gave it its number is not.
        self._leader = self._leader if any(child.alive for child in self.children) else 0
        return command.options(pgid=self._leader)

    def started(self, child: Child, on_end: Callable[[Child], object]) -> None:
        """Watch a child that has just been started."""
        self._unstarted -= 1
        self._leader = self._leader or child.process.pid

        def ended(_process: Process) -> None:
            child.ended_ns = monotonic_ns()
            on_end(child)
            self._look_broken()

        if self.entered:
            child.process.__enter__()
        child.watch = ExitWatch(child.process, self.reactor, ended)
        child.watch.begin()
        for tell in self.on_started:
            tell(child.process)

    def skipped(self, expression: Expression) -> None:
        """Take note that an expression will not be started."""
        self._unstarted -= sum(1 for _ in leaves(expression))
        self.look_at_streams()

    def lost_reader(self, place: int) -> bool:
        """Whether the command at a place ended by SIGPIPE as its reader had gone, and that is accepted."""
        return any(child.place == place and self.broken_pipe(child) for child in self.children)

    def fail(self, error: BaseException) -> None:
        """Break off from inside: what is running is killed, and the error is there to be raised."""
        self.error = self.error or error
        self._unstarted = 0
        self._step(lifecycle.KILL)
        self._look_broken()

    def look_at_streams(self) -> None:
        """Find out whether no output can come any more."""
        if self._unstarted > 0 or self.done:
            return
        self.plumbing.no_more()
        if not self.plumbing.open and self.state in _OPEN_STATES:
            self._step(lifecycle.STREAMS_CLOSED)

    # -- what happens

    def _on_root(self, _node: Node) -> None:
        if self._exited or self.done:
            return
        self._exited = True
        self._unstarted = 0
        self.ended_ns = monotonic_ns()
        self._step(lifecycle.EXITED)
        self.look_at_streams()

    def _look_broken(self) -> None:
        """After an internal failure the run ends when its children have ended; the expression tree never completes."""
        if self.error is not None and not any(child.alive for child in self.children):
            self._on_root(self._root)

    def _on_over(self, capture: Capture) -> None:
        if self.overflowed is None:
            self.overflowed = capture
            self.stop()

    def _on_deadline(self) -> None:
        self._step(lifecycle.DEADLINE if self.settings.grace > 0.0 else lifecycle.DEADLINE_KILL)

    def _on_idle(self) -> None:
        limit = self.settings.idle_timeout
        assert limit is not None
        if self.plumbing.holds_back:
            # It may be speaking: we do not listen.
            self.plumbing.heard = monotonic()
        due = self.plumbing.heard + limit
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
        self._begin_to_stop()
        self.flags |= TERMINATED
        self._signal(SIGTERM)

    def _kill(self) -> None:
        self._begin_to_stop()
        self.flags |= KILLED
        self._signal(SIGKILL)
        self._killed = monotonic()
        self._arm("death", self._killed + HELD_EVERY, self._on_held)

    def _on_held(self) -> None:
        """Killed, and still there: what holds them, a tracer or a file system, must not hold up us."""
        alive = [child.process for child in self.children if child.alive]
        if alive and all(process.is_held(self._killed) for process in alive):
            self.forsake()
        elif alive:
            self._arm("death", monotonic() + HELD_EVERY, self._on_held)

    def _begin_to_stop(self) -> None:
        self.stopping = True
        # An iterator could hold up the SIGKILL. Its pipe stays open: the end would tell the reader that it has had all.
        self.plumbing.pause_feeding()

    def _signal(self, sig: int) -> None:
        try:
            self.send_signal(sig)
        except PermissionError as error:
            # It runs as another user by now (set-user-ID, kill(2)): waiting on might be for ever.
            self.error = self.error or error
            if sig == SIGKILL:
                raise

    def _note_timed_out(self) -> None:
        self.flags |= TIMED_OUT

    def _arm_grace(self) -> None:
        self._arm("grace", monotonic() + self.settings.grace, lambda: self._step(lifecycle.GRACE_OVER))

    def _disarm_grace(self) -> None:
        timer = self._timers.pop("grace", None)
        if timer is not None:
            timer.cancel()

    def _arm_drain_short(self) -> None:
        wanted = self.settings.drain_timeout
        self._arm_drain_for(HELD_BY_OTHERS if wanted is None else min(wanted, HELD_BY_OTHERS))

    def _arm_drain_for(self, seconds: float | None) -> None:
        if seconds is not None:
            self._arm("drain", monotonic() + seconds, lambda: self._step(lifecycle.DRAIN_OVER))

    def _close_outputs(self) -> None:
        if self.plumbing.give_up():
            self.flags |= PIPES_OPEN

    def _finish(self) -> None:
        late = bool(self.flags & TIMED_OUT)
        self._ending = self.plumbing.end_copies(self.settings.deadline, late, self._end)
        if not self._ending:
            self._end(given_up=False)

    def _end(self, given_up: bool) -> None:
        if given_up:
            self._note_timed_out()
        self.release()
        self._end_trees(monotonic() + TREE_PATIENCE)

    def _end_trees(self, until: float) -> None:
        """Nothing of a contained tree outlives the run."""
        late = monotonic() >= until
        gone = [child.process.sweep_tree(late) for child in self.children]
        self._ending = not all(gone)
        if self._ending:
            self._arm("trees", monotonic() + SWEEP_MAX, lambda: self._end_trees(until))
        else:
            self._report()

    def _report(self) -> None:
        callback, self.on_done = self.on_done, None
        if callback is not None:
            callback(self)

    # -- with the reactor

    def _arm(self, name: str, when: float, callback: Callable[[], object]) -> None:
        self._timers[name] = self.reactor.call_at(when, callback)

    def release(self) -> None:
        """Leave nothing with the reactor, and no descriptor but those of the children. May be called again."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.plumbing.release()
        for child in self.children:
            if child.watch is not None:
                child.watch.close()

    # -- what became of it

    def ordered(self) -> list[Child]:
        """Return the children in the order of the expression."""
        return sorted((child for child in self.children if child.process.pid > 0), key=lambda child: child.place)

    def ok(self, child: Child) -> bool:
        """Whether a child that has ended was successful."""
        code = child.process.returncode
        return code in child.command._options.get("ok_codes") or self.broken_pipe(child)

    def broken_pipe(self, child: Child) -> bool:
        """Whether it ended by SIGPIPE as its reader had gone, and that is accepted."""
        accepted: bool = self.settings.sigpipe_ok and child.command._options.get("sigpipe_ok")
        return child.process.returncode == -SIGPIPE and child.writes_on and accepted

    @property
    def outcome(self) -> Outcome | None:
        """What the expression's status is; its stage is a place. None when it did not come to its end."""
        return self._root.outcome


_ACTIONS: dict[str, Callable[[Run], None]] = {
    lifecycle.SIGNAL_TERM: Run._terminate,
    lifecycle.SIGNAL_KILL: Run._kill,
    lifecycle.NOTE_TIMED_OUT: Run._note_timed_out,
    lifecycle.ARM_GRACE: Run._arm_grace,
    lifecycle.DISARM_GRACE: Run._disarm_grace,
    lifecycle.CLOSE_STDIN: lambda run: run.plumbing.stop_feeding(),
    lifecycle.ARM_DRAIN: lambda run: run._arm_drain_for(run.settings.drain_timeout),
    lifecycle.ARM_DRAIN_SHORT: Run._arm_drain_short,
    lifecycle.CLOSE_OUTPUTS: Run._close_outputs,
    lifecycle.FINISH: Run._finish,
}
