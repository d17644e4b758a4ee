"""How far a map is: counts, rate, the time that is left."""

from __future__ import annotations

from fastproc._engine.reactor import deadline_from


def now() -> float:
    """The monotonic instant."""
    found = deadline_from("", 0.0)
    assert found is not None
    return found


class Summary:
    """How far a map is.

    Attributes:
        total: how many items there are, or None while that is not known.
        skipped: how many the log had already.
        doubt: the lines of tasks that were started before and whose end is not known; they are not run again with
            `doubt="skip"`, and are counted in skipped.
        started, succeeded, failed: how many were. A task that is tried again is started once.
        retried: how many further tries there were.
        halted: whether `halt` has ended it before its time.
    """

    __module__ = "fastproc.mapping"

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.skipped = 0
        self.doubt: list[str] = []
        self.started = 0
        self.succeeded = 0
        self.failed = 0
        self.retried = 0
        self.halted = False
        self._began = now()
        self._ended: float | None = None

    @property
    def finished(self) -> int:
        """How many are done, those of an earlier run among them."""
        return self.skipped + self.succeeded + self.failed

    @property
    def duration(self) -> float:
        """Seconds since it began, or that it took."""
        return (self._ended or now()) - self._began

    @property
    def rate(self) -> float:
        """Tasks that have ended in a second."""
        duration = self.duration
        return (self.succeeded + self.failed) / duration if duration > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds that it will still take at this rate; None where that cannot be known."""
        rate = self.rate
        return None if self.total is None or not rate else max(0, self.total - self.finished) / rate

    def __str__(self) -> str:
        """Say it in one line."""
        words = [f"{self.succeeded} succeeded", f"{self.failed} failed"]
        words += [f"{self.skipped} skipped"] if self.skipped else []
        words += [f"{len(self.doubt)} in doubt"] if self.doubt else []
        words += [f"{self.retried} retried"] if self.retried else []
        words += ["halted"] if self.halted else []
        return f"{', '.join(words)} in {self.duration:.2f} s, {self.rate:.1f}/s"
