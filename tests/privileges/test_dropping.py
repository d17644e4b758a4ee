"""`drop_privileges()`: wherever it begins, the end is what was asked, in all threads; or an error, and no half of it.

The process that drops is watched from outside, through /proc, by one that does not use fastproc for it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc import privileges
from fastproc._engine import loading
from fastproc.privileges import CapabilitySet, HalfSwitched, NotAllThreads, Securebits, drop_privileges
from fastproc.privileges import _drop as _dropping
from fastproc.users import Group, User
from support.identities import CALLS, USERS, begin, forked, of_all, spoil, start_threads
from support.witness import setpriv, sets_of

if __name__.startswith("isolated_"):
    # Once, and not in each copy: the interpreter may lie where nobody else can read.
    loading.load_all()

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

CHOICES: dict[str, list[Any]] = {
    "state": ["root", "few", "user", "nofixup", "setuid", "ambient", "keepcaps"],
    "user": [None, "app", 1234, 0],
    "group": [None, 77, "audio"],
    "groups": [None, "init", "keep", [], [5, "video", 7, 5]],
    "keep": ["", "net_bind_service", "chown,net_raw", "setuid,chown"],
    "ambient": ["none", "all", "one"],
    "bounding": ["default", "keep", "all", "some"],
    "securebits": [None, Securebits.NOROOT | Securebits.NOROOT_LOCKED],
    "no_new_privs": [True, False],
    "threads": [0, 3],
}


def rows(seed: int) -> list[dict[str, Any]]:
    """Rows in which every pair of two choices occurs that can occur."""
    pick = random.Random(seed)
    names = list(CHOICES)
    missing = {
        (a, i, b, j)
        for a, b in itertools.combinations(names, 2)
        for i in range(len(CHOICES[a]))
        for j in range(len(CHOICES[b]))
    }
    found = []
    while missing:
        a, i, b, j = wanted = min(missing)
        best: tuple[int, dict[str, int]] = (0, {})
        for _ in range(60):
            row = {name: pick.randrange(len(values)) for name, values in CHOICES.items()} | {a: i, b: j}
            if possible({name: CHOICES[name][at] for name, at in row.items()}):
                new = sum((x, row[x], y, row[y]) in missing for x, y in itertools.combinations(names, 2))
                best = max(best, (new, row), key=lambda item: item[0])
        chosen = best[1]
        missing.discard(wanted)
        if chosen:
            missing -= {(x, chosen[x], y, chosen[y]) for x, y in itertools.combinations(names, 2)}
            found.append({name: CHOICES[name][at] for name, at in chosen.items()})
    return found


def possible(row: dict[str, Any]) -> bool:
    """Rows that make no sense are asked for elsewhere."""
    if row["groups"] == "init" and row["user"] is None:
        return False
    return not (row["user"] == 0 and (row["group"] is None or row["groups"] in (None, "init")))


def arguments(row: dict[str, Any], bounding: CapabilitySet, bits: Securebits) -> dict[str, Any]:
    """The call's arguments."""
    keep = CapabilitySet(row["keep"])
    some = (keep | {"chown"}) & bounding
    limit: CapabilitySet | str | None = {"default": None, "keep": "keep", "all": bounding, "some": some}[
        row["bounding"]
    ]
    flags = None if row["securebits"] is None else bits | row["securebits"]
    return {
        "user": row["user"],
        "group": row["group"],
        "groups": row["groups"],
        "keep": keep,
        "ambient": {"none": CapabilitySet(), "all": keep, "one": CapabilitySet(list(keep)[:1])}[row["ambient"]],
        "bounding": limit,
        "securebits": flags,
        "no_new_privs": row["no_new_privs"],
        "users": USERS,
    }


def model(row: dict[str, Any], before: list[str], options: dict[str, Any]) -> list[str]:
    """The lines of /proc/PID/status that must be there afterwards, from those before and the meaning of the options."""
    uid = {"app": 1234}.get(row["user"], row["user"])
    gid = {"audio": 29}.get(row["group"], row["group"])
    if gid is None and uid == 1234:
        gid = 1235
    groups = row["groups"]
    if groups is None and uid is not None:
        groups = "init"
    supplementary = before[7]
    if groups == "init":
        supplementary = " ".join(map(str, sorted({gid, 29, 44})))
    elif isinstance(groups, list):
        supplementary = " ".join(map(str, sorted({44 if some == "video" else some for some in groups})))
    keep, ambient = options["keep"].hex, options["ambient"].hex
    limit = options["bounding"]
    had = CapabilitySet.from_mask(before[3])
    return [
        keep,
        keep,
        ambient,
        {None: had & options["keep"], "keep": had}.get(limit, limit).hex,
        ambient,
        before[5] if uid is None else "\t".join([str(uid)] * 4),
        before[6] if gid is None else "\t".join([str(gid)] * 4),
        supplementary,
        str(int(row["no_new_privs"])),
    ]


