"""Everybody else's half of a pid file: who runs there, and telling it something.

Invariant: nothing is signalled but a process that holds the lock of the file, or is the child of one that does for it,
and that began when the file says; by a pidfd that was opened before this was looked at (GOTCHAS D1, H9).
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
"""Seconds for a daemon that was killed to be gone."""
HANDOVER = 5.0
"""Seconds for the lock of a daemon that has ended to be free."""
LOOKS = 20
"""How often a file that is missing while its lock is held is looked for, within PATIENCE of the lock."""


class Status:
    """What a pid file tells, checked.

    Attributes:
        state: "running"; "starting": its lock is held and it names nobody yet; "stopped": there is no file, or an empty
            one; "stale": the process that it names does not run; "unverified": its lock is held, and not by the process
            that it names, or nobody holds it and that process runs, or the file is another program's and that process
            runs.
        pid: the daemon, while it runs; the number in the file, if it is stale or unverified; or 0.
        reason: of "unverified", why, and what to do; and that a stale file is another program's.
        foreign: whether the file is another program's: a number alone.
        locked: whether somebody holds the lock.
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
        """Whether the daemon runs."""
        return self.state == "running"

    def __repr__(self) -> str:
        """Show what is known."""
        return f"Status({self.state!r}, {self.pid}{f', {self.reason!r}' if self.reason else ''})"

    def __eq__(self, other: object) -> bool:
        """Compare all."""
        if not isinstance(other, Status):
            return NotImplemented
        return (self.state, self.pid, self.reason) == (other.state, other.pid, other.reason)

    def __hash__(self) -> int:
        """Hash state and number."""
        return hash((self.state, self.pid))


