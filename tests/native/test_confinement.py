"""Namespaces, Landlock and seccomp of a child; and what a caller without privileges can and cannot do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from support.programs import Programs

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

NOBODY = 65534
WAYS = ["launcher", "fork_pipe"]
EXECUTABLE = {"/usr": "rx", "/bin": "rx", "/lib": "rx", "/lib64": "rx", "/etc": "r"}
NR_UMASK, NR_PRCTL = {"x86_64": (95, 157), "aarch64": (166, 167)}[os.uname().machine]


def answering(number: int, answer: int) -> bytes:
    """A compiled filter: one system call gets an answer of its own, all others pass (seccomp(2))."""
    program = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, answer), (0x06, 0, 0, 0x7FFF0000)]
    return b"".join(struct.pack("<HBBI", *item) for item in program)


@pytest.fixture
def public(programs: Programs) -> Any:
    """A folder that every user can enter, with the probe."""
    folder = Path(f"/tmp/fastproc-confinement-{os.getpid()}")
    folder.mkdir()
    folder.chmod(0o755)
    shutil.copy(programs.probe, folder / "probe")
    yield folder
    shutil.rmtree(folder)


def present(landlock: dict[str, str]) -> dict[str, str]:
    return {path: access for path, access in landlock.items() if os.path.exists(path)}


# -- namespaces


def spaces(way: str, probe: str) -> dict[str, Any]:
    import fastproc
    from fastproc import _native

    _native.force(way)
    all_of_them = ["cgroup", "ipc", "mount", "net", "pid", "time", "user", "uts"]

    def probed(**options: Any) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(fastproc.run(probe, capture=True, **options).stdout)
        return fields

    plain = probed()
    found = probed(namespaces=all_of_them)
    maps = {"uid_map": [(0, 100_000, 1000)], "gid_map": [(0, 200_000, 1000)]}
    inside = probed(namespaces=["user"], user=5, group=6, groups=[7, 8], **maps)
    with fastproc.start("sleep", "60", namespaces=["user", "pid"], user=5, group=6, groups=[7, 8], **maps) as child:
        status = Path(f"/proc/{child.pid}/status").read_text()
        child.kill()
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    uptime = fastproc.run("cat", "/proc/uptime", capture=True, namespaces=["time"], time_offsets={"boottime": 10**7})
    script = "mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/mounts"
    mounted = fastproc.run("sh", "-c", script, capture=True, namespaces=["mount"])
    return {
        "new": sorted(name for name, link in found["ns"].items() if link != plain["ns"][name]),
        "pid": found["pid"],
        "parent": found["ppid"],
        "uid": found["Uid"].split(),
        "inside": [inside["Uid"].split(), inside["Gid"].split(), inside["Groups"].split(), inside["CapPrm"]],
        "outside": [lines["Uid"].split(), lines["Gid"].split(), lines["Groups"].split()],
        "uptime": float(uptime.stdout.split()[0]) > 10**7,
        "mounted": mounted.stdout.decode().strip(),
        "still here": " /mnt " in Path("/proc/mounts").read_text(),
    }


@pytest.mark.parametrize("way", WAYS)
def test_namespaces(public: Path, way: str) -> None:
    assert isolated(spaces, way, str(public / "probe"), pid_namespace=True) == {
        "new": ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"],
        "pid": 1,
        "parent": 0,
        "uid": ["0"] * 4,
        "inside": [["5"] * 4, ["6"] * 4, ["7", "8"], "0" * 16],
        "outside": [["100005"] * 4, ["200006"] * 4, ["200007", "200008"]],
        "uptime": True,
        "mounted": "1",
        "still here": False,
    }


def failing_maps(way: str) -> list[Any]:
    import fastproc
    from fastproc import _native
    from fastproc._native._ffi import lib
    from support import observe

    _native.force(way)
    fastproc.run("true", namespaces=["user"])
    before = observe.fds()
    found: list[Any] = []
    lib.fp_fault_set(lib.FP_POINT_MAPS, errno.EPERM, 1)
    try:
        fastproc.run("true", namespaces=["user"])
    except fastproc.SpawnError as error:
        found.append([error.errno, error.stage, "cap_sys_admin" in str(error)])
    lib.fp_fault_set(0, 0, 0)
    try:
        # The kernel refuses the map itself: the ids outside are the same twice over in another extent's range.
        fastproc.run("true", namespaces=["user"], uid_map=[(0, 0, 1), (10, 2**32 - 2, 1)])
    except fastproc.SpawnError as error:
        found.append(error.stage)
    else:
        found.append("namespaces")
    return [*found, observe.fds() == before, sorted(observe.children())]


@pytest.mark.parametrize("way", WAYS)
def test_refused_maps_leave_nothing(way: str) -> None:
    found = isolated(failing_maps, way, faults=True, pid_namespace=True)
    assert found == [[errno.EPERM, "namespaces", True], "namespaces", True, []]


# -- Landlock, seccomp


def landlocked(way: str, folder: str) -> list[Any]:
    import fastproc
    from fastproc import _native

    _native.force(way)
    os.makedirs(folder + "/open")
    os.makedirs(folder + "/shut")
    Path(folder, "shut", "secret").write_text("secret")
    rules = {**present(EXECUTABLE), folder + "/open": "rw", "/dev": "rw"}

    def tried(script: str, rules: dict[str, str]) -> int:
        return fastproc.run("sh", "-c", script, landlock=rules, check=False, stderr=fastproc.DEVNULL).returncode

    found: list[Any] = [
        tried(f"echo x >{folder}/open/file && cat {folder}/open/file >/dev/null", rules),
        tried(f"cat {folder}/shut/secret", rules) != 0,
        tried(f"echo x >{folder}/shut/file", rules) != 0,
        tried("ls /", rules) != 0,
        # Everything may be read: what may not is seen by its effect alone.
        tried(f"cat {folder}/shut/secret >/dev/null", {"/": "rx", "/dev": "rw"}),
        tried(f"echo x >{folder}/shut/file", {"/": "rx", "/dev": "rw"}) != 0,
    ]
    try:
        fastproc.run("true", landlock={folder + "/none": "r"})
    except fastproc.SpawnError as error:
        found.append([error.errno, error.stage, error.filename == folder + "/none"])
    return found


@pytest.mark.parametrize("way", WAYS)
def test_landlock(public: Path, way: str) -> None:
    found = isolated(landlocked, way, str(public), pid_namespace=True)
    assert found == [0, True, True, True, 0, True, [errno.ENOENT, "landlock", True]]


SIZES = """
import os, sys
for path in sys.argv[1:]:
    try:
        os.truncate(path, 1)
    except PermissionError:
        print("refused")
    else:
        print("cut")
