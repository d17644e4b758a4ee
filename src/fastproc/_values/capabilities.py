"""Capabilities by name and number, and sets of them (capabilities(7)). Pure: what this kernel knows is not here.

A set is a mask of 64 bits, so that it also holds what a later kernel has and this list does not.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import IntEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NamedTuple, Self

    CapabilityLike = int | str

NUMBERS = 64
"""capget(2), version 3, has two words of 32 bits for each set."""


class Capability(IntEnum):
    """One capability: its number, its name (`cap_chown`), and what it permits in one line.

    Attributes:
        permits: what a thread may do that has it in its effective set.
    """

    __module__ = "fastproc.capabilities"

    permits: str

    def __new__(cls, number: int, permits: str) -> Self:
        """Make the member of a number."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.permits = permits
        return member

    CAP_CHOWN = 0, "change the owner and group of any file"
    CAP_DAC_OVERRIDE = 1, "read, write and execute files whatever their permissions say"
    CAP_DAC_READ_SEARCH = 2, "read files and search directories whatever their permissions say; open by handle"
    CAP_FOWNER = 3, "do with any file what only its owner may: chmod, utime, attributes, sticky directories"
    CAP_FSETID = 4, "keep the set-user-ID and set-group-ID bits of a file that is changed; set them for other groups"
    CAP_KILL = 5, "send signals to any process"
    CAP_SETGID = 6, "set any group ids and supplementary groups; claim any gid on a socket; map gids of a namespace"
    CAP_SETUID = 7, "set any user ids; claim any uid on a socket; map uids of a namespace"
    CAP_SETPCAP = 8, "drop from the bounding set, inherit any capability of it, change the securebits"
    CAP_LINUX_IMMUTABLE = 9, "set and clear the immutable and append-only flags of files"
    CAP_NET_BIND_SERVICE = 10, "bind a socket to a port below 1024"
    CAP_NET_BROADCAST = 11, "broadcast, listen to multicasts (the kernel does not ask for it)"
    CAP_NET_ADMIN = 12, "configure interfaces, firewall, routes, traffic control, promiscuous mode"
    CAP_NET_RAW = 13, "use raw and packet sockets; bind to any address for transparent proxying"
    CAP_IPC_LOCK = 14, "lock memory without a limit; use huge pages"
    CAP_IPC_OWNER = 15, "use System V IPC objects whatever their permissions say"
    CAP_SYS_MODULE = 16, "load and unload kernel modules"
    CAP_SYS_RAWIO = 17, "use I/O ports, /dev/mem, /proc/kcore, raw device commands"
    CAP_SYS_CHROOT = 18, "chroot; enter mount namespaces"
    CAP_SYS_PTRACE = 19, "trace any process, read and write its memory"
    CAP_SYS_PACCT = 20, "switch process accounting on and off"
    CAP_SYS_ADMIN = 21, "administer the system: mount, swap, quotas, namespaces, host name, and much more"
    CAP_SYS_BOOT = 22, "reboot; load another kernel"
    CAP_SYS_NICE = 23, "raise priorities; set scheduling, affinity and I/O class of any process"
    CAP_SYS_RESOURCE = 24, "exceed and raise resource limits and quotas; use reserved disk space"
    CAP_SYS_TIME = 25, "set the system's and the real-time clock"
    CAP_SYS_TTY_CONFIG = 26, "vhangup; privileged settings of virtual terminals"
    CAP_MKNOD = 27, "make device nodes"
    CAP_LEASE = 28, "take leases on any file"
    CAP_AUDIT_WRITE = 29, "write to the kernel's audit log"
    CAP_AUDIT_CONTROL = 30, "switch auditing on and off, change its rules"
    CAP_SETFCAP = 31, "set capabilities of files; map uid 0 of a new user namespace"
    CAP_MAC_OVERRIDE = 32, "override mandatory access control (Smack)"
    CAP_MAC_ADMIN = 33, "configure mandatory access control (Smack, AppArmor)"
    CAP_SYSLOG = 34, "use privileged syslog(2) operations; see kernel addresses"
    CAP_WAKE_ALARM = 35, "set timers that wake the system up"
    CAP_BLOCK_SUSPEND = 36, "keep the system from suspending"
    CAP_AUDIT_READ = 37, "read the audit log through a multicast netlink socket"
    CAP_PERFMON = 38, "observe performance: perf_event_open, the observing part of BPF"
    CAP_BPF = 39, "create BPF maps, load BPF programs"
    CAP_CHECKPOINT_RESTORE = 40, "checkpoint and restore processes; choose the pid of a child"

    @property
    def text(self) -> str:
        """The name as libcap and the man pages write it: `cap_chown`."""
        return self.name.lower()

    @property
    def mask(self) -> int:
        """The bit of this capability in a mask."""
        return 1 << self.value

    @classmethod
    def find(cls, what: CapabilityLike) -> int:
        """Return a capability by its name or number; a plain number for one that is not in this list.

        Args:
            what: a name in any case, with or without `cap_`; or a number from 0 to 63.

        Raises:
            ValueError: there is no such capability.
            TypeError: it is neither.
        """
        if isinstance(what, cls):
            return what
        if isinstance(what, str):
            name = what.upper() if what.isascii() else ""
            found = cls.__members__.get(name)
            if found is None:
                found = cls.__members__.get(f"CAP_{name}")
            if found is None:
                raise ValueError(f"{what!r} is no capability: a name such as 'cap_net_raw' or 'net_raw' is expected")
            return found
        if isinstance(what, bool) or not isinstance(what, int):
            raise TypeError(f"a capability is a name or a number, not {what!r}")
        if not 0 <= what < NUMBERS:
            raise ValueError(f"{what} is no capability: the numbers are 0 to {NUMBERS - 1}")
        return MEMBERS[what] if what < len(MEMBERS) else what


