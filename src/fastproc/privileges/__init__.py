"""Reading and changing the identity and the capabilities of this process (credentials(7), capabilities(7)).

Every change applies to the whole process. It is made in every thread and read back from /proc/self/task. If it cannot
be made in every thread, an exception has the reason, and nothing is changed. If a capability is missing,
MissingCapability is raised, a PermissionError that names it.

To change the identity of a child, use the options of `run()`. This is simpler and safer than a change in a process that
already has threads, libraries and open files.
"""

from __future__ import annotations

from fastproc._values.capabilities import Capabilities, Capability, CapabilitySet, as_set
from fastproc._values.identity import Identity, Ids, Securebits
from fastproc.capabilities import read_identity
from fastproc.privileges import _all_threads as _credentials
from fastproc.privileges._all_threads import MissingCapability, NotAllThreads, check_known, missing, rights
from fastproc.privileges._drop import drop_privileges
from fastproc.privileges._switch import HalfSwitched, UnsafeSwitch, temporarily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastproc._native.credentials import Change
    from fastproc._values.capabilities import CapabilityLike

__all__ = [
    "Capabilities",
    "Capability",
    "CapabilitySet",
    "HalfSwitched",
    "Identity",
    "Ids",
    "MissingCapability",
    "NotAllThreads",
    "Securebits",
    "Set",
    "UnsafeSwitch",
    "ambient",
    "bounding",
    "drop_privileges",
    "effective",
    "identity",
    "inheritable",
    "keepcaps",
    "no_new_privs",
    "permitted",
    "securebits",
    "set_keepcaps",
    "set_no_new_privs",
    "set_securebits",
    "temporarily",
    "threads",
]

_SETPCAP = CapabilitySet([Capability.CAP_SETPCAP])


# -- reading


def identity(pid: int | None = None) -> Identity:
    """Return the ids, groups, capabilities and flags of a process or thread.

    Args:
        pid: the pid of a process, for its main thread, or the id of a thread. None: the calling thread; only its
            securebits are known.

    Raises:
        ProcessLookupError: there is no such process or thread.
        OSError: /proc is not mounted, or belongs to another PID namespace.
    """
    return _credentials.own() if pid is None else read_identity(pid)


def threads(pid: int | None = None) -> dict[int, Identity]:
    """Return the identity of each thread of a process by thread id. Default: this process.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return _credentials.threads(pid)


# -- the five sets


class Set:
    """One of the five sets of this process: `effective`, `permitted`, `inheritable`, `bounding` or `ambient`.

    >>> from fastproc import privileges
    >>> privileges.effective.drop("net_raw")  # doctest: +SKIP
    >>> "net_raw" in privileges.effective.read()  # doctest: +SKIP
    False
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        """Store the name."""
        self.name = name

    def read(self, pid: int | None = None) -> CapabilitySet:
        """Return the set, of the calling thread or of another process.

        Raises:
            ProcessLookupError: there is no such process.
        """
        of = _credentials.sets() if pid is None else read_identity(pid).capabilities
        found: CapabilitySet = getattr(of, self.name)
        return found

    def set(self, capabilities: str | Iterable[CapabilityLike]) -> None:
        """Set the set to exactly these capabilities, in all threads.

        The kernel also changes other sets. A capability that is removed from the permitted set is removed from the
        effective and ambient sets too. A capability that is removed from the inheritable set is removed from the
        ambient set too. A removal from the bounding set changes no other set (GOTCHAS G13).

        Raises:
            MissingCapability: effective, permitted: a capability is not permitted. inheritable: a capability is not
                permitted and cap_setpcap is missing, or a capability is not in the bounding set. bounding: cap_setpcap
                is missing, or a capability is not in the set and cannot be added. ambient: a capability is not
                permitted or not inheritable.
            PermissionError: the securebits lock the ambient set, or a security module refuses the change.
            NotAllThreads: the threads differ, or a thread cannot be reached. Nothing was changed, unless `changed` is
                set.
            ValueError: this kernel does not have one of the capabilities.
        """
        wanted = as_set(self.name, capabilities)
        with _credentials.lock:
            self._become(wanted, wanted)

    def raise_(self, *capabilities: CapabilityLike) -> None:
        """Add capabilities. Raises as `set()`."""
        more = as_set(self.name, capabilities)
        with _credentials.lock:
            self._become(self.read() | more, more)

    def drop(self, *capabilities: CapabilityLike) -> None:
        """Remove capabilities; those that are not in the set are ignored. Raises as `set()`."""
        less = as_set(self.name, capabilities)
        with _credentials.lock:
            self._become(self.read() - less, less)

    def clear(self) -> None:
        """Remove all capabilities. Raises as `set()`."""
        self.set(())

    def _become(self, wanted: CapabilitySet, named: CapabilitySet) -> None:
        check_known(self.name, named)
        now = _credentials.uniform(rights)
        if wanted == getattr(now.capabilities, self.name):
            return
        changes, expected = _PLANS[self.name](now, wanted)
        _credentials.change(self.name, [changes])
        _credentials.verify(rights, (expected, now.no_new_privs), self.name)

    def __repr__(self) -> str:
        return f"<the {self.name} set of this process>"


