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
        ip: text; "0.0.0.0" or "::" for any address.
        port: 0 for none; the protocol of a raw socket.
    """

    __module__ = "fastproc.procfs"

    ip: str
    port: int


class InetSocket(Record):
    """One line of net/tcp, tcp6, udp, udp6, udplite, raw, raw6, icmp, icmp6.

    Attributes:
        slot: slot in the kernel's table.
        local, remote: addresses of both ends.
        state: for example "LISTEN" or "ESTABLISHED"; datagram sockets have "CLOSE", or "ESTABLISHED" if connected.
        tx_queue, rx_queue: queued bytes; for a listening socket, rx_queue is the number of connections to accept.
        timer: "none", "retransmit", "keepalive", "time_wait" or "zero_window_probe".
        expires: clock ticks until the timer expires.
        retransmits: retransmissions of the last segment, or unanswered keepalive probes.
        uid: owner.
        timeout: zero window probes.
        inode: inode as in /proc/PID/fd, 0 for TIME_WAIT.
        references: references in the kernel.
        rest: remaining columns. For tcp: (retransmission timeout, ack timeout, quick ack, congestion window, slow start
            threshold), empty for TIME_WAIT. For others: (dropped packets,).
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
    """Return an IPv4 or IPv6 address. The kernel writes it as words of 32 bits in host byte order."""
    if len(word) not in (8, 32) or word.strip(b"0123456789abcdefABCDEF"):
        raise ValueError(f"{word[:40]!r} is not an address")
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
    """Parse net/tcp, tcp6, udp, udp6, udplite, udplite6, raw, raw6, icmp or icmp6.

    Args:
        data: the contents of the file.
        file: the name of the file, for errors.
        byteorder: the byte order of the machine that the file is from.

    Raises:
        ParseError: no line has the format of this file.
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
        references: references in the kernel.
        flags: 0x10000 for a listening socket.
        kind: "stream", "dgram" or "seqpacket".
        state: "free", "unconnected", "connecting", "connected", "disconnecting".
        inode: inode as in /proc/PID/fd.
        path: "" for an unnamed socket; an abstract name starts with "@", and NUL bytes in it are shown as "@" too.
    """

    __module__ = "fastproc.procfs"

    references: int
    flags: int
    kind: str
    state: str
    inode: int
    path: str


# The first word is a hashed address, or "(____ptrval____)" soon after boot.
_UNIX = re.compile(
    rb"[0-9A-Za-z()_]+: ([0-9A-F]{8}) [0-9A-F]{8} ([0-9A-F]{8}) ([0-9A-F]{4}) ([0-9A-F]{2}) +(\d+)(?: (.*))?"
)
_KINDS = {1: "stream", 2: "dgram", 5: "seqpacket"}
_STATES = ("free", "unconnected", "connecting", "connected", "disconnecting")


def parse_unix(data: bytes) -> tuple[UnixSocket, ...]:
    """Parse net/unix.

    A name may contain newlines, which the kernel does not escape. A line that does not look like an entry belongs to
    the name before it. So a user who can bind a socket can choose a name that looks like several entries.

    Raises:
        ParseError: no line has the format of this file.
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
        protocol: 0 route, 4 sock_diag, 9 audit, 15 uevent, 16 generic, ... (netlink(7)).
        port: usually a pid, 0 for the kernel.
        groups: bit set of the first 32 multicast groups.
        rmem, wmem: bytes in the queues.
        dump: whether a dump is in progress.
        references: references in the kernel.
        drops: number of lost messages.
        inode: inode as in /proc/PID/fd.
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
    """Parse net/netlink.

    Raises:
        ParseError: no line has the format of this file.
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
        references: references in the kernel.
        kind: 3 raw, 2 dgram.
        protocol: Ethernet protocol, 3 for all.
        interface: index of the interface, 0 for all.
        running: whether the socket receives.
        rmem: bytes in the queue.
        uid: owner.
        inode: inode as in /proc/PID/fd.
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
    """Parse net/packet.

    Raises:
        ParseError: no line has the format of this file.
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
