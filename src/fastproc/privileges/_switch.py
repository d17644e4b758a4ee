"""The ids of a new identity, restoring the old identity, and a temporary change of the user."""

from __future__ import annotations

import os
import sys

from fastproc._engine.loading import load_if_unreadable
from fastproc._values.capabilities import CapabilitySet
from fastproc._values.identity import Identity, Ids, Securebits, check_id
from fastproc._values.users import Group, User
from fastproc.errors import ProcessError
from fastproc.privileges import _all_threads as _credentials
from fastproc.privileges._all_threads import everything, missing
from fastproc.users import SystemUsers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Literal, NamedTuple

    from fastproc._native.credentials import Change
    from fastproc.users import Users

    UserLike = str | int | User
    GroupLike = str | int | Group
    Groups = Literal["init", "keep"] | Iterable[GroupLike]

    class Target(NamedTuple):
        """The ids of a new identity. None: keep the current value."""

        uid: int | None
        gid: int | None
        groups: tuple[int, ...] | None

else:
    from collections import namedtuple

    Target = namedtuple("Target", "uid gid groups", module=__name__)

NONE = CapabilitySet()
SETUID, SETGID, SETPCAP = (CapabilitySet([name]) for name in ("setuid", "setgid", "setpcap"))


class HalfSwitched(ProcessError):
    """A change of identity could neither be finished nor undone: end the process.

    Attributes:
        stage: the step that failed. Its exception is the __cause__.
        identity: the current identity of the calling thread; None if it could not be read.
    """

    __module__ = "fastproc.privileges"

    def __init__(self, stage: str, identity: Identity | None) -> None:
        """Store both."""
        super().__init__(stage, identity)
        self.stage = stage
        self.identity = identity

    def __str__(self) -> str:
        """Return the step and the advice to exit."""
        return f"the change of identity failed at {self.stage} and could not be undone: this process should end"


# -- the ids of a new identity


def target(user: UserLike | None, group: GroupLike | None, groups: Groups | None, users: Users | None = None) -> Target:
    """Return the ids of a user, a group and the supplementary groups (GOTCHAS G1).

    Args:
        user: a name, an id or an entry; None: keep the user.
        group: a name, an id or an entry; None: the user's primary group.
        groups: "init" for all groups of the user; "keep" for the current groups; or a list of groups, which may be
            empty. Default: "init" if a user is given, otherwise "keep".
        users: the database; None for the system's.

    Raises:
        UnknownUser, UnknownGroup: there is no such name.
        TypeError, ValueError: an argument is invalid, or an id has no entry and its primary group or groups are
            needed.
        OSError: the database could not be read.
    """
    place = SystemUsers() if users is None else users
    entry = None
    uid = None
    if isinstance(user, User):
        entry, uid = user, check_id("user", user.uid)
    elif user is not None:
        entry = place.user(user) if isinstance(user, str) else place.find_user(user)
        uid = entry.uid if entry is not None else check_id("user", user)
    gid = None if group is None else _gid("group", group, place)
    if gid is None and uid is not None:
        gid = check_id("group", _known(entry, uid, "group").gid)
    if groups is None and uid is not None:
        groups = "init"
    if isinstance(groups, str):
        if groups not in ("init", "keep"):
            raise ValueError(f'groups: must be "init", "keep" or a list of groups, not {groups!r}')
        if groups == "keep":
            return Target(uid, gid, None)
        if uid is None:
            raise ValueError('groups: "init" needs a user')
        return Target(uid, gid, tuple(sorted(set(place.group_list(_known(entry, uid, "groups"), gid)))))
    if groups is None:
        return Target(uid, gid, None)
    if isinstance(groups, (bytes, int)):
        raise TypeError(f'groups: must be "init", "keep" or a list of groups, not {groups!r}')
    return Target(uid, gid, tuple(sorted({_gid("groups", some, place) for some in groups})))


def _known(entry: User | None, uid: int, option: str) -> User:
    if entry is None:
        raise ValueError(f"{option}: must be given, because the user database has no entry with the id {uid}")
    return entry


def _gid(name: str, group: GroupLike, place: Users) -> int:
    if isinstance(group, Group):
        return check_id(name, group.gid)
    return place.group(group).gid if isinstance(group, str) else check_id(name, group)


# -- restoring the old identity


