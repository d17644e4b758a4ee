"""The blocking pool in the dress of the asynchronous one, so that one body of a test runs over both doors."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import fastproc
from fastproc import aio
from support import drivers

DOORS = ("blocking", *drivers.LOOPS)


class _Future:
    def __init__(self, future: Any) -> None:
        self._future = future

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._future.result(60)
        yield


class _Pool:
    def __init__(self, *args: Any, **options: Any) -> None:
        self._pool = fastproc.Pool(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    @property
    def workers(self) -> int:
        return self._pool.workers

    @workers.setter
    def workers(self, workers: int) -> None:
        self._pool.workers = workers

    def submit(self, *args: Any, **options: Any) -> _Future:
        return _Future(self._pool.submit(*args, **options))

    async def _iterate(self, results: Any) -> AsyncIterator[Any]:
        try:
            for result in results:
                yield result
        finally:
            results.close()

    def map(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        return self._iterate(self._pool.map(*args, **options))

    def imap_unordered(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        return self._iterate(self._pool.imap_unordered(*args, **options))

    async def drain(self, timeout: float | None = None) -> bool:
        return self._pool.drain(timeout)

    async def close(self) -> None:
        self._pool.close()

    async def stop(self, **options: Any) -> None:
        self._pool.stop(**options)

    async def __aenter__(self) -> _Pool:
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._pool.__exit__(*exc)


class Door:
    """One kind of pool.

    Attributes:
        name: one of DOORS.
        Pool: its class.
    """

    def __init__(self, name: str) -> None:
        if name != "blocking":
            drivers.need(name)
        self.name = name
        self.Pool: Any = _Pool if name == "blocking" else aio.Pool

    def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Run an asynchronous function to its end."""
        if self.name != "blocking":
            return drivers.run_in(self.name, function)
        try:
            function().send(None)  # type: ignore[attr-defined]
        except StopIteration as end:
            return end.value
        raise AssertionError("a blocking pool does not wait by a loop")

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for the condition's first true value."""
        end = time.monotonic() + 10.0
        while not (value := condition()):
            assert time.monotonic() < end, "not true in time"
            if self.name == "blocking":
                time.sleep(0.002)
            else:
                await drivers.sleep(self.name, 0.002)
        return value
