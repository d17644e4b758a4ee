"""A child's identity: exactly what was asked for, or nothing. The truth table, its witnesses, lies and wrong orders.

Everything here runs in a PID namespace of its own.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from support import observe
from support.identities import forked, restrict, spoil
from support.programs import Programs

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

NOBODY = 65534
BITS = {"kill": 1 << 5, "setgid": 1 << 6, "setuid": 1 << 7, "setpcap": 1 << 8, "net_raw": 1 << 13}
FACTORS: dict[str, list[Any]] = {
    "user": [None, "nobody", 1000, 0],
    "group": [None, 4, "nogroup"],
    "groups": [None, [], [27, 4], "keep"],
    "capabilities": [None, [], ["net_raw"], ["setuid", "net_raw"]],
    "ambient": [None, ["net_raw"]],
    "bounding": [None, ["net_raw", "kill", "setuid", "setpcap"], []],
    "no_new_privs": [None, False],
    "root": [None, "folder"],
    "securebits": [
        None,
        ["noroot", "noroot_locked"],
        ["no_setuid_fixup"],
        ["no_cap_ambient_raise", "keep_caps_locked"],
    ],
    "namespaces": [None, ["uts", "ipc"], ["mount", "net", "cgroup"], ["pid"], ["time"]],
    "way": ["clone3_vm", "launcher", "fork_pipe"],
}


def pairwise(least: int) -> list[dict[str, Any]]:
    """Rows in which every two values of two factors meet; more of them up to a number. The same at every call."""
    chance = random.Random(6)
    names = list(FACTORS)
    open_pairs = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(names, 2)
        for i in range(len(FACTORS[a]))
        for j in range(len(FACTORS[b]))
    }

    def met(row: dict[str, int]) -> set[Any]:
        return {((a, row[a]), (b, row[b])) for a, b in itertools.combinations(names, 2)} & open_pairs

    rows = []
    while open_pairs or len(rows) < least:
        tries = [{name: chance.randrange(len(FACTORS[name])) for name in names} for _ in range(40)]
        if open_pairs:
            for trial in tries[:20]:
                for place in chance.choice(sorted(open_pairs)):
                    trial[place[0]] = place[1]
        best = max(tries, key=lambda row: len(met(row)))
        open_pairs -= met(best)
        rows.append({name: FACTORS[name][index] for name, index in best.items()})
    return rows


def mask(names: list[str] | None) -> int:
    return sum(BITS[name] for name in names or ())


def shares(options: dict[str, Any]) -> bool:
    """Whether a run of root's makes such a change of its child's uid in memory that both have."""
    return not any(options.get(name) for name in ("root", "securebits", "namespaces", "landlock", "seccomp"))


def model(row: dict[str, Any], held: dict[str, Any]) -> dict[str, Any] | str:
    """What capabilities(7) and credentials(7) say that the program has; or the word that a refusal begins with.

    Written from the man pages, with nothing of the library's.
    """
    uid = {"nobody": NOBODY, None: 0}.get(row["user"], row["user"])
    gid = {"nogroup": NOBODY, None: 0}.get(row["group"], row["group"])
    entry = held["entries"].get(str(uid))
    if row["user"] is not None:
        if entry is None and row["group"] is None:
            return "group"
        if entry is None and row["groups"] is None:
            return "groups"
        if row["group"] is None:
            gid = entry["gid"]
    if row["groups"] is None and row["user"] is not None:
        groups = sorted(set(os.getgrouplist(entry["name"], gid)))
    elif row["groups"] in (None, "keep"):
        groups = held["groups"]
    else:
        groups = sorted(row["groups"])
    bounding = held["bounding"] if row["bounding"] is None else mask(row["bounding"])
    drops = row["user"] is not None and uid != 0
    given = row["capabilities"] is not None
    if given:
        permitted = mask(row["capabilities"])
        inheritable = permitted
        ambient = permitted if row["ambient"] is None else mask(row["ambient"])
        if ambient & ~permitted:
            return "ambient"
        if row["bounding"] is not None and (permitted | ambient) & ~bounding:
            return "bounding"
    else:
        ambient = mask(row["ambient"])
        permitted = ambient if drops else held["permitted"] | ambient
        inheritable = ambient
        if row["bounding"] is not None and ambient & ~bounding:
            return "bounding"
    noroot = "noroot" in (row["securebits"] or ())
    root = uid == 0 and not noroot
    nnp = row["no_new_privs"] is not False
    after = ambient
    if root:
        after = inheritable | bounding
        if after & ~permitted and nnp:
            after &= permitted
        after |= ambient
    if given and after != permitted:
        return "capabilities"
    bits = {"noroot": 1, "noroot_locked": 2, "no_setuid_fixup": 4, "no_cap_ambient_raise": 64, "keep_caps_locked": 32}
    return {
        "Uid": [uid] * 4,
        "Gid": [gid] * 4,
        "Groups": groups,
        "CapInh": inheritable,
        "CapPrm": after,
        "CapEff": after,
        "CapBnd": bounding,
        "CapAmb": ambient,
        "NoNewPrivs": int(nnp),
        "Seccomp": 0,
        "securebits": sum(bits[name] for name in row["securebits"] or ()),
        "keepcaps": 0,
        "root": held["folder"] if row["root"] else held["root"],
        "cwd": "/" if row["root"] else held["cwd"],
        "new": sorted(row["namespaces"] or ()),
        "mechanism": "launcher" if row["way"] == "clone3_vm" and not (drops and shares(row)) else row["way"],
        "dumpable": 1,
    }


def seen(fields: dict[str, Any], ours: dict[str, str], mechanism: str) -> dict[str, Any]:
    """What the probe said, in the model's words."""
    spaces = {"mnt": "mount"}
    return {
        **{name: [int(item) for item in fields[name].split()] for name in ("Uid", "Gid", "Groups")},
        **{name: int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
        **{name: int(fields[name]) for name in ("NoNewPrivs", "Seccomp", "securebits", "keepcaps")},
        **{name: fields[name] for name in ("root", "cwd", "dumpable")},
        "new": sorted(spaces.get(name, name) for name, link in fields["ns"].items() if link != ours[name]),
        "mechanism": mechanism,
    }


def options_of(row: dict[str, Any], folder: str) -> dict[str, Any]:
    options = {name: value for name, value in row.items() if value is not None and name != "way"}
    if "root" in options:
        options["root"] = folder
    return options


def make_root(folder: str, probe: str) -> None:
    """A root with the static probe and a /proc."""
    os.makedirs(folder + "/proc")
    os.chmod(folder, 0o755)
    shutil.copy(probe, folder + "/probe")
    subprocess.run(["mount", "-t", "proc", "proc", folder + "/proc"], check=True)


def truth_table(probe: str, folder: str, least: int) -> dict[str, Any]:
    import json
    import pwd

    import fastproc
    from fastproc import _native
    from fastproc._native import credentials

    os.setgroups([0, 4, 27])
    make_root(folder, probe)
    os.chmod(os.path.dirname(probe), 0o755)
    rows = pairwise(least)
    sets = credentials.held()
    plain = json.loads(fastproc.run(probe, capture=True).stdout)
    place = os.stat(folder)
    held: dict[str, Any] = {
        "groups": [0, 4, 27],
        "entries": {str(item.pw_uid): {"name": item.pw_name, "gid": item.pw_gid} for item in pwd.getpwall()},
        "bounding": sets.bounding,
        "permitted": sets.permitted,
        "root": plain["root"],
        "folder": f"{place.st_dev}:{place.st_ino}",
        "cwd": plain["cwd"],
    }
    wrong, refused = [], 0
    for row in rows:
        expected = model(row, held)
        _native.force(row["way"])
        try:
            result = fastproc.run("/probe" if row["root"] else probe, capture=True, **options_of(row, folder))
        except ValueError as error:
            got: Any = str(error).split(":")[0]
            refused += 1
        except Exception as error:
            got = repr(error)
        else:
            got = seen(json.loads(result.stdout), plain["ns"], result.mechanism)
        if got != expected:
            differ = (
                {key: (expected[key], got[key]) for key in got if got[key] != expected[key]}
                if isinstance(got, dict) and isinstance(expected, dict)
                else (expected, got)
            )
            wrong.append([row, differ])
    return {"rows": len(rows), "refused": refused, "wrong": wrong}


@pytest.fixture
def public() -> Any:
    """A folder that every user can enter."""
    folder = Path(f"/tmp/fastproc-identity-{os.getpid()}")
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def probe_path(programs: Programs, public: Path) -> str:
    """The probe, where every user can execute it."""
    shutil.copy(programs.probe, public / "probe")
    return str(public / "probe")


def test_truth_table(probe_path: str, public: Path) -> None:
    """Every two values of any two options meet; the program is as the man pages say, or nothing is started."""
    found = isolated(truth_table, probe_path, str(public / "root"), 320, pid_namespace=True, timeout=300)
    print(f"{found['rows']} rows, {found['refused']} of them refused before any child")
    assert found["wrong"] == []
    assert found["rows"] - found["refused"] >= 150


# -- parents that are neither plain root nor plain users, and children of user namespaces

PARENTS: dict[str, Any] = {
    "real root": {"ids": (0, 1000)},
    "effective root": {"ids": (1000, 0)},
    "inheritable": {"ids": (0, 0), "inheritable": ["net_raw"]},
    "namespace": {"ids": (0, 0), "namespaces": ["user"]},
    "namespace, nobody": {"ids": (1000, 1000), "namespaces": ["user"], "uid_map": [(1000, 0, 1)]},
    "namespace, two": {"ids": (0, 0), "namespaces": ["user", "time"], "uid_map": [(5, 1000, 1), (0, 0, 1)]},
}


def execve_of(row: dict[str, Any], start: dict[str, Any], held: dict[str, int]) -> dict[str, int] | str:
    """What capabilities(7) says of the sets, or the option that must be refused. Nothing of it is the library's."""
    real, effective = start["ids"] if row["user"] is None else (row["user"], row["user"])
    permitted, bounding, inheritable = held["permitted"], held["bounding"], mask(start.get("inheritable"))
    if "namespaces" in start:
        permitted = bounding = held["all"]
    if row["bounding"] is not None:
        bounding = mask(row["bounding"])
    given = row["capabilities"] is not None
    if given:
        permitted = inheritable = mask(row["capabilities"])
        ambient = permitted if row["ambient"] is None else mask(row["ambient"])
        if ambient & ~permitted:
            return "ambient"
    else:
        if row["user"] or real:
            permitted = permitted if row["user"] is None else 0
        inheritable = 0 if row["user"] else inheritable & bounding
        permitted &= bounding
        ambient = mask(row["ambient"])
        permitted, inheritable = permitted | ambient, inheritable | ambient
    if row["bounding"] is not None and inheritable & ~bounding:
        return "bounding"
    if ambient and real != effective and held["old kernel"]:
        return "ambient"
    prm = eff = ambient
    if 0 in (real, effective):
        prm = bounding | inheritable
        if prm & ~permitted and row["no_new_privs"] is None:
            prm &= permitted
        prm |= ambient
        eff = prm if effective == 0 else ambient
    if given and (prm != permitted or eff != permitted):
        return "capabilities"
    return {"CapInh": inheritable, "CapPrm": prm, "CapEff": eff, "CapBnd": bounding, "CapAmb": ambient}


def parents_table(probe: str, name: str) -> dict[str, Any]:
    import json

    import fastproc
    from fastproc import _native, privileges
    from fastproc._native import credentials

    start, wrong, refused = PARENTS[name], [], 0
    sets = credentials.held()
    major, minor = os.uname().release.split(".")[:2]
    held = {
        "permitted": sets.permitted,
        "bounding": sets.bounding,
        "all": (1 << int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1) - 1,
        "old kernel": (int(major), int(minor)) < (6, 16),
    }
    privileges.inheritable.set(start.get("inheritable", []))
    if "namespaces" not in start:
        os.setresuid(*start["ids"], -1)
    factors: dict[str, list[Any]] = {
        "user": [None, 5] if name == "namespace, two" else [None],
        "capabilities": [None, [], ["net_raw"]],
        "ambient": [None, [], ["net_raw"]],
        # Without effective capabilities a parent can limit nothing.
        "bounding": [None] if name == "real root" else [None, ["net_raw", "kill"], []],
        "no_new_privs": [None, False],
        "way": ["clone3_vm", "launcher", "fork_pipe"],
    }
    rows = [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]
    for row in rows:
        options = {key: value for key, value in row.items() if value is not None and key != "way"}
        options |= {key: start[key] for key in ("namespaces", "uid_map") if key in start}
        if row["user"] is not None:
            options |= {"group": 0, "groups": "keep"}
        expected = execve_of(row, start, held)
        _native.force(row["way"])
        try:
            fields = json.loads(fastproc.run(probe, capture=True, **options).stdout)
        except ValueError as error:
            got: Any = str(error).split(":")[0]
            refused += 1
        except Exception as error:
            got = repr(error)
        else:
            got = {key: int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        if got != expected:
            wrong.append([row, expected, got])
    return {"rows": len(rows), "refused": refused, "wrong": wrong}


@pytest.mark.parametrize("name", PARENTS)
def test_truth_table_of_other_parents(probe_path: str, name: str) -> None:
    """GOTCHAS G13, G14: the real uid counts as root too; what is inheritable comes back; a map says who is root."""
    found = isolated(parents_table, probe_path, name, pid_namespace=True, timeout=120)
    print(f"{found['rows']} rows, {found['refused']} of them refused before any child")
    assert found["wrong"] == []
    assert found["rows"] - found["refused"] >= 10


# -- witnesses that are not ours


def witnessed(way: str) -> list[Any]:
    import fastproc
    from fastproc import _native, capabilities

    _native.force(way)
    options: dict[str, Any] = {
        "user": 1000,
        "group": 1000,
        "groups": [4, 27],
        "capabilities": ["net_raw", "kill"],
        "bounding": ["net_raw", "kill", "chown"],
        "securebits": ["noroot", "noroot_locked"],
    }
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    dumped = fastproc.run("setpriv", "--dump", capture=True, env=path, **options).stdout.decode()
    printed = fastproc.run("capsh", "--print", capture=True, env=path, **options).stdout.decode()
    with fastproc.start("sleep", "60", **options) as child:
        told = subprocess.run(["getpcaps", str(child.pid)], capture_output=True, text=True, env=path, check=True).stdout
        ours = capabilities.to_text(capabilities.of_process(child.pid))
        iab = capabilities.to_iab(capabilities.of_process(child.pid))
        child.kill()
    return [dumped, printed, told.split()[-1], ours, iab]


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_witnesses_agree(way: str) -> None:
    """Setpriv --dump, capsh --print and getpcaps see what was asked for."""
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    for name in ("setpriv", "capsh", "getpcaps"):
        if shutil.which(name, path=path) is None:
            pytest.skip(f"no {name} (Debian: util-linux, libcap2-bin)")
    dumped, printed, told, ours, iab = isolated(witnessed, way, pid_namespace=True)
    lines = dict(line.split(": ", 1) for line in dumped.splitlines())
    assert (
        lines
        == {
            "uid": "1000",
            "euid": "1000",
            "gid": "1000",
            "egid": "1000",
            "Supplementary groups": "4,27",
            "no_new_privs": "1",
            "Inheritable capabilities": "kill,net_raw",
            "Ambient capabilities": "kill,net_raw",
            "Capability bounding set": "chown,kill,net_raw",
            "Securebits": "noroot,noroot_locked",
            "Parent death signal": "[none]",
        }
        or {name: lines[name] for name in lines if name in ("uid", "Supplementary groups")} == {}
    )
    assert "Current: cap_kill,cap_net_raw=eip" in printed
    assert "Bounding set =cap_chown,cap_kill,cap_net_raw" in printed
    assert "Ambient set =cap_kill,cap_net_raw" in printed
    assert "secure-noroot: yes (locked)" in printed
    assert "uid=1000" in printed
    assert told == ours == "cap_kill,cap_net_raw=eip"
    assert iab.startswith("!") or "^" in iab


# -- calls that fail, and calls that lie


def filter_refusing(number: int) -> bytes:
    """A compiled filter: one system call gives EPERM, all others pass (seccomp(2))."""
    import struct

    load, jump, ret = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 0), (jump, 0, 1, number), (ret, 0, 0, 0x00050000 | errno.EPERM), (ret, 0, 0, 0x7FFF0000)]
    return b"".join(struct.pack("<HBBI", *item) for item in program)


