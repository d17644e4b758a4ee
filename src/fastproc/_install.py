"""Putting fastproc in the place of the standard `subprocess`, and of the event loops' children, for a whole process."""

from __future__ import annotations

import subprocess as standard
import sys

from fastproc import subprocess as ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_REPLACED = ("Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput", "run")
"""The names that are not the very same objects in both modules."""

_places: list[tuple[dict[str, Any], str, Any, Any]] = []
"""Where a name was changed: the namespace, the name, what was there, what is there now."""

_LOOPS = {"asyncio.base_events": "BaseEventLoop", "uvloop": "Loop"}
"""Where the loops' own calls for children are: the module, its class."""

_calls: list[tuple[type, str, Any]] = []
"""Calls of loops that were replaced: the class, the name, what was there; None where it was inherited."""

_installed = False


def install() -> None:
    """Make `import subprocess` mean fastproc.subprocess in this process, also in modules that have imported it already.

    The standard library's own users (multiprocessing, ...) are among them. The standard Popen, wherever it is kept (a
    default argument, a table, a functools.partial of run()), makes objects of ours. A class that was derived from the
    standard Popen before stays as it was. Calling it again takes in what was imported in between.

    The loops of asyncio and uvloop, imported before or later, make their children by `fastproc.aio`: what goes through
    `asyncio.create_subprocess_exec()` and `_shell()`, or the loop's calls below these. Neither is imported for it.
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
    if _LoopFinder not in sys.meta_path:
        sys.meta_path.insert(0, _LoopFinder)
    for name in _LOOPS:
        loaded = sys.modules.get(name)
        if loaded is not None:
            _cover(loaded)


install.__module__ = "fastproc"


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
    if _LoopFinder in sys.meta_path:
        sys.meta_path.remove(_LoopFinder)
    while _calls:
        kind, name, call = _calls.pop()
        if vars(kind).get(name) is not _BY_FASTPROC[name]:
            continue
        if call is None:
            delattr(kind, name)
        else:
            setattr(kind, name, call)


uninstall.__module__ = "fastproc"


def _new_popen(kind: type[Any], /, *_args: object, **_options: object) -> Any:
    """Stand for the standard Popen's __new__: its own objects are ours, where we are installed."""
    return object.__new__(ours.Popen if _installed and kind is standard.Popen else kind)


# -- the event loops


async def _subprocess_exec(
    loop: Any, protocol_factory: Callable[[], Any], program: Any, *args: Any, **options: Any
) -> tuple[Any, Any]:
    """Start a program, as the loop's own call of that name, by fastproc."""
    from fastproc.aio import subprocess_exec

    return await subprocess_exec(loop, protocol_factory, program, *args, **options)


async def _subprocess_shell(loop: Any, protocol_factory: Callable[[], Any], cmd: Any, **options: Any) -> Any:
    """Start a line for the shell, as the loop's own call of that name, by fastproc."""
    from fastproc.aio import subprocess_shell

    return await subprocess_shell(loop, protocol_factory, cmd, **options)


_BY_FASTPROC = {"subprocess_exec": _subprocess_exec, "subprocess_shell": _subprocess_shell}


def _cover(module: ModuleType) -> None:
    """Put our calls into the loops of a module. One that overrides the call in a class of its own keeps that."""
    kind = getattr(module, _LOOPS[module.__name__], None)
    if isinstance(kind, type):
        for name, call in _BY_FASTPROC.items():
            before = vars(kind).get(name)
            if before is not call:
                setattr(kind, name, call)
                _calls.append((kind, name, before))


class _LoopFinder:
    """Sees that the module of an event loop is imported after install()."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As importlib's finders: asks those that come later."""
        if name not in _LOOPS:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None or finder is _LoopFinder else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _LoopLoader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _LoopLoader:
    """Loads such a module by its own loader, and covers it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """As the module's own loader, which it is left with."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if _installed:
            _cover(module)
