"""Placement in a cgroup v2: the child is there from its first instruction."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import cgroup_folder, wait_until
from fastproc import _native
from fastproc._engine import fds
from fastproc.containment import _cgroup
from fastproc.containment._cgroup import Cgroup
from support.programs import Probed, Programs

pytestmark = pytest.mark.privileged


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup v2 of the test's own."""
    with cgroup_folder() as folder:
        if folder is None:
            pytest.skip("no cgroup v2 that can be written to")
        yield folder


def placed(probed: Probed) -> str:
    """Return the path in the v2 hierarchy."""
    return str(next(line[3:] for line in probed.cgroup.split("\n") if line.startswith("0::")))


@pytest.mark.parametrize("as_fd", [False, True], ids=["path", "descriptor"])
def test_child_is_born_in_the_cgroup(
    mechanism: str, engine: str, probe: Callable[..., Probed], cgroup: Path, as_fd: bool
) -> None:
    """By path and by directory descriptor; the parent stays where it is, the child has no descriptor of it."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    before = Path("/proc/self/cgroup").read_text()
    try:
        probed = probe(cgroup=fd if as_fd else cgroup)
    except fastproc.SpawnError as error:
        assert (mechanism, error.stage) == ("posix_spawn", "mechanism")
        return
    finally:
        os.close(fd)
    assert mechanism != "posix_spawn"
    assert placed(probed).endswith(cgroup.name)
    assert set(probed.fd_ids) == {0, 1, 2}
    assert Path("/proc/self/cgroup").read_text() == before


def test_frozen_cgroup_is_refused_at_once(mechanism: str, programs: Programs, cgroup: Path) -> None:
    """GOTCHAS A16: a child born frozen would hold the spawning thread for ever."""
    if not (cgroup / "cgroup.freeze").exists():
        pytest.skip("no cgroup.freeze (before Linux 5.2)")
    (cgroup / "cgroup.freeze").write_text("1")
    begin = time.monotonic()
    try:
        with pytest.raises(fastproc.SpawnError) as caught:
            fastproc.run(programs.static_exit, cgroup=cgroup, timeout=2)
    finally:
        (cgroup / "cgroup.freeze").write_text("0")
    assert time.monotonic() - begin < 1
    assert caught.value.stage in ("cgroup", "mechanism")
    assert (cgroup / "cgroup.procs").read_text() == ""


def test_full_cgroup_is_refused(mechanism: str, programs: Programs, cgroup: Path) -> None:
    """A cgroup that takes no process (here: removed) is an error of stage cgroup or clone."""
    folder = cgroup / "gone"
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    folder.rmdir()
    try:
        with pytest.raises(fastproc.SpawnError) as caught:
            fastproc.run(programs.static_exit, cgroup=fd)
    finally:
        os.close(fd)
    assert caught.value.stage in ("cgroup", "clone", "mechanism")


def refused(place: object) -> tuple[int | None, str]:
    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run("true", cgroup=place)  # type: ignore[arg-type]
    assert caught.value.stage in ("cgroup", "clone")
    return caught.value.errno, str(caught.value)


@pytest.mark.parametrize("way", ["clone3_vm", "clone_vm"])
def test_what_is_no_cgroup_is_named(way: str, cgroup: Path, tmp_path: Path) -> None:
    """A directory, a file, a descriptor of something else or of nothing, version 1, a missing or removed one."""
    _native.features()
    _native.force(way)
    try:
        _, text = refused(tmp_path)
        assert f"{str(tmp_path)!r}: it is not a cgroup v2 directory (stage cgroup)" in text
        assert "bad file descriptor" not in text
        (tmp_path / "file").write_text("")
        assert refused(tmp_path / "file")[0] == errno.ENOTDIR
        number, text = refused(tmp_path / "missing")
        assert (number, str(tmp_path / "missing") in text) == (errno.ENOENT, True)
        for fd in os.pipe():
            assert f"'descriptor {fd}': it is not a cgroup v2 directory" in refused(fd)[1]
            os.close(fd)
            assert f"'descriptor {fd}': there is no such descriptor" in refused(fd)[1]
        old = Path("/sys/fs/cgroup/memory")
        if old.is_dir() and not (old / "cgroup.controllers").exists():
            assert "it is not a cgroup v2 directory" in refused(old)[1]
        folder = cgroup / "gone"
        folder.mkdir()
        fd = os.open(folder, os.O_RDONLY)
        folder.rmdir()
        assert "removed" in refused(fd)[1]
        os.close(fd)
        assert f"descriptor {fd}" in text or str(tmp_path) in text
    finally:
        _native.force("")


def test_nothing_is_made_where_there_is_no_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor tried: a tree's own cgroup is a directory of a cgroup v2 file system."""
    made: list[str] = []
    mkdir = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda path, *rest, **more: made.append(path) or mkdir(path, *rest, **more))
    fd = os.open(tmp_path, os.O_RDONLY)
    assert Cgroup.make(fd) is None
    os.close(fd)
    assert made == []


