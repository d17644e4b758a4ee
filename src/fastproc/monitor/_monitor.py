"""`Monitor`: the watches, one timer for all that has to be looked at, and what is told.

Invariant: an alert is about the process that was watched, and never about another one that has its number now.
"""

from __future__ import annotations

from fastproc._engine.reactor import READ
from fastproc._values.monitoring import METRICS, Level, ProcessAlert, Rule
from fastproc.info._cgroups import pressure
from fastproc.info._reading import snapshot
from fastproc.monitor._driving import Driven, now_
from fastproc.monitor._metrics import PRESSURES, are_rated, of_cgroup, stalled, values, why_absent
from fastproc.monitor._watch import IDENTITY, Watch, likeness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.reactor import Timer
    from fastproc._values.snapshot import Record, Snapshot

HOST = 0
"""In the place of a pid: the machine itself."""


class Monitor(Driven):
    """Watches processes, and gives a `ProcessAlert` for what happens to them.

    Alerts go to the callbacks, and to whoever iterates: `for`, `async for` (asyncio, uvloop, trio), `next()`. Nothing
    runs by itself: somebody iterates, calls `run()`, or drives it in a loop of his own by `fileno()`, `timeout()` and
    `run_once(0)`. One descriptor serves any number of processes, and each has one more, its pidfd. Not thread-safe.

    Args:
        interval: seconds between two looks at what the rules need. Without rules there are none.
        callback: called with each alert. What it raises leaves `run()`, `next()` or the iteration.

    Raises:
        ValueError: interval is not positive.
    """

    def __init__(self, interval: float = 1.0, callback: Callable[[ProcessAlert], object] | None = None) -> None:
        """See the class."""
        if not interval > 0:
            raise ValueError(f"interval: {interval!r} is no positive number of seconds")
        self.interval = interval
        super().__init__(callback)
        self._watches: dict[int, Watch] = {}
        self._dead: list[Watch] = []
        self._timer: Timer | None = None
        self._before: Snapshot | None = None

    # -- what is watched

    def watch(self, pid: int, *rules: Rule, restart: bool = False) -> Watch:
        """Watch a process, its end and some thresholds; anybody's, the right to signal it is not needed.

        Watching a process again replaces its rules.

        Args:
            pid: its number.
            rules: thresholds; none to be told of its end alone, which costs nothing until it comes.
            restart: after its end look for another process with the same name, user and arguments that began later,
                tell of it ("restarted"), and watch that one from then on.

        Raises:
            ProcessLookupError: there is no such process.
            ValueError: pid is none, or a thread's that is no process; a rule is no Rule.
            OSError: EMFILE: each watched process needs a descriptor (RLIMIT_NOFILE).
            RuntimeError: the monitor is closed, or belongs to the process that this one is a fork of.
        """
        self._check()
        for rule in rules:
            if not isinstance(rule, Rule):
                raise ValueError(f"rules: {rule!r} is no Rule")
        watch = Watch(pid, rules, restart)
        watch._identify()
        self.unwatch(pid)
        self._begin(watch)
        self._arm()
        return watch

    def watch_host(self, *rules: Rule) -> Watch:
        """Watch the machine: cpu_pressure, memory_pressure, io_pressure.

        Raises:
            ValueError: a rule is about something else.
        """
        self._check()
        for rule in rules:
            if not isinstance(rule, Rule) or rule.metric not in PRESSURES:
                raise ValueError(f"rules: {rule!r} is about no pressure of the machine")
        watch = self._watches[HOST] = Watch(HOST, rules, False)
        watch.name = "host"
        self._arm()
        return watch

    def unwatch(self, pid: int) -> None:
        """Watch it no longer. Harmless when it is not watched."""
        watch = self._watches.pop(pid, None)
        self._dead = [one for one in self._dead if one.pid != pid]
        if watch is not None:
            self._forget(watch)

    @property
    def watches(self) -> tuple[Watch, ...]:
        """Those that live, and the machine's."""
        return tuple(self._watches.values())

    def close(self) -> None:
        """Give all descriptors back. Harmless when repeated."""
        self._closed = True
        for watch in self._watches.values():
            self._forget(watch)
        self._watches = {}
        self._dead = []
        self._reactor.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _begin(self, watch: Watch) -> None:
        self._watches[watch.pid] = watch
        if watch._member is not None:
            self._reactor.watch(watch._member.number, READ, lambda _ready: self._ended(watch))

    def _forget(self, watch: Watch) -> None:
        if watch._member is not None and watch._member.number >= 0:
            self._reactor.unwatch(watch._member.number)
        watch._close()

    # -- what happens

    def _ended(self, watch: Watch) -> None:
        status = watch._status()
        self._watches.pop(watch.pid, None)
        self._forget(watch)
        watch.alive = False
        if watch._needs_looks():
            self._dead.append(watch)
            self._arm()
        self._tell(ProcessAlert("died", watch.pid, watch.name, now_(), returncode=status))

    def _arm(self) -> None:
        if self._timer is None and any(one._needs_looks() for one in (*self._watches.values(), *self._dead)):
            self._timer = self._reactor.call_after(self.interval, self._look)

    def _look(self) -> None:
        """One look at all that rules need, by one timer."""
        self._timer = None
        watched = [one for one in (*self._watches.values(), *self._dead) if one.pid and one._needs_looks()]
        metrics = {metric for one in watched for metric in one._metrics()}
        fields = {"pid", "starttime", "state"}
        fields.update(field for metric in metrics for field in METRICS[metric][1])
        try:
            if watched:
                table = snapshot(sorted(fields), [one.pid for one in watched])
                before, self._before = self._before, table
                rates = table if before is None or not are_rated(metrics) else table.rates(before)
                self._judge(watched, metrics, rates, table.taken)
            host = self._watches.get(HOST)
            if host is not None:
                self._weigh(host, now_())
            if any(one._restart for one in self._dead):
                self._find_restarted()
        finally:
            self._arm()

    def _judge(self, watched: list[Watch], metrics: set[str], table: Snapshot, now: float) -> None:
        """Hold each rule to the value of its process; by columns, as there may be thousands of rows."""
        starts, states = table.values("starttime"), table.values("state")
        columns = {metric: values(metric, table) for metric in metrics if metric not in PRESSURES}
        for at, watch in enumerate(watched):
            if starts[at] != watch._starttime and watch._starttime is not None:
                self._replaced(watch, now)
                continue
            if watch.alive and watch.by == "polling" and states[at] in ("Z", "X"):
                self._ended(watch)
            for level in watch._levels:
                metric = level.rule.metric
                if not watch.alive and metric != "zombie":
                    continue
                value = columns[metric][at] if metric in columns else of_cgroup(metric, watch.pid)
                if value is None:
                    self._lacks(watch, level, table[at], now)
                elif (event := level.step(value, now)) is not None:
                    self._tell(ProcessAlert(event, watch.pid, watch.name, now, rule=level.rule, value=value))

    def _replaced(self, watch: Watch, now: float) -> None:
        """Its number is nobody's or another's: it is no zombie any more."""
        if watch.alive and watch.by == "polling":
            self._ended(watch)
        if watch.alive:
            return  # its pidfd will tell
        for level in watch._levels:
            if level.rule.metric == "zombie" and level.reset():
                self._tell(ProcessAlert("cleared", watch.pid, watch.name, now, rule=level.rule, value=0.0))
        if not watch._restart and watch in self._dead:
            self._dead.remove(watch)

    def _lacks(self, watch: Watch, level: Level, record: Record, now: float) -> None:
        """Tell once why a metric cannot be had; not of one that will be there at the next look."""
        why = why_absent(level.rule.metric, record)
        if why is not None and level.rule.metric not in watch._unknown:
            watch._unknown.add(level.rule.metric)
            self._tell(ProcessAlert("unknown", watch.pid, watch.name, now, rule=level.rule, reason=why))

    def _weigh(self, watch: Watch, now: float) -> None:

        found = pressure()
        for level in watch._levels:
            value = stalled(found, level.rule.metric)
            event = None if value is None else level.step(value, now)
            if event is not None:
                self._tell(ProcessAlert(event, HOST, watch.name, now, rule=level.rule, value=value))
            elif value is None and level.rule.metric not in watch._unknown:
                watch._unknown.add(level.rule.metric)
                reason = "this kernel does not tell it (PSI)"
                self._tell(ProcessAlert("unknown", HOST, watch.name, now, rule=level.rule, reason=reason))

    def _find_restarted(self) -> None:
        """Look for those that took the place of the dead: by name first, and by user and arguments where that fits."""
        names = {one._like[0] for one in self._dead if one._restart}
        table = snapshot(("pid", "comm", "state", "starttime"))
        alike = [one for one in table if one.comm in names and one.state not in "ZX"]
        pids = [one.pid for one in alike if one.pid not in self._watches]
        for record in snapshot(IDENTITY, pids).sort_by("starttime"):
            for old in self._dead:
                later = record.starttime is not None and record.starttime >= (old._starttime or 0.0)
                if not old._restart or not later or likeness(record) != old._like:
                    continue
                new = Watch(record.pid, old.rules, True)
                try:
                    new._identify()
                except (ProcessLookupError, ValueError):
                    break
                if new._like != old._like or (new.pid, new._starttime) == (old.pid, old._starttime):
                    self._forget(new)
                    break
                self._dead.remove(old)
                self._begin(new)
                self._tell(ProcessAlert("restarted", new.pid, new.name, now_(), replaced=old.pid))
                break

    def _busy(self) -> bool:
        return bool(self._watches or self._dead)
