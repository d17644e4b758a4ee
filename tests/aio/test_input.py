"""What an event loop's child is fed with: asynchronous iterables, and those that fail in whatever way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from fastproc import aio
from support import drivers

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=drivers.LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Each kind of event loop in turn."""
    drivers.need(request.param)
    return str(request.param)


class Source:
    """One piece, and then another one without end or nothing more; closing it fails."""

    def __init__(self, loop: str, endless: bool) -> None:
        self._loop = loop
        self._left = 1 << 40 if endless else 1

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await drivers.checkpoint(self._loop)
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return b"x\n"

    async def aclose(self) -> None:
        """What the end of the run calls."""
        raise ValueError("not closed")


def test_input_async_iterator_is_fed_at_the_childs_pace(loop: str) -> None:
    """Items arrive in order; stdin is closed at the end."""

    async def source() -> AsyncIterator[bytes]:
        for number in range(5):
            await drivers.sleep(loop, 0.001)
            yield b"%d\n" % number
        yield b"x" * 500_000

    async def main() -> Any:
        return await aio.run("cat", input=source(), capture=True)

    assert drivers.run_in(loop, main).stdout == b"0\n1\n2\n3\n4\n" + b"x" * 500_000


def test_input_async_iterator_ends_with_the_child(loop: str) -> None:
    """A child that does not read to the end is no error, and does not wait for a source that gives nothing."""
    closed: list[bool] = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"first\n"
            await drivers.sleep(loop, 60)
        finally:
            closed.append(True)

    async def main() -> Any:
        return await aio.run("head", "-n", "1", input=source(), capture=True)

    assert drivers.run_in(loop, main).stdout == b"first\n"
    assert closed == [True]


def test_input_async_iterator_that_fails_kills_the_child(loop: str) -> None:
    """Its error comes out; the end of an incomplete input is not shown to the child."""

    async def source() -> AsyncIterator[bytes]:
        yield b"first\n"
        raise LookupError("no more")

    async def main() -> None:
        await aio.run("sh", "-c", "cat; echo end", input=source(), capture=True)

    with pytest.raises(LookupError, match="no more") as caught:
        drivers.run_in(loop, main)
    assert (caught.value.result.returncode, b"end" in caught.value.result.stdout) == (-9, False)  # type: ignore[attr-defined]


def test_input_async_iterator_in_blocking_code_is_refused() -> None:
    """There is nobody to await it; no child was made."""

    async def source() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(TypeError, match=r"^input: an asynchronous iterable"):
        fastproc.run("cat", input=source(), capture=True)


@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
def test_broken_pipe_of_the_source_is_its_own(loop: str, kind: str) -> None:
    """It is no child that has gone: what was fed is not all, which must not look like success."""

    async def source() -> AsyncIterator[bytes]:
        yield b"half"
        raise BrokenPipeError("of the source")

    def plain() -> Iterator[bytes]:
        yield b"half"
        raise BrokenPipeError("of the source")

    async def main() -> None:
        given: Any = source() if kind == "asynchronous" else plain()
        await aio.run("sh", "-c", "cat; echo end", input=given, capture=True)

    with pytest.raises(BrokenPipeError, match="of the source") as caught:
        drivers.run_in(loop, main)
    assert (caught.value.result.returncode, b"end" in caught.value.result.stdout) == (-9, False)  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [lambda c: c, lambda c: c | fastproc.cmd("cat")], ids=["command", "pipeline"])
def test_broken_pipe_of_the_source_in_blocking_code(make: Callable[[Any], Any]) -> None:
    """As in a loop."""

    def source() -> Iterator[bytes]:
        yield b"half"
        raise BrokenPipeError("of the source")

    with pytest.raises(BrokenPipeError, match="of the source"):
        make(fastproc.cmd("cat", input=source())).run(capture=True)


def test_broken_pipe_of_the_source_of_a_handle() -> None:
    """result() feeds, too."""

    def source() -> Iterator[bytes]:
        yield b"half"
        raise BrokenPipeError("of the source")

    with fastproc.start("cat", stdin=fastproc.PIPE, stdout=fastproc.PIPE) as process:
        with pytest.raises(BrokenPipeError, match="of the source"):
            process.result(input=source())


def test_source_that_ends_as_if_cancelled_is_told(loop: str) -> None:
    """Such as by a task of its own that was; nobody has cancelled the run, which must not wait for the rest."""
    if loop == "trio":
        pytest.skip("only trio itself makes a trio.Cancelled")

    async def source() -> AsyncIterator[bytes]:
        yield b"first\n"
        raise drivers.cancelled(loop)()

    async def main() -> Any:
        try:
            await aio.run("cat", input=source(), capture=True, timeout=20)
        except drivers.cancelled(loop) as error:
            return error.result.returncode  # type: ignore[attr-defined]

    assert drivers.run_in(loop, main) == -9


@pytest.mark.parametrize("endless", [False, True])
def test_source_that_fails_when_it_is_closed_is_told(loop: str, endless: bool) -> None:
    """At its own end, and when the child has gone before that."""

    async def main() -> None:
        await aio.run("head", "-n", "1", input=Source(loop, endless), capture=True, timeout=20)

    with pytest.raises(ValueError, match="not closed") as caught:
        drivers.run_in(loop, main)
    assert not endless or caught.value.result.stdout == b"x\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"], indirect=True)
def test_source_that_fails_when_it_is_closed_shortens_no_grace(loop: str, tmp_path: Path) -> None:
    """A cancelled run ends its child as any other; the loop's handler of exceptions is told of the source."""
    kept: list[Any] = []
    told: list[Any] = []
    script = 'trap "echo got; exit 3" TERM; : >"$0"; while :; do sleep 0.01; done'
    ready = tmp_path / "ready"

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

        async def one() -> None:
            try:
                await aio.run("sh", "-c", script, str(ready), input=Source(loop, True), capture=True, grace=20)
            except asyncio.CancelledError as error:
                kept.append(error.result)  # type: ignore[attr-defined]
                raise

        assert await drivers.cancelled_when(loop, ready.exists, one)

    drivers.run_in(loop, main)
    assert [(result.returncode, result.stdout) for result in kept] == [(3, b"got\n")]
    assert [str(error) for error in told] == ["not closed"]