def test_many_threads_and_cgroups(cgroup: Path, programs: Programs) -> None:
    """Each child is in its own command's cgroup, whatever others ask for at the same time."""
    folders = [cgroup / str(number) for number in range(4)]
    wrong: list[str] = []
    for folder in folders:
        folder.mkdir()

    def work(folder: Path) -> None:
        for _ in range(20):
            result = fastproc.run(programs.probe, cgroup=folder, stdout=fastproc.PIPE)
            if not placed(Probed(result.stdout)).endswith(f"{cgroup.name}/{folder.name}"):
                wrong.append(folder.name)

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for folder in folders:
        folder.rmdir()
    assert wrong == []


# -- a tree's own cgroup, whose owner was killed

PREFIX = "fastproc-"

OWNER = """
import os, sys, time
from fastproc.containment._cgroup import Cgroup
made = Cgroup.make(int(sys.argv[1]))
if sys.argv[2] == "forked":
    if os.fork() == 0:
        print(made.name, flush=True)
        os.closerange(1, 3)
        os.read(0, 1)
        os._exit(0)
else:
    print(made.name, flush=True)
os.read(0, 1)
"""


@pytest.fixture
def place(cgroup: Path) -> Iterator[int]:
    """A descriptor of the cgroup in which trees' own are made."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


class Owner:
    """A process that has made a cgroup of its own."""

    def __init__(self, place: int, how: str = "", prefix: tuple[str, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-c", OWNER, str(place), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(place,),
            text=True,
        )
        assert self._process.stdout is not None
        self.name = self._process.stdout.readline().strip()

    def kill(self) -> None:
        """SIGKILL, which no destructor outlives."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End its copy."""
        self._process.communicate()


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir() if one.is_dir()}


def test_next_tree_removes_the_cgroup_of_a_killed_owner(cgroup: Path, place: int) -> None:
    """Through the public door: the next start with kill_tree=True."""
    owner = Owner(place)
    assert names(cgroup) == {owner.name}
    owner.kill()
    owner.close()
    assert names(cgroup) == {owner.name}
    with fastproc.start("sleep", "60", kill_tree=True, cgroup=cgroup) as process:
        (name,) = names(cgroup)
        assert name.startswith(f"{PREFIX}{os.getpid()}-")
        process.kill_tree(0)
    assert names(cgroup) == set()


def test_kill_tree_whose_process_is_killed_leaves_no_cgroup_for_long(cgroup: Path) -> None:
    """SIGKILL in the middle of kill_tree(), with the tree still there: it goes when the tree has."""
    program = (
        "import fastproc, os, signal, sys\n"
        "process = fastproc.start('sleep', '60', kill_tree=True, cgroup=sys.argv[1])\n"
        "os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == 'before' else None\n"
        "from fastproc import containment\n"
        "containment.Tree.close = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "process.__exit__(None, None, None)\n"
    )
    for moment in ("before", "in"):
        done = subprocess.run([sys.executable, "-c", program, str(cgroup), moment], check=False, timeout=30)
        assert done.returncode == -signal.SIGKILL
        (left,) = names(cgroup)
        with fastproc.start("true", kill_tree=True, cgroup=cgroup) as process:
            # As long as somebody runs in it, it stays.
            assert (left in names(cgroup)) == (moment == "before")
            process.wait()
        (cgroup / left / "cgroup.kill").write_text("1") if moment == "before" else None
        wait_until(lambda: "populated 0" in events(cgroup / left))  # noqa: B023 - asked in this round
        with fastproc.start("true", kill_tree=True, cgroup=cgroup) as process:
            process.wait()
        assert names(cgroup) == set()


def events(folder: Path) -> str:
    try:
        return (folder / "cgroup.events").read_text()
    except OSError:
        return "populated 0"


