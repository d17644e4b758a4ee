"""From a plan's AttrSpec to the C core's struct fp_attr."""

from __future__ import annotations

from _signal import SIGCHLD, SIGPIPE, SIGXFSZ  # type: ignore[import-not-found]

from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Presence of the field in the AttrSpec asks for the step.
_FLAGGED = {
    "setsid": lib.FP_ATTR_SETSID,
    "pgid": lib.FP_ATTR_PGID,
    "ctty_fd": lib.FP_ATTR_CTTY,
    "foreground": lib.FP_ATTR_FOREGROUND,
    "umask": lib.FP_ATTR_UMASK,
    "nice": lib.FP_ATTR_NICE,
    "ionice": lib.FP_ATTR_IONICE,
    "cpus": lib.FP_ATTR_AFFINITY,
    "sched_policy": lib.FP_ATTR_SCHEDULER,
    "oom_score_adj": lib.FP_ATTR_OOM_SCORE_ADJ,
    "pdeathsig": lib.FP_ATTR_PDEATHSIG,
    "subreaper": lib.FP_ATTR_SUBREAPER,
    "listen_pid": lib.FP_ATTR_LISTEN_PID,
    "no_new_privs": lib.FP_ATTR_NO_NEW_PRIVS,
    "timer_slack_ns": lib.FP_ATTR_TIMER_SLACK,
    "keep_fds": lib.FP_ATTR_KEEP_FDS,
}
_PLAIN = (
    "pgid",
    "ctty_fd",
    "umask",
    "nice",
    "ionice",
    "sched_policy",
    "sched_priority",
    "oom_score_adj",
    "pdeathsig",
    "pipe_size",
    "timer_slack_ns",
    "sigdefault",
    "sigignore",
)


def make(spec: Mapping[str, Any]) -> Any:
    """Fill a struct fp_attr; it is never changed afterwards and may be shared by threads."""
    attr = ffi.new("struct fp_attr *")
    attr.size = ffi.sizeof("struct fp_attr")
    for name, flag in _FLAGGED.items():
        if name in spec:
            attr.flags |= flag
    for name in _PLAIN:
        if name in spec:
            setattr(attr, name, spec[name])
    if "sigmask" in spec:
        mask = spec["sigmask"]
        if mask is None:
            attr.flags |= lib.FP_ATTR_KEEP_SIGMASK
        else:
            attr.sigmask = mask
    for index, word in enumerate(spec.get("cpus", ())):
        attr.cpus[index] = word
        attr.ncpu_words = index + 1
    for index, (resource, soft, hard) in enumerate(spec.get("rlimits", ())):
        attr.rlimits[index] = {"resource": resource, "soft": soft, "hard": hard}
        attr.nrlimits = index + 1
    return attr


# SIGPIPE and SIGXFSZ, which Python ignores, and SIGCHLD: an ignored signal stays ignored over execve (GOTCHAS A3, A5).
DEFAULT = make({"sigdefault": 1 << (SIGPIPE - 1) | 1 << (SIGXFSZ - 1) | 1 << (SIGCHLD - 1)})
