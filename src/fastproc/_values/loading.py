"""Loading a part of the package when it is first used, so that a signal handler may use the same part meanwhile.

A handler that comes in the middle of an import finds modules that are only half there. So every import of a module of
this package blocks all signals in the thread that imports, from before the module is in `sys.modules` until it is
whole. A finder at the front of `sys.meta_path` sees to that; it passes everything else on.

That holds in a program with one thread. With more, the kernel gives a signal that is sent to the process to a thread
that does not block it; Python's handler in C only sets a flag there, and the main thread runs the handler at its next
bytecode, blocked or not: no mask of the main thread can keep it out. Such a program imports first
what its handlers use.
"""

from __future__ import annotations

from _frozen_importlib_external import PathFinder
from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask, valid_signals  # type: ignore[import-not-found]
from sys import meta_path, modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

PACKAGE = "fastproc."


class _Finder:
    """Finds the modules of this package as everybody's finder does, and gives them a loader of ours."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(PACKAGE):
            return None
        spec: ModuleSpec | None = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """Has the module made and executed by its own loader, which it is left with."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._before: Any = None

    def __getattr__(self, name: str) -> Any:
        # Whoever found the module and does not import it, such as runpy.
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        before = pthread_sigmask(SIG_BLOCK, ())
        try:
            pthread_sigmask(SIG_BLOCK, valid_signals())
            there = modules.get(spec.name)
            if there is None:
                made: ModuleType | None = self._loader.create_module(spec)
                self._before = before
                return made
        except BaseException:
            pthread_sigmask(SIG_SETMASK, before)
            raise
        # A handler has imported it since it was looked for.
        pthread_sigmask(SIG_SETMASK, before)
        return there

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self._loader
        if self._before is None:
            return
        try:
            self._loader.exec_module(module)
        finally:
            pthread_sigmask(SIG_SETMASK, self._before)


def install() -> None:
    """Put the finder where it is asked first."""
    if not any(type(finder) is _Finder for finder in meta_path):
        meta_path.insert(0, _Finder())


def loaded(name: str) -> ModuleType:
    """Return a module, imported before any further signal handler runs.

    Raises:
        ImportError: it cannot be.
    """
    module = modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    from importlib import import_module

    before = pthread_sigmask(SIG_BLOCK, ())
    try:
        pthread_sigmask(SIG_BLOCK, valid_signals())
        return import_module(name)
    finally:
        pthread_sigmask(SIG_SETMASK, before)
