"""Children of another user, at length: `make soak`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from support.programs import Programs

HERE = Path(__file__).resolve().parent
FOLDER = str(HERE)

pytestmark = [pytest.mark.soak, pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]


@pytest.fixture
def folder() -> Any:
    """A folder that every user can enter."""
    path = Path(f"/tmp/fastproc-soak-{os.getpid()}")
    path.mkdir()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def spied(*arguments: Any) -> Any:
    sys.path.insert(0, FOLDER)
    import test_identity

    return test_identity.spied(*arguments)


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_target_user_neither_reads_nor_holds_the_parent_for_a_minute(
    programs: Programs, folder: Path, way: str
) -> None:
    """GOTCHAS G18, G20: 16 threads, a spy that opens all memory it can and stops all processes it may signal."""
    program = folder / "secret"
    shutil.copy(programs.static_exit, program)
    program.chmod(0o711)
    found = isolated(spied, str(program), way, 16, 60.0, 60.0, pid_namespace=True, timeout=300)
    print(way, found)
    assert (found["opened"], found["hung"], found["same dumpable"], found["failed"]) == (0, 0, True, [])
    assert found["longest"] < 20


def rows(*arguments: Any) -> Any:
    sys.path.insert(0, FOLDER)
    import test_identity

    return test_identity.truth_table(*arguments)


def test_two_thousand_rows_of_the_truth_table(programs: Programs, folder: Path) -> None:
    """Many more combinations than pairs."""
    probe = shutil.copy(programs.probe, folder / "probe")
    found = isolated(rows, str(probe), str(folder / "root"), 2000, pid_namespace=True, timeout=900)
    print(f"{found['rows']} rows, {found['refused']} refused before any child")
    assert found["wrong"] == []


def slow_exits(rounds: int) -> dict[str, int]:
    """Kill children on their way out of our memory while somebody holds its lock; their user tries to open it."""
    import ctypes
    import signal
    import threading
    import time

    sys.path.insert(0, FOLDER)
    import test_shared

    import fastproc
    from fastproc._native._ffi import lib

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # Many pages, whose protection takes long to change: mmap_lock is held for hundreds of milliseconds.
    fd, size, count = os.memfd_create("pages"), 128 << 20, 60
    os.ftruncate(fd, size)
    base = libc.mmap(None, size * count, 0, 0x22, -1, 0)
    for index in range(count):
        libc.mmap(base + index * size, size, 3, 0x1 | 0x10 | 0x8000, fd, 0)
    busy, over = threading.Event(), threading.Event()

    def hold() -> None:
        protection = 1
        while not over.is_set():
            busy.wait(0.1)
            if busy.is_set():
                libc.mprotect(base, size * count, protection)
                protection = 4 - protection

    holder = threading.Thread(target=hold)
    holder.start()
    found = {"opened": 0, "leaving": 0, "early": 0}
    read_end, write_end = os.pipe()
    told, tell = os.pipe()
    spy = os.fork()
    if spy == 0:
        os.close(write_end)
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        while number := os.read(read_end, 16):
            pid, opened = int(number), b"0"
            os.kill(pid, signal.SIGKILL)
            while True:
                try:
                    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
                    opened = b"1"
                except PermissionError:
                    continue
                except OSError:
                    break
            os.write(tell, opened)
        os._exit(0)
    for _ in range(rounds):
        lib.fp_fault_set(lib.FP_STAGE_VERIFY_IRREVOCABLE, -signal.SIGSTOP, 1)

        def run() -> None:
            try:
                fastproc.run("true", timeout=30, **test_shared.OPTIONS)
            except (fastproc.SpawnError, fastproc.ExitError):
                pass

        worker = threading.Thread(target=run)
        worker.start()
        pid = test_shared.wait_for(test_shared.stopped_child)
        lib.fp_fault_set(0, 0, 0)
        busy.set()
        time.sleep(0.03)
        os.write(write_end, b"%d" % pid)
        while True:
            flag = test_shared.prctl(test_shared.PR_GET_DUMPABLE)
            try:
                with open(f"/proc/{pid}/stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
                with open(f"/proc/{pid}/wchan") as file:
                    where = file.read()
            except OSError:
                break
            found["leaving"] += where == "do_exit" and state == "D"
            found["early"] += flag != 0 and state not in "ZX"
        worker.join()
        busy.clear()
        found["opened"] += os.read(told, 1) == b"1"
    over.set()
    holder.join()
    os.close(write_end)
    os.waitpid(spy, 0)
    return found


def test_memory_stays_closed_until_a_child_has_given_it_up() -> None:
    """GOTCHAS G20: the kernel clears the child's word before that, and the way out can be long."""
    found = isolated(slow_exits, 40, faults=True, pid_namespace=True, timeout=300)
    print(found)
    assert (found["opened"], found["early"]) == (0, 0)
    assert found["leaving"] > 0