def needed(before: Identity, uids: Ids, gids: Ids, groups: tuple[int, ...]) -> CapabilitySet:
    """Return the capabilities that a change of ids needs; none if it only permutes the current three ids.

    Raises:
        MissingCapability: a needed capability is not permitted.
    """
    need = NONE
    for change, capability, what in (
        (not {*uids} <= {*before.uids[:3]}, SETUID, "the user ids"),
        (not {*gids} <= {*before.gids[:3]} or groups != before.groups, SETGID, "the group ids"),
    ):
        if change and not capability <= before.capabilities.permitted:
            raise missing(capability, f"changing {what} needs {{}}, which is not permitted to this process")
        if change:
            need |= capability
    return need


def go_back(before: Identity) -> bool:
    """Restore the identity of all threads; return whether that succeeded. Does nothing if it is impossible.

    If a signal handler raises meanwhile, its exception is raised after the identity is restored.
    """
    try:
        return _undo(before)
    except BaseException:
        if not _undo(before):
            return False
        raise


def _undo(before: Identity) -> bool:
    try:
        now = _credentials.own()
        has, had = now.capabilities, before.capabilities
        # These changes cannot be undone, and a partly restored identity would be worse than none.
        lost = not had.permitted <= has.permitted or has.bounding != had.bounding
        if lost or now.no_new_privs != before.no_new_privs or _others(now) != _others(before):
            return False
        for name, ids, change in (
            ("uids", before.uids, os.setresuid),
            ("gids", before.gids, os.setresgid),
        ):
            _sets_back(before, working=SETUID | SETGID)
            if getattr(_credentials.own(), name) != ids:
                change(*ids[:3])
        _sets_back(before, working=SETUID | SETGID)
        if tuple(sorted(os.getgroups())) != before.groups:
            os.setgroups(before.groups)
        _sets_back(before)
        return everything(_credentials.uniform(everything)) == everything(before)
    except (OSError, ProcessError):
        return False


def _others(identity: Identity) -> int:
    return int(identity.securebits or 0) & ~int(Securebits.KEEP_CAPS)


def _sets_back(before: Identity, *, working: CapabilitySet = NONE) -> None:
    """Restore the sets. Before the last step: with `working` effective too, and without the ambient set."""
    now, had = _credentials.own(), before.capabilities
    changes: list[Change] = []
    if not working and now.securebits != before.securebits:
        changes.append((_credentials.KEEPCAPS, (int(Securebits.KEEP_CAPS in (before.securebits or Securebits(0))),)))
    wanted = had.effective | (working & had.permitted), had.permitted, had.inheritable
    if now.capabilities[:3] != wanted:
        changes.append(_credentials.capset(*wanted))
    if not working and now.capabilities.ambient != had.ambient:
        changes.append((_credentials.AMBIENT, (had.ambient.mask,)))
    if changes:
        _credentials.change("going back", changes)


def half_switched(stage: str) -> HalfSwitched:
    """Return the exception, with the current identity."""
    try:
        return HalfSwitched(stage, _credentials.own())
    except (OSError, ValueError):
        return HalfSwitched(stage, None)


# -- a temporary change


class UnsafeSwitch(ProcessError, RuntimeError):
    """A temporary change of the user is not safe here; the text has the reason. Nothing was changed."""

    __module__ = "fastproc.privileges"


