"""The tasks of a map: the expression, the identifying command line and the status of an item's task."""

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
    """Return the status of a task: an exit code, a negative signal number, or 126 or 127 if no program was started."""
    code = getattr(result, "returncode", None)
    if code is not None:
        return int(code)
    return 127 if isinstance(error, errors.SpawnError) and isinstance(error, FileNotFoundError) else 126


class NotStarted(Result):
    """The result of a task for which nothing could be run: see map(check=False).

    Its returncode is that of a shell: 127 if the program does not exist, otherwise 126.

    Attributes:
        error: the reason: a SpawnError, or an exception that the item or a user's function has raised.
    """

    __slots__ = ("error",)

    error: BaseException

    def __init__(self, item: str, error: BaseException) -> None:
        """Store the item as text, and the reason."""
        super().__init__(getattr(error, "argv", (item,)), status_of(None, error), None, None, 0, 0, None, "")
        self.error = error

    @property
    def ok(self) -> bool:
        """False."""
        return False

    def status_text(self) -> str:
        """Return why the task was not started."""
        return printable(f"not started: {self.error or type(self.error).__name__}")

    def check(self) -> NoReturn:
        """Raise the error."""
        raise self.error

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments."""
        return type(self), (self.argv[0] if self.argv else "", self.error)


_LINE = 2000
"""Maximum of characters of an item in a tag."""


class Task:
    """The task of an item.

    Attributes:
        number: the position of the item, from 1.
        seq: the number in the log.
        item: the item.
        texts: the texts for the placeholders of a template, or None.
        line: the identifying command line; only set if there is a log.
        slot: the slot, from 1, while the task runs.
        tries: how often the task was started.
        began: the time of the start, in seconds since 1970.
        result, error: the outcome.
        fault: why no command can be made of the item, or None.
        parts: the tasks into which a task that was too long was split, also in each part; otherwise None.
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
        """The status in the form of a shell's `$?`."""
        status = status_of(self.result, self.error)
        return status if status >= 0 else 128 - status

    @property
    def tag(self) -> str:
        """The item as one line of printable characters and tabs."""
        text = " ".join(self.texts) if self.texts is not None else str(self.item)
        return printable(text.replace("\n", " ")[:_LINE], "\t")


def _with_options(expression: Expression, options: Mapping[str, Any] | None) -> Expression:
    """Return an expression with options added to each of its commands."""
    return expression._each(lambda command: command._with(options)) if options else expression


class Work:
    """Makes tasks from items, by a template or a function.

    Args:
        work: a Template, its text, a Command whose arguments may have placeholders, or a function that returns an
            expression.
        feed: returns the stdin of an item's task, or None.

    Raises:
        TypeError, ValueError: `work` has another type, or is an invalid template.
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
        """Return the task of an item. It has a fault if the template cannot use the item."""
        # A template without a placeholder for items accepts any item.
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
        """Split a task of several items into two; return None for a single item."""
        texts = task.texts or ()
        middle = len(texts) // 2
        return (self.task(task.number, texts[:middle]), self.task(task.number, texts[middle:])) if middle else None

    @property
    def takes_slot(self) -> bool:
        """Whether the slot must be known before a task is started."""
        return self._template is not None and self._template.takes_slot

    def expression(self, task: Task) -> Expression:
        """Return the expression of a task.

        Raises:
            TypeError: the function did not return an expression.
        """
        if self._template is None:
            made = self._function(task.item)
            if not isinstance(made, Expression):
                raise TypeError(f"function: must return a command or another expression, not {type(made).__name__}")
            return made
        words = self._template.render(task.texts or (), task.number, task.slot)
        return cmd(*words) if self._base is None else build(tuple(words), self._base._options)

    def fed(self, task: Task) -> Any:
        """Return the stdin of a task by `feed`, or None without `feed`."""
        return None if self._feed is None else self._feed(task.item)

    def line(self, task: Task, expression: Expression | None, fed: Any) -> str:
        """Return the command line that identifies a task. It is the same in every run."""
        text = self.shown(task, "{%}") if self._template is not None else str(expression)
        if isinstance(fed, (bytes, bytearray, memoryview)):
            from hashlib import blake2b

            text += f" # input {blake2b(fed, digest_size=8).hexdigest()}"
        return text

    def shown(self, task: Task, slot: int | str, options: Mapping[str, Any] | None = None) -> str:
        """Return the command of a task as a line.

        Args:
            task: the task.
            slot: the text for the slot.
            options: further options of the child.
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
            # Such as for a NUL: the line is shown, and the task fails when it is started.
            return joined(words)
