"""The condition for ending a map early: GNU parallel's --halt as a value."""

from __future__ import annotations

_WHAT = ("fail", "success", "done")
_LEAST = 3
"""Tasks that must have ended before a percentage is evaluated, as in GNU parallel."""


class Halt:
    """A condition on the numbers of ended tasks.

    Attributes:
        now: whether the running tasks are killed. Otherwise only no more tasks are started.
        what: which tasks are counted: "fail", "success" or "done"; "" for never.
        limit: the number of tasks.
        share: whether `limit` is a share from 0.0 to 1.0 of all tasks.

    >>> Halt.parse("soon,fail=20%")
    Halt.parse('soon,fail=20%')
    """

    __slots__ = ("limit", "now", "share", "text", "what")

    def __init__(self, text: str, now: bool, what: str, limit: float, share: bool) -> None:
        self.text = text
        self.now = now
        self.what = what
        self.limit = limit
        self.share = share

    @classmethod
    def parse(cls, text: str) -> Halt:
        """Parse `never`, or `now` or `soon`, a comma, and `fail=`, `success=` or `done=` with a number or a percentage.

        Also the old form of GNU parallel: 0 for never, 1 for "soon,fail=1", 2 for "now,fail=1".

        Raises:
            ValueError: the text has another form.
        """
        full = {"0": "never", "1": "soon,fail=1", "2": "now,fail=1"}.get(text, text)
        if full == "never":
            return cls(text, False, "", 0, False)
        when, _, rest = full.partition(",")
        what, _, number = rest.partition("=")
        digits = number.removesuffix("%")
        if when not in ("now", "soon") or what not in _WHAT or not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"halt: must be never, or such as now,fail=1 or soon,fail=20%, not {text!r}")
        share = number != digits
        limit = int(digits) / 100 if share else int(digits)
        if limit == 0 or (share and limit > 1):
            raise ValueError(f"halt: {number} must be at least 1, and a percentage at most 100%")
        return cls(text, when == "now", what, limit, share)

    def __repr__(self) -> str:
        """Show the call that creates the value."""
        return f"Halt.parse({self.text!r})"

    def reached(self, failed: int, succeeded: int, total: int | None) -> bool:
        """Return whether the condition holds.

        Args:
            failed: the number of failed tasks.
            succeeded: the number of successful tasks.
            total: the number of all tasks. If it is unknown (None), a share refers to the ended tasks.
        """
        done = failed + succeeded
        count = {"fail": failed, "success": succeeded, "done": done}.get(self.what)
        if count is None:
            return False
        if not self.share:
            return count >= self.limit
        return done >= _LEAST and count >= self.limit * (total or done)
