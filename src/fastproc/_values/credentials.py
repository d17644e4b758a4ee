"""The options about who the child is and what it may do: their checks, and what execve(2) makes of the sets. Pure.

Loaded only when a command uses one of them. Names of users are looked up by the engine, at each spawn.
"""

from __future__ import annotations

from fastproc._values.capabilities import Capabilities, CapabilitySet, as_set, name_of
from fastproc._values.checks import check_env_name, check_int, check_path, check_place, iterable
from fastproc._values.identity import Securebits, check_id, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# FP_ID_* and FP_LANDLOCK_* of csrc/fastproc.h are in _native; CLONE_NEW* of clone(2):
NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x00000080,
}
CLOCKS = ("monotonic", "boottime")
GROUPS_MAX = 65536
EXTENTS_MAX = 340
FILTER_MAX = 4096
OFFSET_MAX = 2**62

# sudo(8)'s idea of it: what names a language, a terminal, a time zone.
CLEAN_NAMES = ("TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "TZ")
CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a loader, shell or interpreter takes as an order.
_NEVER = ("IFS", "CDPATH", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PS4", "GCONV_PATH", "LOCPATH", "NLSPATH")
_NEVER_BEGIN = ("LD_", "BASH_FUNC_", "PYTHON", "PERL", "RUBY", "MALLOC_", "GLIBC_TUNABLES")


def _who(name: str, value: object) -> str | int | None:
    if value is None:
        return None
    return check_name(name, value) if isinstance(value, str) else check_id(name, value)


def _check_groups(name: str, value: object) -> str | tuple[str | int, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value not in ("init", "keep"):
            raise ValueError(f"{name}: {value!r} is neither 'init' nor 'keep'; a list of groups is [{value!r}]")
        return value
    found = tuple(dict.fromkeys(_who(f"{name}: item", item) for item in iterable(name, value)))
    if None in found:
        raise TypeError(f"{name}: None is no group")
    if len(found) > GROUPS_MAX:
        raise ValueError(f"{name}: more than {GROUPS_MAX} groups (getgroups(2))")
    return found  # type: ignore[return-value]


def _check_capabilities(name: str, value: object) -> Capabilities | CapabilitySet | None:
    if value is None:
        return None
    if not isinstance(value, Capabilities):
        return as_set(name, value)
    sets = Capabilities(*(as_set(f"{name}: {part}", some) for part, some in value._asdict().items()))
    if sets.effective - sets.permitted:
        raise ValueError(f"{name}: {_names(sets.effective - sets.permitted)} is effective and not permitted")
    outside = sets.ambient - (sets.permitted & sets.inheritable)
    if outside:
        raise ValueError(f"{name}: {_names(outside)} is ambient and not both permitted and inheritable")
    return sets


def _names(some: CapabilitySet) -> str:
    return ", ".join(some.names)


def _check_set(name: str, value: object) -> CapabilitySet | None:
    return None if value is None else as_set(name, value)


def _check_securebits(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        bits = check_int(name, int(value), 0, 2**12 - 1)
    else:
        bits = 0
        for item in iterable(name, value):
            flag = Securebits.__members__.get(str(item).upper()) if isinstance(item, str) else item
            if not isinstance(flag, Securebits):
                known = ", ".join(str(some.name).lower() for some in Securebits)
                raise ValueError(f"{name}: {item!r} is none of {known}")
            bits |= flag
    if bits & Securebits.KEEP_CAPS:
        raise ValueError(f"{name}: keep_caps is cleared by execve(2), no program ever has it (capabilities(7))")
    return bits


def _check_namespaces(name: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    found = tuple(sorted({item if isinstance(item, str) else _no_text(name, item) for item in iterable(name, value)}))
    for item in found:
        if item not in NAMESPACES:
            raise ValueError(f"{name}: {item!r} is none of {', '.join(NAMESPACES)}")
    return found or None


def _no_text(name: str, item: object) -> str:
    raise TypeError(f"{name}: must be names, not {item!r}")


def _check_map(name: str, value: object) -> tuple[tuple[int, int, int], ...] | None:
    if value is None:
        return None
    extents = []
    for item in iterable(name, value):
        if not isinstance(item, (tuple, list)) or len(item) != 3:
            raise TypeError(f"{name}: must be triples (first id inside, first id outside, count), not {item!r}")
        inside, outside = (check_id(f"{name}: id {what}", item[i]) for i, what in enumerate(("inside", "outside")))
        extents.append((inside, outside, check_int(f"{name}: count", item[2], 1, 2**32 - 1)))
    for index in (0, 1):
        line = sorted((extent[index], extent[index] + extent[2]) for extent in extents)
        if any(line[i][1] > line[i + 1][0] for i in range(len(line) - 1)):
            raise ValueError(f"{name}: ids {('inside', 'outside')[index]} are given twice")
    if not 0 < len(extents) <= EXTENTS_MAX:
        raise ValueError(f"{name}: needs 1 to {EXTENTS_MAX} triples (user_namespaces(7))")
    return tuple(extents)


def _check_offsets(name: str, value: object) -> tuple[tuple[str, int], ...] | None:
    if value is None:
        return None
    if not hasattr(value, "items"):
        raise TypeError(f"{name}: must be a mapping of clocks to seconds, not {type(value).__name__}")
    found = []
    for clock, seconds in value.items():
        if clock not in CLOCKS:
            raise ValueError(f"{name}: {clock!r} is none of {', '.join(CLOCKS)} (time_namespaces(7))")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"{name}: {clock}: must be a number of seconds, not {seconds!r}")
        if not abs(seconds) < OFFSET_MAX / 1e9:
            raise ValueError(f"{name}: {clock}: {seconds} seconds are too many")
        found.append((clock, round(seconds * 10**9)))
    return tuple(sorted(found)) or None


def _check_landlock(name: str, value: object) -> tuple[tuple[str, str], ...] | None:
    if value is None:
        return None
    if not hasattr(value, "items"):
        raise TypeError(f"{name}: must be a mapping of paths to 'r', 'w', 'x' together, not {type(value).__name__}")
    found = []
    for path, access in value.items():
        if not isinstance(access, str) or not access or set(access) - set("rwx"):
            raise ValueError(f"{name}: {path!r}: {access!r} must be of the letters r, w and x")
        found.append((check_path(f"{name}: path", path), "".join(sorted(set(access)))))
    return tuple(found)


def _check_seccomp(name: str, value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, (str, int)):
        raise TypeError(f"{name}: must be a compiled filter as bytes (struct sock_filter), not {type(value).__name__}")
    try:
        data = bytes(memoryview(value))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: must be a compiled filter as bytes, not {type(value).__name__}") from None
    if not data or len(data) % 8 or len(data) > 8 * FILTER_MAX:
        raise ValueError(f"{name}: {len(data)} bytes are no filter: 1 to {FILTER_MAX} instructions of 8 bytes")
    return data


def _check_clean_env(name: str, value: object) -> bool | tuple[str, ...] | None:
    if value is None or value is True or value is False:
        return value or None
    names = tuple(dict.fromkeys(check_env_name(name, item) for item in iterable(name, value)))
    for item in names:
        if item in _NEVER or item.startswith(_NEVER_BEGIN):
            raise ValueError(f"{name}: {item} is an order to a loader, shell or interpreter; use env_add if it must be")
    return names


CHECKS: dict[str, Callable[[str, object], object]] = {
    "user": _who,
    "group": _who,
    "groups": _check_groups,
    "capabilities": _check_capabilities,
    "ambient": _check_set,
    "bounding": _check_set,
    "securebits": _check_securebits,
    "root": check_place,
    "namespaces": _check_namespaces,
    "uid_map": _check_map,
    "gid_map": _check_map,
    "time_offsets": _check_offsets,
    "landlock": _check_landlock,
    "seccomp": _check_seccomp,
    "clean_env": _check_clean_env,
}


def check_identity_together(values: Mapping[str, Any]) -> None:
    """Refuse options that exclude each other.

    Raises:
        ValueError: the message starts with the name of one of them.
    """
    if values.get("groups") == "init" and "user" not in values:
        raise ValueError("groups: 'init' needs a user, whose groups these are")
    if isinstance(values.get("capabilities"), Capabilities):
        for name in ("ambient", "bounding"):
            if name in values:
                raise ValueError(f"{name}: capabilities has all five sets, and {name} is given too")
    if isinstance(values.get("capabilities"), CapabilitySet) and "ambient" in values:
        outside = values["ambient"] - values["capabilities"]
        if outside:
            raise ValueError(f"ambient: {_names(outside)} is not in capabilities")
    if "root" in values and isinstance(values.get("cwd"), int):
        raise ValueError("cwd: a descriptor could lie outside of root, and be the way out of it: give a path")
    _check_bounded(values)
    spaces = values.get("namespaces", ())
    for name, needs in (("uid_map", "user"), ("gid_map", "user"), ("time_offsets", "time")):
        if name in values and needs not in spaces:
            raise ValueError(f"{name}: needs {needs!r} in namespaces")
    if "clean_env" in values and "env" in values:
        raise ValueError("clean_env: cleans the environment of this process, and env replaces it")


def _check_bounded(values: Mapping[str, Any]) -> None:
    """Refuse what would be inheritable beyond the bounding set: the kernel lets nobody add that (capset(2))."""
    given = values.get("capabilities")
    if isinstance(given, Capabilities):
        bounding, wanted = given.bounding, given.inheritable
    elif "bounding" in values:
        bounding, wanted = values["bounding"], (given or CapabilitySet()) | values.get("ambient", CapabilitySet())
    else:
        return
    if wanted - bounding:
        raise ValueError(f"bounding: {_names(wanted - bounding)} is to be inheritable or ambient, and is not in it")


def clean(variables: Mapping[bytes, bytes], more: tuple[str, ...] | bool) -> dict[bytes, bytes]:
    """Return what of an environment a privileged tool may pass on: an allow-list, and a PATH of the system's.

    Names of languages, terminal and time zone, unless their value has a slash or a percent sign, as sudo(8) has it:
    such a value can name a file, or a format. LD_* and IFS are not among them, nor anything else.

    Args:
        variables: the environment.
        more: further names, which keep their values.
    """
    wanted = tuple(name.encode() for name in CLEAN_NAMES)
    kept = {
        name: value
        for name, value in variables.items()
        if (name in wanted or name.startswith(b"LC_")) and b"/" not in value and b"%" not in value
    }
    kept[b"PATH"] = CLEAN_PATH.encode()
    for item in more if isinstance(more, tuple) else ():
        name = item.encode("utf-8", "surrogateescape")
        if name in variables:
            kept[name] = variables[name]
    return kept


def id_inside(extents: tuple[tuple[int, int, int], ...], outside: int) -> int:
    """Return what a map of a user namespace makes of an id outside of it, or -1 when it is not in the map."""
    for inside, first, count in extents:
        if first <= outside < first + count:
            return inside + outside - first
    return -1


def after_exec(sets: Capabilities, real_root: bool, effective_root: bool, no_new_privs: bool) -> Capabilities:
    """Return what an execve(2) of a file without capabilities makes of the sets (capabilities(7)).

    The ambient set is taken as kept: see check_ambient_after_exec().

    Args:
        sets: before.
        real_root: the real uid is 0, and SECBIT_NOROOT is not set. It is enough for the permitted set.
        effective_root: the same of the effective uid, by which permitted ones become effective.
        no_new_privs: whether it is set: then nothing is gained.
    """
    if not real_root and not effective_root:
        return Capabilities(sets.ambient, sets.ambient, sets.inheritable, sets.bounding, sets.ambient)
    permitted = sets.bounding | sets.inheritable
    if no_new_privs and permitted - sets.permitted:
        permitted = permitted & sets.permitted
    permitted = permitted | sets.ambient
    effective = permitted if effective_root else sets.ambient
    return Capabilities(effective, permitted, sets.inheritable, sets.bounding, sets.ambient)


def check_ambient_after_exec(ambient: CapabilitySet, ids_differ: bool) -> None:
    """Refuse an ambient set that execve(2) would clear: it takes differing ids for those of a set-user-ID program.

    Args:
        ambient: the set.
        ids_differ: the child's real and effective uid, or gid, are not the same, before Linux 6.16.

    Raises:
        ValueError: it is not empty and the ids differ.
    """
    if ambient and ids_differ:
        raise ValueError(
            f"ambient: execve(2) would clear {_names(ambient)}, as the real and effective ids differ: give user and "
            "group, or ambient=[]"
        )


def check_after_exec(sets: Capabilities, real_root: bool, effective_root: bool, no_new_privs: bool) -> None:
    """Refuse sets that the program would not have, although the child had them before execve.

    Args:
        sets: before.
        real_root: as of after_exec().
        effective_root: as of after_exec().
        no_new_privs: as of after_exec().

    Raises:
        ValueError: which, and what would help.
    """
    is_root = real_root or effective_root
    then = after_exec(sets, real_root, effective_root, no_new_privs)
    lost, gained = sets.permitted - then.permitted, then.permitted - sets.permitted
    if lost and is_root:
        raise ValueError(f"capabilities: execve(2) would take {_names(lost)}: neither in bounding nor inheritable")
    if lost:
        raise ValueError(
            f"capabilities: execve(2) would take {_names(lost)} from a user who is not root: only what is in ambient "
            "stays"
        )
    if gained:
        raise ValueError(
            f"capabilities: execve(2) would give root {_names(gained)} back: leave no_new_privs on, limit bounding, "
            "or set securebits noroot"
        )
    if sets.effective != then.effective:
        differ = sets.effective ^ then.effective
        raise ValueError(f"capabilities: after execve(2) {_names(differ)} would be effective, or not, other than asked")


def name_capability(number: int) -> str:
    """Return a capability's name, for messages."""
    return name_of(number)
