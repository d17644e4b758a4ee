"""Loading a part of the package when it is first used, so that a signal handler may use the same part meanwhile.

A handler that comes in the middle of an import finds modules that are only half there: the thread that imports blocks
all signals until the end of the import.

That holds in a program with one thread. With more, the kernel gives a signal that is sent to the process to a thread
that does not block it; Python's handler in C only sets a flag there, and the main thread runs the handler at its next
bytecode, blocked or not: no mask of the main thread can keep it out. Such a program imports first
what its handlers use.
"""

from __future__ import annotations

from sys import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def loaded(name: str) -> ModuleType:
    """Return a module, imported before any further signal handler runs.

    Raises:
        ImportError: it cannot be.
    """
    module = modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask, valid_signals  # type: ignore[import-not-found]
    from importlib import import_module

    before = pthread_sigmask(SIG_BLOCK, ())
    try:
        pthread_sigmask(SIG_BLOCK, valid_signals())
        return import_module(name)
    finally:
        pthread_sigmask(SIG_SETMASK, before)
