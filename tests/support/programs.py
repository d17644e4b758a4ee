"""The programs that tests start: the compiled ones of tests/programs, and one-liners by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[1] / "programs"

PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes), ioctl_pidfd(2); refused, statuses are as before Linux 6.15
SYS_IOCTL = {"x86_64": 16, "aarch64": 29}.get(os.uname().machine, -1)

WARNINGS = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror")

TRUE = ("/bin/sh", "-c", "exit 0")
FALSE = ("/bin/sh", "-c", "exit 1")
CAT = ("cat",)
SLEEP = ("sleep", "60")
IGNORE_TERM = ("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done")
GRANDCHILD_HOLDS_STDOUT = ("/bin/sh", "-c", "sleep 3 & echo hi")


def EXIT(code: int) -> tuple[str, ...]:  # a constant with a parameter
    """End with this status."""
    return "/bin/sh", "-c", f"exit {code}"


def KILLED(signal: int) -> tuple[str, ...]:
    """End by this signal."""
    return "/bin/sh", "-c", f"kill -{signal} $$"


class Programs:
    """The compiled programs, as absolute paths."""

    def __init__(self, folder: Path) -> None:
        """Compile all of them into the folder."""
        self.folder = folder
        self.probe = self._compile("probe", "-static")
        self.static_exit = self._compile("static_exit", "-static")
        self.types = self._compile("types", "-static")
        self.flood = self._compile("flood")
        self.queue = self._compile("queue")
        self.bomb = self._compile("bomb")
        self.tracer = self._compile("tracer")
        self.slow_exec = self._compile("slow_exec")
        self.leader_exits = self._compile("leader_exits", "-pthread")
        self.node = self._compile("node", "-static")
        self.hostile = self._compile("hostile", "-shared", "-fPIC")

    def _compile(self, name: str, *flags: str) -> str:
        target = self.folder / (f"{name}.so" if "-shared" in flags else name)
        command = [os.environ.get("CC", "cc"), *WARNINGS, *flags, "-o", str(target), str(SOURCES / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 and "-static" in flags:  # no static C library: slower, and as good
            command.remove("-static")
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name}.c does not compile:\n{done.stderr}")
        return str(target)


class Probed:
    """What the probe said of itself."""

    def __init__(self, line: bytes) -> None:
        """Take the probe's line."""
        self.fields: dict[str, Any] = json.loads(line)

    def __getattr__(self, name: str) -> Any:
        """Return a field by its name."""
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def argv_bytes(self) -> list[bytes]:
        """The arguments."""
        return [item.encode("latin-1") for item in self.fields["argv"]]

    @property
    def env_bytes(self) -> dict[bytes, bytes]:
        """The environment."""
        pairs = (item.encode("latin-1").partition(b"=") for item in self.fields["env"])
        return {name: value for name, _, value in pairs}

    @property
    def cwd_bytes(self) -> bytes:
        """The working directory."""
        return bytes(self.fields["cwd"].encode("latin-1"))

    def ids(self, name: str) -> list[int]:
        """Return the numbers of a line of /proc/self/status such as Uid."""
        return [int(item) for item in self.fields[name].split()]

    def signals(self, name: str) -> set[int]:
        """Return the signals of SigBlk, SigIgn or SigCgt."""
        bits = int(self.fields[name], 16)
        return {number for number in range(1, 65) if bits >> (number - 1) & 1}

    @property
    def fd_ids(self) -> dict[int, str]:
        """The open descriptors: number -> device:inode."""
        return {int(number): fd["id"] for number, fd in self.fields["fds"].items()}


def fd_id(fd: int) -> str:
    """Return device:inode of an open descriptor, as the probe writes it."""
    status = os.fstat(fd)
    return f"{status.st_dev}:{status.st_ino}"


def core_sources() -> list[str]:
    """The files of the C core, relative to the root."""
    sys.path.insert(0, str(SOURCES.parents[1]))
    import build_ffi

    return build_ffi.core_sources()


def harness_sources() -> list[str]:
    """The files of the C core, and those of its harness."""
    root = SOURCES.parents[1]
    return [str(root / path) for path in core_sources()] + sorted(map(str, root.glob("tests/c/*.c")))
