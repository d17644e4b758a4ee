"""Who a process is: ids, groups, capabilities, securebits; read from the text of /proc/PID/status. Pure."""

from __future__ import annotations

from enum import IntFlag

from fastproc._values.capabilities import Capabilities, CapabilitySet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Ids(NamedTuple):
        """The four user or group ids of a thread. See below."""

        real: int
        effective: int
        saved: int
        filesystem: int

else:
    from collections import namedtuple

    Ids = namedtuple("Ids", ("real", "effective", "saved", "filesystem"), module="fastproc.privileges")
    Ids.__doc__ = """The four user or group ids of a thread (credentials(7)).

Attributes:
    real: who it is.
    effective: what its rights are judged by.
    saved: what it may go back to.
    filesystem: what its rights to files are judged by, mostly equal to effective.
"""

ID_MAX = 2**32 - 2
_NOT_IDS = {0xFFFF: "the 16-bit form of -1", 0xFFFFFFFF: "-1", -1: 'which means "unchanged" to the kernel'}
_SECCOMP = ("none", "strict", "filter")


def check_id(name: str, value: object) -> int:
    """Return a user or group id, or raise an error that names the argument (GOTCHAS G6).

    Raises:
        TypeError: it is no number.
        ValueError: it is none that a user can have: -1, 65535 and 4294967295 mean "unchanged" to some system call.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: an id is a number, not {value!r}")
    if value in _NOT_IDS:
        raise ValueError(f"{name}: {value} is no id: it is {_NOT_IDS[value]}")
    if not 0 <= value <= ID_MAX:
        raise ValueError(f"{name}: {value} is no id: 0 to {ID_MAX}")
    return value


def is_id(value: int) -> bool:
    """Return whether a number that the kernel gave can be asked for: one of a thread, a file, a sender of a message."""
    return 0 <= value <= ID_MAX and value not in _NOT_IDS


def check_name(name: str, value: str) -> str:
    """Return a user's or group's name that can be asked for, or raise an error that names the argument.

    Raises:
        ValueError: it is empty or holds a character that no entry of the databases can hold.
    """
    if not value or any(char in value for char in ":\n\0"):
        raise ValueError(f"{name}: {value!r} cannot be a name")
    return value


def check_pid(name: str, value: object) -> int:
    """Return a pid, or raise an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: a pid is a number, not {value!r}")
    if not 0 < value < 2**31:
        raise ValueError(f"{name}: {value} is no pid")
    return value


def status_name(word: bytes) -> bytes:
    r"""Undo the escapes of a name in /proc/PID/status, \n and \\ and no others (proc_task_name in fs/proc/array.c)."""
    return b"\\".join(part.replace(b"\\n", b"\n") for part in word.split(b"\\\\"))


class Securebits(IntFlag):
    """The securebits flags of a thread (capabilities(7)). Each has a lock, which cannot be taken back.

    Attributes:
        NOROOT: uid 0 gives no capabilities at execve.
        NO_SETUID_FIXUP: changes of user ids leave the capabilities alone.
        KEEP_CAPS: the permitted set outlives giving up uid 0; cleared by execve. The same as PR_SET_KEEPCAPS.
        NO_CAP_AMBIENT_RAISE: the ambient set cannot grow (Linux 4.3).
        EXEC_RESTRICT_FILE, EXEC_DENY_INTERACTIVE: what interpreters are asked to refuse (Linux 6.14).
    """

    __module__ = "fastproc.privileges"

    NOROOT = 1 << 0
    NOROOT_LOCKED = 1 << 1
    NO_SETUID_FIXUP = 1 << 2
    NO_SETUID_FIXUP_LOCKED = 1 << 3
    KEEP_CAPS = 1 << 4
    KEEP_CAPS_LOCKED = 1 << 5
    NO_CAP_AMBIENT_RAISE = 1 << 6
    NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7
    EXEC_RESTRICT_FILE = 1 << 8
    EXEC_RESTRICT_FILE_LOCKED = 1 << 9
    EXEC_DENY_INTERACTIVE = 1 << 10
    EXEC_DENY_INTERACTIVE_LOCKED = 1 << 11

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the flags that are set, in lower case."""
        return tuple(str(flag.name).lower() for flag in Securebits if flag in self)


class Identity:
    """Who a thread is and what it may do.

    Attributes:
        pid: its number; the process id for the main thread.
        name: the name of its program, or the one it gave itself.
        uids, gids: four ids each.
        groups: the supplementary groups, in ascending order.
        capabilities: the five sets.
        no_new_privs: whether execve can give it no more privileges (Linux 4.10 tells).
        seccomp: "none", "strict" or "filter".
        securebits: None where it is not known: the kernel tells them to the thread itself only.
    """

    __module__ = "fastproc.privileges"

    __slots__ = ("capabilities", "gids", "groups", "name", "no_new_privs", "pid", "seccomp", "securebits", "uids")

    def __init__(
        self,
        pid: int,
        name: str,
        uids: Ids,
        gids: Ids,
        groups: tuple[int, ...],
        capabilities: Capabilities,
        no_new_privs: bool = False,
        seccomp: str = "none",
        securebits: Securebits | None = None,
    ) -> None:
        """Take the fields."""
        self.pid = pid
        self.name = name
        self.uids = uids
        self.gids = gids
        self.groups = groups
        self.capabilities = capabilities
        self.no_new_privs = no_new_privs
        self.seccomp = seccomp
        self.securebits = securebits

    @classmethod
    def from_status(cls, data: bytes) -> Identity:
        """Read the text of /proc/PID/status.

        Raises:
            ValueError: it is no such text.
        """
        fields = dict(line.split(b":\t", 1) for line in data.split(b"\n") if b":\t" in line)
        try:
            uids, gids = (Ids(*map(int, fields[key].split())) for key in (b"Uid", b"Gid"))
            sets = (
                CapabilitySet.from_mask(int(fields[b"Cap" + key], 16)) if b"Cap" + key in fields else CapabilitySet()
                for key in (b"Eff", b"Prm", b"Inh", b"Bnd", b"Amb")
            )
            number = int(fields.get(b"Seccomp", b"0"))
            return cls(
                int(fields[b"Pid"]),
                status_name(fields[b"Name"]).decode("utf-8", "surrogateescape"),
                uids,
                gids,
                tuple(sorted(map(int, fields.get(b"Groups", b"").split()))),
                Capabilities(*sets),
                fields.get(b"NoNewPrivs", b"0").strip() == b"1",
                _SECCOMP[number] if 0 <= number < len(_SECCOMP) else str(number),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no /proc/PID/status: {error!r}: {data[:80]!r}") from None

    def key(self) -> tuple[object, ...]:
        """What must be equal in all threads of a process: everything but pid, name and securebits."""
        return self.uids, self.gids, self.groups, self.capabilities, self.no_new_privs, self.seccomp

    def to_dict(self) -> dict[str, object]:
        """Return the fields as what JSON has: names of capabilities, numbers of ids."""
        return {
            "pid": self.pid,
            "name": self.name,
            "uids": self.uids._asdict(),
            "gids": self.gids._asdict(),
            "groups": list(self.groups),
            "capabilities": {name: list(some.names) for name, some in self.capabilities._asdict().items()},
            "no_new_privs": self.no_new_privs,
            "seccomp": self.seccomp,
            "securebits": None if self.securebits is None else list(self.securebits.names),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.pid, self.key()))

    def __repr__(self) -> str:
        return f"Identity({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"
