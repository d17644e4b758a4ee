"""kill_tree: a whole tree ends, by every way of finding it, whatever its processes do to get away."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated, wait_until
from fastproc import PIPE, containment
from fastproc._engine import signal_api as killable
from fastproc.containment._cgroup import Cgroup, remove_left
from fastproc.containment._member import Member, facts_of
from support import observe
from support.programs import Programs

FAMILY = """
echo $$
sh -c 'echo $$; exec sleep 60' &
setsid sh -c 'echo $$; exec sleep 60' &
(setsid sh -c 'echo $$; sleep 60 & exec sleep 60' &)
(sh -c 'trap "" TERM; echo $$; while :; do sleep 60; done' &)
"""
"""A child, one in a session of its own, an orphan in one with a child, an orphan that ignores SIGTERM."""
FAMILY_SIZE = 5


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    facts = facts_of(pid)
    return facts is not None and not facts.ended


def leftovers(folder: Path) -> list[str]:
    """The cgroups that this process has left there."""
    return [name for name in os.listdir(folder) if name.startswith(f"fastproc-{os.getpid()}-")]


@pytest.fixture(params=["cgroup", "cgroup without cgroup.kill", "mark"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each way in which a contained tree is found and killed."""
    name: str = request.param
    if name == "mark":
        monkeypatch.setattr(Cgroup, "make", lambda _parent: None)
        yield "mark"
        return
    trial = Cgroup.make(-1)
    if trial is None:
        pytest.skip("no cgroup v2 can be made here")
    folder = Path(os.readlink(f"/proc/self/fd/{trial.fd.number}")).parent
    trial.remove()
    trial.fd.close()
    if name != "cgroup":
        write = Cgroup.write
        monkeypatch.setattr(Cgroup, "write", lambda self, file, text: file != "cgroup.kill" and write(self, file, text))
    yield "cgroup"
    # Those of dropped handles: the next start does this, and the end of the interpreter.
    remove_left()
    assert leftovers(folder) == []


class Family:
    """The members of a started FAMILY, by pidfd-checked number."""

    def __init__(self, lines: Callable[[], bytes]) -> None:
        self.pids = [int(lines()) for _ in range(FAMILY_SIZE)]
        assert all(runs(pid) for pid in self.pids)

    def is_gone(self) -> bool:
        return not any(runs(pid) for pid in self.pids)


def started(**options: Any) -> tuple[fastproc.Process, Family]:
    options.setdefault("kill_tree", True)
    process = fastproc.start("sh", "-c", FAMILY + "wait", stdout=PIPE, **options)
    assert process.stdout is not None
    return process, Family(process.stdout.readline)


@pytest.mark.parametrize("grace", [0.2, 0])
def test_kill_tree_ends_all_of_them(way: str, grace: float) -> None:
    """Children, other sessions, orphans, those that ignore SIGTERM; nothing is there afterwards, and it says so."""
    process, family = started()
    with process:
        end = process.kill_tree(grace)
        assert (end.gone, end.survivors, family.is_gone()) == (True, (), True)
        assert end.found_by[0] == way
        assert end.killed
        assert process.returncode is not None
        assert process.kill_tree(grace).gone


def test_leaving_the_block_ends_the_tree(way: str) -> None:
    """Also when the program itself has ended before, and its orphans go on."""
    process, family = started()
    with process:
        pass
    assert family.is_gone()
    process = fastproc.start("sh", "-c", FAMILY + "read x || exit 0", stdin=PIPE, stdout=PIPE, kill_tree=True)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        family = Family(process.stdout.readline)
        process.stdin.close()
        assert process.wait(5) == 0
        assert not family.is_gone()
    assert family.is_gone()


def test_detached_tree_lives_on(way: str) -> None:
    """Detach means the tree too; its cgroup is removed once it is empty."""
    process, family = started()
    with process:
        process.detach()
    assert all(runs(pid) for pid in family.pids)
    process.kill_tree(0)
    assert family.is_gone()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("ended_by", ["timeout", "idle_timeout", "limit", "interrupt", "itself"])
