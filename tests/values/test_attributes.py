"""The options that become kernel attributes, and the AttrSpec made of them."""

from __future__ import annotations

import math
import resource
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.attributes import DEFAULT_SIGDEFAULT, RLIM_INFINITY, attr_spec
from fastproc._values.options import normalise
from fastproc._values.signals import mask

NOFILE = resource.RLIMIT_NOFILE


def spec(**given_options):
    return attr_spec(normalise(given_options).values)


@pytest.mark.parametrize(
    ("given_options", "made"),
    [
        ({"umask": 0o22}, {"umask": 0o22}),
        ({"umask": 0}, {"umask": 0}),
        ({"setsid": True}, {"setsid": True}),
        ({"pgid": 0}, {"pgid": 0}),
        ({"setsid": True, "ctty": 0}, {"setsid": True, "ctty_fd": 0}),
        ({"foreground": True}, {"foreground": True}),
        ({"nice": -20}, {"nice": -20}),
        ({"nice": 0}, {"nice": 0}),
        ({"ionice": "idle"}, {"ionice": 3 << 13}),
        ({"ionice": "none"}, {"ionice": 0}),
        ({"ionice": "best-effort"}, {"ionice": 2 << 13 | 4}),
        ({"ionice": ("realtime", 0)}, {"ionice": 1 << 13}),
        ({"affinity": [0, 65, 0]}, {"cpus": (1, 2)}),
        ({"affinity": {1023}}, {"cpus": (0,) * 15 + (1 << 63,)}),
        ({"scheduler": "batch"}, {"sched_policy": 3, "sched_priority": 0}),
        ({"scheduler": ("other", 0)}, {"sched_policy": 0, "sched_priority": 0}),
        ({"scheduler": ("rr", 99)}, {"sched_policy": 2, "sched_priority": 99}),
        ({"rlimits": {"NOFILE": 10}}, {"rlimits": ((NOFILE, 10, 10),)}),
        ({"rlimits": {"rlimit_nofile": (5, 10)}}, {"rlimits": ((NOFILE, 5, 10),)}),
        ({"rlimits": {NOFILE: [5, None]}}, {"rlimits": ((NOFILE, 5, RLIM_INFINITY),)}),
        (
            {"rlimits": {"CORE": -1, "CPU": "unlimited"}},
            {"rlimits": ((0, RLIM_INFINITY, RLIM_INFINITY), (4, RLIM_INFINITY, RLIM_INFINITY))},
        ),
        ({"rlimits": {"NOFILE": 10, "RLIMIT_NOFILE": 20}}, {"rlimits": ((NOFILE, 20, 20),)}),
        ({"oom_score_adj": -1000}, {"oom_score_adj": -1000}),
        ({"sigmask": "keep"}, {"sigmask": None}),
        ({"sigmask": ["TERM", signal.SIGINT]}, {"sigmask": mask([2, 15])}),
        ({"sigmask": signal.valid_signals()}, {"sigmask": mask(signal.valid_signals() - {9, 19})}),
        ({"sigdefault": ["TERM"]}, {"sigdefault": DEFAULT_SIGDEFAULT | mask([15])}),
        ({"sigdefault": [9, 15]}, {"sigdefault": DEFAULT_SIGDEFAULT | mask([15])}),
        ({"sigignore": ["PIPE"]}, {"sigdefault": mask([17, 25]), "sigignore": mask([13])}),
        ({"sigignore": ["CHLD"]}, {"sigdefault": mask([13, 25]), "sigignore": mask([17])}),
        ({"restore_signals": False}, {"sigdefault": mask([17])}),
        ({"pdeathsig": "TERM"}, {"pdeathsig": 15}),
        ({"no_new_privs": True}, {"no_new_privs": True}),
        ({"timer_slack_ns": 1}, {"timer_slack_ns": 1}),
        ({"pipe_size": 4096}, {"pipe_size": 4096}),
        ({"close_fds": False}, {"keep_fds": True}),
    ],
)
def test_attr_spec(given_options, made):
    """Each option is named as struct fp_attr names it, in the kernel's terms."""
    assert spec(**given_options) == {"sigdefault": DEFAULT_SIGDEFAULT, **made}


@pytest.mark.parametrize(
    "given_options", [{}, {"cwd": "/"}, {"capture": True}, {"sigdefault": ["PIPE", "KILL"]}, {"fds": {5: 5}}]
)
def test_attr_spec_of_defaults_is_none(given_options):
    """What changes no attribute needs no attributes."""
    assert spec(**given_options) is None


