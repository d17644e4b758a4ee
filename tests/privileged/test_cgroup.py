"""Placement in a cgroup v2: the child is there from its first instruction."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastproc
from conftest import cgroup_folder
from programs import Probed, Programs

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
    """HAZARDS A16: a child born frozen would hold the spawning thread for ever."""
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
