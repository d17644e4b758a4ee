r"""fastproc in an event loop: the names of the blocking door, awaited. On asyncio, uvloop, trio, and anyio on them.

One descriptor is registered with the loop, however many children there are; no thread, no child watcher, no SIGCHLD, in
any thread's loop.

>>> import asyncio
>>> from fastproc import aio
>>> asyncio.run(aio.run("echo", "hello", capture=True)).stdout
b'hello\n'
"""

from __future__ import annotations

from fastproc.aio._process import Process, start
from fastproc.aio._run import run
from fastproc.aio._waiting import as_completed, reactor, wait, wait_all, wait_any

__all__ = ["Process", "as_completed", "reactor", "run", "start", "wait", "wait_all", "wait_any"]