class Stopped:
    """How a daemon was stopped.

    Attributes:
        pid: who it was.
        killed: whether it had to be killed, as it did not end within the grace.
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
    """A pid file, and the daemon behind it.

    Args:
        path: the file; a relative one is taken from the current directory now.
        owner: the uid that may own the file beside root and this process's user: that of the daemon, where it was
            given to it. Such a file can only name processes of this very user.
    """

    __module__ = "fastproc.daemon"

    __slots__ = ("_owner", "path")

    def __init__(self, path: str | bytes | os.PathLike[str], *, owner: int | None = None) -> None:
        """Take the path; nothing is opened."""
        self.path = absolute("pid_file", check_path("pid_file", path))
        _lock.check_path(self.path)
        self._owner = owner

    def __repr__(self) -> str:
        """Show the path."""
        return f"PidFile({self.path!r})"

    # -- looking

    def status(self) -> Status:
        """Say whether the daemon runs. Nothing is changed, and nobody is signalled.

        Raises:
            PidFileError: the file is not what it must be, or lies where others can change it, or is not a pid file.
            OSError: it cannot be opened.
        """
        with _Look(self) as look:
            return look.status

    # -- telling

    def signal(self, sig: int | str) -> int:
        """Send a signal to the daemon, and return its pid.

        Raises:
            PidFileError: it does not run, or whether it does cannot be proven; nothing was signalled.
            PermissionError: it may not be signalled.
        """
        number = signals.number("sig", sig)
        with _Look(self) as look:
            if not look.status.running:
                raise PidFileError(self.path, look.status.reason or f"no daemon is running ({look.status.state})")
            look.send(number)
            return look.status.pid

    def reload(self) -> int:
        """Send SIGHUP, and return the daemon's pid. Raises as `signal`."""
        return self.signal("HUP")

    def stop(self, grace: float | None = 10.0, sig: int | str = "TERM") -> Stopped | None:
        """End the daemon: a signal, and SIGKILL when it has not ended in time. Returns when it and its lock are gone.

        An abandoned file of ours is removed, where that is allowed. Any other file is left as it is.

        Args:
            grace: seconds until SIGKILL; None: never.
            sig: the first signal.

        Returns:
            who it was and whether it had to be killed; None when none was running.

        Raises:
            PidFileError: what runs cannot be proven to be the daemon; nothing was signalled. Or the file is not a pid
                file. Or the daemon was killed, and is still there: in the kernel, or held by a tracer or a frozen
                cgroup.
            PermissionError: it may not be signalled.
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
        """Remove a file of ours that nobody holds. Raises nothing."""
        try:
            folder, fd = _lock.open_checked(self.path, os.O_RDONLY, self._owners())
            with folder, fd:
                recorded = _lock.read(self.path, fd.number)
                # An empty file is ours only beside its lock file.
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
    """One look at a pid file: the status, and the process pinned by its pidfd for as long as the block lasts."""

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
            # A daemon that starts or ends has the lock for a moment without the file.
            with borrowed() as reactor:
                _until(reactor, [], _lock.PATIENCE / LOOKS)
        else:
            reason = f"the file is missing, and its lock {_lock.lock_path(place.path)} is held: end who holds it"
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
                reason = str(error)  # without a /proc of ours nothing is proven
        return Status("unverified" if reason else "running", recorded.pid, reason, locked=True)

    def _prove(self, recorded: Recorded, lock: os.stat_result, owner: int) -> str:
        """Pin the process and return why it is not the daemon, or ""."""
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
        # All evidence is read while the pidfds hold the numbers; is_there() at the end proves that they still do.
        if not is_it(recorded.pid, recorded.start):
            return f"process {recorded.pid} is another one: it began at another time"
        if recorded.keeper:
            if not is_it(recorded.keeper, recorded.keeper_start):
                return f"its keeper, process {recorded.keeper}, is another one: it began at another time"
            program = facts(recorded.pid)
            if program is None or program.ppid != recorded.keeper:
                return f"process {recorded.pid} is no child of its keeper, process {recorded.keeper}"
        if not holds_lock(keeper.pid, lock):
            return f"process {keeper.pid} does not hold the lock"
        if owner not in trusted_owners():
            # GOTCHAS H9: who can write the file must be one who could signal the process himself.
            for pid in {member.pid, keeper.pid}:
                if uids(pid) != {owner}:
                    return f"it belongs to user {owner}, and process {pid} runs as another one"
        if not member.is_there() or not keeper.is_there():
            return f"process {recorded.pid} has just ended"
        return ""

    # -- the process, which is the daemon

    def send(self, sig: int) -> None:
        """Send a signal.

        Raises:
            PermissionError: pidfd_send_signal(2).
        """
        assert self._member is not None
        self._member.refused = False
        self._member.send(sig)
        if self._member.refused:
            raise PermissionError(1, f"process {self._member.pid} may not be signalled: it runs as another user")

    def has_ended(self, timeout: float | None) -> bool:
        """Wait for its end; return whether it came in time."""
        assert self._member is not None
        return wait_for_end(self._member.number, timeout)

    def why_it_stays(self) -> str:
        """Say what the kernel tells of a process that was killed and does not end."""
        pid = self.status.pid
        found = facts(pid)
        state = "" if found is None else f" (state {found.state})"
        return f"process {pid} was killed, and has not ended after {KILL_PATIENCE:g} s{state}"

    def keeper_has_ended(self, timeout: float) -> bool:
        """Wait for the end of the one who holds the lock for it."""
        return self._keeper is None or wait_for_end(self._keeper.number, timeout)


def wait_for_end(pidfd: int, timeout: float | None) -> bool:
    """Wait until a process, not only a child, has ended; return whether it did in time."""
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
    """Return whether somebody holds the lock of a pid file that is not there."""
    try:
        return _held(path, owners)[0] is not None
    except NotADirectoryError:
        return False


def _held(path: str, owners: frozenset[int]) -> tuple[os.stat_result | None, bool]:
    """Return the status of the lock file, if somebody holds its lock; else None. And whether there is no lock file.

    Takes it shared for a moment, which a starter waits out (PATIENCE). Whoever may not open it asks the kernel's list.
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
    """Return what a file means whose lock nobody holds."""
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
    """Return why a process may be the daemon though nobody holds the lock, or "".

    A program was to die with its keeper, but the kernel forgets that when the program changes its user (prctl(2)). And
    a lock file that somebody has removed is locked by a daemon that nobody can ask any more.

    Args:
        path: of the pid file, which is ours.
        recorded: what it says.
        missing: whether there is no lock file.
    """
    if recorded.boot != boot_id() or not may_live(recorded.pid, recorded.start):
        return ""
    runs = f"process {recorded.pid} still runs"
    if missing:
        return f"its lock file {_lock.lock_path(path)} is missing, and {runs}: end that, and start the daemon again"
    if recorded.keeper:
        return f"nobody holds its lock, as its keeper has ended, and {runs}"
    return f"nobody holds its lock, and {runs}"
