"""When a map goes no further: GNU parallel's --halt as a value."""

from __future__ import annotations

_WHAT = ("fail", "success", "done")
_LEAST = 3
"""Tasks that must have ended before a share of them says anything, as with GNU parallel."""


class Halt:
    """Whether to go on, after what has ended.

    Attributes:
        now: whether those that run are killed, not only no more started.
        what: "fail", "success" or "done": what is counted; "" for never.
        limit: how many of these are enough; share: whether it is a share of 0.0 to 1.0 of all.

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
        """Read `never`, or `now` or `soon`, a comma, and `fail=`, `success=` or `done=` with a number or a percentage.

        Also 0, 1 and 2, which were the form before: never, soon after a failure, now after a failure.

        Raises:
            ValueError: it is none of these.
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
            raise ValueError(f"halt: {number} is not from 1 on, or not up to 100%")
        return cls(text, when == "now", what, limit, share)

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return f"Halt.parse({self.text!r})"

    def reached(self, failed: int, succeeded: int, total: int | None) -> bool:
        """Whether that is enough.

        Args:
            failed: how many failed.
            succeeded: how many did not.
            total: how many there are in all, where that is known; a share is of those that have ended, else.
        """
        done = failed + succeeded
        count = {"fail": failed, "success": succeeded, "done": done}.get(self.what)
        if count is None:
            return False
        if not self.share:
            return count >= self.limit
        return done >= _LEAST and count >= self.limit * (total or done)
