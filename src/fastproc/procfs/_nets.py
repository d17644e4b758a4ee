"""The tables of one network namespace: of a process, or of this process."""

from __future__ import annotations

from fastproc.procfs._host import parse_vmstat
from fastproc.procfs._net import (
    Interface,
    Interface6,
    Neighbour,
    Route,
    parse_arp,
    parse_counters,
    parse_dev,
    parse_if_inet6,
    parse_route,
    parse_sockstat,
)
from fastproc.procfs._sockets import (
    InetSocket,
    NetlinkSocket,
    PacketSocket,
    UnixSocket,
    parse_inet,
    parse_netlink,
    parse_packet,
    parse_unix,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeVar

    from fastproc.procfs._absent import Absent

    T = TypeVar("T")

    class Source(Protocol):
        """An object that reads and parses a file."""

        def get(self, name: str, parse: Callable[[bytes], T]) -> T | Absent:
            """Return the parsed file, or an Absent with the reason."""


class Net:
    """The tables of one network namespace, as /proc/PID/net shows them.

    Each method reads its file again. The kernel does not produce a table at one instant: a socket that moves in the
    kernel's table meanwhile may be missing or appear twice.
    """

    __module__ = "fastproc.procfs"

    def __init__(self, source: Source) -> None:
        self._source = source

    def _inet(self, name: str) -> tuple[InetSocket, ...] | Absent:
        return self._source.get(f"net/{name}", lambda data: parse_inet(data, f"net/{name}"))

    def tcp(self) -> tuple[InetSocket, ...] | Absent:
        """Return the TCP sockets of IPv4."""
        return self._inet("tcp")

    def tcp6(self) -> tuple[InetSocket, ...] | Absent:
        """Return the TCP sockets of IPv6."""
        return self._inet("tcp6")

    def udp(self) -> tuple[InetSocket, ...] | Absent:
        """Return the UDP sockets of IPv4."""
        return self._inet("udp")

    def udp6(self) -> tuple[InetSocket, ...] | Absent:
        """Return the UDP sockets of IPv6."""
        return self._inet("udp6")

    def udplite(self) -> tuple[InetSocket, ...] | Absent:
        """Return the UDP-Lite sockets of IPv4."""
        return self._inet("udplite")

    def udplite6(self) -> tuple[InetSocket, ...] | Absent:
        """Return the UDP-Lite sockets of IPv6."""
        return self._inet("udplite6")

    def raw(self) -> tuple[InetSocket, ...] | Absent:
        """Return the raw sockets of IPv4; the local port is the protocol."""
        return self._inet("raw")

    def raw6(self) -> tuple[InetSocket, ...] | Absent:
        """Return the raw sockets of IPv6."""
        return self._inet("raw6")

    def icmp(self) -> tuple[InetSocket, ...] | Absent:
        """Return the ping sockets of IPv4 (icmp(7)); the local port is the identifier."""
        return self._inet("icmp")

    def icmp6(self) -> tuple[InetSocket, ...] | Absent:
        """Return the ping sockets of IPv6."""
        return self._inet("icmp6")

    def unix(self) -> tuple[UnixSocket, ...] | Absent:
        """Return the UNIX sockets."""
        return self._source.get("net/unix", parse_unix)

    def netlink(self) -> tuple[NetlinkSocket, ...] | Absent:
        """Return the netlink sockets."""
        return self._source.get("net/netlink", parse_netlink)

    def packet(self) -> tuple[PacketSocket, ...] | Absent:
        """Return the packet sockets."""
        return self._source.get("net/packet", parse_packet)

    def route(self) -> tuple[Route, ...] | Absent:
        """Return the IPv4 routes."""
        return self._source.get("net/route", parse_route)

    def dev(self) -> tuple[Interface, ...] | Absent:
        """Return the counters of each interface."""
        return self._source.get("net/dev", parse_dev)

    def arp(self) -> tuple[Neighbour, ...] | Absent:
        """Return the IPv4 neighbours whose hardware address is known or being requested."""
        return self._source.get("net/arp", parse_arp)

    def if_inet6(self) -> tuple[Interface6, ...] | Absent:
        """Return the IPv6 addresses of the interfaces."""
        return self._source.get("net/if_inet6", parse_if_inet6)

    def snmp(self) -> dict[str, dict[str, int]] | Absent:
        """Return counters of IP, ICMP, TCP and UDP, for example found["Tcp"]["RetransSegs"]."""
        return self._source.get("net/snmp", parse_counters)

    def netstat(self) -> dict[str, dict[str, int]] | Absent:
        """Return Linux-specific counters, for example found["TcpExt"]["ListenDrops"]."""
        return self._source.get("net/netstat", parse_counters)

    def snmp6(self) -> dict[str, int] | Absent:
        """Return counters of IPv6, by name."""
        return self._source.get("net/snmp6", parse_vmstat)

    def sockstat(self) -> dict[str, dict[str, int]] | Absent:
        """Return numbers of sockets; "mem" counts pages."""
        return self._source.get("net/sockstat", parse_sockstat)

    def sockstat6(self) -> dict[str, dict[str, int]] | Absent:
        """Return numbers of IPv6 sockets; "mem" counts pages."""
        return self._source.get("net/sockstat6", parse_sockstat)
