"""Daemons for tests: what /proc says of one, what is left of others, and the programs that launch them.

Everything here is for a PID namespace of its own (`isolated(..., pid_namespace=True)`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import struct
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
    atexit.register(_remove, place, os.getpid())
    return place


def _remove(place: Path, owner: int) -> None:
    # Not in the daemons that were forked.
    if os.getpid() == owner:
        shutil.rmtree(place, ignore_errors=True)


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
        if name.isdigit() and int(name) not in (1, os.getpid(), os.getppid()):
            try:
                found.append((int(name), status_of(int(name))["State"]))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def living() -> list[int]:
    """Those of them that are no zombies, which the shell takes away soon."""
    return [pid for pid, state in others() if not state.startswith("Z")]


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
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def limit_of(pid: int, name: str) -> list[str]:
    """Soft and hard limit, from /proc/PID/limits."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith(name))[len(name) :].split()[:2]


def starters(rounds: int) -> dict[str, Any]:
    """Two launchers at once, each round: one daemon, and one refusal that names it."""
    from fastproc.daemon import Daemon, DaemonError

    path = folder() / "x.pid"
    wrong: list[Any] = []
    refused = 0
    for number in range(rounds):
        told, tell = os.pipe()
        gate, opened = os.pipe()
        launchers = []
        for _ in range(2):
            launcher = os.fork()
            if launcher == 0:
                os.close(opened)
                os.read(gate, 1)
                try:
                    outcome = Daemon(pid_file=path).execute()
                    if outcome.is_child:
                        outcome.ready()
                        while True:
                            signal.pause()
                    os.write(tell, struct.pack("ii", 1, outcome.pid))
                except DaemonError as error:
                    right = error.step == "pid file" and error.kind == "AlreadyRunning"
                    os.write(tell, struct.pack("ii", 0 if right else -1, int(error.text.split()[-3] or 0)))
                finally:
                    os._exit(0)
            launchers.append(launcher)
        os.close(gate)
        os.close(opened)
        for launcher in launchers:
            os.waitpid(launcher, 0)
        os.close(tell)
        said = sorted(struct.unpack("ii", os.read(told, 8)) for _ in range(2))
        os.close(told)
        one = Daemon(pid_file=path)
        status = one.status()
        if [code for code, _ in said] != [0, 1] or {pid for _, pid in said} != {status.pid} or not status.running:
            wrong.append([number, said, repr(status)])
        refused += said[0][0] == 0
        # Every other one is killed, so that the next two find a stale file, and the others stop in order.
        if number % 2:
            kill(status.pid)
        elif one.stop() is None:
            wrong.append([number, "not stopped"])
    return {"wrong": wrong, "refused": refused, "left": nobody_left()}


SUCCESSORS = """
import sys
from fastproc.daemon._acquire import acquire
from fastproc.daemon import AlreadyRunning
held = 0
for _ in range(int(sys.argv[2])):
    try:
        lock = acquire(sys.argv[1])
    except AlreadyRunning:
        continue
    with open(sys.argv[1] + ".inside", "x"):
        held += 1
    import os
    os.unlink(sys.argv[1] + ".inside")
    lock.remove()
print(held)
"""


def successors(times: int) -> list[Any]:
    """Two processes take, remove and leave one pid file in turn; each round only one may be inside."""
    path = folder() / "x.pid"
    both = [
        subprocess.Popen([sys.executable, "-c", SUCCESSORS, path, str(times)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [one.communicate()[0] for one in both]
    return [[one.returncode for one in both], [int(text) > 0 for text in said], os.listdir(path.parent)]


def static_sleep(place: Path) -> Path:
    """A program without libraries that sleeps, for a root in which there are none."""
    source, program = place / "sleep.c", place / "made"
    source.write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    subprocess.run(["cc", "-static", "-o", program, source], check=True)
    return program