"""


def cut(folder: str) -> list[str]:
    """Which files truncate(2), which opens none, may cut: read only, written, and one named by itself."""
    import fastproc

    os.mkdir(folder + "/open")
    for name in ("shut", "open/file", "alone"):
        Path(folder, name).write_text("text")
    rules = {"/": "rx", folder + "/open": "w", folder + "/alone": "w"}
    paths = [f"{folder}/{name}" for name in ("shut", "open/file", "alone")]
    return fastproc.run(sys.executable, "-c", SIZES, *paths, landlock=rules, capture=True).text().split()


def test_landlock_knows_truncation(public: Path) -> None:
    """It is a right of its own since the third version (Linux 6.2)."""
    if landlock_version() < 3:
        pytest.skip("this kernel's Landlock does not know truncation")
    assert isolated(cut, str(public), pid_namespace=True) == ["refused", "cut", "cut"]


def landlock_version() -> int:
    import ctypes

    return int(ctypes.CDLL(None).syscall(444, None, 0, 1))


def both(way: str) -> int:
    """A filter that refuses landlock_restrict_self(2) comes after the ruleset."""
    import fastproc
    from fastproc import _native

    _native.force(way)
    return fastproc.run("true", landlock={"/": "rx"}, seccomp=answering(446, 0x00050000 | errno.EPERM)).returncode


@pytest.mark.parametrize("way", WAYS)
def test_filter_is_installed_after_the_ruleset(way: str) -> None:
    assert isolated(both, way, pid_namespace=True) == 0


def rooted(way: str, folder: str) -> list[Any]:
    import fastproc
    from fastproc import _native

    _native.force(way)
    root = folder + "/root"
    os.makedirs(root + "/bin")
    os.symlink(root, folder + "/link")
    shutil.copy(folder + "/probe", root + "/bin/probe")
    found: list[Any] = []
    for path in (root, folder, "/", folder + "/link", root + "/bin"):
        for place in (root, os.open(root, os.O_PATH)):
            try:
                done = fastproc.run("/bin/probe", root=place, landlock={path: "rx"}, capture=True, check=False)
                found.append(done.returncode)
            except fastproc.SpawnError as error:
                found.append([error.errno, error.stage])
    return found


@pytest.mark.parametrize("way", WAYS)
def test_landlock_of_the_root_itself(public: Path, way: str) -> None:
    """A rule about the new root, or what is above it, lets it be listed: that is no lie of the kernel's."""
    assert isolated(rooted, way, str(public), pid_namespace=True) == [0] * 10


