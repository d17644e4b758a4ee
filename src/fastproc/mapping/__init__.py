"""Many commands, one for each item: `fastproc.map`, and what it needs to be left for the night.

    >>> import fastproc
    >>> [result.text() for result in fastproc.map("printf %s {.}", ["a.c", "b.c"])]
    ['a', 'b']

Not here: a map on its way (_mapped), who runs the tasks (_runner), what a template means
(_values.template), the log's bytes (_values.joblog).
"""

from __future__ import annotations

from fastproc._values.options import checked
from fastproc.mapping._halt import Halt
from fastproc.mapping._log import Known, LogFile, chosen_form
from fastproc.mapping._mapped import Mapped
from fastproc.mapping._runner import make as make_runner
from fastproc.mapping._summary import Summary, now
from fastproc.mapping._tasks import Task, Work
from fastproc.mapping._template import Place as Place
from fastproc.mapping._template import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent import futures
    from os import PathLike
    from typing import Any, Unpack

    from fastproc._values.command import Command, Expression, OptionsDict
    from fastproc.mapping._output import Printer

__all__ = ["Mapped", "Summary", "Task", "Template", "map"]


AHEAD = 64
"""Items that are taken beyond the workers at most, so that these do not wait for Python."""


def map(
    work: str | Template | Command | Callable[[Any], Expression],
    items: Iterable[Any],
    *,
    workers: int | None = None,
    ordered: bool = True,
    feed: Callable[[Any], Any] | None = None,
    retries: int = 0,
    halt: str | None = None,
    delay: float = 0.0,
    joblog: str | bytes | PathLike[str] | None = None,
    results: str | bytes | PathLike[str] | None = None,
    resume: bool | str = False,
    doubt: str = "again",
    durable: bool = False,
    output: str | None = None,
    tag: bool | Callable[[Any], str] = False,
    progress: Any = None,
    dry_run: bool = False,
    executor: futures.Executor | None = None,
    **options: Unpack[OptionsDict],
) -> Mapped:
    """Run a command for each item, several at a time, and give the results.

    >>> [result.text() for result in map("printf %s {}", "ab", workers=2)]
    ['a', 'b']

    Args:
        work: a template such as "gzip -k {}": split into words here, by no shell; an item is never split or expanded.
            Its places are those of Template. Or a function that makes the command or expression of an item.
        items: taken one by one as there is room: there may be endlessly many. Of a tuple, each part is a source of its
            own: {1}, {2}.
        workers: how many run at the same time; as many as there are CPUs when None.
        ordered: give the results in the order of the items; else as they end.
        feed: makes of an item what its task reads from stdin, as bytes or an iterable of them. A template without a
            place is left as it is then; else the item comes behind its last word.
        retries: how many more times a task is tried that fails.
        halt: when no more are started, as GNU parallel has it: "soon,fail=1"; "now,fail=3" also kills those that run.
        delay: seconds between two starts at least.
        joblog: a file with a line for each task that has ended, in GNU parallel's form.
        results: such a file with what each wrote, too, as JSON: with it, an output is kept exactly once (docs/map.md).
        resume: whether tasks that the file has are skipped; "failed": those that succeeded.
        doubt: what is done, on resume, with tasks that were started and whose end is not known: "again", or "skip",
            for which each start is written into the file, too.
        durable: whether each line is on the disk before it goes on, so that it outlasts a crash of the machine.
        output: where None, nothing is printed. "group": what a task writes is printed when it has ended; "line": its
            lines as they come; "ungroup": it writes to our own streams, and nothing is captured.
        tag: whether each line printed begins with its item and a tab; or a function that makes of a task what it
            begins with.
        progress: how far it is, on stderr: True, "rich", "tqdm", "plain", or a function called with the Summary.
        dry_run: print the lines that would be run, run nothing, and give no result.
        executor: runs the commands elsewhere, as that of Pool; `workers` is how many it is given at the same time then,
            256 when None. What they write is printed by group only.
        options: as of `run()`, for each. With joblog or results, die_with_parent is on.

    Raises:
        ExitError, SpawnError, TimeoutExpired: of an item, when its turn comes; all that still run are ended. With
            check=False a result is given: where nothing could be started, with status 126 or 127 and an `error`.
        Exception: no command could be made of an item, such as for a NUL in it; as these.
        FileExistsError: the file has records, and resume was not asked for.
        BlockingIOError: another map has the file.
        TypeError, ValueError: an argument is not possible; its name comes first. Nothing was run.
    """
    count = _count(workers, executor)
    if executor is not None and output in ("line", "ungroup"):
        raise ValueError(f"output: with an executor it is None or 'group', not {output!r}")
    made = Work(work, feed)
    given: dict[str, Any] = dict(options)
    checked(given)
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries: must be a whole number from 0 on, not {retries!r}")
    if doubt not in ("again", "skip"):
        raise ValueError(f"doubt: must be 'again' or 'skip', not {doubt!r}")
    if resume not in (False, True, "failed"):
        raise ValueError(f"resume: must be True, False or 'failed', not {resume!r}")
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay < float("inf"):
        raise ValueError(f"delay: must be a number of seconds from 0 on, not {delay!r}")
    kept = chosen_form(joblog, results)
    if kept is None and (resume or doubt == "skip" or durable):
        raise ValueError("resume, doubt, durable: need joblog= or results=")
    if results is not None and output == "ungroup":
        raise ValueError("results: not possible with output='ungroup', which captures nothing")
    stopping = None if halt is None else Halt.parse(halt)
    if dry_run:
        known = None if kept is None or not resume else Known(*kept, resume == "failed", doubt == "skip")
        marked = (lambda task: task.tag) if tag is True else tag or None
        return _dry(made, items, count, given, marked, known)
    given.setdefault("capture", output != "ungroup")
    if kept is not None and "pdeathsig" not in given:
        given.setdefault("die_with_parent", True)
    printer, shown = _make_printer(output, ordered, tag), _make_progress(progress)
    log = None if kept is None else LogFile(*kept, bool(resume), durable)
    try:
        return Mapped(
            made,
            items,
            make_runner(count, given, executor),
            workers=count,
            # Where it matters which tasks run, and not only how many, none is given away before its time.
            ahead=0 if made.takes_slot or delay or stopping or doubt == "skip" else min(count, AHEAD),
            ordered=ordered,
            options=given,
            log=log,
            failed_again=resume == "failed",
            skip_doubt=doubt == "skip",
            tries=retries + 1,
            halt=stopping,
            delay=delay,
            printer=printer,
            progress=shown,
        )
    except BaseException:
        if log is not None:
            log.close()
        raise


