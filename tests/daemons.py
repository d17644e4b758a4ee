"""Daemons for tests: what /proc says of one, what is left of others, and the programs that launch them.

Everything here is for a PID namespace of its own (`isolated(..., pid_namespace=True)`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from conftest import wait_until


def folder(mode: int = 0o755) -> Path:
    """A directory of root's that nobody else can change, below / and not below a sticky one."""
    base = Path("/run/fastproc-tests")
    base.mkdir(mode=0o755, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=base))
    place.chmod(mode)
    return place


def stat_of(pid: int) -> dict[str, int]:
    """Some fields of /proc/PID/stat, which nothing of fastproc has read."""
    text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    fields = text[text.rindex(")") + 2 :].split()
    return {"ppid": int(fields[1]), "pgrp": int(fields[2]), "session": int(fields[3]), "tty": int(fields[4])}


def status_of(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def fds_of(pid: int) -> dict[str, str]:
    """What each descriptor of a process is."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[name] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def others() -> list[tuple[int, str]]:
    """The processes of this namespace beside the shell that is its first one and this one."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, os.getpid()):
            try:
                found.append((int(name), status_of(int(name))["State"]))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def nobody_left() -> list[tuple[int, str]]:
    """Wait until no other process is left; return those that stay."""
    try:
        wait_until(lambda: not others(), 5.0)
    except BaseException:
        return others()
    return []


def python(program: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program text in a fresh interpreter; its outputs go to files, which no daemon can hold up."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)], stdout=out, stderr=err, timeout=30, **options
        )
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())


def kill(pid: int) -> None:
    """End a process of this namespace, and wait until it has gone."""
    assert pid > 1
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def limit_of(pid: int, name: str) -> list[str]:
    """Soft and hard limit, from /proc/PID/limits."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith(name))[len(name) :].split()[:2]