def filtered(way: str, probe: str) -> list[Any]:
    import fastproc
    from fastproc import _native

    _native.force(way)
    done = fastproc.run(probe, capture=True, seccomp=answering(NR_UMASK, 0x00050000 | errno.EPERM))
    fields = json.loads(done.stdout)
    found: list[Any] = [fields["Seccomp"], fields["NoNewPrivs"]]
    try:
        # Kills at the next prctl(2), which is the one that looks whether the filter holds.
        fastproc.run(probe, seccomp=answering(NR_PRCTL, 0x80000000))
    except fastproc.SpawnError as error:
        found += [error.errno, error.stage, f"signal {int(signal.SIGSYS)}" in str(error)]
    try:
        fastproc.run(probe, seccomp=struct.pack("<HBBI", 0xFFFF, 0, 0, 0))
    except fastproc.SpawnError as error:
        found += [error.errno, error.stage]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_seccomp(public: Path, way: str) -> None:
    """GOTCHAS G27: a filter that kills before the exec is named as what it is."""
    found = isolated(filtered, way, str(public / "probe"), pid_namespace=True)
    assert found == ["2", "1", errno.ECANCELED, "seccomp", True, errno.EINVAL, "seccomp"]


# -- without privileges


def as_nobody(way: str, probe: str) -> dict[str, Any]:
    import fastproc
    from fastproc import _native
    from fastproc._native import credentials

    _native.force(way)
    own = {"user": NOBODY, "group": NOBODY, "groups": "keep"}
    # What is loaded once is loaded now: the interpreter may lie where nobody can read.
    fastproc.run("true", **own, landlock=present(EXECUTABLE))
    fastproc.run("true", namespaces=["user", "time"])
    try:
        fastproc.run("true", capabilities=["sys_resource"], bounding=["sys_resource"], cwd="/none")
    except OSError:
        pass
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    credentials.set_dumpable(True)  # else /proc/self is root's
    refused: dict[str, list[Any]] = {}
    for name, options in {
        "user": {"user": 0, "group": NOBODY, "groups": "keep"},
        "group": {"group": 0},
        "groups": {"groups": [4]},
        "root": {"root": "/"},
        "capabilities": {"capabilities": ["net_raw"]},
        "ambient": {"ambient": ["kill"]},
        "bounding": {"bounding": []},
        "securebits": {"securebits": ["noroot"]},
        "namespaces": {"namespaces": ["uts"]},
    }.items():
        try:
            fastproc.run("true", **options)
            refused[name] = ["started"]
        except PermissionError as error:
            words = str(error).replace(",", " ").replace("(", " ").split()
            refused[name] = [error.stage, *(word for word in words if word.startswith("cap_"))]  # type: ignore[attr-defined]
    fields = json.loads(fastproc.run(probe, capture=True, **own, capabilities=[]).stdout)
    spaces = ["cgroup", "ipc", "mount", "net", "pid", "time", "user", "uts"]
    inside = json.loads(fastproc.run(probe, capture=True, namespaces=spaces).stdout)
    locked = fastproc.run("ls", "/", landlock=present(EXECUTABLE), check=False, stderr=fastproc.DEVNULL)
    filtered = json.loads(fastproc.run(probe, capture=True, seccomp=answering(NR_UMASK, 0x7FFF0000)).stdout)
    return {
        "refused": refused,
        "own": [fields["Uid"].split(), fields["CapPrm"]],
        "inside": [inside["Uid"].split(), inside["Gid"].split(), inside["pid"]],
        "locked": locked.returncode != 0,
        "filtered": filtered["Seccomp"],
        "mechanism": locked.mechanism,
    }


@pytest.mark.parametrize("way", WAYS)
def test_without_privileges(public: Path, way: str) -> None:
    """What needs a privilege is a PermissionError that names it; a user namespace, Landlock and a filter need none."""
    found = isolated(as_nobody, way, str(public / "probe"), pid_namespace=True)
    assert found == {
        "refused": {
            "user": ["uid", "cap_setuid"],
            "group": ["gid", "cap_setgid"],
            "groups": ["groups", "cap_setgid"],
            "root": ["chroot", "cap_sys_chroot"],
            "capabilities": ["capabilities", "cap_net_raw"],
            "ambient": ["capabilities", "cap_kill"],
            "bounding": ["bounding", "cap_chown", "cap_setpcap"],
            "securebits": ["securebits", "cap_setpcap"],
            "namespaces": ["namespaces", "cap_sys_admin"],
        },
        "own": [[str(NOBODY)] * 4, "0" * 16],
        "inside": [["0"] * 4, ["0"] * 4, 1],
        "locked": True,
        "filtered": "2",
        "mechanism": way,
    }


# -- in a pipeline


