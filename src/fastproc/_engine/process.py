"""One running child: its pid, its pidfd, its true status.

Not here: reading and writing its streams (readable.py, exchange.py), signals and its end (killable.py).
Invariants: only this child is waited for and signalled, by its pidfd (GOTCHAS D1, D3); its status is taken once; the
pidfd stays open as long as any call uses it; a forked copy of the handle does nothing (GOTCHAS D12, I2).
"""

from __future__ import annotations

import os
import select
from _thread import RLock
from time import monotonic, monotonic_ns, sleep

from fastproc import _native, errors
from fastproc._engine import guard, orphans
from fastproc._engine.fds import OwnedFd
from fastproc._engine.guard import Guard, guarded
from fastproc._engine.job_control import PAUSE_FIRST, PAUSE_MAX, Changing
from fastproc._engine.reactor import LONGEST_WAIT, READ, deadline_from
from fastproc._engine.signal_api import ABANDON_LIMIT, REFUSED_AT, SIGKILL, TREE_PATIENCE, Killable, new_killer
from fastproc._engine.streams.pipe_ends import PipeEnds
from fastproc._engine.streams.stream_api import Readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BufferedReader, BufferedWriter

    from fastproc._engine.foreground import Foreground
    from fastproc._engine.handle import Killer
    from fastproc._engine.streams.pump import Streams
    from fastproc._engine.streams.sink import Taps
    from fastproc._values.plan import Plan, ResolvedOptions
    from fastproc._values.status import Usage

ENDED = frozenset((_native.WAIT_EXITED, _native.WAIT_RECOVERED, _native.WAIT_UNKNOWN))
"""States of a status after which there is no other."""

DEFAULT_TIMES = 0.1, None, 1.0
"""Of the options: grace, idle_timeout, drain_timeout."""


