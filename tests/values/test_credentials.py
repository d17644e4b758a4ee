"""The options about a child's identity: what is refused, and what execve makes of the sets."""

from __future__ import annotations

import pytest

from fastproc._values import checks, options
from fastproc._values.attributes import attr_spec
from fastproc._values.capabilities import Capabilities, CapabilitySet
from fastproc._values.credentials import (
    CLEAN_PATH,
    after_exec,
    check_after_exec,
    check_ambient_after_exec,
    clean,
    id_inside,
)
from fastproc._values.environment import Environment
from fastproc._values.options import normalise
from fastproc._values.plan import ResolvedOptions

NONE = CapabilitySet()


def five(**sets: str) -> Capabilities:
    names = ("effective", "permitted", "inheritable", "bounding", "ambient")
    return Capabilities(*(CapabilitySet(sets.get(name, "")) for name in names))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("user", -1, "user: -1 is no id"),
        ("user", 65535, "user: 65535 is no id"),
        ("user", 2**32 - 1, "user: 4294967295 is no id"),
        ("user", 2**32, "is no id"),
        ("user", True, "user: an id is a number"),
        ("user", 1.0, "user: an id is a number"),
        ("user", "", "user: '' cannot be a name"),
        ("user", "a:b", "cannot be a name"),
        ("group", -1, "group: -1 is no id"),
        ("group", b"root", "group: an id is a number"),
        ("groups", "adm", "neither 'init' nor 'keep'"),
        ("groups", [65535], "groups: item: 65535 is no id"),
        ("groups", 4, "groups: must be an iterable"),
        ("groups", [None], "groups: None is no group"),
        ("groups", range(65537), "is no id"),
        ("capabilities", ["no_such"], "capabilities: 'no_such' is no capability"),
        ("capabilities", 5, "capabilities: a set of capabilities from a number is ambiguous"),
        ("capabilities", five(effective="chown"), "cap_chown is effective and not permitted"),
        ("capabilities", five(permitted="chown", ambient="chown"), "not both permitted and inheritable"),
        ("ambient", [64], "ambient: 64 is no capability"),
        ("bounding", 1, "bounding: a set of capabilities from a number"),
        ("securebits", 1 << 4, "securebits: keep_caps is cleared by execve"),
        ("securebits", 1 << 12, "securebits: 4096 is not in the range"),
        ("securebits", ["nosuch"], "securebits: 'nosuch' is none of noroot"),
        ("securebits", True, "securebits: must be an iterable"),
        ("root", -1, "root: "),
        ("root", 1.5, "root: "),
        ("namespaces", ["users"], "namespaces: 'users' is none of mount"),
        ("namespaces", "user", "namespaces: must be an iterable"),
        ("namespaces", [1], "namespaces: must be names"),
        ("uid_map", [(0, 0)], "uid_map: must be triples"),
        ("uid_map", [(0, 0, 0)], "uid_map: count: 0 is not in the range"),
        ("uid_map", [], "uid_map: needs 1 to 340"),
        ("uid_map", [(0, 1000, 2), (1, 5000, 1)], "uid_map: ids inside are given twice"),
        ("gid_map", [(0, 1000, 2), (5, 1001, 1)], "gid_map: ids outside are given twice"),
        ("gid_map", [(65535, 0, 1)], "gid_map: id inside: 65535 is no id"),
        ("time_offsets", {"realtime": 1}, "time_offsets: 'realtime' is none of monotonic, boottime"),
        ("time_offsets", {"boottime": "1"}, "time_offsets: boottime: must be a number"),
        ("time_offsets", {"boottime": float("nan")}, "time_offsets: boottime: nan seconds"),
        ("time_offsets", [1], "time_offsets: must be a mapping"),
        ("landlock", {"/": "rq"}, "landlock: '/': 'rq' must be of the letters"),
        ("landlock", {"/": ""}, "landlock: '/': '' must be of the letters"),
        ("landlock", ["/"], "landlock: must be a mapping"),
        ("seccomp", b"1234567", "seccomp: 7 bytes are no filter"),
        ("seccomp", b"", "seccomp: 0 bytes are no filter"),
        ("seccomp", bytes(8 * 4097), "32776 bytes are no filter"),
        ("seccomp", "text", "seccomp: must be a compiled filter"),
        ("clean_env", ["LD_PRELOAD"], "clean_env: LD_PRELOAD is an order to a loader"),
        ("clean_env", ["IFS"], "clean_env: IFS is an order"),
        ("clean_env", ["A=B"], "clean_env: 'A=B' cannot be the name"),
    ],
)
def test_wrong_value_is_refused(name: str, value: object, words: str) -> None:
    """A TypeError or ValueError that begins with the option."""
    with pytest.raises((TypeError, ValueError)) as caught:
        normalise({name: value})
    assert words in str(caught.value)
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"groups": "init"}, "groups: 'init' needs a user"),
        ({"capabilities": five(), "ambient": []}, "ambient: capabilities has all five sets"),
        ({"capabilities": five(), "bounding": []}, "bounding: capabilities has all five sets"),
        ({"capabilities": ["chown"], "ambient": ["kill"]}, "ambient: cap_kill is not in capabilities"),
        ({"capabilities": ["chown"], "bounding": ["kill"]}, "bounding: cap_chown is to be inheritable"),
        ({"ambient": ["chown"], "bounding": []}, "bounding: cap_chown is to be inheritable"),
        ({"capabilities": five(permitted="kill", inheritable="kill")}, "bounding: cap_kill is to be inheritable"),
        ({"root": "/srv", "cwd": 3}, "cwd: a descriptor could lie outside of root"),
        ({"uid_map": [(0, 0, 1)]}, "uid_map: needs 'user' in namespaces"),
        ({"gid_map": [(0, 0, 1)], "namespaces": ["pid"]}, "gid_map: needs 'user' in namespaces"),
        ({"time_offsets": {"boottime": 1}, "namespaces": ["user"]}, "time_offsets: needs 'time' in namespaces"),
        ({"clean_env": True, "env": {}}, "clean_env: cleans the environment of this process"),
    ],
)
def test_options_that_exclude_each_other_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        normalise(values)
    assert words in str(caught.value)


