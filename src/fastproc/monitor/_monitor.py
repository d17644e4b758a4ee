"""`Monitor`: the watches, one timer for all values, and the alerts.

Invariant: an alert is about the process that was watched, and never about another process with the same pid.
"""

from __future__ import annotations

from fastproc._engine.reactor import READ
from fastproc.info._cgroups import is_own_lack, pressure
from fastproc.info._reading import snapshot
from fastproc.monitor._driving import Driven, now_
from fastproc.monitor._metrics import PRESSURES, are_rated, has_ended, of_cgroup, stalled, values, why_absent
from fastproc.monitor._rules import METRICS, Level, ProcessAlert, Rule
from fastproc.monitor._watch import IDENTITY, Watch, likeness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.reactor import Timer
    from fastproc.info._snapshot import Record, Snapshot

    Shares = dict[tuple[str, int], float | None]

HOST = 0
"""Used as a pid: the machine."""

TICK = 0.01
"""Seconds: the resolution of starttime (USER_HZ)."""


class Monitor(Driven):
    """Watches processes, and delivers a `ProcessAlert` for each event.

    Alerts go to the callbacks and to iterators: `for`, `async for` (asyncio, uvloop, trio) and `next()`. There is no
    thread: the program iterates, calls `run()`, or drives the monitor in its own loop by `fileno()`, `timeout()` and
    `run_once(0)`. A monitor uses one descriptor, and one pidfd for each process. It is not thread-safe.

    Args:
        interval: seconds between two looks at the values that the rules need. Without rules there are no looks.
        callback: a function that is called with each alert. Its exceptions propagate from `run()`, `next()` or the
            iteration.

    Raises:
        ValueError: `interval` is not positive.
    """

    __module__ = "fastproc.monitor"

    def __init__(self, interval: float = 1.0, callback: Callable[[ProcessAlert], object] | None = None) -> None:
        """See the class."""
        if not interval > 0:
            raise ValueError(f"interval: {interval!r} is not a positive number of seconds")
        self.interval = interval
        super().__init__(callback)
        self._watches: dict[int, Watch] = {}
        self._dead: list[Watch] = []
        self._timer: Timer | None = None
        self._before: Snapshot | None = None

    # -- what is watched

    def watch(self, pid: int, *rules: Rule, restart: bool = False) -> Watch:
        """Watch the end and the thresholds of a process of any user. The permission to signal it is not needed.

        A second watch of the same process replaces the rules.

        Args:
            pid: the pid.
            rules: thresholds. Without rules only the end is reported, and the watch costs no CPU time until then.
            restart: after the end of the process, look for a later process with the same name, user and arguments,
                report it ("restarted"), and watch it instead. It must have started after this process was last seen
                alive. The monitor searches at each look, until it has found a process or `unwatch()` is called. Name,
                user and arguments are read again until a process has run for a second, because execve(2) changes them.

        Raises:
            ProcessLookupError: the process does not exist.
            ValueError: `pid` is invalid or the id of a thread; a rule is not a Rule.
            OSError: EMFILE: each watched process needs a descriptor (RLIMIT_NOFILE).
            RuntimeError: the monitor is closed, or belongs to the process of which this process is a fork.
        """
        self._check()
        for rule in rules:
            if not isinstance(rule, Rule):
                raise ValueError(f"rules: {rule!r} is not a Rule")
        watch = Watch(pid, rules, restart)
        watch._identify()
        self.unwatch(pid)
        self._begin(watch)
        self._arm(watch)
        return watch

    def watch_host(self, *rules: Rule) -> Watch:
        """Watch the machine: cpu_pressure, memory_pressure, io_pressure.

        Raises:
            ValueError: a rule is about another metric.
        """
        self._check()
        for rule in rules:
            if not isinstance(rule, Rule) or rule.metric not in PRESSURES:
                raise ValueError(f"rules: {rule!r} is not about a pressure of the machine")
        watch = self._watches[HOST] = Watch(HOST, rules, False)
        watch.name = "host"
        self._arm()
        return watch

    def unwatch(self, pid: int) -> None:
        """End the watch of a pid. Does nothing if it is not watched."""
        watch = self._watches.pop(pid, None)
        self._dead = [one for one in self._dead if one.pid != pid]
        if watch is not None:
            self._forget(watch)

    @property
    def watches(self) -> tuple[Watch, ...]:
        """The watches of living processes, and of the machine."""
        return tuple(self._watches.values())

    def close(self) -> None:
        """Close all descriptors. Further calls do nothing."""
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
        if self._watches.get(watch.pid) is not watch:
            return  # the watch has ended
        watch._died = max(watch._died, self._earliest())
        status = watch._status()
        del self._watches[watch.pid]
        self._forget(watch)
        watch.alive = False
        if watch._needs_looks():
            self._dead.append(watch)
            self._arm()
        self._tell(ProcessAlert("died", watch.pid, watch.name, now_(), returncode=status))

    def _arm(self, *those: Watch) -> None:
        if self._timer is None and any(one._needs_looks() for one in those or (*self._watches.values(), *self._dead)):
            self._timer = self._reactor.call_after(self.interval, self._look)

    def _look(self) -> None:
        """Read all values that the rules need, and evaluate the rules."""
        self._timer = None
        self._wake()
        watched = [one for one in (*self._watches.values(), *self._dead) if one.pid and one._needs_looks()]
        metrics = {metric for one in watched for metric in one._metrics()}
        fields = {"pid", "starttime", "state", "num_threads"}
        fields.update(field for metric in metrics for field in METRICS[metric][1])
        try:
            if young := [one for one in watched if one._is_young()]:
                self._learn(young)
            if watched and (read := self._read(watched, fields)) is not None:
                table, shares = read
                before, self._before = self._before, table
                rates = table if before is None or not are_rated(metrics) else table.rates(before)
                self._judge(watched, metrics, shares, rates, table.taken)
            host = self._watches.get(HOST)
            if host is not None:
                self._weigh(host, now_())
            if any(one._restart for one in self._dead):
                self._find_restarted()
        finally:
            self._arm()

    def _learn(self, young: list[Watch]) -> None:
        """Read name, user and arguments again, if descriptors are available."""
        try:
            for watch, record in zip(young, snapshot(IDENTITY, [one.pid for one in young]), strict=True):
                watch._learn(record)
        except OSError as error:
            if not is_own_lack(error):
                raise

    def _read(self, watched: list[Watch], fields: set[str]) -> tuple[Snapshot, Shares] | None:
        """Return the values; None if this process lacks descriptors now. The next look tries again."""
        try:
            table = snapshot(sorted(fields), [one.pid for one in watched])
            shares: Shares = {}
            for one in watched:
                if one.alive and (wanted := one._metrics().intersection(PRESSURES)):
                    found = of_cgroup(one.pid)
                    shares.update({(name, one.pid): stalled(found, name) for name in wanted})
            return table, shares
        except OSError as error:
            if is_own_lack(error):
                return None
            raise

    def _is_current(self, watch: Watch) -> bool:
        """Return whether the watch is still in force: a callback may have ended or replaced it."""
        if watch.alive:
            return self._watches.get(watch.pid) is watch
        return any(one is watch for one in self._dead)

    def _judge(self, watched: list[Watch], metrics: set[str], shares: Shares, table: Snapshot, now: float) -> None:
        """Evaluate each rule with the value of its process, by columns, because there may be thousands of rows."""
        starts, states, threads = (table.values(name) for name in ("starttime", "state", "num_threads"))
        columns = {metric: values(metric, table) for metric in metrics if metric not in PRESSURES}
        for at, watch in enumerate(watched):
            if starts[at] != watch._starttime and watch._starttime is not None:
                self._replaced(watch, now)
                continue
            if watch.alive and watch.by == "polling" and has_ended(states[at], threads[at]):
                self._ended(watch)
            for level in watch._levels:
                metric = level.rule.metric
                if not self._is_current(watch) or (not watch.alive and metric != "zombie"):
                    continue
                value = columns[metric][at] if metric in columns else shares.get((metric, watch.pid))
                if value is None:
                    self._lacks(watch, level, table[at], now)
                elif (event := level.step(value, now)) is not None:
                    self._tell(ProcessAlert(event, watch.pid, watch.name, now, rule=level.rule, value=value))

    def _replaced(self, watch: Watch, now: float) -> None:
        """Handle a pid that is unused or belongs to another process: the watched process is not a zombie any more."""
        if watch.alive and watch.by == "polling":
            self._ended(watch)
        if watch.alive:
            return  # its pidfd will report the end
        for level in watch._levels:
            if level.rule.metric == "zombie" and self._is_current(watch) and level.reset():
                self._tell(ProcessAlert("cleared", watch.pid, watch.name, now, rule=level.rule, value=0.0))
        if not watch._restart and watch in self._dead:
            self._dead.remove(watch)

    def _lacks(self, watch: Watch, level: Level, record: Record, now: float) -> None:
        """Report once why a metric is not available, unless it will be available at the next look."""
        why = why_absent(level.rule.metric, record)
        if why is not None and level.rule.metric not in watch._unknown:
            watch._unknown.add(level.rule.metric)
            self._tell(ProcessAlert("unknown", watch.pid, watch.name, now, rule=level.rule, reason=why))

    def _weigh(self, watch: Watch, now: float) -> None:
        try:
            found = pressure()
        except OSError:
            return  # this process lacks descriptors: the next look tries again
        for level in watch._levels:
            if not self._is_current(watch):
                return
            value = stalled(found, level.rule.metric)
            event = None if value is None else level.step(value, now)
            if event is not None:
                self._tell(ProcessAlert(event, HOST, watch.name, now, rule=level.rule, value=value))
            elif value is None and level.rule.metric not in watch._unknown:
                watch._unknown.add(level.rule.metric)
                reason = "this kernel does not report it (PSI)"
                self._tell(ProcessAlert("unknown", HOST, watch.name, now, rule=level.rule, reason=reason))

    def _find_restarted(self) -> None:
        """Look for replacements of dead processes: by name first, then by user and arguments."""
        names = {one._like[0] for one in self._dead if one._restart}
        try:
            table = snapshot(("pid", "comm", "state", "num_threads"))
            alike = [one for one in table if one.comm in names and not has_ended(one.state, one.num_threads)]
            records = snapshot(IDENTITY, [one.pid for one in alike if one.pid not in self._watches])
        except OSError as error:
            if is_own_lack(error):
                return
            raise
        for record in records.sort_by("starttime"):
            for old in self._dead:
                # A process that started before the other's end is not its replacement.
                later = record.starttime is not None and record.starttime >= old._died - TICK
                if not old._restart or not later or likeness(record) != old._like:
                    continue
                new = Watch(record.pid, old.rules, True)
                try:
                    new._identify()
                except (ProcessLookupError, ValueError):
                    break
                except OSError as error:
                    if is_own_lack(error):
                        return
                    raise
                if new._like != old._like or (new.pid, new._starttime) == (old.pid, old._starttime):
                    self._forget(new)
                    break
                self._dead.remove(old)
                self._begin(new)
                self._tell(ProcessAlert("restarted", new.pid, new.name, now_(), replaced=old.pid))
                break

    def _busy(self) -> bool:
        return bool(self._watches or self._dead)
