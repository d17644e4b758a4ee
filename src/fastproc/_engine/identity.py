"""The I/O half of a child's identity: users and groups looked up, the root and a Landlock ruleset opened.

All in the parent, before the child exists (GOTCHAS G8): a look-up takes locks, and in a changed root it would load what
lies there.
"""

from __future__ import annotations

import itertools
import os
from _functools import partial  # type: ignore[import-not-found]

from fastproc._engine.fds import OwnedFd
from fastproc._native import credentials as _held
from fastproc._native import identity as _native
from fastproc._native.users import passwd_ids as _passwd_ids
from fastproc._values.capabilities import Capabilities, CapabilitySet
from fastproc._values.credentials import CLOCKS, NAMESPACES, check_after_exec, check_ambient_after_exec, id_inside
from fastproc._values.identity import Securebits, check_id
from fastproc._values.users import UnknownUser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from fastproc._engine.fds import Opened
    from fastproc._values.plan import ResolvedOptions

REQUESTS_MAX = 16
"""How many requests one set of options keeps, for names that lead to other ids from one time to the next."""

PATH_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC


def resolve_identity(values: Mapping[str, Any], opened: Opened, root_fd: int) -> Any:
    """Return the struct fp_identity of a command's options.

    Args:
        values: the normalised options.
        opened: takes what is opened here.
        root_fd: of the new root, or -1.

    Raises:
        UnknownUser, UnknownGroup: there is none of that name.
        ValueError: a user without an entry whose group or groups are not given; sets that no program can have.
        OSError: a path of `landlock` cannot be opened, with its name; or the kernel has no Landlock.
    """
    spec: dict[str, Any] = {"root_fd": root_fd}
    _add_ids(spec, values)
    return _finish(spec, values, opened)


def request_of(settled: ResolvedOptions, make_request: Callable[[Any], object]) -> object:
    """Return the prepared request of a direct command with an identity: an earlier one, when nothing can be different.

    A user who is not root, with a group, decides alone: what else holds for this process does not matter then. Names
    are looked up each time, and lead to the request for these ids.

    Args:
        settled: what the options mean; `direct`, with an `identity`.
        make_request: from a struct fp_identity to a request.

    Raises:
        UnknownUser, UnknownGroup, ValueError, OSError: as resolve_identity().
    """
    values = settled.identity
    assert values is not None
    spec: dict[str, Any] = {}
    _add_ids(spec, values)
    if not spec.get("uid") or "gid" not in spec or "namespaces" in values:
        return make_request(_finish(spec, values, None))
    key = spec["uid"], spec["gid"], tuple(spec.get("groups", (-1,)))
    request = settled.requests.get(key)
    if request is None:
        request = make_request(_finish(spec, values, None))
        if not _has_names(values):
            settled.request = request
        elif len(settled.requests) < REQUESTS_MAX:
            settled.requests[key] = request
    return request


def _has_names(values: Mapping[str, Any]) -> bool:
    groups = values.get("groups", "init")
    who = values.get("user"), values.get("group"), *(("init",) if isinstance(groups, str) else groups)
    return any(isinstance(item, str) for item in who) or None in who


def _finish(spec: dict[str, Any], values: Mapping[str, Any], opened: Opened | None) -> Any:
    if "securebits" in values:
        spec["securebits"] = values["securebits"]
    _add_sets(spec, values)
    if "namespaces" in values:
        _add_namespaces(spec, values)
    if "landlock" in values:
        assert opened is not None
        spec["ruleset_fd"], lists_root = _make_ruleset(values["landlock"], opened, spec["root_fd"])
        if not lists_root:
            spec["root_hidden"] = True
    if "seccomp" in values:
        spec["filter"] = values["seccomp"]
    return _native.make(spec)