@pytest.mark.parametrize("prefix", [(), ("unshare", "--pid", "--fork", "--kill-child")], ids=["here", "namespace"])
def test_cgroup_of_a_living_owner_stays(cgroup: Path, place: int, prefix: tuple[str, ...]) -> None:
    """An empty one too, and of an owner whose number is nobody's in this PID namespace."""
    owner = Owner(place, prefix=prefix)
    try:
        for _ in range(3):
            made = Cgroup.make(place)
            assert made is not None
            assert names(cgroup) == {owner.name, made.name}
            assert made.remove()
    finally:
        owner.kill()
        owner.close()
    wait_until(lambda: sweep(place) or names(cgroup) == set())


def sweep(place: int) -> None:
    made = Cgroup.make(place)
    assert made is not None
    made.remove()
    made.fd.close()


def test_forked_copy_does_not_hold_the_owner_s_cgroup(cgroup: Path, place: int) -> None:
    owner = Owner(place, "forked")
    owner.kill()
    try:
        sweep(place)
        assert names(cgroup) == set()
    finally:
        owner.close()


def test_what_is_not_proven_to_be_ours_stays(cgroup: Path, place: int) -> None:
    """Other names, the form without a lock, one that somebody is in, and one with a cgroup inside."""
    forms = ("1-0-abcdef-held-x", "1-x-abcdef-held", "-1-abcdef-held", "1-0-abcdeg-held", "1-0-0-abcdef-held", "held")
    others = {"other", "fastproc-1-0-abcdef", "x-fastproc-1-0-abcdef-held", *(f"fastproc-{form}" for form in forms)}
    full, nested = "fastproc-7-0-abcdef-held", "fastproc-7-1-abcdef-held"
    for name in [*others, full, nested, f"{nested}/inner"]:
        (cgroup / name).mkdir()
    with fastproc.start("sleep", "60", cgroup=cgroup / full) as process:
        sweep(place)
        assert names(cgroup) == {*others, full, nested}
        process.kill()
        process.wait()
    sweep(place)
    assert names(cgroup) == {*others, nested}
    for name in [*others, f"{nested}/inner", nested]:
        (cgroup / name).rmdir()