def test_run_leaves_nothing_of_its_tree(way: str, ended_by: str) -> None:
    """Whatever ends a run with kill_tree=True ends all; what was read is kept."""
    options: dict[str, Any] = {"capture": True, "kill_tree": True, "grace": 0.1, "drain_timeout": 0.1}
    script = FAMILY + "wait"
    expected: type[BaseException] = fastproc.TimeoutExpired
    if ended_by == "limit":
        options["stdout_limit"] = fastproc.CaptureLimit(head=1000, over="raise")
        script = FAMILY + "sleep 0.3; yes"
        expected = fastproc.OutputTooLarge
    elif ended_by == "interrupt":
        expected = KeyboardInterrupt
    elif ended_by == "itself":
        script = FAMILY + "sleep 0.3"
    else:
        options[ended_by] = 0.4
    if ended_by == "interrupt":
        old = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.4)
    begin = time.monotonic()
    try:
        if ended_by == "itself":
            result = fastproc.run("sh", "-c", script, **options)
            assert result.pipes_still_open
        else:
            with pytest.raises(expected) as caught:
                fastproc.run("sh", "-c", script, **options)
            result = caught.value.result  # type: ignore[attr-defined]
    finally:
        if ended_by == "interrupt":
            signal.signal(signal.SIGALRM, old)
    assert time.monotonic() - begin < 2
    lines = result.stdout.split(b"\n")
    assert len(lines) >= FAMILY_SIZE
    assert not any(runs(int(line)) for line in lines[:FAMILY_SIZE])
    assert result.survivors == ()


def test_child_alone_costs_the_tree_nothing(way: str) -> None:
    """A run without descendants is like any other; what the option changes is seen by the child."""
    result = fastproc.run("sh", "-c", "ps -o pgid= -p $$; env", capture=True, kill_tree=True, env={"A": "1"})
    lines = result.lines()
    assert int(lines[0]) == result.pid
    marks = [line for line in lines if line.startswith(containment.MARK)]
    assert len(marks) == (way == "mark")
    assert result.survivors == ()


def test_failed_spawn_leaves_no_cgroup(way: str) -> None:
    """And says what is wrong, as ever."""
    with pytest.raises(FileNotFoundError):
        fastproc.run("/nosuch/program", kill_tree=True)
    with pytest.raises(FileNotFoundError):
        fastproc.start("/nosuch/program", kill_tree=True)


def test_containment_over_each_mechanism(way: str, mechanism: str) -> None:
    """What a mechanism cannot do is done without, down to the mark alone."""
    process, family = started()
    with process:
        end = process.kill_tree(0)
        assert (end.gone, family.is_gone()) == (True, True)
        assert end.found_by[0] == ("mark" if mechanism == "posix_spawn" else way)
        assert process.mechanism == mechanism


def test_trees_within_trees(way: str) -> None:
    """An outer tree has the inner ones; an inner one ends without the outer."""
    inner = (
        "import fastproc, sys\n"
        "p = fastproc.start('sh', '-c', '(setsid sleep 60 & echo $!); exec sleep 60', stdout=-1, kill_tree=True)\n"
        "print(p.pid, int(p.stdout.readline()), flush=True)\n"
        "sys.stdin.read(1)\n"
        "assert p.kill_tree(0).gone\n"
        "p = fastproc.start('sh', '-c', '(setsid sleep 60 & echo $!); exec sleep 60', stdout=-1, kill_tree=True)\n"
        "print(p.pid, int(p.stdout.readline()), flush=True)\n"
        "sys.stdin.read(1)\n"
    )
    with fastproc.start(sys.executable, "-c", inner, stdin=PIPE, stdout=PIPE, kill_tree=True) as outer:
        assert outer.stdout is not None
        assert outer.stdin is not None
        first = [int(word) for word in outer.stdout.readline().split()]
        outer.stdin.write(b"x")
        outer.stdin.flush()
        second = [int(word) for word in outer.stdout.readline().split()]
        assert [runs(pid) for pid in (*first, *second)] == [False, False, True, True]
        assert outer.kill_tree(0).gone
        assert not any(runs(pid) for pid in second)


@pytest.mark.slow
@pytest.mark.parametrize("by_cgroup", [True, False], ids=["cgroup", "mark"])
def test_fork_bomb_is_overtaken(by_cgroup: bool, programs: Programs, pid_namespace: None) -> None:
    """Processes that fork faster than they are counted, in sessions of their own: nobody is left."""
    found = isolated(against_a_bomb, programs.bomb, by_cgroup, pid_namespace=True)
    assert found == {"left": 0, "survivors": []}


def against_a_bomb(bomb: str, by_cgroup: bool) -> dict[str, Any]:
    """In a PID namespace of its own, where nothing else runs."""
    if not by_cgroup:
        Cgroup.make = lambda _parent: None  # type: ignore[method-assign, assignment]
    with fastproc.start(bomb, "2000", "100", stdout=PIPE, kill_tree=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        end = process.kill_tree(0)
    others = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) > 1]
    return {
        "left": sum(runs(pid) for pid in others if pid not in (os.getpid(), os.getppid())),
        "survivors": [repr(survivor) for survivor in end.survivors],
    }