def _add_ids(spec: dict[str, Any], values: Mapping[str, Any]) -> None:
    if not ("user" in values or "group" in values or "groups" in values):
        return
    groups = values.get("groups", "init" if "user" in values else "keep")
    if "user" in values:
        _add_user(spec, values, groups)
    if "group" in values:
        spec["gid"] = _gid("group", values["group"])
    if groups == "init":
        from fastproc import users

        spec["groups"] = _as_listed(set(users.group_list(values["user"], spec["gid"])), values)
    elif groups != "keep":
        spec["groups"] = _as_listed({_gid("groups", item) for item in groups}, values)


def _add_user(spec: dict[str, Any], values: Mapping[str, Any], groups: object) -> None:
    who = values["user"]
    named = isinstance(who, str)
    if not named:
        spec["uid"] = who
        if "group" in values and groups != "init":
            return
    ids = _passwd_ids(os.fsencode(who)) if named else _passwd_ids(None, who)
    if ids is None:
        if named:
            raise UnknownUser(who)
        name = "group" if "group" not in values else "groups"
        raise ValueError(f"{name}: user {who} has no entry in the user database: give {name}=")
    spec["uid"] = check_id("user", ids[0]) if named else who
    if "group" not in values:
        spec["gid"] = check_id("group", ids[1])


def _as_listed(groups: set[int], values: Mapping[str, Any]) -> list[int]:
    """Return groups in the order of getgroups(2), for the comparison: the kernel sorts them by the ids outside."""
    extents = [(outside, inside, count) for inside, outside, count in values.get("gid_map", ())]
    return sorted(groups, key=lambda gid: (id_inside(tuple(extents), gid), gid))


def _gid(option: str, who: str | int) -> int:
    if isinstance(who, int):
        return who
    from fastproc import users

    return check_id(option, users.group(who).gid)


