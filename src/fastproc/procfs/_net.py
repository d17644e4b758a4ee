"""/proc/PID/net: routes, interfaces and counters of one network namespace. Pure."""

from __future__ import annotations

import sys

from fastproc.procfs._record import Record
from fastproc.procfs._sockets import ip_address
from fastproc.procfs._text import BAD, ParseError, Rows, Table, blame, hexa, lines_of, number, rows, signed, table, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal


class Route(Record):
    """One line of net/route: a route of IPv4's main table.

    Attributes:
        interface: name of the interface.
        destination, gateway, mask: addresses.
        flags: bit set: 1 up, 2 gateway, 4 host.
        references, use: unused.
        metric: routes with a lower metric are preferred.
        mtu, window, irtt: 0 for the default.
    """

    __module__ = "fastproc.procfs"

    interface: str
    destination: str
    gateway: str
    flags: int
    references: int
    use: int
    metric: int
    mask: str
    mtu: int
    window: int
    irtt: int


def parse_route(data: bytes, byteorder: Literal["little", "big"] = sys.byteorder) -> Rows[Route]:
    """Parse net/route.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> Route:
        name, to, via, flags, references, use, metric, mask, mtu, window, irtt = line.split()
        target, gateway, bits = (ip_address(word, byteorder) for word in (to, via, mask))
        counts = signed(references), signed(use), signed(metric)
        sizes = number(mtu), number(window), number(irtt)
        return Route(text(name), target, gateway, hexa(flags), *counts, bits, *sizes)

    return rows(data, "net/route", convert, skip=1)


parse_route.__module__ = "fastproc.procfs"


class Interface(Record):
    """One line of net/dev: the traffic of an interface since it was created.

    Attributes:
        name: name of the interface.
        rx_bytes, rx_packets, rx_errors, rx_dropped, rx_fifo, rx_frame, rx_compressed, rx_multicast: received.
        tx_bytes, tx_packets, tx_errors, tx_dropped, tx_fifo, tx_collisions, tx_carrier, tx_compressed: sent.
    """

    __module__ = "fastproc.procfs"

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    rx_fifo: int
    rx_frame: int
    rx_compressed: int
    rx_multicast: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int
    tx_fifo: int
    tx_collisions: int
    tx_carrier: int
    tx_compressed: int


def parse_dev(data: bytes) -> Rows[Interface]:
    """Parse net/dev.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> Interface:
        # There may be no space after the colon. The name of an old alias contains a colon (eth0:1).
        name, _, counts = line.rpartition(b":")
        values = tuple(map(number, counts.split()))
        if len(values) != 16:
            raise ValueError(f"{len(values)} numbers and not 16")
        return Interface(text(name.strip()), *values)

    return rows(data, "net/dev", convert, skip=2)


parse_dev.__module__ = "fastproc.procfs"


class Neighbour(Record):
    """One line of net/arp.

    Attributes:
        ip: address of the neighbour.
        hardware_type: 1 for Ethernet.
        flags: 2 complete, 4 permanent.
        mac: hardware address, "00:..." if unknown.
        mask: "*".
        interface: name of the interface.
    """

    __module__ = "fastproc.procfs"

    ip: str
    hardware_type: int
    flags: int
    mac: str
    mask: str
    interface: str


def parse_arp(data: bytes) -> Rows[Neighbour]:
    """Parse net/arp.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> Neighbour:
        ip, kind, flags, mac, mask, name = line.split()
        return Neighbour(text(ip), hexa(kind[2:]), hexa(flags[2:]), text(mac), text(mask), text(name))

    return rows(data, "net/arp", convert, skip=1)


parse_arp.__module__ = "fastproc.procfs"


class Interface6(Record):
    """One line of net/if_inet6: an IPv6 address of an interface.

    Attributes:
        ip: the address.
        index: index of the interface.
        prefix: prefix length in bits.
        scope, flags: numbers of the kernel.
        name: name of the interface.
    """

    __module__ = "fastproc.procfs"

    ip: str
    index: int
    prefix: int
    scope: int
    flags: int
    name: str


def parse_if_inet6(data: bytes) -> Rows[Interface6]:
    """Parse net/if_inet6.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> Interface6:
        ip, index, prefix, scope, flags, name = line.split()
        # In network byte order, unlike the tables of sockets.
        return Interface6(ip_address(ip, "big"), hexa(index), hexa(prefix), hexa(scope), hexa(flags), text(name))

    return rows(data, "net/if_inet6", convert)


parse_if_inet6.__module__ = "fastproc.procfs"


def parse_counters(data: bytes) -> dict[str, dict[str, int]]:
    """Parse net/snmp or net/netstat: counters by protocol and name, for example found["Tcp"]["RetransSegs"].

    Raises:
        ParseError: the data do not have the format of this file.
    """
    found: dict[str, dict[str, int]] = {}
    lines = lines_of(data)
    for (count, names), (below, values) in zip(lines[::2], lines[1::2], strict=False):
        keys, numbers = names.split(), values.split()
        try:
            head, again = keys.pop(0), numbers.pop(0)
            if head != again or len(keys) != len(numbers) or head[-1:] != b":":
                raise ValueError(f"this line does not match line {count}")
            found[text(head[:-1])] = dict(zip(map(text, keys), map(signed, numbers), strict=True))
        except BAD as error:
            raise blame("net/snmp", below, error, values) from None
    if len(lines) % 2:
        raise ParseError("net/snmp", lines[-1][0], "names without values", lines[-1][1])
    return found


parse_counters.__module__ = "fastproc.procfs"


def parse_sockstat(data: bytes) -> Table[dict[str, int]]:
    """Parse net/sockstat or sockstat6: numbers of sockets, for example found["TCP"]["inuse"]; "mem" counts pages.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> tuple[str, dict[str, int]]:
        head, colon, rest = line.partition(b":")
        if not colon:
            raise ValueError("no colon")
        words = rest.split()
        pairs = zip(words[::2], words[1::2], strict=True)
        return text(head), {text(key): signed(value) for key, value in pairs}

    return table(rows(data, "net/sockstat", convert))


parse_sockstat.__module__ = "fastproc.procfs"
