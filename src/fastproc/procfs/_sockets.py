"""/proc/PID/net: the sockets of one network namespace. Pure."""

from __future__ import annotations

import re
import sys

from fastproc.procfs._record import Record
from fastproc.procfs._text import BAD, ParseError, Rows, blame, hexa, number, rows, signed, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

# include/net/tcp_states.h
TCP_STATES = (
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
)
_TIMERS = ("none", "retransmit", "keepalive", "time_wait", "zero_window_probe")


class Address(Record):
    """One end of a socket.

    Attributes:
        ip: as text, "0.0.0.0" or "::" for any; port: 0 for none; of raw sockets the protocol.
    """

    __module__ = "fastproc.procfs"

    ip: str
    port: int


class InetSocket(Record):
    """One line of net/tcp, tcp6, udp, udp6, udplite, raw, raw6, icmp, icmp6.

    Attributes:
        slot: its place in the kernel's table; local, remote: its ends.
        state: as "LISTEN", "ESTABLISHED"; datagram sockets have "CLOSE", connected ones "ESTABLISHED".
        tx_queue, rx_queue: bytes waiting; of a listening socket rx_queue is the number of connections to accept.
        timer: "none", "retransmit", "keepalive", "time_wait" or "zero_window_probe"; expires: in clock ticks.
        retransmits: of the last segment, or keepalive probes without an answer.
        uid: its owner's; timeout: probes of a zero window; inode: as in /proc/PID/fd, 0 for TIME_WAIT.
        references: to it in the kernel.
        rest: what follows: for tcp (retransmission timeout, ack timeout, quick ack, congestion window, slow start
            threshold),
            none for TIME_WAIT; for others (packets dropped,).
    """

    __module__ = "fastproc.procfs"

    slot: int
    local: Address
    remote: Address
    state: str
    tx_queue: int
    rx_queue: int
    timer: str
    expires: int
    retransmits: int
    uid: int
    timeout: int
    inode: int
    references: int
    rest: tuple[int, ...]


def ip_address(word: bytes, byteorder: Literal["little", "big"] = sys.byteorder) -> str:
    """Return an address of IPv4 or IPv6 that the kernel writes as words of 32 bits in its own byte order."""
    if len(word) not in (8, 32) or word.strip(b"0123456789abcdefABCDEF"):
        raise ValueError(f"{word[:40]!r} is no address")
    data = bytes.fromhex(word.decode())
    if byteorder == "little":
        data = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
    return ".".join(map(str, data)) if len(data) == 4 else ip6(data)


def ip6(data: bytes) -> str:
    """Return the 16 bytes of an IPv6 address as inet_ntop(3) does."""
    from socket import AF_INET6, inet_ntop

    return inet_ntop(AF_INET6, data)


def _name(table: tuple[str, ...], word: bytes) -> str:
    value = hexa(word)
    return table[value] if value < len(table) and table[value] else str(value)


def parse_inet(
    data: bytes, file: str = "net/tcp", byteorder: Literal["little", "big"] = sys.byteorder
) -> Rows[InetSocket]:
    """Read net/tcp, tcp6, udp, udp6, udplite, udplite6, raw, raw6, icmp or icmp6.

    Args:
        data: what the file has.
        file: its name, for errors.
        byteorder: that of the machine whose file it is.

    Raises:
        ParseError: it is no such table.
    """

    def end(word: bytes) -> Address:
        ip, port = word.split(b":")
        return Address(ip_address(ip, byteorder), hexa(port))

    def convert(line: bytes) -> InetSocket:
        words = line.split()
        if len(words) < 12 or words[0][-1:] != b":":
            raise ValueError(f"{len(words)} fields and not 12")
        (tx, rx), (timer, expires) = words[4].split(b":"), words[5].split(b":")
        return InetSocket(
            number(words[0][:-1]),
            end(words[1]),
            end(words[2]),
            _name(TCP_STATES, words[3]),
            hexa(tx),
            hexa(rx),
            _name(_TIMERS, timer),
            hexa(expires),
            hexa(words[6]),
            number(words[7]),
            signed(words[8]),
            number(words[9]),
            signed(words[10]),
            tuple(map(signed, words[12:])),
        )

    return rows(data, file, convert, skip=1)


parse_inet.__module__ = "fastproc.procfs"


class UnixSocket(Record):
    """One line of net/unix.

    Attributes:
        references: to it in the kernel; flags: 0x10000 for a listening socket.
        kind: "stream", "dgram" or "seqpacket"; state: "free", "unconnected", "connecting", "connected",
            "disconnecting".
        inode: as in /proc/PID/fd.
        path: "" for an unnamed one; "@" begins an abstract name, whose NULs are shown as "@" too.
    """

    __module__ = "fastproc.procfs"

    references: int
    flags: int
    kind: str
    state: str
    inode: int
    path: str


