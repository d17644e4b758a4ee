"""Watching processes: rules, what becomes of a value under a rule, and the alerts. Pure: instants are handed in."""

from __future__ import annotations

from fastproc._values.quoting import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cpu": ("per cent of one CPU", ("utime", "stime", "starttime", "num_threads")),
    "rss": ("bytes of resident memory", ("rss",)),
    "fds": ("open descriptors", ("num_fds",)),
    "threads": ("threads", ("num_threads",)),
    "io": ("bytes read from and sent to disks, by the second", ("read_bytes", "write_bytes", "starttime")),
    "read": ("bytes read from disks, by the second", ("read_bytes", "starttime")),
    "write": ("bytes sent to disks, by the second", ("write_bytes", "starttime")),
    "age": ("seconds since it began", ("age",)),
    "zombie": ("1 while it has ended and waits for its parent, else 0", ("state", "num_threads")),
    "cpu_pressure": ("per cent of 10 s that something in its cgroup waited for a CPU", ()),
    "memory_pressure": ("per cent of 10 s that something in its cgroup waited for memory", ()),
    "io_pressure": ("per cent of 10 s that something in its cgroup waited for disks", ()),
}
"""What can be watched: its unit, and the fields of a snapshot that it is made of. Of the host only the pressures.

io, read and write jump when the process reaps a child: the kernel adds what that has moved in all its life."""

EVENTS = ("raised", "cleared", "died", "restarted", "unknown")


