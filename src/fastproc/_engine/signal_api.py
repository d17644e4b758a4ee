"""How a Process is signalled and ended: itself by its pidfd, its tree by a killer that is handed in.

Not here: how a tree is found (containment.py), what leads to an end (exchange.py).
Invariant: a signal reaches this child, or what the killer has proven to be of its tree, and nobody else (GOTCHAS D1).
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from fastproc import _native, errors
from fastproc._engine.reactor import deadline_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import RLock
    from collections.abc import Generator

    from fastproc._engine.fds import OwnedFd
    from fastproc._engine.handle import Killer
    from fastproc._values.tree import TreeEnd

SIGINT = 2
SIGKILL = 9
SIGTERM = 15
"""The same number on every POSIX system; the signal module costs more than this one to import."""

SIGNAL_MAX = 64

SWEEP_FIRST = 0.001
SWEEP_MAX = 0.02
"""Seconds between two looks at a tree: nothing tells of the end of a process that is not ours."""

REFUSED_AT = ("mechanism", "clone", "cgroup", "subreaper")
"""Stages of a spawn at which a way of containment fails that another may do without."""

TREE_PATIENCE = 2.0
"""Seconds that a killed tree may take to be gone; what is there then is a survivor."""


ABANDON_LIMIT = _native.DEATH_SECONDS
"""Seconds that a killed child may take to die before it becomes an orphan: a tracer or a file system can hold it."""

HELD_EVERY = _native.TRACED_SECONDS
"""Seconds after which a killed child that is still there is asked for a tracer, as in the bulk path."""

CTRL_C_PATIENCE = _native.CTRL_C_GRACE_NS / 1e9
"""Seconds that a child gets to end by itself after a KeyboardInterrupt, as in the bulk path."""


class Killable:
    """The part of a Process that is about signals and its end. All may be called from any thread."""

    __slots__ = ()

    if TYPE_CHECKING:
        final: _native.Status | None
        pid: int
        times: tuple[float, float | None, float | None]
        _leads: bool
        _lock: RLock
        _owner: int
        _pidfd: OwnedFd
        _tree: Killer | None

        def hold(self) -> int: ...
        def release(self) -> None: ...
        def poll(self) -> int | None: ...
        def _reap(self, options: int = 0) -> _native.Status: ...
        def _wait(self, deadline: float | None) -> int | None: ...

    @property
    def tree(self) -> Killer | None:
        """What ends the whole tree, where the command has kill_tree=True; for those who end the child."""
        return self._tree

    # -- the child

    def send_signal(self, sig: int) -> None:
        """Send a signal to the child, and to nobody else. Does nothing when it has ended (GOTCHAS D13).

        Raises:
            ValueError: no signal number.
            PermissionError: the child runs as another user.
            ProcessError: in a forked copy.
        """
        _check_signal(sig)
        self._check_usable()
        with self._lock:
            number = self.hold()
            try:
                # GOTCHAS D1: without a pidfd the number is the child's only while we hold it unreaped, so look first.
                if self.final is None and number < 0:
                    self._reap()
                if self.final is None:
                    _native.signal(number, self.pid, sig)
            except ProcessLookupError:
                # Ended and reaped by somebody else: the next poll will find out.
                pass
            finally:
                self.release()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(SIGKILL)

    def stop(self, grace: float | None = None) -> int:
        """End the child: SIGTERM, and SIGKILL after `grace` seconds (at once when 0). Give its return code.

        Args:
            grace: None for what start() was given (0.1).

        Raises:
            ExitStatusUnknown, ProcessError: as wait does.
        """
        if grace is None:
            grace = self.times[0]
        deadline = deadline_from("grace", grace)
        if grace > 0:
            self.terminate()
            code = self._wait(deadline)
            if code is not None:
                return code
        self.kill()
        code = self._wait(None)
        assert code is not None
        return code

    def signal_group(self, sig: int) -> None:
        """Send a signal to the process group that the child leads (GOTCHAS D14, D15). Does nothing when it has ended.

        Raises:
            ValueError: no signal number.
            ProcessLookupError: it leads no group.
            PermissionError: nobody in it may be signalled by us.
            ProcessError: in a forked copy.
        """
        _check_signal(sig)
        self._check_usable()
        # The lock keeps the leader unreaped, and with it the number of the group its own.
        with self._lock:
            if self.final is None:
                _native.signal_group(self._pidfd.number, self.pid, sig)

    def interrupt_group(self) -> None:
        """Send SIGINT to the group that the child leads, as a terminal does to ours; nothing where it leads none.

        GOTCHAS H5: a terminal's Ctrl-C reaches the foreground group only, which is ours.
        """
        if not self._leads or self._owner != os.getpid():
            return
        # The lock keeps the leader unreaped, and with it the number of the group its own (GOTCHAS D14).
        with self._lock:
            if self.final is None and self.pid > 0:
                try:
                    _native.interrupt(self._pidfd.number, self.pid)
                except OSError:
                    # It has ended, or became another user's.
                    pass

    def linger(self) -> None:
        """After a KeyboardInterrupt: pass it on to the group that the child leads, and give it a moment to end."""
        if self.pid <= 0 or self._owner != os.getpid():
            return
        self.interrupt_group()
        try:
            self._wait(monotonic() + CTRL_C_PATIENCE)
        except errors.ExitStatusUnknown:
            # It has ended; nobody asked how.
            pass

    def await_death(self) -> bool:
        """Wait until a child that was killed has ended, and return whether it has, or is held."""
        killed = monotonic()
        while self._wait(monotonic() + HELD_EVERY) is None:
            if self.is_held(killed):
                return False
        return True

    def is_held(self, killed: float) -> bool:
        """Return whether a child that was killed at a monotonic instant, and is still there, is not to be waited for.

        A tracer may hold it indefinitely (ptrace(2)), or it has been stuck in the kernel for a long time.
        """
        return monotonic() >= killed + ABANDON_LIMIT or _native.is_traced(self.pid)

    # -- its tree

    def signal_tree(self, sig: int) -> None:
        """Send a signal to the child, and to its whole tree where the command has kill_tree=True.

        Raises:
            PermissionError: the child runs as another user. The others have it.
        """
        if self._tree is not None and self._owner == os.getpid():
            if sig == SIGKILL:
                self._tree.kill()
            elif self._tree.signal(sig):
                return
        self.send_signal(sig)

    def kill_tree(self, grace: float | None = None) -> TreeEnd:
        """End the child and all its descendants, those that left its group or session too, and say what is left.

        SIGTERM for all, and after `grace` seconds (at once when 0) SIGKILL for those that are still there, again and
        again until a look finds nobody: a process that forks meanwhile does not get away. The child is reaped.
        How descendants are found, best first: by the child's own cgroup, if the command has kill_tree=True and a
        cgroup v2 can be made here; else by a mark in the environment and by their parents, as orphans come to the
        child (kill_tree=True), or to this process (`subreaper()`); by the child's process group, while the child is not
        reaped; and by their parents. See `fastproc.containment`.

        Args:
            grace: seconds; None for what start() was given (0.1).

        Returns:
            Who was ended, and the survivors: pid, name and why. After two seconds of killing what is still there is
            one: it cannot be interrupted in the kernel, or runs as another user. Where /proc is not mounted, or is
            another PID namespace's, and the child has no cgroup of its own, only the child and the group that it leads
            are ended, and `unseen` says so.

        Raises:
            ProcessError: in a forked copy.
        """
        return _drive(self.ending_tree(grace))

    def ending_tree(self, grace: float | None) -> Generator[float, None, TreeEnd]:
        """What kill_tree() does, in steps: gives the seconds to wait before the next one, and at last its result."""
        if grace is None:
            grace = self.times[0]
        deadline = deadline_from("grace", grace)
        self._check_usable()
        tree = self._tree or new_killer(self)
        if grace > 0:
            if not tree.signal(SIGTERM):
                self.terminate()
            yield from _sweeps(tree, deadline, kill=False)
        # Reaped only here: as long as the leader is not, its group's number cannot be another's (GOTCHAS D14).
        end = yield from _sweeps(tree, monotonic() + TREE_PATIENCE, kill=True)
        until = monotonic() + TREE_PATIENCE
        while not self._has_ended() and monotonic() < until:
            yield SWEEP_FIRST
        return end

    def _has_ended(self) -> bool:
        try:
            return self.poll() is not None
        except errors.ExitStatusUnknown:
            # kill_tree() does not tell how.
            return True

    def end_tree(self, patience: float) -> TreeEnd | None:
        """Kill what is left of the tree of a command with kill_tree=True, and give up what belongs to it."""
        tree = self._tree
        if tree is None or self._owner != os.getpid():
            return None
        end = _drive(_sweeps(tree, monotonic() + patience, kill=True))
        tree.close()
        return end

    def sweep_tree(self, late: bool) -> bool:
        """Kill what is left of the tree of a command with kill_tree=True, once, and return whether that is all.

        Then, and when it is too late for more, what belongs to it is given up. For those who may not wait here.
        """
        tree = self._tree
        if tree is None or self._owner != os.getpid():
            return True
        if not tree.kill() and not late:
            return False
        tree.close()
        return True

    # -- forks

    def _is_foreign(self) -> bool:
        return self._owner != os.getpid()

    def _check_usable(self) -> None:
        if self._owner != os.getpid():
            raise errors.ProcessError(
                f"{self!r} belongs to process {self._owner}; process {os.getpid()} is a fork of it and cannot use it"
            )
        if self.pid <= 0:
            raise errors.ProcessError(f"{self!r} has no child")


def new_killer(process: Killable) -> Killer:
    """Return what ends the tree of a process; loaded when it is asked for."""
    from fastproc.containment import Tree

    return Tree(process)  # type: ignore[arg-type]


def _sweeps(tree: Killer, deadline: float | None, kill: bool) -> Generator[float, None, TreeEnd]:
    """Look, and kill or not, until nobody is there or it is too late; in steps."""
    pause = SWEEP_FIRST
    while True:
        gone = tree.kill() if kill else tree.is_gone()
        left = pause if deadline is None else deadline - monotonic()
        if gone or left <= 0.0:
            return tree.end()
        yield min(pause, left)
        pause = min(pause * 2.0, SWEEP_MAX)


def _drive(steps: Generator[float, None, TreeEnd]) -> TreeEnd:
    """Do the steps in this thread."""
    while True:
        try:
            pause = next(steps)
        except StopIteration as done:
            end: TreeEnd = done.value
            return end
        sleep(pause)


def _check_signal(sig: int) -> None:
    if not 0 <= sig <= SIGNAL_MAX:
        raise ValueError(f"sig: {sig} is no signal number (0 to {SIGNAL_MAX})")
