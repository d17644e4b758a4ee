r"""fastproc: start, feed, watch and stop programs, faster and safer than anything else in Python.

>>> import fastproc
>>> fastproc.run("sort", input=b"b
a
", capture=True).stdout
b'a
b
'
"""

from __future__ import annotations

from fastproc._run import run, start
from fastproc._values.command import Command, Expression, cmd
from fastproc._values.loading import install as _install_finder
from fastproc._values.quoting import quote
from fastproc._values.redirect import DEVNULL, INHERIT, MEMFD, PIPE, STDERR, STDOUT, Append
from fastproc._values.status import Result, Usage
from fastproc.errors import ExitStatusUnknown, ProcessError, SpawnError, Unsupported, WorkerLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc import capabilities as capabilities
    from fastproc import daemon as daemon
    from fastproc import info as info
    from fastproc import monitor as monitor
    from fastproc import privileges as privileges
    from fastproc import procfs as procfs
    from fastproc import signals as signals
    from fastproc import syslog as syslog
    from fastproc import systemd as systemd
    from fastproc import users as users
    from fastproc._engine.process import Process as Process
    from fastproc._engine.which import which as which
    from fastproc._install import install as install
    from fastproc._install import uninstall as uninstall
    from fastproc._values.capture import CaptureLimit as CaptureLimit
    from fastproc._values.capture import Event as Event
    from fastproc._values.capture import OutputTooLarge as OutputTooLarge
    from fastproc._values.combination import fd_of as fd_of
    from fastproc._values.combination import fd_to as fd_to
    from fastproc._values.expect import EndOfOutput as EndOfOutput
    from fastproc._values.expect import Expected as Expected
    from fastproc._values.on_line import Logger as Logger
    from fastproc._values.on_line import OnLine as OnLine
    from fastproc._values.pty import Pty as Pty
    from fastproc._values.status import Change as Change
    from fastproc._values.tree import Survivor as Survivor
    from fastproc._values.tree import TreeEnd as TreeEnd
    from fastproc.containment import subreaper as subreaper
    from fastproc.embedding import Reactor as Reactor
    from fastproc.errors import ExitError as ExitError
    from fastproc.errors import TimeoutExpired as TimeoutExpired
    from fastproc.info import System as System
    from fastproc.info import snapshot as snapshot
    from fastproc.info._snapshot import Snapshot as Snapshot
    from fastproc.mapping import map as map
    from fastproc.monitor._rules import ProcessAlert as ProcessAlert
    from fastproc.pipeline import Pipeline as Pipeline
    from fastproc.pipeline._result import PipelineResult as PipelineResult
    from fastproc.pool import Gate as Gate
    from fastproc.pool import Pool as Pool
    from fastproc.pool import Retries as Retries
    from fastproc.waiting import as_completed as as_completed
    from fastproc.waiting import wait_all as wait_all
    from fastproc.waiting import wait_any as wait_any

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "INHERIT",
    "MEMFD",
    "PIPE",
    "STDERR",
    "STDOUT",
    "Append",
    "CaptureLimit",
    "Change",
    "Command",
    "EndOfOutput",
    "Event",
    "ExitError",
    "ExitStatusUnknown",
    "Expected",
    "Expression",
    "Gate",
    "LineTooLong",
    "Logger",
    "OnLine",
    "OutputTooLarge",
    "Pipeline",
    "PipelineResult",
    "Pool",
    "Process",
    "ProcessAlert",
    "ProcessError",
    "Pty",
    "Reactor",
    "Result",
    "Retries",
    "Snapshot",
    "SpawnError",
    "Survivor",
    "System",
    "TimeoutExpired",
    "TreeEnd",
    "Unsupported",
    "Usage",
    "WorkerLost",
    "as_completed",
    "capabilities",
    "cmd",
    "daemon",
    "fd_of",
    "fd_to",
    "info",
    "install",
    "map",
    "monitor",
    "privileges",
    "procfs",
    "quote",
    "run",
    "signals",
    "snapshot",
    "start",
    "subreaper",
    "syslog",
    "systemd",
    "uninstall",
    "users",
    "wait_all",
    "wait_any",
    "which",
]

# What an `import fastproc` need not pay for.
_LATER = {
    # What pickles name.
    "_restore_command": "fastproc._values.command",
    "Stage": "fastproc.pipeline._result",
    "_sequence": "fastproc._values.combination",
    "_limit": "fastproc._values.capture",
    "_make_pty": "fastproc._values.pty",
    "Pipe": "fastproc._values.combination",
    "Scoped": "fastproc._values.combination",
    "Sequence": "fastproc._values.combination",
    "Substitute": "fastproc._values.combination",
    "Tee": "fastproc._values.combination",
    "Event": "fastproc._values.capture",
    "LineTooLong": "fastproc._values.lines",
    "CaptureLimit": "fastproc._values.capture",
    "OutputTooLarge": "fastproc._values.capture",
    "EndOfOutput": "fastproc._values.expect",
    "Expected": "fastproc._values.expect",
    "Logger": "fastproc._values.on_line",
    "OnLine": "fastproc._values.on_line",
    "Pty": "fastproc._values.pty",
    "PipelineResult": "fastproc.pipeline._result",
    "ProcessAlert": "fastproc.monitor._rules",
    "Snapshot": "fastproc.info._snapshot",
    "System": "fastproc.info",
    "snapshot": "fastproc.info",
    "fd_of": "fastproc._values.combination",
    "fd_to": "fastproc._values.combination",
    "Pipeline": "fastproc.pipeline",
    "map": "fastproc.mapping",
    "Gate": "fastproc.pool",
    "Pool": "fastproc.pool",
    "Retries": "fastproc.pool",
    "install": "fastproc._install",
    "uninstall": "fastproc._install",
    "ExitError": "fastproc.errors",
    "TimeoutExpired": "fastproc.errors",
    "Process": "fastproc._engine.process",
    "Change": "fastproc._values.status",
    "Survivor": "fastproc._values.tree",
    "TreeEnd": "fastproc._values.tree",
    "subreaper": "fastproc.containment",
    "Reactor": "fastproc.embedding",
    "as_completed": "fastproc.waiting",
    "wait_all": "fastproc.waiting",
    "wait_any": "fastproc.waiting",
    "which": "fastproc._engine.which",
}
# Modules that are not imported before they are named.
_MODULES = (
    "capabilities",
    "daemon",
    "info",
    "monitor",
    "privileges",
    "procfs",
    "signals",
    "syslog",
    "systemd",
    "users",
)


def __getattr__(name: str) -> object:
    module = _LATER.get(name)
    if module is None and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastproc._values.loading import loaded

    if module is None:
        return loaded(f"{__name__}.{name}")
    value = globals()[name] = getattr(loaded(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_install_finder()
