"""Families: children by the kernel's own lists and by a scan, trees of one snapshot, their picture beside pstree's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import isolated, wait_until
from fastproc.info import children, snapshot, thread_names, tree
from fastproc.info._tree import Tree

STAT = "{0} ({2}) S {1} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4200 8192 100 99 1 2 3 4 5 6 7 8 9 1 0 0 17 1 0 0\n"
FAMILY = (
    "sleep 60 & sleep 60 & (sleep 60 & sleep 60; true) & (sleep 60; true) & (sleep 60; true) & "
    "((sleep 60; true); true) & echo ready; wait"
)
FORK_IN_THREAD = """
import os, sys, threading
def work():
    pid = os.fork()
    if pid == 0:
        sys.stdin.read()
        os._exit(0)
    print(pid, flush=True)
    sys.stdin.read()
    os.waitpid(pid, 0)
thread = threading.Thread(target=work, name="other")
thread.start()
thread.join()
"""


@pytest.fixture
def family() -> Iterator[int]:
    """A shell with children and grandchildren, in a session of their own, all of which end with the test."""
    with subprocess.Popen(["bash", "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdout
        shell.stdout.readline()
        wait_until(lambda: [one.comm for one in snapshot(("comm",), children(shell.pid, True))].count("sleep") == 7)
        members = [psutil.Process(pid) for pid in children(shell.pid, True)]
        yield shell.pid
        for one in (psutil.Process(shell.pid), *members):
            one.kill()


def made(root: Path, rows: dict[int, tuple[int, str]]) -> Path:
    """A folder like /proc: pid -> (parent, name)."""
    for pid, (parent, name) in rows.items():
        (root / str(pid)).mkdir()
        (root / str(pid) / "stat").write_text(STAT.format(pid, parent, name))
    return root


# -- children


def test_children_are_psutils(family: int) -> None:
    """The same pids, near and far, for a leaf, a shell and its shell."""
    for pid in (family, *children(family, True)):
        process = psutil.Process(pid)
        assert sorted(children(pid)) == sorted(one.pid for one in process.children())
        assert sorted(children(pid, True)) == sorted(one.pid for one in process.children(recursive=True))


def test_children_come_in_the_order_of_birth_and_behind_their_parents(family: int) -> None:
    """Of pids that do not wrap within a test."""
    direct = children(family)
    assert direct == sorted(direct)
    seen = {family}
    table = snapshot(("pid", "ppid"), children(family, True))
    parents = dict(zip(table.pids, table.values("ppid"), strict=True))
    for pid in children(family, True):
        assert parents[pid] in seen
        seen.add(pid)


def test_children_of_a_thread_are_its_process_s() -> None:
    """One that another thread than the first has forked stands in that thread's list."""
    command = [sys.executable, "-c", FORK_IN_THREAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert children(parent.pid) == [child]
        assert children(child) == []
        parent.communicate()


def test_zombies_are_children_too() -> None:
    """Until they are waited for."""
    child = subprocess.Popen(["true"])
    wait_until(lambda: snapshot(("state",), [child.pid])[0].state == "Z")
    assert child.pid in children(os.getpid())
    child.wait()
    assert child.pid not in children(os.getpid())


def test_nobody_has_no_children() -> None:
    """A process that is not there is told apart from one without children."""
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(ProcessLookupError):
        children(child.pid)


@pytest.mark.parametrize("pid", [0, -1, "1", None])
def test_children_of_what_is_no_pid(pid: Any) -> None:
    """Refused by name."""
    with pytest.raises((TypeError, ValueError), match="pids:"):
        children(pid)


def test_children_without_the_kernel_s_lists_are_found_by_a_scan(tmp_path: Path) -> None:
    """CONFIG_PROC_CHILDREN is missing: task/TID is there, and has no such file."""
    made(tmp_path, {1: (0, "a"), 2: (1, "b"), 3: (2, "c"), 4: (1, "d"), 5: (9, "e")})
    for pid in (1, 2, 3, 4, 5):
        (tmp_path / str(pid) / "task" / str(pid)).mkdir(parents=True)
    assert children(1, root=tmp_path) == [2, 4]
    assert children(1, recursive=True, root=tmp_path) == [2, 4, 3]
    assert children(3, recursive=True, root=tmp_path) == []
    (tmp_path / "1" / "task" / "1" / "children").write_text("4 ")
    assert children(1, root=tmp_path) == [4]


def _many(count: int) -> list[Any]:
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            import signal

            signal.pause()
        pids.append(pid)
    return [children(os.getpid()) == pids, len(children(1, True)) >= count]


def test_many_children_are_all_told(pid_namespace: None) -> None:
    """More than one reading and the first buffer hold."""
    assert isolated(_many, 1500, pid_namespace=True) == [True, True]


# -- trees


def test_tree_knows_parents_and_children(tmp_path: Path) -> None:
    """From one table; who has no parent in it is a root."""
    rows = {1: (0, "init"), 2: (0, "kthreadd"), 10: (1, "a"), 11: (10, "b"), 12: (10, "c"), 13: (11, "d")}
    rows[20] = (19, "x")
    found = tree(root=made(tmp_path, rows))
    assert found.roots == [1, 2, 20]
    assert found.children(10) == [11, 12]
    assert found.children(1, recursive=True) == [10, 11, 13, 12]
    assert found.parents(13) == [11, 10, 1]
    assert (found.parent(13), found.parent(1)) == (11, None)
    assert (13 in found, 99 in found) == (True, False)
    assert found.record(13).comm == "d"
    assert list(found.walk(2)) == [2]


def test_tree_of_a_circle_is_cut(tmp_path: Path) -> None:
    """Rows are read one after the other: a pid that was given anew meanwhile may be its grandchild's child."""
    found = tree(root=made(tmp_path, {1: (0, "init"), 5: (7, "a"), 6: (5, "b"), 7: (6, "c"), 8: (8, "self")}))
    assert found.roots == [1, 8, 5]
    assert list(found.walk(5)) == [5, 6, 7]
    assert found.parents(7) == [6, 5]


def test_tree_deeper_than_pythons_stack(tmp_path: Path) -> None:
    """Nothing recurses."""
    found = tree(root=made(tmp_path, {pid: (pid - 1, "x") for pid in range(1, 3001)}))
    assert len(list(found.walk(1))) == 3000
    assert found.text() == "───".join(["x"] * 3000)
    assert found.text(width=20) == "x───x───x───x───x──+"


def whole(one: Any) -> str:
    """As pstree -a has it: the name, and the arguments."""
    return " ".join([one.comm, *one.cmdline[1:]])


OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    (["-T"], {}),
    (["-T", "-A"], {"ascii": True}),
    (["-T", "-n"], {"by_pid": True}),
    (["-T", "-c"], {"compact": False}),
    (["-T", "-p"], {"label": lambda one: f"{one.comm}({one.pid})"}),
    (["-T", "-a", "-n"], {"vertical": True, "by_pid": True, "label": lambda one: whole(one)}),
]


@pytest.mark.parametrize("given", range(len(OPTIONS)))
def test_picture_is_pstrees(family: int, given: int) -> None:
    """Letter for letter."""
    if shutil.which("pstree") is None:
        pytest.skip("no pstree")
    options, ours = OPTIONS[given]
    command = ["pstree", *options, "-l", *([] if "-A" in options else ["-U"]), str(family)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    theirs = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert tree(("comm", "cmdline")).text([family], **ours) + "\n" == theirs


def test_picture_with_threads_is_pstrees() -> None:
    """Threads are children in braces, equal ones counted."""
    if shutil.which("pstree") is None:
        pytest.skip("no pstree")
    start = "[threading.Thread(target=sys.stdin.read).start() for _ in range(3)]"
    code = f"import threading, sys; {start}; print(flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        names = thread_names(child.pid)
        command = ["pstree", "-U", "-l", str(child.pid)]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        theirs = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        assert tree().text([child.pid], threads={child.pid: names}) + "\n" == theirs
        assert len(names) == 3
        child.communicate()
    assert thread_names(child.pid) == []


def test_tree_needs_its_fields() -> None:
    """Said by name."""
    with pytest.raises(KeyError, match="'ppid' was not asked for"):
        Tree(snapshot(("pid",)))
