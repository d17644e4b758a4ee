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


def install() -> None:
    """Make `import subprocess` mean fastproc.subprocess in this process, also in modules that have imported it already.

    The standard library's own users (asyncio, multiprocessing, ...) are among them. What a module keeps elsewhere than
    in its namespace, such as a default argument, stays. Calling it again takes in what was imported in between.
    """
    swap = {id(getattr(standard, name)): getattr(ours, name) for name in _REPLACED}
    swap[id(standard)] = ours
    sys.modules["subprocess"] = ours
    for name, module in list(sys.modules.items()):
        space = getattr(module, "__dict__", None)
        if module is standard or name.partition(".")[0] == "fastproc" or type(space) is not dict:
            continue
        for key, value in list(space.items()):
            new = swap.get(id(value))
            if new is not None:
                _places.append((space, key, value, new))
                space[key] = new


def uninstall() -> None:
    """Undo `install()`. A module that has imported `subprocess` since then keeps what it got."""
    while _places:
        space, key, old, new = _places.pop()
        if space.get(key) is new:
            space[key] = old
    if sys.modules.get("subprocess") is ours:
        sys.modules["subprocess"] = standard
