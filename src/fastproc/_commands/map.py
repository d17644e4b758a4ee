"""`python -m fastproc map`: a command for each item, as xargs and GNU parallel do it."""

from __future__ import annotations

import sys
from os import fsdecode, fsencode

from fastproc import errors
from fastproc._commands.complaint import complain
from fastproc._commands.map_arguments import Asked, Source, Wrong, usage
from fastproc._commands.text import write
from fastproc._engine import standard
from fastproc._values.redirect import DEVNULL
from fastproc.mapping import map as run_map
from fastproc.mapping._template import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from fastproc._values.command import Expression
    from fastproc.mapping import Mapped, Task

    Item = tuple[str, ...]

PACKED = 128 * 1024
"""Bytes of one command with -X, as xargs has them, where the kernel takes as many (MAX_ARG_STRLEN of execve(2))."""

HEADROOM = 2048
"""Bytes that are left free for what an environment may get (POSIX, xargs)."""

_CHUNK = 1 << 16
_ESCAPES = {"n": "\n", "t": "\t", "0": "\0", "r": "\r", "\\": "\\"}
_TOO_MANY = 101
_BROKEN_PIPE = 141
_UNWRITABLE = 255


def map_(arguments: list[str]) -> int:
    """Run what the command line says; return the exit status."""
    try:
        asked = Asked(arguments)
        if asked.text("help"):
            write(lambda: usage().removesuffix("\n"))
            return 0
        sources = Sources(asked)
        mapped = _begin(asked, sources)
    except BrokenPipeError:
        return _BROKEN_PIPE
    except (Wrong, ValueError, OSError) as error:
        complain("map", error)
        # A dry run prints here.
        return _UNWRITABLE if getattr(error, "filename", None) in standard.NAMES else 2
    try:
        with mapped:
            status = _finish(mapped, asked.text("halt") or "")
            failed_to_start = mapped.summary
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _BROKEN_PIPE
    except (ValueError, TypeError, OSError) as error:
        complain("map", error)
        return _UNWRITABLE
    if asked.text("summary"):
        standard.say(failed_to_start)
    return status


def _begin(asked: Asked, sources: Sources) -> Mapped:
    """Start what the command line says."""
    work = _work(asked)
    items: Iterable[Item] = _grouped(asked, sources.items(), work)
    options: dict[str, Any] = {"stdin": DEVNULL, "die_with_parent": True, "check": True}
    timeout = asked.seconds("timeout")
    if timeout is not None:
        options["timeout"] = timeout
    halt = asked.text("halt")
    if asked.text("bar") or "%" in (halt or ""):
        items = list(items)
    mapped = run_map(
        work,
        items,
        workers=asked.jobs(),
        ordered=bool(asked.text("keep")),
        retries=(asked.number("tries", 1) or 1) - 1,
        halt=halt,
        delay=asked.seconds("delay") or 0.0,
        joblog=asked.text("joblog"),
        results=asked.text("results"),
        resume="failed" if asked.text("resume") == "failed" else bool(asked.text("resume")),
        doubt="skip" if asked.text("once") else "again",
        durable=bool(asked.text("durable")),
        output=asked.text("output") or "group",
        tag=bool(asked.text("tag")),
        progress=bool(asked.text("bar")),
        dry_run=bool(asked.text("dry")),
        **options,
    )
    if asked.text("trace"):
        mapped.on_begin = _trace
    mapped.splits = asked.text("pack") is not None
    return mapped


