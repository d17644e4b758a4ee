"""From a resolved identity to the C core's struct fp_identity; directories below a root, Landlock rulesets."""

from __future__ import annotations

import os

from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Presence of the field asks for the step.
_FLAGGED = {
    "uid": lib.FP_ID_UID,
    "gid": lib.FP_ID_GID,
    "groups": lib.FP_ID_GROUPS,
    "permitted": lib.FP_ID_CAPS,
    "ambient": lib.FP_ID_AMBIENT,
    "bounding": lib.FP_ID_BOUNDING,
    "securebits": lib.FP_ID_SECUREBITS,
    "deny_setgroups": lib.FP_ID_DENY_SETGROUPS,
    "root_hidden": lib.FP_ID_ROOT_HIDDEN,
}
_PLAIN = ("uid", "gid", "effective", "permitted", "inheritable", "ambient", "bounding", "securebits", "namespaces")
ACCESS = {"r": lib.FP_LANDLOCK_READ, "w": lib.FP_LANDLOCK_WRITE, "x": lib.FP_LANDLOCK_EXECUTE}

_IDENTITY = ffi.typeof("struct fp_identity *")
_IDS = ffi.typeof("uint32_t[]")


def make(spec: Mapping[str, Any]) -> Any:
    """Fill a struct fp_identity. It keeps alive what it points to.

    Args:
        spec: uid, gid, securebits, namespaces, root_fd, ruleset_fd: numbers; groups: ascending numbers; permitted,
            effective, inheritable, ambient, bounding: masks; uid_map, gid_map: text as bytes; time_offset_ns: a pair;
            filter: bytes; deny_setgroups, root_hidden: present or not. What is missing is not asked for.
    """
    native = ffi.new(_IDENTITY)
    held: list[object] = []
    flags = 0
    for name, flag in _FLAGGED.items():
        if name in spec:
            flags |= flag
    native.flags = flags
    for name in _PLAIN:
        if name in spec:
            setattr(native, name, spec[name])
    native.root_fd = spec.get("root_fd", -1)
    native.ruleset_fd = spec.get("ruleset_fd", -1)
    if spec.get("groups"):
        groups = ffi.new(_IDS, spec["groups"])
        held.append(groups)
        native.groups = groups
        native.ngroups = len(spec["groups"])
    for name in ("uid_map", "gid_map"):
        if name in spec:
            text = ffi.new("char[]", spec[name])
            held.append(text)
            setattr(native, name, text)
    if "time_offset_ns" in spec:
        native.time_offset_ns = spec["time_offset_ns"]
    if "filter" in spec:
        data = ffi.new("uint64_t[]", len(spec["filter"]) // 8)
        ffi.memmove(data, spec["filter"], len(spec["filter"]))
        held.append(data)
        native.filter = data
        native.nfilter = len(spec["filter"]) // 8
    # As make_request().
    return ffi.gc(native, held.append)


def _check(r: int) -> int:
    if r < 0:
        raise OSError(-r, os.strerror(-r))
    return r


fp_open_in_root = lib.fp_open_in_root
"""A new descriptor of a path, with a directory taken for the root (openat2(2), Linux 5.6), or a negative errno."""
fp_landlock_ruleset = lib.fp_landlock_ruleset
"""The descriptor of a new Landlock ruleset about all that this kernel can refuse with files, or a negative errno.
ENOSYS, EOPNOTSUPP: this kernel has no Landlock, or it is switched off."""


def landlock_allow(ruleset: int, path_fd: int, access: str) -> int:
    """Allow a path, and what is below it.

    Args:
        ruleset: its descriptor.
        path_fd: the path's.
        access: letters of r, w and x.
    """
    bits = 0
    for letter in access:
        bits |= ACCESS[letter]
    return _check(lib.fp_landlock_allow(ruleset, path_fd, bits))
