"""What can be run, as a value: Expression, which has the words of commands and of their combinations; and Command.

The words and their meaning are duct's: a redirection is done outside in, so that the inner of two wins; an environment
and a directory reach every command below that does not set the same itself.
Not here: the combinations (combination.py, loaded when the first is made), running them (_run.py, reached by the slot
`door`). Immutable, hashable and picklable; running one changes nothing.
"""

from __future__ import annotations

from sys import getfilesystemencodeerrors, getfilesystemencoding

from fastproc._values.checks import check_env_name, check_text
from fastproc._values.options import NONE, Options, check_input, make, normalise
from fastproc._values.redirect import DEVNULL, PIPE, STDERR, STDOUT, Append, check_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, Protocol, TypedDict, Unpack

    from fastproc._engine.process import Process
    from fastproc._values.aliases import BytesLike, Environ, HasFileno, Limit, Path, Signal, Text
    from fastproc._values.capabilities import Capabilities, CapabilitySet
    from fastproc._values.capture import CaptureLimit
    from fastproc._values.plan import Plan
    from fastproc._values.pty import Pty
    from fastproc._values.redirect import Stream, StreamArgument
    from fastproc._values.status import Result

    class Substitution(Protocol):
        """An argument that fd_of() or fd_to() has made."""

        @property
        def expression(self) -> Expression: ...
        @property
        def writes(self) -> bool: ...

    class OptionsDict(TypedDict, total=False):
        """The keyword options of a command, with the types that each takes."""

        cwd: Path | int | None
        env: Environ | None
        env_add: Environ
        env_remove: Iterable[str | bytes]
        argv0: Text | None
        stdin: StreamArgument
        stdout: StreamArgument
        stderr: StreamArgument
        swap_outputs: bool
        fds: Mapping[int, int | HasFileno]
        pass_fds: Iterable[int | HasFileno]
        listen_fds: Mapping[str, int | HasFileno | Sequence[int | HasFileno]] | Iterable[int | HasFileno]
        close_fds: bool
        umask: int | None
        setsid: bool | None
        pgid: int | None
        ctty: int | None
        foreground: bool
        nice: int | None
        ionice: str | tuple[str, int] | None
        affinity: Iterable[int] | None
        scheduler: str | tuple[str, int] | None
        rlimits: Mapping[str, Limit | tuple[Limit, Limit]] | Mapping[int, Limit | tuple[Limit, Limit]]
        oom_score_adj: int | None
        sigmask: Iterable[Signal] | str
        sigdefault: Iterable[Signal]
        sigignore: Iterable[Signal]
        restore_signals: bool
        pdeathsig: Signal | None
        die_with_parent: bool
        kill_tree: bool
        subreaper: bool
        no_new_privs: bool | None
        timer_slack_ns: int | None
        cgroup: Path | int | None
        pipe_size: int | None
        pty: bool | tuple[int, int] | Pty | None
        user: str | int | None
        group: str | int | None
        groups: Iterable[str | int] | str | None
        capabilities: Capabilities | CapabilitySet | Iterable[int | str] | None
        ambient: CapabilitySet | Iterable[int | str] | None
        bounding: CapabilitySet | Iterable[int | str] | None
        securebits: int | Iterable[str] | None
        root: Path | int | None
        namespaces: Iterable[str] | None
        uid_map: Iterable[tuple[int, int, int]] | None
        gid_map: Iterable[tuple[int, int, int]] | None
        time_offsets: Mapping[str, float] | None
        landlock: Mapping[str, str] | None
        seccomp: BytesLike | None
        clean_env: Iterable[str] | bool | None
        check: bool
        ok_codes: Iterable[int] | int
        capture: bool
        input: BytesLike | Iterable[bytes] | None
        timeout: float | None
        grace: float
        drain_timeout: float | None
        idle_timeout: float | None
        stdout_limit: CaptureLimit | None
        stderr_limit: CaptureLimit | None
        on_line: Callable[[str, Any], object] | None
        tee: bool
        sigpipe_ok: bool
        relative_to_parent: bool
        before_spawn: Callable[[Command], Command] | Iterable[Callable[[Command], Command]]
        substitutes: Iterable[Substitution]

    Cut = tuple[str | bytes, str | None, str, bool]
    """Newline, encoding or None for bytes, errors, keep_ends."""

    class Door(Protocol):
        """What an expression needs of modules that import this one."""

        def run(self, program: Expression, /, **options: Unpack[OptionsDict]) -> Result: ...
        def start(self, program: Expression, /, **options: Unpack[OptionsDict]) -> Process: ...
        def run_expression(self, expression: Expression, options: Any) -> Result: ...
        def start_expression(self, expression: Expression, options: Any) -> Any: ...
        def reader(self, expression: Expression, options: Any) -> Any: ...
        def lines(self, expression: Expression, options: Any, cut: Cut) -> Iterator[Any]: ...
        def pipe(self, parts: Iterable[Expression]) -> Expression: ...
        def sequence(self, left: Expression, right: Expression, on_success: bool) -> Expression: ...
        def tee(self, source: Expression, consumers: Iterable[Expression]) -> Expression: ...
        def scoped(self, inner: Expression, name: str, value: Any) -> Expression: ...
        def call(self, expression: Expression) -> str: ...
        def line(self, expression: Expression) -> str: ...


