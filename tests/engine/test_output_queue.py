"""What is read is there once, wherever a signal handler raises."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastproc import CaptureLimit
from fastproc._engine.fds import Opened, OwnedFd, make_pipe, read_some
from fastproc._engine.reactor import Reactor
from fastproc._engine.streams.output_queue import Output
from fastproc._engine.streams.sink import Capture, Tap
from fastproc._engine.streams.tee import Outlet, Outlets, Plain

PIECES = b"abc", b"d" * 5000, b"efg\nh", b"i"
ALL = b"".join(PIECES)
POINTS = 400


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupted(at: int, call: Callable[[], object]) -> bool:
    """Do `call`, with an exception at one of the points at which a signal handler may run; whether it came to that."""
    left = at

    def profile(_frame: object, event: str, _arg: object) -> None:
        nonlocal left
        if event in ("call", "c_return"):
            left -= 1
            if not left:
                raise Interrupt

    try:
        sys.setprofile(profile)
        call()
    except Interrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def kept(data: bytes, limit: CaptureLimit | None) -> bytes:
    if limit is None or len(data) <= limit.head + limit.tail:
        return data
    return data[: limit.head] + data[len(data) - limit.tail :]


LIMITS = [None, CaptureLimit(1 << 20), CaptureLimit(4, 6), CaptureLimit(0, 4000)]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("tapped", [True, False])
def test_interrupt_loses_nothing_that_was_read(limit: CaptureLimit | None, tapped: bool, tmp_path: Path) -> None:
    """At every point: the pieces, their offsets, the copy in a file and what a limit keeps."""
    if not tapped and limit is not None:
        return
    for piece in range(len(PIECES) + 1):
        for at in range(1, POINTS):
            reader, writer = make_pipe()
            os.set_blocking(reader.number, False)
            with Opened() as opened, reader, writer:
                outlet = Outlet(opened.open(str(tmp_path / "all"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), opened)
                tap = Tap("stdout", limit, None, [outlet]) if tapped else None
                output = Output("stdout", reader, tap)
                hit = False
                for index, data in enumerate((*PIECES, b"")):
                    if data:
                        os.write(writer.number, data)
                    else:
                        writer.close()
                    if index == piece:
                        hit = interrupted(at, output.read)
                while not output.ended:
                    output.read()
                if limit is None:
                    assert [offset for _, offset, data in output.items] == offsets(output)
                    assert b"".join(item[2] for item in output.items) == ALL
                assert output.take() == kept(ALL, limit)
                if tapped:
                    assert (tmp_path / "all").read_bytes() == ALL
            if not hit:
                break
        else:
            pytest.fail("never through")


def offsets(output: Output) -> list[int]:
    found, offset = [], 0
    for _, _, data in output.items:
        found.append(offset)
        offset += len(data)
    return found


@pytest.mark.parametrize("limit", LIMITS)
def test_interrupt_loses_nothing_of_a_run(limit: CaptureLimit | None, tmp_path: Path) -> None:
    """The same for what a whole run captures and copies."""
    for at in range(1, POINTS):
        reader, writer = make_pipe()
        with Opened() as opened, reader, writer:
            outlet = Outlet(opened.open(str(tmp_path / "all"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), opened)
            capture = Capture("stdout", limit, None, [outlet])

            def read(capture: Capture = capture, fd: int = reader.number) -> None:
                assert read_some(fd, 1 << 16, capture.fresh)
                capture.take()

            hit = False
            for data in PIECES:
                os.write(writer.number, data)
                if data == PIECES[2]:
                    hit = interrupted(at, read)
                else:
                    read()
            writer.close()
            if hit:
                # What was not read then comes now.
                while read_some(reader.number, 1 << 16, capture.fresh):
                    pass
            capture.finish()
            assert capture.value() == kept(ALL, limit)
            assert capture.dropped == len(ALL) - len(kept(ALL, limit))
            assert (tmp_path / "all").read_bytes() == ALL
        if not hit:
            return
    pytest.fail("never through")


@pytest.mark.parametrize("kind", ["file", "object"])
def test_interrupted_copy_to_a_file_is_written_on(kind: str, tmp_path: Path) -> None:
    """It cannot be watched (epoll_ctl(2): EPERM)."""
    reactor = Reactor()
    with Opened() as opened, open(tmp_path / "all", "wb", 0) as file:
        outlet: Any = Outlet(file.fileno(), opened) if kind == "file" else Plain(file)
        outlets = Outlets(reactor, lambda: None)
        outlet.rest.append(b"rest")
        assert outlets.attend([outlet])
        assert not outlets.waiting
    assert (tmp_path / "all").read_bytes() == b"rest"
    reactor.close()


def test_owner_whose_constructor_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has nothing to close, and says nothing."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    owner = OwnedFd.__new__(OwnedFd)
    del owner
    gc.collect()
    assert not told
