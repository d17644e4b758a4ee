"""Each option that sets the child up, over each mechanism, as the child itself sees it.

The whole record of the probe is compared with that of a child without options: an option must do what it says and
nothing else. posix_spawn cannot do all of them: then it refuses, and never leaves one out.
"""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import ROOT, isolated
from support.programs import Probed, Programs

Probe = Callable[..., Probed]

# These differ between any two children.
VOLATILE = ("pid", "fds", "argv", "env")

# What posix_spawn(3) has an attribute or a file action for.
POSIX_SPAWN_CAN = {"setsid", "pgid", "cwd", "sigmask", "sigdefault", "restore_signals", "argv0", "env"}


def limits_with(**changes: tuple[int, int]) -> list[list[int]]:
    """Return the parent's limits with some changed."""
    found = [list(resource.getrlimit(number)) for number in range(16)]
    for name, pair in changes.items():
        found[getattr(resource, f"RLIMIT_{name}")] = list(pair)
    return found


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "umask": ({"umask": 0o027}, {"umask": 0o027}),
    "umask-zero": ({"umask": 0}, {"umask": 0}),
    "nice": ({"nice": 7}, {"nice": 7}),
    "ionice-idle": ({"ionice": "idle"}, {"ionice": 3 << 13}),
    "ionice-level": ({"ionice": ("best-effort", 7)}, {"ionice": 2 << 13 | 7}),
    "affinity": ({"affinity": [0]}, {"affinity": [0]}),
    "scheduler-batch": ({"scheduler": "batch"}, {"scheduler": [3, 0]}),
    "scheduler-idle": ({"scheduler": "idle"}, {"scheduler": [5, 0]}),
    "rlimits": (
        {"rlimits": {"NOFILE": (64, 128), resource.RLIMIT_CORE: 0}},
        {"rlimits": limits_with(NOFILE=(64, 128), CORE=(0, 0))},
    ),
    "oom_score_adj": ({"oom_score_adj": 500}, {"oom_score_adj": 500}),
    "sigmask": ({"sigmask": ["USR1", "RTMIN+1"]}, {"SigBlk": f"{1 << 9 | 1 << 34:016x}"}),
    "sigignore": ({"sigignore": ["TERM", signal.SIGUSR2]}, {"SigIgn": f"{1 << 14 | 1 << 11:016x}"}),
    "restore_signals": ({"restore_signals": False}, {"SigIgn": f"{1 << 12 | 1 << 24:016x}"}),
    "sigdefault": ({"restore_signals": False, "sigdefault": ["PIPE"]}, {"SigIgn": f"{1 << 24:016x}"}),
    "pdeathsig": ({"pdeathsig": "USR1"}, {"pdeathsig": 10}),
    "die_with_parent": ({"die_with_parent": True}, {"pdeathsig": 9}),
    "subreaper": ({"subreaper": True}, {"subreaper": 1}),
    "no_new_privs": ({"no_new_privs": True}, {"NoNewPrivs": "1"}),
    "timer_slack_ns": ({"timer_slack_ns": 12345}, {"timer_slack_ns": 12345}),
    "cwd": ({"cwd": "/usr"}, {"cwd": "/usr"}),
    "cwd-bytes": ({"cwd": b"/usr/bin/.."}, {"cwd": "/usr"}),
    "many": (
        {
            "umask": 0o077,
            "nice": 3,
            "affinity": {0},
            "rlimits": {"CORE": 0},
            "oom_score_adj": 100,
            "no_new_privs": True,
            "timer_slack_ns": 1000,
            "cwd": "/",
            "pdeathsig": "KILL",
            "subreaper": True,
            "sigmask": ["HUP"],
        },
        {
            "umask": 0o077,
            "nice": 3,
            "affinity": [0],
            "rlimits": limits_with(CORE=(0, 0)),
            "oom_score_adj": 100,
            "NoNewPrivs": "1",
            "timer_slack_ns": 1000,
            "cwd": "/",
            "pdeathsig": 9,
            "subreaper": 1,
            "SigBlk": f"{1:016x}",
        },
    ),
}