class Rule:
    """A threshold of one metric.

    An alert is raised when the value has been beyond the threshold for `hold` seconds without a break, and cleared when
    it has been back beyond `clear` for `clear_hold` seconds without a break: a value that trembles around the
    threshold tells nothing twice.

    Attributes:
        metric: a name in METRICS.
        above, below: the threshold; one of them is None.
        clear: where it is over. By default a tenth of the threshold away from it; of fds and threads rounded
            towards the threshold, and of "below" in per cent never nearer to 100 than half way.
        hold, clear_hold: seconds.
    """

    __module__ = "fastproc.monitor"

    __slots__ = ("above", "below", "clear", "clear_hold", "hold", "metric")

    def __init__(
        self,
        metric: str,
        above: float | None = None,
        *,
        below: float | None = None,
        clear: float | None = None,
        hold: float = 0.0,
        clear_hold: float = 0.0,
    ) -> None:
        """Take the threshold.

        Raises:
            ValueError: there is no such metric, no threshold or two, a negative time, or `clear` on the wrong side.
        """
        if metric not in METRICS:
            raise ValueError(f"metric: {metric!r} is none of {', '.join(METRICS)}")
        if metric == "zombie" and above is None and below is None:
            above = 0.5
        if (above is None) == (below is None):
            raise ValueError(f"{metric}: one threshold is wanted, above or below")
        threshold = above if above is not None else below
        assert threshold is not None
        for name, value in (("threshold", threshold), ("clear", clear), ("hold", hold), ("clear_hold", clear_hold)):
            if value is not None and (not isinstance(value, (int, float)) or value != value):
                raise ValueError(f"{metric}: {name}: {value!r} is no number")
        if hold < 0 or clear_hold < 0:
            raise ValueError(f"{metric}: hold and clear_hold are seconds, and not negative")
        if clear is not None and (clear > threshold if above is not None else clear < threshold):
            raise ValueError(f"{metric}: clear={clear!r} lies beyond the threshold {threshold!r}")
        self.metric = metric
        self.above = above
        self.below = below
        self.clear = _margin(metric, above, threshold) if clear is None else clear
        self.hold = hold
        self.clear_hold = clear_hold

    @property
    def threshold(self) -> float:
        """Above or below, whichever it is."""
        return self.above if self.above is not None else self.below  # type: ignore[return-value]

    def is_over(self, value: float) -> bool:
        """Whether a value is beyond the threshold."""
        return value > self.above if self.above is not None else value < self.below  # type: ignore[operator]

    def is_clear(self, value: float) -> bool:
        """Whether a value is where the alert ends."""
        return value <= self.clear if self.above is not None else value >= self.clear

    def _key(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Rule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        side = f"above={self.above!r}" if self.above is not None else f"below={self.below!r}"
        more = "".join(
            f", {name}={getattr(self, name)!r}" for name in ("hold", "clear_hold") if getattr(self, name) != 0.0
        )
        return f"Rule({self.metric!r}, {side}, clear={self.clear!r}{more})"


def _margin(metric: str, above: float | None, threshold: float) -> float:
    """Where an alert ends when nothing is said: far enough from the threshold, and where the value can come to."""
    away = abs(threshold) / 10
    if metric in ("fds", "threads"):
        away = away // 1
    if above is not None:
        return threshold - away
    if METRICS[metric][0].startswith("per cent") and threshold < 100:
        away = min(away, (100 - threshold) / 2)
    return threshold + away


class Level:
    """A rule's state for one process: raised or not, and since when the value has been on the other side."""

    __slots__ = ("_since", "raised", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.raised = False
        self._since: float | None = None

    def step(self, value: float, now: float) -> str | None:
        """Take the value of an instant; return "raised" or "cleared" when that is what it makes."""
        rule = self.rule
        crossed = rule.is_clear(value) if self.raised else rule.is_over(value)
        if not crossed:
            self._since = None
            return None
        if self._since is None:
            self._since = now
        if now - self._since < (rule.clear_hold if self.raised else rule.hold):
            return None
        self._since = None
        self.raised = not self.raised
        return "raised" if self.raised else "cleared"

    def reset(self) -> bool:
        """Begin anew, as for another process; return whether it was raised."""
        was, self.raised, self._since = self.raised, False, None
        return was


class ProcessAlert:
    """Something that happened to a watched process, or to the machine.

    Attributes:
        event: "raised", "cleared": a rule; "died"; "restarted": another process has taken the place of one that died;
            "unknown": a metric cannot be had, and `reason` says why.
        pid: its number; 0 for the machine. name: its name.
        rule: of a rule's alert, else None. value: the metric's value then.
        when: instant of the monotonic clock. since: of "raised" and "cleared", seconds that it took.
        returncode: of "died": exit code, or minus the signal; None where the kernel does not tell it.
        replaced: of "restarted": the pid of the one that died.
        reason: of "unknown".
    """

    __module__ = "fastproc"

    __slots__ = ("event", "name", "pid", "reason", "replaced", "returncode", "rule", "value", "when")

    def __init__(
        self,
        event: str,
        pid: int,
        name: str,
        when: float,
        *,
        rule: Rule | None = None,
        value: float | None = None,
        returncode: int | None = None,
        replaced: int | None = None,
        reason: str = "",
    ) -> None:
        """Take what happened."""
        self.event = event
        self.pid = pid
        self.name = name
        self.when = when
        self.rule = rule
        self.value = value
        self.returncode = returncode
        self.replaced = replaced
        self.reason = reason

    @property
    def metric(self) -> str | None:
        """The rule's."""
        return self.rule.metric if self.rule is not None else None

    def __str__(self) -> str:
        """A line for a log."""
        who = f"process {self.pid} ({printable(self.name)})" if self.pid else "the machine"
        if self.event == "died":
            how = "" if self.returncode is None else f" with {self.returncode}"
            return f"{who} has died{how}"
        if self.event == "restarted":
            return f"{who} has taken the place of {self.replaced}"
        if self.event == "unknown":
            return f"{who}: {self.metric} cannot be had: {printable(self.reason)}"
        assert self.rule is not None
        side = "above" if self.rule.above is not None else "below"
        threshold = self.rule.threshold if self.event == "raised" else self.rule.clear
        verb = f"is {side}" if self.event == "raised" else "is back at"
        return f"{who}: {self.rule.metric} {verb} {threshold:g}: {self.value:g}"

    def __repr__(self) -> str:
        parts = [f"event={self.event!r}", f"pid={self.pid}", f"name={self.name!r}"]
        parts += [
            f"{name}={getattr(self, name)!r}"
            for name in ("rule", "value", "returncode", "replaced", "reason")
            if getattr(self, name) not in (None, "")
        ]
        return f"ProcessAlert({', '.join(parts)})"