MEMBERS = tuple(Capability)
LAST_KNOWN = Capability.CAP_CHECKPOINT_RESTORE.value
"""The last capability of the list above (Linux 5.9). Later kernels may have more: see `cap_last_cap()`."""


def name_of(number: int) -> str:
    """Return a capability's name; its number in digits where it has none here, as libcap writes it."""
    return MEMBERS[number].text if number <= LAST_KNOWN else str(int(number))


class CapabilitySet(AbstractSet[int]):
    """An immutable set of capabilities; sorted, hashable, with all operators of sets.

    >>> CapabilitySet("chown,net_raw") | {"cap_kill"}
    CapabilitySet('cap_chown,cap_kill,cap_net_raw')

    Attributes:
        mask: the same as a number with one bit for each capability, as in /proc/PID/status.
    """

    __module__ = "fastproc.capabilities"

    __slots__ = ("mask",)

    mask: int

    def __init__(self, items: str | Iterable[CapabilityLike] = ()) -> None:
        """Take capabilities.

        Args:
            items: names, numbers or members of Capability; or one string: names with commas between them, `all` for
                every capability of the list, the empty string for none.

        Raises:
            ValueError: an unknown name or number.
            TypeError: something else. A number alone is not accepted, as it could be a mask: see `from_mask()`.
        """
        mask = 0
        if isinstance(items, CapabilitySet):
            mask = items.mask
        elif isinstance(items, str):
            words = items.split(",") if items.strip() else []
            for word in words:
                name = word.strip()
                mask |= ALL_KNOWN if name.lower() == "all" else 1 << Capability.find(name)
        elif isinstance(items, int):
            raise TypeError(f"a set of capabilities from a number is ambiguous: use CapabilitySet.from_mask({items})")
        else:
            for item in items:
                mask |= 1 << Capability.find(item)
        object.__setattr__(self, "mask", mask)

    @classmethod
    def from_mask(cls, mask: int | str) -> Self:
        """Return the set of a mask; a string is hexadecimal, as in /proc/PID/status.

        Raises:
            ValueError: negative, or more than 64 bits.
            TypeError: neither a number nor a string.
        """
        if isinstance(mask, str):
            mask = int(mask, 16)
        if isinstance(mask, bool) or not isinstance(mask, int):
            raise TypeError(f"a mask is a number, not {mask!r}")
        if not 0 <= mask < 1 << NUMBERS:
            raise ValueError(f"a mask of capabilities has {NUMBERS} bits, not {mask:#x}")
        new = cls.__new__(cls)
        object.__setattr__(new, "mask", mask)
        return new

    @classmethod
    def all(cls, last_cap: int = LAST_KNOWN) -> Self:
        """Return every capability up to a number."""
        return cls.from_mask((2 << last_cap) - 1)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names in order of number; digits for those that have none here."""
        return tuple(name_of(number) for number in self)

    @property
    def hex(self) -> str:
        """The mask as /proc/PID/status writes it: 16 hexadecimal digits."""
        return f"{self.mask:016x}"

    def with_(self, *items: CapabilityLike) -> Self:
        """Return the set with some more."""
        return self.from_mask(self.mask | CapabilitySet(items).mask)

    def without(self, *items: CapabilityLike) -> Self:
        """Return the set with some less."""
        return self.from_mask(self.mask & ~CapabilitySet(items).mask)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a CapabilitySet is immutable: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a CapabilitySet is immutable: {name}")

    def __contains__(self, item: object) -> bool:
        """Whether a capability, by name or number, is in it."""
        if not isinstance(item, (int, str)):
            return False
        return bool(self.mask >> Capability.find(item) & 1)

    def __iter__(self) -> Iterator[int]:
        """Members of Capability in order; plain numbers for those that have no name here."""
        mask = self.mask
        while mask:
            number = (mask & -mask).bit_length() - 1
            yield MEMBERS[number] if number <= LAST_KNOWN else number
            mask &= mask - 1

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CapabilitySet):
            return self.mask == other.mask
        return frozenset(self) == other if isinstance(other, AbstractSet) else NotImplemented

    def __hash__(self) -> int:
        return self._hash()  # equal to that of an equal frozenset

    def __le__(self, other: AbstractSet[object]) -> bool:
        mask = _mask_of(other)
        return NotImplemented if mask is None else not self.mask & ~mask

    def __and__(self, other: object) -> Self:
        mask = _mask_of(other)
        return NotImplemented if mask is None else self.from_mask(self.mask & mask)

    def __or__(self, other: object) -> Self:
        mask = _mask_of(other)
        return NotImplemented if mask is None else self.from_mask(self.mask | mask)

    def __sub__(self, other: object) -> Self:
        mask = _mask_of(other)
        return NotImplemented if mask is None else self.from_mask(self.mask & ~mask)

    def __xor__(self, other: object) -> Self:
        mask = _mask_of(other)
        return NotImplemented if mask is None else self.from_mask(self.mask ^ mask)

    def __rsub__(self, other: object) -> Self:
        mask = _mask_of(other)
        return NotImplemented if mask is None else self.from_mask(mask & ~self.mask)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __repr__(self) -> str:
        return f"CapabilitySet({','.join(self.names)!r})" if all(n <= LAST_KNOWN for n in self) else self._by_mask()

    def _by_mask(self) -> str:
        return f"CapabilitySet.from_mask({self.mask:#x})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_mask, (self.mask,)


ALL_KNOWN = (2 << LAST_KNOWN) - 1


def _mask_of(other: object) -> int | None:
    """Return the mask of a set or another iterable of capabilities; None for what is none."""
    if isinstance(other, CapabilitySet):
        return other.mask
    if isinstance(other, (AbstractSet, list, tuple)):
        return CapabilitySet(other).mask
    return None


def as_set(name: str, value: object) -> CapabilitySet:
    """Return an argument as a set.

    Args:
        name: the argument's, for the message.
        value: what CapabilitySet takes.

    Raises:
        TypeError, ValueError: with the argument's name.
    """
    try:
        return value if isinstance(value, CapabilitySet) else CapabilitySet(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


if TYPE_CHECKING:

    class Capabilities(NamedTuple):
        """The five sets of a thread. See below."""

        effective: CapabilitySet
        permitted: CapabilitySet
        inheritable: CapabilitySet
        bounding: CapabilitySet
        ambient: CapabilitySet

else:
    from collections import namedtuple

    Capabilities = namedtuple(
        "Capabilities", ("effective", "permitted", "inheritable", "bounding", "ambient"), module="fastproc.capabilities"
    )
    Capabilities.__doc__ = """The five sets of a thread (capabilities(7)), each a CapabilitySet.

Attributes:
    effective: what the kernel asks for.
    permitted: what may be made effective.
    inheritable: what an execve may pass on to a file that has it as inheritable.
    bounding: what an execve may give at most.
    ambient: what an execve of an ordinary program keeps.
"""
