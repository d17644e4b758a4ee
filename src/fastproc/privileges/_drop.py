"""Dropping privileges irreversibly, in one transaction that is verified at the end.

The kernel's rules decide the order (GOTCHAS G2, G10, G11). setgroups(2) needs a capability that the change of uids
removes. The change of uids clears the ambient set and, without keepcaps, the permitted set. The irreversible changes,
of the bounding and the permitted set, come last, so that an earlier failure can be undone. keepcaps preserves
CAP_SETPCAP for them.
"""

from __future__ import annotations

import errno
import os

from fastproc._engine.loading import load_if_unreadable
from fastproc._values.capabilities import Capabilities, CapabilitySet, as_set
from fastproc._values.identity import Identity, Ids, Securebits
from fastproc.privileges import _all_threads as _credentials
from fastproc.privileges._all_threads import NotAllThreads, everything, missing
from fastproc.privileges._switch import NONE, SETGID, SETPCAP, SETUID, go_back, half_switched, needed, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    from fastproc._native.credentials import Change
    from fastproc._values.capabilities import CapabilityLike
    from fastproc.privileges._switch import GroupLike, Groups, Target, UserLike
    from fastproc.users import Users

    Capable = str | Iterable[CapabilityLike]


class _Plan:
    """The identity before and after the change, and the capabilities that the change needs."""

    def __init__(
        self,
        whom: Target,
        keep: CapabilitySet,
        ambient: CapabilitySet,
        bounding: CapabilitySet | Literal["keep"] | None,
        securebits: Securebits | None,
        no_new_privs: bool,
    ) -> None:
        self.before = before = _credentials.uniform(everything)
        has = before.capabilities
        if not keep <= has.permitted:
            raise missing(keep - has.permitted, "keep: {} is not permitted to this process")
        if not ambient <= keep:
            raise ValueError(f"ambient: {', '.join((ambient - keep).names)} must be in keep too")
        uid, gid, groups = whom
        self.uids = before.uids if uid is None else Ids(uid, uid, uid, uid)
        self.gids = before.gids if gid is None else Ids(gid, gid, gid, gid)
        self.groups = before.groups if groups is None else groups
        if isinstance(bounding, str):
            self.bounding = has.bounding
        else:
            self.bounding = has.bounding & keep if bounding is None else bounding
        if not self.bounding <= has.bounding:
            raise missing(self.bounding - has.bounding, "bounding: {} is not in this set, and nothing can add to it")
        if not ambient <= has.inheritable | self.bounding:
            raise missing(ambient - has.inheritable - self.bounding, "ambient: {} is not in the bounding set")
        self.capabilities = Capabilities(keep, keep, ambient, self.bounding, ambient)
        bits = before.securebits or Securebits(0)
        self.securebits = bits if securebits is None else securebits
        self.new_securebits = self.securebits != bits
        self.no_new_privs = before.no_new_privs or no_new_privs
        self.need = needed(before, self.uids, self.gids, self.groups)
        for change, what in (
            (self.bounding != has.bounding, 'dropping from the bounding set (bounding="keep" leaves it)'),
            (self.new_securebits, "changing the securebits"),
        ):
            if change and not has.permitted >= SETPCAP:
                raise missing(SETPCAP, f"{what} needs {{}}, which is not permitted to this process")
            if change:
                self.need |= SETPCAP
        # GOTCHAS G11: when none of the three uids is 0 any more, the kernel clears the permitted set unless keepcaps is
        # set.
        leaves_root = 0 in before.uids[:3] and 0 not in self.uids[:3] and Securebits.NO_SETUID_FIXUP not in bits
        self.loses_all = False
        self.set_keepcaps = leaves_root and Securebits.KEEP_CAPS not in bits
        self._refuse_locks(bits, keep, ambient)

    def _refuse_locks(self, bits: Securebits, keep: CapabilitySet, ambient: CapabilitySet) -> None:
        if ambient and Securebits.NO_CAP_AMBIENT_RAISE in bits:
            raise PermissionError(errno.EPERM, "ambient: the securebits (no_cap_ambient_raise) forbid adding any")
        if self.set_keepcaps and Securebits.KEEP_CAPS_LOCKED in bits:
            if keep or self.new_securebits:
                raise PermissionError(errno.EPERM, "keep: the securebits (keep_caps_locked) forbid keeping any")
            self.set_keepcaps, self.loses_all = False, True

    def expected(self) -> tuple[object, ...]:
        """Return the properties that all threads must have at the end."""
        return self.uids, self.gids, self.groups, self.capabilities, self.no_new_privs


