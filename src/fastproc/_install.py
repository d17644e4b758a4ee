"""Replacing the standard `subprocess`, and the event loops' calls for children, in a whole process."""

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
"""The names that are different objects in the two modules."""

_places: list[tuple[dict[str, Any], str, Any, Any]] = []
"""The changed names: the namespace, the name, the old value, the new value."""

_LOOPS = {"asyncio.base_events": "BaseEventLoop", "uvloop": "Loop"}
"""The classes with the loops' calls for children, by module."""

_calls: list[tuple[type, str, Any]] = []
"""The replaced calls of loops: the class, the name, the old value; None if it was inherited."""

_installed = False


def install() -> None:
    """Replace `subprocess` by fastproc.subprocess in this process, also in modules that have already imported it.

    This includes modules of the standard library (multiprocessing, ...). If the standard Popen is stored elsewhere (a
    default argument, a table, a functools.partial of run()), a call of it creates a Popen of fastproc. A class that was
    derived from the standard Popen before is not changed. A second call covers modules that were imported meanwhile.

    The loops of asyncio and uvloop, imported before or later, start their children by `fastproc.aio`. This concerns
    `asyncio.create_subprocess_exec()` and `_shell()`, and the loops' calls below them. install() imports neither of the
    two.
    """
    global _installed
    swap = {id(getattr(standard, name)): getattr(ours, name) for name in _REPLACED}
    swap[id(standard)] = ours
    # Compared by identity: sys.modules may have our module under the standard name and under other names.
    left_alone = {id(module) for name, module in sys.modules.items() if name.partition(".")[0] == "fastproc"}
    left_alone |= {id(standard), id(ours)}
    _installed = True
    if "__new__" not in vars(standard.Popen):
        # Never undone: a class whose __new__ was deleted again refuses the arguments of its __init__.
        standard.Popen.__new__ = _new_popen  # type: ignore[method-assign, assignment]
    sys.modules["subprocess"] = ours
    for module in list(sys.modules.values()):
        if id(module) in left_alone:
            continue
        try:
            # Not by the module's __getattribute__, which would load a lazy module (importlib's LazyLoader).
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
    """Undo `install()`. A module that has imported `subprocess` since then keeps fastproc.subprocess."""
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
    """Replace __new__ of the standard Popen: while fastproc is installed, create a Popen of fastproc."""
    return object.__new__(ours.Popen if _installed and kind is standard.Popen else kind)


# -- the event loops


async def _subprocess_exec(
    loop: Any, protocol_factory: Callable[[], Any], program: Any, *args: Any, **options: Any
) -> tuple[Any, Any]:
    """Start a program by fastproc, as the loop's method of the same name."""
    from fastproc.aio import subprocess_exec

    return await subprocess_exec(loop, protocol_factory, program, *args, **options)


async def _subprocess_shell(loop: Any, protocol_factory: Callable[[], Any], cmd: Any, **options: Any) -> Any:
    """Start a shell command by fastproc, as the loop's method of the same name."""
    from fastproc.aio import subprocess_shell

    return await subprocess_shell(loop, protocol_factory, cmd, **options)


_BY_FASTPROC = {"subprocess_exec": _subprocess_exec, "subprocess_shell": _subprocess_shell}


def _cover(module: ModuleType) -> None:
    """Replace the calls of a module's loop class. A derived class that overrides a call keeps its override."""
    kind = getattr(module, _LOOPS[module.__name__], None)
    if isinstance(kind, type):
        for name, call in _BY_FASTPROC.items():
            before = vars(kind).get(name)
            if before is not call:
                setattr(kind, name, call)
                _calls.append((kind, name, before))


class _LoopFinder:
    """A finder that notices the import of an event loop's module after install()."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec that a later finder of sys.meta_path returns, with a loader that replaces the calls."""
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
    """Loads a module by its own loader, and replaces its calls."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module by its own loader, and restore this loader in the module."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if _installed:
            _cover(module)
