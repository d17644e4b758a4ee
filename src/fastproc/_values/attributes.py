"""The options that become kernel attributes of the child: their checks, and the AttrSpec made of them.

Loaded only when a command uses one of them. The names in an AttrSpec are those of struct fp_attr in csrc/fastproc.h, or
those of its flags in lower case.
"""

from __future__ import annotations

from fastproc._values import signals
from fastproc._values.checks import IDENTITY, OF_IDENTITY, check_bool, check_fd, check_int, check_place, iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

RLIM_INFINITY = 2**64 - 1
RLIMITS_MAX = 16
CPU_MAX = 1024

# ioprio_set(2) and sched_setscheduler(2).
_IO_CLASSES = {"none": 0, "realtime": 1, "best-effort": 2, "idle": 3}
_POLICIES = {"other": 0, "fifo": 1, "rr": 2, "batch": 3, "idle": 5}
_REALTIME = ("fifo", "rr")


def _check_bool_or_none(name: str, value: object) -> object:
    # None: other options decide.
    return None if value is None else check_bool(name, value)


def _ranged(low: int, high: int) -> Callable[[str, object], int | None]:
    def check(name: str, value: object) -> int | None:
        return None if value is None else check_int(name, value, low, high)

    return check


def _named_pair(name: str, value: object, known: Mapping[str, int]) -> tuple[str, object]:
    choice, level = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if not isinstance(choice, str):
        raise TypeError(f"{name}: must be a name or a pair (name, number), not {value!r}")
    if choice not in known:
        raise ValueError(f"{name}: {choice!r} is none of {', '.join(known)}")
    return choice, level


def _check_ionice(name: str, value: object) -> tuple[str, int] | None:
    if value is None:
        return None
    choice, level = _named_pair(name, value, _IO_CLASSES)
    if choice in ("none", "idle"):
        return choice, check_int(f"{name}: level of {choice!r}", level or 0, 0, 0)
    return choice, check_int(f"{name}: level", 4 if level is None else level, 0, 7)


def _check_scheduler(name: str, value: object) -> tuple[str, int] | None:
    if value is None:
        return None
    choice, priority = _named_pair(name, value, _POLICIES)
    if choice in _REALTIME:
        if priority is None:
            raise ValueError(f"{name}: {choice!r} needs a priority, as in ({choice!r}, 10)")
        return choice, check_int(f"{name}: priority", priority, 1, 99)
    return choice, check_int(f"{name}: priority of {choice!r}", priority or 0, 0, 0)


def _check_affinity(name: str, value: object) -> tuple[int, ...] | None:
    if value is None:
        return None
    cpus = tuple(sorted({check_int(f"{name}: CPU", item, 0, CPU_MAX - 1) for item in iterable(name, value)}))
    if not cpus:
        raise ValueError(f"{name}: no CPU is given")
    return cpus


def _resource(name: str, key: object) -> int:
    if not isinstance(key, str):
        return check_int(f"{name}: resource", key, 0, 31)
    import resource

    text = key.upper()
    number = getattr(resource, text if text.startswith("RLIMIT_") else f"RLIMIT_{text}", None)
    if number is None:
        raise ValueError(f"{name}: unknown resource {key!r}")
    return int(number)


def _limit(name: str, key: object, value: object) -> int:
    if value is None or value == "unlimited" or (value == -1 and isinstance(value, int)):
        return RLIM_INFINITY
    return check_int(f"{name}: limit {key!r}", value, 0, RLIM_INFINITY)


def _check_rlimits(name: str, value: object) -> tuple[tuple[int, int, int], ...]:
    if not hasattr(value, "items"):
        raise TypeError(f"{name}: must be a mapping of resources to limits, not {type(value).__name__}")
    found = {}
    for key, limits in value.items():
        pair = limits if isinstance(limits, (tuple, list)) else (limits, limits)
        if len(pair) != 2:
            raise ValueError(f"{name}: limit {key!r} must be one limit or a pair (soft, hard)")
        soft, hard = (_limit(name, key, item) for item in pair)
        if soft > hard:
            raise ValueError(f"{name}: limit {key!r}: soft {soft} is above hard {hard} (setrlimit(2))")
        number = _resource(name, key)
        found[number] = (number, soft, hard)
    if len(found) > RLIMITS_MAX:
        raise ValueError(f"{name}: more than {RLIMITS_MAX} limits")
    return tuple(found[number] for number in sorted(found))


def _check_signals(name: str, value: object) -> tuple[int, ...]:
    found = {signals.number(name, item) for item in iterable(name, value)}
    unchangeable = found & {signals.SIGKILL, signals.SIGSTOP}
    if unchangeable and name == "sigignore":
        raise ValueError(f"{name}: SIGKILL and SIGSTOP cannot be ignored (signal(7))")
    return tuple(sorted(found - unchangeable))


def _check_sigmask(name: str, value: object) -> tuple[int, ...] | str:
    return "keep" if isinstance(value, str) and value == "keep" else _check_signals(name, value)


def _check_pdeathsig(name: str, value: object) -> int | None:
    return None if value is None else signals.number(name, value)


def _check_ctty(name: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int):
        raise TypeError(f"{name}: must be a descriptor number of a terminal, not {type(value).__name__}")
    return check_fd(name, value)