def _effective(now: Identity, wanted: CapabilitySet) -> tuple[Change, Capabilities]:
    has = now.capabilities
    if not wanted <= has.permitted:
        raise missing(wanted - has.permitted, "effective: {} is not permitted to this process")
    return _credentials.capset(wanted, has.permitted, has.inheritable), has._replace(effective=wanted)


def _permitted(now: Identity, wanted: CapabilitySet) -> tuple[Change, Capabilities]:
    has = now.capabilities
    if not wanted <= has.permitted:
        raise missing(wanted - has.permitted, "permitted: {} is not in this set, and only an execve can add to it")
    after = has._replace(
        effective=has.effective & wanted, permitted=wanted, ambient=has.ambient & wanted & has.inheritable
    )
    return _credentials.capset(after.effective, wanted, has.inheritable), after


def _inheritable(now: Identity, wanted: CapabilitySet) -> tuple[Change, Capabilities]:
    has = now.capabilities
    beyond = wanted - (has.inheritable | has.permitted)
    if beyond and not has.effective >= _SETPCAP:
        raise missing(_SETPCAP, f"inheritable: {', '.join(beyond.names)} is not permitted: adding it needs {{}}")
    beyond = wanted - (has.inheritable | has.bounding)
    if beyond:
        raise missing(beyond, "inheritable: {} is not in the bounding set")
    after = has._replace(inheritable=wanted, ambient=has.ambient & wanted)
    return _credentials.capset(has.effective, has.permitted, wanted), after


def _bounding(now: Identity, wanted: CapabilitySet) -> tuple[Change, Capabilities]:
    has = now.capabilities
    if not wanted <= has.bounding:
        raise missing(wanted - has.bounding, "bounding: {} is not in this set, and nothing can add to it")
    if not has.effective >= _SETPCAP:
        raise missing(_SETPCAP, "bounding: dropping from it needs {} in the effective set")
    return (_credentials.BOUNDING, ((has.bounding - wanted).mask,)), has._replace(bounding=wanted)


def _ambient(now: Identity, wanted: CapabilitySet) -> tuple[Change, Capabilities]:
    has = now.capabilities
    more = wanted - has.ambient
    if not more <= has.permitted:
        raise missing(more - has.permitted, "ambient: {} is not permitted to this process")
    if not more <= has.inheritable:
        raise missing(more - has.inheritable, "ambient: {} is not in the inheritable set: raise it there first")
    if more and now.securebits is not None and Securebits.NO_CAP_AMBIENT_RAISE in now.securebits:
        raise PermissionError(1, "ambient: the securebits of this process (no_cap_ambient_raise) forbid adding any")
    return (_credentials.AMBIENT, (wanted.mask,)), has._replace(ambient=wanted)


