"""Showing the progress of a map on stderr: a bar of rich or tqdm, or plain lines."""

from __future__ import annotations

import sys
from contextlib import suppress

from fastproc._engine import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc.mapping._summary import Summary

KINDS = ("auto", "rich", "tqdm", "plain")
PAUSE = 1.0
"""Seconds between two plain lines. On a terminal the line is replaced ten times as often."""


def plain_line(summary: Summary) -> str:
    """Return one line: the count, the rate, the remaining time, the failures."""
    total = summary.total
    known = f"/{total} ({100 * summary.finished // total if total else 100}%)" if total is not None else ""
    rate = summary.rate
    line = f"{summary.finished}{known}, {rate:.1f}/s"
    left = summary.eta
    if left is not None:
        line += f", {seconds_text(left)} left"
    return f"{line}, {summary.failed} failed" if summary.failed else line


def seconds_text(seconds: float) -> str:
    """Return a duration, such as 5s, 3m05s or 2h03m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


class Plain:
    """Plain lines on stderr: on a terminal a line that is replaced, otherwise a line every PAUSE seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._terminal = standard.is_terminal("stderr")
        self._next = 0.0

    def update(self, summary: Summary) -> None:
        """Show the progress if it is due."""
        now = self._clock()
        if now >= self._next:
            self._next = now + (PAUSE / 10 if self._terminal else PAUSE)
            self._show(summary)

    def _show(self, summary: Summary) -> None:
        line = plain_line(summary)
        self._write(f"\r{line}\x1b[K" if self._terminal else line + "\n")

    def _write(self, text: str) -> None:
        # A failed write of the progress must not end the map.
        with suppress(OSError):
            standard.write("stderr", text.encode())

    def close(self, summary: Summary) -> None:
        """Show the final progress."""
        self._show(summary)
        if self._terminal:
            self._write("\n")


class Tqdm:
    """The bar of tqdm."""

    def __init__(self) -> None:
        from importlib import import_module

        # tqdm's monitor would start a thread.
        self._make: Any = type("Bar", (import_module("tqdm").tqdm,), {"monitor_interval": 0})
        self._bar: Any = None

    def update(self, summary: Summary) -> None:
        """Move the bar."""
        if self._bar is None:
            self._bar = self._make(total=summary.total, unit="task", file=sys.stderr)
        self._bar.total = summary.total
        self._bar.update(summary.finished - self._bar.n)
        if summary.failed:
            self._bar.set_postfix(failed=summary.failed, refresh=False)

    def close(self, summary: Summary) -> None:
        """Leave the bar as it is."""
        self.update(summary)
        self._bar.close()


class Rich:
    """The bar of rich."""

    def __init__(self) -> None:
        from importlib import import_module

        progress: Any = import_module("rich.progress")
        console = import_module("rich.console").Console(stderr=True)
        columns = (
            *(progress.BarColumn(), progress.MofNCompleteColumn(), progress.TextColumn("{task.fields[rate]}")),
            *(progress.TimeRemainingColumn(), progress.TextColumn("{task.fields[failed]}")),
        )
        self._progress: Any = progress.Progress(*columns, console=console)
        self._task: Any = None

    def update(self, summary: Summary) -> None:
        """Move the bar."""
        failed = f"[red]{summary.failed} failed" if summary.failed else ""
        fields = {"rate": f"{summary.rate:.1f}/s", "failed": failed}
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("", total=summary.total, **fields)
        self._progress.update(self._task, total=summary.total, completed=summary.finished, **fields)

    def close(self, summary: Summary) -> None:
        """Leave the bar as it is."""
        self.update(summary)
        self._progress.stop()


class Callback:
    """A function that is called with the Summary."""

    def __init__(self, call: Callable[[Summary], object]) -> None:
        self.update = call

    def close(self, summary: Summary) -> None:
        """Call the function with the final Summary."""
        self.update(summary)


def make(kind: Any, clock: Callable[[], float]) -> Plain | Tqdm | Rich | Callback | None:
    """Return an object that shows the progress.

    Args:
        kind: None or False: nothing. True or "auto": rich or tqdm if one is installed and stderr is a terminal,
            otherwise plain lines. "rich", "tqdm", "plain". Or a function that is called with the Summary.
        clock: returns monotonic seconds.

    Raises:
        ModuleNotFoundError: rich or tqdm was requested and is not installed.
        ValueError: `kind` has another value.
    """
    if kind is None or kind is False:
        return None
    if callable(kind):
        return Callback(kind)
    if kind is True:
        kind = "auto"
    if kind not in KINDS:
        raise ValueError(f"progress: must be one of {', '.join(KINDS)} or a function, not {kind!r}")
    makers: list[Any] = [Rich, Tqdm] if kind == "auto" and standard.is_terminal("stderr") else []
    if kind in ("rich", "tqdm") and sys.stderr is not None:
        makers = [Rich if kind == "rich" else Tqdm]
    for maker in makers:
        try:
            found: Rich | Tqdm = maker()
        except ModuleNotFoundError:
            if kind != "auto":
                raise
        else:
            return found
    return Plain(clock)