def drop_privileges(
    user: UserLike | None = None,
    *,
    group: GroupLike | None = None,
    groups: Groups | None = None,
    keep: Capable = (),
    ambient: Capable = (),
    bounding: Capable | Literal["keep"] | None = None,
    securebits: Securebits | None = None,
    no_new_privs: bool = True,
    users: Users | None = None,
    load: bool = True,
) -> Identity:
    """Drop privileges irreversibly: become another user and keep only the named capabilities, in one transaction.

    All threads of the process change. Afterwards the identity of all threads is read back. Then the function tries to
    restore the old ids, which must fail, unless a kept capability permits it. All names are looked up and all arguments
    checked first. If a step before the first irreversible step fails, the earlier steps are undone.

    After a change of ids the process is not dumpable (PR_GET_DUMPABLE is 0), so other processes of the new user cannot
    read secrets from its memory. The kernel clears its parent-death signal (GOTCHAS G19). Its session keyring is kept
    (keyrings(7)).

    Args:
        user: a name, an id or a User; None: keep the user, and only drop capabilities.
        group: a name, an id or a Group; None: the user's primary group.
        groups: the supplementary groups: "init" for the user's groups, "keep", or a list of groups. Default: "init" if
            a user is given, otherwise "keep".
        keep: capabilities that stay permitted and effective. Default: none.
        ambient: those capabilities of `keep` that programs executed later get too. They become inheritable, and all
            others not inheritable.
        bounding: the capabilities that stay in the bounding set; "keep" leaves the set; None means the same as `keep`.
        securebits: the new flags, exactly; None keeps the flags.
        no_new_privs: no execve(2) grants privileges any more.
        users: the database for names; None for the system's.
        load: first import all modules of fastproc if the new user may be unable to read them (0.3 s).

    Returns:
        the new identity of this process.

    Raises:
        MissingCapability: a capability to keep, or one that the change needs, is not permitted.
        UnknownUser, UnknownGroup: there is no such user or group.
        TypeError, ValueError: an argument is invalid.
        NotAllThreads: the threads differ, or a thread cannot be reached; nothing was changed.
        HalfSwitched: a step failed, and earlier steps cannot be undone. End the process.
        OSError: a step failed; nothing was changed.
    """
    flags = None if securebits is None else _credentials.check_securebits("securebits", securebits)
    if not isinstance(no_new_privs, bool):
        raise TypeError(f"no_new_privs: must be True or False, not {no_new_privs!r}")
    sets = [as_set(name, value) for name, value in (("keep", keep), ("ambient", ambient))]
    leave = isinstance(bounding, str) and bounding == "keep"
    limit = None if bounding is None or leave else as_set("bounding", bounding)
    for name, some in (("keep", sets[0]), ("bounding", limit or NONE)):
        _credentials.check_known(name, some)
    whom = target(user, group, groups, users)
    if load:
        load_if_unreadable()
    with _credentials.lock:
        return _Drop(_Plan(whom, sets[0], sets[1], "keep" if leave else limit, flags, no_new_privs)).run()


drop_privileges.__module__ = "fastproc.privileges"