NR = {
    "x86_64": {
        "write": 1,
        "mount": 165,
        "fchdir": 81,
        "umask": 95,
        "chroot": 161,
        "setsid": 112,
        "setgroups": 116,
        "setresuid": 117,
        "setresgid": 119,
        "capset": 126,
        "prctl": 157,
        "keyctl": 250,
        "unshare": 272,
        "prlimit64": 302,
        "seccomp": 317,
        "landlock_restrict_self": 446,
    },
    "aarch64": {
        "write": 64,
        "mount": 40,
        "fchdir": 50,
        "umask": 166,
        "chroot": 51,
        "setsid": 157,
        "setgroups": 159,
        "setresuid": 147,
        "setresgid": 149,
        "capset": 91,
        "prctl": 167,
        "keyctl": 219,
        "unshare": 97,
        "prlimit64": 261,
        "seccomp": 277,
        "landlock_restrict_self": 446,
    },
}[os.uname().machine]

# What is called, with which first argument (-1: any), and the stage that must refuse.
CALLS: list[tuple[str, int, str]] = [
    ("setsid", -1, "setsid"),
    ("fchdir", -1, "chroot"),
    ("chroot", -1, "chroot"),
    ("umask", -1, "umask"),
    ("mount", -1, "namespaces"),  # MS_PRIVATE
    ("unshare", -1, "namespaces"),
    ("write", -1, "namespaces"),  # timens_offsets
    ("prlimit64", -1, "rlimits"),
    ("prctl", 28, "securebits"),  # PR_SET_SECUREBITS
    ("prctl", 8, "securebits"),  # PR_SET_KEEPCAPS
    ("prctl", 24, "bounding"),  # PR_CAPBSET_DROP
    ("keyctl", 1, "keyring"),  # KEYCTL_JOIN_SESSION_KEYRING
    ("setgroups", -1, "groups"),
    ("setresgid", -1, "gid"),
    ("setresuid", -1, "uid"),
    ("capset", -1, "capabilities"),
    ("prctl", 47, "ambient"),  # PR_CAP_AMBIENT
    ("prctl", 1, "pdeathsig"),  # PR_SET_PDEATHSIG
    ("prctl", 38, "no_new_privs"),  # PR_SET_NO_NEW_PRIVS
    ("landlock_restrict_self", -1, "landlock"),
    ("seccomp", -1, "seccomp"),
]