def test_default_sigdefault():
    """GOTCHAS A3: what Python ignores goes back to the default, and SIGCHLD."""
    assert mask([signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD]) == DEFAULT_SIGDEFAULT


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"),
    [
        ("umask", 0o1000, ValueError, "umask: 512 is not in the range 0 to 511"),
        ("umask", True, TypeError, "umask: must be an int, not bool"),
        ("umask", "022", TypeError, "umask: must be an int, not str"),
        ("setsid", 1, TypeError, "setsid: must be True or False, not 1"),
        ("pgid", -1, ValueError, "pgid: -1 is not in the range"),
        ("ctty", "/dev/tty", TypeError, "ctty: must be a descriptor number of a terminal, not str"),
        ("ctty", -1, ValueError, "ctty: -1 is not a descriptor number"),
        ("nice", 20, ValueError, "nice: 20 is not in the range -20 to 19"),
        ("ionice", "fast", ValueError, "ionice: 'fast' is none of none, realtime, best-effort, idle"),
        ("ionice", 3, TypeError, "ionice: must be a name or a pair (name, number), not 3"),
        ("ionice", ("idle", 1), ValueError, "ionice: level of 'idle': 1 is not in the range 0 to 0"),
        ("ionice", ("best-effort", 8), ValueError, "ionice: level: 8 is not in the range 0 to 7"),
        ("affinity", [], ValueError, "affinity: no CPU is given"),
        ("affinity", [1024], ValueError, "affinity: CPU: 1024 is not in the range 0 to 1023"),
        ("affinity", 3, TypeError, "affinity: must be an iterable, not int"),
        ("scheduler", "fifo", ValueError, "scheduler: 'fifo' needs a priority, as in ('fifo', 10)"),
        ("scheduler", ("fifo", 0), ValueError, "scheduler: priority: 0 is not in the range 1 to 99"),
        ("scheduler", ("batch", 1), ValueError, "scheduler: priority of 'batch': 1 is not in the range 0 to 0"),
        ("rlimits", [1], TypeError, "rlimits: must be a mapping of resources to limits, not list"),
        ("rlimits", {"NOSUCH": 1}, ValueError, "rlimits: unknown resource 'NOSUCH'"),
        ("rlimits", {"": 1}, ValueError, "rlimits: unknown resource ''"),
        ("rlimits", {32: 1}, ValueError, "rlimits: resource: 32 is not in the range 0 to 31"),
        ("rlimits", {"NOFILE": (10, 5)}, ValueError, "rlimits: limit 'NOFILE': soft 10 is above hard 5"),
        ("rlimits", {"NOFILE": (1, 2, 3)}, ValueError, "rlimits: limit 'NOFILE' must be one limit or a pair"),
        ("rlimits", {"NOFILE": -2}, ValueError, "rlimits: limit 'NOFILE': -2 is not in the range"),
        ("rlimits", {"NOFILE": 1.5}, TypeError, "rlimits: limit 'NOFILE': must be an int, not float"),
        ("rlimits", {"NOFILE": True}, TypeError, "rlimits: limit 'NOFILE': must be an int, not bool"),
        ("rlimits", dict.fromkeys(range(17), 1), ValueError, "rlimits: more than 16 limits"),
        ("oom_score_adj", 1001, ValueError, "oom_score_adj: 1001 is not in the range -1000 to 1000"),
        ("sigmask", "TERM", TypeError, "sigmask: must be an iterable, not str"),
        ("sigmask", 15, TypeError, "sigmask: must be an iterable, not int"),
        ("sigmask", [0], ValueError, "sigmask: 0 is not a signal number"),
        ("sigignore", ["KILL"], ValueError, "sigignore: SIGKILL and SIGSTOP cannot be ignored"),
        ("sigdefault", ["NOSUCH"], ValueError, "sigdefault: unknown signal name 'NOSUCH'"),
        ("pdeathsig", 0, ValueError, "pdeathsig: 0 is not a signal number"),
        ("timer_slack_ns", 0, ValueError, "timer_slack_ns: 0 is not in the range 1 to"),
        ("cgroup", "", ValueError, "cgroup: the path is empty"),
        ("pipe_size", 0, ValueError, "pipe_size: 0 is not in the range 1 to"),
    ],
)
def test_bad_value_is_refused(name, value, kind, text):
    """The message starts with the option and says the reason."""
    with pytest.raises(kind) as caught:
        normalise({name: value})
    assert str(caught.value).startswith(text)


INT_LIMITS = {
    "umask": (0, 0o777),
    "pgid": (0, 2**31 - 1),
    "nice": (-20, 19),
    "oom_score_adj": (-1000, 1000),
    "pdeathsig": (1, 64),
    "timer_slack_ns": (1, 2**63 - 1),
    "pipe_size": (1, 2**31 - 1),
}


@given(st.sampled_from(sorted(INT_LIMITS)), st.integers() | st.integers(-70, 70))
def test_any_int_is_in_range_or_refused(name, value):
    """No number reaches C that its field could not hold (as GOTCHAS G6 has it for ids)."""
    low, high = INT_LIMITS[name]
    if low <= value <= high:
        assert normalise({name: value}).get(name) == value
    else:
        with pytest.raises(ValueError, match=f"^{name}: {value} is not"):
            normalise({name: value})


@given(st.sets(st.integers(0, 1023), min_size=1))
def test_affinity_words_are_the_set(cpus):
    """The words have exactly the bits of the CPUs, and no empty word at the end."""
    words = spec(affinity=cpus)["cpus"]
    assert {64 * i + bit for i, word in enumerate(words) for bit in range(64) if word >> bit & 1} == cpus
    assert words[-1]
    assert len(words) == math.ceil((max(cpus) + 1) / 64)
