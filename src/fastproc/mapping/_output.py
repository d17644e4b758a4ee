"""Printing the output of tasks: in groups, line by line, or directly; with tags; in order.

Invariant: a line of a task is never interrupted by another task's line, except when ungrouped. Every byte is printed
unchanged: no newline is added to an incomplete last line.
"""

from __future__ import annotations

from fastproc._engine import standard
from fastproc._values.loading import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MODES = ("group", "line", "ungroup")


class Printer:
    """Prints the output of the tasks of a map.

    Args:
        mode: "group": print all output of a task when it has ended. "line": print each line when it is complete.
            "ungroup": the task writes to the streams of this process.
        ordered: whether tasks are printed in their order. In line mode only the first running task is then printed at
            once.
        tag: returns the text before each line of a task.
        write: called with the stream's name and bytes.

    Attributes:
        follows: whether options() must be called for each task.
        failure: the first error of a write. In line mode it is raised in a callback of a task, so it is stored for the
            map.
    """

    def __init__(
        self,
        mode: str,
        ordered: bool,
        tag: Callable[[Any], str] | None,
        write: Callable[[str, bytes], object] = standard.write,
    ) -> None:
        self.mode = mode
        self.follows = mode == "line"
        self._ordered = ordered
        self._tag = tag
        self._put = write
        self.failure: OSError | None = None
        self._front = 1
        self._waiting: dict[int, list[tuple[Any, str, bytes]]] = {}
        self._ended: set[int] = set()

    def options(self, task: Any) -> dict[str, Any]:
        """Return the options of a task, so that this object gets its output."""
        if self.mode == "ungroup":
            return {"capture": False}
        if self.mode == "group":
            return {"capture": True}
        loaded("fastproc._values.on_line")
        from fastproc._values.on_line import OnLine

        def told(stream: str, line: bytes) -> None:
            self._line(task, stream, line)

        return {"capture": True, "on_line": OnLine(told, keep_ends=True, longest=None)}

    def _write(self, stream: str, data: bytes) -> None:
        try:
            self._put(stream, data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def _tagged(self, task: Any, data: bytes) -> bytes:
        if self._tag is None or not data:
            return data
        tag = self._tag(task).encode("utf-8", "surrogateescape") + b"\t"
        return b"".join(tag + line for line in data.splitlines(keepends=True))

    def _line(self, task: Any, stream: str, line: bytes) -> None:
        line = self._tagged(task, line)
        if self._ordered and task.number != self._front:
            self._waiting.setdefault(task.number, []).append((task, stream, line))
        else:
            self._write(stream, line)

    def forget(self, task: Any) -> None:
        """Drop the waiting lines of a task that failed and is tried again."""
        # Other tasks with the same number are parts of the same items.
        lines = self._waiting.get(task.number, [])
        lines[:] = [one for one in lines if one[0] is not task]

    def ended(self, task: Any, result: Any) -> None:
        """Print the group of a task that has ended; in line mode continue with the next task."""
        if self.mode == "group":
            for stream in ("stdout", "stderr"):
                data = getattr(result, stream, None)
                if data:
                    self._write(stream, self._tagged(task, bytes(data)))
        elif self.mode == "line" and self._ordered:
            self._ended.add(task.number)
            self._advance()

    def skip(self, number: int) -> None:
        """Skip a task that is not run, so that later tasks do not wait for it."""
        if self.mode == "line" and self._ordered:
            self._ended.add(number)
            self._advance()

    def _advance(self) -> None:
        while self._front in self._ended:
            self._ended.discard(self._front)
            self._flush(self._front)
            self._front += 1
            self._flush(self._front)

    def _flush(self, number: int) -> None:
        for _, stream, line in self._waiting.pop(number, ()):
            self._write(stream, line)

    def finish(self) -> None:
        """Print the waiting lines of tasks after a task that never ended."""
        for number in sorted(self._waiting):
            self._flush(number)