class temporarily:
    """Switch to another user's effective ids in a `with` block, and back at its end.

    Use it to act with the rights of that user, for example to open a file. The effective and filesystem ids and the
    supplementary groups are the user's, and no capability is effective or ambient. All are read back after both
    changes.

    This is not a sandbox: the real and saved ids and the permitted set stay, because they are needed to switch back.
    Untrusted code can restore the old identity, and so can **a program that is started in the block**, because it has
    the old real user id. The kernel clears the parent-death signal of this process (GOTCHAS G19).

    In a process with more than one thread, and in an event loop, other code would be switched too, so UnsafeSwitch is
    raised.

    Args:
        user, group, groups, users: as for `drop_privileges()`.

    Raises:
        UnsafeSwitch: see above; or it would be impossible to switch back.
        MissingCapability: a capability that the change needs is not permitted.
        UnknownUser, UnknownGroup: there is no such user or group.
        TypeError, ValueError: an argument is invalid.
        HalfSwitched: at the end: the old identity cannot be restored. End the process.
        OSError: a step failed; nothing was changed.
    """

    __module__ = "fastproc.privileges"

    def __init__(
        self,
        user: UserLike,
        *,
        group: GroupLike | None = None,
        groups: Groups | None = None,
        users: Users | None = None,
    ) -> None:
        """Look up the names; nothing is changed yet."""
        if user is None:
            raise TypeError("user: must be a name, an id or a User, not None")
        self._target = target(user, group, groups, users)
        self._before: Identity | None = None
        self._dumpable = 0
        self._stage = ""

    def __enter__(self) -> Identity:
        """Switch to the user; return the identity."""
        if self._before is not None:
            raise RuntimeError("this block was entered already")
        # In the block the modules may be unreadable, and the importer caches an unreadable directory as empty.
        load_if_unreadable()
        with _credentials.lock:
            before = _credentials.uniform(everything)
            uids, gids, groups = self._wanted(before)
            need = needed(before, uids, gids, groups)
            _refuse_unsafe(before, uids)
            dumpable = _credentials.held().dumpable
            try:
                self._before, self._dumpable = before, dumpable
                return self._switch(before, uids, gids, groups, need)
            except BaseException as error:
                self._before = None
                if not go_back(before):
                    raise half_switched(self._stage) from error
                _dumpable_again(dumpable)
                raise

    def _wanted(self, before: Identity) -> tuple[Ids, Ids, tuple[int, ...]]:
        uid, gid, groups = self._target
        assert uid is not None
        assert gid is not None
        return (
            before.uids._replace(effective=uid, filesystem=uid),
            before.gids._replace(effective=gid, filesystem=gid),
            before.groups if groups is None else groups,
        )

    def _switch(self, before: Identity, uids: Ids, gids: Ids, groups: tuple[int, ...], need: CapabilitySet) -> Identity:
        has = before.capabilities
        self._stage = "reach"
        _credentials.change("temporarily", [_credentials.capset(has.effective | need, has.permitted, has.inheritable)])
        self._stage = "groups"
        if groups != before.groups:
            _credentials.set_ids("temporarily: groups", os.setgroups, groups)
        self._stage = "gids"
        _credentials.set_ids("temporarily: gids", os.setegid, gids.effective)
        self._stage = "uids"
        _credentials.set_ids("temporarily: uids", os.seteuid, uids.effective)
        self._stage = "capabilities"
        _credentials.change(
            "temporarily",
            [_credentials.capset(NONE, has.permitted, has.inheritable), (_credentials.AMBIENT, (0,))],
        )
        self._stage = "verify"
        sets = has._replace(effective=NONE, ambient=NONE)
        return _credentials.verify(everything, (uids, gids, groups, sets, before.no_new_privs), "temporarily")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the old identity in all threads."""
        try:
            if self._before is None:
                raise RuntimeError("this block was not entered")
            self._leave()
        except BaseException:
            # If a signal handler raises, its exception is raised after the identity is restored.
            self._leave()
            raise

    def _leave(self) -> None:
        before = self._before
        if before is None:
            return
        with _credentials.lock:
            if not go_back(before):
                self._before = None
                raise half_switched("the end")
            _dumpable_again(self._dumpable)
            self._before = None


def _dumpable_again(before: int) -> None:
    # The kernel cleared the flag at the change of uids. The uids are restored, and they protect the memory (GOTCHAS
    # G20).
    if before == 1:
        _credentials.set_dumpable(True)


def _refuse_unsafe(before: Identity, uids: Ids) -> None:
    count = len(_credentials.threads())
    if count > 1:
        raise UnsafeSwitch(f"temporarily: this process has {count} threads, and all of them would be switched")
    if _in_event_loop():
        raise UnsafeSwitch("temporarily: an event loop runs in this thread, and its other tasks would be switched too")
    for ids in (before.uids, before.gids):
        if ids.effective != ids.filesystem:
            raise UnsafeSwitch(f"temporarily: this thread has separate filesystem ids ({ids}), which would be lost")
    bits = before.securebits or Securebits(0)
    keeps = Securebits.KEEP_CAPS in bits or Securebits.NO_SETUID_FIXUP in bits
    if 0 in before.uids[:3] and 0 not in uids[:3] and not keeps:
        raise UnsafeSwitch(
            "temporarily: neither the real nor the saved user id is 0: the kernel would clear the permitted "
            "capabilities, so it would be impossible to switch back"
        )
    if before.uids.effective not in (uids.real, uids.saved) and not before.capabilities.permitted >= SETUID:
        raise UnsafeSwitch("temporarily: it would be impossible to restore the effective user id")
    if before.capabilities.ambient and Securebits.NO_CAP_AMBIENT_RAISE in bits:
        raise UnsafeSwitch("temporarily: the securebits (no_cap_ambient_raise) would keep the ambient set empty")


def _in_event_loop() -> bool:
    # Looked up in sys.modules and not imported: if they are not loaded, no loop runs.
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if running is not None and running() is not None:
        return True
    inside = getattr(getattr(sys.modules.get("trio"), "lowlevel", None), "in_trio_run", None)
    return inside is not None and bool(inside())