# What the launcher is for, beside shared memory.
NOT_SHARED = ("chroot", "namespaces", "landlock", "seccomp")
NOT_SHARED_OPTIONS = ("root", "cwd", "namespaces", "time_offsets", "landlock", "seccomp", "oom_score_adj", "securebits")


def everything(folder: str) -> dict[str, Any]:
    """Options that make a child pass all identity calls."""
    return {
        "user": 1000,
        "group": 1000,
        "groups": [4],
        "capabilities": ["net_raw"],
        "bounding": ["net_raw", "kill"],
        "securebits": ["noroot", "no_cap_ambient_raise", "no_cap_ambient_raise_locked"],
        "umask": 0o27,
        "rlimits": {"CORE": 0},
        "pdeathsig": "KILL",
        "root": folder,
        "cwd": "/in",
        "namespaces": ["time", "uts", "mount"],
        "time_offsets": {"monotonic": 5, "boottime": -1.25},
        "landlock": {folder + "/probe": "rx", folder + "/proc": "r", folder + "/in": "r"},
        "seccomp": filter_refusing(NR["chroot"]),
        "fds": {7: 2},
        "nice": -5,
        "oom_score_adj": 7,
    }


def calls_of(way: str) -> list[tuple[str, int, str]]:
    """The calls of all steps, or of those that are done in shared memory."""
    return [call for call in CALLS if way != "clone3_vm" or (call[2] not in NOT_SHARED and call[1] != 28)]


def untrue(folder: str, probe: str, way: str) -> dict[str, Any]:
    import fastproc
    from fastproc import _native
    from fastproc._native._ffi import lib

    make_root(folder, probe)
    os.mkdir(folder + "/in")
    _native.force(way)
    options, program = everything(folder), "/probe"
    if way == "clone3_vm":
        program = probe
        for name in NOT_SHARED_OPTIONS:
            del options[name]
    healthy = fastproc.run(program, capture=True, **options)
    wrong, count = [], 0
    for name, first, stage in calls_of(way):
        for error in (errno.EPERM, errno.EAGAIN, 0):
            lib.fp_fault_call(NR[name], first, error)
            try:
                got: Any = fastproc.run(program, capture=True, **options).stdout.decode()[:40]
            except fastproc.SpawnError as caught:
                got = [caught.errno, caught.stage]
            finally:
                lib.fp_fault_set(0, 0, 0)
            count += 1
            # umask(2) cannot fail; what it gives is the old one.
            expected = [error if error and name != "umask" else errno.EPROTO, stage]
            if name == "capset" and way == "launcher" and error != errno.EPERM:
                expected[1] = "launcher"  # what is handed on to it, before
            if got != expected:
                wrong.append([name, first, error, got, expected])
    return {"count": count, "wrong": wrong, "mechanism": healthy.mechanism}


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_calls_that_fail_or_lie_are_refused(probe_path: str, public: Path, way: str) -> None:
    """Each identity call gives an error, or 0 without having acted: N of N refused before exec, with the stage."""
    found = isolated(untrue, str(public / "root"), probe_path, way, faults=True, pid_namespace=True)
    print(f"{way}: {found['count'] - len(found['wrong'])} of {found['count']}")
    assert found == {"count": 3 * len(calls_of(way)), "wrong": [], "mechanism": way}


