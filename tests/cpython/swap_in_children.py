"""Loaded by a .pth file in the suites' environment: swaps a module in the child interpreters of a test, too.

Does nothing unless SUITE_SWAP="name=stand-in" is set.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ModuleSpec


class _Swap:
    """A finder that answers `import name` with the stand-in."""

    def __init__(self, name: str, target: str) -> None:
        self.name, self.target, self.busy, self.kept = name, target, False, None

    def find_spec(self, fullname, path=None, target=None):
        # While the stand-in is imported it may ask for the real one.
        return ModuleSpec(fullname, self) if fullname == self.name and not self.busy else None

    def create_module(self, spec):
        self.busy = True
        try:
            module = importlib.import_module(self.target)
        finally:
            self.busy = False
        self.kept = getattr(module, "__spec__", None)
        return module

    def exec_module(self, module):
        if self.kept is not None:
            module.__spec__ = self.kept


if "SUITE_SWAP" in os.environ:
    for _path in reversed(os.environ["SUITE_SWAP_PATH"].split(os.pathsep)):
        if _path not in sys.path:
            sys.path.insert(0, _path)
    sys.meta_path.insert(0, _Swap(*os.environ["SUITE_SWAP"].split("=")))
