"""Modules that this process may still need, loaded before it cannot find them any more, or finds somebody else's.

Most of fastproc is imported when it is first used. In another root the same paths are other files: whoever may write
there would give this process modules to execute. As another user the files may be unreadable.
"""

from __future__ import annotations

import os
import sys
from _imp import is_frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

OPTIONAL = {
    "fastproc.aio._trio": "trio",
    "fastproc.pool._dask": "distributed",
    "fastproc.pool._dask_worker": "distributed",
}
"""Modules that need another package, which is loaded already if this program uses it."""

STANDARD = (
    *("_queue", "_signal", "_strptime", "array", "ast", "atexit", "concurrent.futures.thread", "contextlib", "copyreg"),
    *("datetime", "difflib", "errno", "fcntl", "grp", "hashlib", "heapq", "importlib", "inspect", "io", "json"),
    *("linecache", "locale", "logging", "mmap", "os", "pickle", "pwd", "queue", "random", "resource", "select"),
    *("selectors", "shlex", "shutil", "signal", "socket", "stat", "stringprep", "struct", "sys", "tempfile", "termios"),
    *("textwrap", "threading", "time", "tokenize", "traceback", "unicodedata", "warnings"),
)
"""What functions of fastproc import, and what the standard library imports for them when it is used."""

ENCODINGS = (
    *("ascii", "utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"),
    *("utf-32-be", "idna", "punycode", "unicode_escape", "raw_unicode_escape"),
)
"""A look-up of one is an import."""

_NOBODY = 2**32 - 2
"""An id that no database has: each source of the database is asked, and so its library is loaded."""

_all_loaded = False


def load_all() -> None:
    """Load every module of fastproc, and what it imports when it is used; also the C library's for user names.

    Packages of others are not loaded. Takes some 0.3 s once.

    Raises:
        ImportError: one of fastproc's cannot be loaded.
    """
    global _all_loaded
    if _all_loaded:
        return
    import codecs
    from importlib import import_module

    for name in _names():
        needed = OPTIONAL.get(name)
        if needed is None or needed in sys.modules:
            import_module(name)
    for name in STANDARD:
        import_module(name)
    for name in ENCODINGS:
        codecs.lookup(name)
    _load_databases()
    _all_loaded = True


def _names() -> list[str]:
    """Return every module of fastproc, but the commands and the build."""
    import pkgutil

    import fastproc

    found = []
    folders = [("fastproc.", fastproc.__path__)]
    while folders:
        prefix, places = folders.pop()
        for _, name, is_package in pkgutil.iter_modules(places, prefix):
            if name in ("fastproc._commands", "fastproc.__main__"):
                continue
            found.append(name)
            if is_package:
                part = name.rpartition(".")[2]
                folders.append((f"{name}.", [os.path.join(place, part) for place in places]))
    return sorted(found)


def _load_databases() -> None:
    # nsswitch.conf(5): the libraries are loaded by dlopen(3) when the first name is looked up.
    from fastproc._native import users

    for call in (users.passwd, users.group):
        try:
            call(None, _NOBODY)
        except OSError:
            pass


def load_if_unreadable() -> None:
    """Load all if another user could not: a directory of fastproc or the standard library is not for everybody.

    What this process cannot read itself, as it is another user by now, it does without as before. Raises nothing.
    """
    if not _all_loaded and not all(map(_is_for_all, _folders())):
        try:
            load_all()
        except ImportError:
            pass


def _folders() -> set[str]:
    import fastproc

    library = os.path.dirname(os.__file__)
    found = {library, os.path.join(library, "lib-dynload"), os.path.join(library, "encodings")}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "fastproc":
            found.update(getattr(module, "__path__", ()))
    return found.union(fastproc.__path__)


def _is_for_all(folder: str) -> bool:
    """Return whether others may list a directory and get there."""
    try:
        needed = 0o005
        while True:
            if os.stat(folder).st_mode & needed != needed:
                return False
            if folder == (above := os.path.dirname(folder)):
                return True
            folder, needed = above, 0o001
    except OSError:
        return False


class Refusal:
    """An entry of sys.meta_path that lets nothing be imported from files.

    Args:
        why: what the error says.
    """

    def __init__(self, why: str) -> None:
        self._why = why

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Leave what lies in the interpreter itself to others.

        Raises:
            ModuleNotFoundError: it would be looked for in files.
        """
        if name not in sys.builtin_module_names and not _is_frozen(name):
            self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        raise ModuleNotFoundError(f"{name}: {self._why}: import it before", name=name)


def _is_frozen(name: str) -> bool:
    return is_frozen(name)


def refuse_imports() -> None:
    """Let nothing be imported from files any more, now that this process is in another root.

    `sys.meta_path.remove()` of the first entry takes that back, for a program that knows whose files are there.
    """
    why = "it was not imported before the chroot, and imports from files are refused after it"
    sys.meta_path.insert(0, Refusal(why))


def are_imports_refused() -> bool:
    """Return whether this process is in another root, as far as fastproc knows."""
    return any(isinstance(finder, Refusal) for finder in sys.meta_path)