def _finish(mapped: Mapped, halt: str) -> int:
    """Wait for all; return the exit status."""
    last: Task | None = None
    failed: Task | None = None
    try:
        while True:
            last = mapped.next_task()
            if last.error is not None:
                failed = failed or last
                _tell(last)
    except StopIteration:
        pass
    summary = mapped.summary
    lost = len(summary.doubt) if mapped.skips_doubt else 0
    for line in summary.doubt if lost else ():
        complain("map", f"in doubt, and not run again: {line}")
    if summary.halted:
        # As GNU parallel: the status of the task that ended it, or the share of those that failed.
        if halt.endswith("%") and "fail" in halt:
            return -(-100 * summary.failed // (summary.total or 1))
        if "success" in halt:
            return 0
        if failed is not None and "fail" in halt and halt.endswith("=1"):
            return failed.shell_status
    return min(summary.failed + lost, _TOO_MANY)


def _tell(task: Task) -> None:
    """Say why a task failed, where it cannot do so itself."""
    error = task.error
    if not isinstance(error, errors.ExitError):
        complain("map", error)


# -- the command


def _work(asked: Asked) -> Template | Callable[[Any], Expression]:
    words = asked.command
    mark = asked.text("mark") or "{}"
    if not words:
        return _each_is_a_command(bool(asked.text("shell")))
    repeats = asked.repeats
    if asked.text("shell"):
        made = Template([" ".join(words)], mark, shell=True, repeats=repeats)
    elif len(words) == 1 and any(blank in words[0] for blank in " \t\n"):
        made = Template.parse(words[0], mark, repeats=repeats)
    else:
        made = Template(words, mark, repeats=repeats)
    if asked.text("pack") and made.takes_one_source:
        raise Wrong("-X, -m: take as many items as fit, of which {1} would be only the first: write {}, or use -n")
    return made


def _each_is_a_command(shell: bool) -> Callable[[Any], Expression]:
    from fastproc._values.command import cmd

    def make(item: Item) -> Expression:
        line = " ".join(item)
        return cmd("sh", "-c", line) if shell else cmd(*Template.parse(line, append=False).render((), 0, 0))

    return make


def _trace(expression: Expression) -> None:
    """Print a line before it is run, as xargs -t does."""
    standard.say(expression)


# -- the items


class Sources:
    """The items of all sources: each with each, the last one fastest; or side by side; cut into columns.

    Files are opened here, so that a wrong name is found before anything is run.

    Raises:
        Wrong: an option is not possible.
        OSError: a file cannot be opened.
    """

    def __init__(self, asked: Asked) -> None:
        delimiter = asked.text("delimiter")
        self._end = ("\0" if asked.text("null") else _delimiter(delimiter)).encode()
        self._cut = _columns(asked.text("colsep"))
        self._links = bool(asked.text("link"))
        # As GNU parallel: a delimiter cuts what is behind ::: too; of several sources one with nothing there is empty.
        several = len(asked.sources) > 1
        given = [
            Source([""], "", source.linked) if several and source.items == [] else source for source in asked.sources
        ]
        self._sources = [
            Source([*_cut_texts(source.items, self._end)], "", source.linked)
            if delimiter is not None and source.items
            else source
            for source in given
        ]
        self._streams: dict[str, list[Any]] = {}
        self._opened: list[Any] = []
        try:
            for source in self._sources:
                if source.items is None:
                    self._open(source.path)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str) -> None:
        if path == "-":
            # None where the interpreter was started without one.
            self._streams.setdefault(path, [] if sys.stdin is None else [sys.stdin.buffer])
        else:
            self._opened.append(open(path, "rb"))  # noqa: SIM115 - close() does
            self._streams.setdefault(path, []).append(self._opened[-1])

    def close(self) -> None:
        """Close the files."""
        for stream in self._opened:
            stream.close()

    def items(self) -> Iterator[Item]:
        """Give the items, each a text of each source or column."""
        try:
            for item in self._combined():
                yield item if self._cut is None else tuple(part for text in item for part in self._cut(text))
        finally:
            self.close()

    def _combined(self) -> Iterator[Item]:
        sources = self._sources
        if len(sources) == 1:
            yield from ((item,) for item in self._read(sources[0]))
            return
        if self._links:
            yield from _recycled([list(self._read(source)) for source in sources])
            return
        # Those that are linked are one source, as short as the shortest.
        together: list[list[Item]] = []
        for source in sources:
            found: list[Item] = [(item,) for item in self._read(source)]
            if source.linked:
                together[-1] = [before + new for before, new in zip(together[-1], found, strict=False)]
            else:
                together.append(found)
        from itertools import product

        for parts in product(*together):
            yield tuple(text for part in parts for text in part)

    def _read(self, source: Source) -> Iterator[str]:
        if source.items is not None:
            yield from source.items
        elif streams := self._streams[source.path]:
            # stdin that is named twice has nothing the second time.
            yield from _cut(streams[0] if source.path == "-" else streams.pop(0), self._end)