# Who is asked for; a call of the child, which of them, and whether it is made (-1) or not (0); the call that is made
# besides; the stage whose look finds that. VERIFY_IRREVOCABLE's first call comes after all other looks: the state
# changes behind it.
NOBODY_IS: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": [4]}
SETRESUID, SETRESGID, SETGROUPS = NR["setresuid"], NR["setresgid"], NR["setgroups"]
SETFSUID, SETFSGID = (122, 123) if "x86" in os.uname().machine else (151, 152)
RAW, SETPCAP, UIDS, GIDS = (1 << number for number in (13, 8, 7, 6))
WITH_RAW, WITH_UIDS, WITH_GIDS = ({**NOBODY_IS, "capabilities": [name]} for name in ("net_raw", "setuid", "setgid"))
DEVIATIONS: dict[str, tuple[dict[str, Any], tuple[int, int, int], tuple[int, int, int, int], str]] = {
    # The call is not made, another is.
    "real uid stays": (NOBODY_IS, (SETRESUID, 1, 0), (SETRESUID, 0, NOBODY, NOBODY), "uid"),
    "effective uid stays": (NOBODY_IS, (SETRESUID, 1, 0), (SETRESUID, NOBODY, 0, NOBODY), "uid"),
    "saved uid stays": (NOBODY_IS, (SETRESUID, 1, 0), (SETRESUID, NOBODY, NOBODY, 0), "uid"),
    "real gid stays": (NOBODY_IS, (SETRESGID, 1, 0), (SETRESGID, 0, NOBODY, NOBODY), "gid"),
    "effective gid stays": (NOBODY_IS, (SETRESGID, 1, 0), (SETRESGID, NOBODY, 0, NOBODY), "gid"),
    "saved gid stays": (NOBODY_IS, (SETRESGID, 1, 0), (SETRESGID, NOBODY, NOBODY, 0), "gid"),
    "another group": (NOBODY_IS, (SETGROUPS, 1, 0), (SETGROUPS, 5, 0, 0), "groups"),
    "regained uid 0": (NOBODY_IS, (SETRESUID, 2, 0), (0, 0, 0, 0), "verify_irrevocable"),
    "regained gid 0": (NOBODY_IS, (SETRESGID, 2, 0), (0, 0, 0, 0), "verify_irrevocable"),
    # It is made, and another behind it.
    "fsuid": ({"user": 0, "group": 0, "groups": []}, (SETRESUID, 1, -1), (SETFSUID, 5, 0, 0), "uid"),
    "fsgid": (NOBODY_IS, (SETRESGID, 1, -1), (SETFSGID, 5, 0, 0), "gid"),
    "no group more": ({**NOBODY_IS, "groups": []}, (SETGROUPS, 1, -1), (SETGROUPS, 5, 0, 0), "groups"),
    "effective": (WITH_RAW, (NR["capset"], 1, -1), (NR["capset"], 0, RAW, RAW), "capabilities"),
    "permitted": (WITH_RAW, (NR["capset"], 1, -1), (NR["capset"], 0, 0, RAW), "capabilities"),
    "inheritable": (WITH_RAW, (NR["capset"], 1, -1), (NR["capset"], RAW, RAW, 0), "capabilities"),
    "ambient is less": (WITH_RAW, (NR["prctl"], 1, -1), (NR["prctl"], 47, 3, 13), "ambient"),
    "effective, late": (WITH_RAW, (SETRESUID, 2, -1), (NR["capset"], 0, RAW, RAW), "verify_irrevocable"),
    "permitted, late": (WITH_RAW, (SETRESUID, 2, -1), (NR["capset"], 0, 0, RAW), "verify_irrevocable"),
    "inheritable, late": (WITH_RAW, (SETRESUID, 2, -1), (NR["capset"], RAW, RAW, 0), "verify_irrevocable"),
    "ambient, late": (WITH_RAW, (SETRESUID, 2, -1), (NR["prctl"], 47, 3, 13), "verify_irrevocable"),
    "real uid, late": (WITH_UIDS, (SETRESGID, 2, -1), (SETRESUID, 5, -1, -1), "verify_irrevocable"),
    "effective uid, late": (WITH_UIDS, (SETRESGID, 2, -1), (SETRESUID, -1, 5, -1), "verify_irrevocable"),
    "saved uid, late": (WITH_UIDS, (SETRESGID, 2, -1), (SETRESUID, -1, -1, 5), "verify_irrevocable"),
    "real gid, late": (WITH_GIDS, (SETRESUID, 2, -1), (SETRESGID, 5, -1, -1), "verify_irrevocable"),
    "effective gid, late": (WITH_GIDS, (SETRESUID, 2, -1), (SETRESGID, -1, 5, -1), "verify_irrevocable"),
    "saved gid, late": (WITH_GIDS, (SETRESUID, 2, -1), (SETRESGID, -1, -1, 5), "verify_irrevocable"),
    "groups, late": (WITH_GIDS, (SETRESUID, 2, -1), (SETGROUPS, 5, 0, 0), "verify_irrevocable"),
    "securebits, late": (
        {**NOBODY_IS, "capabilities": ["setpcap"], "securebits": ["noroot"]},
        (SETRESUID, 2, -1),
        (NR["prctl"], 28, 0, 0),
        "verify_irrevocable",
    ),
}


def deviations_of(way: str) -> dict[str, Any]:
    """Before the launcher capset(2) is called once more, and a run that fails there is made again."""
    return {name: row for name, row in DEVIATIONS.items() if way != "launcher" or row[1][0] != NR["capset"]}


def deviating(way: str) -> dict[str, Any]:
    import fastproc
    from fastproc import _native
    from fastproc._native._ffi import lib

    _native.force(way)
    found = {}
    for name, (options, (call, hit, how), also, _) in deviations_of(way).items():
        healthy = fastproc.run("true", **options)
        first = 47 if call == NR["prctl"] else -1
        lib.fp_fault_call(call, first, 0 if how == 0 else lib.FP_FAULT_ALSO)
        lib.fp_fault_also(2 if "ambient is" in name else hit, *also)
        try:
            got: Any = ["ran", fastproc.run("true", **options).returncode]
        except fastproc.SpawnError as error:
            got = [error.errno, error.stage]
        finally:
            lib.fp_fault_set(0, 0, 0)
        found[name] = [healthy.returncode, got]
    return found


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_each_deviation_is_found_by_its_own_look(way: str) -> None:
    """One id, set or group is another than was asked for, at the call that should have set it, or later."""
    found = isolated(deviating, way, faults=True, pid_namespace=True)
    assert found == {name: [0, [errno.EPROTO, row[3]]] for name, row in deviations_of(way).items()}


def false_proc() -> None:
    """A /proc that takes every offset, and has other clocks for the children, it says."""
    subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
    os.makedirs("/proc/self/ns")
    for name in ("timens_offsets", "ns/time", "ns/time_for_children"):
        Path("/proc/self", name).touch()


def cunning_mount() -> None:
    """It lies where there is a target."""
    lines = [(0x20, 0, 0, 0), (0x15, 0, 3, NR["mount"]), (0x20, 0, 0, 24), (0x15, 1, 0, 0)]
    restrict([*lines, (0x06, 0, 0, 0x00050000), (0x06, 0, 0, 0x7FFF0000)])


SPACE = {"namespaces": ["mount"]}
# Who lies how, and what is asked of the child: each with nothing that tells the difference but a look of its own.
HIDDEN: dict[str, tuple[Any, dict[str, Any], str]] = {
    "seccomp": (lambda: spoil(NR["seccomp"], None, 0), {"seccomp": filter_refusing(NR["chroot"])}, "seccomp"),
    "landlock": (lambda: spoil(NR["landlock_restrict_self"], None, 0), {"landlock": {"/": "rx"}}, "landlock"),
    "mount": (lambda: spoil(NR["mount"], None, 0), SPACE, "namespaces"),
    "mount, cunning": (cunning_mount, SPACE, "namespaces"),
    "proc": (false_proc, {"namespaces": ["time"], "time_offsets": {"boottime": 1000}}, "namespaces"),
}


def hidden_lies(way: str) -> list[Any]:
    """A filter in this process lies, so every child has one already; and the rule lets the root be read."""
    import fastproc
    from fastproc import _native

    _native.force(way)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)

    def work(lie: Any, options: dict[str, Any]) -> list[Any]:
        if lie:
            lie()
        try:
            return ["ran", fastproc.run("/bin/true", **options).mechanism]
        except fastproc.SpawnError as error:
            return [error.errno, error.stage]

    found = []
    for lie, options, _ in HIDDEN.values():
        healthy, told = (forked(partial(work, act, options), lambda _: None)[0] for act in (None, lie))
        found.append([healthy, told])
    return found


@pytest.mark.parametrize("way", ["launcher", "fork_pipe"])
def test_lies_that_the_state_hides_are_refused(way: str) -> None:
    """In the release build: what a call should have done holds already, or cannot be asked for."""
    found = dict(zip(HIDDEN, isolated(hidden_lies, way, pid_namespace=True), strict=True))
    errors = dict.fromkeys(HIDDEN, errno.EPROTO) | {"proc": errno.EXDEV}
    wanted = {name: [["ran", way], [errors[name], HIDDEN[name][2]]] for name in HIDDEN}
    print(f"{way}: {sum(found[name] == wanted[name] for name in HIDDEN)} of {len(HIDDEN)}")
    assert found == wanted


