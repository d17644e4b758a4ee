"""The names of the C core's enums, read from the binding itself, so that there is no second list; what works here."""

from __future__ import annotations

import os
from errno import EACCES, ENOENT, ENOSYS, ENOTSUP, EPERM, ESTALE, ETXTBSY

import fastproc._native._ffi as _ffi
from fastproc._native._ffi import ffi, lib


def _names(enum: str, prefix: str) -> dict[int, str]:
    return {value: name[len(prefix) :].lower() for value, name in ffi.typeof(f"enum {enum}").elements.items()}


STAGES: dict[int, str] = _names("fp_stage", "FP_STAGE_")
MECHANISMS: dict[int, str] = _names("fp_mechanism", "FP_MECHANISM_")
# Nothing better was refused where a child was made by one of these: of all, and of those with an identity.
BEST_MECHANISMS = ("clone3_vm", "launcher")
NONE_REFUSED: dict[str, str] = {}


def stage_name(stage: int) -> str:
    """Return a stage's name, such as "exec"."""
    return STAGES.get(stage, f"stage {stage}")


def mechanism_name(mechanism: int) -> str:
    """Return a mechanism's name, such as "clone3_vm"."""
    return MECHANISMS[mechanism]


def mechanism_number(name: str) -> int:
    """Return a mechanism's number.

    Raises:
        ValueError: there is no such mechanism.
    """
    for number, known in MECHANISMS.items():
        if known == name:
            return number
    raise ValueError(f"mechanism: {name!r} is none of {', '.join(MECHANISMS.values())}")


def features(again: bool = False) -> dict[str, bool]:
    """Return what this kernel and sandbox allow; tried once, or `again`."""
    native = ffi.new("struct fp_features *")
    lib.fp_probe(again, native)
    names = ("pidfd", "pidfd_open", "pidfd_signal", "pidfd_wait", "pidfd_info", "close_range", "shared_memory")
    return {name: bool(getattr(native, name)) for name in names}


_REASONS = {
    ENOSYS: "this kernel or sandbox does not have the call",
    EPERM: "a sandbox refuses the call",
    ENOENT: "the program is not there",
    EACCES: "the program is on a file system without exec, or not executable",
    ENOTSUP: "memory is not really shared (an emulator)",
    ESTALE: "the program is not the file that lay there when fastproc was loaded",
    ETXTBSY: "the program is not a file that only root or this user can write to",
}


def refused(again: bool = False) -> dict[str, str]:
    """Return the mechanisms that cannot be used here, best first, each with the reason."""
    native = ffi.new("struct fp_features *")
    lib.fp_probe(again, native)
    found = {}
    for number, name in MECHANISMS.items():
        error = native.refused[number]
        if error:
            found[name] = _REASONS.get(error) or os.strerror(error)
    return found


def refused_before(mechanism: str) -> dict[str, str]:
    """Return the better mechanisms that this system refuses: `mechanism_refused` of a child made by this one."""
    return NONE_REFUSED if mechanism in BEST_MECHANISMS else refused()


def force(name: str) -> None:
    """Make all spawns of this process use one mechanism; "auto" or "" ends it. For tests: FASTPROC_SPAWN does the same.

    Raises:
        ValueError: there is no such mechanism.
    """
    lib.fp_mechanism_force(mechanism_number(name or "auto"))


# Beside the extension; looked at now, and opened when a command first needs it, if it is still the same file.
lib.fp_launcher_set(os.fsencode(os.path.dirname(_ffi.__file__ or "") + "/launcher"))
