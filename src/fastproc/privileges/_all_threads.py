"""What every thread of this process holds, and how that is changed in all of them, proven, or in none.

In the kernel ids and capabilities belong to a thread (GOTCHAS G9). The C library changes ids in all threads;
capabilities, securebits and their like are changed by `fp_credentials_set`, which holds all threads still meanwhile.
What came of it is read back from /proc/self/task.
"""

from __future__ import annotations

import errno
import os
from _functools import partial  # type: ignore[import-not-found]
from _thread import RLock

from fastproc import capabilities
from fastproc._engine.fds import OwnedFd
from fastproc._native import credentials as _native
from fastproc._values.capabilities import Capabilities, CapabilitySet
from fastproc._values.identity import Identity, Securebits, check_pid
from fastproc.capabilities import cap_last_cap, read_identity
from fastproc.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastproc._native.credentials import Change, Held

TIMEOUT_NS = 5_000_000_000
"""How long the other threads may take to stand still."""

AMBIENT, BOUNDING, CAPSET = _native.AMBIENT, _native.BOUNDING, _native.CAPSET
KEEPCAPS, NO_NEW_PRIVS, SECUREBITS = _native.KEEPCAPS, _native.NO_NEW_PRIVS, _native.SECUREBITS
held = _native.held
set_dumpable = _native.set_dumpable

_STATES = {
    "S": "sleeps, and does not hear signal 33: it has blocked it, or is the kernel's own, as those of io_uring are",
    "R": "runs, and does not hear signal 33",
    "D": "is in uninterruptible sleep",
    "T": "is stopped",
    "t": "is stopped by a tracer",
}


class MissingCapability(PermissionError):
    """A capability is missing.

    Attributes:
        capabilities: those that are.
    """

    __module__ = "fastproc.privileges"

    capabilities: CapabilitySet


class NotAllThreads(ProcessError):
    """What holds for all threads of this process, or should, does not.

    Attributes:
        changed: whether something was changed in some threads. The process should end then.
        tid: the thread concerned; 0 when it is no single one.
    """

    __module__ = "fastproc.privileges"

    def __init__(self, text: str, *, changed: bool = False, tid: int = 0) -> None:
        """Keep the text and the facts."""
        super().__init__(text)
        self.changed = changed
        self.tid = tid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self),), self.__dict__


def missing(capabilities: CapabilitySet, text: str) -> MissingCapability:
    """Make the error; the text has a {} for the names."""
    error = MissingCapability(errno.EPERM, text.format(", ".join(capabilities.names)))
    error.capabilities = capabilities
    return error


# Reading, changing and reading back are one: two changes that began from the same state would undo one another.
lock = RLock()


def _new_lock() -> None:
    # The thread that held it is not in a forked copy.
    global lock
    lock = RLock()


os.register_at_fork(after_in_child=_new_lock)


# -- reading


def own() -> Identity:
    """Return the calling thread's identity, with its securebits.

    Raises:
        OSError: there is no /proc, or another one than this process's (GOTCHAS G23).
    """
    for _ in range(100):
        found = read_identity()
        got = _native.held()
        if found.capabilities == _sets(got):
            break
        # Another thread has changed them in between, or it is no true /proc.
    else:
        raise OSError(errno.EXDEV, "this /proc is not this process's: the kernel tells other capabilities")
    found.securebits = Securebits(got.securebits) if got.securebits >= 0 else None
    return found


def _sets(got: Held) -> Capabilities:
    return Capabilities(*(CapabilitySet.from_mask(getattr(got, name)) for name in Capabilities._fields))


def sets() -> Capabilities:
    """Return what the calling thread has, as system calls tell it."""
    return _sets(_native.held())


def threads(pid: int | None = None) -> dict[int, Identity]:
    """Return the identity of every thread of a process by its thread id.

    Raises:
        ProcessLookupError: there is no such process.
        OSError: there is no /proc, or another one than this process's.
    """
    folder = f"/proc/{'self' if pid is None else check_pid('pid', pid)}/task"
    capabilities.check_proc()
    try:
        names = _tasks(folder)
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, "no such process", folder) from None
    found: dict[int, Identity] = {}
    for name in names:
        try:
            with capabilities.open_proc(f"{folder}/{name}/status") as file:
                found[int(name)] = Identity.from_status(file.read())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    if not found:
        raise ProcessLookupError(errno.ESRCH, "no such process", folder)
    return found


def _tasks(folder: str) -> list[str]:
    if capabilities.proc_fd < 0:
        return os.listdir(folder)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with OwnedFd() as fd:
        fd.fill(partial(os.open, dir_fd=capabilities.proc_fd), folder.removeprefix("/proc/"), flags)
        return os.listdir(fd.number)


class proc_at:
    """For the time of a `with` block /proc is at a descriptor: where a chroot has none, or one not to be believed.

    Args:
        fd: of /proc, closed at the end; with no number, nothing changes.
    """

    def __init__(self, fd: OwnedFd) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        self._set(self._fd.number)

    def __exit__(self, *_exc: object) -> None:
        self._set(-1)
        self._fd.close()

    def _set(self, number: int) -> None:
        capabilities.proc_fd = number
        _native.set_proc(number)