# -- a process of its own for each row


def back_to_root() -> list[str]:
    """Each way back that is open."""
    libc = ctypes.CDLL(None)
    open_ways = []
    for name, call in (
        ("setuid", lambda: libc.setuid(0)),
        ("seteuid", lambda: libc.seteuid(0)),
        ("setresuid", lambda: libc.setresuid(0, 0, 0)),
        ("setgid", lambda: libc.setgid(0)),
        ("setgroups", lambda: libc.setgroups(0, None)),
    ):
        if call() == 0:
            open_ways.append(name)
    return open_ways


def one_row(at: int) -> list[Any]:
    row = TABLE[at]
    before: list[list[str]] = []

    def work() -> list[Any]:
        begin(row["state"])
        start_threads(row["threads"])
        before.append(sets_of("self"))
        bits = privileges.securebits()
        options = arguments(row, CapabilitySet.from_mask(before[0][3]), bits)
        found = drop_privileges(**options)
        assert found == privileges.identity()
        expected = model(row, before[0], options)
        bits = bits if options["securebits"] is None else options["securebits"]
        dump = setpriv() if options["bounding"] is None else {}
        return [expected, [int(found.securebits or 0), int(bits)], privileges.keepcaps(), dump]

    said, seen = forked(work, of_all)
    return [said, seen]


def all_rows() -> list[Any]:
    return [[at, *one_row(at)] for at in range(len(TABLE))]


TABLE = [*rows(5), *rows(6), *rows(7)]


@pytest.mark.slow
def test_end_is_what_was_asked_whatever_it_began_from() -> None:
    """A table of all pairs of ten choices; seen from outside, in every thread."""
    assert len(TABLE) >= 100
    for at, said, seen in isolated(all_rows, pid_namespace=True, timeout=120):
        row = TABLE[at]
        assert isinstance(said[0], list), (row, said)
        expected, (bits, wanted), keepcaps, dump = said
        assert seen == [expected], (row, seen, expected)
        assert bits == wanted, row
        assert keepcaps is (row["state"] == "keepcaps" and row["securebits"] is None) or bits & 16, row
        if dump:
            uid, gid = expected[5].split("\t")[0], expected[6].split("\t")[0]
            assert [dump["uid"], dump["gid"], dump["no_new_privs"]] == [uid, gid, expected[8]], row
            groups = expected[7].replace(" ", ",") or "[none]"
            assert dump["Supplementary groups"] == groups, row
            names = [name.removeprefix("cap_") for name in CapabilitySet.from_mask(expected[4]).names]
            assert dump["Ambient capabilities"] == (",".join(names) or "[none]"), row


def ways_back(state: str, keep: str) -> list[Any]:
    def work() -> list[Any]:
        begin(state)
        start_threads(3)
        dumpable = _dropping._credentials.held().dumpable
        drop_privileges(1234, users=USERS, keep=keep)
        return [back_to_root(), dumpable, _dropping._credentials.held().dumpable]

    return forked(work, of_all)


@pytest.mark.parametrize("state", ["root", "few", "user", "nofixup", "setuid", "ambient", "keepcaps"])
def test_there_is_no_way_back(state: str) -> None:
    """GOTCHAS G4. And what the process knew as root stays hidden from the new user (GOTCHAS G18)."""
    (ways, before, after), seen = isolated(ways_back, state, "", pid_namespace=True)
    assert ways == []
    assert (before, after) == (0 if state == "user" else 1, 0)
    assert len(seen) == 1


def test_kept_capability_is_the_way_back_that_was_asked_for() -> None:
    (ways, _, _), _ = isolated(ways_back, "root", "setuid", pid_namespace=True)
    assert set(ways) == {"setuid", "seteuid", "setresuid"}


# -- names


def lookups() -> list[Any]:
    return [_refused(options) for options in LOOKUPS]


