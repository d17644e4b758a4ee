"""The ids and capabilities of all threads of this process, and changes in all threads or in none, which are verified.

In the kernel, ids and capabilities belong to a thread (GOTCHAS G9). The C library changes ids in all threads.
`fp_credentials_set` changes capabilities, securebits and similar flags, and stops all threads meanwhile. The result is
read back from /proc/self/task.
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
"""Nanoseconds within which the other threads must stop."""

AMBIENT, BOUNDING, CAPSET = _native.AMBIENT, _native.BOUNDING, _native.CAPSET
KEEPCAPS, NO_NEW_PRIVS, SECUREBITS = _native.KEEPCAPS, _native.NO_NEW_PRIVS, _native.SECUREBITS
held = _native.held
set_dumpable = _native.set_dumpable

_STATES = {
    "S": "sleeps and does not handle signal 33: it has blocked it, or is a thread of the kernel, such as io_uring's",
    "R": "runs and does not handle signal 33",
    "D": "is in uninterruptible sleep",
    "T": "is stopped",
    "t": "is stopped by a tracer",
}


class MissingCapability(PermissionError):
    """A capability is missing.

    Attributes:
        capabilities: the missing capabilities.
    """

    __module__ = "fastproc.privileges"

    capabilities: CapabilitySet


class NotAllThreads(ProcessError):
    """The threads of this process differ, or a change could not be made in all of them.

    Attributes:
        changed: whether some threads were changed. Then the process should exit.
        tid: the id of the thread; 0 if it is not a single thread.
    """

    __module__ = "fastproc.privileges"

    def __init__(self, text: str, *, changed: bool = False, tid: int = 0) -> None:
        """Store the text and the attributes."""
        super().__init__(text)
        self.changed = changed
        self.tid = tid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self),), self.__dict__


def missing(capabilities: CapabilitySet, text: str) -> MissingCapability:
    """Return the exception; {} in the text is replaced by the names."""
    error = MissingCapability(errno.EPERM, text.format(", ".join(capabilities.names)))
    error.capabilities = capabilities
    return error


# Held over read, change and read back: two changes from the same state would undo each other.
lock = RLock()


def _new_lock() -> None:
    # The thread that held the lock does not exist in a forked copy.
    global lock
    lock = RLock()


os.register_at_fork(after_in_child=_new_lock)


# -- reading


def own() -> Identity:
    """Return the identity of the calling thread, with its securebits.

    Raises:
        OSError: /proc is not mounted, or does not belong to this process (GOTCHAS G23).
    """
    for _ in range(100):
        found = read_identity()
        got = _native.held()
        if found.capabilities == _sets(got):
            break
        # Another thread has changed them meanwhile, or this is not a real /proc.
    else:
        raise OSError(errno.EXDEV, "this /proc is not this process's: the kernel reports other capabilities")
    found.securebits = Securebits(got.securebits) if got.securebits >= 0 else None
    return found


def _sets(got: Held) -> Capabilities:
    return Capabilities(*(CapabilitySet.from_mask(getattr(got, name)) for name in Capabilities._fields))


def sets() -> Capabilities:
    """Return the sets of the calling thread by system calls, without /proc."""
    return _sets(_native.held())


def threads(pid: int | None = None) -> dict[int, Identity]:
    """Return the identity of each thread of a process by thread id.

    Raises:
        ProcessLookupError: there is no such process.
        OSError: /proc is not mounted, or belongs to another PID namespace.
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
            continue  # the thread has ended meanwhile
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
    """Use a descriptor of /proc in a `with` block, because a new root may have no /proc or an untrusted one.

    Args:
        fd: the descriptor of /proc, which is closed at the end. If it is not open, the block has no effect.
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
    """Return the properties that must be equal in all threads for a change of capabilities."""
    return identity.capabilities, identity.no_new_privs


def everything(identity: Identity) -> tuple[object, ...]:
    """Return the properties that must be equal in all threads for a change of the user."""
    return identity.uids, identity.gids, identity.groups, identity.capabilities, identity.no_new_privs


def uniform(key: Callable[[Identity], tuple[object, ...]], *, changed: bool = False) -> Identity:
    """Return the identity of the calling thread, after a check that all threads are equal.

    Raises:
        NotAllThreads: the threads differ.
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
    """Refuse capabilities that this kernel does not have (GOTCHAS G12)."""
    beyond = capabilities - CapabilitySet.all(cap_last_cap())
    if beyond:
        raise ValueError(f"{name}: this kernel does not have {', '.join(beyond.names)}")


def check_securebits(name: str, flags: object) -> Securebits:
    """Return valid flags, or raise an exception that names the argument."""
    if isinstance(flags, bool) or not isinstance(flags, int):
        raise TypeError(f"{name}: must be Securebits, not {flags!r}")
    every = sum(flag.value for flag in Securebits)
    if int(flags) & ~every:
        raise ValueError(f"{name}: {int(flags):#x} has unknown flags: {every:#x} are all flags")
    return Securebits(int(flags))


def capset(effective: CapabilitySet, permitted: CapabilitySet, inheritable: CapabilitySet) -> Change:
    """Return the change that sets these three sets."""
    return CAPSET, (effective.mask, permitted.mask, inheritable.mask)


def change(what: str, changes: Sequence[Change]) -> None:
    """Make changes in all threads.

    Args:
        what: the name of the operation, for messages.
        changes: changes by the constants above.

    Raises:
        NotAllThreads: a thread cannot be reached; if `changed` is set, the threads differ now.
        PermissionError: the kernel or a security module refuses a change.
        OSError: another error.
    """
    report = _native.spread(changes, TIMEOUT_NS)
    if not report.error:
        return
    if report.op >= 0 and report.tid:
        raise NotAllThreads(
            f"{what}: {os.strerror(report.error)} in thread {report.tid}, but not in this thread: the threads differ "
            "now, and the process should end",
            changed=True,
            tid=report.tid,
        )
    if report.op >= 0:
        raise OSError(report.error, f"{what}: {os.strerror(report.error)}: the kernel or a security module refuses it")
    raise unreachable(what, report.error, report.tid, report.state)


def set_ids(what: str, call: Callable[..., None], *ids: object) -> None:
    """Call os.setgroups, setresgid, setresuid, setegid or seteuid, which the C library performs in all threads.

    Raises:
        OSError: the call failed; the text names the call, and a user namespace as a possible reason (GOTCHAS G21).
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
    """Return the exception for a change that was not made."""
    if error == errno.ETIMEDOUT:
        why = _STATES.get(state, f"is in state {state!r}")
        text = f"thread {tid} cannot be reached within {TIMEOUT_NS / 1e9:g} s: it {why}"
    elif error == errno.EXDEV:
        text = "no /proc shows the threads of this process, so it is not known whether all were reached"
    elif error == errno.E2BIG:
        text = "there are too many threads"
    else:
        return OSError(error, f"{what}: {os.strerror(error)}")
    return NotAllThreads(f"{what}: {text}; nothing was changed", tid=tid)


def verify(key: Callable[[Identity], tuple[object, ...]], expected: tuple[object, ...], what: str) -> Identity:
    """Return the identity of all threads, after a check that it is the expected one.

    Raises:
        NotAllThreads: the identity differs although every call succeeded, for example under a faulty sandbox.
    """
    found = uniform(key, changed=True)
    if key(found) != expected:
        raise NotAllThreads(f"{what}: read back: {key(found)!r}, expected {expected!r}", changed=True)
    return found