door: Door = None  # type: ignore[assignment]
"""The module _run.py, put here by itself."""

SWAP = "swap"
INPUT = "input"
UNCHECKED = "unchecked"


ENCODING = getfilesystemencoding()
ENCODING_ERRORS = getfilesystemencodeerrors()


FD_FIRST = 63
"""The child's number of the first substituted descriptor, as in bash; the next ones go down from it."""


class Expression:
    """What can be run: a Command, or commands combined by pipes and sequences.

    Immutable, hashable, picklable; running it changes nothing, so it can be run again. `str()` gives the line for bash
    that means the same, `repr()` the calls that make it.
    """

    __module__ = "fastproc"

    __slots__ = ()

    # -- combining

    def pipe(self, *others: Expression) -> Expression:
        """Feed its standard output to the next expression's standard input, as `|` does in a shell.

        A kernel pipe joins them; no byte passes through this process. All sides run at the same time.
        """
        return door.pipe((self, *others))

    def __or__(self, other: object) -> Expression:
        return self.pipe(other) if isinstance(other, Expression) else NotImplemented

    def then(self, other: Expression) -> Expression:
        """Run the other one when this one has succeeded, as `&&` does; one that is unchecked always has."""
        return door.sequence(self, other, True)

    def or_else(self, other: Expression) -> Expression:
        """Run the other one when this one has failed, as `||` does; one that is unchecked never has."""
        return door.sequence(self, other, False)

    def tee(self, *consumers: Expression) -> Expression:
        """Give all of its standard output to each of the expressions, which run at the same time.

        The bytes are duplicated in the kernel (tee(2)), at the pace of the slowest; one that stops reading is left out.
        """
        return door.tee(self, consumers)

    # -- every command in it

    def _each(self, change: Callable[[Command], Command]) -> Expression:
        """Return it with every command changed."""
        raise NotImplementedError

    def dir(self, path: Path | int) -> Expression:
        """Run every command in it in a directory; a program's relative path stays relative to this process's."""
        return self._each(lambda command: command.dir(path))

    def env(self, name: str | bytes, value: Text) -> Expression:
        """Set an environment variable for every command that neither sets nor removes it."""
        return self._each(lambda command: command.env(name, value))

    def env_remove(self, *names: str | bytes) -> Expression:
        """Remove environment variables for every command that does not set them."""
        return self._each(lambda command: command.env_remove(*names))

    def full_env(self, variables: Environ) -> Expression:
        """Replace the environment of every command by these variables; what a command sets or removes stays done."""
        return self._each(lambda command: command.full_env(variables))

    def before_spawn(self, hook: Callable[[Command], Command]) -> Expression:
        """Let a function edit each Command just before it is started: it gets one and returns one.

        It runs in this process each time; nothing of it runs in the child. Of several the innermost is the last.
        """
        return self._each(lambda command: command.before_spawn(hook))

    # -- its streams

    def _redirect(self, name: str, value: Any) -> Expression:
        return door.scoped(self, name, value)

    def stdin_bytes(self, data: BytesLike | Iterable[bytes]) -> Expression:
        """Feed bytes, or what an iterable yields, to its standard input."""
        return self._redirect(INPUT, check_input(INPUT, data))

    def stdin_path(self, path: Path) -> Expression:
        """Read standard input from a file."""
        return self._redirect("stdin", _path("stdin", path))

    def stdin_file(self, file: int | HasFileno) -> Expression:
        """Read standard input from a descriptor or an open file."""
        return self._redirect("stdin", _file("stdin", file))

    def stdin_null(self) -> Expression:
        """Give it /dev/null as standard input."""
        return self._redirect("stdin", DEVNULL)

    def stdout_path(self, path: Path) -> Expression:
        """Write standard output to a file, emptied or made first."""
        return self._redirect("stdout", _path("stdout", path))

    def stdout_append(self, path: Path) -> Expression:
        """Append standard output to a file."""
        return self._redirect("stdout", Append(path))

    def stdout_file(self, file: int | HasFileno) -> Expression:
        """Write standard output to a descriptor or an open file."""
        return self._redirect("stdout", _file("stdout", file))

    def stdout_null(self) -> Expression:
        """Discard standard output."""
        return self._redirect("stdout", DEVNULL)

    def stdout_capture(self) -> Expression:
        """Capture standard output; everything of an expression that is captured shares one pipe."""
        return self._redirect("stdout", PIPE)

    def stdout_to_stderr(self) -> Expression:
        """Send standard output to where standard error goes outside of this."""
        return self._redirect("stdout", STDERR)

    def stderr_path(self, path: Path) -> Expression:
        """Write standard error to a file, emptied or made first."""
        return self._redirect("stderr", _path("stderr", path))

    def stderr_append(self, path: Path) -> Expression:
        """Append standard error to a file."""
        return self._redirect("stderr", Append(path))

    def stderr_file(self, file: int | HasFileno) -> Expression:
        """Write standard error to a descriptor or an open file."""
        return self._redirect("stderr", _file("stderr", file))

    def stderr_null(self) -> Expression:
        """Discard standard error."""
        return self._redirect("stderr", DEVNULL)

    def stderr_capture(self) -> Expression:
        """Capture standard error; each stage's own is in `PipelineResult.stages`."""
        return self._redirect("stderr", PIPE)

    def stderr_to_stdout(self) -> Expression:
        """Send standard error to where standard output goes outside of this."""
        return self._redirect("stderr", STDOUT)

    def stdout_stderr_swap(self) -> Expression:
        """Exchange the places to which standard output and standard error go outside of this."""
        return self._redirect(SWAP, True)

    def unchecked(self) -> Expression:
        """Accept any exit status. It sticks to the statuses in this expression, and to no other."""
        return self._redirect(UNCHECKED, True)

    # -- running it

    def run(self, **options: Unpack[OptionsDict]) -> Result:
        """Run it to its end; see `fastproc.pipeline.run()`."""
        return door.run_expression(self, options)

    def start(self, **options: Unpack[OptionsDict]) -> Any:
        """Start it and return its Pipeline; see `fastproc.pipeline.start()`."""
        return door.start_expression(self, options)

    def read(self, **options: Unpack[OptionsDict]) -> str:
        """Run it and return its standard output as text without the newlines at the end, as the shell's `$(...)`."""
        result = self.stdout_capture().run(**options)
        # Redirected farther in, nothing of it comes here.
        return "" if result.stdout is None else result.text().rstrip("\n")

    def reader(self, **options: Unpack[OptionsDict]) -> Any:
        """Start it and return a file of its standard output; see `fastproc.pipeline.Reader`."""
        return door.reader(self, options)

    def lines(
        self,
        *,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | bytes = "\n",
        keep_ends: bool = False,
        **options: Unpack[OptionsDict],
    ) -> Iterator[Any]:
        r"""Start it and give the lines of its standard output as they come, without their ends.

        Leaving the loop, or dropping the iterator, ends every stage at once. At the end of the output the statuses are
        looked at as by `run()`.

        Args:
            text: str instead of bytes.
            encoding: of the text.
            errors: what becomes of bytes that are no text, as bytes.decode() has it.
            newline: the one character that ends a line, such as "\0" for `find -print0`; or "universal".
            keep_ends: leave the ends on.
            options: as of run().

        Raises:
            UnicodeDecodeError: a line is no such text; its `object` has the bytes. The lines before it were given, and
                every stage is ended.
        """
        return door.lines(self, options, (newline, encoding if text else None, errors, keep_ends))

    # -- the value

    def __repr__(self) -> str:
        """Return the calls that make it."""
        return door.call(self)

    def __str__(self) -> str:
        """Return it as a line for bash, with what a shell can say of it."""
        return door.line(self)


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
        return door.run(self, **changes)

    def start(self, **changes: Unpack[OptionsDict]) -> Process:
        """Start it and return its Process; see `fastproc.start()`."""
        return door.start(self, **changes)

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


def substituted_path(index: int) -> str:
    """Return the path that stands among the arguments for a command's nth substitution."""
    return f"/dev/fd/{FD_FIRST - index}"


def _refuse(argv: tuple[Text, ...]) -> None:
    if not argv:
        raise ValueError("argv: is empty; a program is needed")
    for index, item in enumerate(argv):
        check_text(f"argument {index}", item)
    raise ValueError("argument 0: the program's name is empty, for which execve(2) has no file")


def _restore_command(argv: tuple[str, ...], values: dict[str, Any]) -> Command:
    return build(argv, make(values))


_restore_command.__module__ = "fastproc"  # where pickles find it


def _path(name: str, path: object) -> Stream:
    if isinstance(path, int):
        raise TypeError(f"{name}: must be a path, not int; use {name}_file()")
    return check_stream(name, path)


def _file(name: str, file: StreamArgument) -> Stream:
    if isinstance(file, int) and not isinstance(file, bool) and file < 0:
        raise ValueError(f"{name}: {int(file)} is not a descriptor number")
    return check_stream(name, file)
