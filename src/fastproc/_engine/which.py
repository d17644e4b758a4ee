"""Where a program's name leads, by the rule that `run()` uses."""

from __future__ import annotations

import os

from fastproc._engine.resolve import environment
from fastproc._values.checks import check_path
from fastproc._values.environment import candidates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._values.aliases import Path

S_IFMT = 0o170000
S_IFREG = 0o100000


def which(program: Path, path: Path | None = None) -> str | None:
    """Return the file that a program's name leads to, or None.

    The rule of execvp(3) and of `run()`: a name with a slash is itself; else each element of PATH in order, where an
    empty one means the current directory. A file counts when it is regular and this process may execute it. A look at
    the file system, not a promise: what is executed is decided by execve(2) itself.

    Args:
        program: the name.
        path: what to search instead of the environment's PATH.

    Raises:
        TypeError, ValueError: the name or path has a NUL or is no path.
    """
    name = os.fsencode(check_path("program", program))
    if not name:
        return None
    searched = environment().path if path is None else os.fsencode(check_path("path", path))
    for candidate in candidates(name, searched):
        try:
            regular = os.stat(candidate).st_mode & S_IFMT == S_IFREG
        except OSError:
            continue
        # By the effective ids, as execve(2) decides; access(2) alone asks for the real ones.
        if regular and os.access(candidate, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            return os.fsdecode(candidate)
    return None


which.__module__ = "fastproc"
