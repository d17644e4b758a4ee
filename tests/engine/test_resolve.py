"""The parent's environment, and what a command names, opened in the parent."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc._engine import resolve as module
from fastproc._engine.fds import Opened
from fastproc._engine.resolve import environment, resolve
from fastproc._values.command import cmd
from fastproc._values.plan import Plan
from fastproc._values.redirect import STDIO_INHERIT, STDIO_STDOUT


@pytest.fixture
def opened() -> Iterator[Opened]:
    with Opened() as made:
        yield made


def _resolve(opened: Opened, deadline: float | None = None, **options: Any) -> Plan:
    return resolve(cmd("true", **options), opened, deadline)


# -- the environment


def test_environment_is_the_same_object_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are kept by the identity of the parent's environment."""
    first = environment()
    assert environment() is first
    monkeypatch.setenv("FASTPROC_TEST", "ä")
    second = environment()
    assert second is not first
    assert second.variables[b"FASTPROC_TEST"] == os.fsencode("ä")
    assert "FASTPROC_TEST=ä\0".encode() in second.blob
    monkeypatch.setenv("FASTPROC_TEST", "b")
    assert environment().variables[b"FASTPROC_TEST"] == b"b"
    monkeypatch.delenv("FASTPROC_TEST")
    assert environment().variables == first.variables


def test_environment_works_without_the_private_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    """os.environ._data is CPython's; anything else is read by the public way."""
    expected = environment().variables

    class Foreign(dict[str, str]):
        pass

    monkeypatch.setattr(os, "environ", Foreign(os.environ))
    assert environment().variables == expected
    assert environment() is environment()


# -- files


def test_redirect_files_are_opened_in_the_parent(tmp_path: Path, opened: Opened) -> None:
    """Close-on-exec, above the standard streams, blocking, in the right mode."""
    source, target, log = (tmp_path / name for name in ("source", "target", "log"))
    source.write_bytes(b"in")
    target.write_bytes(b"old")
    log.write_bytes(b"old")
    old = os.umask(0o027)
    try:
        plan = _resolve(opened, stdin=source, stdout=target, stderr=fastproc.Append(log))
        made = _resolve(opened, stdout=tmp_path / "new")
    finally:
        os.umask(old)
    for fd, access in zip(plan.stdio, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_APPEND), strict=True):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK)
        assert (fd >= 3, os.get_inheritable(fd), flags) == (True, False, access)
    assert (target.read_bytes(), log.read_bytes()) == (b"", b"old")
    assert os.fstat(made.stdio[1]).st_mode & 0o777 == 0o640
    opened.close()
    opened.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(plan.stdio[0])


def test_close_goes_on_after_an_error(opened: Opened) -> None:
    """What close(2) says of a redirect is of no use here; the others must be closed all the same."""
    plan = _resolve(opened, stdin="/dev/null", stdout="/dev/null")
    os.close(plan.stdio[0])
    opened.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(plan.stdio[1])


def test_plain_command_opens_nothing(opened: Opened) -> None:
    """Numbers and constants need no I/O, and the plan is kept."""
    command = cmd("true", stdout=7, stderr=fastproc.STDOUT)
    plan = resolve(command, opened)
    assert plan.stdio == (STDIO_INHERIT, 7, STDIO_STDOUT)
    assert resolve(command, opened) is plan