class _Drop:
    """The steps, in the only possible order."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.before = plan.before
        self.stage = ""

    def run(self) -> Identity:
        try:
            self._reach()
            self._groups()
            self._keep()
            self._uids()
            self._limits()
            self._capabilities()
            found = self._verify()
            self._prove()
            return found
        except BaseException as error:
            if go_back(self.before):
                raise
            raise half_switched(self.stage) from error

    def _change(self, changes: list[Change]) -> None:
        _credentials.change(f"drop_privileges: {self.stage}", changes)

    def _set_ids(self, call: Callable[..., None], *ids: object) -> None:
        _credentials.set_ids(f"drop_privileges: {self.stage}", call, *ids)

    def _reach(self) -> None:
        """Verify first that every thread can be reached; make the needed capabilities effective."""
        self.stage = "reach"
        has = self.before.capabilities
        self._change([_credentials.capset(has.effective | self.plan.need, has.permitted, has.inheritable)])

    def _groups(self) -> None:
        plan = self.plan
        self.stage = "groups"
        if plan.groups != self.before.groups:
            self._set_ids(os.setgroups, plan.groups)
        self._read_back(tuple(sorted(os.getgroups())), plan.groups)
        self.stage = "gids"
        if plan.gids != self.before.gids:
            self._set_ids(os.setresgid, *plan.gids[:3])
        self._read_back(os.getresgid(), plan.gids[:3])

    def _keep(self) -> None:
        plan, has = self.plan, self.before.capabilities
        self.stage = "keepcaps"
        if plan.set_keepcaps:
            self._change([(_credentials.KEEPCAPS, (1,))])
        elif plan.loses_all and plan.bounding != has.bounding:
            self._change([self._bounding()])

    def _uids(self) -> None:
        plan = self.plan
        self.stage = "uids"
        if plan.uids != self.before.uids:
            self._set_ids(os.setresuid, *plan.uids[:3])
        self._read_back(os.getresuid(), plan.uids[:3])

    def _limits(self) -> None:
        plan, has = self.plan, _credentials.sets()
        self.stage = "ambient"
        ambient = plan.capabilities.ambient
        working = _credentials.capset(plan.need & SETPCAP & has.permitted, has.permitted, ambient)
        # After the change of uids (GOTCHAS G10), and before the securebits, which may forbid it.
        self._change([working, (_credentials.AMBIENT, (ambient.mask,))])
        self._read_back(_credentials.sets().ambient, ambient)
        self.stage = "bounding"
        if plan.bounding != has.bounding:
            self._change([self._bounding()])
        self._read_back(_credentials.sets().bounding, plan.bounding)

    def _bounding(self) -> Change:
        return _credentials.BOUNDING, ((self.before.capabilities.bounding - self.plan.bounding).mask,)

    def _capabilities(self) -> None:
        plan = self.plan
        self.stage = "capabilities"
        keep, ambient = plan.capabilities.permitted, plan.capabilities.ambient
        changes: list[Change] = []
        if plan.new_securebits:
            changes.append((_credentials.SECUREBITS, (int(plan.securebits),)))
        elif plan.set_keepcaps:
            changes.append((_credentials.KEEPCAPS, (0,)))
        changes.append(_credentials.capset(keep, keep, ambient))
        if plan.no_new_privs:
            changes.append((_credentials.NO_NEW_PRIVS, (1,)))
        self._change(changes)

    def _verify(self) -> Identity:
        self.stage = "verify"
        found = _credentials.verify(everything, self.plan.expected(), "drop_privileges")
        self._read_back(found.securebits or Securebits(0), self.plan.securebits)
        return found

    def _prove(self) -> None:
        """Try to restore the old user and group, which must fail. OpenSSH does the same."""
        self.stage = "proof"
        keep = self.plan.capabilities.permitted
        if not keep & SETUID:
            self._must_fail(os.seteuid, self.before.uids, self.plan.uids)
        if not keep & SETGID:
            self._must_fail(os.setegid, self.before.gids, self.plan.gids)

    def _must_fail(self, call: Callable[[int], None], old: Ids, new: Ids) -> None:
        for number in {*old} - {*new}:
            try:
                call(number)
            except PermissionError:
                continue
            call(new.effective)  # give up at least the effective id again
            raise NotAllThreads(f"drop_privileges: the id {number} could be restored", changed=True)

    def _read_back(self, found: object, expected: object) -> None:
        # GOTCHAS G3: a call may return 0 and do nothing.
        if found != expected:
            raise OSError(errno.EPERM, f"drop_privileges: {self.stage}: read back {found}, expected {expected}")
