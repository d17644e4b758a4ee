"""Processes that change who they are: where they begin, how they are watched, a kernel that fails or lies to them."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Callable
from typing import Any

from fastproc import privileges
from fastproc.privileges import CapabilitySet, Securebits
from fastproc.users import FakeUsers, Group, User
from support.witness import sets_of

FEW = CapabilitySet("setuid,setgid,setpcap,net_bind_service,chown,net_raw")
USERS = FakeUsers(
    [User("app", 1234, 1235)], [Group("app", 1235), Group("audio", 29, ["app"]), Group("video", 44, ["app"])]
)


def start_threads(count: int) -> None:
    for _ in range(count):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def begin(state: str) -> None:
    """Bring this process, which is root, into a state."""
    os.setgroups([0, 4, 27])
    if state == "few":
        privileges.permitted.set(FEW)
    elif state == "user":
        # An ordinary user whose program has capabilities, none of them effective yet.
        privileges.permitted.set(FEW)
        privileges.set_keepcaps(True)
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        privileges.set_keepcaps(False)
    elif state == "nofixup":
        privileges.set_securebits(Securebits.NO_SETUID_FIXUP)
    elif state == "setuid":
        os.setresgid(1000, 0, 0)
        os.setresuid(1000, 0, 0)
    elif state == "ambient":
        privileges.inheritable.set("chown,net_raw,kill")
        privileges.ambient.set("chown")
    elif state == "keepcaps":
        privileges.set_keepcaps(True)
        privileges.bounding.drop("kill", "sys_time")
    else:
        assert state == "root"


def forked(work: Callable[[], Any], look: Callable[[int], Any]) -> list[Any]:
    """What work says in a forked process, and what is seen of that process while it waits afterwards."""
    told, tell = os.pipe()
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            try:
                said = work()
            except BaseException as error:
                said = [type(error).__name__, str(error), repr(error.__cause__)]
            os.write(tell, json.dumps(said).encode() + b"\n")
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(wait)
    with open(told, "rb") as file:
        said = json.loads(file.readline())
        seen = look(pid)
    os.close(go)
    os.waitpid(pid, 0)
    return [said, seen]


def of_all(pid: int) -> list[list[str]]:
    found: list[list[str]] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        lines = sets_of(f"{pid}/task/{task}")
        if lines not in found:
            found.append(lines)
    return found


X86 = os.uname().machine == "x86_64"
PRCTL = 157 if X86 else 167
CALLS: dict[str, tuple[int, int | None]] = {
    "setgroups": (116 if X86 else 159, None),
    "setresgid": (119 if X86 else 149, None),
    "setresuid": (117 if X86 else 147, None),
    "capset": (126 if X86 else 91, None),
    "keepcaps": (PRCTL, 8),
    "bounding": (PRCTL, 24),
    "securebits": (PRCTL, 28),
    "no_new_privs": (PRCTL, 38),
    "ambient": (PRCTL, 47),
}


def spoil(number: int, option: int | None, error: int) -> None:
    """From now on a system call returns an error, or, for 0, says that it succeeded; it does nothing either way."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 3 if option is not None else 1, number)]
    if option is not None:
        code += [(0x20, 0, 0, 16), (0x15, 0, 1, option)]
    code += [(0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7FFF0000)]
    restrict(code)


def restrict(code: list[tuple[int, int, int, int]]) -> None:
    """Install a filter (seccomp(2)) in this process, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    raw = b"".join(
        c.to_bytes(2, "little") + bytes([jt, jf]) + k.to_bytes(4, "little", signed=False) for c, jt, jf, k in code
    )
    buffer = ctypes.create_string_buffer(raw)

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program(len(code), ctypes.addressof(buffer))
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, os.strerror(ctypes.get_errno())
