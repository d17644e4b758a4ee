"""The names of the C core's enums, read from the binding itself, so that there is no second list."""

from __future__ import annotations

from fastproc._native._ffi import ffi


def _names(enum: str, prefix: str) -> dict[int, str]:
    return {value: name[len(prefix) :].lower() for value, name in ffi.typeof(f"enum {enum}").elements.items()}


STAGES: dict[int, str] = _names("fp_stage", "FP_STAGE_")
MECHANISMS: dict[int, str] = _names("fp_mechanism", "FP_MECHANISM_")


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