def _refused(options: dict[str, Any]) -> list[str]:
    before = of_all(os.getpid())
    try:
        drop_privileges(**{"users": USERS, **options})
    except (TypeError, ValueError, KeyError, OSError) as error:
        return [type(error).__name__, str(error), str(of_all(os.getpid()) == before)]
    return ["returned"]


LOOKUPS: list[dict[str, Any]] = [
    {"user": "1234"},
    {"user": -1},
    {"user": 65535},
    {"user": 4294967295},
    {"user": ""},
    {"user": True},
    {"user": 9},
    {"user": 9, "group": 9},
    {"user": User("x", 1, 1)._replace(uid=-1)},
    {"group": "nogroup-here"},
    {"group": -1},
    {"group": Group("x", 1)._replace(gid=65535)},
    {"groups": "init"},
    {"groups": "all"},
    {"groups": 5},
    {"groups": b"5"},
    {"user": "app", "groups": [4294967295]},
    {"user": "app", "groups": [1, "nogroup-here"]},
    {"keep": 5},
    {"keep": "typo"},
    {"keep": [63]},
    {"keep": "chown", "ambient": "kill"},
    {"bounding": "typo"},
    {"securebits": True},
    {"securebits": 1 << 20},
    {"no_new_privs": 1},
]


def test_values_that_are_not_possible_are_refused_before_anything_changes() -> None:
    """GOTCHAS G6, G7."""
    found = isolated(lookups, pid_namespace=True)
    assert [one[-1] for one in found] == ["True"] * len(LOOKUPS), found
    assert [one[:2] for one in found] == [
        ["UnknownUser", "there is no user named '1234' (a string is always a name, an id always a number)"],
        ["ValueError", 'who: -1 is no id: it is which means "unchanged" to the kernel'],
        ["ValueError", "who: 65535 is no id: it is the 16-bit form of -1"],
        ["ValueError", "who: 4294967295 is no id: it is -1"],
        ["ValueError", "who: '' cannot be a name"],
        ["TypeError", "who: must be a name or an id, not True"],
        ["ValueError", "group: must be given, because the user database has no entry with the id 9"],
        ["ValueError", "groups: must be given, because the user database has no entry with the id 9"],
        ["ValueError", 'user: -1 is no id: it is which means "unchanged" to the kernel'],
        ["UnknownGroup", "there is no group named 'nogroup-here'"],
        ["ValueError", 'group: -1 is no id: it is which means "unchanged" to the kernel'],
        ["ValueError", "group: 65535 is no id: it is the 16-bit form of -1"],
        ["ValueError", 'groups: "init" needs a user'],
        ["ValueError", 'groups: must be "init", "keep" or a list of groups, not \'all\''],
        ["TypeError", 'groups: must be "init", "keep" or a list of groups, not 5'],
        ["TypeError", 'groups: must be "init", "keep" or a list of groups, not b\'5\''],
        ["ValueError", "groups: 4294967295 is no id: it is -1"],
        ["UnknownGroup", "there is no group named 'nogroup-here'"],
        ["TypeError", "keep: a set of capabilities from a number is ambiguous: use CapabilitySet.from_mask(5)"],
        ["ValueError", "keep: 'typo' is no capability: a name such as 'cap_net_raw' or 'net_raw' is expected"],
        ["ValueError", "keep: this kernel does not have 63"],
        ["ValueError", "ambient: cap_kill must be in keep too"],
        ["ValueError", "bounding: 'typo' is no capability: a name such as 'cap_net_raw' or 'net_raw' is expected"],
        ["TypeError", "securebits: must be Securebits, not True"],
        ["ValueError", "securebits: 0x100000 has unknown flags: 0xfff are all flags"],
        ["TypeError", "no_new_privs: must be True or False, not 1"],
    ]


def locks() -> list[Any]:
    privileges.inheritable.set("chown")
    privileges.set_securebits(Securebits.NO_CAP_AMBIENT_RAISE)
    found = [_refused({"user": "app", "keep": "chown", "ambient": "chown"})]
    privileges.set_securebits(Securebits.KEEP_CAPS_LOCKED)
    found.append(_refused({"user": "app", "keep": "chown"}))
    found.append(_refused({"user": "app", "securebits": Securebits.KEEP_CAPS_LOCKED | Securebits.NOROOT}))
    privileges.bounding.drop("kill")
    found.append(_refused({"user": "app", "bounding": "kill"}))
    found.append(_refused({"user": "app", "keep": "kill", "ambient": "kill"}))
    found.append(_refused({"user": "app"}))  # nothing is kept, so nothing is locked
    return [*found, of_all(os.getpid())]


