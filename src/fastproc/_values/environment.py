"""An environment as the kernel takes it, and the search of a program's name in a PATH.

Built from bytes that the caller has already read (the engine's snapshot of os.environ: GOTCHAS F4), or from the env
option; never changes.
"""

from __future__ import annotations

from os import fsdecode, fsencode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

# What confstr(CS_PATH) gives on Linux: the PATH where there is none (GOTCHAS F3).
DEFAULT_PATH = b"/bin:/usr/bin"
_PREFIXES_KEPT = 32
_prefixes: dict[bytes, tuple[bytes, ...]] = {}


class Environment:
    """An immutable set of variables with its blob.

    Attributes:
        blob: "NAME=value" strings, each ended by NUL.
        count: how many there are.
        path: the value of PATH, or None.
        variables: the same by name; not to be changed.
    """

    __slots__ = ("blob", "count", "path", "variables")

    blob: bytes
    count: int
    path: bytes | None
    variables: dict[bytes, bytes]

    def __init__(self, variables: Mapping[bytes, bytes]) -> None:
        """Copy the variables; names and values must have no NUL, names no "=" and not be empty."""
        variables = dict(variables)
        self.variables = variables
        self.count = len(variables)
        self.blob = env_blob(variables)
        self.path = variables.get(b"PATH")

    def edited(
        self, remove: Iterable[str], add: Iterable[tuple[str, str]], cleaned: bool | tuple[str, ...] | None = None
    ) -> Environment:
        """Return this environment without some variables and then with others.

        Args:
            remove: names.
            add: pairs.
            cleaned: as the option clean_env, which is done first.
        """
        variables = self.variables.copy()
        if cleaned:
            from fastproc._values.credentials import clean

            variables = clean(variables, cleaned)
        for name in remove:
            variables.pop(fsencode(name), None)
        variables.update(encoded(add))
        return Environment(variables)

    def as_text(self) -> dict[str, str]:
        """Return the variables as text, in a dict of the caller's own."""
        return {fsdecode(name): fsdecode(value) for name, value in self.variables.items()}


def encoded(pairs: Iterable[tuple[str, str]]) -> dict[bytes, bytes]:
    """Return checked text pairs as bytes in the file system's encoding."""
    return {fsencode(name): fsencode(value) for name, value in pairs}


def env_blob(variables: Mapping[bytes, bytes]) -> bytes:
    """Return the variables as "NAME=value" strings, each ended by NUL."""
    return b"\0".join([*map(b"=".join, variables.items()), b""])


def prefixes(path: bytes) -> tuple[bytes, ...]:
    """Return what goes before a program's name for each element of PATH in order, and b"" at the end.

    An empty element means the current directory, as POSIX has it (GOTCHAS F1), and becomes an empty prefix.
    """
    found = _prefixes.get(path)
    if found is None:
        found = (*(item + b"/" if item and item[-1:] != b"/" else item for item in path.split(b":")), b"")
        if len(_prefixes) >= _PREFIXES_KEPT:
            _prefixes.clear()
        _prefixes[path] = found
    return found


def candidates(program: bytes, path: bytes | None) -> list[bytes]:
    """Return the files that execvp(3) would try for a program's name, in order.

    A name with a slash is itself the only one. Else each element of PATH in order; DEFAULT_PATH where path is None. An
    empty element, and an empty PATH, mean the current directory, which is the child's when the command has a cwd.
    """
    if b"/" in program:
        return [program]
    return [prefix + program for prefix in prefixes(DEFAULT_PATH if path is None else path)[:-1]]


def own_environment(values: Mapping[str, Any]) -> Environment | None:
    """Return the environment of a command whose normalised options do not take the parent's; None of one that does."""
    if "env" not in values:
        return None
    variables = encoded(values["env"])
    own = Environment(variables)
    if "env_add" in values or "env_remove" in values or "listen_fds" in values:
        own = edited_by(own, values)
    return own


def edited_by(base: Environment, values: Mapping[str, Any], cleaned: Any = None) -> Environment:
    """Return an environment with the changes that normalised options ask for."""
    remove, add = values.get("env_remove", ()), values.get("env_add", ())
    if "listen_fds" in values:
        from fastproc._values.listen import VARIABLES, variables

        # Ours, if there are, were meant for us.
        add = (*(pair for pair in add if pair[0] not in VARIABLES), *variables(values["listen_fds"]))
        remove = (*remove, *VARIABLES)
    return base.edited(remove, add, cleaned)


def check_strings(words: tuple[str, ...], argv: bytes, env: Environment) -> None:
    """Find a string that execve(2) refuses with E2BIG whatever the total is (GOTCHAS F7), and say which.

    Raises:
        SpawnError: it.
    """
    from resource import getpagesize

    limit = 32 * getpagesize()
    for index, item in enumerate(argv.split(b"\0")):
        if len(item) >= limit:
            raise _too_big(words, index, f"argument {index} has {len(item)} bytes", limit)
    for index, (name, value) in enumerate(env.variables.items()):
        size = len(name) + 1 + len(value)
        if size >= limit:
            raise _too_big(words, index, f"environment variable {name!r} has {size} bytes with its name", limit)


def _too_big(words: tuple[str, ...], index: int, what: str, limit: int) -> Exception:
    from errno import E2BIG

    from fastproc.errors import spawn_error

    reason = f"{what}, the limit is {limit - 1} (execve(2)); use a file or standard input"
    return spawn_error(E2BIG, "vectors", index, argv=words, extra=reason)
