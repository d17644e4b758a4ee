"""Sandboxes and old kernels: system calls refused by a filter, one by one and in sets; every run is right.

The filters stay for ever, so each case has an interpreter of its own.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, isolated
from support.programs import Probed, Programs, harness_sources
from support.sandbox import NO_PIDFD, SETS, install


def core_subset(probe: str, hostile: str, rules: list[list[Any]], late: bool) -> dict[str, Any]:
    """Install the filter, before the first use or after it, and do a little of everything."""
    import fastproc
    from support import observe

    library = ctypes.CDLL(hostile)
    if late:
        fastproc.run("true", capture=True)
    leak = os.memfd_create("leak", 0)
    os.set_inheritable(leak, True)
    install(library, rules)
    before = observe.fds()
    found: dict[str, Any] = {}
    result = fastproc.run("sh", "-c", "cat; echo e >&2; exit 3", input=b"in", capture=True, check=False)
    found["run"] = [result.stdout, result.stderr, result.returncode] == [b"in", b"e\n", 3]
    found["signal"] = fastproc.run("sh", "-c", "kill -9 $$", check=False).returncode
    try:
        fastproc.run("/no/such/program")
    except FileNotFoundError as error:
        found["missing"] = getattr(error, "stage", "")
    with fastproc.start("sleep", "60") as child:
        running = child.poll()
        child.terminate()
        found["start"] = [running, child.wait(10)]
    try:
        fastproc.run("sleep", "60", timeout=0.1)
    except fastproc.TimeoutExpired as error:
        found["deadline"] = error.result.returncode if error.result else None
    log = os.memfd_create("log")
    fastproc.run(
        probe,
        fds={9: log},
        env={"PROBE_FD": "9"},
        umask=0o27,
        no_new_privs=True,
        setsid=True,
        sigignore=["USR2"],
    )
    probed = Probed(os.pread(log, 100_000, 0))
    found["child"] = [sorted(probed.fd_ids), probed.umask, probed.NoNewPrivs, probed.sid == probed.pid]
    found["ignored"] = sorted(probed.signals("SigIgn") - {32, 33})  # glibc's own, left ignored by make
    os.close(log)
    found["left"] = [sorted(observe.children()), {fd for fd in observe.fds() if fd not in before} == set()]
    found["mechanism"] = result.mechanism
    found["refused"] = sorted(result.mechanism_refused)
    return found


RIGHT = {
    "run": True,
    "signal": -9,
    "missing": "exec",
    "start": [None, -15],
    "deadline": -15,
    "child": [[0, 1, 2, 9], 0o27, "1", True],
    "ignored": [12],
    "left": [[], True],
}


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("name", SETS)
def test_core_works_under_a_filter(programs: Programs, name: str, late: bool) -> None:
    """GOTCHAS K1, K2, A13, D11: another mechanism is taken, its reason shown; nothing else changes."""
    rules = SETS[name]
    if late and any(error == 0 for _, error, _, _ in rules):
        pytest.skip("a call that kills can only be avoided by asking before")
    found = isolated(core_subset, programs.probe, programs.hostile, rules, late, timeout=20)
    mechanism, refused = found.pop("mechanism"), found.pop("refused")
    assert found == RIGHT
    if any(call == "clone3" for call, _, _, _ in rules):
        assert mechanism != "clone3_vm"
        assert "clone3_vm" in refused
    if name == "no memory sharing":
        assert mechanism in ("clone", "fork_pipe")


@pytest.mark.parametrize("forced", ["clone_vm", "clone", "fork_pipe"])
@pytest.mark.parametrize("name", ["no pidfd by clone", "as 4.18"])
def test_forced_mechanism_without_pidfd(programs: Programs, forced: str, name: str) -> None:
    """GOTCHAS D11: the pidfd is opened later, while the child waits, or there is none and the number serves."""
    arguments = (programs.probe, programs.hostile, SETS[name], False)
    found = isolated(core_subset, *arguments, timeout=30, env={"FASTPROC_SPAWN": forced})
    assert found.pop("mechanism") == forced
    del found["refused"]
    assert found == RIGHT


def stolen_without_pidfd(hostile: str) -> list[Any]:
    """A host that ignores SIGCHLD on a kernel without pidfds."""
    import fastproc

    library = ctypes.CDLL(hostile)
    install(library, [list(rule) for rule in NO_PIDFD])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    found: list[Any] = []
    for call in (
        lambda: fastproc.run("false", check=False).returncode,
        lambda: fastproc.run("true", capture=True).returncode,
        lambda: fastproc.start("false").wait(10),
    ):
        try:
            found.append(call())
        except fastproc.ExitStatusUnknown:
            found.append("unknown")
    return found


def test_no_pidfd_and_ignored_children_is_unknown_and_never_zero(programs: Programs) -> None:
    """GOTCHAS D2, D11: without any pidfd a stolen status is unknown, also of a success."""
    assert isolated(stolen_without_pidfd, programs.hostile) == ["unknown"] * 3


def shortage_then_plenty(static_exit: str) -> list[str]:
    """Probe when there are no descriptors, then with enough."""
    import resource

    import fastproc
    from fastproc import _native

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        fastproc.run(static_exit)
    except fastproc.SpawnError:
        pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return [fastproc.run("true").mechanism, *_native.refused()]


def test_a_shortage_is_not_remembered_as_a_missing_feature(programs: Programs) -> None:
    """GOTCHAS K2: the probe under EMFILE says nothing about the kernel."""
    from fastproc import _native, run

    assert isolated(shortage_then_plenty, programs.static_exit) == [run("true").mechanism, *_native.refused()]


def test_forced_mechanism_by_environment() -> None:
    """FASTPROC_SPAWN forces a mechanism from the start."""
    for name in ("clone", "fork_pipe"):
        assert isolated(which_mechanism, env={"FASTPROC_SPAWN": name}) == name


def which_mechanism() -> str:
    import fastproc

    return fastproc.run("true").mechanism


def test_unknown_mechanism_is_refused() -> None:
    """A typo in the name of a mechanism is no silent default."""
    from fastproc import _native

    with pytest.raises(ValueError, match="clone4"):
        _native.force("clone4")


@pytest.mark.privileged
def test_without_proc(programs: Programs, pid_namespace: None) -> None:
    """GOTCHAS K5: /proc is not needed."""
    prefix = ("unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh")
    assert isolated(without_proc, prefix=prefix) == [b"x".decode(), "exec", "sleep"]


def without_proc() -> list[Any]:
    import fastproc

    assert not os.path.exists("/proc/self")
    found = [(fastproc.run("cat", input=b"x", capture=True).stdout or b"").decode()]
    try:
        fastproc.run("/no/such/program")
    except fastproc.SpawnError as error:
        found.append(error.stage)
    with fastproc.start("sleep", "60") as child:
        child.kill()
        assert child.wait(5) == -9
    return [*found, "sleep"]


# -- valgrind, which takes CLONE_VM for a fork

needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind")
VALGRIND = ("valgrind", "-q", "--error-exitcode=99", "--child-silent-after-fork=yes")


@needs_valgrind
@pytest.mark.slow
def test_core_under_valgrind(tmp_path: Path) -> None:
    """GOTCHAS A14: the probe finds that memory is not shared, the errors still arrive, and valgrind finds nothing."""
    harness = tmp_path / "harness"
    command = ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-DFP_FAULTS=1", "-g", "-O1", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*command, "-o", str(harness), *harness_sources(), "-lpthread"], check=True, capture_output=True)
    done = subprocess.run(
        [*VALGRIND, str(harness), "1", "auto"], capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok"), done.stdout + done.stderr


def under_emulation() -> list[Any]:
    import fastproc

    found: list[Any] = []
    try:
        fastproc.run("/no/such/program")
    except FileNotFoundError as error:
        found.append(getattr(error, "stage", ""))
    result = fastproc.run("sh", "-c", "cat; exit 4", input=b"x", capture=True, check=False)
    return [*found, (result.stdout or b"").decode(), result.returncode, result.mechanism]


@needs_valgrind
@pytest.mark.slow
def test_python_under_valgrind() -> None:
    """GOTCHAS A14: a missing program is a FileNotFoundError there too, by the mechanism that needs no shared memory."""
    found = isolated(under_emulation, prefix=("valgrind", "-q", "--tool=none"), timeout=120)
    assert found == ["exec", "x", 4, "fork_pipe"]
