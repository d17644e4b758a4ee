"""Command: what to run and how, as a value. Immutable, hashable and picklable; running one never changes it."""

from __future__ import annotations

from sys import getfilesystemencodeerrors, getfilesystemencoding

from fastproc._values import options as _options_module
from fastproc._values.options import NONE, Options, normalise
from fastproc._values.redirect import DEVNULL, PIPE, STDERR, STDOUT, Append, check_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Unpack

    from fastproc._engine.process import Process
    from fastproc._values.kinds import BytesLike, Environ, HasFileno, OptionsDict, Path, StreamArgument, Text
    from fastproc._values.plan import Plan
    from fastproc._values.status import Result

ENCODING = getfilesystemencoding()
ENCODING_ERRORS = getfilesystemencodeerrors()


class Command:
    """A program, its arguments and its options.

    Two commands are equal when their arguments and normalised options are. The methods that change something return a
    new command; `str()` gives a line for a shell, `repr()` the call that makes it. A descriptor number or an open file
    among the options belongs to this process: such a command means something else, or does not pickle, elsewhere.
    """

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
        """Run it in a directory, given as a path or a descriptor. A program's relative path is then relative to it."""
        return self._with({"cwd": path})

    def env(self, name: str | bytes, value: Text) -> Command:
        """Set one environment variable."""
        name = _options_module.check_env_name("env_add", name)
        added = {**dict(self._pairs("env_add")), name: value}
        return self._with({"env_add": added})

    def env_remove(self, *names: str | bytes) -> Command:
        """Remove environment variables, of the parent's and of those set so far."""
        gone = [_options_module.check_env_name("env_remove", name) for name in names]
        added = {name: value for name, value in self._pairs("env_add") if name not in gone}
        before: tuple[str, ...] = self._options.get("env_remove")
        return self._with({"env_add": added, "env_remove": [*before, *gone]})

    def full_env(self, variables: Environ) -> Command:
        """Replace the whole environment, also what env() and env_remove() did so far."""
        return self._with({"env": variables, "env_add": {}, "env_remove": ()})

    def _pairs(self, name: str) -> Iterable[tuple[str, str]]:
        pairs: Iterable[tuple[str, str]] = self._options.get(name)
        return pairs

    # Standard streams

    def stdin_bytes(self, data: BytesLike | Iterable[bytes]) -> Command:
        """Feed bytes, or what an iterable yields, to its standard input."""
        return self._with({"stdin": None, "input": data})

    def stdin_path(self, path: Path) -> Command:
        """Read standard input from a file."""
        return self._stdin(path)

    def stdin_file(self, file: int | HasFileno) -> Command:
        """Read standard input from a descriptor or an open file."""
        return self._stdin(file)

    def stdin_null(self) -> Command:
        """Give it /dev/null as standard input."""
        return self._stdin(DEVNULL)

    def _stdin(self, source: StreamArgument) -> Command:
        return self._with({"stdin": source, "input": None})

    def stdout_path(self, path: Path) -> Command:
        """Write standard output to a file, emptied or made first."""
        return self._with({"stdout": path})

    def stdout_append(self, path: Path) -> Command:
        """Append standard output to a file."""
        return self._with({"stdout": Append(path)})

    def stdout_file(self, file: int | HasFileno) -> Command:
        """Write standard output to a descriptor or an open file."""
        return self._with({"stdout": file})

    def stdout_null(self) -> Command:
        """Discard standard output."""
        return self._with({"stdout": DEVNULL})

    def stdout_capture(self) -> Command:
        """Capture standard output."""
        return self._with({"stdout": PIPE})

    def stdout_to_stderr(self) -> Command:
        """Send standard output wherever standard error goes."""
        return self._with({"stdout": STDERR})

    def stderr_path(self, path: Path) -> Command:
        """Write standard error to a file, emptied or made first."""
        return self._with({"stderr": path})

    def stderr_append(self, path: Path) -> Command:
        """Append standard error to a file."""
        return self._with({"stderr": Append(path)})

    def stderr_file(self, file: int | HasFileno) -> Command:
        """Write standard error to a descriptor or an open file."""
        return self._with({"stderr": file})

    def stderr_null(self) -> Command:
        """Discard standard error."""
        return self._with({"stderr": DEVNULL})

    def stderr_capture(self) -> Command:
        """Capture standard error."""
        return self._with({"stderr": PIPE})

    def stderr_to_stdout(self) -> Command:
        """Send standard error wherever standard output goes."""
        return self._with({"stderr": STDOUT})

    def stdout_stderr_swap(self) -> Command:
        """Exchange the places to which standard output and standard error go; twice is not at all."""
        return self._with({"swap_outputs": not self._options.get("swap_outputs")})

    # Running it

    def unchecked(self) -> Command:
        """Accept any exit status."""
        return self._with({"check": False})

    def run(self, **changes: Unpack[OptionsDict]) -> Result:
        """Run it to its end; see `fastproc.run()`."""
        from fastproc.run import run

        return run(self, **changes)

    def start(self, **changes: Unpack[OptionsDict]) -> Process:
        """Start it and return its Process; see `fastproc.start()`."""
        from fastproc.run import start

        return start(self, **changes)

    def read(self, **changes: Unpack[OptionsDict]) -> str:
        """Run it and return its standard output as text without the newlines at the end, as the shell's `$(...)`."""
        from fastproc.run import run

        return run(self.stdout_capture(), **changes).text().rstrip("\n")

    # The value

    def __eq__(self, other: object) -> bool:
        """Compare arguments and normalised options."""
        if not isinstance(other, Command):
            return NotImplemented
        return self._argv == other._argv and self._options.values == other._options.values

    def __hash__(self) -> int:
        """Hash arguments and normalised options."""
        found = self._hash
        if found is None:
            found = self._hash = hash((self._argv, frozenset(self._options.values.items())))
        return found

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the arguments and options, without what is cached."""
        return _restore, (self._argv, self._options.values)

    def __repr__(self) -> str:
        """Return the call that makes it."""
        from fastproc._values.shellline import call

        return call(self)

    def __str__(self) -> str:
        """Return it as a line for a POSIX shell, with what a shell can say of the options."""
        from fastproc._values.shellline import line

        return line(self)


_new = object.__new__


def cmd(program: Text | list[Text] | tuple[Text, ...], *args: Text, **options: Unpack[OptionsDict]) -> Command:
    """Make a Command of a program and its arguments.

    Each is str, bytes or os.PathLike; `cmd(["a", "b"])` takes them as one list or tuple. A program's name without a
    slash is searched in PATH as execvp(3) does: the PATH of the child's environment, else the parent's, else
    /bin:/usr/bin. No shell is involved.

    >>> print(cmd("git", "log", "--format=%h %s", cwd="/src"))
    cd /src && git log '--format=%h %s'

    Raises:
        TypeError: an argument of another type, an unknown option, or an option of a wrong type.
        ValueError: no program, a NUL in an argument, or an impossible option.
    """
    if not args and isinstance(program, (list, tuple)):
        return build(tuple(program), normalise(options) if options else NONE)
    return build((program, *args), normalise(options) if options else NONE)  # type: ignore[arg-type]


def build(argv: tuple[Text, ...], options: Options) -> Command:
    """Make a Command of checked options; what `cmd()` and the hot path of `run()` share."""
    try:
        text = "\0".join(argv)  # type: ignore[arg-type]
        blob = (text + "\0").encode(ENCODING, ENCODING_ERRORS)
    except (TypeError, UnicodeEncodeError):
        argv = tuple(check_text(f"argument {index}", item) for index, item in enumerate(argv))
        blob = ("\0".join(argv) + "\0").encode(ENCODING, ENCODING_ERRORS)  # type: ignore[arg-type]
    # HAZARDS F5, F8.
    if blob.count(0) != len(argv) or blob[0] == 0:
        _refuse(argv)
    new = _new(Command)
    new._argv = argv  # type: ignore[assignment]
    new._blob = blob
    new._options = options
    new._plan = None
    new._hash = None
    return new


def _refuse(argv: tuple[Text, ...]) -> None:
    if not argv:
        raise ValueError("argv: is empty; a program is needed")
    for index, item in enumerate(argv):
        check_text(f"argument {index}", item)
    raise ValueError("argument 0: the program's name is empty, for which execve(2) has no file")


def _restore(argv: tuple[str, ...], values: dict[str, Any]) -> Command:
    return build(argv, _options_module.make(values))