@pytest.mark.parametrize(
    ("options", "kind", "stage", "name"),
    [
        ({"stdin": "/nosuch/file"}, FileNotFoundError, "redirect", "/nosuch/file"),
        ({"stdout": "/"}, IsADirectoryError, "redirect", "/"),
        ({"stdout": "/etc/passwd/x"}, NotADirectoryError, "redirect", "/etc/passwd/x"),
        ({"cwd": "/nosuch"}, FileNotFoundError, "cwd", "/nosuch"),
        ({"cwd": "/etc/passwd"}, NotADirectoryError, "cwd", "/etc/passwd"),
        ({"cgroup": "/nosuch"}, FileNotFoundError, "cgroup", "/nosuch"),
        ({"cwd": "/", "stdin": "/dev/null", "stderr": "/nosuch/file"}, FileNotFoundError, "redirect", "/nosuch/file"),
    ],
)
def test_what_cannot_be_opened_is_a_spawn_error(
    options: dict[str, str], kind: type[OSError], stage: str, name: str
) -> None:
    """With the stage and the name; nothing stays open (the leak check sees to it)."""
    with Opened() as opened, pytest.raises(kind) as caught:
        _resolve(opened, **options)
    error = caught.value
    assert isinstance(error, fastproc.SpawnError)
    assert (error.stage, error.filename, error.argv) == (stage, name, ("true",))


def test_directories_are_opened_without_reading_them(tmp_path: Path, opened: Opened) -> None:
    """O_PATH is enough for fchdir(2), and needs only the right to enter."""
    plan = _resolve(opened, cwd=tmp_path)
    assert os.fstat(plan.cwd).st_ino == tmp_path.stat().st_ino
    assert fcntl.fcntl(plan.cwd, fcntl.F_GETFL) & os.O_PATH


# -- file objects


def test_file_objects_give_their_descriptor(opened: Opened) -> None:
    """They are neither closed nor flushed: they are the caller's."""
    with open("/dev/null", "w") as file:
        plan = _resolve(opened, stdout=file, fds={5: file, 6: 2})
        assert (plan.stdio[1], plan.fds) == (file.fileno(), ((5, file.fileno()), (6, 2)))
        opened.close()
        os.fstat(file.fileno())


class _Strange:
    def fileno(self) -> object:
        return "3"


@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
def test_file_objects_without_a_descriptor_are_refused(option: str, opened: Opened) -> None:
    """The message starts with the option, and says what is wrong."""
    with open("/dev/null") as file:
        pass
    with pytest.raises(ValueError, match=f"{option}: the file .* is closed"):
        _resolve(opened, **{option: file})
    with pytest.raises(ValueError, match=f"{option}: .* has no descriptor: fileno"):
        _resolve(opened, **{option: io.BytesIO()})
    with pytest.raises(ValueError, match=f"{option}: .* gave '3' as its descriptor"):
        _resolve(opened, **{option: _Strange()})
    with pytest.raises(ValueError, match=r"fds: 5: .* has no descriptor"):
        _resolve(opened, fds={5: io.BytesIO()})


# -- FIFOs


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
def test_fifo_without_the_other_side_ends_at_the_deadline(option: str, fifo: Path, opened: Opened) -> None:
    """Never a hang (GOTCHAS A15)."""
    start = monotonic()
    with pytest.raises(fastproc.TimeoutExpired) as caught:
        _resolve(opened, start + 0.1, timeout=0.1, **{option: fifo})
    assert 0.1 <= monotonic() - start < 0.4
    cause = caught.value.__cause__
    assert isinstance(cause, fastproc.SpawnError)
    assert (cause.stage, cause.filename) == ("redirect", str(fifo))
    assert "no reader" in str(cause) or "no writer" in str(cause)


class _Stopped(Exception):
    pass


@pytest.mark.parametrize("option", ["stdin", "stdout"])
def test_wait_for_a_fifo_can_be_interrupted(option: str, fifo: Path, opened: Opened) -> None:
    """What a signal handler raises comes out at once, as for Ctrl-C."""

    def handler(*_args: object) -> None:
        raise _Stopped

    before = signal.signal(signal.SIGALRM, handler)
    start = monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(_Stopped):
            _resolve(opened, **{option: fifo})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert monotonic() - start < 0.3