def _add_sets(spec: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Add the sets. What execve would make of them is looked at: the program has what is asked for, or is refused."""
    if "bounding" in values:
        spec["bounding"] = values["bounding"].mask
    given = values.get("capabilities")
    if given is None and "ambient" not in values and "bounding" not in values:
        return
    real, effective, differ = _ids_at_exec(spec, values)
    if given is None:
        if values.get("ambient"):
            check_ambient_after_exec(values["ambient"], differ)
        if "ambient" in values:
            spec["ambient"] = values["ambient"].mask
        if "bounding" in values and not spec.get("uid"):
            _limit_to_bounding(spec, values)
        return
    if isinstance(given, Capabilities):
        sets = given
        spec["bounding"] = sets.bounding.mask
    else:
        ambient = values.get("ambient", given)
        sets = Capabilities(given, given, given, CapabilitySet(), ambient)
    noroot = True  # as good as that for who is not root
    if 0 in (real, effective):
        in_new_user = "user" in values.get("namespaces", ())
        held = _held.held()
        # A new user namespace begins without securebits, and with all capabilities in the bounding set.
        bits = spec.get("securebits", 0 if in_new_user else max(held.securebits, 0))
        noroot = bool(bits & Securebits.NOROOT)
        if not noroot:
            mask = spec.get("bounding", 2**64 - 1 if in_new_user else held.bounding)
            sets = sets._replace(bounding=CapabilitySet.from_mask(mask))
    check_ambient_after_exec(sets.ambient, differ)
    gains = values.get("no_new_privs") is False
    check_after_exec(sets, real == 0 and not noroot, effective == 0 and not noroot, not gains)
    for name in ("effective", "permitted", "inheritable", "ambient"):
        spec[name] = getattr(sets, name).mask


def _ids_at_exec(spec: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[int, int, bool]:
    """Return the real and effective uid that execve will see, and whether it clears the ambient set as ids differ.

    In a new user namespace they are what the map makes of them; one that is not in it is nobody's (-1), not root.
    """
    uids = (os.getuid(), os.geteuid())
    differ = ("gid" not in spec and os.getgid() != os.getegid()) or ("uid" not in spec and uids[0] != uids[1])
    if "uid" in spec:
        return spec["uid"], spec["uid"], differ
    if "user" in values.get("namespaces", ()):
        extents = _uid_map(values)
        uids = (id_inside(extents, uids[0]), id_inside(extents, uids[1]))
    return *uids, differ and _clears_ambient()


def _clears_ambient() -> bool:
    """Whether execve clears the ambient set when real and effective ids differ already: Linux before 6.16."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(itertools.takewhile(str.isdigit, minor)))) < (6, 16)


def _limit_to_bounding(spec: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Keep nothing beyond the bounding set, which limits what root gains, not what is inheritable (GOTCHAS G13, G14).

    That would come back to root by execve: P'(permitted) = P(inheritable) | P(bounding).
    """
    bounding, ambient = spec["bounding"], spec.get("ambient", 0)
    if "user" in values.get("namespaces", ()):
        # All that this kernel has, and none inheritable (user_namespaces(7)).
        known = sum(1 << number for number in range(64) if _held.in_bounding(number) is not None)
        effective, permitted, inheritable, kept = known, known, 0, 0
    else:
        held = _held.held()
        effective, permitted, inheritable = held.effective, held.permitted, held.inheritable
        kept = max(held.ambient, 0)
    if "ambient" not in spec:
        spec["ambient"] = ambient = kept & bounding
    for name, mask in (("effective", effective), ("permitted", permitted), ("inheritable", inheritable)):
        spec[name] = mask & bounding | ambient


def _add_namespaces(spec: dict[str, Any], values: Mapping[str, Any]) -> None:
    flags = 0
    for name in values["namespaces"]:
        flags |= NAMESPACES[name]
    spec["namespaces"] = flags
    if "time_offsets" in values:
        offsets = dict(values["time_offsets"])
        spec["time_offset_ns"] = tuple(offsets.get(clock, 0) for clock in CLOCKS)
    if "user" not in values["namespaces"]:
        return
    # As unshare(1) --map-root-user has it, where nothing else is said: the caller is root inside.
    spec["uid_map"] = _map_text(_uid_map(values))
    spec["gid_map"] = _map_text(values.get("gid_map") or ((0, os.getegid(), 1),))
    if not _held.held().effective >> 6 & 1:  # CAP_SETGID
        spec["deny_setgroups"] = True
        if "groups" in spec:
            raise ValueError("groups: in a user namespace of a caller without cap_setgid they cannot be set: 'keep'")


def _uid_map(values: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    return values.get("uid_map") or ((0, os.geteuid(), 1),)


def _map_text(extents: tuple[tuple[int, int, int], ...]) -> bytes:
    return b"".join(b"%d %d %d\n" % extent for extent in extents)


def _make_ruleset(rules: tuple[tuple[str, str], ...], opened: Opened, root_fd: int) -> tuple[int, bool]:
    """Return the descriptor of a new ruleset, and whether by its rules the child may list its root."""
    ruleset = OwnedFd()
    opened.own(ruleset)
    ruleset.fill(_native.fp_landlock_ruleset)
    above, lists_root = _and_above(root_fd), False
    for path, access in rules:
        fd = opened.open(path, PATH_FLAGS, 0)
        _native.landlock_allow(ruleset.number, fd, access)
        lists_root = lists_root or ("r" in access and _file_id(os.fstat(fd)) in above)
    return ruleset.number, lists_root


def _and_above(root_fd: int) -> set[tuple[int, int]]:
    """Return the ids of the child's root and all directories above it: a rule about one is about what is below, too."""
    found = {_file_id(os.stat("/"))}
    if root_fd < 0:
        return found
    one = _file_id(os.fstat(root_fd))
    with OwnedFd() as place:
        while one not in found:
            found.add(one)
            with OwnedFd() as above:
                try:
                    above.fill(partial(os.open, dir_fd=root_fd if place.closed else place.number), "..", PATH_FLAGS)
                except OSError:
                    break  # without a way to it no rule can name it either
                one = _file_id(os.fstat(above.number))
                place.close()
                place.take_over(above)
    return found


def _file_id(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
