"""The tasks of a map: from an item to the expression that is run, the line that it is known by, and its record."""

from __future__ import annotations

from fastproc import errors
from fastproc._values.command import Command, Expression, build, cmd
from fastproc._values.quoting import joined, pasteable, printable
from fastproc._values.status import Result
from fastproc.mapping._template import Template, item_texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn


def status_of(result: object, error: BaseException | None) -> int:
    """Return the status of a task, a signal as minus its number: 127 and 126 where no program was started."""
    code = getattr(result, "returncode", None)
    if code is not None:
        return int(code)
    return 127 if isinstance(error, errors.SpawnError) and isinstance(error, FileNotFoundError) else 126


class NotStarted(Result):
    """In the place of a result, where nothing could be run for an item: see map(check=False).

    Its returncode is a shell's: 127 where there is no such program, else 126.

    Attributes:
        error: why: a SpawnError, or what the item or a function of the user's has raised.
    """

    __slots__ = ("error",)

    error: BaseException

    def __init__(self, item: str, error: BaseException) -> None:
        """Take the item as text, and why."""
        super().__init__(getattr(error, "argv", (item,)), status_of(None, error), None, None, 0, 0, None, "")
        self.error = error

    @property
    def ok(self) -> bool:
        """Never."""
        return False

    def status_text(self) -> str:
        """Why it was not started."""
        return printable(f"not started: {self.error or type(self.error).__name__}")

    def check(self) -> NoReturn:
        """Raise the error."""
        raise self.error

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments."""
        return type(self), (self.argv[0] if self.argv else "", self.error)


_LINE = 2000
"""Characters of an item in a tag."""


class Task:
    """One item on its way.

    Attributes:
        number: its place among the items, from 1.
        seq: its number in the log.
        item: as it was given; texts: what a template puts into its places.
        line: what it is known by; only made where there is a log, or it is printed.
        slot: from 1, while it runs.
        tries: how often it was started.
        began: when, in seconds since the epoch.
        result, error: what became of it.
        fault: why nothing can be run for the item; None.
        parts: the tasks that do its work, where it was too long for one; of one of those, its neighbours too.
    """

    __module__ = "fastproc.mapping"

    __slots__ = (
        *("began", "error", "fault", "item", "line", "number", "parts", "result", "seq", "slot", "texts", "tries"),
    )

    def __init__(self, number: int, item: Any, texts: tuple[str, ...] | None) -> None:
        self.number = self.seq = number
        self.item = item
        self.texts = texts
        self.line = ""
        self.slot = 0
        self.tries = 0
        self.began = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self.fault: Exception | None = None
        self.parts: list[Task] | None = None

    @property
    def shell_status(self) -> int:
        """Its status as a shell's `$?` has it."""
        status = status_of(self.result, self.error)
        return status if status >= 0 else 128 - status

    @property
    def tag(self) -> str:
        """The item, in one line, with nothing in it that does not print but tabs."""
        text = " ".join(self.texts) if self.texts is not None else str(self.item)
        return printable(text.replace("\n", " ")[:_LINE], "\t")


def _with_options(expression: Expression, options: Mapping[str, Any] | None) -> Expression:
    """Return it with options in every command of it."""
    return expression._each(lambda command: command._with(options)) if options else expression


class Work:
    """What a map makes of items: a template, or a function.

    Args:
        work: a Template, the text of one, a Command whose arguments may have places, or a function that returns an
            expression.
        feed: makes of an item what its task reads from stdin; None.

    Raises:
        TypeError, ValueError: work is none of these.
    """

    def __init__(self, work: Any, feed: Callable[[Any], Any] | None) -> None:
        self._feed = feed
        self._template: Template | None = None
        self._base: Command | None = None
        append = feed is None
        if isinstance(work, str):
            self._template = Template.parse(work, append=append)
        elif isinstance(work, Template):
            self._template = work
        elif isinstance(work, Command):
            self._template = Template(work.argv, append=append)
            self._base = work
        elif not callable(work):
            raise TypeError(
                f"work: must be a template, a Command or a function that returns one, not {type(work).__name__}"
            )
        self._function = work
        if self._template is not None and not any(self._template.words[0]):
            raise ValueError("template: the name of the program is empty")

    def task(self, number: int, item: Any) -> Task:
        """Return the task of an item, which has a fault where a template cannot take it."""
        # A template that has no place for items takes everything.
        template = self._template
        if template is None or not template.takes_items:
            return Task(number, item, None)
        try:
            return Task(number, item, item_texts(item))
        except TypeError as error:
            task = Task(number, item, None)
            task.fault = error
            return task

    def halves(self, task: Task) -> tuple[Task, Task] | None:
        """Return two tasks that do the work of one of several items; None for a single item."""
        texts = task.texts or ()
        middle = len(texts) // 2
        return (self.task(task.number, texts[:middle]), self.task(task.number, texts[middle:])) if middle else None

    @property
    def takes_slot(self) -> bool:
        """Whether the slot must be known before a task is begun."""
        return self._template is not None and self._template.takes_slot

    def expression(self, task: Task) -> Expression:
        """Return what is run.

        Raises:
            TypeError: the function returned something else.
        """
        if self._template is None:
            made = self._function(task.item)
            if not isinstance(made, Expression):
                raise TypeError(f"function: must return a command or another expression, not {type(made).__name__}")
            return made
        words = self._template.render(task.texts or (), task.number, task.slot)
        return cmd(*words) if self._base is None else build(tuple(words), self._base._options)

    def fed(self, task: Task) -> Any:
        """Return what its stdin is, or None where that is not the map's."""
        return None if self._feed is None else self._feed(task.item)

    def line(self, task: Task, expression: Expression | None, fed: Any) -> str:
        """Return the line that a task is known by, which is the same in every run."""
        text = self.shown(task, "{%}") if self._template is not None else str(expression)
        if isinstance(fed, (bytes, bytearray, memoryview)):
            from hashlib import blake2b

            text += f" # input {blake2b(fed, digest_size=8).hexdigest()}"
        return text

    def shown(self, task: Task, slot: int | str, options: Mapping[str, Any] | None = None) -> str:
        """Return what is run, as a line.

        Args:
            task: of which item.
            slot: what stands in the place of its slot.
            options: of the child, that it is run with beside its own.
        """
        template = self._template
        if template is None:
            return str(_with_options(self.expression(task), options))
        texts, number = task.texts or (), task.number
        if template.shell and not options:
            return template.render(texts, number, slot, pasteable)[2]
        words = template.render(texts, number, slot)
        try:
            made = cmd(*words) if self._base is None else build(tuple(words), self._base._options)
            return str(_with_options(made, options))
        except ValueError:
            # Such as for a NUL: it is shown, and fails when it is to be run.
            return joined(words)
