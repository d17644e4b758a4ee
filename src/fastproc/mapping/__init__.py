"""Many commands, one for each item: `fastproc.map`, with a log, retries and resume for long unattended runs.

    >>> import fastproc
    >>> [result.text() for result in fastproc.map("printf %s {.}", ["a.c", "b.c"])]
    ['a', 'b']

A running map is in _mapped.py, the execution of tasks in _runner.py, templates in _template.py, the format of the log
in _joblog.py.
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
"""Maximum of items that are taken in advance of the workers, so that the workers do not wait for Python."""


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
    """Run a command for each item, several at a time, and iterate over the results.

    >>> [result.text() for result in map("printf %s {}", "ab", workers=2)]
    ['a', 'b']

    Args:
        work: a template such as "gzip -k {}", which is split into words without a shell. An item is never split or
            expanded. See Template for the placeholders. Or a function that returns a command or expression for an item.
        items: the items, which may be endless. An item is taken only when there is room for its task. Each part of a
            tuple is a source: {1}, {2}.
        workers: the number of tasks that run at the same time. Default: the number of CPUs.
        ordered: True: the results are in the order of the items. False: in the order in which the tasks end.
        feed: a function that returns the stdin of an item's task, as bytes or an iterable of bytes. With `feed` the
            item is not appended to a template without a placeholder.
        retries: how often a failed task is tried again.
        halt: when to start no more tasks, as GNU parallel's --halt: "soon,fail=1". "now,fail=3" also kills the running
            tasks.
        delay: the minimum of seconds between two starts.
        joblog: a file with a line for each ended task, in the format of GNU parallel.
        results: a file with a JSON object for each ended task, including its output. Each output is stored exactly once
            (docs/map.md).
        resume: True: skip the tasks that the file has. "failed": skip those that succeeded.
        doubt: what to do on resume with a task that was started and whose end is unknown. "again": run it again.
            "skip": skip it; each start is then recorded too.
        durable: whether each record is on the disk before the map continues, so that it survives a crash of the
            machine.
        output: None: print nothing. "group": print the output of a task when it has ended. "line": print each line when
            it is complete. "ungroup": the task writes to the streams of this process, and nothing is captured.
        tag: True: print the item and a tab before each line. Or a function that returns the tag of a task.
        progress: show the progress on stderr: True, "rich", "tqdm" or "plain". Or a function that is called with the
            Summary.
        dry_run: print the command lines, run nothing, and return no results.
        executor: run the commands by this executor, as for Pool. `workers` then is the number of tasks that it gets at
            the same time (default: 256), and `output` can only be None or "group".
        options: options of `run()` for each task. With joblog or results, die_with_parent is on.

    Raises:
        ExitError, SpawnError, TimeoutExpired: a task failed. It is raised in the task's turn, and ends all other
            tasks. With check=False there is a result instead; if nothing could be started, it has status 126 or 127
            and an `error`.
        Exception: no command could be made of an item, for example because it contains a NUL. Handled in the same
            way.
        FileExistsError: the file has records, and `resume` is False.
        BlockingIOError: another map uses the file.
        TypeError, ValueError: an argument is invalid; the message starts with its name. Nothing was run.
    """
    count = _count(workers, executor)
    if executor is not None and output in ("line", "ungroup"):
        raise ValueError(f"output: with an executor it is None or 'group', not {output!r}")
    made = Work(work, feed)
    given: dict[str, Any] = dict(options)
    checked(given)
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries: must be an int of 0 or more, not {retries!r}")
    if doubt not in ("again", "skip"):
        raise ValueError(f"doubt: must be 'again' or 'skip', not {doubt!r}")
    if resume not in (False, True, "failed"):
        raise ValueError(f"resume: must be True, False or 'failed', not {resume!r}")
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay < float("inf"):
        raise ValueError(f"delay: must be seconds of 0 or more, not {delay!r}")
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
            # No task is submitted in advance if it matters which tasks run.
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
            raise ValueError("tag: needs output")
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
    """Print the command lines of the tasks that the log does not have."""
    from fastproc._engine import standard
    from fastproc._values.options import RUN_LEVEL
    from fastproc._values.redirect import DEVNULL

    # DEVNULL is the default stdin of a task.
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