def test_fifo_for_output_waits_for_its_reader(fifo: Path, opened: Opened) -> None:
    """As the shell does, and what is given to the child blocks as usual."""
    read: list[bytes] = []

    def reader() -> None:
        with open(fifo, "rb") as file:
            read.append(file.read())

    thread = threading.Thread(target=reader)
    tries: list[int] = []
    original = os.open

    def counted(*args: Any) -> int:
        tries.append(1)
        if len(tries) == 3:
            thread.start()
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", counted)
        plan = _resolve(opened, stdout=fifo)
    assert len(tries) >= 3
    assert len(opened._fds) == 1
    assert os.get_blocking(plan.stdio[1])
    os.write(plan.stdio[1], b"hello")
    opened.close()
    thread.join()
    assert read == [b"hello"]


def test_fifo_for_input_waits_for_its_writer(fifo: Path) -> None:
    """A child must not see the end of file before the writer has come."""

    def writer() -> None:
        with open(fifo, "wb") as file:
            file.write(b"hello")

    thread = threading.Thread(target=writer)
    thread.start()
    result = fastproc.run("cat", stdin=fifo, stdout=fastproc.PIPE, timeout=5)
    thread.join()
    assert result.stdout == b"hello"


def test_file_under_a_lease_is_tried_again(tmp_path: Path, opened: Opened) -> None:
    """O_NONBLOCK turns a lease into EAGAIN, which is no reason to fail (open(2))."""
    path = tmp_path / "leased"
    path.touch()
    with open(path) as holder:
        before = signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK))
        try:
            try:
                fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            except OSError as error:
                pytest.skip(f"no leases on this file system: {error}")
            plan = _resolve(opened, monotonic() + 5, stdout=path)
        finally:
            signal.signal(signal.SIGIO, before)
    assert plan.stdio[1] >= 3


def test_device_without_a_driver_fails_at_once(opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ENXIO means "no reader yet" only for a FIFO."""
    path = tmp_path / "file"
    path.touch()

    def refuse(*_args: object) -> int:
        raise OSError(module.ENXIO, "No such device or address")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(fastproc.SpawnError, match="no such device"):
            _resolve(opened, stdout=path)


# -- closed standard streams


def numbers_with_closed_streams() -> list[object]:
    for fd in (0, 1):
        os.close(fd)
    with Opened() as opened:
        plan = _resolve(opened, stdin="/dev/null", stdout="/dev/null", cwd="/")
        numbers = [*plan.stdio[:2], plan.cwd]
        found: list[object] = [all(number >= 3 for number in numbers), len(set(numbers))]
        found.append([os.get_inheritable(number) for number in numbers])
    found.append([os.path.exists(f"/proc/self/fd/{fd}") for fd in (0, 1)])
    return found


def test_opened_files_are_no_standard_streams() -> None:
    """With 0 and 1 closed in the host, what we open must not take their place (GOTCHAS C8)."""
    assert isolated(numbers_with_closed_streams) == [True, 3, [False, False, False], [False, False]]


def interrupted_opens() -> list[int]:
    """Ctrl-C every millisecond while files are opened; returns the descriptors before and after."""
    armed: list[int] = []

    def interrupt(*_args: object) -> None:
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    command = cmd("true", stdin="/dev/null", stdout="/dev/null", cwd="/")
    before = len(os.listdir("/proc/self/fd"))
    signal.signal(signal.SIGALRM, interrupt)
    interrupts = 0
    end = monotonic() + 0.5
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    while monotonic() < end:
        try:
            armed.append(1)
            with Opened() as opened:
                # Not for ever: an exception that a handler raises in a finalizer is lost.
                for _ in range(100):
                    resolve(command, opened)
                    opened.close()
        except KeyboardInterrupt:
            interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    return [before, len(os.listdir("/proc/self/fd")), interrupts]


@pytest.mark.slow
def test_interrupts_while_opening_lose_no_descriptor() -> None:
    """The number goes from open(2) into its owner with nothing in between."""
    before, after, interrupts = isolated(interrupted_opens)
    assert interrupts > 50
    assert after <= before