class Process(Readable, Killable, Changing):
    """A child process.

    `start()` makes it and its child. All methods but those of its streams may be called from any thread and from
    signal handlers. In a forked copy of this process they raise ProcessError.
    Leaving the `with` block kills and reaps a child that still runs, and with kill_tree=True all that is left of its
    tree. Dropping the last reference to a running child kills nothing: it gives a ResourceWarning, and the child is
    reaped whenever this process starts, polls or waits for another.

    Attributes:
        argv: the command's arguments as text.
        pid: the child's number; after the child has ended it may be somebody else's.
        final: the status struct as the C core filled it, once the child has ended.
        late: whether the program did not begin before the deadline of `spawn`; the child was killed then.
        started_ns, ended_ns: monotonic nanoseconds at which the handle was made and the end was seen.
        settled: what start() was asked for; None for a handle that others have made.
        taps: what is done with everything that is read; None for nothing.
        memory: the files in memory that outputs are, by 1 for stdout and 2 for stderr; views of them once result() has
            given them.
        times: `grace`, `idle_timeout`, `drain_timeout` as start() was given them, for stop() and the iterations.
    """

    __module__ = "fastproc"

    __slots__ = (
        "__weakref__",
        "_adopted",
        "_child",
        "_detached",
        "_ends",
        "_files",
        "_foreground",
        "_guard",
        "_holders",
        "_leads",
        "_lock",
        "_look",
        "_owner",
        "_pidfd",
        "_streams",
        "_tree",
        "argv",
        "ended_ns",
        "final",
        "late",
        "memory",
        "pid",
        "settled",
        "started_ns",
        "taps",
        "times",
    )

    def __init__(self, argv: tuple[str, ...] = ()) -> None:
        self.argv = argv
        self.pid = -1
        self.started_ns = monotonic_ns()
        self.ended_ns = 0
        self.settled: ResolvedOptions | None = None
        self.taps: Taps | None = None
        self.memory: dict[int, OwnedFd | memoryview] = {}
        self.times: tuple[float, float | None, float | None] = DEFAULT_TIMES
        self._adopted = False
        self._guard: Guard | None = None
        self._detached = False
        self.late = False
        self.final: _native.Status | None = None
        self._look: _native.Status | None = None
        self._pidfd = OwnedFd()
        self._ends = PipeEnds()
        self._files: dict[int, BufferedReader | BufferedWriter] = {}
        self._streams: Streams | None = None
        self._tree: Killer | None = None
        self._leads = False
        self._foreground: Foreground | None = None
        # Re-entrant: a signal handler may call any method while this thread is inside one.
        self._lock = RLock()
        self._holders = 0
        self._owner = os.getpid()
        # GOTCHAS I4: the C call fills this struct, so that whatever interrupts Python after it loses nothing.
        self._child = _native.new_child()

    def __repr__(self) -> str:
        name = repr(self.argv[0]) if self.argv else "?"
        final = self.final
        if final is None:
            state = "running" if self.pid > 0 else "not started"
        elif final.state == _native.WAIT_UNKNOWN:
            state = "ended, status unknown"
        else:
            state = f"returncode={final.returncode}"
        return f"<Process {name} pid={self.pid} {state}>"

    def spawn(self, plan: Plan, stays: bool = False, deadline: float | None = None) -> None:
        """Make the child. Once for each handle.

        Signal handlers run while an exec is slow.

        Args:
            plan: what to run.
            stays: whether the calling thread waits for the child's end before it can end itself (GOTCHAS G19).
            deadline: monotonic instant; a child that has not begun its program by then is killed, and `late` is True.
                Only the best mechanism keeps it; with others the thread stands still until the exec (GOTCHAS A15).

        Raises:
            SpawnError: no child is left.
            BaseException: what interrupts the call. The child is killed and reaped; after KeyboardInterrupt, which is
                passed on to a group that it leads, it gets a moment to end by itself.
        """
        try:
            self.make(plan, stays, deadline)
        except BaseException as error:
            try:
                try:
                    self.adopt()
                    if isinstance(error, KeyboardInterrupt):
                        self.linger()
                finally:
                    self.abandon()
            finally:
                self.abandon()
            raise

    def make(self, plan: Plan, stays: bool, deadline: float | None) -> None:
        """As spawn(), for a caller who ends by `abandon` what an interrupt leaves. Call `adopt` before."""
        orphans.reap()
        if plan.terminal is not None:
            self._ends.attach(plan.terminal)
        self._spawn(plan, stays, -1 if deadline is None else max(0, int((deadline - monotonic()) * 1e9)))
        self.adopt()

    def _spawn(self, plan: Plan, stays: bool, timeout_ns: int) -> None:
        """Make the child, contained if its command asks for that, in the best way that is not refused here."""
        for way in self.ways(plan):
            try:
                self.late = _native.spawn(way, self._child, stays, timeout_ns)
                return
            except errors.SpawnError as error:
                refused = error
                if self._tree is None or error.stage not in REFUSED_AT:
                    raise
        raise refused

    def ways(self, plan: Plan) -> Iterable[Plan]:
        """The plan as it is; with kill_tree=True, contained in each way, best first: another when one is REFUSED_AT."""
        self._leads = plan.settled.leads
        if plan.settled.attr is not None and "foreground" in plan.settled.attr:
            from fastproc._engine.foreground import Foreground

            self._foreground = Foreground(plan.settled.attr)
        if not plan.settled.kill_tree:
            return (plan,)
        self._tree = new_killer(self)
        return self._tree.plans(plan)

    def adopt(self) -> None:
        """Take over what the C call gave. May be interrupted anywhere and then be called again."""
        child = self._child
        if not self._adopted and child.pid > 0:
            self.pid = child.pid
            self._pidfd.adopt(child.pidfd)
            self._ends.adopt(child.fd[0], child.fd[1], child.fd[2])
            if self._guard is None:
                self._guard = guarded[child.pid] = Guard(self)
            if self.settled is not None and self.settled.swapped:
                self._ends.swap()
            self._adopted = True

    def abandon(self) -> bool:
        """Kill and reap the child, close everything. For error paths: raises nothing of its own, may be called twice.

        One that does not die is left to the list of orphans: after ABANDON_LIMIT, or soon when a tracer holds it.
        Returns whether it was killed here.
        """
        killed = False
        self.adopt()
        try:
            if self.pid > 0 and self.final is None and not self._is_foreign():
                try:
                    if self.poll() is None:
                        self.signal_tree(SIGKILL)
                        killed = True
                        self.await_death()
                except (OSError, errors.ProcessError):
                    # The error on its way to the user is the one to tell.
                    pass
            self.end_tree(ABANDON_LIMIT)
        finally:
            self.detach()
            if not self._is_foreign():
                _native.leave(self._child)
                self._close_files()
        return killed

    # -- what it is

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it is not known that the child has ended."""
        final = self.final
        return None if final is None or final.state == _native.WAIT_UNKNOWN else final.returncode

    @property
    def core_dumped(self) -> bool:
        """Whether the child has ended by a signal and left a core."""
        return self.final is not None and bool(self.final.core_dumped)

    @property
    def mechanism(self) -> str:
        """How the child was made, such as "clone3_vm"."""
        return _native.mechanism_name(self._child.mechanism)

    @property
    def usage(self) -> Usage | None:
        """Resources that the child has used; None while it runs, and where somebody else reaped it."""
        final = self.final
        if final is None:
            return None
        from fastproc._values.status import Usage

        raw = _native.usage_bytes(final)
        return None if raw is None else Usage(*memoryview(raw).cast("q"))

    @property
    def pidfd(self) -> int:
        """The descriptor that names the child, or -1: where the kernel has none and after the child was reaped."""
        return self._pidfd.number

    def fileno(self) -> int:
        """The pidfd, which is readable once the child has ended. Unregister it before calling wait or poll.

        Raises:
            ValueError: there is none (any more).
        """
        return self._pidfd.fileno()

    # -- its end

    def poll(self) -> int | None:
        """Look whether the child has ended, and give its return code; None while it runs.

        Raises:
            ExitStatusUnknown: it has ended, and somebody else took its status (GOTCHAS D2).
            ProcessError: in a forked copy.
        """
        if self.final is None:
            self._check_usable()
            if orphans.pending:
                orphans.reap()
            with self._lock:
                if self.final is None:
                    self._reap()
        return self._code()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the child and give its return code, negative for a signal.

        Blocks in poll(2) on the pidfd, so Ctrl-C works at once; it is passed on to a child that leads a process group
        (pgid=0, setsid), which the terminal's does not reach. Several threads may wait. With `on_line`, `tee` or a
        limit this also reads the outputs to their ends, as `result()` does: then for one thread, that of the streams.

        Args:
            timeout: seconds at most; None for no limit.

        Raises:
            TimeoutExpired: it still runs.
            ExitStatusUnknown: it has ended, and somebody else took its status (GOTCHAS D2).
            ProcessError: in a forked copy.
        """
        deadline = deadline_from("timeout", timeout)
        if self.taps is not None:
            self._read_out(timeout)
        try:
            code = self._wait(deadline)
        except KeyboardInterrupt:
            self.interrupt_group()
            raise
        if code is None:
            assert timeout is not None
            raise errors.timeout_expired(self.argv, timeout)
        return code

    def _wait(self, deadline: float | None) -> int | None:
        """Wait until a monotonic instant; None when the child still runs then."""
        code = self.poll()
        if code is not None:
            return code
        number = self.hold()
        try:
            return self._wait_held(number, deadline)
        finally:
            self.release()

    def _wait_held(self, number: int, deadline: float | None) -> int | None:
        poller = select.poll()
        if number >= 0:
            poller.register(number, READ)
        pause = PAUSE_FIRST
        while True:
            longest = orphans.ORPHANS_EVERY if orphans.pending else LONGEST_WAIT
            left = longest if deadline is None else min(deadline - monotonic(), longest)
            ready = bool(number >= 0 and left > 0.0 and poller.poll(left * 1000.0))
            code = self.poll()
            if code is not None or left <= 0.0:
                return code
            if ready or number < 0:
                # No pidfd, or one that is readable with nothing to reap yet, under a tracer (GOTCHAS D6).
                sleep(min(pause, left))
                pause = min(pause * 2.0, PAUSE_MAX)

    def hold(self) -> int:
        """Keep the pidfd open until `release`, and give its number, or -1 where there is none (any more).

        For those who wait for it outside this class: another thread that reaps the child meanwhile would close it, and
        the number could become a stranger's (GOTCHAS C12, C15).
        """
        with self._lock:
            self._holders += 1
            return self._pidfd.number

    def release(self) -> None:
        """Undo one `hold`."""
        with self._lock:
            self._holders -= 1
            if self.final is not None and self._holders <= 0:
                self._pidfd.close()

    def _reap(self, options: int = 0) -> _native.Status:
        """Ask the kernel, without blocking. The caller holds the lock."""
        # Each look has its own struct: a signal handler may interrupt this one, look itself and take the status, and
        # then the outer look must not write "unknown" over it. The struct is in its place before the C call fills it:
        # the next look finds there what an interrupt has kept this one from noting.
        status = self._look
        if status is None or status.state not in ENDED:
            status = self._look = _native.new_status()
            self.hold()
            try:
                _native.wait(self._pidfd.number, self.pid, _native.NOHANG | options, status)
            finally:
                self._note()
                self.release()
        else:
            self._note()
        return status

    def _note(self) -> None:
        """Keep what the last look has found, if that is the end. May be interrupted anywhere, and called again."""
        status = self._look
        if self.final is None and status is not None and status.state in ENDED:
            if not self.ended_ns:
                self.ended_ns = monotonic_ns()
            if self._foreground is not None:
                self._foreground.give_back(self.pid)
            self._unguard()
            # Last: nobody looks again after this.
            self.final = status

    def _code(self) -> int | None:
        final = self.final
        if final is None:
            return None
        if final.state == _native.WAIT_UNKNOWN:
            raise errors.ExitStatusUnknown(self.pid, self.argv)
        code: int = final.returncode
        return code

    # -- the end of the handle

    def detach(self) -> None:
        """Let the child outlive the handle: leaving the `with` block and dropping it then neither kill nor warn.

        The child is still reaped, when this process starts, polls or waits for another. Its tree is not ended either.
        """
        self._detached = True
        if self._guard is not None:
            self._guard.how = guard.LET_LIVE
        if self._tree is not None:
            self._tree.guard(False)

    def orphan(self) -> None:
        """Give a child that does not end to the list of orphans at once; this handle can do nothing more with it.

        For handles that may stay in a cycle of references.
        """
        self._detached = True
        with self._lock:
            if self.final is None and self.pid > 0 and not self._is_foreign():
                self._unguard()
                orphans.adopt((self.pid, OwnedFd(self._pidfd.detach()), self._owner))
                self._owner = 0

    def _unguard(self) -> None:
        known = self._guard
        if known is not None and guarded.get(known.pid) is known:
            guarded.pop(known.pid, None)
        self._guard = None

    def __enter__(self) -> Process:
        if self._guard is not None and not self._detached:
            self._guard.how = guard.KILL
        if self._tree is not None and not self._detached:
            self._tree.guard(True)
        return self

    def __exit__(self, *_exc: object) -> None:
        # Twice: an interrupt in the first leaves the rest to the second, which has nothing to do where all is done.
        try:
            self._leave()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._detached or self._is_foreign():
            return
        try:
            if self.final is None and self.pid > 0 and not self._detached:
                self.signal_tree(SIGKILL)
                if not self.await_death():
                    self.detach()
        except errors.ExitStatusUnknown:
            # It has ended; nobody asked how.
            pass
        finally:
            try:
                self.end_tree(TREE_PATIENCE)
            finally:
                self._close_files()
