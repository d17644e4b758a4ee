"""Descriptors are closed once, by their owner."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from conftest import isolated
from fastproc._engine.fds import Opened, OwnedFd
from fastproc._engine.process import Process
from fastproc._engine.reactor import Reactor
from fastproc._engine.streams.pipe_ends import PipeEnds
from fastproc._engine.streams.pump import Streams


def _opened() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def test_close_twice_leaves_the_recycled_number_alone() -> None:
    """A second close must not touch the number that the kernel has given away again (GOTCHAS C12)."""
    owned = OwnedFd(_opened())
    number = owned.fileno()
    owned.close()
    stranger = _opened()
    assert stranger == number
    owned.close()
    del owned
    os.fstat(stranger)
    os.close(stranger)


def test_close_from_many_threads_closes_once() -> None:
    """Threads that close and take the same handle at the same time must not close a stranger's descriptor."""
    for _ in range(200):
        owned = OwnedFd(_opened())
        taken: list[int] = []
        barrier = threading.Barrier(4)

        def close(owned: OwnedFd = owned, taken: list[int] = taken, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            taken.append(owned.detach())

        threads = [threading.Thread(target=close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (number,) = (fd for fd in taken if fd >= 0)
        owned.close()
        os.close(number)


def test_close_that_fails_tells_once_and_is_closed() -> None:
    """What close(2) says is raised; the number is nobody's from then on."""
    fd = _opened()
    owned = OwnedFd(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        owned.close()
    assert owned.closed
    owned.close()


def test_no_finalizer_of_what_every_child_has_runs_python() -> None:
    """What a signal handler raises in one is lost; those of C run no handler."""
    for kind in (OwnedFd, PipeEnds, Process, Reactor, Streams, Opened):
        assert not hasattr(kind, "__del__")


def test_owned_fd_shows_and_gives_its_number() -> None:
    """A closed or detached one has none."""
    with OwnedFd(_opened()) as owned:
        fd = owned.number
        assert (owned.fileno(), repr(owned), owned.closed) == (fd, f"OwnedFd({fd})", False)
        assert owned.detach() == fd
        assert (owned.number, owned.closed, owned.detach()) == (-1, True, -1)
        with pytest.raises(ValueError, match="closed"):
            owned.fileno()
        owned.adopt(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_owned_fd_dropped_after_a_foreign_close_is_silent() -> None:
    """A finalizer raises nothing."""
    fd = _opened()
    owned = OwnedFd(fd)
    os.close(fd)
    del owned


def test_pipe_ends_become_blocking_files() -> None:
    """An end is given out as a file once; what is left is closed together."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ends = PipeEnds()
    ends.adopt(write_end, -1, read_end)
    file = ends.file(0)
    assert file is not None
    with file:
        assert os.get_blocking(file.fileno())
        assert ends[0].closed
        assert (ends.file(0), ends.file(1)) == (None, None)
        file.write(b"x")  # type: ignore[arg-type]
    assert os.read(read_end, 10) == b"x"
    ends.close()
    ends.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read_end)


def test_pipe_ends_close_is_silent_when_an_end_has_gone() -> None:
    """There is nothing to tell: a pipe has nothing to write back."""
    fd = _opened()
    ends = PipeEnds()
    ends.adopt(-1, fd, -1)
    os.close(fd)
    ends.close()


def test_pipe_ends_that_cannot_become_a_file_are_closed() -> None:
    """A directory is refused by open(), and must not leak."""
    ends = PipeEnds()
    ends.adopt(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), -1, -1)
    with pytest.raises(IsADirectoryError):
        ends.file(0)


def test_lift_leaves_other_numbers() -> None:
    """Only 0, 1 and 2 are moved."""
    with OwnedFd(_opened()) as owned:
        fd = owned.number
        assert (owned.lift(), OwnedFd().lift()) == (fd, -1)


def test_fill_takes_what_a_call_returns() -> None:
    """And nothing where it raises."""
    owned = OwnedFd()
    with pytest.raises(FileNotFoundError):
        owned.fill(os.open, "/nosuch", os.O_RDONLY)
    assert owned.closed
    assert owned.fill(os.open, "/dev/null", os.O_RDONLY | os.O_CLOEXEC) == owned.number
    owned.close()


def lifted_numbers() -> list[object]:
    os.close(0)
    owned = OwnedFd(_opened())
    first = owned.number
    found: list[object] = [first, owned.lift() >= 3, os.get_inheritable(owned.number)]
    try:
        os.fstat(0)
    except OSError as error:
        found.append(error.errno)
    return found


def test_lift_moves_a_low_number() -> None:
    """With stdin closed in the host, nothing of ours may become stdin (GOTCHAS C8)."""
    assert isolated(lifted_numbers) == [0, True, False, errno.EBADF]
