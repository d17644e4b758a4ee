"""`python -m fastproc init [OPTION...] -- PROGRAM [ARGUMENT...]`: what process 1 of a container has to do.

Reaps the orphans, passes signals on to the program, and ends with its status. The options are tini's.
Invariant: nothing is signalled but the program and its group, by its pidfd.
"""

from __future__ import annotations

import os
import signal
from errno import EACCES, ENOENT, ENOEXEC
from getopt import GetoptError, getopt

from fastproc import errors, start
from fastproc._commands.complaint import complain
from fastproc._commands.init_reaper import attend
from fastproc._commands.text import write
from fastproc._engine import standard
from fastproc._engine.which import which
from fastproc._native import signals as native
from fastproc._native import subreaper
from fastproc._values import signals as names
from fastproc._values.quoting import printable
from fastproc.signals._inbox import Inbox
from fastproc.signals._received import Received

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc._engine.process import Process

USAGE = """\
usage: python -m fastproc init [OPTION...] [--] PROGRAM [ARGUMENT...]

Runs a program as process 1 of a container should: reaps orphans, passes signals on to it (with the values of real-time
ones), and ends with its status, 128+N if signal N has ended it; 127 if it is not found, 126 if it cannot be executed.
The program gets a process group of its own, and the terminal if it is ours.

  -s, --subreaper            adopt orphans also where this is not process 1
  -p, --parent-death SIGNAL  get this signal when the parent ends
  -g, --group                pass signals on to the program's process group
  -e, --expect STATUS        end with 0 instead of this status (may be repeated)
  -r, --raise                if a signal has ended the program, end by the same one
  -w, --warn                 tell of each orphan that is reaped
  -v, --verbose              tell of each signal that is passed on
  -h, --help                 show this"""

_SHORT = "sp:ge:rwvh"
_LONG = ["subreaper", "parent-death=", "group", "expect=", "raise", "warn", "verbose", "help"]

# What the kernel sends to a process for its own fault, and what must not stop us: from the background, as the program
# has the terminal, both would.
_OURS = ("ABRT", "TRAP", "SYS", "TTIN", "TTOU")
_BACKGROUND = ("TTIN", "TTOU")


def _say(text: str) -> None:
    standard.say(f"fastproc init [{os.getpid()}]: {printable(text)}")


class _Options:
    def __init__(self, arguments: list[str]) -> None:
        given, self.command = getopt(arguments, _SHORT, _LONG)
        # By its first letter, which no two share.
        named = [(name.lstrip("-")[0], value) for name, value in given]
        letters = [letter for letter, _ in named]
        self.help = "h" in letters
        self.subreaper, self.group, self.raises = ("s" in letters), ("g" in letters), ("r" in letters)
        self.warn, self.verbose = ("w" in letters), ("v" in letters)
        self.parent_death = 0
        self.expected = set()
        for letter, value in named:
            if letter == "p":
                self.parent_death = names.number("--parent-death", int(value) if value.isdecimal() else value)
            if letter == "e":
                if not value.isdecimal() or int(value) > 255:
                    raise ValueError(f"--expect: {value!r} is no exit status (0 to 255)")
                self.expected.add(int(value))
        if not self.command and not self.help:
            raise ValueError("a program is needed")


def init(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    try:
        options = _Options(arguments)
    except (GetoptError, ValueError) as error:
        complain("init", error)
        standard.say(f"\n{USAGE}")
        return 2
    if options.help:
        write(lambda: USAGE)
        return 0
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    left_out = {names.number("", name) for name in _OURS}
    handled = [number for number in names.members(-1) if number not in left_out and _is_catchable(number)]
    ignored = [number for number in handled if signal.getsignal(number) == signal.SIG_IGN and number not in _PYTHONS]
    default = [number for name in _BACKGROUND if _ignore(number := names.number("", name)) == signal.SIG_DFL]
    inbox = Inbox(names.mask(handled), quiet=True, block=True)
    try:
        _settle(options)
        child = {"sigmask": sorted(before), "sigignore": ignored, "sigdefault": default}
        code = _attend(options, inbox, child)
    except (errors.SpawnError, OSError) as error:
        _say(str(error))
        return {ENOENT: 127, EACCES: 126}.get(error.errno or 0, 1)
    finally:
        inbox.close()
    status = 128 - code if code < 0 else code
    if status in options.expected:
        return 0
    if code < 0 and options.raises:
        native.do_default(-code)
    return status


_PYTHONS = (signal.SIGPIPE, signal.SIGXFSZ)
"""Ignored by Python itself, whatever was inherited."""


def _is_catchable(number: int) -> bool:
    try:
        names.catchable("", number)
    except ValueError:
        return False
    return True


def _ignore(number: int) -> Any:
    return signal.signal(number, signal.SIG_IGN)


def _settle(options: _Options) -> None:
    """Become what the orphans come to, and get to know of the parent's end."""
    parent = os.getppid()
    if options.parent_death:
        native.set_parent_death(options.parent_death)
        if os.getppid() != parent:
            # It ended before the kernel knew (prctl(2)).
            native.do_default(options.parent_death)
    if options.subreaper:
        subreaper(1)
    elif os.getpid() != 1 and not subreaper():
        _say("not process 1, and no subreaper: orphans do not come here; -s makes it one")


def _has_terminal() -> bool:
    """Whether stdin is our terminal, and our group has it. In a new PID namespace both groups are 0: outside of it."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _start(command: list[str], **more: Any) -> Process:
    try:
        return start(*command, **more)
    except errors.SpawnError as error:
        if error.errno != ENOEXEC:
            raise
    # A script without "#!", which execvp(3) gives to the shell.
    return start("/bin/sh", which(command[0]) or command[0], *command[1:], **more)


def _attend(options: _Options, inbox: Inbox, child: dict[str, Any]) -> int:
    with _start(options.command, pgid=0, foreground=_has_terminal(), close_fds=False, **child) as program:
        if options.verbose:
            _say(f"{options.command[0]} is process {program.pid}")

        def on_signal(received: Received) -> None:
            if options.verbose:
                _say(f"passing {received.name} on")
            _pass_on(program, received, options.group)

        def on_reaped(pid: int, _status: int) -> None:
            if options.warn:
                _say(f"reaped orphan {pid}")

        return attend(program, inbox, on_signal, on_reaped)


def _pass_on(program: Process, received: Received, group: bool) -> None:
    if program.final is not None:
        return
    try:
        if group:
            program.signal_group(received.signal)
        elif received.value is not None:
            native.queue(program.pidfd, program.pid, received.signal, received.value)
        else:
            program.send_signal(received.signal)
    except ProcessLookupError:
        # It has ended, and the next thing that we see is that.
        pass
    except OSError as error:
        _say(f"{received.name} cannot be passed on: {error.strerror}")
