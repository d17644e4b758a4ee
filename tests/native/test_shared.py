"""Children of root that change their ids in memory which they share with us: it is closed as long as they have it.

Everything here runs in a PID namespace of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import isolated
from support import observe
from support.identities import PRCTL, X86, forked, spoil

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

NOBODY = 65534
OPTIONS: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "groups": [], "capabilities": []}
PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47
SETRESUID, SETRESGID = (117, 119) if X86 else (147, 149)


def prctl(option: int, value: int = 0) -> int:
    return ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def opens(pid: int) -> bool:
    """Whether somebody with the child's uid may open its memory."""

    def try_it() -> bool:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
        except PermissionError:
            return False
        return True

    return bool(forked(try_it, lambda _: None)[0])


def wait_for(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + 10
    while not (found := look()):
        assert time.monotonic() < until
        time.sleep(0.002)
    return found


def stopped_child() -> int:
    for pid in observe.children():
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] in "tT":
                return pid
    return 0


@contextmanager
def window(stage: str = "VERIFY_IRREVOCABLE") -> Iterator[int]:
    """A child that stands, stopped, in our memory, at a step behind the change of ids."""
    import fastproc
    from fastproc._native._ffi import lib

    fastproc.run("true", **OPTIONS)
    results: list[Any] = []
    lib.fp_fault_set(getattr(lib, f"FP_STAGE_{stage}"), -signal.SIGSTOP, 1)
    worker = threading.Thread(target=lambda: results.append(fastproc.run("true", timeout=30, **OPTIONS)))
    worker.start()
    pid = wait_for(stopped_child)
    lib.fp_fault_set(0, 0, 0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)
        worker.join()
    assert results[0].mechanism == "clone3_vm"


def closed() -> list[Any]:
    from fastproc._native import credentials

    with window() as pid:
        with open(f"/proc/{pid}/status") as file:
            uids = next(line for line in file if line.startswith("Uid:")).split()[1:]
        # What we say of ourselves is what holds without the child.
        inside = [uids, prctl(PR_GET_DUMPABLE), credentials.held().dumpable, opens(pid)]
    return [*inside, prctl(PR_GET_DUMPABLE)]


def test_memory_is_closed_while_a_child_has_it() -> None:
    """GOTCHAS G20."""
    found = isolated(closed, faults=True, pid_namespace=True)
    assert found == [[str(NOBODY)] * 4, 0, 1, False, 1]


def last_one_opens(_: str) -> list[int]:
    import fastproc

    with window():
        for _ in range(20):
            fastproc.run("true", **OPTIONS)
        inside = prctl(PR_GET_DUMPABLE)
    return [inside, prctl(PR_GET_DUMPABLE)]


def test_only_the_last_child_opens_it() -> None:
    assert isolated(last_one_opens, "", faults=True, pid_namespace=True) == [0, 1]


def own_choice() -> list[int]:
    """What this process decides about the flag meanwhile holds afterwards, and only then."""
    from fastproc._native import credentials

    with window():
        credentials.set_dumpable(False)
        first = [prctl(PR_GET_DUMPABLE), credentials.held().dumpable]
    first.append(prctl(PR_GET_DUMPABLE))
    with window():
        credentials.set_dumpable(True)
        second = [prctl(PR_GET_DUMPABLE), credentials.held().dumpable]
    return [*first, *second, prctl(PR_GET_DUMPABLE)]


def test_own_choice_waits_for_the_child() -> None:
    assert isolated(own_choice, faults=True, pid_namespace=True) == [0, 0, 0, 0, 1, 1]


def foreign() -> list[Any]:
    """Somebody else sets the flag: before the change of ids the child ends, and the launcher is taken, from then on."""
    import fastproc
    from fastproc._native._ffi import lib

    lib.fp_fault_set(lib.FP_STAGE_GROUPS, -signal.SIGSTOP, 1)
    told: list[Any] = []

    def run() -> None:
        try:
            told.append(fastproc.run("true", timeout=30, **OPTIONS).mechanism)
        except fastproc.SpawnError as error:
            told.append([error.errno, error.stage])

    worker = threading.Thread(target=run)
    worker.start()
    pid = wait_for(stopped_child)
    lib.fp_fault_set(0, 0, 0)
    prctl(PR_SET_DUMPABLE, 1)
    os.kill(pid, signal.SIGCONT)
    worker.join()
    return [*told, fastproc.run("true", **OPTIONS).mechanism, prctl(PR_GET_DUMPABLE)]


def test_flag_that_somebody_else_sets() -> None:
    found = isolated(foreign, faults=True, pid_namespace=True)
    assert found == ["launcher", "launcher", 1]