def test_what_the_securebits_lock_is_refused_before_anything_changes() -> None:
    zero = f"{0:016x}"
    *refused, worked, seen = isolated(locks, pid_namespace=True)
    assert refused == [
        ["PermissionError", "[Errno 1] ambient: the securebits (no_cap_ambient_raise) forbid adding any", "True"],
        ["PermissionError", "[Errno 1] keep: the securebits (keep_caps_locked) forbid keeping any", "True"],
        ["PermissionError", "[Errno 1] keep: the securebits (keep_caps_locked) forbid keeping any", "True"],
        ["MissingCapability", "[Errno 1] bounding: cap_kill is not in this set, and nothing can add to it", "True"],
        ["MissingCapability", "[Errno 1] ambient: cap_kill is not in the bounding set", "True"],
    ]
    assert worked == ["returned"]
    assert [one[:5] for one in seen] == [[zero] * 5]


# -- steps that fail, or say that they did what they did not


def spoiled(name: str, error: int, bounding: str | None) -> list[Any]:
    def work() -> list[Any]:
        os.setgroups([0, 4, 27])
        spoil(*CALLS[name], error)
        start_threads(3)
        before = of_all(os.getpid())
        try:
            found = drop_privileges(
                "app",
                users=USERS,
                keep="chown,kill",
                ambient="chown",
                bounding=bounding,
                securebits=Securebits.NOROOT,
            )
        except HalfSwitched as failure:
            unchanged = False
            text = [type(failure).__name__, failure.stage, str(failure.__cause__)]
        except (OSError, NotAllThreads) as failure:
            unchanged = True
            text = [type(failure).__name__, "", str(failure)]
        else:
            return ["returned", repr(found)]
        return [text, not unchanged or of_all(os.getpid()) == before]

    return forked(work, of_all)


def all_spoiled() -> list[Any]:
    """Each system call failing in two ways and lying, with and without a change that cannot be taken back."""
    return [
        [name, error, bounding, *spoiled(name, error, bounding)]
        for name in CALLS
        for error in (0, 1, 11)
        for bounding in (None, "keep")
        if (name, bounding) != ("bounding", "keep")  # it is not called then
    ]


@pytest.mark.slow
def test_step_that_fails_or_lies_is_found() -> None:
    """GOTCHAS G3, G16: never a return; and an error without HalfSwitched has changed nothing."""
    found = isolated(all_spoiled, pid_namespace=True, timeout=120)
    assert len(found) == 51
    for name, error, bounding, (text, kept_word), seen in found:
        where = (name, error, bounding, text)
        assert text[0] in ("HalfSwitched", "NotAllThreads", "PermissionError", "BlockingIOError"), where
        assert kept_word is True, where
        if text[0] != "HalfSwitched":
            assert [one[5:8] for one in seen] == [["0\t0\t0\t0", "0\t0\t0\t0", "0 4 27"]], where
        # What fails before capabilities are given up is undone; also a lie that is seen in time.
        if name in ("setgroups", "setresgid", "setresuid", "bounding", "ambient") or (name == "keepcaps" and error):
            assert text[0] != "HalfSwitched", where


def regained(name: str) -> list[Any]:
    """A saved id is left behind, and every look at it is deceived: only trying shows it."""

    def work() -> list[Any]:
        real = getattr(os, name)
        start_threads(2)

        def leaves_saved_id(*ids: int) -> None:
            real(*ids[:2], 0)

        def claims(*_: object) -> tuple[int, int, int]:
            return (1234,) * 3 if name == "setresuid" else (1235,) * 3

        setattr(os, name, leaves_saved_id)
        setattr(os, name.replace("set", "get"), claims)
        _dropping._Drop._verify = lambda drop: privileges.identity()  # type: ignore[method-assign]
        try:
            drop_privileges("app", users=USERS)
        except HalfSwitched as error:
            return [error.stage, str(error.__cause__), os.geteuid(), os.getegid()]
        return ["returned"]

    return forked(work, lambda pid: None)[0]


@pytest.mark.parametrize("name", ["setresuid", "setresgid"])
def test_old_id_that_can_be_had_back_is_found_by_trying(name: str) -> None:
    """GOTCHAS G4: also when every other look was deceived."""
    told = isolated(regained, name, pid_namespace=True)
    assert told == ["proof", "drop_privileges: the id 0 could be restored", 1234, 1235]


