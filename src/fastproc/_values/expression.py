"""Expression: what commands and combinations of commands have in common; the vocabulary. Pure values.

The words and their meaning are duct's: a redirection is done outside in, so that the inner of two wins; an environment
and a directory reach every command below that does not set the same itself.
Not here: the combinations themselves (combination.py, loaded when the first is made).
"""

from __future__ import annotations

from fastproc._values.loading import loaded
from fastproc._values.options import check_input
from fastproc._values.redirect import DEVNULL, PIPE, STDERR, STDOUT, Append, check_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Unpack

    from fastproc._values.aliases import BytesLike, Environ, HasFileno, OptionsDict, Path, Stream, StreamArgument, Text
    from fastproc._values.command import Command
    from fastproc._values.status import Result

SWAP = "swap"
INPUT = "input"
UNCHECKED = "unchecked"


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
        loaded("fastproc._values.combination")
        from fastproc._values.combination import Pipe

        return Pipe((self, *others))

    def __or__(self, other: object) -> Expression:
        return self.pipe(other) if isinstance(other, Expression) else NotImplemented

    def then(self, other: Expression) -> Expression:
        """Run the other one when this one has succeeded, as `&&` does; one that is unchecked always has."""
        loaded("fastproc._values.combination")
        from fastproc._values.combination import Sequence

        return Sequence(self, other, True)

    def or_else(self, other: Expression) -> Expression:
        """Run the other one when this one has failed, as `||` does; one that is unchecked never has."""
        loaded("fastproc._values.combination")
        from fastproc._values.combination import Sequence

        return Sequence(self, other, False)

    def tee(self, *consumers: Expression) -> Expression:
        """Give all of its standard output to each of the expressions, which run at the same time.

        The bytes are duplicated in the kernel (tee(2)), at the pace of the slowest; one that stops reading is left out.
        """
        loaded("fastproc._values.combination")
        from fastproc._values.combination import Tee

        return Tee(self, consumers)

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
        loaded("fastproc._values.combination")
        from fastproc._values.combination import Scoped

        return Scoped(self, name, value)

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
        loaded("fastproc.pipeline")
        from fastproc.pipeline import run

        return run(self, options)

    def start(self, **options: Unpack[OptionsDict]) -> Any:
        """Start it and return its Pipeline; see `fastproc.pipeline.start()`."""
        loaded("fastproc.pipeline")
        from fastproc.pipeline import start

        return start(self, options)

    def read(self, **options: Unpack[OptionsDict]) -> str:
        """Run it and return its standard output as text without the newlines at the end, as the shell's `$(...)`."""
        result = self.stdout_capture().run(**options)
        # Redirected farther in, nothing of it comes here.
        return "" if result.stdout is None else result.text().rstrip("\n")

    def reader(self, **options: Unpack[OptionsDict]) -> Any:
        """Start it and return a file of its standard output; see `fastproc.pipeline.Reader`."""
        loaded("fastproc.pipeline")
        from fastproc.pipeline import reader

        return reader(self, options)

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
        loaded("fastproc.pipeline")
        from fastproc.pipeline import lines

        return lines(self, options, (newline, encoding if text else None, errors, keep_ends))

    # -- the value

    def __repr__(self) -> str:
        """Return the calls that make it."""
        from fastproc._values.shellline import call

        return call(self)

    def __str__(self) -> str:
        """Return it as a line for bash, with what a shell can say of it."""
        from fastproc._values.shellline import line

        return line(self)


def _path(name: str, path: object) -> Stream:
    if isinstance(path, int):
        raise TypeError(f"{name}: must be a path, not int; use {name}_file()")
    return check_stream(name, path)


def _file(name: str, file: StreamArgument) -> Stream:
    if isinstance(file, int) and not isinstance(file, bool) and file < 0:
        raise ValueError(f"{name}: {int(file)} is not a descriptor number")
    return check_stream(name, file)
