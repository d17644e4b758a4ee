r"""fastproc in an event loop: the names of the blocking door, awaited. On asyncio, uvloop, trio, and anyio on them.

One descriptor is registered with the loop, however many children there are; no thread, no child watcher, no SIGCHLD, in
any thread's loop.

>>> import asyncio
>>> from fastproc import aio
>>> asyncio.run(aio.run("echo", "hello", capture=True)).stdout
b'hello\n'
"""

from __future__ import annotations

from fastproc._values.loading import loaded
from fastproc.aio._process import Process, start
from fastproc.aio._run import run
from fastproc.aio._waiting import as_completed, reactor, wait, wait_all, wait_any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.aio._pipeline import Pipeline as Pipeline
    from fastproc.aio._pipeline import lines as lines
    from fastproc.aio._pool import Future as Future
    from fastproc.aio._pool import Pool as Pool
    from fastproc.aio._systemd import wait_ready as wait_ready
    from fastproc.aio._systemd import watchdog as watchdog
    from fastproc.aio._transport import create_subprocess_exec as create_subprocess_exec
    from fastproc.aio._transport import create_subprocess_shell as create_subprocess_shell
    from fastproc.aio._transport import subprocess_exec as subprocess_exec
    from fastproc.aio._transport import subprocess_shell as subprocess_shell

__all__ = [
    "create_subprocess_exec",
    "create_subprocess_shell",
    "subprocess_exec",
    "subprocess_shell",
    "Future",
    "Pipeline",
    "Pool",
    "Process",
    "as_completed",
    "lines",
    "reactor",
    "run",
    "start",
    "wait",
    "wait_all",
    "wait_any",
    "wait_ready",
    "watchdog",
]

# What only users of asyncio need costs the import of asyncio and of subprocess; pipelines have modules of their own.
_LATER = {
    "create_subprocess_exec": "fastproc.aio._transport",
    "create_subprocess_shell": "fastproc.aio._transport",
    "subprocess_exec": "fastproc.aio._transport",
    "subprocess_shell": "fastproc.aio._transport",
    "Pipeline": "fastproc.aio._pipeline",
    "lines": "fastproc.aio._pipeline",
    "wait_ready": "fastproc.aio._systemd",
    "watchdog": "fastproc.aio._systemd",
    "Future": "fastproc.aio._pool",
    "Pool": "fastproc.aio._pool",
}


def __getattr__(name: str) -> object:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(loaded(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
