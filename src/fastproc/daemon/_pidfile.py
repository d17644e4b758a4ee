"""The other processes' half of a pid file: finding out whether the daemon runs, and signalling it.

Invariant: only a process that holds the lock of the file, or the program whose keeper holds it, is signalled, and only
if its start time is the one in the file. The pidfd is opened before this evidence is read (GOTCHAS D1, H9).
"""

from __future__ import annotations

import fcntl
import os
from errno import ENODEV, EXDEV

from fastproc._engine.reactor import READ, Reactor, borrowed
from fastproc._engine.trusted import absolute, trusted_owners
from fastproc._values import signals
from fastproc._values.checks import check_path, check_seconds
from fastproc.containment._member import Member
from fastproc.daemon import _lock
from fastproc.daemon._errors import PidFileError
from fastproc.daemon._evidence import boot_id, exists, facts, holds_lock, is_it, may_live, took_lock, uids
from fastproc.daemon._pidfile_text import Recorded, is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal

    State = Literal["running", "starting", "stopped", "stale", "unverified"]

KILL_PATIENCE = 10.0
"""Seconds for a daemon to end after SIGKILL."""
HANDOVER = 5.0
"""Seconds for the keeper of a program that has ended to end too, which releases the lock."""
LOOKS = 20
"""How often a missing file is looked for while its lock is held, within the PATIENCE of `_lock.py`."""


class Status:
    """What a pid file says about the daemon, after a check against the kernel.

    Attributes:
        state: the state of the daemon:
            "running": the process in the file holds the lock.
            "starting": the lock is held, and the file does not name a process yet.
            "stopped": the file does not exist or is empty.
            "stale": the process in the file does not run.
            "unverified": one of three cases. The lock is held by another process than the one in the file. Or no
            process holds the lock, and the process in the file runs. Or another program wrote the file, and the process
            in it runs.
        pid: the pid of the running daemon; if the state is "stale" or "unverified", the pid in the file; otherwise 0.
        reason: if the state is "unverified", the reason and the remedy; if the file belongs to another program, a note
            about this; otherwise "".
        foreign: whether the file belongs to another program: it has only a number.
        locked: whether a process holds the lock.
    """

    __module__ = "fastproc.daemon"

    __slots__ = ("foreign", "locked", "pid", "reason", "state")

    def __init__(
        self, state: State, pid: int = 0, reason: str = "", *, foreign: bool = False, locked: bool = False
    ) -> None:
        self.state = state
        self.pid = pid
        self.reason = reason
        self.foreign = foreign
        self.locked = locked

    @property
    def running(self) -> bool:
        """Whether the state is "running"."""
        return self.state == "running"

    def __repr__(self) -> str:
        """Show state, pid and reason."""
        return f"Status({self.state!r}, {self.pid}{f', {self.reason!r}' if self.reason else ''})"

    def __eq__(self, other: object) -> bool:
        """Compare state, pid and reason."""
        if not isinstance(other, Status):
            return NotImplemented
        return (self.state, self.pid, self.reason) == (other.state, other.pid, other.reason)

    def __hash__(self) -> int:
        """Hash state and pid."""
        return hash((self.state, self.pid))


class Stopped:
    """How a daemon was stopped.

    Attributes:
        pid: the pid of the daemon.
        killed: whether the daemon was killed because it did not end within the grace period.
    """

    __module__ = "fastproc.daemon"

    __slots__ = ("killed", "pid")

    def __init__(self, pid: int, killed: bool) -> None:
        self.pid = pid
        self.killed = killed

    def __repr__(self) -> str:
        """Show both."""
        return f"Stopped(pid={self.pid}, killed={self.killed})"


