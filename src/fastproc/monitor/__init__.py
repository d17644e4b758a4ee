"""Watching other people's processes: their ends at once and for nothing, thresholds by one timer for all.

>>> from fastproc.monitor import Monitor, Rule
>>> import fastproc
>>> with Monitor() as monitor, fastproc.start("sleep", "0.01") as child:
...     _ = monitor.watch(child.pid)
...     alert = monitor.next()
>>> alert.event, alert.name, alert.pid == child.pid
('died', 'sleep', True)

The end of a process is told by its pidfd: nothing is looked at, and nothing costs anything, until the kernel says so.
What a rule needs is read from all watched processes in one snapshot, every `interval` seconds.
Invariant: an alert is about the process that was watched, and never about another one that has its number now.
"""

from __future__ import annotations

from fastproc.monitor._monitor import Monitor
from fastproc.monitor._rules import METRICS, ProcessAlert, Rule
from fastproc.monitor._watch import Watch

__all__ = ["METRICS", "Monitor", "ProcessAlert", "Rule", "Watch"]