def test_plain_process_is_found_by_group_and_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    """kill_tree() of a command without the option: what has left both its parent and its group gets away."""
    for options, caught in (({"pgid": 0}, 3), ({"setsid": True}, 3), ({}, 2)):
        script = "sh -c 'echo $$; exec sleep 60' & setsid sh -c 'echo $$; exec sleep 60' & "
        script += "(sh -c 'echo $$; exec sleep 60' &); wait"
        with fastproc.start("sh", "-c", script, stdout=PIPE, **options) as process:  # type: ignore[arg-type]
            assert process.stdout is not None
            pids = [int(process.stdout.readline()) for _ in range(3)]
            end = process.kill_tree(0)
            assert end.survivors == ()
            assert end.found_by == (("group", "parents") if options else ("parents",))
            left = [pid for pid in pids if runs(pid)]
            assert len(left) == 3 - caught
            for pid in left:
                member = Member(pid)
                member.send(signal.SIGKILL)
                wait_until(lambda pid=pid: not runs(pid))  # type: ignore[misc]
                member.close()


def test_own_children_and_group_are_spared() -> None:
    """Without a group of its own a child's tree is not that of its parent; other children are nobody's business."""
    with fastproc.start("sleep", "60") as other, fastproc.start("sh", "-c", "sleep 60 & wait") as process:
        assert process.kill_tree(0).gone
        assert other.poll() is None


def test_survivors_are_named(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot be killed is in the result, and not taken for gone."""
    monkeypatch.setattr(killable, "TREE_PATIENCE", 0.1)
    process = fastproc.start("sh", "-c", "sleep 60 & echo $!; wait", stdout=PIPE, kill_tree=True)
    with process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        with monkeypatch.context() as patch:
            patch.setattr(Member, "send", lambda self, _sig: setattr(self, "refused", True))
            patch.setattr(Cgroup, "write", lambda *_args: False)
            end = process.kill_tree(0)
        assert not end.gone
        assert [(survivor.pid, survivor.name) for survivor in end.survivors if survivor.pid == pid] == [(pid, "sleep")]
        assert "runs as another user" in end.survivors[0].why or "killed, and not gone" in end.survivors[0].why
        assert pickle.loads(pickle.dumps(end.survivors)) == end.survivors
        assert process.kill_tree(0).gone
    assert not runs(pid)


def test_orphans_come_to_a_subreaper_and_are_reaped() -> None:
    """kill_tree() takes those of its tree out of the process table, and nobody else's."""
    assert isolated(as_subreaper) == {"was": False, "is": True, "children": 0, "other": 7, "off": True}


def as_subreaper() -> dict[str, Any]:
    """Orphans of a contained tree, beside a child of the standard library whose status must stay."""
    import subprocess

    Cgroup.make = lambda _parent: None  # type: ignore[method-assign, assignment]
    was = containment.subreaper(True)
    other = subprocess.Popen(["sh", "-c", "exit 7"])
    process = fastproc.start("sh", "-c", FAMILY, stdout=PIPE, kill_tree=True)
    with process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(FAMILY_SIZE)]
        process.wait()
        orphans = observe.children() & set(pids)
        assert orphans, "nobody came to us"
        assert process.kill_tree(0).gone
    left = observe.children() - {other.pid}
    return {
        "was": was,
        "is": containment.subreaper(),
        "children": len(left & set(pids)),
        "other": other.wait(),
        "off": containment.subreaper(False),
    }


def test_handle_in_a_forked_copy_kills_nothing(way: str) -> None:
    """A copy may leave the block, drop the handle, and ask for the end of the tree: nothing happens."""
    process, family = started()
    with process:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with process:
                    process.signal_tree(signal.SIGKILL)
            except fastproc.ProcessError:
                code = 0
            process.__exit__(None, None, None)
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert all(runs(member) for member in family.pids)
        process.kill_tree(0)
    assert family.is_gone()


def test_no_descriptors_left_for_pidfds() -> None:
    """Under a limit of descriptors those that are known are killed to make room; all end."""
    assert isolated(with_few_descriptors) == [True, 0]


def with_few_descriptors() -> list[Any]:
    import resource

    Cgroup.make = lambda _parent: None  # type: ignore[method-assign, assignment]
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do setsid sleep 60 & done; echo go; wait"
    with fastproc.start("sh", "-c", script, stdout=PIPE, kill_tree=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 6, 4096))
        tree = {pid for pid in before if (facts := facts_of(pid)) and facts.ppid == process.pid}
        end = process.kill_tree(0)
    return [end.gone and len(tree) == 20, sum(runs(pid) for pid in tree)]
