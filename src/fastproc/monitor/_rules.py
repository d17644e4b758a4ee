"""Rules, the evaluation of a value by a rule, and alerts. Pure: the caller passes the time."""

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
    "io": ("bytes per second read from and written to disks", ("read_bytes", "write_bytes", "starttime")),
    "read": ("bytes per second read from disks", ("read_bytes", "starttime")),
    "write": ("bytes per second written to disks", ("write_bytes", "starttime")),
    "age": ("seconds since its start", ("age",)),
    "zombie": ("1 while it is a zombie, else 0", ("state", "num_threads")),
    "cpu_pressure": ("per cent of the last 10 s in which a task of its cgroup waited for a CPU", ()),
    "memory_pressure": ("per cent of the last 10 s in which a task of its cgroup waited for memory", ()),
    "io_pressure": ("per cent of the last 10 s in which a task of its cgroup waited for disks", ()),
}
"""The metrics: the unit of each, and its fields of a snapshot. The host has only the pressures.

io, read and write jump when the process reaps a child, because the kernel adds all bytes of the child."""

EVENTS = ("raised", "cleared", "died", "restarted", "unknown")


class Rule:
    """A threshold for one metric.

    An alert is raised when the value has been beyond the threshold for `hold` seconds without a break. It is cleared
    when the value has been at `clear` or better for `clear_hold` seconds without a break. So a value that fluctuates
    around the threshold does not raise an alert repeatedly.

    Attributes:
        metric: a name in METRICS.
        above, below: the threshold; one of the two is None.
        clear: the value at which the alert is cleared. Default: a tenth of the threshold away from it. For fds and
            threads the distance is rounded down. For `below` with a percentage it is at most half of the distance to
            100.
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
        """Check the arguments.

        Raises:
            ValueError: there is no such metric; not exactly one of `above` and `below` is given; a value is not a
                number; `hold` or `clear_hold` is negative; `clear` is beyond the threshold.
        """
        if metric not in METRICS:
            raise ValueError(f"metric: {metric!r} is none of {', '.join(METRICS)}")
        if metric == "zombie" and above is None and below is None:
            above = 0.5
        if (above is None) == (below is None):
            raise ValueError(f"{metric}: needs one threshold, above or below")
        threshold = above if above is not None else below
        assert threshold is not None
        for name, value in (("threshold", threshold), ("clear", clear), ("hold", hold), ("clear_hold", clear_hold)):
            if value is not None and (not isinstance(value, (int, float)) or value != value):
                raise ValueError(f"{metric}: {name}: {value!r} is not a number")
        if hold < 0 or clear_hold < 0:
            raise ValueError(f"{metric}: hold and clear_hold must be seconds of 0 or more")
        if clear is not None and (clear > threshold if above is not None else clear < threshold):
            raise ValueError(f"{metric}: clear={clear!r} is beyond the threshold {threshold!r}")
        self.metric = metric
        self.above = above
        self.below = below
        self.clear = _margin(metric, above, threshold) if clear is None else clear
        self.hold = hold
        self.clear_hold = clear_hold

    @property
    def threshold(self) -> float:
        """The value of `above` or `below`."""
        return self.above if self.above is not None else self.below  # type: ignore[return-value]

    def is_over(self, value: float) -> bool:
        """Return whether a value is beyond the threshold."""
        return value > self.above if self.above is not None else value < self.below  # type: ignore[operator]

    def is_clear(self, value: float) -> bool:
        """Return whether a value clears the alert."""
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
    """Return the default of `clear`: away from the threshold, and a value that the metric can reach."""
    away = abs(threshold) / 10
    if metric in ("fds", "threads"):
        away = away // 1
    if above is not None:
        return threshold - away
    if METRICS[metric][0].startswith("per cent") and threshold < 100:
        away = min(away, (100 - threshold) / 2)
    return threshold + away


class Level:
    """The state of a rule for one process: whether it is raised, and since when the value is on the other side."""

    __slots__ = ("_since", "raised", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.raised = False
        self._since: float | None = None

    def step(self, value: float, now: float) -> str | None:
        """Evaluate a value; return "raised" or "cleared" if the state changes, otherwise None."""
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
        """Reset the state, as for another process; return whether the rule was raised."""
        was, self.raised, self._since = self.raised, False, None
        return was


class ProcessAlert:
    """An event of a watched process or of the machine.

    Attributes:
        event: "raised" or "cleared": a rule. "died": the process has ended. "restarted": another process has replaced a
            process that died. "unknown": a metric is not available.
        pid: the pid; 0 for the machine.
        name: the name of the process.
        rule: the rule of the alert, or None.
        value: the value of the rule's metric, or None.
        when: the monotonic time of the alert.
        returncode: for "died" the exit code, or the negative number of the signal; None if the kernel does not report
            it.
        replaced: for "restarted" the pid of the process that died.
        reason: for "unknown" the reason.
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
        """Store the values."""
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
        """The metric of the rule, or None."""
        return self.rule.metric if self.rule is not None else None

    def __str__(self) -> str:
        """Return a line for a log."""
        who = f"process {self.pid} ({printable(self.name)})" if self.pid else "the machine"
        if self.event == "died":
            how = "" if self.returncode is None else f" with {self.returncode}"
            return f"{who} has died{how}"
        if self.event == "restarted":
            return f"{who} has replaced process {self.replaced}"
        if self.event == "unknown":
            return f"{who}: {self.metric} is not available: {printable(self.reason)}"
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
