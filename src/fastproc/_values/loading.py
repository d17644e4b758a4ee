"""Loading a part of the package when it is first used, so that a signal handler may use the same part meanwhile.

A handler that comes in the middle of an import finds modules that are only half there: the thread that imports blocks
all signals until the end of the import. In a program with more threads the kernel may give a signal to another one.
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