class PidFile:
    """A pid file, and the daemon that it names.

    Args:
        path: the path of the file. A relative path is resolved now, from the current directory.
        owner: the uid of a user that may own the file, in addition to root and this process's user: the daemon's user,
            if the file was given to it (`chown_pid_file`). Such a file can only name processes of the same user.
    """

    __module__ = "fastproc.daemon"

    __slots__ = ("_owner", "path")

    def __init__(self, path: str | bytes | os.PathLike[str], *, owner: int | None = None) -> None:
        """Store the path; nothing is opened."""
        self.path = absolute("pid_file", check_path("pid_file", path))
        _lock.check_path(self.path)
        self._owner = owner

    def __repr__(self) -> str:
        """Show the path."""
        return f"PidFile({self.path!r})"

    # -- looking

    def status(self) -> Status:
        """Return whether the daemon runs. Nothing is changed, and no signal is sent.

        Raises:
            PidFileError: the file is not a pid file, has another owner, or other users can change its directory.
            OSError: the file cannot be opened.
        """
        with _Look(self) as look:
            return look.status

    # -- telling

    def signal(self, sig: int | str) -> int:
        """Send a signal to the daemon, and return its pid.

        Raises:
            PidFileError: the daemon does not run, or it cannot be proven that the process is the daemon. No signal was
                sent.
            PermissionError: this process may not signal the daemon.
        """
        number = signals.number("sig", sig)
        with _Look(self) as look:
            if not look.status.running:
                raise PidFileError(self.path, look.status.reason or f"no daemon is running ({look.status.state})")
            look.send(number)
            return look.status.pid

    def reload(self) -> int:
        """Send SIGHUP to the daemon, and return its pid. Raises as `signal()`."""
        return self.signal("HUP")

    def stop(self, grace: float | None = 10.0, sig: int | str = "TERM") -> Stopped | None:
        """Stop the daemon by a signal, and by SIGKILL if it does not end in time. Return when the lock is free too.

        A stale file that fastproc wrote is removed if this is permitted. Any other file is left.

        Args:
            grace: seconds between the first signal and SIGKILL; None for no SIGKILL.
            sig: the first signal.

        Returns:
            the pid, and whether the daemon was killed; None if no daemon was running.

        Raises:
            PidFileError: one of three cases. It cannot be proven that the running process is the daemon; no signal was
                sent. Or the file is not a pid file. Or the daemon was killed and has not ended: the kernel, a tracer or
                a frozen cgroup holds it.
            PermissionError: this process may not signal the daemon.
        """
        seconds = check_seconds("grace", grace)
        number = signals.number("sig", sig)
        with _Look(self) as look:
            if look.status.state in ("starting", "unverified"):
                raise PidFileError(self.path, look.status.reason or "a daemon is starting")
            stopped = self._end(look, seconds, number) if look.status.running else None
        self._tidy()
        return stopped

    def _end(self, look: _Look, grace: float | None, sig: int) -> Stopped:
        look.send(sig)
        killed = not look.has_ended(grace)
        if killed:
            look.send(signals.SIGKILL)
            if not look.has_ended(KILL_PATIENCE):
                raise PidFileError(self.path, look.why_it_stays())
        look.keeper_has_ended(HANDOVER)
        return Stopped(look.status.pid, killed)

    def _tidy(self) -> None:
        """Remove a file that fastproc wrote and no process holds. Raises nothing."""
        try:
            folder, fd = _lock.open_checked(self.path, os.O_RDONLY, self._owners())
            with folder, fd:
                recorded = _lock.read(self.path, fd.number)
                # An empty file is ours only if it has a lock file.
                lock = _lock.hold(self.path, self._owners(), make=recorded is not None and is_ours(recorded))
                if lock is None:
                    return
                recorded = _lock.read(self.path, fd.number)
                if recorded is None or (is_ours(recorded) and not survivor_of(self.path, recorded, lock.made)):
                    lock.adopt(fd, ours=recorded is not None or not lock.made)
                    lock.remove()
                else:
                    lock.give_back()
        except (OSError, PidFileError):
            return

    def _owners(self) -> frozenset[int]:
        return trusted_owners() | (frozenset() if self._owner is None else frozenset((self._owner,)))