_PLANS = {
    "effective": _effective,
    "permitted": _permitted,
    "inheritable": _inheritable,
    "bounding": _bounding,
    "ambient": _ambient,
}

effective = Set("effective")
permitted = Set("permitted")
inheritable = Set("inheritable")
bounding = Set("bounding")
ambient = Set("ambient")


# -- flags


def securebits() -> Securebits:
    """Return the securebits of the calling thread (PR_GET_SECUREBITS). The kernel does not report other threads'.

    Raises:
        OSError: this kernel has no securebits.
    """
    found = _credentials.held().securebits
    if found < 0:
        raise OSError(38, "this kernel has no securebits")
    return Securebits(found)


def set_securebits(flags: Securebits | int) -> None:
    """Set the securebits to exactly these flags, in all threads.

    Raises:
        MissingCapability: cap_setpcap is missing.
        PermissionError: a flag is locked, or is a lock that would be removed.
        ValueError: there is no such flag, or this kernel does not have it.
        NotAllThreads: a thread cannot be reached.
    """
    wanted = _credentials.check_securebits("flags", flags)
    with _credentials.lock:
        before = securebits()
        if wanted == before:
            return
        _refuse_locked(before, wanted)
        try:
            _credentials.change("securebits", [(_credentials.SECUREBITS, (int(wanted),))])
        except PermissionError:
            if not _credentials.own().capabilities.effective >= _SETPCAP:
                raise missing(_SETPCAP, "securebits: changing them needs {} in the effective set") from None
            new = wanted & ~before
            raise ValueError(f"flags: this kernel does not have all of {', '.join(new.names)}") from None
        if securebits() != wanted:
            raise NotAllThreads(f"securebits: read back: {securebits()!r}, expected {wanted!r}", changed=True)


def _refuse_locked(before: Securebits, wanted: Securebits) -> None:
    for flag in Securebits:
        locks = bool(int(flag) & 0xAAA)
        if locks and flag in before and flag not in wanted:
            raise PermissionError(1, f"securebits: {flag.names[0]} cannot be removed")
        if not locks and int(before) >> 1 & int(flag) and (flag in before) != (flag in wanted):
            raise PermissionError(1, f"securebits: {flag.names[0]} is locked")


def no_new_privs() -> bool:
    """Return whether execve(2) grants the calling thread no privileges (PR_GET_NO_NEW_PRIVS)."""
    return _credentials.held().no_new_privs == 1


def set_no_new_privs() -> None:
    """Set no_new_privs in all threads: no execve(2) grants privileges any more. Irreversible; needs no privilege.

    Raises:
        NotAllThreads: a thread cannot be reached; nothing was changed.
    """
    with _credentials.lock:
        _credentials.change("no_new_privs", [(_credentials.NO_NEW_PRIVS, (1,))])
        for tid, one in _credentials.threads().items():
            if not one.no_new_privs:
                raise NotAllThreads(f"no_new_privs: read back: not in thread {tid}", changed=True, tid=tid)


def keepcaps() -> bool:
    """Return whether the calling thread keeps its permitted set when it gives up uid 0 (PR_GET_KEEPCAPS)."""
    return _credentials.held().keepcaps == 1


def set_keepcaps(on: bool) -> None:
    """Set in all threads whether this process keeps its permitted set when it gives up uid 0. execve(2) clears it.

    `drop_privileges()` does this itself.

    Raises:
        PermissionError: the securebits lock the flag.
        NotAllThreads: a thread cannot be reached; nothing was changed.
    """
    if not isinstance(on, bool):
        raise TypeError(f"on: must be True or False, not {on!r}")
    with _credentials.lock:
        if keepcaps() != on:
            _refuse_locked(securebits(), securebits() ^ Securebits.KEEP_CAPS)
        _credentials.change("keepcaps", [(_credentials.KEEPCAPS, (int(on),))])
        if keepcaps() != on:
            raise NotAllThreads(f"keepcaps: read back: {not on}", changed=True)
