"""A received signal: the information of the kernel, and the bytes in which the C core passes it."""

from __future__ import annotations

from struct import Struct

from fastproc._values import signals

_RECORD = Struct("=iiiIiiiiqqqq")
"""struct fp_signal_record (csrc/fastproc.h). A test compares the two."""

RECORD_SIZE = _RECORD.size

unpack = _RECORD.iter_unpack
"""Yields the fields of each record in some bytes. It is a C function, so no signal handler runs in it."""

_ANY = {
    0: "SI_USER",
    0x80: "SI_KERNEL",
    -1: "SI_QUEUE",
    -2: "SI_TIMER",
    -3: "SI_MESGQ",
    -4: "SI_ASYNCIO",
    -5: "SI_SIGIO",
    -6: "SI_TKILL",
    -7: "SI_DETHREAD",
    -60: "SI_ASYNCNL",
}
_OWN = {
    "SIGCHLD": ("CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"),
    "SIGIO": ("POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"),
    "SIGTRAP": ("TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT", "TRAP_UNK", "TRAP_PERF"),
    "SIGSYS": ("SYS_SECCOMP", "SYS_USER_DISPATCH"),
}
_SENT = ("SI_USER", "SI_QUEUE", "SI_MESGQ", "SI_TKILL")
_VALUED = ("SI_QUEUE", "SI_TIMER", "SI_MESGQ", "SI_ASYNCIO")


class Received:
    """One received signal, with its origin (sigaction(2), siginfo_t). Objects are equal if they are the same signal.

    Attributes:
        signal: the number.
        code: si_code.
        pid: the sender, or for SIGCHLD the child; 0 if that process is in no visible PID namespace; None if the kernel
            reports no process (a terminal, a timer).
        uid: the real user of that process; None as for pid.
        value: the signed number of sigqueue(3), a timer or a message queue; otherwise None.
        status: for SIGCHLD the exit code, or the signal that ended, stopped or continued the child; otherwise None.
        band, fd: for SIGIO the events (POLLIN, ...) and the descriptor; otherwise None.
        overrun: for SI_TIMER the number of further expirations; otherwise None.
        time: the time of arrival by the monotonic clock, in seconds.
        serial: the number of this signal in this process, equal in all receivers.
    """

    __module__ = "fastproc.signals"

    __slots__ = (
        "band",
        "code",
        "fd",
        "overrun",
        "pid",
        "serial",
        "signal",
        "status",
        "time",
        "uid",
        "value",
    )

    def __init__(self, fields: tuple[int, ...]) -> None:
        """Store the fields of struct fp_signal_record, in their order."""
        self.signal, self.code, pid, uid, status, fd, overrun, _, value, band, time_ns, self.serial = fields
        cause = self.cause
        about_child = cause.startswith("CLD_")
        sent = cause in _SENT or about_child
        self.pid = pid if sent else None
        self.uid = uid if sent else None
        self.value = value if cause in _VALUED else None
        self.status = status if about_child else None
        polled = cause == "SI_SIGIO" or cause.startswith("POLL_")
        self.band = band if polled else None
        self.fd = fd if polled else None
        self.overrun = overrun if cause == "SI_TIMER" else None
        self.time = time_ns / 1e9

    @property
    def name(self) -> str:
        """The name, such as "SIGTERM", or "SIGRTMIN+2" for a real-time signal."""
        if self.signal >= signals.REALTIME_MIN:
            offset = self.signal - signals.REALTIME_MIN
            return f"SIGRTMIN+{offset}" if offset else "SIGRTMIN"
        return signals.label(self.signal)

    @property
    def cause(self) -> str:
        """The name of si_code: "SI_USER" by kill(2), "SI_KERNEL" by a terminal, "SI_QUEUE", "CLD_EXITED", ..."""
        own = _OWN.get(signals.label(self.signal), ())
        if 0 < self.code <= len(own):
            return own[self.code - 1]
        return _ANY.get(self.code, f"code {self.code}")

    def __repr__(self) -> str:
        """Show all fields that are not None."""
        shown = [self.name, self.cause]
        for field in ("pid", "uid", "value", "status", "band", "fd", "overrun"):
            found = getattr(self, field)
            if found is not None:
                shown.append(f"{field}={found}")
        return f"<Received {' '.join(shown)}>"

    def __eq__(self, other: object) -> bool:
        """Whether both are the same signal, perhaps from different receivers."""
        if not isinstance(other, Received):
            return NotImplemented
        return (self.serial, self.time, self.signal) == (other.serial, other.time, other.signal)

    def __hash__(self) -> int:
        """Hash as ==."""
        return hash((self.serial, self.signal))

    def __int__(self) -> int:
        """Return the number."""
        return self.signal