def test_values_are_kept_in_a_normal_form() -> None:
    """Equal requests are equal options."""
    values = normalise(
        {
            "user": "www-data",
            "groups": [4, "adm", 4],
            "capabilities": ["CAP_KILL", "chown"],
            "securebits": ["noroot", "noroot_locked"],
            "namespaces": ["uts", "pid", "time"],
            "time_offsets": {"boottime": 1.5, "monotonic": -2},
            "landlock": {"/usr": "xr"},
            "seccomp": bytearray(8),
            "clean_env": ["HOME", "HOME"],
        }
    ).values
    assert values == {
        "user": "www-data",
        "groups": (4, "adm"),
        "capabilities": CapabilitySet("chown,kill"),
        "securebits": 3,
        "namespaces": ("pid", "time", "uts"),
        "time_offsets": (("boottime", 1_500_000_000), ("monotonic", -2_000_000_000)),
        "landlock": (("/usr", "rx"),),
        "seccomp": bytes(8),
        "clean_env": ("HOME",),
    }


# -- what comes along with them


def test_no_new_privs_is_on_by_default() -> None:
    for name, value in {"user": 5, "groups": [], "capabilities": [], "root": "/", "namespaces": ["uts"]}.items():
        spec = attr_spec(normalise({name: value}).values)
        assert spec is not None
        assert spec.get("no_new_privs") is True, name
        off = attr_spec(normalise({name: value, "no_new_privs": False}).values) or {}
        assert "no_new_privs" not in off, name
    assert attr_spec(normalise({"no_new_privs": False}).values) is None


OF_EACH = {
    "user": 5,
    "group": 5,
    "groups": [],
    "capabilities": [],
    "ambient": [],
    "bounding": [],
    "securebits": [],
    "root": "/",
    "namespaces": ["user"],
    "landlock": {"/": "r"},
    "seccomp": bytes(8),
}


def test_every_identity_has_a_session_of_its_own() -> None:
    """GOTCHAS H1; unless it is refused, or given with a terminal of its own."""
    assert set(OF_EACH) == checks.IDENTITY
    for name, value in OF_EACH.items():
        assert (attr_spec(normalise({name: value}).values) or {}).get("setsid") is True, name
        assert "setsid" not in (attr_spec(normalise({name: value, "setsid": False}).values) or {}), name
        grouped = attr_spec(normalise({name: value, "setsid": False, "pgid": 0}).values) or {}
        assert ("setsid" in grouped, grouped.get("pgid")) == (False, 0), name


@pytest.mark.parametrize("name", OF_EACH)
@pytest.mark.parametrize("more", [{"pgid": 0}, {"foreground": True}])
def test_identity_on_our_terminal_must_be_said(name: str, more: dict[str, object]) -> None:
    """GOTCHAS H1: both options are named, and the way to have it."""
    with pytest.raises(ValueError) as caught:
        normalise({name: OF_EACH[name], **more})
    assert str(caught.value).startswith(f"{min(more)}: {name} starts a session")
    assert "setsid=False" in str(caught.value)


