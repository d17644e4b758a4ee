"""When a task that failed is tried again, and how long after: a value."""

from __future__ import annotations

from errno import EAGAIN, EMFILE, ENFILE, ENOMEM, ETXTBSY

from fastproc import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._values.status import Result

PASSING = frozenset((EAGAIN, EMFILE, ENFILE, ENOMEM, ETXTBSY))
"""Errors of a start that may be over the next time."""


def number(name: str, value: object) -> float:
    """Return a finite number that is not negative.

    Raises:
        TypeError, ValueError: it is none; the message starts with the name.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: must be a number, not {type(value).__name__}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}: must be a number from 0 on, not {value!r}")
    return float(value)


class Retries:
    """How often a task is tried again, when, and after what.

    Args:
        times: how many further tries there are at most.
        delay: seconds before the second try.
        factor: by which the delay grows with each.
        longest: seconds that it does not grow beyond.
        jitter: the share of the delay that is left to chance, 0.0 to 1.0, so that tasks which failed together do not
            come back together.
        when: called with what a try gave, the Result or the exception, says whether it is tried again. None: after a
            status that is not accepted, a deadline, and a start that failed for want of resources.

    >>> Retries(3, delay=1.0, jitter=0.0).pause(2)
    2.0
    """

    __module__ = "fastproc"

    __slots__ = ("delay", "factor", "jitter", "longest", "times", "when")

    def __init__(
        self,
        times: int,
        *,
        delay: float = 0.1,
        factor: float = 2.0,
        longest: float = 60.0,
        jitter: float = 0.1,
        when: Callable[[Result | BaseException], bool] | None = None,
    ) -> None:
        """Keep them.

        Raises:
            TypeError, ValueError: one is not possible; its name comes first.
        """
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:
            raise ValueError(f"retries: must be a whole number from 0 on, not {times!r}")
        self.times = times
        self.delay = number("delay", delay)
        self.factor = number("factor", factor)
        self.longest = number("longest", longest)
        self.jitter = number("jitter", jitter)
        if self.jitter > 1.0:
            raise ValueError(f"jitter: must be from 0.0 to 1.0, not {jitter!r}")
        if when is not None and not callable(when):
            raise TypeError(f"when: must be callable, not {type(when).__name__}")
        self.when = when

    def __repr__(self) -> str:
        """Show the call that makes it."""
        names = ("delay", "factor", "longest", "jitter", "when")
        return f"Retries({self.times}, {', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def pause(self, tries: int, chance: float = 0.0) -> float:
        """Seconds to wait after that many tries; chance is from 0.0 to 1.0."""
        try:
            grown = self.delay * self.factor ** (tries - 1)
        except OverflowError:
            grown = self.longest
        return min(grown, self.longest) * (1.0 - self.jitter * chance)

    def wanted(self, tries: int, outcome: Result | BaseException) -> bool:
        """Whether it is tried again after that many tries, the last of which gave this."""
        if tries > self.times:
            return False
        if self.when is not None:
            return bool(self.when(outcome))
        if isinstance(outcome, errors.SpawnError):
            return outcome.errno in PASSING
        return isinstance(outcome, errors.ProcessError) and not isinstance(outcome, errors.Unsupported)


def as_retries(value: int | Retries | None) -> Retries:
    """Return what is meant by a number of retries."""
    return value if isinstance(value, Retries) else Retries(0 if value is None else value)
