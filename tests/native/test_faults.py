"""Every system call of a spawn failed in turn, in the parent and in the child, over each mechanism.

Runs in an interpreter of its own with the extension that has the fault points. After each failure: the right exception,
errno and stage, and nothing left or changed: descriptors, children, mappings, signal mask and dispositions.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from conftest import MECHANISMS, cgroup_folder, isolated
from support import observe
from support.programs import Programs

ERRNOS = (errno.EPERM, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.EINTR, errno.ENOSYS)
SHARED = ("clone3_vm", "clone_vm", "clone")
OWN_CHILD = (*SHARED, "fork_pipe")

# Fault point -> the stage that the exception names, and the mechanisms that come to it.
POINTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "VECTORS": ("vectors", MECHANISMS),
    "PIPE_IN": ("pipe", MECHANISMS),
    "PIPE_OUT": ("pipe", MECHANISMS),
    "PIPE_ERR": ("pipe", MECHANISMS),
    "NONBLOCK": ("pipe", MECHANISMS),
    "LIFT": ("pipe", MECHANISMS),
    "NULL": ("null", MECHANISMS),
    "STACK": ("stack", SHARED),
    "STACK_GUARD": ("stack", SHARED),
    "MASK": ("mask", OWN_CHILD),
    "CLONE": ("clone", OWN_CHILD),
    "PIDFD": ("pidfd", ("posix_spawn",)),
    "REPORT_PIPE": ("pipe", ("fork_pipe",)),
    "REPORT_READ": ("report", ("fork_pipe",)),
    "REPORT_PAGE": ("stack", ("clone",)),
    "CGROUP_OPEN": ("cgroup", ("clone_vm", "clone", "fork_pipe")),
    "PIPE_BETWEEN": ("pipe", MECHANISMS),
}
# Of a pipeline's start; at the second command too.
OF_PIPELINES = (
    *("VECTORS", "PIPE_IN", "PIPE_OUT", "PIPE_ERR", "STACK", "STACK_GUARD", "MASK", "CLONE", "PIDFD", "REPORT_PIPE"),
    *("REPORT_READ", "REPORT_PAGE", "PIPE_BETWEEN"),
)

# No failure: the reading goes on after EINTR; a refused pidfd_open leaves a child that is known by its number alone.
HARMLESS = {("REPORT_READ", errno.EINTR), ("PIDFD", errno.EPERM), ("PIDFD", errno.ENOSYS)}

STAGES = (
    *("CGROUP", "SIGNALS", "SETSID", "SETPGID", "CTTY", "FOREGROUND", "FDS", "CWD", "RLIMITS", "NICE", "SCHEDULER"),
    *("AFFINITY", "IONICE", "OOM_SCORE_ADJ", "TIMER_SLACK", "UMASK", "CLOSE_FDS", "LISTEN_PID", "PDEATHSIG"),
    *("SUBREAPER", "NO_NEW_PRIVS", "SIGMASK", "EXEC"),
)
# Those of a child with an identity, made by the launcher or by fork.
IDENTITY_STAGES = (
    *("CHROOT", "NAMESPACES", "SECUREBITS", "BOUNDING", "KEYRING", "GROUPS", "GID", "UID", "CAPABILITIES", "AMBIENT"),
    *("LOCKS", "VERIFY_IRREVOCABLE", "LANDLOCK", "SECCOMP"),
)


def kind(number: int) -> type[OSError]:
    """Return the OSError subclass that Python has for an errno."""
    return type(OSError(number, ""))


class Sweep:
    """Arms faults, spawns, and compares."""

    def __init__(self, mechanism: str, library: str) -> None:
        """Force the mechanism."""
        from fastproc import _native
        from fastproc._native._ffi import lib

        self.lib = lib
        self.mechanism = mechanism
        self.library = ctypes.CDLL(library)
        self.library.hostile_mask.restype = ctypes.c_uint64
        self.failures: list[str] = []
        self.done = 0
        _native.features()
        _native.force(mechanism)
        self.terminal = os.openpty()
        self.spawns = {"start": self._start, "run": self._run, "null": self._null, "pipeline": self._pipeline}
        self.first = self.signals()

    def _options(self, stage: str) -> dict[str, Any]:
        """Return options that make the child pass through all stages it can."""
        options: dict[str, Any] = {}
        if self.mechanism == "posix_spawn":
            return options
        options = {
            "rlimits": {"CORE": 0},
            "nice": 1,
            "scheduler": "batch",
            "affinity": [0],
            "ionice": "idle",
            "oom_score_adj": 1,
            "timer_slack_ns": 1000,
            "umask": 0o77,
            "pdeathsig": "KILL",
            "subreaper": True,
            "no_new_privs": True,
            "cwd": "/",
            "fds": {9: 2},
            "listen_fds": [2],
        }
        if stage in ("SETPGID",):
            options["pgid"] = 0
        elif stage in ("SETSID", "CTTY", "FOREGROUND"):
            options |= {"setsid": True, "ctty": self.terminal[1], "foreground": True}
        return options

    def _start(self, options: dict[str, Any]) -> int:
        import fastproc

        with fastproc.start("cat", stdin=fastproc.PIPE, stdout=fastproc.PIPE, stderr=fastproc.PIPE, **options) as child:
            assert child.stdin is not None
            child.stdin.close()
            return child.wait(10)

    def _run(self, options: dict[str, Any]) -> int:
        import fastproc

        return fastproc.run("cat", input=b"x", capture=True, check=False, timeout=10, **options).returncode

    def _null(self, options: dict[str, Any]) -> int:
        import fastproc

        return fastproc.run("true", stdin=fastproc.DEVNULL, check=False, **options).returncode

    def _pipeline(self, options: dict[str, Any]) -> int:
        import fastproc

        cat = fastproc.cmd("cat", **{name: value for name, value in options.items() if name not in ("cwd", "stderr")})
        return fastproc.run(cat | cat | cat, input=b"x", capture=True, check=False, timeout=10).returncode

    def signals(self) -> list[int]:
        """Return the dispositions and the mask."""
        handlers = (ctypes.c_uint64 * 64)()
        self.library.hostile_dispositions(handlers)
        return [*handlers, self.library.hostile_mask()]

    def state(self) -> list[Any]:
        """Return everything that a failed spawn must leave as it was."""
        stacks, pages = observe.stacks_and_pages()
        return [
            observe.fds(),
            sorted(observe.children()),
            observe.threads(),
            max(stacks, observe.STACK_CACHE),
            pages,
            self.signals(),
        ]

    def case(
        self, door: str, point: int, error: int, options: dict[str, Any], expect: Callable[[Any], str], nth: int = 1
    ) -> None:
        """Arm one fault, spawn, disarm; `expect` gets the exception or return code and says what is wrong with it."""
        before = self.state()
        self.lib.fp_fault_set(point, error, nth)
        try:
            outcome: Any = self.spawns[door](options)
        except Exception as caught:
            outcome = caught
            outcome.__traceback__ = None
        finally:
            self.lib.fp_fault_set(0, 0, 0)
        wrong = expect(outcome)
        after = self.state()
        if after[-1] != self.first:
            wrong += " the mask or a disposition is not as before the first spawn"
        if after != before:
            wrong += f" left: {[(old, new) for old, new in zip(before, after, strict=True) if old != new]}"
        self.done += 1
        if wrong:
            self.failures.append(f"{self.mechanism} {door} point {point} error {error}: {wrong} ({outcome!r})")


def _expect_error(number: int, stage: str) -> Callable[[Any], str]:
    def expect(outcome: Any) -> str:
        import fastproc

        if not isinstance(outcome, fastproc.SpawnError):
            return "no SpawnError"
        if not isinstance(outcome, kind(number)):
            return f"no {kind(number).__name__}"
        if (outcome.errno, outcome.stage) != (number, stage):
            return f"errno {outcome.errno}, stage {outcome.stage}; expected {number}, {stage}"
        return ""

    return expect


def _expect_success(outcome: Any) -> str:
    return "" if outcome == 0 else "not 0"


def _expect_death(stage: str, mechanism: str) -> Callable[[Any], str]:
    # fork_pipe's child sends its word only at the end: how far it came is not known. In the exec stage all is set up,
    # and a child that is killed there cannot be told from a program that was killed at once (GOTCHAS A17, F20).
    stages = ("born", stage) if mechanism == "fork_pipe" else (stage,)

    def expect(outcome: Any) -> str:
        import fastproc

        if stage == "exec" and outcome == -signal.SIGKILL:
            return ""
        if not isinstance(outcome, fastproc.SpawnError) or outcome.stage not in stages:
            return f"no SpawnError of stage {stages}"
        if outcome.errno != errno.ECANCELED or "signal 9" not in str(outcome):
            return "does not say that the child died by signal 9 before exec"
        return ""

    return expect


def parent_points(mechanism: str, library: str, cgroup: str) -> dict[str, Any]:
    """Fail each system call of the parent."""
    import fastproc

    sweep = Sweep(mechanism, library)
    points = {
        name.removeprefix("FP_POINT_"): number
        for name in dir(sweep.lib)
        if name.startswith("FP_POINT_") and isinstance(number := getattr(sweep.lib, name), int)
    }
    # Those of a capture are no part of a spawn: test_sink.py.
    del points["NONE"], points["LIMIT"], points["GROW"], points["MOVE"], points["TEE"]
    # Those of an identity: tests/native/test_identity.py.
    del points["CALL"], points["MAPS"]
    untested = set(points) - set(POINTS)
    sweep.spawns["run"]({})  # what is opened once is open now
    sweep.spawns["pipeline"]({})
    for name, (stage, mechanisms) in POINTS.items():
        if mechanism not in mechanisms or (name == "CGROUP_OPEN" and not cgroup):
            continue
        options: dict[str, Any] = sweep._options("")
        door = "start"
        if name == "NULL":
            options["stderr"] = fastproc.DEVNULL
            options.pop("fds", None)
        if name == "CGROUP_OPEN":
            options["cgroup"] = cgroup
        for number in ERRNOS:
            expect = _expect_success if (name, number) in HARMLESS else _expect_error(number, stage)
            if name in OF_PIPELINES:
                for nth in (1,) if name in ("PIPE_IN", "PIPE_OUT") else (1, 2):
                    sweep.case("pipeline", points[name], number, options, expect, nth)
            if name == "PIPE_BETWEEN":
                continue
            if name == "NULL":
                sweep.case("null", points[name], number, options, expect)
            elif name == "LIFT":
                sweep.spawns["closed"] = lambda given: _with_stdin_closed(lambda: sweep.spawns["start"](given))
                sweep.case("closed", points[name], number, options, expect)
            else:
                sweep.case(door, points[name], number, options, expect)
                if name != "NONBLOCK":
                    sweep.case("run", points[name], number, options, expect)
                if not name.startswith(("PIPE", "NONBLOCK")):
                    sweep.case("null", points[name], number, options, expect)
    return {"done": sweep.done, "failures": sweep.failures, "untested": sorted(untested)}


def tee_point(mechanism: str, library: str) -> dict[str, Any]:
    """Fail tee(2) for the first and the second reader, and later: the bytes are copied then, none twice, none lost."""
    import fastproc

    sweep = Sweep(mechanism, library)
    cat, count = fastproc.cmd("cat"), fastproc.cmd("wc", "-c")
    data = bytes(300_000)

    def tee(_options: dict[str, Any]) -> int:
        result = cat.tee(count, count).run(input=data, capture=True, timeout=10)
        return 0 if result.text().split() == ["300000"] * 2 else 1

    sweep.spawns["tee"] = tee
    tee({})
    for number in ERRNOS:
        for nth in (1, 2, 3):
            sweep.case("tee", sweep.lib.FP_POINT_TEE, number, {}, _expect_success, nth)
    return {"done": sweep.done, "failures": sweep.failures, "untested": []}


def _with_stdin_closed(call: Callable[[], Any]) -> Any:
    saved = os.dup(0)
    os.close(0)
    try:
        return call()
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def child_stages(mechanism: str, library: str) -> dict[str, Any]:
    """Fail each step of the child, and kill it there."""
    sweep = Sweep(mechanism, library)
    sweep.spawns["run"]({})
    for name in STAGES:
        point = getattr(sweep.lib, f"FP_STAGE_{name}")
        stage = name.lower()
        options = sweep._options(name)
        # One terminal cannot be that of three sessions.
        doors = [door for door in sweep.spawns if door != "pipeline" or name not in ("CTTY", "FOREGROUND")]
        for number in ERRNOS:
            for door in doors:
                sweep.case(door, point, number, options, _expect_error(number, stage))
        for door in doors:
            sweep.case(door, point, -signal.SIGKILL, options, _expect_death(stage, mechanism))
    return {"done": sweep.done, "failures": sweep.failures, "untested": []}


def identity_stages(way: str, library: str) -> dict[str, Any]:
    """Fail each step of a child whose identity changes, and kill it there."""
    sweep = Sweep(way, library)
    sweep.spawns["run"]({})
    identity = {"user": 65534, "group": 65534, "groups": [4], "capabilities": []}
    sweep.spawns["run"](identity)
    sweep.spawns["pipeline"](identity)
    for name in (*IDENTITY_STAGES, *(stage for stage in STAGES if stage not in ("SETPGID", "CTTY", "FOREGROUND"))):
        point = getattr(sweep.lib, f"FP_STAGE_{name}")
        stage = name.lower()
        options = sweep._options(name) | identity
        for number in (errno.EPERM, errno.EAGAIN):
            for door in sweep.spawns:
                sweep.case(door, point, number, options, _expect_error(number, stage))
        for door in sweep.spawns:
            sweep.case(door, point, -signal.SIGKILL, options, _expect_early_death(stage))
    if way == "launcher":
        # What says that it cannot run here is no failure: then it is done by fork. Others are.
        options = sweep._options("") | identity
        sweep.case("start", sweep.lib.FP_STAGE_LAUNCHER, errno.ENOMEM, options, _expect_error(errno.ENOMEM, "launcher"))
        sweep.case("start", sweep.lib.FP_STAGE_LAUNCHER, errno.EACCES, options, _expect_success)
    return {"done": sweep.done, "failures": sweep.failures, "untested": []}


def _expect_early_death(stage: str) -> Callable[[Any], str]:
    # Before the launcher its stage is in shared memory; in the launcher, as in a fork, it is told by the end.
    told = _expect_death(stage, "fork_pipe")

    def expect(outcome: Any) -> str:
        if getattr(outcome, "stage", "") in ("launcher", "seccomp"):
            outcome.stage = stage
        return told(outcome)

    return expect


def _table_in_source() -> set[str]:
    """Return the stages of the step table in csrc/spawn/child.c."""
    import re
    from pathlib import Path

    source = (Path(__file__).resolve().parents[2] / "csrc" / "spawn" / "child.c").read_text()
    table = source.partition("static const struct step steps[] = {")[2].partition("};")[0]
    return set(re.findall(r"FP_STAGE_(\w+)", table))


def test_every_step_of_the_table_is_swept() -> None:
    """A new row in the step table needs its place here."""
    assert _table_in_source() == {*STAGES, *IDENTITY_STAGES, "LAUNCHER"}


def _report(what: str, mechanism: str, found: dict[str, Any]) -> None:
    good = found["done"] - len(found["failures"])
    print(f"{mechanism}: {what}: {good} of {found['done']}")
    assert found["failures"] == []
    assert found["untested"] == []
    assert found["done"] >= 40


@pytest.fixture
def cgroup() -> Any:
    """A cgroup v2 of its own, or "" where none can be made."""
    with cgroup_folder() as folder:
        yield str(folder or "")


def test_each_call_of_the_parent_fails_cleanly(mechanism: str, programs: Programs, cgroup: str) -> None:
    """N of N: exception, errno, stage; nothing left, nothing changed."""
    _report("parent", mechanism, isolated(parent_points, mechanism, programs.hostile, cgroup, faults=True, timeout=120))


def test_tee_that_fails_loses_nothing(programs: Programs) -> None:
    """18 of 18; nothing is left either."""
    found = isolated(tee_point, "clone3_vm", programs.hostile, faults=True, timeout=120)
    assert found == {"done": 18, "failures": [], "untested": []}


def test_each_step_of_the_child_fails_cleanly(mechanism: str, programs: Programs) -> None:
    """N of N, also for a child that is killed in the step."""
    if mechanism == "posix_spawn":
        pytest.skip("the C library's child has no steps of ours")
    _report("child", mechanism, isolated(child_stages, mechanism, programs.hostile, faults=True, timeout=120))


@pytest.mark.privileged
@pytest.mark.usefixtures("pid_namespace")
@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_each_step_of_an_identity_fails_cleanly(way: str, programs: Programs) -> None:
    """N of N, also for a child that is killed in the step, in the launcher or in a copy of this process."""
    found = isolated(identity_stages, way, programs.hostile, faults=True, pid_namespace=True, timeout=120)
    _report("identity", way, found)


def stack_cache(mechanism: str, threads: int) -> list[int]:
    """Spawn from many threads at once and return how many stacks stay mapped."""
    import threading

    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    barrier = threading.Barrier(threads)

    def work() -> None:
        barrier.wait()
        for _ in range(5):
            fastproc.run("true")

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return list(observe.stacks_and_pages())


def test_stacks_kept_for_later_are_few(mechanism: str) -> None:
    """However many threads spawn at once, at most eight stacks and no report page stay mapped."""
    stacks, pages = isolated(stack_cache, mechanism, 24)
    assert stacks <= observe.STACK_CACHE
    assert pages == 0


def limits_named() -> dict[str, str]:
    """What the message of a spawn says whose call fails for a limit."""
    import fastproc
    from fastproc import _native
    from fastproc._native._ffi import lib

    _native.features()
    _native.force("clone3_vm")
    found = {}
    for point, number in (
        ("CLONE", errno.EAGAIN),
        ("CLONE", errno.ENOMEM),
        ("CLONE", errno.ENOSPC),
        ("PIPE_OUT", errno.ENFILE),
        ("PIPE_OUT", errno.EMFILE),
    ):
        lib.fp_fault_set(getattr(lib, f"FP_POINT_{point}"), number, 1)
        try:
            fastproc.run("true", capture=True)
        except fastproc.SpawnError as error:
            found[f"{point} {errno.errorcode[number]}"] = error.extra
        finally:
            lib.fp_fault_set(0, 0, 0)
    return found


def test_limit_behind_an_errno_is_named() -> None:
    """Each errno of a limit with the limits that may be meant."""
    found = isolated(limits_named, faults=True)
    for name, words in {
        "CLONE EAGAIN": ("RLIMIT_NPROC", "pids.max", "kernel.threads-max", "kernel.pid_max"),
        "CLONE ENOMEM": ("memory", "process 1 of the PID namespace"),
        "CLONE ENOSPC": ("/proc/sys/user/max_*_namespaces", "nested"),
        "PIPE_OUT ENFILE": ("/proc/sys/fs/file-max", "pipe-user-pages-hard"),
        "PIPE_OUT EMFILE": ("RLIMIT_NOFILE",),
    }.items():
        assert [word for word in words if word not in found[name]] == [], found[name]