def _columns(pattern: str | None) -> Callable[[str], list[str]] | None:
    """Return what cuts a line into columns.

    Raises:
        Wrong: it is not a valid regular expression.
    """
    if pattern is None:
        return None
    import re

    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(f"-C: {pattern!r} is not a valid regular expression: {error}") from None
    if not pattern:
        raise Wrong("-C: is empty; give what stands between two columns")

    def cut(text: str) -> list[str]:
        # As GNU parallel, whose -d may leave it there.
        text = text.removesuffix("\n")
        found, begun = [], 0
        for match in expression.finditer(text):
            if match.end() == 0 or match.start() == match.end() == len(text):
                # Nothing, before the first character or behind the last one, ends no column.
                continue
            found += [text[begun : match.start()], *(group or "" for group in match.groups())]
            begun = match.end()
        return [*found, text[begun:]]

    return cut


def _cut_texts(texts: list[str], end: bytes) -> Iterator[str]:
    from io import BytesIO

    return _cut(BytesIO(b"".join(fsencode(text) + end for text in texts)), end)


def _recycled(found: list[list[str]]) -> Iterator[Item]:
    """Side by side, as long as the longest; the others begin again."""
    if all(found):
        for place in range(max(map(len, found))):
            yield tuple(items[place % len(items)] for items in found)


def _delimiter(text: str | None) -> str:
    if text is None:
        return "\n"
    if text[:1] == "\\" and len(text) > 1:
        try:
            text = _ESCAPES.get(text[1:]) or chr(int(text[2:], 16) if text[1] == "x" else int(text[1:], 8))
        except (ValueError, OverflowError):
            text = ""
    if len(text) != 1 or ord(text) > 127:
        raise Wrong("-d: must be one character, or such as \\t, \\0, \\x2c")
    return text


def _cut(stream: Any, end: bytes) -> Iterator[str]:
    """The items of a stream, each up to its end; the last one may have none."""
    begun: list[bytes] = []
    while piece := stream.read1(_CHUNK):
        *whole, rest = piece.split(end)
        if whole:
            # Only what was begun is joined: an item of many pieces is copied once.
            whole[0] = b"".join((*begun, whole[0]))
            begun.clear()
            yield from map(fsdecode, whole)
        if rest:
            begun.append(rest)
    if begun:
        yield fsdecode(b"".join(begun))


def _grouped(asked: Asked, items: Iterator[Item], work: Any) -> Iterator[Item]:
    """Several items for one command."""
    count = asked.count
    if asked.text("pack"):
        return _packed(items, work, count)
    return items if count is None else _together(items, count)


def _together(items: Iterator[Item], count: int) -> Iterator[Item]:
    from itertools import islice

    while group := list(islice(items, count)):
        yield tuple(text for item in group for text in item)


def room() -> int:
    """Bytes that arguments may take, each with its NUL and its pointer (execve(2), fs/exec.c of Linux).

    The kernel takes a quarter of the soft limit of the stack, 6 MiB at most and 128 KiB at least, for arguments and
    environment together.
    """
    import resource
    from os import environb

    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    most = 6 << 20
    whole = most if soft == resource.RLIM_INFINITY else max(128 << 10, min(soft // 4, most))
    used = sum(len(name) + len(value) + 2 + _POINTER for name, value in environb.items()) + 3 * _POINTER
    return min(whole - used, PACKED) - HEADROOM


_POINTER = 8


def _packed(items: Iterator[Item], template: Template, count: int | None) -> Iterator[Item]:
    """As many items as fit into one command, and not more than `count`."""
    free = room()

    def size(texts: Item) -> int:
        words = template.render(texts, _LONG_NUMBER, _LONG_NUMBER)
        return sum(len(word.encode("utf-8", "surrogatepass")) + 1 + _POINTER for word in words)

    base = size(())
    # The name of the program once more, as a path below some directory of PATH.
    free -= base + len(template.render((), 1, 1)[0].encode("utf-8", "surrogatepass"))
    group: list[str] = []
    used = taken = 0
    for item in items:
        # A blank between two for each place at most.
        cost = size(item) - base + template.places
        if group and (used + cost > free or taken == count):
            yield tuple(group)
            group, used, taken = [], 0, 0
        group += item
        used += cost
        taken += 1
    if group:
        yield tuple(group)


_LONG_NUMBER = 10**12
"""A number of a task, or a slot, that takes more bytes than any."""