class _Look:
    """One look at a pid file: the status, and a pidfd of the process until the block ends."""

    def __init__(self, place: PidFile) -> None:
        self._place = place
        self._member: Member | None = None
        self._keeper: Member | None = None
        self.status = Status("stopped")

    def __enter__(self) -> _Look:
        try:
            self.status = self._examine()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in (self._member, self._keeper):
            if member is not None:
                member.close()

    def _examine(self) -> Status:
        place = self._place
        for _ in range(LOOKS):
            try:
                folder, fd = _lock.open_checked(place.path, os.O_RDONLY, place._owners())
                break
            except (FileNotFoundError, NotADirectoryError):
                if not _is_locked(place.path, place._owners()):
                    return Status("stopped")
            # A daemon that starts or ends holds the lock for a moment without the file.
            with borrowed() as reactor:
                _until(reactor, [], _lock.PATIENCE / LOOKS)
        else:
            lock = _lock.lock_path(place.path)
            reason = f"the file is missing, and its lock {lock} is held: end the process that holds it"
            return Status("unverified", 0, reason, locked=True)
        with folder, fd:
            held, missing = _held(place.path, place._owners())
            recorded = _lock.read(place.path, fd.number)
            if held is None:
                return _without_lock(place.path, recorded, missing)
            if recorded is None:
                return Status("starting", locked=True)
            try:
                reason = self._prove(recorded, held, os.fstat(fd.number).st_uid)
            except OSError as error:
                if error.errno not in (EXDEV, ENODEV):
                    raise
                reason = str(error)  # without the /proc of this namespace nothing can be proven
        return Status("unverified" if reason else "running", recorded.pid, reason, locked=True)

    def _prove(self, recorded: Recorded, lock: os.stat_result, owner: int) -> str:
        """Open a pidfd of the process; return the reason why it is not the daemon, or ""."""
        if not is_ours(recorded):
            return "it records no start time, so its process cannot be verified"
        if recorded.boot != boot_id():
            return "it is from before the last boot"
        if recorded.pid == os.getpid():
            return "it names this very process"
        try:
            member = self._member = Member(recorded.pid)
            keeper = member
            if recorded.keeper:
                keeper = self._keeper = Member(recorded.keeper)
        except ProcessLookupError:
            return f"process {recorded.pid} has ended; another process, perhaps a child of it, holds the lock"
        # The evidence is read while the pidfds are open. is_there() at the end proves that the pids were not reused.
        if not is_it(recorded.pid, recorded.start):
            return f"process {recorded.pid} is another process: it began at another time"
        if recorded.keeper:
            if not is_it(recorded.keeper, recorded.keeper_start):
                return f"its keeper, process {recorded.keeper}, is another process: it began at another time"
            program = facts(recorded.pid)
            if program is None or program.ppid != recorded.keeper:
                return f"process {recorded.pid} is not a child of its keeper, process {recorded.keeper}"
        if not holds_lock(keeper.pid, lock):
            return f"process {keeper.pid} does not hold the lock"
        if owner not in trusted_owners():
            # GOTCHAS H9: a user who can write the file must also have the permission to signal the process.
            for pid in {member.pid, keeper.pid}:
                if uids(pid) != {owner}:
                    return f"it belongs to user {owner}, and process {pid} runs as another user"
        if not member.is_there() or not keeper.is_there():
            return f"process {recorded.pid} has just ended"
        return ""

    # -- the process, which is the daemon

    def send(self, sig: int) -> None:
        """Send a signal to the daemon.

        Raises:
            PermissionError: pidfd_send_signal(2) failed with EPERM.
        """
        assert self._member is not None
        self._member.refused = False
        self._member.send(sig)
        if self._member.refused:
            raise PermissionError(1, f"process {self._member.pid} may not be signalled: it runs as another user")

    def has_ended(self, timeout: float | None) -> bool:
        """Wait for the end of the daemon; return whether it ended in time."""
        assert self._member is not None
        return wait_for_end(self._member.number, timeout)

    def why_it_stays(self) -> str:
        """Return a message with the state of a daemon that was killed and has not ended."""
        pid = self.status.pid
        found = facts(pid)
        state = "" if found is None else f" (state {found.state})"
        return f"process {pid} was killed, and has not ended after {KILL_PATIENCE:g} s{state}"

    def keeper_has_ended(self, timeout: float) -> bool:
        """Wait for the end of the keeper, which holds the lock; return whether it ended in time."""
        return self._keeper is None or wait_for_end(self._keeper.number, timeout)


