"""The progress of a map: counts, rate, remaining time."""

from __future__ import annotations

from fastproc._engine.reactor import deadline_from


def now() -> float:
    """Return the monotonic time."""
    found = deadline_from("", 0.0)
    assert found is not None
    return found


class Summary:
    """The progress of a map.

    Attributes:
        total: the number of items, or None while it is unknown.
        skipped: the number of tasks that the log already had.
        doubt: the command lines of tasks that an earlier run has started and whose end is unknown. With `doubt="skip"`
            they are not run again, and are counted in `skipped`.
        started, succeeded, failed: numbers of tasks. A task that is tried again counts as started once.
        retried: the number of further tries.
        halted: whether `halt` has ended the map early.
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
        """The number of tasks that are done, including those of earlier runs."""
        return self.skipped + self.succeeded + self.failed

    @property
    def duration(self) -> float:
        """Seconds since the start of the map; after its end, the seconds that it took."""
        return (self._ended or now()) - self._began

    @property
    def rate(self) -> float:
        """Ended tasks per second."""
        duration = self.duration
        return (self.succeeded + self.failed) / duration if duration > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """The remaining seconds at this rate; None if they cannot be estimated."""
        rate = self.rate
        return None if self.total is None or not rate else max(0, self.total - self.finished) / rate

    def __str__(self) -> str:
        """Return the progress in one line."""
        words = [f"{self.succeeded} succeeded", f"{self.failed} failed"]
        words += [f"{self.skipped} skipped"] if self.skipped else []
        words += [f"{len(self.doubt)} in doubt"] if self.doubt else []
        words += [f"{self.retried} retried"] if self.retried else []
        words += ["halted"] if self.halted else []
        return f"{', '.join(words)} in {self.duration:.2f} s, {self.rate:.1f}/s"
