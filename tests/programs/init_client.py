"""What tests run below an init, ours or another: `python init_client.py WHAT [ARGUMENT...]`; prints JSON.

Process 1 is signalled by a pidfd only. Knows nothing of fastproc.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


def zombies() -> int:
    """Children of our parent that nobody has reaped."""
    count = 0
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        count += fields[0] == "Z" and int(fields[1]) == os.getppid()
    return count


def orphans(number: str) -> None:
    """Make so many grandchildren whose parents end at once, let them end, and count who came to our parent."""
    count = int(number)
    read, write = os.pipe()
    hold, release = os.pipe()
    init = os.getppid()
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            if os.fork():
                os._exit(0)
            os.close(release)
            os.read(hold, 1)  # until everybody is there
            os.write(write, b"x" if os.getppid() == init else b"-")
            os._exit(0)
        os.waitpid(pid, 0)
    os.close(release)
    os.close(write)
    ended = b""
    while piece := os.read(read, 65536):
        ended += piece
    until = time.monotonic() + 30
    while (left := zombies()) and time.monotonic() < until:
        time.sleep(0.01)
    say({"orphans": len(ended), "adopted": ended.count(b"x"), "zombies": left})


def both(number: str, times: str) -> None:
    """Orphans that end one after another, while the init is sent numbered real-time signals, which come to us."""
    real_time = signal.SIGRTMIN + 5
    signal.pthread_sigmask(signal.SIG_BLOCK, [real_time])
    pidfd = os.pidfd_open(os.getppid())
    came, left = 0, int(number)
    for sent in range(int(times)):
        if left > 0:
            pid = os.fork()
            if pid == 0:
                os.fork()
                os._exit(0)
            os.waitpid(pid, 0)
            left -= 1
        signal.pidfd_send_signal(pidfd, real_time)
        if sent % 50 == 49:
            while came <= sent and signal.sigtimedwait([real_time], 10.0) is not None:
                came += 1
    until = time.monotonic() + 30
    while (zombie := zombies()) and time.monotonic() < until:
        time.sleep(0.01)
    say({"orphans": int(number) - left, "zombies": zombie, "signals": came})


def signals() -> None:
    """Send every signal to the init, and say which of them came here, and how often."""
    target = os.getppid()
    everything = [n for n in range(1, 65) if n not in (signal.SIGKILL, signal.SIGSTOP, 32, 33)]
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    # For its own faults, and the ends of children.
    left_out = {
        int(getattr(signal, "SIG" + name)) for name in ("ABRT", "BUS", "CHLD", "FPE", "ILL", "SEGV", "SYS", "TRAP")
    }
    pidfd = os.pidfd_open(target)
    came: dict[int, int] = {}
    for number in everything:
        if number in left_out:
            continue
        signal.pidfd_send_signal(pidfd, number)
        wait = 0.3 if number in (signal.SIGTTIN, signal.SIGTTOU) else 10.0
        while (info := signal.sigtimedwait(everything, wait)) is not None:
            came[info.si_signo] = came.get(info.si_signo, 0) + 1
            if info.si_signo == number:
                break
    more = signal.sigtimedwait(everything, 0.1)
    say(
        {
            "came": sorted(came),
            "twice": [n for n, count in came.items() if count > 1] + ([more.si_signo] if more else []),
        }
    )


def state() -> None:
    """What a program begins with: mask, dispositions, descriptors, group, terminal, kin."""
    found: dict[str, object] = {}
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(("SigBlk", "SigIgn", "PPid")):
                name, _, value = line.partition(":")
                found[name] = int(value, 16 if name != "PPid" else 10)
    # Python's own two are ignored by ourselves.
    found["SigIgn"] = found["SigIgn"] & ~(1 << 12 | 1 << 24)  # type: ignore[operator]
    found["fds"] = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))
    found["leads"] = os.getpgrp() == os.getpid()
    try:
        found["foreground"] = os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        found["foreground"] = None
    say(found)


def wait(*names: str) -> None:
    """Say which of the signals came first, and who is our parent when it has."""
    numbers = [getattr(signal, "SIG" + name) for name in names]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    say("ready")
    info = signal.sigwaitinfo(numbers)
    say([signal.Signals(info.si_signo).name])


def group() -> None:
    """Have a child in our group that says when SIGTERM comes, as we do."""
    read, write = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = os.fork()
    if child == 0:
        os.write(write, b"c")
        signal.sigtimedwait([signal.SIGTERM], 5.0) and os.write(write, b"C")
        os._exit(0)
    os.read(read, 1)
    signal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGTERM)
    us = signal.sigtimedwait([signal.SIGTERM], 5.0) is not None
    child_too = bool(select.select([read], [], [], 1.0)[0])
    if not child_too:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    say({"program": us, "child": child_too})


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