def grouped_stages() -> list[list[str]]:
    import fastproc

    show = fastproc.cmd("sh", "-c", "cut -d' ' -f5,6 /proc/$$/stat; cat")
    nobody = show.options(user=NOBODY, group=NOBODY, groups=[])
    stages = show, show.options(landlock={"/": "rwx"}), nobody, nobody.options(setsid=False)
    pipeline = stages[0] | stages[1] | stages[2] | stages[3]
    lines = pipeline.run(capture=True, pgid=0, stdin=fastproc.DEVNULL).stdout.decode().splitlines()
    return [line.split() for line in reversed(lines)]


def test_stage_with_an_identity_has_a_session_in_a_grouped_pipeline() -> None:
    """GOTCHAS H1: unless setsid=False is said; then it is in the group."""
    first, locked, nobody, trusted = isolated(grouped_stages, pid_namespace=True)
    assert trusted == first
    assert locked[0] == locked[1] != first[0]
    assert nobody[0] == nobody[1] != locked[0]


# -- why not


def refusals(groups: bool) -> dict[str, Any]:
    """The errno and the words of what is refused to an ordinary user, in a process that says who it was."""
    import fastproc
    from fastproc import _native, privileges
    from fastproc._native import credentials

    found: dict[str, Any] = {}

    def tried(name: str, *command: str, **options: Any) -> None:
        try:
            done = fastproc.run(*(command or ("true",)), capture=True, **options)
            found[name] = done.stdout.decode().split()
        except fastproc.SpawnError as error:
            found[name] = [error.errno, error.stage, str(error)]

    if groups:
        maps = {"uid_map": [(0, 0, 1)], "gid_map": [(0, 1000, 1), (1, 500, 1), (7, 700, 1)]}
        for way in WAYS:
            _native.force(way)
            tried(way, "id", "-G", namespaces=["user"], group=0, groups=[0, 1, 7], **maps)
        return found
    privileges.drop_privileges(user=1000, group=1000, groups=[])
    tried("dumpable", namespaces=["user"])
    credentials.set_dumpable(True)
    tried("own", namespaces=["user"])
    tried("uid_map", namespaces=["user"], uid_map=[(0, 0, 1)])
    tried("gid_map", namespaces=["user"], gid_map=[(0, 1000, 1), (1, 5000, 1)])
    tried("plain", namespaces=["uts"])
    return found


def test_maps_that_are_refused_say_why() -> None:
    found = isolated(refusals, False, pid_namespace=True)
    assert found["own"] == []
    words = {
        "dumpable": (errno.EACCES, "this process is not dumpable"),
        "uid_map": (errno.EPERM, "uid_map: another id than this process's own, 1000, needs cap_setuid in the parent"),
        "gid_map": (errno.EPERM, "gid_map: another id than this process's own, 1000, needs cap_setgid in the parent"),
        "plain": (errno.EPERM, "this needs cap_sys_admin"),
    }
    for name, (number, text) in words.items():
        assert found[name][:2] == [number, "namespaces"], name
        assert text in found[name][2], name


def test_groups_by_a_map_that_turns_their_order_round() -> None:
    """The kernel sorts groups by their ids outside, getgroups(2) tells those inside."""
    assert isolated(refusals, True, pid_namespace=True) == {way: ["0", "1", "7"] for way in WAYS}


def searches(folder: str) -> list[Any]:
    import fastproc
    from fastproc import subprocess as ours

    os.makedirs(folder + "/shut")
    os.makedirs(folder + "/open")
    Path(folder, "open", "plain").write_text("")
    shutil.copy("/bin/true", folder + "/shut/there")
    os.chmod(folder + "/shut", 0o700)
    nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": []}
    path = {"PATH": f"{folder}/shut:{folder}/open:/none"}
    found: list[Any] = []
    for name in ("missing", "there", "plain", folder + "/shut/missing"):
        try:
            fastproc.run(name, env=path, **nobody)
        except fastproc.SpawnError as error:
            found.append([error.errno, str(error).replace(folder, "")])
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    for run in (fastproc.run, lambda name, env: ours.run([name], env=env)):
        try:
            run("missing", env=path)
        except OSError as error:
            found.append(error.errno)
    return found


def test_program_that_is_looked_for_where_the_child_may_not_look(public: Path) -> None:
    """It is not found, and the directory is named; what is there is refused. The standard module has its own rule."""
    found = isolated(searches, str(public), pid_namespace=True)
    texts = [
        (errno.ENOENT, "'/shut' or a directory above it may not be searched"),
        (errno.EACCES, "'/shut/there' is executable, but not to the child"),
        (errno.EACCES, "'/open/plain' is not executable"),
        (errno.EACCES, "'/shut' or a directory above it may not be searched"),
    ]
    for (number, text), (error, said) in zip(texts, found, strict=False):
        assert (error, text in said) == (number, True), said
    assert found[4:] == [errno.ENOENT, errno.EACCES]