def opened_at(step: str, then: tuple[int, int]) -> list[Any]:
    """Somebody sets the flag in a step.

    Returns:
        How often the child then makes the next call in our memory, and the mechanism of the run.
    """
    import fastproc
    from fastproc._native._ffi import lib

    options = {**OPTIONS, "capabilities": ["net_raw"]}
    fastproc.run("true", **options)
    if step == "setresuid":
        lib.fp_fault_call(SETRESUID, NOBODY, -signal.SIGSTOP)
    else:
        lib.fp_fault_set(getattr(lib, f"FP_STAGE_{step}"), -signal.SIGSTOP, 1)
    results: list[Any] = []
    worker = threading.Thread(target=lambda: results.append(fastproc.run("true", timeout=30, **options)))
    worker.start()
    pid = wait_for(stopped_child)
    prctl(PR_SET_DUMPABLE, 1)
    # Counted in memory that the child shares with us; the launcher counts in its own. SIGCONT does nothing.
    lib.fp_fault_call(*then, -signal.SIGCONT)
    os.kill(pid, signal.SIGCONT)
    worker.join()
    return [lib.fp_fault_hits(), results[0].mechanism]


@pytest.mark.parametrize(
    ("step", "then"),
    [
        ("GID", (SETRESGID, NOBODY)),
        ("UID", (SETRESUID, NOBODY)),
        ("setresuid", (PRCTL, PR_CAP_AMBIENT)),
        ("VERIFY_IRREVOCABLE", (PRCTL, PR_SET_NO_NEW_PRIVS)),
    ],
)
def test_child_in_opened_memory_ends_before_its_next_step(step: str, then: tuple[int, int]) -> None:
    """Each look at the flag counts: before the group changes, before and after the user does, and at the end."""
    assert isolated(opened_at, step, then, faults=True, pid_namespace=True) == [0, "launcher"]


def not_closed(error: int) -> list[Any]:
    """The flag cannot be taken away: the memory is not counted as closed, so the own choice reaches the kernel."""
    import fastproc
    from fastproc._native import credentials

    spoil(PRCTL, PR_SET_DUMPABLE, error)
    found: list[Any] = [fastproc.run("true", **OPTIONS).mechanism]
    try:
        credentials.set_dumpable(False)
        found.append("set")
    except PermissionError:
        found.append("refused")
    return [*found, credentials.held().dumpable]


@pytest.mark.parametrize(("error", "told"), [(1, "refused"), (0, "set")])
def test_memory_that_cannot_be_closed_is_not_shared(error: int, told: str) -> None:
    """By an error, and by a call that says it did."""
    assert isolated(not_closed, error, pid_namespace=True) == ["launcher", told, 1]


def dropped_late() -> list[int]:
    """This process becomes somebody else between the look at who it is and the call that opens its memory."""
    import fastproc
    from fastproc._native._ffi import lib

    fastproc.run("true", **OPTIONS)
    lib.fp_fault_call(PRCTL, PR_SET_DUMPABLE, lib.FP_FAULT_GATE)
    # The gate is passed twice: the first time the memory is closed.
    worker = threading.Thread(target=lambda: fastproc.run("true", timeout=30, **OPTIONS))
    worker.start()
    wait_for(lambda: lib.fp_fault_hits() == 1)
    lib.fp_fault_set(lib.FP_STAGE_SECCOMP, -signal.SIGSTOP, 1)
    pid = wait_for(stopped_child)
    lib.fp_fault_call(PRCTL, PR_SET_DUMPABLE, lib.FP_FAULT_GATE)
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: lib.fp_fault_hits() == 1)
    os.setresuid(1000, 1000, 1000)
    lib.fp_fault_set(0, 0, 0)
    worker.join()
    return [prctl(PR_GET_DUMPABLE), os.getuid()]


def test_who_stops_being_root_just_then_keeps_the_memory_closed() -> None:
    assert isolated(dropped_late, faults=True, pid_namespace=True) == [0, 1000]


def is_kept_waiting() -> bool:
    """Whether a second thread spins for the lock while the first stands at the gate."""
    import fastproc
    from fastproc._native import credentials
    from fastproc._native._ffi import lib

    lib.fp_fault_call(PRCTL, PR_SET_DUMPABLE, lib.FP_FAULT_GATE)
    first = threading.Thread(target=lambda: fastproc.run("true", timeout=30, **OPTIONS))
    first.start()
    wait_for(lambda: lib.fp_fault_hits() == 1)
    second = threading.Thread(target=credentials.held)
    second.start()
    assert second.ident is not None
    clock = time.pthread_getcpuclockid(second.ident)

    def spins() -> bool:
        try:
            return not second.is_alive() or time.clock_gettime(clock) > 0.05
        except OSError:
            return True  # it has ended

    wait_for(spins)
    waits = second.is_alive()
    lib.fp_fault_set(0, 0, 0)
    first.join()
    second.join()
    return waits


def locked() -> list[bool]:
    import fastproc

    fastproc.run("true", **OPTIONS)
    return [is_kept_waiting()]


def test_second_thread_waits_for_the_first() -> None:
    assert isolated(locked, faults=True, pid_namespace=True) == [True]


