"""`python -m fastproc map`: a command for each item, as xargs and GNU parallel do it."""

from __future__ import annotations

import sys
from os import fsdecode

from fastproc import errors
from fastproc._commands.map_arguments import Asked, Wrong, usage
from fastproc._commands.text import write
from fastproc._engine import standard
from fastproc._values.redirect import DEVNULL
from fastproc._values.template import Template
from fastproc.mapping import map as run_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from fastproc._commands.map_arguments import Source
    from fastproc._values.expression import Expression
    from fastproc.mapping import Mapped, Task

    Item = tuple[str, ...]

PACKED = 128 * 1024
"""Bytes of items in one command with -X, as xargs has them (MAX_ARG_STRLEN of execve(2) is for one argument)."""

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
        mapped = _begin(asked)
    except BrokenPipeError:
        return _BROKEN_PIPE
    except (Wrong, ValueError, OSError) as error:
        standard.say(f"python -m fastproc map: {error}")
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
        standard.say(f"python -m fastproc map: {error}")
        return _UNWRITABLE
    if asked.text("summary"):
        standard.say(failed_to_start)
    return status


def _begin(asked: Asked) -> Mapped:
    """Start what the command line says."""
    work = _work(asked)
    end = "\0" if asked.text("null") else _delimiter(asked.text("delimiter"))
    items: Iterable[Item] = _grouped(asked, _combined(asked, end.encode()))
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
        standard.say(f"python -m fastproc map: in doubt, and not run again: {line}")
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
    if isinstance(error, (errors.SpawnError, errors.TimeoutExpired)):
        standard.say(f"python -m fastproc map: {error}")


# -- the command


def _work(asked: Asked) -> Template | Callable[[Any], Expression]:
    words = asked.command
    mark = asked.text("mark") or "{}"
    if not words:
        return _each_is_a_command(bool(asked.text("shell")))
    if asked.text("shell"):
        return Template([" ".join(words)], mark, shell=True)
    if len(words) == 1 and any(blank in words[0] for blank in " \t\n"):
        return Template.parse(words[0], mark)
    return Template(words, mark)


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


def _combined(asked: Asked, end: bytes) -> Iterator[Item]:
    """The items of all sources: each with each, the last one fastest; or side by side."""
    sources = asked.sources
    if len(sources) == 1:
        columns = asked.text("colsep")
        if columns is None:
            yield from ((item,) for item in _items(sources[0], end))
            return
        import re

        cut = re.compile(columns)
        yield from (tuple(cut.split(item)) for item in _items(sources[0], end))
        return
    if asked.text("link"):
        yield from _recycled([list(_items(source, end)) for source in sources])
        return
    # Those that are linked are one source, as short as the shortest.
    together: list[list[Item]] = []
    for source in sources:
        found: list[Item] = [(item,) for item in _items(source, end)]
        if source.linked:
            together[-1] = [before + new for before, new in zip(together[-1], found, strict=False)]
        else:
            together.append(found)
    from itertools import product

    for parts in product(*together):
        yield tuple(text for part in parts for text in part)


def _recycled(found: list[list[str]]) -> Iterator[Item]:
    """Side by side, as long as the longest; the others begin again."""
    if all(found):
        for place in range(max(map(len, found))):
            yield tuple(items[place % len(items)] for items in found)


def _items(source: Source, end: bytes) -> Iterator[str]:
    if source.items is not None:
        yield from source.items
        return
    stream = sys.stdin.buffer if source.path == "-" else open(source.path, "rb")  # noqa: SIM115 - one of them is not ours
    try:
        yield from _cut(stream, end)
    finally:
        if source.path != "-":
            stream.close()


def _delimiter(text: str | None) -> str:
    if text is None:
        return "\n"
    if text[:1] == "\\" and len(text) > 1:
        try:
            text = _ESCAPES.get(text[1:]) or chr(int(text[2:], 16) if text[1] == "x" else int(text[1:], 8))
        except ValueError:
            text = ""
    if len(text) != 1 or ord(text) > 127:
        raise Wrong("-d: must be one character, or such as \\t, \\0, \\x2c")
    return text


def _cut(stream: Any, end: bytes) -> Iterator[str]:
    """The items of a stream, each up to its end; the last one may have none."""
    rest = b""
    while piece := stream.read1(_CHUNK):
        *whole, rest = (rest + piece).split(end)
        yield from map(fsdecode, whole)
    if rest:
        yield fsdecode(rest)


def _grouped(asked: Asked, items: Iterator[Item]) -> Iterator[Item]:
    """Several items for one command."""
    if asked.text("pack"):
        return _packed(items)
    count = asked.number("group", 1) or asked.number("lines", 1)
    return items if count is None else _together(items, count)


def _together(items: Iterator[Item], count: int) -> Iterator[Item]:
    from itertools import islice

    while group := list(islice(items, count)):
        yield tuple(text for item in group for text in item)


def _packed(items: Iterator[Item]) -> Iterator[Item]:
    group: list[str] = []
    size = 0
    for item in items:
        length = sum(len(text.encode("utf-8", "surrogateescape")) + 1 for text in item)
        if group and size + length > PACKED:
            yield tuple(group)
            group, size = [], 0
        group += item
        size += length
    if group:
        yield tuple(group)
