"""Watching processes of any user: their end, reported at once and without polling, and thresholds, by one timer.

>>> from fastproc.monitor import Monitor, Rule
>>> import fastproc
>>> with Monitor() as monitor, fastproc.start("sleep", "0.01") as child:
...     _ = monitor.watch(child.pid)
...     alert = monitor.next()
>>> alert.event, alert.name, alert.pid == child.pid
('died', 'sleep', True)

The kernel reports the end of a process by its pidfd. Until then nothing is polled, and a watch costs no CPU time. The
values for rules are read in one snapshot of all watched processes, every `interval` seconds.
Invariant: an alert is about the process that was watched, and never about another process with the same pid.
"""

from __future__ import annotations

from fastproc.monitor._monitor import Monitor
from fastproc.monitor._rules import METRICS, ProcessAlert, Rule
from fastproc.monitor._watch import Watch

__all__ = ["METRICS", "Monitor", "ProcessAlert", "Rule", "Watch"]