CHECKS: dict[str, Callable[[str, object], object]] = {
    "umask": _ranged(0, 0o777),
    "setsid": _check_bool_or_none,
    "pgid": _ranged(0, 2**31 - 1),
    "ctty": _check_ctty,
    "foreground": check_bool,
    "nice": _ranged(-20, 19),
    "ionice": _check_ionice,
    "affinity": _check_affinity,
    "scheduler": _check_scheduler,
    "rlimits": _check_rlimits,
    "oom_score_adj": _ranged(-1000, 1000),
    "sigmask": _check_sigmask,
    "sigdefault": _check_signals,
    "sigignore": _check_signals,
    "restore_signals": check_bool,
    "pdeathsig": _check_pdeathsig,
    "die_with_parent": check_bool,
    "kill_tree": check_bool,
    "subreaper": check_bool,
    "no_new_privs": _check_bool_or_none,
    "timer_slack_ns": _ranged(1, 2**63 - 1),
    "cgroup": check_place,
    "pipe_size": _ranged(1, 2**31 - 1),
}


def check_attributes_together(values: Mapping[str, Any]) -> None:
    """Refuse options that exclude each other.

    Raises:
        ValueError: the message starts with the name of one of them.
    """
    if "ctty" in values and not values.get("setsid"):
        raise ValueError(
            "ctty: needs setsid=True, only a session leader can take a controlling terminal (ioctl_tty(2))"
        )
    if "pgid" in values and values.get("setsid"):
        raise ValueError(
            "pgid: a session leader is in its own group and cannot change it (setpgid(2)): drop setsid or pgid"
        )
    if not IDENTITY.isdisjoint(values) and _SESSION.isdisjoint(values):
        for name in ("pgid", "foreground"):
            if name in values:
                option = next(other for other in values if other in IDENTITY)
                raise ValueError(
                    f"{name}: {option} starts a session, so that the child cannot type into our terminal (TIOCSTI); "
                    f"say setsid=False to have {name} and that danger with {option}"
                )
    if "die_with_parent" in values and "pdeathsig" in values:
        raise ValueError("die_with_parent: is pdeathsig=SIGKILL, and pdeathsig is given too")
    if not OF_IDENTITY.isdisjoint(values):
        from fastproc._values.credentials import check_identity_together

        check_identity_together(values)
    if "sigignore" in values and "sigdefault" in values:
        both = set(values["sigignore"]) & set(values["sigdefault"])
        if both:
            raise ValueError(f"sigignore: signals {sorted(both)} are in sigdefault too")


# Options whose normalised value is the field of struct fp_attr.
_SAME = ("umask", "pgid", "nice", "oom_score_adj", "pdeathsig", "timer_slack_ns", "pipe_size")
# Each says already which terminal the child has.
_SESSION = frozenset(("setsid", "ctty", "pty"))
_FLAGS = ("setsid", "foreground", "subreaper", "no_new_privs")


def attr_spec(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the AttrSpec of normalised options, or None when all of them are at their defaults.

    It holds only what was asked for, except that "sigdefault" is always there:
    setsid, foreground, subreaper, no_new_privs, keep_fds, listen_pid: True; pgid, ctty_fd, umask, nice, oom_score_adj,
    pdeathsig, pipe_size, timer_slack_ns, ionice (class << 13 | level), sched_policy with sched_priority: int; sigmask:
    bit set, or None to keep the caller's; sigdefault, sigignore: bit sets; rlimits: triples (resource, soft, hard);
    cpus: a tuple of 64-bit words.
    """
    spec: dict[str, Any] = {name: values[name] for name in _SAME if name in values}
    spec.update((name, True) for name in _FLAGS if values.get(name))
    if not IDENTITY.isdisjoint(values) and "no_new_privs" not in values:
        spec["no_new_privs"] = True
    if not IDENTITY.isdisjoint(values) and _SESSION.isdisjoint(values):
        # On our terminal it could type commands for us (TIOCSTI, GOTCHAS H1); in a session of its own it has none.
        # A program that is only confined, or has fewer capabilities, is trusted no more than another user's.
        spec["setsid"] = True
    if "pty" in values:
        # Its ctty_fd is another one for each spawn.
        spec["setsid"] = True
    if "die_with_parent" in values:
        spec["pdeathsig"] = signals.SIGKILL
    if "kill_tree" in values and "setsid" not in spec:
        # What a descendant cannot leave behind by losing its parent alone.
        spec.setdefault("pgid", 0)
    if "ctty" in values:
        spec["ctty_fd"] = values["ctty"]
    if "close_fds" in values:
        spec["keep_fds"] = True
    if "listen_fds" in values:
        spec["listen_pid"] = True
    if "rlimits" in values:
        spec["rlimits"] = values["rlimits"]
    _add_scheduling(spec, values)
    _add_signals(spec, values)
    return spec if len(spec) > 1 or spec["sigdefault"] != DEFAULT_SIGDEFAULT else None


def _add_scheduling(spec: dict[str, Any], values: Mapping[str, Any]) -> None:
    if "ionice" in values:
        choice, level = values["ionice"]
        spec["ionice"] = _IO_CLASSES[choice] << 13 | level
    if "scheduler" in values:
        choice, priority = values["scheduler"]
        spec["sched_policy"] = _POLICIES[choice]
        spec["sched_priority"] = priority
    if "affinity" in values:
        bits = 0
        for cpu in values["affinity"]:
            bits |= 1 << cpu
        words = []
        while bits:
            words.append(bits & RLIM_INFINITY)
            bits >>= 64
        spec["cpus"] = tuple(words)


DEFAULT_SIGDEFAULT = signals.PYTHON_IGNORES | signals.CHLD


def _add_signals(spec: dict[str, Any], values: Mapping[str, Any]) -> None:
    ignore = signals.mask(values.get("sigignore", ()))
    default = signals.mask(values.get("sigdefault", ())) | signals.CHLD
    if values.get("restore_signals", True):
        default |= signals.PYTHON_IGNORES
    spec["sigdefault"] = default & ~ignore
    if ignore:
        spec["sigignore"] = ignore
    if "sigmask" in values:
        mask = values["sigmask"]
        spec["sigmask"] = None if mask == "keep" else signals.mask(mask)
