"""Command: what to run and how, as a value. Immutable, hashable and picklable; running one never changes it."""

from __future__ import annotations

from sys import getfilesystemencodeerrors, getfilesystemencoding

from fastproc._values.checks import check_env_name, check_text
from fastproc._values.expression import Expression
from fastproc._values.options import NONE, Options, make, normalise
from fastproc._values.redirect import STDERR, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Unpack

    from fastproc._engine.process import Process
    from fastproc._values.aliases import Environ, OptionsDict, Path, Text
    from fastproc._values.plan import Plan
    from fastproc._values.status import Result

ENCODING = getfilesystemencoding()
ENCODING_ERRORS = getfilesystemencodeerrors()


class Command(Expression):
    """A program, its arguments and its options: the expression that others are made of.

    Two commands are equal when their arguments and normalised options are. The methods that change something return a
    new command, and of two that say the same thing the first wins, as if the second were written outside of it;
    `options()` replaces. `str()` gives a line for a shell, `repr()` the call that makes it. A descriptor number or an
    open file among the options belongs to this process: such a command means something else, or does not pickle,
    elsewhere.
    """

    __module__ = "fastproc"

    __slots__ = ("_argv", "_blob", "_hash", "_options", "_plan")

    _argv: tuple[str, ...]
    _blob: bytes
    _options: Options
    _plan: Plan | None
    _hash: int | None

    def __new__(cls, argv: Iterable[Text], options: Mapping[str, Any] | None = None) -> Command:
        """Take the arguments, the program first, and keyword options as of `cmd()`.

        Raises:
            TypeError, ValueError: as cmd().
        """
        if isinstance(argv, (str, bytes)):
            raise TypeError("argv: must be a list or tuple of arguments, not one text; see cmd()")
        return build(tuple(argv), normalise(options) if options else NONE)

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments, as text in the file system's encoding with surrogateescape."""
        return self._argv

    def option(self, name: str) -> object:
        """Return the normalised value of an option, or its default."""
        return self._options.get(name)

    # What is run

    def args(self, *more: Text) -> Command:
        """Add arguments at the end."""
        return build(self._argv + more, self._options)

    def options(self, **changes: Unpack[OptionsDict]) -> Command:
        """Change options; a default value undoes one."""
        return self._with(changes)

    def _with(self, changes: Mapping[str, Any]) -> Command:
        new = _new(Command)
        new._argv = self._argv
        new._blob = self._blob
        new._options = self._options.merged(changes)
        new._plan = None
        new._hash = None
        return new

    # Where it runs

    def dir(self, path: Path | int) -> Command:
        """Run it in a directory, given as a path or a descriptor, unless it has one already.

        A program's relative path stays relative to the directory of this process, as duct has it; with the option `cwd`
        it is relative to the new one, as for execve(2).
        """
        changes: dict[str, Any] = {"cwd": path}
        program = self._argv[0]
        if "/" in program and not program.startswith("/"):
            changes["relative_to_parent"] = True
        changed = self._with(changes)
        return self if "cwd" in self._options.values else changed

    def env(self, name: str | bytes, value: Text) -> Command:
        """Set one environment variable, unless it is set or removed already, or the whole environment is."""
        name = check_env_name("env_add", name)
        added = dict(self._pairs("env_add"))
        changed = self._with({"env_add": {**added, name: value}})
        values = self._options.values
        return self if name in added or name in values.get("env_remove", ()) or "env" in values else changed

    def env_remove(self, *names: str | bytes) -> Command:
        """Remove environment variables of the parent's, but not those set already."""
        gone = [check_env_name("env_remove", name) for name in names]
        values = self._options.values
        if "env" in values:
            return self
        before: tuple[str, ...] = values.get("env_remove", ())
        added = dict(self._pairs("env_add"))
        return self._with({"env_remove": [*before, *(name for name in gone if name not in added)]})

    def full_env(self, variables: Environ) -> Command:
        """Replace the parent's environment, unless it is replaced already; what is set or removed already stays so."""
        changed = self._with({"env": variables})
        return self if "env" in self._options.values else changed

    def _pairs(self, name: str) -> Iterable[tuple[str, str]]:
        pairs: Iterable[tuple[str, str]] = self._options.get(name)
        return pairs

    def before_spawn(self, hook: Callable[[Command], Command]) -> Command:
        """Let a function edit the Command just before it is started; the one given first is called last."""
        return self._with({"before_spawn": (hook, *self._options.get("before_spawn"))})

    def _each(self, change: Callable[[Command], Command]) -> Command:
        changed = change(self)
        substitutes = changed._options.get("substitutes")
        if substitutes:
            mapped = [type(item)(item.expression._each(change), item.writes) for item in substitutes]
            changed = changed._with({"substitutes": mapped})
        return changed

    def _redirect(self, name: str, value: Any) -> Expression:
        """Redirect a stream; where the options cannot say it, by a Scoped expression.

        What is redirected already keeps its place: of two redirections the inner one wins.
        """
        values = self._options.values
        swapped = "swap_outputs" in values
        out, err = "stdout" in values, "stderr" in values
        if name == "unchecked":
            return self._with({"check": False})
        if name in ("stdin", "input"):
            changed = self._with({name: value, "stdin" if name == "input" else "input": None})
            return self if "stdin" in values or "input" in values else changed
        if name == "swap":
            if not out and not err:
                return self._with({"swap_outputs": not swapped})
        elif value is STDERR or value is STDOUT:
            if not swapped and not out and not err:
                return self._with({name: value})
            if not swapped and name in values:
                return self
        else:
            changed = self._with({name: value})
            return self if name in values else changed
        return super()._redirect(name, value)

    # Running it

    def run(self, **changes: Unpack[OptionsDict]) -> Result:
        """Run it to its end; see `fastproc.run()`."""
        from fastproc._run import run

        return run(self, **changes)

    def start(self, **changes: Unpack[OptionsDict]) -> Process:
        """Start it and return its Process; see `fastproc.start()`."""
        from fastproc._run import start

        return start(self, **changes)

    # The value

    def __eq__(self, other: object) -> bool:
        """Compare arguments and normalised options."""
        if type(other) is not Command:
            return False if isinstance(other, Expression) else NotImplemented
        return self._argv == other._argv and self._options.values == other._options.values

    def __hash__(self) -> int:
        """Hash arguments and normalised options."""
        found = self._hash
        if found is None:
            found = self._hash = hash((self._argv, frozenset(self._options.values.items())))
        return found

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the arguments and options, without what is cached."""
        return _restore_command, (self._argv, self._options.values)


_new = object.__new__


def cmd(program: Text | list[Text] | tuple[Text, ...], *args: Text, **options: Unpack[OptionsDict]) -> Command:
    """Make a Command of a program and its arguments.

    Each is str, bytes or os.PathLike; `cmd(["a", "b"])` takes them as one list or tuple. A program's name without a
    slash is searched in PATH as execvp(3) does: the PATH of the child's environment, else the parent's, else
    /bin:/usr/bin; one given as a path object means the file of that name. No shell is involved.

    >>> print(cmd("git", "log", "--format=%h %s", cwd="/src"))
    cd /src && git log '--format=%h %s'

    Raises:
        TypeError: an argument of another type, an unknown option, or an option of a wrong type.
        ValueError: no program, a NUL in an argument, or an impossible option.
    """
    if not args and isinstance(program, (list, tuple)):
        return build(tuple(program), normalise(options) if options else NONE)
    return build((program, *args), normalise(options) if options else NONE)  # type: ignore[arg-type]


cmd.__module__ = "fastproc"


def build(argv: tuple[Text, ...], options: Options) -> Command:
    """Make a Command of checked options; what `cmd()` and the hot path of `run()` share."""
    try:
        text = "\0".join(argv)  # type: ignore[arg-type]
        blob = (text + "\0").encode(ENCODING, ENCODING_ERRORS)
    except (TypeError, UnicodeEncodeError):
        argv, options = _texts(argv, options)
        blob = ("\0".join(argv) + "\0").encode(ENCODING, ENCODING_ERRORS)
    # GOTCHAS F5, F8.
    if blob.count(0) != len(argv) or blob[0] == 0:
        _refuse(argv)
    new = _new(Command)
    new._argv = argv  # type: ignore[assignment]
    new._blob = blob
    new._options = options
    new._plan = None
    new._hash = None
    return new


def _texts(argv: tuple[Text, ...], options: Options) -> tuple[tuple[str, ...], Options]:
    """Return the arguments as text, and the options with the substitutions among them."""
    found = []
    substitutes = list(options.get("substitutes"))
    for index, item in enumerate(argv):
        if isinstance(getattr(item, "expression", None), Expression):
            from fastproc._values.combination import substituted_path

            found.append(substituted_path(len(substitutes)))
            substitutes.append(item)
        else:
            found.append(check_text(f"argument {index}", item))
    if argv and not isinstance(argv[0], (str, bytes)) and "/" not in found[0]:
        # A path means the file of that name, which execvp(3) would search in PATH (and pathlib drops a leading "./").
        found[0] = f"./{found[0]}"
    if len(substitutes) != len(options.get("substitutes")):
        options = options.merged({"substitutes": substitutes})
    return tuple(found), options


def _refuse(argv: tuple[Text, ...]) -> None:
    if not argv:
        raise ValueError("argv: is empty; a program is needed")
    for index, item in enumerate(argv):
        check_text(f"argument {index}", item)
    raise ValueError("argument 0: the program's name is empty, for which execve(2) has no file")


def _restore_command(argv: tuple[str, ...], values: dict[str, Any]) -> Command:
    return build(argv, make(values))


_restore_command.__module__ = "fastproc"  # where pickles find it