def wait_for_end(pidfd: int, timeout: float | None) -> bool:
    """Wait until a process has ended, which need not be a child; return whether it ended in time."""
    ended: list[int] = []
    with borrowed() as reactor:
        reactor.watch(pidfd, READ, ended.append)
        try:
            _until(reactor, ended, timeout)
        finally:
            reactor.unwatch(pidfd)
    return bool(ended)


def _until(reactor: Reactor, done: list[int], timeout: float | None) -> None:
    over: list[int] = []
    timer = None if timeout is None else reactor.call_after(timeout, lambda: over.append(1))
    try:
        while not done and not over:
            reactor.run_once()
    finally:
        if timer is not None:
            timer.cancel()


def _is_locked(path: str, owners: frozenset[int]) -> bool:
    """Return whether a process holds the lock of a missing pid file."""
    try:
        return _held(path, owners)[0] is not None
    except NotADirectoryError:
        return False


def _held(path: str, owners: frozenset[int]) -> tuple[os.stat_result | None, bool]:
    """Return the status of the lock file if its lock is held, otherwise None; and whether the lock file is missing.

    This takes a shared lock for a moment; a daemon that starts waits for it (PATIENCE). If the lock file may not be
    opened, /proc/locks is read instead.
    """
    try:
        folder, fd = _lock.open_lock(path, owners)
    except FileNotFoundError:
        return None, True
    except PermissionError:
        try:
            status = os.stat(_lock.lock_path(path), follow_symlinks=False)
        except FileNotFoundError:
            return None, True
        return status if took_lock(None, status) else None, False
    with folder, fd:
        status = os.fstat(fd.number)
        try:
            fcntl.flock(fd.number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return status, False
        fcntl.flock(fd.number, fcntl.LOCK_UN)
    return None, False


def _without_lock(path: str, recorded: Recorded | None, missing: bool) -> Status:
    """Return the status of a file whose lock is not held."""
    if recorded is None:
        return Status("stopped")
    pid = recorded.pid
    if not is_ours(recorded):
        if not exists(pid):
            return Status(
                "stale", pid, f"the file belongs to another program, and process {pid} does not run", foreign=True
            )
        reason = (
            f"the file belongs to another program, and process {pid} is running, and is not proven to be the daemon"
        )
        return Status("unverified", pid, f"{reason}: stop it with that program's own command", foreign=True)
    reason = survivor_of(path, recorded, missing)
    return Status("unverified", pid, reason) if reason else Status("stale", pid)


def survivor_of(path: str, recorded: Recorded, missing: bool) -> str:
    """Return why a process may be the daemon although no process holds the lock, or "".

    The kernel kills a program with its keeper, except if the program has changed its user (prctl(2),
    PR_SET_PDEATHSIG). And if the lock file was removed, the lock of the running daemon cannot be examined.

    Args:
        path: the path of a pid file that fastproc wrote.
        recorded: the contents of the file.
        missing: whether the lock file is missing.
    """
    if recorded.boot != boot_id() or not may_live(recorded.pid, recorded.start):
        return ""
    runs = f"process {recorded.pid} still runs"
    if missing:
        return f"its lock file {_lock.lock_path(path)} is missing, and {runs}: end it, and start the daemon again"
    if recorded.keeper:
        return f"nobody holds its lock, as its keeper has ended, and {runs}"
    return f"nobody holds its lock, and {runs}"