def test_look_at_others_is_bounded(cgroup: Path, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start looks at a few of living owners and removes some of dead ones, and none is forgotten."""
    held = [os.open(folder(cgroup, number), os.O_RDONLY) for number in range(40)]
    for fd in held:
        fcntl.flock(fd, fcntl.LOCK_EX)
    for number in range(40, 240):
        folder(cgroup, number)
    tried: list[str] = []
    remove = _cgroup._remove_dead
    monkeypatch.setattr(_cgroup, "_remove_dead", lambda name, parent: tried.append(name) or remove(name, parent))
    rounds = 0
    while len(names(cgroup)) > 40:
        before = len(names(cgroup))
        tried.clear()
        sweep(place)
        rounds += 1
        assert len(tried) - (before - len(names(cgroup))) <= _cgroup.LOOKS
        assert before - len(names(cgroup)) <= _cgroup.REMOVALS
        assert rounds < 100
    for fd in held:
        os.close(fd)
    for _ in range(3):
        sweep(place)
    assert names(cgroup) == set()


def test_many_dead_ones_are_removed_by_and_by(cgroup: Path, place: int) -> None:
    for number in range(_cgroup.REMOVALS + 10):
        folder(cgroup, number)
    sweep(place)
    assert len(names(cgroup)) == 10
    sweep(place)
    assert names(cgroup) == set()


def test_own_ones_are_not_looked_at(cgroup: Path, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do they use up the looks at others."""
    several = [Cgroup.make(place) for _ in range(_cgroup.LOOKS + 2)]
    dead = folder(cgroup, 1).name
    tried: list[str] = []
    remove = _cgroup._remove_dead
    monkeypatch.setattr(_cgroup, "_remove_dead", lambda name, parent: tried.append(name) or remove(name, parent))
    sweep(place)
    assert tried == [dead]
    for made in several:
        assert made is not None
        made.remove()


def test_another_one_with_the_name_is_not_removed(cgroup: Path, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was locked is what is removed, and not what has its name by then."""
    one = folder(cgroup, 1)
    lock = _cgroup._lock

    def locking(fd: int, refused: bool = True) -> bool:
        one.rmdir()
        one.mkdir()
        return lock(fd, refused)

    monkeypatch.setattr(_cgroup, "_lock", locking)
    assert not _cgroup._remove_dead(one.name, place)
    assert names(cgroup) == {one.name}
    one.rmdir()


def folder(cgroup: Path, number: int) -> Path:
    made = cgroup / f"fastproc-9-{number}-abcdef-held"
    made.mkdir()
    return made


def test_nothing_is_listed_where_only_our_own_are(cgroup: Path, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []
    monkeypatch.setattr(_cgroup, "remove_dead", lambda *_: listed.append(1))
    several = [Cgroup.make(place) for _ in range(3)]
    for made in several:
        assert made is not None
        assert made.remove()
    assert listed == []


def test_two_sweepers_meet(cgroup: Path, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One comes while the other holds the dead owner's, and one after it was removed: both go on."""
    name = folder(cgroup, 1).name
    rmdir = os.rmdir
    found: list[bool] = []

    def meeting(path: str, **options: int) -> None:
        monkeypatch.setattr(os, "rmdir", rmdir)
        found.append(_cgroup._remove_dead(name, place))
        rmdir(path, **options)
        found.append(_cgroup._remove_dead(name, place))

    monkeypatch.setattr(os, "rmdir", meeting)
    assert _cgroup._remove_dead(name, place)
    assert found == [False, False]
    assert names(cgroup) == set()


@pytest.mark.parametrize("moment", ["open", "read", "flock"])
def test_new_one_that_is_taken_for_a_dead_owner_s_is_made_again(
    cgroup: Path, place: int, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Between mkdir and the lock somebody else may remove it: another name is tried."""
    taken: list[str] = []
    lock, look, read = _cgroup._lock, Cgroup.read, _cgroup.read_all

    def take() -> None:
        (name,) = names(cgroup)
        taken.append(name)
        os.rmdir(cgroup / name)

    def locking(fd: int, refused: bool = True) -> bool:
        if not taken:
            take()
        return lock(fd, refused)

    def reading(self: Cgroup, name: str) -> str:
        if not taken:
            take()
        return look(self, name)

    def reading_all(fd: int) -> bytes:
        if not taken:
            take()
        return read(fd)

    if moment == "flock":
        monkeypatch.setattr(_cgroup, "_lock", locking)
    elif moment == "read":
        monkeypatch.setattr(_cgroup, "read_all", reading_all)
    else:
        monkeypatch.setattr(Cgroup, "read", reading)
    made = Cgroup.make(place)
    assert made is not None
    assert names(cgroup) == {made.name}
    assert [made.name] != taken
    made.remove()


def test_new_one_that_is_locked_by_a_sweeper_is_given_up(cgroup: Path, place: int) -> None:
    """The sweeper has the lock: it will remove it, and the owner takes another."""
    holds: list[int] = []
    read = Cgroup.read

    def reading(self: Cgroup, name: str) -> str:
        if not holds:
            holds.append(os.open(cgroup / self.name, os.O_RDONLY))
            fcntl.flock(holds[0], fcntl.LOCK_EX)
            holds.append(int(self.name.split("-")[2]))
        return read(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cgroup, "read", reading)
        made = Cgroup.make(place)
    assert made is not None
    assert int(made.name.split("-")[2]) > holds[1]
    os.close(holds[0])
    made.remove()
    sweep(place)
    assert names(cgroup) == set()


def in_destructor(frame: Any) -> bool:
    """Whether the interpreter would swallow an exception here."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def interrupted_at(call: Callable[[], object], lines: int) -> bool:
    """Call with a KeyboardInterrupt at the n-th line of the two modules; return whether it came to that."""
    left = [lines]
    files = {_cgroup.__file__, fds.__file__}

    def trace(frame: Any, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename not in files or in_destructor(frame):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return left[0] <= 0


def test_interrupt_at_any_line_leaves_nothing(cgroup: Path, place: int) -> None:
    """Of make(), of a sweep and of remove(): no directory, no descriptor, and the interrupt comes out."""

    def whole() -> None:
        made = Cgroup.make(place)
        assert made is not None
        made.kill()
        assert made.remove()

    line = 0
    while True:
        line += 1
        folder(cgroup, line)
        before = os.listdir("/proc/self/fd")
        happened = interrupted_at(whole, line)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == len(before), line
        _cgroup.remove_left()
        sweep(place)
        assert names(cgroup) == set(), line
        assert not any(_cgroup._own.values())
        if not happened:
            break
    assert line > 100