PRIVILEGED_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nice-negative": ({"nice": -5}, {"nice": -5}),
    "ionice-realtime": ({"ionice": ("realtime", 1)}, {"ionice": 1 << 13 | 1}),
    # Under a real-time policy the kernel has no timer slack.
    "scheduler-rr": ({"scheduler": ("rr", 1)}, {"scheduler": [2, 1], "timer_slack_ns": 0}),
    "scheduler-fifo": ({"scheduler": ("fifo", 2)}, {"scheduler": [1, 2], "timer_slack_ns": 0}),
    "oom_score_adj-negative": ({"oom_score_adj": -500}, {"oom_score_adj": -500}),
}


def ignored(probed: Probed) -> set[int]:
    """Return the ignored signals, without the C library's own two.

    glibc's posix_spawn leaves 32 ignored in its children: in ours where it is forced, and in this very process and all
    that it starts, where it was started so itself, as by make.
    """
    return probed.signals("SigIgn") - {32, 33}


def has_sys_resource() -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 24 & 1)


def record(probed: Probed) -> dict[str, Any]:
    found = {name: value for name, value in probed.fields.items() if name not in VOLATILE}
    found["SigIgn"] = f"{sum(1 << (number - 1) for number in ignored(probed)):016x}"
    return found


def options_or_refusal(mechanism: str, probe: Probe, options: dict[str, Any]) -> Probed | None:
    """Run the probe with options; None where posix_spawn refused, which it may only do for what it cannot."""
    try:
        probed = probe(**options)
    except fastproc.SpawnError as error:
        if mechanism != "posix_spawn" or POSIX_SPAWN_CAN.issuperset(options):
            raise
        assert (error.stage, error.errno) == ("mechanism", 95)
        return None
    assert mechanism != "posix_spawn" or POSIX_SPAWN_CAN.issuperset(options)
    return probed


def assert_only(mechanism: str, probe: Probe, options: dict[str, Any], changes: dict[str, Any]) -> None:
    probed = options_or_refusal(mechanism, probe, options)
    if probed is not None:
        assert record(probed) == record(probe()) | changes


@pytest.mark.parametrize("case", CASES)
def test_option_changes_what_it_says_and_nothing_else(mechanism: str, engine: str, probe: Probe, case: str) -> None:
    """The child's record differs from that of a plain child in the option's fields alone."""
    assert_only(mechanism, probe, *CASES[case])


@pytest.mark.privileged
@pytest.mark.parametrize("case", PRIVILEGED_CASES)
def test_privileged_option_changes_what_it_says(mechanism: str, probe: Probe, case: str) -> None:
    """As above, for what needs privilege."""
    if case == "oom_score_adj-negative" and not has_sys_resource():
        pytest.skip("no CAP_SYS_RESOURCE")
    assert_only(mechanism, probe, *PRIVILEGED_CASES[case])