def rights(identity: Identity) -> tuple[object, ...]:
    """Return what a change of capabilities needs to be equal in all threads."""
    return identity.capabilities, identity.no_new_privs


def everything(identity: Identity) -> tuple[object, ...]:
    """Return what a change of the user needs to be equal in all threads."""
    return identity.uids, identity.gids, identity.groups, identity.capabilities, identity.no_new_privs


def uniform(key: Callable[[Identity], tuple[object, ...]], *, changed: bool = False) -> Identity:
    """Return the calling thread's identity, after a look whether all threads have the same.

    Raises:
        NotAllThreads: they differ.
    """
    mine = own()
    for tid, other in threads().items():
        if key(other) != key(mine):
            differs = next(
                f"{name} {getattr(other, name)!r} beside {getattr(mine, name)!r}"
                for name in ("uids", "gids", "groups", "capabilities", "no_new_privs")
                if getattr(other, name) != getattr(mine, name)
            )
            raise NotAllThreads(f"thread {tid} ({other.name}) differs: {differs}", changed=changed, tid=tid)
    return mine


# -- changing


def check_known(name: str, capabilities: CapabilitySet) -> None:
    """Refuse what this kernel does not have (GOTCHAS G12)."""
    beyond = capabilities - CapabilitySet.all(cap_last_cap())
    if beyond:
        raise ValueError(f"{name}: this kernel does not have {', '.join(beyond.names)}")


def check_securebits(name: str, flags: object) -> Securebits:
    """Return flags, or raise an error that names the argument."""
    if isinstance(flags, bool) or not isinstance(flags, int):
        raise TypeError(f"{name}: must be Securebits, not {flags!r}")
    every = sum(flag.value for flag in Securebits)
    if int(flags) & ~every:
        raise ValueError(f"{name}: {int(flags):#x} has flags that there are not: {every:#x} are all")
    return Securebits(int(flags))


def capset(effective: CapabilitySet, permitted: CapabilitySet, inheritable: CapabilitySet) -> Change:
    """Return the change to these three sets."""
    return CAPSET, (effective.mask, permitted.mask, inheritable.mask)


def change(what: str, changes: Sequence[Change]) -> None:
    """Make changes in all threads.

    Args:
        what: for the message.
        changes: from the constants above.

    Raises:
        NotAllThreads: a thread cannot be reached; with `changed` set, it differs now.
        PermissionError: the kernel, or a security module, refuses it.
        OSError: another error.
    """
    report = _native.spread(changes, TIMEOUT_NS)
    if not report.error:
        return
    if report.op >= 0 and report.tid:
        raise NotAllThreads(
            f"{what}: {os.strerror(report.error)} in thread {report.tid}, though not in this one: they differ now, and "
            "should end",
            changed=True,
            tid=report.tid,
        )
    if report.op >= 0:
        raise OSError(report.error, f"{what}: {os.strerror(report.error)}: the kernel or a security module refuses it")
    raise unreachable(what, report.error, report.tid, report.state)


def set_ids(what: str, call: Callable[..., None], *ids: object) -> None:
    """Call one of os.setgroups, setresgid, setresuid, setegid, seteuid, which libc does in all threads.

    Raises:
        OSError: with what was done, and what a user namespace may have to do with it (GOTCHAS G21).
    """
    try:
        call(*ids)
    except OSError as error:
        number = error.errno or 0
        text = os.strerror(number)
        if number == errno.EINVAL:
            text += f": {ids} not all mapped in this user namespace"
        elif call is os.setgroups and _setgroups_denied():
            text += ": this user namespace denies setgroups (/proc/self/setgroups)"
        raise OSError(number, f"{what}: {text}") from None


def _setgroups_denied() -> bool:
    try:
        with open("/proc/self/setgroups", "rb") as file:
            return file.read().strip() == b"deny"
    except OSError:
        return False


def unreachable(what: str, error: int, tid: int, state: str) -> Exception:
    """Say why nothing was changed."""
    if error == errno.ETIMEDOUT:
        why = _STATES.get(state, f"is in state {state!r}")
        text = f"thread {tid} cannot be reached within {TIMEOUT_NS / 1e9:g} s: it {why}"
    elif error == errno.EXDEV:
        text = "no /proc shows the threads of this process, so whether all were reached could not be told"
    elif error == errno.E2BIG:
        text = "there are too many threads"
    else:
        return OSError(error, f"{what}: {os.strerror(error)}")
    return NotAllThreads(f"{what}: {text}; nothing was changed", tid=tid)


def verify(key: Callable[[Identity], tuple[object, ...]], expected: tuple[object, ...], what: str) -> Identity:
    """Return the identity that all threads have now, after a look that it is the expected one.

    Raises:
        NotAllThreads: it is not, though every call said so; something between this process and the kernel lies.
    """
    found = uniform(key, changed=True)
    if key(found) != expected:
        raise NotAllThreads(f"{what}: read back: {key(found)!r}, expected {expected!r}", changed=True)
    return found