def _count(workers: int | None, executor: object) -> int:
    from os import cpu_count

    count = workers
    if count is None and executor is None:
        count = cpu_count() or 1
    elif count is None:
        from fastproc.pool._settings import EXECUTOR_WORKERS

        count = EXECUTOR_WORKERS
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"workers: must be a positive number, not {workers!r}")
    return count


def _make_printer(output: str | None, ordered: bool, tag: bool | Callable[[Any], str]) -> Printer | None:
    if output is None:
        if tag:
            raise ValueError("tag: is about output")
        return None
    from fastproc.mapping._output import MODES, Printer

    if output not in MODES:
        raise ValueError(f"output: must be one of {', '.join(MODES)}, not {output!r}")
    if tag and output == "ungroup":
        raise ValueError("tag: not possible with output='ungroup'")
    return Printer(output, ordered, (lambda task: task.tag) if tag is True else tag or None)


def _make_progress(kind: Any) -> Any:
    if kind is None or kind is False:
        return None
    from fastproc.mapping._progress import make

    return make(kind, now)


def _dry(
    work: Work,
    items: Iterable[Any],
    workers: int,
    options: dict[str, Any],
    tag: Callable[[Any], str] | None,
    known: Known | None,
) -> Mapped:
    """Print what would be run, without what a log says is done."""
    from fastproc._engine import standard
    from fastproc._values.options import RUN_LEVEL
    from fastproc._values.redirect import DEVNULL

    # No input is what a task has in any case.
    common = {
        name: value
        for name, value in options.items()
        if name not in RUN_LEVEL and not (name == "stdin" and value is DEVNULL)
    }

    for number, item in enumerate(items, 1):
        task = work.task(number, item)
        if known is not None and known.is_done(work, task):
            continue
        line = f"# {task.tag}: {task.fault}" if task.fault else work.shown(task, (number - 1) % workers + 1, common)
        if tag is not None:
            line = f"{tag(task)}\t{line}"
        standard.write("stdout", line.encode("utf-8", "surrogateescape") + b"\n")
    return Mapped(work, (), make_runner(1, {}), workers=1, ordered=True, options={})
