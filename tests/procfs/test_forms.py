"""What the files of /proc mean, in each form that kernels from 4.18 on give them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from fastproc import procfs
from fastproc.procfs import Absent, Missing, ParseError, Stall, need
from fastproc.procfs._absent import REASONS
from support import procfiles as files


def parse(kind: str, data: bytes) -> Any:
    function: Callable[..., Any] = getattr(procfs, f"parse_{kind}")
    # The tables are of a machine that has the low byte first.
    return function(data, byteorder="little") if kind in ("inet", "route") else function(data)


FORMS = {f"{kind}-{kernel}": (kind, data) for kind, kernel, data in files.FORMS}


@pytest.mark.parametrize(("kind", "data"), FORMS.values(), ids=FORMS.keys())
def test_form_is_read_and_its_value_is_whole(kind: str, data: bytes) -> None:
    """It can be shown, compared, copied and pickled."""
    value = parse(kind, data)
    assert value == parse(kind, data)
    assert pickle.loads(pickle.dumps(value)) == value == copy.deepcopy(value)
    assert repr(value)
    if isinstance(value, procfs.Record):
        assert list(value.to_dict()) == list(value._fields)
        with pytest.raises(AttributeError, match="does not change"):
            value.nonsense = 1  # type: ignore[attr-defined]


def test_every_parser_has_a_form() -> None:
    """A parser without one here is not tested."""
    assert {kind for kind, _, _ in files.FORMS} == {
        name.removeprefix("parse_") for name in procfs.__all__ if name.startswith("parse_")
    }


def test_stat_has_52_fields_and_any_name() -> None:
    stat = procfs.parse_stat(files.STAT)
    assert len(procfs.Stat._fields) == 52
    assert (stat.pid, stat.comm, stat.state, stat.ppid) == (1234, "a (b) \n) c", "S", 1)
    assert (stat.utime, stat.stime, stat.cutime, stat.cstime) == (250, 50, 20, -10)
    assert (stat.starttime, stat.vsize, stat.rss, stat.rsslim) == (987654, 226492416, 2048, 2**64 - 1)
    assert (stat.processor, stat.guest_time, stat.cguest_time, stat.exit_code) == (3, 5, 0, 9)
    assert (stat.tty, stat.is_zombie, stat.is_kernel_thread, stat.is_ending) == ((136, 1), False, False, False)
    for before, after in ((b"\xff\xfe", "\udcff\udcfe"), (b") R 1 (", ") R 1 ("), (b"", ""), (b" ", " ")):
        again = procfs.parse_stat(files.STAT.replace(b"a (b) \n) c", before))
        assert again.comm == after
        assert procfs.raw(again.comm) == before
        assert again.ppid == 1


def test_stat_of_a_process_that_may_not_be_traced() -> None:
    """The kernel writes 1 and 0 for what it does not tell: no address is made of them."""
    stat = procfs.parse_stat(files.STAT_DENIED)
    for name in ("startcode", "endcode", "startstack", "kstkesp", "start_data", "env_end", "exit_code"):
        assert getattr(stat, name) == Absent("denied")
    assert stat.rss == 3000
    assert procfs.parse_stat(files.STAT).startcode == 94000000000000


def test_stat_of_kernel_threads_and_zombies() -> None:
    thread = procfs.parse_stat(files.STAT_KERNEL_THREAD)
    assert (thread.comm, thread.is_kernel_thread, thread.vsize, thread.tty) == ("kworker/0:1H-kblockd", True, 0, None)
    zombie = procfs.parse_stat(files.STAT_ZOMBIE)
    assert (zombie.is_zombie, zombie.exit_code) == (True, 256)


def test_status_4_18() -> None:
    status = procfs.parse_status(files.STATUS_4_18)
    assert (status.name, status.umask, status.state, status.pid, status.tgid) == ("a b)\nc\\ ", 0o27, "S", 71, 70)
    assert status.uids == (1000, 1001, 1002, 1003)
    assert (status.groups, status.ns_pid, status.tracer_pid) == ((4, 27, 100), (71, 2), 9)
    assert (status.vm_rss, status.hugetlb_pages, status.core_dumping) == (290 * 1024, 2048 * 1024, True)
    assert (status.sigq, status.sigcgt, status.no_new_privs, status.seccomp) == (
        (1, 96365),
        0xFFFFFFFF80000000,
        True,
        2,
    )
    assert status.cpus_allowed == (0, 1, 2, 3, *range(32, 40))
    assert (status.mems_allowed, status.voluntary_ctxt_switches) == ((0, 1), 150)
    assert status.capabilities.effective.names == ("cap_kill",)
    assert status.others == {}
    for name in ("kernel_thread", "thp_enabled", "untag_mask", "seccomp_filters", "speculation_indirect_branch"):
        absent = getattr(status, name)
        assert absent == Absent("not in this kernel")
        assert absent.detail.startswith("since Linux ")
    assert status.identity == procfs.parse_status(files.STATUS_6_8).identity
    assert (status.identity.name, status.identity.seccomp) == ("a b)\nc\\ ", "filter")


def test_status_of_later_kernels() -> None:
    middle = procfs.parse_status(files.STATUS_5_16)
    assert (middle.thp_enabled, middle.seccomp_filters) == (True, 3)
    assert middle.speculation_indirect_branch == "conditional enabled"
    late = procfs.parse_status(files.STATUS_6_8)
    assert (late.kernel_thread, late.untag_mask, late.thp_enabled) == (False, 2**64 - 1, False)
    assert late.others == {"x86_Thread_features": "shstk", "x86_Thread_features_locked": ""}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (files.STATUS_KTHREAD_4_18, "kernel thread"),
        (files.STATUS_KTHREAD_6_8, "kernel thread"),
        (files.STATUS_ZOMBIE, "zombie"),
        (files.STATUS_ENDING, "ending"),
    ],
)
def test_status_without_memory_says_why(data: bytes, reason: str) -> None:
    status = procfs.parse_status(data)
    for name in ("vm_rss", "vm_size", "rss_anon", "vm_swap", "core_dumping", "thp_enabled"):
        assert getattr(status, name) == Absent(reason)
    assert status.umask == (Absent("zombie") if reason == "zombie" else 0o27)
    assert not status.vm_rss


def test_limits() -> None:
    limits = procfs.parse_limits(files.LIMITS)
    assert len(limits) == 16
    assert limits["nofile"] == procfs.Limit(1024, 524288, "files")
    assert limits["nice"] == procfs.Limit(0, 40, "")
    assert limits["rttime"] == procfs.Limit(None, 200000, "us")
    assert limits["as"] == procfs.Limit(None, None, "bytes")


def test_maps() -> None:
    first, heap, memfd, unnamed, named, vsyscall = procfs.parse_maps(files.MAPS)
    assert (first.path, first.deleted, first.size, first.device) == ("/usr/bin/a b (deleted)", True, 0x2000, (0xFE, 1))
    assert (heap.path, heap.deleted, heap.offset) == ("[heap]", False, 0)
    assert (memfd.path, memfd.perms, memfd.inode) == ("/memfd:x\ny (deleted)", "rw-s", 1025)
    assert (unnamed.path, named.path, vsyscall.perms) == ("", "[anon:glibc: malloc]", "--xp")


def test_smaps() -> None:
    old = procfs.parse_smaps(files.SMAPS_4_18)
    assert [one.mapping.path for one in old] == ["/usr/bin/a b (deleted)", "", "[anon:glibc: malloc]"]
    assert (old[0].usage.pss, old[0].usage.uss, old[0].usage.swap, old[0].size) == (3072, 4096, 2048, 8192)
    assert old[0].flags == ("rd", "wr", "mr", "mw", "me", "ac", "sd")
    assert [old[0].thp_eligible, old[0].usage.ksm, old[0].usage.pss_dirty] == [Absent("not in this kernel")] * 3
    (new,) = procfs.parse_smaps(files.SMAPS_6_18)
    assert (new.thp_eligible, new.protection_key, new.usage.ksm, new.usage.pss_dirty) == (True, 5, 4096, 1024)


def test_smaps_rollup() -> None:
    assert procfs.parse_smaps_rollup(files.ROLLUP_4_18).pss_anon == Absent("not in this kernel")
    new = procfs.parse_smaps_rollup(files.ROLLUP_5_3)
    assert (new.pss_anon, new.pss_file, new.pss_shmem, new.rss) == (1024, 2048, 0, 8192)


def test_numa_maps() -> None:
    found = procfs.parse_numa_maps(files.NUMA_MAPS)
    assert [one.policy for one in found] == [
        "default", "default", "bind:0-1", "prefer (many):0", "weighted interleave:0-1", "prefer=relative:1",
    ]  # fmt: skip
    assert (found[0].file, found[0].nodes, found[0].kernel_page_size) == ("/usr/bin/a b", {0: 1, 1: 1}, 4096)
    assert (found[1].heap, found[1].anon, found[2].stack, found[3].huge) == (True, 3, True, True)
    assert found[4].kernel_page_size == Absent("not in this kernel")


def test_cgroup() -> None:
    first, second, third = procfs.parse_cgroup(files.CGROUP_V1)
    assert (first.hierarchy, first.controllers, first.path) == (12, ("cpu", "cpuacct"), "/user.slice")
    assert (second.controllers, second.path, second.deleted) == (("name=systemd",), "/a:b", True)
    assert (third.hierarchy, third.controllers, third.deleted) == (0, (), False)
    assert procfs.parse_cgroup(files.CGROUP_V2)[0].path == "/../outside"


def test_mountinfo() -> None:
    proc, odd, nameless, fuse = procfs.parse_mountinfo(files.MOUNTINFO)
    assert (proc.id, proc.parent, proc.device, proc.propagation) == (22, 27, (0, 21), ("shared:5",))
    assert (odd.target, odd.root, odd.source) == ("/mnt 2\\\nx", "/mnt1", "/dev/root#")
    assert odd.propagation == ("master:1", "propagate_from:2")
    assert (nameless.source, nameless.super_options, nameless.propagation) == ("", ("rw", "size=4k"), ())
    assert (fuse.fstype, fuse.source) == ("fuse.sshfs", "host:/a b")


def test_mounts_and_swaps() -> None:
    _, odd, nameless = procfs.parse_mounts(files.MOUNTS)
    assert (odd.source, odd.target, odd.options, odd.passno) == (
        "/dev/root x", "/mnt\t2", ("rw", "errors=remount-ro"), 2,
    )  # fmt: skip
    assert nameless.source == ""
    assert procfs.parse_swaps(files.SWAPS) == (procfs.Swap("/swap a", "file", 2097148 * 1024, 12 * 1024, -2),)


def test_descriptors() -> None:
    plain, later = procfs.parse_fdinfo(files.FDINFO_4_18), procfs.parse_fdinfo(files.FDINFO_5_14)
    assert (plain.pos, plain.flags, plain.mnt_id, plain.inode) == (11277, 0o100001, 27, Absent("not in this kernel"))
    assert later.inode == 10534981
    locks = procfs.parse_fdinfo(files.FDINFO_LOCKS).locks
    assert [(one.kind, one.access, one.pid, one.start, one.end) for one in locks] == [
        ("FLOCK", "WRITE", 1466, 0, None), ("OFDLCK", "READ", -1, 5, 9),
    ]  # fmt: skip
    (old,) = procfs.parse_fdinfo(files.FDINFO_EPOLL_4_12).epoll
    assert (old.fd, old.events, old.data, old.inode) == (5, 0x19, 0x7FFF00000005, Absent("not in this kernel"))
    (_, second) = procfs.parse_fdinfo(files.FDINFO_EPOLL).epoll
    assert second == procfs.EpollTarget(12, 0x8000201D, 12, -1, 0x1F, 0xFE00000)
    marks = procfs.parse_fdinfo(files.FDINFO_INOTIFY).inotify
    assert [(one.wd, one.inode, one.ignored_mask) for one in marks] == [(1, 0x2B, 0), (10, 0x2C, 0x10)]
    timer = procfs.parse_fdinfo(files.FDINFO_TIMERFD)
    assert (timer.clock_id, timer.ticks, timer.settime_flags, timer.value, timer.interval) == (
        1,
        4,
        1,
        (0, 49406829),
        (1, 5),
    )
    others = {kind: procfs.parse_fdinfo(data) for kind, data in files.FDINFO_OTHERS.items()}
    event = others["eventfd"]
    assert (event.eventfd_count, event.eventfd_id, event.eventfd_semaphore) == (10, 3, True)
    assert others["signalfd"].sigmask == 0x4002
    assert (others["pidfd"].pid, others["pidfd"].ns_pid, others["pidfd gone"].pid) == (1592, (1592, 3), -1)
    assert len(others["fanotify"].others) == 2


def test_targets() -> None:
    kinds = {
        b"/tmp/a (deleted)": ("/tmp/a", "path", 0, True),
        b"socket:[1234]": ("socket:[1234]", "socket", 1234, False),
        b"anon_inode:[eventpoll]": ("anon_inode:[eventpoll]", "anon_inode", 0, False),
        b"anon_inode:inotify": ("anon_inode:inotify", "anon_inode", 0, False),
        b"/memfd:x (deleted)": ("/memfd:x", "path", 0, True),
        b"pid:[4026531836]": ("pid:[4026531836]", "pid", 4026531836, False),
        b"/a:[5]": ("/a:[5]", "path", 0, False),
        b"/\xff": ("/\udcff", "path", 0, False),
    }
    assert {data: tuple(value for _, value in procfs.parse_target(data).items()) for data in kinds} == kinds


def test_command_lines_and_environments() -> None:
    assert procfs.parse_cmdline(b"sh\0-c\0\0a b\0") == ("sh", "-c", "", "a b")
    assert procfs.parse_cmdline(b"nginx: worker process") == ("nginx: worker process",)
    assert procfs.parse_cmdline(b"\xff\0") == ("\udcff",)
    assert procfs.parse_cmdline(b"") == ()
    assert procfs.parse_environ(b"A=1\0B=x=y\0A=2\0odd\0=z\0C=\0") == {"A": "1", "B": "x=y", "": "z", "C": ""}


def test_small_files() -> None:
    assert procfs.parse_unset(b"4294967295") is None
    assert procfs.parse_unset(b"1000") == 1000
    assert procfs.parse_autogroup(b"") is None
    assert procfs.parse_autogroup(b"/autogroup-3 nice -5\n") == procfs.Autogroup("/autogroup-3", -5)
    assert parse(*FORMS["auxv-32-bit"]) == {
        "pagesz": 4096, "clktck": 100,
    }  # fmt: skip
    running, waiting = procfs.parse_syscall(b"running\n"), procfs.parse_syscall(b"-1 0x10 0x20\n")
    assert (running.running, running.number) == (True, Absent("not in this kernel"))
    assert (waiting.number, waiting.arguments, waiting.stack_pointer, waiting.program_counter) == (-1, (), 16, 32)
    assert procfs.parse_sysctl(b"(none)\n") == "(none)"
    assert procfs.parse_sysctl(b"1\n") == 1
    assert procfs.parse_sysctl(b"-1 2\n") == (-1, 2)


def test_sockets() -> None:
    listening, busy, waiting = parse("inet", files.TCP)
    assert (listening.local, listening.state, listening.rx_queue, listening.inode, listening.uid) == (
        procfs.Address("127.0.0.1", 2024), "LISTEN", 5, 555, 1000,
    )  # fmt: skip
    assert (busy.remote, busy.timer, busy.retransmits, busy.rest) == (
        procfs.Address("192.168.1.1", 443), "retransmit", 2, (26, 4, 30, 10, -1),
    )  # fmt: skip
    assert (waiting.state, waiting.timer, waiting.expires, waiting.rest) == ("TIME_WAIT", "time_wait", 0x16D5, ())
    loop, mapped = parse("inet", files.TCP6)
    assert (loop.local.ip, mapped.local.ip, mapped.remote.ip) == ("::1", "::ffff:192.168.0.2", "2001:db8::1")
    (udp,) = parse("inet", files.UDP)
    assert (udp.local, udp.state, udp.rest) == (procfs.Address("127.0.0.53", 53), "CLOSE", (17,))
    assert procfs.parse_inet(files.TCP, byteorder="big")[0].local.ip == "1.0.0.127"


def test_unix_sockets_with_odd_names() -> None:
    found = procfs.parse_unix(files.UNIX)
    assert [one.path for one in found] == ["/run/a b", "", "@abs@x", "/tmp/two\n\nlines", "/last\udcff"]
    assert [one.kind for one in found] == ["stream", "dgram", "seqpacket", "stream", "stream"]
    assert (found[1].state, found[1].inode, found[0].flags) == ("connected", 1142, 0x10000)


def test_other_tables_of_the_network() -> None:
    default, local = parse("route", files.ROUTE)
    assert (default.gateway, default.metric, default.mtu, local.mask) == ("192.0.2.1", 100, 1400, "255.255.255.0")
    lo, alias = procfs.parse_dev(files.DEV)
    assert (lo.name, lo.tx_bytes, lo.rx_packets) == ("lo", 1270663, 4209)
    assert (alias.name, alias.rx_multicast, alias.tx_compressed) == ("eth0:1", 8, 16)
    assert procfs.parse_arp(files.ARP)[0].mac == "02:fc:00:00:00:05"
    assert [(one.protocol, one.port, one.dump) for one in procfs.parse_netlink(files.NETLINK)] == [
        (0, 0, False), (15, 4294962001, True),
    ]  # fmt: skip
    assert procfs.parse_packet(files.PACKET) == (procfs.PacketSocket(3, 3, 3, 2, True, 512, 0, 22001),)
    assert procfs.parse_counters(files.SNMP) == {
        "Ip": {"Forwarding": 2, "DefaultTTL": 64}, "Tcp": {"RtoAlgorithm": 1, "MaxConn": -1},
    }  # fmt: skip
    assert procfs.parse_sockstat(files.SOCKSTAT)["TCP"]["mem"] == 400
    assert [one.ip for one in procfs.parse_if_inet6(files.IF_INET6)] == ["fe80::fc:ff:fe00:1", "::1"]


def test_machine() -> None:
    stat = procfs.parse_kernel_stat(files.KERNEL_STAT)
    assert (sorted(stat.cpus), stat.cpu.guest_nice, stat.cpu.user) == ([0, 3], 6, 677188)
    assert stat.cpu.total == 677188 + 684361 + 754994 + 2913628 + 9090 + 1 + 2740 + 3032
    assert (stat.interrupts, stat.by_interrupt, stat.softirqs, len(stat.by_softirq)) == (100, (0, 40, 60), 30, 10)
    old, new = procfs.parse_meminfo(files.MEMINFO_4_18), procfs.parse_meminfo(files.MEMINFO_6_1)
    assert (old.mem_total, old.active_anon, old.committed_as) == (24684084 * 1024, 39560 * 1024, 188344 * 1024)
    assert (old.huge_pages_total, old.huge_pages_free, old.hugepagesize) == (5, 3, 2 << 20)
    assert [old.kreclaimable, old.percpu, old.zswap] == [Absent("not in this kernel")] * 3
    assert (new.kreclaimable, new.percpu, new.sec_page_tables, new.zswap) == (296561 * 1024, 856 * 1024, 4096, 8192)
    assert old.others == {"DirectMap2M": "2068480 kB"}
    assert procfs.parse_loadavg(b"0.70 2.17 12.49 2/104 25648\n") == procfs.Loadavg(0.7, 2.17, 12.49, 2, 104, 25648)


def test_pressure() -> None:
    old, new, irq = map(procfs.parse_pressure, (files.PRESSURE_4_20, files.PRESSURE_5_13, files.PRESSURE_IRQ))
    assert old == procfs.Pressure(Stall(0.32, 0.94, 6.67, 5937470583), Absent("not in this kernel"))
    assert new.full == Stall(0.0, 0.0, 12.5, 7)
    assert (irq.some, need(irq.full).total_us) == (Absent("not in this kernel"), 3)


def test_disks() -> None:
    (oldest,), (old,), (new,) = map(procfs.parse_diskstats, (files.DISK_4_17, files.DISK_4_18, files.DISK_5_5))
    assert (oldest.name, oldest.weighted_ms, oldest.discards) == ("sda", 91, Absent("not in this kernel"))
    assert (old.discards, old.discard_ms, old.flushes) == (7, 4, Absent("not in this kernel"))
    assert (new.flushes, new.flush_ms, new.sectors_read, new.io_ms) == (3, 2, 2000, 90)
    assert [one.name for one in procfs.parse_partitions(files.PARTITIONS)] == ["vda", "sdb1"]


def test_cpuinfo_of_architectures() -> None:
    x86 = procfs.parse_cpuinfo(files.CPUINFO_X86)
    assert [(cpu.number, cpu.mhz, cpu.package, cpu.core) for cpu in x86.cpus] == [
        (0, 2596.144, 1, 4),
        (5, 800.0, None, None),
        (6, None, None, None),
    ]
    assert (x86.cpus[0].model, x86.cpus[0].flags, x86.fields) == ("Intel(R) Xeon(R): odd", ("fpu", "vme"), {})
    arm64 = procfs.parse_cpuinfo(files.CPUINFO_ARM64)
    assert [(cpu.number, cpu.flags, cpu.fields["CPU part"]) for cpu in arm64.cpus] == [
        (0, ("fp", "asimd", "evtstrm"), "0xd0c"), (1, ("fp",), "0xd0c"),
    ]  # fmt: skip
    arm = procfs.parse_cpuinfo(files.CPUINFO_ARM)
    assert (arm.cpus[0].model, arm.fields["Serial"], len(arm.cpus)) == ("ARMv7 Processor rev 4 (v7l)", "00000000", 1)
    (riscv,) = procfs.parse_cpuinfo(files.CPUINFO_RISCV).cpus
    assert (riscv.model, riscv.flags) == ("sifive,u74-mc", ("rv64imafdc",))
    assert procfs.parse_cpuinfo(files.CPUINFO_S390).fields["vendor_id"] == "IBM/S390"


def test_modules_locks_devices_cgroups() -> None:
    tables, box, fixed = procfs.parse_modules(files.MODULES)
    assert (tables.used_by, tables.address, box.taints) == (("nft_compat", "nft_ct"), 0xFFFFFFFFC0A00000, "OE")
    assert (fixed.references, fixed.used_by) == (-1, ("[permanent]",))
    locks = procfs.parse_locks(files.LOCKS)
    assert [(one.id, one.blocked, one.kind, one.pid, one.end) for one in locks] == [
        (1, False, "POSIX", 2171, None),
        (1, True, "POSIX", 2172, 9),
        (2, False, "LEASE", 55, None),
        (3, False, "OFDLCK", -1, 0),
        (4, False, "FLOCK", 6, None),
    ]
    assert (locks[2].device, locks[4].device) == ((8, 17), None)
    devices = procfs.parse_devices(files.DEVICES)
    assert (devices.character, devices.block) == (
        ((1, "mem"), (4, "/dev/vc/0"), (4, "tty")),
        ((7, "loop"), (259, "blkext")),
    )
    assert procfs.parse_cgroups(files.CGROUPS)[1] == procfs.Controller("memory", 0, 57, False)
    assert procfs.parse_filesystems(b"nodev\tsysfs\n\text4\n") == {"sysfs": False, "ext4": True}


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("stat", files.STAT[:300], r"stat, line 1: \d+ fields and not 52"),
        ("stat", b"", "stat, line 1: no name"),
        ("stat", files.STAT.replace(b" S 1 ", b" S 0x1 "), r"line 1: b'0x1' is not a number"),
        ("status", b"Name:\tx\n", "there is no state"),
        ("status", files.STATUS_4_18.replace(b"1003", b""), "line 9: 3 ids and not 4"),
        ("io", b"rchar: 1_0\n", "io, line 1: b'1_0' is not a number"),
        ("maps", b"0-1 rw-x 0 0:0 0\n", "maps, line 1: b'rw-x' are not permissions"),
        ("smaps", b"Rss: 4 kB\n", "smaps, line 1: no mapping before this line"),
        ("smaps", files.MAPS[:80], "has no size"),
        ("smaps_rollup", b"", "0 mappings and not one"),
        ("mountinfo", b"22 27 0:21 / /proc rw shared:5 proc proc rw\n", "mountinfo, line 1"),
        ("inet", b"head\n   0: 01:2 3\n", "net/tcp, line 2: 3 fields and not 12"),
        ("unix", b"head\nnonsense\n", "net/unix, line 2: no entry"),
        ("counters", b"Ip: a\nTcp: 1\n", "line 2: this line does not match line 1"),
        ("cpuinfo", b"processor\t: 0\nnonsense\n", "cpuinfo, line 2: no colon"),
        ("auxv", b"\x06\0\0\0", "auxv, line 1: it does not end with AT_NULL"),
        ("pressure", b"some avg10=1\n", "pressure, line 1: there is no"),
        ("number", b"9" * 5000, "number, line 1"),
    ],
)
def test_error_names_file_line_and_reason(kind: str, data: bytes, words: str) -> None:
    with pytest.raises(ParseError, match=words) as caught:
        parse(kind, data)
    error = caught.value
    assert isinstance(error, (procfs.ProcfsError, ValueError))
    assert error.line > 0
    assert len(error.text) <= 200
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


WSL2 = (
    rb"C:\134 /mnt/c 9p rw,noatime,aname=drvfs;path=C:\;uid=0;symlinkroot=/mnt/,mmap,access=client 0 0" + b"\n"
    rb"C:\134Program\040Files\134Docker /Docker/host 9p rw,sync,aname=drvfs;path=C:\Program Files\Docker;metadata 0 0"
    b"\ntmpfs /tmp tmpfs rw 0 0\n"
)
WSL2_INFO = (
    rb"75 62 0:33 / /Docker/host rw,noatime - 9p C:\134Program\040Files rw,aname=drvfs;path=C:\Program Files\Docker;x"
    b"\n22 27 0:21 / /proc rw shared:5 - proc proc rw\n"
)


def test_blanks_in_mount_options_are_part_of_them() -> None:
    """As a 9p of WSL2 writes them; source and target have theirs escaped."""
    first, docker, tmp = procfs.parse_mounts(WSL2)
    assert first.options[-2:] == ("mmap", "access=client")
    assert (docker.source, docker.target) == ("C:\\Program Files\\Docker", "/Docker/host")
    assert docker.options == ("rw", "sync", "aname=drvfs;path=C:\\Program Files\\Docker;metadata")
    assert (docker.dump, docker.passno, tmp.fstype) == (0, 0, "tmpfs")
    info, other = procfs.parse_mountinfo(WSL2_INFO)
    assert info.super_options == ("rw", "aname=drvfs;path=C:\\Program Files\\Docker;x")
    assert (info.source, other.target) == ("C:\\Program Files", "/proc")


# A line that no kernel writes, to be put among good ones: of lxcfs, of gVisor, of drivers.
ODD_LINES = {
    "diskstats": b"   8       1 sda1 12 0 96 0 0 0 0\n",
    "partitions": b"   8       x     sda1\n",
    "mounts": b"nonsense\n",
    "mountinfo": b"22 27 0:21 / /proc rw shared:5 proc proc rw\n",
    "swaps": b"/swap file -1 0 -2\n",
    "cgroup": b"no colon\n",
    "id_map": b"0 0\n",
    "maps": b"0-1 rw-x 0 0:0 0\n",
    "modules": b"ext4 1\n",
    "locks": b"1: POSIX\n",
    "inet": b"   0: 01:2 3\n",
    "dev": b"eth9: 1 2 3\n",
    "route": b"eth0 zz\n",
    "arp": b"10.0.0.1\n",
    "vmstat": b"nr_free_pages many\n",
    "limits": b"Max open files            few\n",
    "filesystems": b"ext4\n",
}


@pytest.mark.parametrize("kind", ODD_LINES)
def test_odd_line_is_refused_and_the_rest_stands(kind: str) -> None:
    """In front of the last line of a good file, and behind it; alone it is an error."""
    forms = [data for one, _, data in files.FORMS if one == kind]
    whole = b"".join(forms) or b"nodev\tsysfs\n\text4\n"
    good = next((data for data in forms if data.count(b"\n") > 1), whole)
    expected = parse(kind, good)
    assert expected.refused == ()
    head, last, end = good[:-1].rpartition(b"\n")
    for data in (head + last + ODD_LINES[kind] + end + b"\n", good + ODD_LINES[kind]):
        found = parse(kind, data)
        assert found == expected
        (error,) = found.refused
        assert isinstance(error, ParseError)
        assert data.split(b"\n")[error.line - 1] == ODD_LINES[kind][:-1]
        assert str(error)
        again = pickle.loads(pickle.dumps(found))
        assert (again, str(again.refused[0])) == (expected, str(error))


STAT_LINES = (
    b"cpu  1 2 3 -4 5 6 7 8 9 10\n"
    b"cpu0 1 2 3 -4 5 6 7 8 9 10\n"
    b"cpu1 1 2 3\n"
    b"intr 5 x\n"
    b"ctxt -1\n"
    b"processes 7\n"
    b"procs_running 1\n"
    b"procs_blocked 0\n"
    b"softirq 0\n"
)


def test_odd_kernel_stat() -> None:
    """Negative idle is a value; a CPU with too few columns, a count that is none and a missing line are absent."""
    found = procfs.parse_kernel_stat(STAT_LINES)
    assert isinstance(found.cpu, procfs.CpuTimes)
    assert (found.cpu.idle, list(found.cpus), found.forks, found.softirqs) == (-4, [0], 7, 0)
    assert found.interrupts == found.by_interrupt == found.context_switches == Absent("error")
    assert found.boot_time == Absent("not in this kernel")
    assert "line 5: b'-1' is not a number" in str(found.context_switches)
    assert [text.partition(":")[0] for text in found.refused] == ["stat, line 3", "stat, line 4", "stat, line 5"]
    with pytest.raises(ParseError, match="stat, line 1: 1 numbers and not 10"):
        procfs.parse_kernel_stat(b"cpu 1\n")
    with pytest.raises(ParseError, match="there is no cpu"):
        procfs.parse_kernel_stat(b"")


def test_odd_values_by_key() -> None:
    """Each is absent with file, line and reason, and the others are as they were."""
    whole = procfs.parse_status(files.STATUS_4_18)
    for wrong, instead, name, words in (
        (b" 300 kB", b" 300 MB", "vm_pin", "b'300 MB' is not a size in kB"),
        (b"0-3,32-39", b"3-0", "cpus_allowed", "is not a range"),
        (b"0-3,32-39", b"0-4294967295", "cpus_allowed", "is not a range"),
    ):
        found = procfs.parse_status(files.STATUS_4_18.replace(wrong, instead))
        changed = [one for one, value in found.items() if value != getattr(whole, one)]
        assert changed == [next(one for one in changed)]
        value = getattr(found, changed[0])
        assert value == Absent("error")
        assert words in value.detail
        assert value.detail.startswith("status, line ")
        del name
    memory = procfs.parse_meminfo(b"MemTotal: lots\nMemFree: 4 kB\nnonsense\n")
    assert memory.mem_total == Absent("error")
    assert (memory.mem_free, memory.buffers) == (4096, Absent("not in this kernel"))
    io = procfs.parse_io(b"rchar: 5\nwchar: -5\n")
    assert (io.rchar, io.wchar, io.syscr) == (5, Absent("error"), Absent("not in this kernel"))


def test_who_it_is_stands_in_whole_or_not_at_all() -> None:
    """A capability set, an id or a flag that cannot be read is no empty one."""
    for wrong, instead in ((b"CapEff:\t", b"CapEff:\tx"), (b"NoNewPrivs:\t", b"NoNewPrivs:\t7"), (b"1003", b"")):
        assert wrong in files.STATUS_4_18
        with pytest.raises(ParseError):
            procfs.parse_status(files.STATUS_4_18.replace(wrong, instead))


def test_negative_idle_of_a_container_s_uptime() -> None:
    assert procfs.parse_uptime(b"12.50 -3.25\n") == procfs.Uptime(12.5, -3.25)


def test_absent_is_nothing_with_a_reason() -> None:
    absent = Absent("denied", "io: Permission denied")
    assert not absent
    assert (str(absent), repr(absent)) == (
        "denied (io: Permission denied)",
        "Absent('denied', 'io: Permission denied')",
    )
    assert absent == Absent("denied") != Absent("zombie")
    assert pickle.loads(pickle.dumps(absent)).detail == absent.detail
    assert hash(absent) == hash(Absent("denied"))
    assert all(str(Absent(reason)) == reason for reason in REASONS)
    with pytest.raises(ValueError, match="'why' is none of denied"):
        Absent("why")
    with pytest.raises(Missing, match="denied \\(io: Permission denied\\)") as caught:
        need(absent)
    assert caught.value.absent is absent
    assert need(0) == 0


def test_records_are_made_as_they_are_shown() -> None:
    stall = Stall(1.0, 2.0, avg300=3.0, total_us=4)
    assert repr(stall) == "Stall(avg10=1.0, avg60=2.0, avg300=3.0, total_us=4)"
    assert eval(repr(stall), {"Stall": Stall}) == stall
    assert hash(stall) == hash(copy.copy(stall))
    assert stall != procfs.Uptime(1.0, 2.0)
    for wrong in ((1.0,), (1, 2, 3, 4, 5)):
        with pytest.raises(TypeError, match="Stall: "):
            Stall(*wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Stall: there is no mean"):
        Stall(1, 2, 3, 4, mean=5)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del stall.avg10
