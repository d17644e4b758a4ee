"""Putting fastproc.subprocess in the place of the standard `subprocess`, for a whole process."""

from __future__ import annotations

import subprocess as standard
import sys

from fastproc import subprocess as ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REPLACED = ("Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput", "run")
"""The names that are not the very same objects in both modules."""

_places: list[tuple[dict[str, Any], str, Any, Any]] = []
"""Where a name was changed: the namespace, the name, what was there, what is there now."""


_installed = False


def install() -> None:
    """Make `import subprocess` mean fastproc.subprocess in this process, also in modules that have imported it already.

    The standard library's own users (asyncio, multiprocessing, ...) are among them. The standard Popen, wherever it is
    kept (a default argument, a table, a functools.partial of run()), makes objects of ours. A class that was derived
    from the standard Popen before stays as it was. Calling it again takes in what was imported in between.
    """
    global _installed
    swap = {id(getattr(standard, name)): getattr(ours, name) for name in _REPLACED}
    swap[id(standard)] = ours
    # By identity: ours stands there by the standard's name too, and a program may have given it others.
    left_alone = {id(module) for name, module in sys.modules.items() if name.partition(".")[0] == "fastproc"}
    left_alone |= {id(standard), id(ours)}
    _installed = True
    if "__new__" not in vars(standard.Popen):
        # For good: a class whose own __new__ was deleted again refuses the arguments of its __init__.
        standard.Popen.__new__ = _new_popen  # type: ignore[method-assign, assignment]
    sys.modules["subprocess"] = ours
    for module in list(sys.modules.values()):
        if id(module) in left_alone:
            continue
        try:
            # Not by its own __getattribute__, which loads a module that is to be loaded later (importlib's LazyLoader).
            space = object.__getattribute__(module, "__dict__")
        except AttributeError:
            continue
        if type(space) is not dict:
            continue
        for key, value in list(space.items()):
            new = swap.get(id(value))
            if new is not None:
                _places.append((space, key, value, new))
                space[key] = new


def uninstall() -> None:
    """Undo `install()`. A module that has imported `subprocess` since then keeps what it got."""
    global _installed
    _installed = False
    while _places:
        space, key, old, new = _places.pop()
        if space.get(key) is new:
            space[key] = old
    if sys.modules.get("subprocess") is ours:
        sys.modules["subprocess"] = standard


def _new_popen(kind: type[Any], /, *_args: object, **_options: object) -> Any:
    """Stand for the standard Popen's __new__: its own objects are ours, where we are installed."""
    return object.__new__(ours.Popen if _installed and kind is standard.Popen else kind)