def test_plain_child_gets_a_clean_state(mechanism: str, engine: str, probe: Probe) -> None:
    """Without options: empty mask, nothing ignored, the parent's directory, group, session, limits and identity."""
    probed = probe("a")
    assert {
        "SigBlk": probed.signals("SigBlk"),
        "SigIgn": ignored(probed),
        "cwd": probed.cwd,
        "ppid": probed.ppid,
        "pgid": probed.pgid,
        "sid": probed.sid,
        "Uid": probed.ids("Uid"),
        "Gid": probed.ids("Gid"),
        "Groups": probed.ids("Groups"),
        "rlimits": probed.rlimits,
        "affinity": probed.affinity,
        "nice": probed.nice,
        "pdeathsig": probed.pdeathsig,
        "argv": probed.argv_bytes[1:],
        "env": probed.env_bytes,
    } == {
        "SigBlk": set(),
        "SigIgn": set(),
        "cwd": os.getcwd(),
        "ppid": os.getpid(),
        "pgid": os.getpgrp(),
        "sid": os.getsid(0),
        "Uid": [*list(os.getresuid()), os.geteuid()],
        "Gid": [*list(os.getresgid()), os.getegid()],
        "Groups": sorted(os.getgroups()),
        "rlimits": limits_with(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "pdeathsig": 0,
        "argv": [b"a"],
        "env": dict(os.environb),
    }


def test_setsid_makes_a_session_leader(mechanism: str, probe: Probe) -> None:
    """The child leads its session and group and has no controlling terminal."""
    probed = probe(setsid=True)
    assert (probed.sid, probed.pgid, probed.tty) == (probed.pid, probed.pid, 0)


def test_pgid_zero_makes_a_group_leader(mechanism: str, probe: Probe) -> None:
    """pgid=0 is a group of the child's own, in the same session."""
    probed = probe(pgid=0)
    assert (probed.pgid, probed.sid) == (probed.pid, os.getsid(0))


def test_pgid_joins_a_group(mechanism: str, probe: Probe) -> None:
    """A pgid is joined."""
    with fastproc.start("sleep", "60", pgid=0) as leader:
        assert probe(pgid=leader.pid).pgid == leader.pid


def test_pgid_of_a_stranger_fails(mechanism: str, probe: Probe) -> None:
    """A group of another session is refused by the kernel with EPERM, and the stage says so."""
    with pytest.raises(PermissionError) as caught:
        probe(pgid=1)
    assert isinstance(caught.value, fastproc.SpawnError)
    assert caught.value.stage == ("setpgid" if mechanism != "posix_spawn" else "exec")


def test_cwd_by_descriptor(mechanism: str, probe: Probe, tmp_path: Path) -> None:
    """A directory's descriptor is entered, and is not open in the child."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        probed = probe(cwd=fd)
    finally:
        os.close(fd)
    assert (probed.cwd_bytes, set(probed.fd_ids)) == (os.fsencode(tmp_path), {0, 1, 2})


def test_cwd_of_a_relative_program(mechanism: str, programs: Programs, tmp_path: Path) -> None:
    """GOTCHAS F10: a relative program is looked for in the new directory, as execve(2) does."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "here").symlink_to(programs.static_exit)
    assert fastproc.run("./here", "0", cwd=tmp_path / "sub").returncode == 0
    with pytest.raises(FileNotFoundError):
        fastproc.run("./here", "0", cwd=tmp_path)


def deleted_cwd(probe_path: str, folder: str, mechanism: str) -> str:
    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    os.chdir(folder)
    os.rmdir(folder)
    return str(Probed(fastproc.run(probe_path, capture=True).stdout).cwd)


def test_deleted_cwd_is_no_obstacle(mechanism: str, programs: Programs, tmp_path: Path) -> None:
    """GOTCHAS F11: nothing asks for the parent's directory by name."""
    folder = tmp_path / "gone"
    folder.mkdir()
    assert isolated(deleted_cwd, programs.probe, str(folder), mechanism) == "(deleted)"


def test_argv0_replaces_only_the_name(mechanism: str, engine: str, probe: Probe) -> None:
    """argv0 is what the program sees as its own name; the file is the same."""
    probed = probe("x", argv0="-login")
    assert probed.argv_bytes == [b"-login", b"x"]


def test_env_replaces_all(mechanism: str, engine: str, probe: Probe) -> None:
    """env= is the whole environment."""
    assert probe(env={"A": "1", "B": b"\xff"}).env_bytes == {b"A": b"1", b"B": b"\xff"}


def test_env_add_and_remove_edit_the_parents(
    mechanism: str, engine: str, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """env_add and env_remove start from the environment of now."""
    monkeypatch.setenv("FASTPROC_A", "old")
    monkeypatch.setenv("FASTPROC_B", "old")
    expected = dict(os.environb)
    del expected[b"FASTPROC_B"]
    expected |= {b"FASTPROC_A": b"new=1", b"FASTPROC_C": b""}
    got = probe(env_add={"FASTPROC_A": "new=1", "FASTPROC_C": ""}, env_remove=["FASTPROC_B"]).env_bytes
    assert got == expected


def test_sigmask_keep_hands_on_the_callers_mask(mechanism: str, probe: Probe) -> None:
    """sigmask="keep" is the calling thread's mask, without the block that the spawn itself needs."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        kept, cleared = probe(sigmask="keep"), probe()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    assert (kept.signals("SigBlk"), cleared.signals("SigBlk")) == ({10, 15}, set())


def test_blocked_term_does_not_make_the_child_deaf(mechanism: str) -> None:
    """GOTCHAS A4: a caller that blocks SIGTERM can still terminate its children."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = fastproc.start("sleep", "60")
        child.terminate()
        assert child.wait(5) == -signal.SIGTERM
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_handled_signals_are_default_in_the_child(mechanism: str, probe: Probe) -> None:
    """GOTCHAS A1: a signal with a handler is at its default, never ignored, in the new program."""
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        probed = probe()
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert (ignored(probed), probed.signals("SigCgt")) == (set(), set())


def test_sigchld_is_never_ignored_in_the_child(mechanism: str, programs: Programs) -> None:
    """GOTCHAS A5: a parent that ignores SIGCHLD does not break its children's own waiting."""
    assert isolated(child_of_ignorer, mechanism) == [3, "7"]


def child_of_ignorer(mechanism: str) -> list[Any]:
    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        code = fastproc.run("sh", "-c", "(exit 3); exit $?", check=False).returncode
    except fastproc.ExitStatusUnknown:
        code = 3 if mechanism == "posix_spawn" or not _native.features()["pidfd_info"] else -1
    script = "import subprocess, sys; sys.stdout.write(str(subprocess.call(['sh', '-c', 'exit 7'])))"
    import sys

    child = fastproc.start(sys.executable, "-c", script, stdout=fastproc.PIPE)
    assert child.stdout is not None
    text = child.stdout.read().decode()
    child.stdout.close()
    try:
        child.wait()
    except fastproc.ExitStatusUnknown:
        pass
    return [code, text]


def test_sigpipe_ends_the_writer_of_a_closed_pipe(mechanism: str) -> None:
    """GOTCHAS A3: Python ignores SIGPIPE; its children do not."""
    with fastproc.start("yes", stdout=fastproc.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(2) == b"y\n"
        child.stdout.close()
        assert child.wait(5) == -signal.SIGPIPE


def test_interval_timer_does_not_reach_the_child(mechanism: str, programs: Programs) -> None:
    """GOTCHAS A7: timers are not inherited by a new process."""
    assert isolated(with_timer, programs.hostile, mechanism) == 0


def with_timer(hostile: str, mechanism: str) -> int:
    import ctypes

    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    signal.signal(signal.SIGALRM, lambda *_: None)
    ctypes.CDLL(hostile).hostile_itimer_ms(30)
    return fastproc.run("sleep", "0.1", check=False).returncode


@pytest.mark.parametrize("options", [{"pdeathsig": "TERM"}, {"die_with_parent": True}])
def test_death_signal_of_a_thread_is_refused_where_it_may_end_first(options: dict[str, Any], engine: str) -> None:
    """GOTCHAS G19: the kernel watches the thread that made the child. One that waits in run() cannot end before it."""
    import threading

    caught: list[object] = []

    def target() -> None:
        try:
            fastproc.start("true", **options)
        except ValueError as error:
            caught.append(str(error).startswith("pdeathsig, die_with_parent: only from the main thread"))
        caught.append(fastproc.run("true", **options).returncode)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert caught == [True, 0]


def parent_of(marker: str, mechanism: str) -> None:
    """Start a child that dies with its parent, say its number, and wait to be killed."""
    import sys

    from fastproc import _native

    _native.force(mechanism)
    child = fastproc.start("sleep", "60", die_with_parent=True)
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    child.wait()


def test_child_dies_with_its_parent(mechanism: str) -> None:
    """Also when the parent is killed and can do nothing about it."""
    import sys

    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_child_setup as t; t.parent_of('', sys.argv[2])"
    if mechanism == "posix_spawn":
        pytest.skip("posix_spawn has no such option")
    folder = str(Path(__file__).parent)
    with fastproc.start(
        sys.executable, "-c", code, folder, mechanism, stdout=fastproc.PIPE, env_add={"PYTHONPATH": str(ROOT / "tests")}
    ) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        with select.epoll() as poller:
            poller.register(pidfd, select.EPOLLIN)
            assert poller.poll(5) != []
        os.close(pidfd)


FAILING: dict[str, tuple[dict[str, Any], str, tuple[int, ...]]] = {
    "rlimit": ({"rlimits": {"CORE": 0, "NOFILE": (10, 2**40)}}, "rlimits", (1, 22)),
    "resource": ({"rlimits": {31: 5}}, "rlimits", (22,)),
    "affinity": ({"affinity": [1000]}, "affinity", (22,)),
    "ctty": ({"setsid": True, "ctty": 2, "stderr": "/dev/null"}, "ctty", (25,)),
    "foreground": ({"foreground": True, "pgid": 0, "stdin": "/dev/null"}, "foreground", (25,)),
    "fd": ({"fds": {3_000_000: 2}}, "fds", (9,)),
}


@pytest.mark.parametrize("case", FAILING)
def test_refused_option_names_its_stage(mechanism: str, probe: Probe, case: str) -> None:
    """GOTCHAS B7: what the kernel refuses is told with its stage and errno, and no child is left."""
    options, stage, errnos = FAILING[case]
    with pytest.raises(fastproc.SpawnError) as caught:
        probe(**options)
    if mechanism == "posix_spawn":
        assert caught.value.stage in ("mechanism", "exec", "fds")
        return
    assert caught.value.stage == stage
    assert caught.value.errno in errnos


def terminal_child(probe_path: str, mechanism: str) -> dict[str, Any]:
    import pty

    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    master, slave = pty.openpty()
    log = os.memfd_create("log")
    try:
        child = fastproc.start(
            probe_path,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            setsid=True,
            ctty=slave,
            foreground=True,
            fds={9: log},
            env_add={"PROBE_FD": "9"},
        )
    except fastproc.SpawnError as error:
        return {"stage": error.stage}
    code = child.wait(10)
    probed = Probed(os.pread(log, 100_000, 0))
    return {
        "code": code,
        "tty": probed.tty == _tty_number(slave),
        "foreground": probed.foreground == probed.pid,
        "leader": probed.sid == probed.pid,
        "fds": sorted(probed.fd_ids),
        "master": os.isatty(master),
    }


def _tty_number(fd: int) -> int:
    device = os.fstat(fd).st_rdev
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)  # proc_pid_stat(5), field 7


def test_controlling_terminal_and_foreground(mechanism: str, programs: Programs) -> None:
    """Ctty and foreground give the child the terminal, as a login shell has it."""
    expected: dict[str, Any] = {
        "code": 0,
        "tty": True,
        "foreground": True,
        "leader": True,
        "fds": [0, 1, 2, 9],
        "master": True,
    }
    if mechanism == "posix_spawn":
        expected = {"stage": "mechanism"}
    assert isolated(terminal_child, programs.probe, mechanism) == expected


def from_background(probe_path: str, mechanism: str) -> list[Any]:
    import fcntl
    import pty
    import termios

    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    os.setsid()
    _, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    found: list[Any] = []
    others: list[fastproc.Process] = []
    has_it = os.getpgrp()
    for _ in range(2):
        for run in (lambda *args, **options: fastproc.start(*args, **options).wait(10), fastproc.run):
            log = os.memfd_create("log")
            code = run(probe_path, stdin=slave, pgid=0, foreground=True, fds={9: log}, env_add={"PROBE_FD": "9"})
            probed = Probed(os.pread(log, 100_000, 0))
            given_back = os.tcgetpgrp(slave) == has_it
            found.append([getattr(code, "returncode", code), probed.foreground == probed.pid, given_back])
        # From now on this process is in the background itself.
        others.append(fastproc.start("sleep", "60", stdin=slave, pgid=0, foreground=True))
        has_it = others[-1].pid
    for other in reversed(others):
        other.stop(0)
    found.append(os.tcgetpgrp(slave) == os.getpgrp())
    return found


def test_foreground_from_the_background_does_not_stop(mechanism: str, programs: Programs) -> None:
    """GOTCHAS A6: SIGTTOU is blocked when the terminal is taken, else spawn would hang; and when it is given back."""
    if mechanism == "posix_spawn":
        pytest.skip("posix_spawn has no such option")
    assert isolated(from_background, programs.probe, mechanism) == [*[[0, True, True]] * 4, True]


def test_soft_limit_raised_in_the_parent(mechanism: str, programs: Programs) -> None:
    """GOTCHAS C13: fastproc never raises RLIMIT_NOFILE itself; an option resets it for programs that use select()."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        output = fastproc.run("sh", "-c", "ulimit -n", capture=True, rlimits={"NOFILE": (512, before[1])}).stdout
    except fastproc.SpawnError as error:
        assert (mechanism, error.stage) == ("posix_spawn", "mechanism")
    else:
        assert output == b"512\n"
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