def permuted(order: list[str]) -> list[Any]:
    def work() -> list[Any]:
        steps = [getattr(_dropping._Drop, name) for name in order]
        names = ("_groups", "_keep", "_uids", "_limits", "_capabilities")
        for name, step in zip(names, steps, strict=True):
            setattr(_dropping._Drop, name, step)
        start_threads(2)
        drop_privileges("app", users=USERS, keep="chown", ambient="chown", securebits=Securebits.NOROOT)
        return ["returned"]

    return forked(work, of_all)


def all_orders() -> list[Any]:
    orders = list(itertools.permutations(("_groups", "_keep", "_uids", "_limits", "_capabilities")))
    return [[order, *permuted(list(order))] for order in orders]


def test_wrong_orders_of_the_steps_are_found() -> None:
    """GOTCHAS G2: of 120 orders only those return that end where the right one does."""
    found = isolated(all_orders, pid_namespace=True)
    right = found[0]
    assert right[1] == ["returned"]
    returned = [order for order, said, _ in found if said == ["returned"]]
    assert all(seen == right[2] for order, said, seen in found if said == ["returned"])
    assert returned == [
        ["_groups", "_keep", "_uids", "_limits", "_capabilities"],
        ["_keep", "_groups", "_uids", "_limits", "_capabilities"],
    ]
    assert {said[0] for _, said, _ in found if said != ["returned"]} <= {
        "HalfSwitched",
        "PermissionError",
        "OSError",
        "NotAllThreads",
    }


# -- in a user namespace


def rootless() -> list[Any]:
    """Uid 0 of a namespace in which nobody else is mapped: everything is permitted, and the kernel refuses it."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    _dropping._credentials.set_dumpable(True)  # else the maps below belong to root
    if libc.unshare(0x10000000) != 0:
        return []
    for name, text in (("setgroups", "deny"), ("uid_map", "0 65534 1"), ("gid_map", "0 65534 1")):
        Path(f"/proc/self/{name}").write_text(text)
    found = [
        _refused({"user": 0, "group": 0, "groups": [5]}),
        _refused({"user": 7, "group": 0, "groups": "keep"}),
        _refused({"user": 0, "group": 7, "groups": "keep"}),
    ]
    who = drop_privileges(0, group=0, groups="keep", keep="net_raw", ambient="net_raw")
    return [*found, list(who.uids), [some.hex for some in who.capabilities], of_all(os.getpid())[0][:5]]


def test_user_namespace_of_an_ordinary_user() -> None:
    """GOTCHAS G21: capabilities can be given up there, and what the namespace refuses is told as its refusal."""
    found = isolated(rootless, pid_namespace=True)
    if not found:
        pytest.skip("user namespaces are not allowed here")
    groups, uid, gid, uids, sets, seen = found
    assert groups == [
        "PermissionError",
        "[Errno 1] drop_privileges: groups: Operation not permitted: this user namespace denies setgroups "
        "(/proc/self/setgroups)",
        "True",
    ]
    for refused, stage in ((uid, "uids"), (gid, "gids")):
        assert refused == [
            "OSError",
            f"[Errno 22] drop_privileges: {stage}: Invalid argument: (7, 7, 7) not all mapped in this user namespace",
            "True",
        ]
    assert uids == [0, 0, 0, 0]
    assert sets == seen == [CapabilitySet("net_raw").hex] * 5


# -- what comes after


def afterwards() -> list[Any]:
    import fastproc

    start_threads(3)
    drop_privileges("app", users=USERS, keep="net_bind_service", ambient="net_bind_service")
    again = drop_privileges("app", users=USERS, bounding="keep")
    child = fastproc.run("cat", "/proc/self/status", capture=True).lines()
    lines = dict(line.split(":\t") for line in child if ":\t" in line)
    return [list(again.uids), list(again.groups), lines["Uid"], lines["Groups"], lines["CapPrm"], lines["CapBnd"]]


def test_children_and_further_drops_work_afterwards() -> None:
    assert isolated(afterwards, pid_namespace=True) == [
        [1234] * 4,
        [29, 44, 1235],
        "1234\t1234\t1234\t1234",
        "29 44 1235 ",
        f"{0:016x}",
        CapabilitySet("net_bind_service").hex,
    ]
