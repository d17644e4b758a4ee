"""A running map: it makes tasks from items, submits them to a runner, and returns them in order; with log and summary.

Invariant: a task is in one state: running, waiting for another try, ended, or ready to be returned.
"""

from __future__ import annotations

from collections import deque
from errno import E2BIG
from functools import partial
from operator import attrgetter
from time import time

from fastproc._values.loading import loaded
from fastproc.errors import ProcessError, SpawnError
from fastproc.mapping._summary import Summary, now
from fastproc.mapping._tasks import NotStarted, Task, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import TracebackType
    from typing import Any

    from fastproc._values.command import Expression
    from fastproc._values.status import Result
    from fastproc.mapping._halt import Halt
    from fastproc.mapping._log import LogFile
    from fastproc.mapping._output import Printer
    from fastproc.mapping._runner import Runner
    from fastproc.mapping._tasks import Work

BACKLOG = 4
"""Maximum of results for each worker that wait while the task of an earlier item is still running."""


class Mapped:
    """An iterator over the results of a map; see map().

    close(), the end of its `with` block, or dropping it ends the running tasks.

    Attributes:
        summary: the progress.
        skips_doubt: whether tasks whose end is unknown are skipped.
        on_begin: called with each expression before it is run, or None.
        splits: whether a task of several items that is too long for the kernel (E2BIG) is split into two.
    """

    __module__ = "fastproc.mapping"

    def __init__(
        self,
        work: Work,
        items: Iterable[Any],
        runner: Runner,
        *,
        workers: int,
        ahead: int = 0,
        ordered: bool,
        options: dict[str, Any],
        log: LogFile | None = None,
        failed_again: bool = False,
        skip_doubt: bool = False,
        tries: int = 1,
        halt: Halt | None = None,
        delay: float = 0.0,
        printer: Printer | None = None,
        progress: Any = None,
    ) -> None:
        """Store the arguments, which map() has checked."""
        self.summary = Summary(len(items) if hasattr(items, "__len__") else None)  # type: ignore[arg-type]
        self._work = work
        self._items = iter(items)
        self._runner = runner
        # The runner gets more tasks than workers, so that the workers never wait for Python.
        self._room_for = workers + ahead
        self._workers = workers
        self._ordered = ordered
        self._options = options
        if printer is not None and not printer.follows:
            options.update(printer.options(None))
        self._log = log
        self._failed_again = failed_again
        self.skips_doubt = skip_doubt
        self._tries = tries
        self._halt = halt
        self._delay = delay
        self._printer = printer
        self._progress = progress
        self.on_begin: Callable[[Expression], object] | None = None
        self.splits = False
        self._slots = list(range(workers + ahead, 0, -1))
        self._active: dict[Task, Task] = {}
        self._again: deque[Task] = deque()
        self._ended: dict[int, Task | None] = {}
        self._ready: deque[Task] = deque()
        # The ended tasks that are parts of a split task.
        self._done: set[Task] = set()
        self._position = 0
        self._front = 1
        self._start_at = 0.0
        self._exhausted = False
        self._killed = False
        self._finished = False
        self._drop: Callable[[], object] = partial(_give_back, runner, log)
        self._steps = self._run()

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        """Return the next result.

        Raises:
            ExitError, SpawnError, TimeoutExpired: the task failed; all other tasks are ended. With check=False a result
                is returned instead.
            Exception: no command could be made of the item. Handled in the same way.
        """
        task = self.next_task()
        error = task.error
        if error is not None:
            found: Result | None = None
            if not self._options.get("check", True):
                # A task with a result has ended. An error without a result is raised, because its child may still run.
                if isinstance(error, SpawnError) or not isinstance(error, ProcessError):
                    found = NotStarted(task.tag, error)
                elif isinstance(error, TimeoutError):
                    found = getattr(error, "result", None)
            if found is None:
                self.close()
                raise error
            return found
        result: Result = task.result
        return result

    def next_task(self) -> Task:
        """Return the next task that has ended, successful or not.

        Raises:
            StopIteration: there are no more tasks.
        """
        return next(self._steps)

    def close(self) -> None:
        """End the running tasks, and wait for their end. Further calls do nothing."""
        self._steps.close()
        self._finish()

    def __enter__(self) -> Mapped:
        return self

    def __exit__(self, _type: type | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        self.close()

    # A generator that was never started runs no `finally` when it is dropped, so files and threads are released here.
    # Afterwards _drop is a C function: in a Python function an exception of a signal handler would be lost.
    __del__ = property(attrgetter("_drop"))

    # -- the loop

    def _run(self) -> Generator[Task]:
        try:
            while True:
                self._fill()
                task = self._pick()
                if task is not None:
                    yield task
                elif not self._active and not self._again and (self._exhausted or self.summary.halted):
                    return
                else:
                    self._runner.turn(self._patience())
        finally:
            self._finish()

    def _finish(self) -> None:
        # Called twice: the second call completes a first call that was interrupted.
        try:
            self._finish_once()
        finally:
            self._finish_once()

    def _finish_once(self) -> None:
        if self._finished:
            return
        if self.summary._ended is None:
            self.summary._ended = now()
        try:
            self._runner.close()
        finally:
            if self._log is not None:
                self._log.close()
            if self._printer is not None:
                self._printer.finish()
            if self._progress is not None:
                self._progress.close(self.summary)
        self._finished = True
        self._drop = int

    def _patience(self) -> float | None:
        """Return the seconds until the next start is due; None if only an event can change the state."""
        if self._room() and not (self._exhausted and not self._again) and self._start_at:
            return max(0.0, self._start_at - now())
        return None

    def _room(self) -> bool:
        waiting = self._position - self._front + 1 - len(self._active) if self._ordered else len(self._ready)
        return len(self._active) < self._room_for and waiting < self._workers * BACKLOG

    def _fill(self) -> None:
        while self._room() and not self.summary.halted:
            if self._start_at and now() < self._start_at:
                return
            task = self._again.popleft() if self._again else self._take()
            if task is None:
                return
            if not self._begin(task):
                # The task has already failed. Return, because there may be endlessly many such items.
                return
            if self._delay:
                self._start_at = now() + self._delay

    def _take(self) -> Task | None:
        """Take items until one gives a task to run."""
        while not self._exhausted:
            try:
                item = next(self._items)
            except StopIteration:
                self._exhausted = True
                self.summary.total = self._position
                break
            self._position += 1
            task = self._work.task(self._position, item)
            if self._log is None or self._is_wanted(task, self._log):
                return task
            self.summary.skipped += 1
            if self._printer is not None:
                self._printer.skip(task.number)
            if self._ordered:
                self._ended[task.number] = None
                self._advance()
        return None

    def _is_wanted(self, task: Task, log: LogFile) -> bool:
        """Return whether a task must be run by the log."""
        try:
            expression = None if task.texts is not None else self._work.expression(task)
            task.line = self._work.line(task, expression, self._work.fed(task))
        except Exception as error:
            task.fault = error
            task.line = f"# {task.tag}"
        task.seq, state, status = log.book.place(task.line, task.number)
        if state == "doubt":
            self.summary.doubt.append(task.line)
            return not self.skips_doubt
        return state == "new" or (self._failed_again and status != 0)

    def _begin(self, task: Task) -> bool:
        """Start a task; return False if no command can be made of its item."""
        task.slot = self._slots.pop()
        task.began = time()
        task.tries += 1
        if task.tries == 1:
            self.summary.started += 1
        options = self._options
        try:
            if task.fault is not None:
                raise task.fault
            expression = self._work.expression(task)
            fed = self._work.fed(task)
        except Exception as error:
            self._active[task] = task
            self._on_end(task, None, error)
            return False
        if self.on_begin is not None:
            self.on_begin(expression)
        if fed is not None:
            options = {**options, "input": fed}
        if self._printer is not None and self._printer.follows:
            options = {**options, **self._printer.options(task)}
        if self.skips_doubt and self._log is not None:
            self._record(task, None)
        self._active[task] = task

        def deliver(result: Result | None, error: BaseException | None) -> None:
            self._on_end(task, result, error)

        self._runner.start(expression, options, deliver)
        return True

    def _record(self, task: Task, status: int | None) -> None:
        loaded("fastproc.mapping._joblog")
        from fastproc.mapping._joblog import Record

        assert self._log is not None
        result = task.result
        runtime = result.duration if result is not None else 0.0
        out, err = (result.stdout, result.stderr) if result is not None else (None, None)
        self._log.write(Record(task.seq, task.line, task.began, runtime, status, out, err))

    def _on_end(self, task: Task, result: Result | None, error: BaseException | None) -> None:
        if self._active.pop(task, None) is None:
            # Delivered a second time after an interrupt.
            return
        self._slots.append(task.slot)
        task.result, task.error = result, error
        if result is None and error is None:
            # The task was still queued when the other tasks were killed.
            self.summary.started -= 1
            self._give(task, False)
            return
        if self.splits and isinstance(error, SpawnError) and error.errno == E2BIG and self._split(task):
            return
        if result is not None:
            task.began = max(task.began, time() - result.duration)
        summary = self.summary
        failed = error is not None or not (result is not None and result.ok)
        if failed and task.tries < self._tries and not summary.halted:
            summary.retried += 1
            if self._printer is not None:
                self._printer.forget(task)
            self._again.append(task)
            return
        if self._killed:
            # The task was killed, so it is not recorded.
            self._give(task)
            return
        if failed:
            summary.failed += 1
        else:
            summary.succeeded += 1
        # Recorded before it is returned: a task that the caller has seen as done is done after a crash too.
        if self._log is not None:
            self._record(task, status_of(result, error))
        self._give(task)
        if self._progress is not None:
            self._progress.update(summary)
        if self._halt is not None and self._halt.reached(summary.failed, summary.succeeded, summary.total):
            summary.halted = True
            if self._halt.now and not self._killed:
                self._killed = True
                self._runner.kill()

    def _split(self, task: Task) -> bool:
        """Replace a task that is too long by two tasks; return False if it has only one item."""
        halves = self._work.halves(task)
        if halves is None:
            return False
        self.summary.started -= 1
        # All parts of a number are returned together, in the order of their items.
        parts = task.parts = task.parts or [task]
        at = parts.index(task)
        wanted = []
        for half in halves:
            half.parts = parts
            if self._log is None or self._is_wanted(half, self._log):
                wanted.append(half)
            else:
                self.summary.skipped += 1
        parts[at : at + 1] = wanted
        self._again.extendleft(reversed(wanted))
        if not parts:
            self._ended[task.number] = None
            self._advance()
        return True

    def _give(self, task: Task, ran: bool = True) -> None:
        """Queue a task to be returned in its turn.

        Args:
            task: the task.
            ran: whether it has run; otherwise it is left out.
        """
        parts = task.parts
        if not self._ordered:
            if ran:
                self._ready.append(task)
        elif parts is None:
            self._ended[task.number] = task if ran else None
            self._advance()
        else:
            if not ran:
                parts.remove(task)
            self._done.add(task)
            if self._done.issuperset(parts):
                self._done.difference_update(parts)
                self._done.discard(task)
                self._ended[task.number] = task if parts else None
                self._advance()

    def _advance(self) -> None:
        while self._front in self._ended:
            task = self._ended.pop(self._front)
            self._front += 1
            if task is not None:
                self._ready.extend(task.parts or (task,))

    def _pick(self) -> Task | None:
        while True:
            if self._ready:
                task = self._ready.popleft()
            elif self.summary.halted and not self._active and self._ended:
                # Tasks after a task that was never run.
                number = min(self._ended)
                found = self._ended.pop(number)
                if found is None:
                    continue
                self._ready.extend(found.parts or (found,))
                task = self._ready.popleft()
            else:
                return None
            if self._printer is not None:
                if self._printer.failure is not None:
                    raise self._printer.failure
                self._printer.ended(task, task.result)
            return task


def _give_back(runner: Runner, log: LogFile | None) -> None:
    try:
        runner.close()
    finally:
        if log is not None:
            log.close()
