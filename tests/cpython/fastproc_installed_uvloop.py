"""As fastproc_installed, on uvloop's loop."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module

import fastproc_installed  # noqa: F401
import uvloop


class _Policy(asyncio.DefaultEventLoopPolicy):
    # uvloop's own has no child watchers, which the suite sets.
    _loop_factory = staticmethod(uvloop.new_event_loop)


# libuv makes a pipe for signals once in each process, and keeps it.
uvloop.new_event_loop().close()
asyncio.set_event_loop_policy(_Policy())
# The suite ends a loop by its private parts.
import_module("test.test_asyncio.utils").TestCase.close_loop = staticmethod(lambda loop: loop.close())
sys.modules[__name__] = asyncio