# The first word is an address, hashed, or "(____ptrval____)" soon after the boot.
_UNIX = re.compile(
    rb"[0-9A-Za-z()_]+: ([0-9A-F]{8}) [0-9A-F]{8} ([0-9A-F]{8}) ([0-9A-F]{4}) ([0-9A-F]{2}) +(\d+)(?: (.*))?"
)
_KINDS = {1: "stream", 2: "dgram", 5: "seqpacket"}
_STATES = ("free", "unconnected", "connecting", "connected", "disconnecting")


def parse_unix(data: bytes) -> tuple[UnixSocket, ...]:
    """Read net/unix.

    A name may hold newlines, which the kernel does not escape: a line that does not begin as an entry does belongs
    to the
    name before it. So whoever may bind a socket can write a name that looks like several entries.

    Raises:
        ParseError: it is no such table.
    """
    found: list[tuple[int, list[bytes]]] = []
    for count, line in enumerate(data.split(b"\n"), 1):
        if count == 1 or (not line and count > data.count(b"\n")):
            continue
        if _UNIX.fullmatch(line):
            found.append((count, [line]))
        elif found:
            found[-1][1].append(line)
        else:
            raise ParseError("net/unix", count, "no entry", line)
    sockets = []
    for count, (line, *more) in found:
        match = _UNIX.fullmatch(line)
        try:
            assert match is not None
            references, flags, kind, state, inode, path = match.groups()
            name = b"\n".join((path or b"", *more))
            kind_number = hexa(kind)
            sockets.append(
                UnixSocket(
                    hexa(references),
                    hexa(flags),
                    _KINDS.get(kind_number, str(kind_number)),
                    _STATES[hexa(state)] if hexa(state) < len(_STATES) else str(hexa(state)),
                    number(inode),
                    text(name),
                )
            )
        except BAD as error:
            raise blame("net/unix", count, error, line) from None
    return tuple(sockets)


parse_unix.__module__ = "fastproc.procfs"


class NetlinkSocket(Record):
    """One line of net/netlink.

    Attributes:
        protocol: 0 route, 4 sock_diag, 9 audit, 15 uevent, 16 generic, ... (netlink(7)); port: mostly a pid, 0 for
            the kernel's own.
        groups: bit set of the first 32; rmem, wmem: bytes of its queues; dump: whether one is under way.
        references: in the kernel; drops: messages lost; inode: as in /proc/PID/fd.
    """

    __module__ = "fastproc.procfs"

    protocol: int
    port: int
    groups: int
    rmem: int
    wmem: int
    dump: bool
    references: int
    drops: int
    inode: int


def parse_netlink(data: bytes) -> Rows[NetlinkSocket]:
    """Read net/netlink.

    Raises:
        ParseError: it is no such table.
    """

    def convert(line: bytes) -> NetlinkSocket:
        _, protocol, port, groups, rmem, wmem, dump, references, drops, inode = line.split()
        counts = map(signed, (references, drops, inode))
        return NetlinkSocket(
            number(protocol), signed(port), hexa(groups), signed(rmem), signed(wmem), number(dump) != 0, *counts
        )

    return rows(data, "net/netlink", convert, skip=1)


parse_netlink.__module__ = "fastproc.procfs"


class PacketSocket(Record):
    """One line of net/packet (packet(7)).

    Attributes:
        references: in the kernel; kind: 3 raw, 2 dgram; protocol: of Ethernet, 3 for all; interface: its index, 0
            for all.
        running: whether it receives; rmem: bytes in its queue; uid: its owner's; inode: as in /proc/PID/fd.
    """

    __module__ = "fastproc.procfs"

    references: int
    kind: int
    protocol: int
    interface: int
    running: bool
    rmem: int
    uid: int
    inode: int


def parse_packet(data: bytes) -> Rows[PacketSocket]:
    """Read net/packet.

    Raises:
        ParseError: it is no such table.
    """

    def convert(line: bytes) -> PacketSocket:
        _, references, kind, protocol, interface, running, rmem, uid, inode = line.split()
        return PacketSocket(
            number(references),
            number(kind),
            hexa(protocol),
            signed(interface),
            number(running) == 1,
            number(rmem),
            number(uid),
            number(inode),
        )

    return rows(data, "net/packet", convert, skip=1)


parse_packet.__module__ = "fastproc.procfs"
