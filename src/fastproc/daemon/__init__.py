"""Daemons that report whether they started, and pid files that never name a stranger (daemon(7)).

The launcher of a daemon returns when the daemon has reported that it is ready. If the daemon does not start, the
launcher raises an exception with the daemon's error, traceback and exit code. Under a service manager, or as the first
process of a container, a daemon stays in the foreground by default.

A program that becomes a daemon::

    daemon = Daemon("echo", pid_file="/run/echo.pid", user="nobody")
    running = daemon.start()          # returns in the daemon only
    server = bind_and_listen()
    running.ready()                   # now the launcher ends, with status 0
    serve(server)

For any program, from any process: `Daemon("echo", user="nobody").spawn("socat", ...)`, or on the command line
`python -m fastproc daemon start echo --user nobody -- socat ...`.
"""

from __future__ import annotations

from fastproc.daemon._daemon import Daemon, Outcome, daemonize
from fastproc.daemon._errors import AlreadyRunning, DaemonError, PidFileError, UnsafeFork
from fastproc.daemon._pidfile import PidFile, Status, Stopped

__all__ = [
    "AlreadyRunning",
    "Daemon",
    "DaemonError",
    "Outcome",
    "PidFile",
    "PidFileError",
    "Status",
    "Stopped",
    "UnsafeFork",
    "daemonize",
]