def test_an_identity_needs_the_engine() -> None:
    settled = ResolvedOptions(normalise({"user": 5}))
    assert settled.identity == {"user": 5}
    assert settled.needs_io
    assert not settled.plain
    assert not ResolvedOptions(normalise({"user": 5, "no_new_privs": False, "setsid": False})).plain
    assert ResolvedOptions(options.NONE).identity is None


# -- ids


def test_map_of_a_user_namespace() -> None:
    extents = ((0, 1000, 1), (1, 5000, 10))
    assert [id_inside(extents, uid) for uid in (1000, 5000, 5009, 5010, 0)] == [0, 1, 10, -1, -1]


# -- the environment


def test_clean_environment_has_what_is_harmless() -> None:
    variables = {
        b"LANG": b"de_DE.UTF-8",
        b"LC_ALL": b"../../evil",
        b"LC_TIME": b"C",
        b"TZ": b"%n",
        b"TERM": b"xterm",
        b"PATH": b"/home/me/bin:.",
        b"LD_PRELOAD": b"/x.so",
        b"IFS": b"/",
        b"HOME": b"/home/me",
        b"PYTHONPATH": b"/x",
        b"EDITOR": b"vi",
    }
    plain = {b"LANG": b"de_DE.UTF-8", b"LC_TIME": b"C", b"TERM": b"xterm", b"PATH": CLEAN_PATH.encode()}
    assert clean(variables, True) == plain
    assert clean(variables, ("HOME", "MISSING")) == {**plain, b"HOME": b"/home/me"}
    settled = ResolvedOptions(normalise({"clean_env": True, "env_add": {"A": "1"}, "env_remove": ["TERM"]}))
    child = settled.environment_for(Environment(variables)).variables
    assert child == {**{name: plain[name] for name in plain if name != b"TERM"}, b"A": b"1"}
    assert not settled.same_environment


# -- execve


def test_execve_by_an_ordinary_user_keeps_the_ambient_set() -> None:
    sets = five(permitted="kill,chown", effective="kill", inheritable="kill,chown", ambient="kill", bounding="all")
    then = after_exec(sets, False, False, no_new_privs=False)
    assert then == five(permitted="kill", effective="kill", inheritable="kill,chown", ambient="kill", bounding="all")


def test_execve_by_root_gives_the_bounding_set() -> None:
    sets = five(permitted="kill", effective="", inheritable="chown", bounding="net_raw,kill")
    gained = "chown,net_raw,kill"
    assert after_exec(sets, True, True, False) == five(
        permitted=gained, effective=gained, inheritable="chown", bounding="net_raw,kill"
    )
    kept = after_exec(sets, True, True, True)
    assert (kept.permitted, kept.effective) == (CapabilitySet("kill"), CapabilitySet("kill"))


def test_execve_of_a_real_root_alone_gives_the_permitted_set() -> None:
    """capabilities(7): the real uid counts as root, only the effective one makes it effective."""
    then = after_exec(five(bounding="kill", ambient="chown"), True, False, False)
    assert then == five(permitted="kill,chown", effective="chown", bounding="kill", ambient="chown")
    with pytest.raises(ValueError, match="would give root cap_kill back"):
        check_after_exec(five(bounding="kill"), True, False, False)


def test_ambient_set_that_differing_ids_would_lose_is_refused() -> None:
    check_ambient_after_exec(NONE, True)
    check_ambient_after_exec(CapabilitySet("kill"), False)
    with pytest.raises(ValueError, match=r"ambient: execve\(2\) would clear cap_kill"):
        check_ambient_after_exec(CapabilitySet("kill"), True)


@pytest.mark.parametrize(
    ("sets", "is_root", "words"),
    [
        (five(permitted="kill", effective="kill"), False, "take cap_kill from a user who is not root"),
        (five(permitted="kill", effective="kill"), True, "take cap_kill: neither in bounding nor inheritable"),
        (five(bounding="kill"), True, "give root cap_kill back"),
        (five(permitted="kill", inheritable="kill", ambient="kill"), False, "cap_kill would be effective, or not"),
    ],
)
def test_sets_that_a_program_would_not_have_are_refused(sets: Capabilities, is_root: bool, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_after_exec(sets, is_root, is_root, False)
    assert str(caught.value).startswith("capabilities: ")
    assert words in str(caught.value)
    assert after_exec(five(), False, False, False).permitted == NONE