def test_lies_of_a_tracer_are_refused(probe_path: str, public: Path) -> None:
    """The same by strace, in the release build."""
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    code = f"import fastproc; fastproc.run({probe_path!r}, user=65534, group=65534, groups=[4], capabilities=[])"
    for call in ("setgroups", "setresgid", "setresuid"):
        command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:retval=0"]
        wrapped = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *command]
        done = subprocess.run([*wrapped, sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert "SpawnOSError" in done.stderr or "SpawnError" in done.stderr
        stage = {"setgroups": "groups", "setresgid": "gid", "setresuid": "uid"}[call]
        assert f"stage {stage}" in done.stderr


# -- wrong orders

# A step, moved before or after (True) another.
MUTANTS: list[tuple[str, str, bool]] = [
    ("GROUPS", "UID", True),
    ("GID", "UID", True),
    ("BOUNDING", "UID", True),
    ("SECUREBITS", "UID", True),
    ("CAPABILITIES", "UID", False),
    ("AMBIENT", "UID", False),
    ("AMBIENT", "CAPABILITIES", False),
    ("LOCKS", "AMBIENT", False),
    ("VERIFY_IRREVOCABLE", "UID", False),
    ("PDEATHSIG", "UID", False),
    ("NO_NEW_PRIVS", "SECCOMP", True),
    ("LANDLOCK", "NO_NEW_PRIVS", False),
    ("SECCOMP", "UID", False),
    ("CWD", "CHROOT", False),
    ("CHROOT", "CLOSE_FDS", True),
    ("CHROOT", "UID", True),
    ("FDS", "CLOSE_FDS", True),
    ("NICE", "UID", True),
    ("OOM_SCORE_ADJ", "UID", True),
]


def picture(options: dict[str, Any]) -> Any:
    import json

    import fastproc

    try:
        fields = json.loads(fastproc.run("/probe", capture=True, **options).stdout)
    except fastproc.SpawnError as error:
        return [error.errno, error.stage]
    except fastproc.ExitError as error:
        return [error.returncode, "program"]
    fields["sid"] = fields["sid"] == fields["pid"]
    for name in ("pid", "pgid", "ns", "fds", "env"):
        fields.pop(name)
    return fields


def mutated(folder: str, probe: str) -> dict[str, Any]:
    from fastproc import _native
    from fastproc._native._ffi import lib

    make_root(folder, probe)
    os.mkdir(folder + "/in")
    options = everything(folder)
    # In the right order this filter is in nobody's way.
    options["seccomp"] = filter_refusing(NR["setresuid"])
    found = {}
    healthy = {}
    for way in ("launcher", "fork_pipe"):
        _native.force(way)
        healthy[way] = picture(options)
        again = picture(options)
        assert again == healthy[way], [again, healthy[way]]
    for step, other, after in MUTANTS:
        outcomes = []
        for way in ("launcher", "fork_pipe"):
            _native.force(way)
            lib.fp_fault_order(getattr(lib, f"FP_STAGE_{step}"), getattr(lib, f"FP_STAGE_{other}"), after)
            got = picture(options)
            lib.fp_fault_set(0, 0, 0)
            outcomes.append("alive" if got == healthy[way] else got if isinstance(got, list) else "another picture")
        found[f"{step} {'after' if after else 'before'} {other}"] = outcomes
    assert isinstance(healthy["launcher"], dict)
    return {"found": found, "same": healthy["launcher"] == healthy["fork_pipe"]}


def test_wrong_orders_are_noticed(probe_path: str, public: Path) -> None:
    """Each wrong order of the table is refused in the child, or makes another program of it than the right one."""
    result = isolated(mutated, str(public / "root"), probe_path, faults=True, pid_namespace=True, timeout=120)
    found = result["found"]
    for name, outcomes in found.items():
        print(name, outcomes)
    alive = [name for name, outcomes in found.items() if outcomes == ["alive", "alive"]]
    assert alive == []
    assert len(found) >= 13
    assert result["same"]


# -- memory, signals, terminals


def flags_after(way: str) -> list[Any]:
    """GOTCHAS G20, repro/dump.c: what a child does to the parent's dumpable flag."""
    import fastproc
    from fastproc import _native
    from fastproc._native import credentials

    _native.force(way)
    found = [credentials.held().dumpable]
    for _ in range(3):
        fastproc.run("true", user=NOBODY, group=NOBODY, groups=[], capabilities=[])
        found.append(credentials.held().dumpable)
    credentials.set_dumpable(False)
    fastproc.run("true", user=NOBODY, group=NOBODY, groups=[])
    return [*found, credentials.held().dumpable]


@pytest.mark.parametrize("way", ["launcher", "fork_pipe", "clone3_vm", "clone_vm", "clone"])
def test_dumpable_flag_of_the_parent_stays(way: str) -> None:
    assert isolated(flags_after, way, pid_namespace=True) == [1, 1, 1, 1, 0]


SPY = """
import os, signal, sys, time
me, opened, stopped = os.getpid(), 0, 0
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
print("ready", flush=True)
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in (1, me):
            continue
        try:
            os.kill(int(name), signal.SIGSTOP)
            stopped += 1
        except OSError:
            pass
        try:
            os.close(os.open(f"/proc/{name}/mem", os.O_RDONLY))
            opened += 1
        except OSError:
            pass
print(opened, stopped, flush=True)
"""


def spied(program: str, way: str, threads: int, seconds: float, bound: float) -> dict[str, Any]:
    """Spawns from many threads while somebody with the target uid opens memory and stops what he may signal."""
    import threading
    import time

    import fastproc
    from fastproc import _native
    from fastproc._native import credentials

    assert os.getpid() != 1
    _native.force(way)
    before = credentials.held().dumpable
    spy = subprocess.Popen([sys.executable, "-c", SPY, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert spy.stdout is not None
    assert spy.stdout.readline() == "ready\n"
    until = time.monotonic() + seconds
    longest, count, failed, shared, late = [0.0] * threads, [0] * threads, [], [], []
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": [], "capabilities": []}

    def work(number: int) -> None:
        while time.monotonic() < until:
            begin = time.monotonic()
            try:
                if way == "clone3_vm":
                    shared.append(fastproc.run(program, timeout=0.2, grace=0.0, **options).mechanism)
                    continue
                # Nobody may read the program, so it is not dumpable after the exec either: every open is a hole.
                child = fastproc.start(program, **options)
            except fastproc.SpawnError as error:
                failed.append([error.errno, error.stage])
            except (fastproc.TimeoutExpired, fastproc.ExitError):
                late.append(number)  # stopped, or continued after the deadline's signal
            else:
                child.kill()
                child.wait()
            finally:
                longest[number] = max(longest[number], time.monotonic() - begin)
                count[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + bound)
    alive = sum(worker.is_alive() for worker in workers)
    told = spy.communicate(timeout=60)[0].split()
    return {
        "spawns": sum(count),
        "hung": alive,
        "longest": max(longest),
        "failed": failed,
        "late": len(late),
        "other ways": sorted(set(shared) - {way}),
        "opened": int(told[0]),
        "stopped": int(told[1]),
        "same dumpable": credentials.held().dumpable == before,
    }


@pytest.fixture
def unreadable(programs: Programs, public: Path) -> str:
    """A program that everybody may execute and nobody read."""
    target = public / "secret"
    shutil.copy(programs.static_exit, target)
    target.chmod(0o711)
    return str(target)


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_target_user_neither_reads_nor_holds_the_parent(unreadable: str, way: str) -> None:
    """GOTCHAS G18, G20, repro/steal.c: from 16 threads, for two seconds; the soak has a minute."""
    found = isolated(spied, unreadable, way, 16, 2.0, 30.0, pid_namespace=True, timeout=120)
    print(way, found)
    assert (found["opened"], found["hung"], found["same dumpable"]) == (0, 0, True)
    assert (found["failed"], found["other ways"]) == ([], [])
    assert found["spawns"] > 0
    assert found["longest"] < 20


def typed(program: str, options: dict[str, Any]) -> list[str]:
    import fcntl
    import termios

    import fastproc

    os.setsid()
    _, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    return fastproc.run(program, stdin=theirs, capture=True, **options).stdout.decode().split()


NO_ONE: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": []}


@pytest.mark.parametrize(
    "options",
    [
        NO_ONE,
        {"capabilities": []},
        {"capabilities": [], "landlock": {"/": "rwx"}},
        {"capabilities": [], "group": NOBODY, "groups": []},
        {"capabilities": [], "namespaces": ["user"]},
        {"capabilities": [], "root": "/"},
        {"bounding": ["kill"]},
    ],
    ids=lambda options: "+".join(options),
)
def test_child_cannot_type_for_us(programs: Programs, public: Path, options: dict[str, Any]) -> None:
    """GOTCHAS H1. Without a session of its own it can, where this kernel lets anybody: so the test can see it."""
    program = shutil.copy(programs.types, public / "types")
    found = isolated(typed, str(program), options, pid_namespace=True)
    assert found == [str(errno.EPERM), str(errno.ENXIO)]
    legacy = Path("/proc/sys/dev/tty/legacy_tiocsti")
    if not legacy.exists() or legacy.read_text().strip() == "1":
        for more in ({}, {"pgid": 0}, {"foreground": True}):
            said = {**options, "setsid": False, **more}
            assert isolated(typed, str(program), said, pid_namespace=True) == ["typed"] * 2, more


def keys_of(way: str) -> list[bool]:
    """Whether a program sees a key in our session keyring; ours, another user's, and another's without keyctl(2)."""
    import ctypes

    import fastproc
    from fastproc import _native

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    assert libc.syscall(NR["keyctl"], 1, None) > 0
    add_key = 248 if "x86" in os.uname().machine else 217
    assert libc.syscall(add_key, b"user", b"fastproc-secret", b"secret", 6, -3) > 0
    _native.force(way)
    found = [
        b"fastproc-secret" in fastproc.run("cat", "/proc/keys", capture=True, **options).stdout
        for options in ({"capabilities": []}, NO_ONE)
    ]
    spoil(NR["keyctl"], None, errno.EPERM)
    fastproc.run("true", **NO_ONE)
    return found


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_another_user_gets_no_key_of_ours(way: str) -> None:
    """GOTCHAS G22: the session keyring is a new one; where a filter refuses keyctl(2) nothing can be read anyway."""
    if not Path("/proc/keys").exists():
        pytest.skip("this kernel has no keys")
    assert isolated(keys_of, way, pid_namespace=True) == [True, False]


def owner_of_keyring(way: str) -> list[str]:
    import fastproc
    from fastproc import _native

    _native.force(way)
    lines = fastproc.run("cat", "/proc/keys", capture=True, **NO_ONE).text().splitlines()
    return [fields[5] for fields in map(str.split, lines) if fields[8] == "_ses:"]


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_new_keyring_counts_against_the_quota_of_the_parent(way: str) -> None:
    """It is made before the user changes: another user's quota may be used up (keyrings(7))."""
    if not Path("/proc/keys").exists():
        pytest.skip("this kernel has no keys")
    assert isolated(owner_of_keyring, way, pid_namespace=True) == ["0"]


def set_uid_program(folder: str) -> list[Any]:
    import fastproc

    shutil.copy("/usr/bin/id", folder + "/id")
    os.chmod(folder + "/id", 0o4755)
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": [], "capture": True}
    return [
        fastproc.run(folder + "/id", "-u", **options).stdout.decode(),
        fastproc.run(folder + "/id", "-u", **options, no_new_privs=False).stdout.decode(),
    ]


def test_no_new_privs_is_on_unless_switched_off(public: Path) -> None:
    """GOTCHAS G17: a copy of id with the set-user-ID bit."""
    assert isolated(set_uid_program, str(public), pid_namespace=True) == [f"{NOBODY}\n", "0\n"]


def roots(folder: str, probe: str) -> list[Any]:
    import json

    import fastproc

    make_root(folder, probe)
    os.makedirs(folder + "/in/deep")
    os.symlink("/in", folder + "/absolute")
    os.symlink("../../../../../../in", folder + "/in/up")
    found = [
        json.loads(fastproc.run("/probe", root=folder, cwd=cwd, capture=True).stdout)["cwd"]
        for cwd in ("/", "in/deep", "/absolute/deep", "/in/up", "../../in")
    ]
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    found.append(json.loads(fastproc.run("/probe", root=descriptor, capture=True).stdout)["cwd"])
    os.close(descriptor)
    for options in ({"root": folder + "/none"}, {"root": folder, "cwd": "/none"}, {"root": folder + "/probe"}):
        try:
            fastproc.run("/probe", **options)
        except fastproc.SpawnError as error:
            found.append([error.errno, error.stage])
    try:
        fastproc.run("none", root=folder)
    except FileNotFoundError as error:
        found.append("below the root" in str(error))
    return found


def test_directory_is_found_below_the_root(probe_path: str, public: Path) -> None:
    """GOTCHAS G25: links lead nowhere else, and what is missing is said before there is a child."""
    assert isolated(roots, str(public / "root"), probe_path, pid_namespace=True) == [
        *("/", "/in/deep", "/in/deep", "/in", "/in", "/"),
        [errno.ENOENT, "chroot"],
        [errno.ENOENT, "cwd"],
        [errno.ENOTDIR, "chroot"],
        True,
    ]


# -- the launcher


def without_launcher(how: str, folder: str) -> list[Any]:
    import fastproc
    from fastproc import _native
    from fastproc._native._ffi import lib

    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": [], "capture": True}
    _native.force("launcher")
    if how == "missing":
        lib.fp_launcher_set(folder.encode() + b"/none")
    elif how == "no program":
        Path(folder, "text").write_text("no program")
        lib.fp_launcher_set(folder.encode() + b"/text")
    elif how == "no exec":
        Path(folder, "text").write_text("no program")
        Path(folder, "text").chmod(0o755)
        lib.fp_launcher_set(folder.encode() + b"/text")
    elif how == "closed":
        fastproc.run("true", **options)
        # Somebody closes all numbers, and opens another program there.
        numbers = [number for number, what in observe.fds().items() if "/launcher " in what]
        assert len(numbers) == 1
        copy = os.open("/bin/false", os.O_RDONLY)
        os.dup2(copy, numbers[0])
        os.close(copy)
    result = fastproc.run("id", "-u", **options)
    child = fastproc.start("true", user=NOBODY, group=NOBODY, groups=[])
    return [
        result.stdout.decode().strip(),
        result.mechanism,
        list(result.mechanism_refused),
        child.mechanism,
        child.wait(),
    ]


@pytest.mark.parametrize(
    ("how", "mechanism"),
    [("missing", "fork_pipe"), ("no program", "fork_pipe"), ("no exec", "fork_pipe"), ("closed", "launcher")],
)
def test_child_without_the_launcher(public: Path, how: str, mechanism: str) -> None:
    """It is forked then; and a descriptor that is not the launcher's any more is never executed."""
    refused = ["launcher"] if mechanism == "fork_pipe" else []
    found = isolated(without_launcher, how, str(public), pid_namespace=True)
    assert found == [str(NOBODY), mechanism, refused, mechanism, 0]


def distrusted(how: str, folder: str) -> list[Any]:
    """The launcher's file is not what it was at loading, or not only ours."""
    import json

    import fastproc
    from fastproc import _native
    from fastproc._native import _ffi

    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": []}
    place = Path(os.path.dirname(_ffi.__file__), "launcher")
    program = shutil.copy(folder + "/probe", folder + "/program")
    _native.force("fork_pipe")
    fastproc.run(program, **options, capture=True)  # loads what is needed, and does not open it
    _native.force("launcher")
    if how == "another root":
        subprocess.run(["mount", "--mkdir", "-t", "proc", "proc", folder + "/proc"], check=True)
        os.makedirs(folder + str(place.parent))
        shutil.copy(place, folder + str(place))
        os.chroot(folder)
        os.chdir("/")
        program = "/program"
    else:
        copy = shutil.copy(place, folder + "/launcher")
        _ffi.lib.fp_launcher_set(copy.encode())
        if how == "replaced":
            shutil.copy(place, folder + "/new")
            os.rename(folder + "/new", copy)
        elif how == "changed later":
            assert fastproc.run(program, **options, capture=True).mechanism == "launcher"
            os.chmod(copy, 0o777)
        elif how in ("group", "others"):
            os.chmod(copy, 0o775 if how == "group" else 0o757)
        elif how == "owner":
            os.chown(copy, NOBODY, 0)
    result = fastproc.run(program, **options, capture=True)
    return [result.mechanism, result.mechanism_refused, json.loads(result.stdout)["Uid"].split()]


OTHER = "the program is not the file that lay there when fastproc was loaded"
SHARED = "the program is not a file that only root or this user can write to"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("ours", None),
        ("replaced", OTHER),
        ("another root", OTHER),
        ("changed later", SHARED),
        ("group", SHARED),
        ("others", SHARED),
        ("owner", SHARED),
    ],
)
def test_launcher_of_somebody_else_is_not_executed(public: Path, probe_path: str, how: str, reason: str | None) -> None:
    """It would run with all that the caller may do."""
    assert Path(probe_path).parent == public
    found = isolated(distrusted, how, str(public), pid_namespace=True)
    assert found == ["fork_pipe" if reason else "launcher", {"launcher": reason} if reason else {}, [str(NOBODY)] * 4]


def copied_while_opening(folder: str) -> list[Any]:
    """The launcher's place is a FIFO, on which an open() waits, and this process is forked meanwhile."""
    import threading

    import fastproc
    from fastproc import _native
    from fastproc._native._ffi import lib

    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": [], "timeout": 5}
    os.mkfifo(folder + "/launcher")
    _native.force("launcher")
    lib.fp_launcher_set(folder.encode() + b"/launcher")
    worker = threading.Thread(target=lambda: fastproc.run("true", **options), daemon=True)
    worker.start()
    worker.join(1)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(0 if fastproc.run("true", **options).mechanism == "fork_pipe" else 1)
    status = os.waitpid(pid, 0)[1]
    return [status, worker.is_alive()]


def test_forked_copy_does_not_wait_for_who_opens_the_launcher(public: Path) -> None:
    assert isolated(copied_while_opening, str(public), pid_namespace=True) == [0, False]


def first_use(threads: int) -> list[int]:
    """Threads that need the launcher at once open it once."""
    import threading

    import fastproc
    from fastproc import _native

    _native.force("launcher")
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": []}
    start, mechanisms = threading.Barrier(threads), []

    def work() -> None:
        start.wait()
        mechanisms.append(fastproc.run("true", **options).mechanism)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    opened = [number for number, what in observe.fds().items() if "/launcher " in what]
    return [len(opened), mechanisms.count("launcher")]


def test_threads_open_the_launcher_once() -> None:
    for _ in range(5):
        assert isolated(first_use, 16, pid_namespace=True) == [1, 16]


def launcher_arguments(probe: str, groups: int) -> tuple[list[bytes], int]:
    """What the launcher is given, as the probe in its place tells it, and the number of its report pipe."""
    import json

    import fastproc
    from fastproc import _native
    from fastproc._native import _ffi

    _native.force("launcher")
    _ffi.lib.fp_launcher_set(probe.encode())
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": list(range(100_000, 100_000 + groups))}
    with open(os.memfd_create("told"), "rb") as told:
        with pytest.raises(fastproc.SpawnError):
            fastproc.run("/bin/sh", "-c", "exit 7", env={"PROBE_FD": "9"}, fds={9: told.fileno()}, **options)
        told.seek(0)
        arguments = [item.encode("latin-1") for item in json.loads(told.readline())["argv"]]
    place = os.path.join(os.path.dirname(_ffi.__file__), "launcher")
    _ffi.lib.fp_launcher_set(place.encode())
    number = arguments[0][24:32]
    return arguments, sum((number[2 * i] - 97) * 16 + number[2 * i + 1] - 97 << 8 * i for i in range(4))


def told_wrong(probe: str, groups: int) -> dict[str, Any]:
    """What the launcher's exit status is when what it is told is not whole."""
    from fastproc._native import _ffi

    arguments, report = launcher_arguments(probe, groups)
    chunks = len(arguments) - 4  # the path, and the program's three arguments
    first = arguments[0]

    def word(index: int, value: int) -> list[bytes]:
        raw = value.to_bytes(4, "little")
        text = b"".join(bytes([97 + (byte >> 4), 97 + (byte & 15)]) for byte in raw)
        return [first[: 8 * index] + text + first[8 * index + 8 :], *arguments[1:]]

    last = arguments[chunks - 1]
    told: dict[str, list[bytes]] = {
        "whole": arguments,
        "two arguments": arguments[:2],
        "one argument": arguments[:1],
        "short": [first[:40], *arguments[1:]],
        "another size": word(0, 8),
        "no chunk": word(1, 0),
        "more chunks": word(1, 500),
        "no path": word(2, 0),
        "more paths": word(2, 500),
        "a sum that wraps": word(1, 2**32 - 1),
        "a letter before a": [b"`" + first[1:], *arguments[1:]],
        "a letter behind p": [first[:1] + b"q" + first[2:], *arguments[1:]],
        "a letter in the last chunk": [*arguments[: chunks - 1], last[:-2] + b"za", *arguments[chunks:]],
        "a low letter": [*arguments[: chunks - 1], last[:-1] + b"z", *arguments[chunks:]],
        "half a byte": [*arguments[: chunks - 1], last[:-1], *arguments[chunks:]],
        "a byte less": [*arguments[: chunks - 1], last[:-2], *arguments[chunks:]],
        "a byte more": [*arguments[: chunks - 1], last + b"aa", *arguments[chunks:]],
    }
    if chunks == 3:
        # What the second falls short of, by the -1 of an error, the third makes up for.
        bad = b"z" + arguments[1][1:]
        told["a length made up for"] = [first, bad, last + b"aa" * (len(bad) // 2 + 1), *arguments[3:]]
    program = os.path.join(os.path.dirname(_ffi.__file__), "launcher")
    ends = os.pipe()
    found: dict[str, Any] = {"chunks": chunks}

    def run(argv: list[bytes], open_report: bool) -> int:
        pid = os.fork()
        if pid == 0:
            if open_report:
                os.dup2(ends[1], report)
            else:
                os.close(report)
            os.execve(program, argv, {})
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    os.dup2(ends[1], report)
    for name, argv in told.items():
        found[name] = run(argv, True)
    found["no report pipe"] = run(arguments, False)
    return found


@pytest.mark.parametrize(("groups", "chunks"), [(3, 1), (20_000, 3)])
def test_launcher_that_is_told_wrong_executes_nothing(probe_path: str, groups: int, chunks: int) -> None:
    """It ends with 126, as nobody could read a report."""
    found = isolated(told_wrong, probe_path, groups, pid_namespace=True)
    assert found.pop("chunks") == chunks
    assert found.pop("whole") == 7
    assert found == dict.fromkeys(found, 126)
    assert len(found) == 17 + (chunks == 3)


def open_numbers(way: str, probe: str) -> list[list[str]]:
    """The descriptors of a program: nothing of the launcher's, of a ruleset or of a gate stays."""
    import json

    import fastproc
    from fastproc import _native

    _native.force(way)
    fastproc.run("true")
    rows: list[dict[str, Any]] = [
        {"user": NOBODY, "group": NOBODY, "groups": []},
        {"capabilities": [], "landlock": {"/": "rx"}},
        {"capabilities": [], "namespaces": ["user"]},
        {"root": "/", "cwd": "/"},
    ]
    return [sorted(json.loads(fastproc.run(probe, capture=True, **row).stdout)["fds"]) for row in rows]


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_program_has_the_standard_streams_only(probe_path: str, way: str) -> None:
    assert isolated(open_numbers, way, probe_path, pid_namespace=True) == [["0", "1", "2"]] * 4


def lacking(way: str, what: str) -> list[Any]:
    """Root without some capabilities in its permitted set, which an execve would give back from the bounding set."""
    import fastproc
    from fastproc import _native, privileges

    _native.force(way)
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": [4]}
    if what == "bounding":
        options = {"bounding": ["chown"]}
    privileges.permitted.drop(*{"setuid": ("setuid", "setgid"), "bounding": ("setpcap",)}[what])
    try:
        return [fastproc.run("true", **options).returncode]
    except fastproc.SpawnError as error:
        return [error.errno, error.stage]


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
@pytest.mark.parametrize(("what", "stage"), [("setuid", "groups"), ("bounding", "bounding")])
def test_launcher_has_no_more_than_the_parent(way: str, what: str, stage: str) -> None:
    assert isolated(lacking, way, what, pid_namespace=True) == [errno.EPERM, stage]


def unbounded(way: str) -> list[Any]:
    """A bounding set is asked for that has more than this process has."""
    import fastproc
    from fastproc import _native, privileges

    _native.force(way)
    privileges.bounding.drop("kill")
    try:
        return [fastproc.run("true", bounding=["kill", "chown"], capabilities=["chown"]).returncode]
    except fastproc.SpawnError as error:
        return [error.errno, error.stage, "kill" in str(error)]


@pytest.mark.parametrize("way", ["launcher", "fork_pipe"])
def test_bounding_set_cannot_grow(way: str) -> None:
    assert isolated(unbounded, way, pid_namespace=True) == [errno.EPERM, "bounding", True]


def many_groups(way: str) -> list[int]:
    """A list that does not fit one argument of the launcher, nor the room on its stack."""
    import fastproc
    from fastproc import _native

    _native.force(way)
    groups = list(range(100_000, 100_000 + 40_000))
    result = fastproc.run("id", "-G", user=NOBODY, group=NOBODY, groups=groups, capture=True)
    return [len(result.stdout.split()), int(result.stdout.split()[-1])]


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_forty_thousand_groups(way: str) -> None:
    assert isolated(many_groups, way, pid_namespace=True) == [40_001, 139_999]


# -- every door


def doors() -> dict[str, Any]:
    """The uid that a program has by each way to start it."""
    import asyncio

    import fastproc
    from fastproc import aio

    nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": []}
    command = fastproc.cmd("id", "-u", **nobody)
    found: dict[str, Any] = {
        "run": fastproc.run("id", "-u", capture=True, **nobody).stdout,
        "command": command.run(capture=True).stdout,
        "input": fastproc.run(command, capture=True, input=b"x").stdout,
        "iterator": fastproc.run(command, capture=True, input=iter([b"x"])).stdout,
        "on_line": fastproc.run(command, capture=True, on_line=lambda *_: None).stdout,
        "kill_tree": fastproc.run(command, capture=True, kill_tree=True).stdout,
        "pty": fastproc.run(command, pty=True).stdout,
        "pipe, first": (command | fastproc.cmd("cat")).run(capture=True).stdout,
        "pipe, last": (fastproc.cmd("echo") | command).run(capture=True).stdout,
        "hook": command.before_spawn(lambda one: one).run(capture=True).stdout,
        "timeout": fastproc.run(command, capture=True, timeout=20).stdout,
    }
    with fastproc.start(command, stdout=fastproc.PIPE) as child:
        assert child.stdout is not None
        found["start"] = child.stdout.read()

    async def awaited() -> None:
        found["aio.run"] = (await aio.run(command, capture=True)).stdout
        found["aio.run, kill_tree"] = (await aio.run(command, capture=True, kill_tree=True)).stdout
        child = await aio.start(command, stdout=fastproc.PIPE)
        found["aio.start"] = b"".join([chunk async for chunk in child.chunks()])
        await child.wait()

    asyncio.run(awaited())
    for engine in ("bulk", "exchange"):
        sys.modules["fastproc._run"]._FORCED_ENGINE = engine  # type: ignore[attr-defined]
        found[engine] = fastproc.run(command, capture=True).stdout
    return {name: text.decode().strip() for name, text in found.items()}


def test_every_door_changes_the_user() -> None:
    found = isolated(doors, pid_namespace=True)
    assert found == dict.fromkeys(found, str(NOBODY))
    assert len(found) == 17


def interrupted() -> list[Any]:
    """Runs that are broken off in every stage of the launcher leave no descriptor and no child."""
    import signal
    import time

    import fastproc

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    signal.signal(signal.SIGALRM, stop)
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": [], "capabilities": []}
    fastproc.run("true", **options)
    before, broken = observe.fds(), 0
    for number in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.00005 + number * 0.00002)
            fastproc.run("sleep", "60", **options)
        except Stop:
            broken += 1
        except OSError:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    end = time.monotonic() + 5
    while observe.children() and time.monotonic() < end:
        fastproc.run("true", **options)
    for timeout in (0.0, 0.0001, 0.001, 0.01):
        try:
            fastproc.run("sleep", "60", timeout=timeout, **options)
        except fastproc.TimeoutExpired:
            broken += 1
    return [broken > 4, observe.fds() == before, sorted(observe.children())]


def test_interrupted_runs_leave_nothing() -> None:
    assert isolated(interrupted, pid_namespace=True) == [True, True, []]


def stopped(way: str) -> list[Any]:
    """Stop the child, as its new user could, between the change of ids and the exec."""
    import fastproc
    from fastproc import _native
    from fastproc._native._ffi import lib

    _native.force(way)
    found = []
    for stage in ("CAPABILITIES", "VERIFY_IRREVOCABLE", "NO_NEW_PRIVS", "SIGMASK", "EXEC"):
        lib.fp_fault_set(getattr(lib, f"FP_STAGE_{stage}"), -signal.SIGSTOP, 1)
        with fastproc.start("id", "-u", user=NOBODY, group=NOBODY, groups=[], stdout=fastproc.PIPE) as child:
            lib.fp_fault_set(0, 0, 0)
            assert child.stdout is not None
            found.append(child.stdout.read().decode().strip())
    lib.fp_fault_set(lib.FP_STAGE_VERIFY_IRREVOCABLE, -signal.SIGSTOP, 1)
    try:
        fastproc.run("id", "-u", user=NOBODY, group=NOBODY, groups=[], timeout=0.2)
    except fastproc.TimeoutExpired:
        found.append("in time")
    except fastproc.SpawnError as error:
        found.append(repr(error))
    else:
        found.append("ran")
    return [*found, sorted(observe.children())]


@pytest.mark.parametrize(("way", "run"), [("clone3_vm", "in time"), ("launcher", "in time"), ("fork_pipe", "ran")])
def test_child_that_is_stopped_holds_nobody(way: str, run: str) -> None:
    """start() sets it going again; a run() that does not wait for the exec has its timeout."""
    found = isolated(stopped, way, faults=True, pid_namespace=True)
    assert found == [*[str(NOBODY)] * 5, run, []]