def copied_under_lock() -> list[Any]:
    """A copy made by the raw call, for which no handler of fork(3) runs, while another thread holds the lock."""
    import fastproc
    from fastproc._native._ffi import lib

    fastproc.run("true", **OPTIONS)
    lib.fp_fault_call(PRCTL, PR_SET_DUMPABLE, lib.FP_FAULT_GATE)
    worker = threading.Thread(target=lambda: fastproc.run("true", timeout=30, **OPTIONS))
    worker.start()
    wait_for(lambda: lib.fp_fault_hits() == 1)
    # PyDLL keeps the interpreter's lock, which the copy needs.
    raw = ctypes.PyDLL(None)
    pid = raw.syscall(56 if X86 else 220, signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        signal.alarm(20)
        # The lock is taken over, and is held then: the first to come keeps the second waiting.
        waits = is_kept_waiting()
        os._exit(0 if waits and fastproc.run("true", **OPTIONS).mechanism == "clone3_vm" else 1)
    status = os.waitpid(pid, 0)[1]
    lib.fp_fault_set(0, 0, 0)
    worker.join()
    return [status, prctl(PR_GET_DUMPABLE)]


def test_raw_copy_takes_over_the_lock() -> None:
    assert isolated(copied_under_lock, faults=True, pid_namespace=True) == [0, 1]


def copied() -> list[Any]:
    """A forked copy has memory of its own: it is as dumpable as it was, and may make such children itself."""
    import fastproc

    def work() -> list[Any]:
        first = prctl(PR_GET_DUMPABLE)
        return [first, fastproc.run("true", **OPTIONS).mechanism, prctl(PR_GET_DUMPABLE)]

    with window():
        copy = forked(work, lambda _: None)[0]
        ours = prctl(PR_GET_DUMPABLE)
    return [copy, ours, prctl(PR_GET_DUMPABLE)]


def test_copy_of_this_process_is_as_dumpable_as_it_was() -> None:
    assert isolated(copied, faults=True, pid_namespace=True) == [[1, "clone3_vm", 1], 0, 1]


def dropped() -> list[int]:
    """Who is somebody else when the child leaves keeps his memory closed, as the kernel may have closed it to him."""
    from fastproc._native._ffi import lib

    with window():
        os.setresuid(1000, 0, 0)
        lib.fp_fault_call(PRCTL, PR_SET_DUMPABLE, -signal.SIGCONT)
    # Not even for a moment.
    return [prctl(PR_GET_DUMPABLE), lib.fp_fault_hits(), os.getuid()]


def test_who_is_not_root_any_more_gets_no_flag_back() -> None:
    assert isolated(dropped, faults=True, pid_namespace=True) == [0, 0, 1000]


def refused(how: str) -> str:
    import fastproc

    if how == "sysctl":
        # What says the kernel's rule is not the kernel.
        subprocess.run(["mount", "--bind", "/dev/null", "/proc/sys/fs/suid_dumpable"], check=True)
    if how == "another value":
        other = "/proc/sys/kernel/randomize_va_space"
        with open(other) as file:
            assert file.read() != "0\n"
        subprocess.run(["mount", "--bind", other, "/proc/sys/fs/suid_dumpable"], check=True)
    options = dict(OPTIONS)
    if how == "to root":
        options = {"user": 0, "group": 0, "groups": []}
    if how == "oom score":
        options["oom_score_adj"] = 5
    if how == "root's group":
        options["group"] = 0
    if how == "no group":
        from fastproc._engine import identity

        identity._add_ids = lambda spec, _: spec.update(uid=NOBODY, groups=[])  # type: ignore[assignment]
    if how == "no kcmp":
        from fastproc import privileges

        privileges.effective.drop("sys_ptrace")
    if how == "real uid":
        os.setresuid(1000, 0, 0)
    if how == "effective uid":
        from fastproc.privileges import Securebits, set_securebits

        set_securebits(Securebits.NO_SETUID_FIXUP)  # or its capabilities would be gone
        os.setresuid(0, 1000, 0)
    if how == "group id":
        os.setresgid(0, 1000, 0)
    return fastproc.run("true", **options).mechanism


@pytest.mark.parametrize(
    "how",
    [
        "sysctl",
        "another value",
        "to root",
        "oom score",
        "root's group",
        "no group",
        "no kcmp",
        "real uid",
        "effective uid",
        "group id",
    ],
)
def test_launcher_is_taken_instead(how: str) -> None:
    assert isolated(refused, how, pid_namespace=True) == "launcher"


def interrupted(number: int) -> list[Any]:
    """Children killed at any time, from several threads: the flag is back, nothing is left."""
    import fastproc

    fastproc.run("true", **OPTIONS)
    before = observe.fds()

    def work() -> None:
        for index in range(number):
            try:
                fastproc.run("sleep", "9", timeout=0.0002 * (index % 12), grace=0, **OPTIONS)
            except (fastproc.TimeoutExpired, fastproc.SpawnError):
                pass

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wait_for(lambda: not observe.children())
    fastproc.run("true")  # sweeps what was left
    return [prctl(PR_GET_DUMPABLE), observe.fds() == before]


def test_children_that_are_killed_at_any_time() -> None:
    assert isolated(interrupted, 60, pid_namespace=True) == [1, True]
