"""Files of /proc as kernels from 4.18 on write them, made by hand after fs/proc, net and block of their sources.

FORMS has (parser, kernel, bytes) for each form of each file. test_forms.py says what they mean; the fuzzers damage them.
"""

# ruff: noqa: E501  (lines of files)

from __future__ import annotations

# fs/proc/array.c, do_task_stat: 52 fields since 3.5, the same in 4.18 and 6.18.
STAT = (
    b"1234 (a (b) \n) c) S 1 1234 1200 34817 1300 4194560 1500 7000 3 4 250 50 20 -10 20 0 7 0 987654 226492416 2048 "
    b"18446744073709551615 94000000000000 94000000100000 140720000000000 0 0 0 4096 65536 16384 1 0 0 17 3 0 0 12 5 0 "
    b"94000000200000 94000000210000 94000001000000 140720000001000 140720000001100 140720000001100 140720000002000 9\n"
)
# The same as somebody sees it who may not trace the process: start and end of code are 1, other addresses 0.
STAT_DENIED = (
    b"1 (systemd) S 0 1 1 0 -1 4194560 9 8 7 6 5 4 -3 -2 20 0 1 0 7 173146112 3000 18446744073709551615 1 1 0 0 0 0 "
    b"671173123 4096 1260 0 0 0 17 1 0 0 2 0 0 0 0 0 0 0 0 0 0\n"
)
STAT_KERNEL_THREAD = (
    b"17 (kworker/0:1H-kblockd) I 2 0 0 0 -1 69238880 0 0 0 0 0 3 0 0 0 -20 1 0 20 0 0 18446744073709551615 0 0 0 0 0 0 0 "
    b"2147483647 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
STAT_ZOMBIE = (
    b"77 (defunct one) Z 1 77 77 0 -1 4227084 9 0 0 0 1 2 0 0 20 0 1 0 500 0 0 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 "
    b"17 1 0 0 0 0 0 0 0 0 0 0 0 0 256\n"
)

_STATUS_HEAD = (
    b"Name:\ta b)\\nc\\\\ \nUmask:\t0027\nState:\tS (sleeping)\nTgid:\t70\nNgid:\t0\nPid:\t71\nPPid:\t1\nTracerPid:\t9\n"
    b"Uid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t27 4 100 \n"
    b"NStgid:\t70\t1\nNSpid:\t71\t2\nNSpgid:\t70\t1\nNSsid:\t60\t0\n"
)
_STATUS_MEMORY = (
    b"VmPeak:\t    2000 kB\nVmSize:\t    1900 kB\nVmLck:\t       1 kB\nVmPin:\t       2 kB\nVmHWM:\t     300 kB\n"
    b"VmRSS:\t     290 kB\nRssAnon:\t     100 kB\nRssFile:\t     180 kB\nRssShmem:\t      10 kB\nVmData:\t     400 kB\n"
    b"VmStk:\t     132 kB\nVmExe:\t      20 kB\nVmLib:\t    1500 kB\nVmPTE:\t      52 kB\nVmSwap:\t       3 kB\n"
    b"HugetlbPages:\t    2048 kB\nCoreDumping:\t1\n"
)
_STATUS_TAIL = (
    b"Threads:\t2\nSigQ:\t1/96365\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\nSigBlk:\t0000000000000004\n"
    b"SigIgn:\t0000000001001000\nSigCgt:\tffffffff80000000\nCapInh:\t0000000000000001\nCapPrm:\t0000003fffffffff\n"
    b"CapEff:\t0000000000000020\nCapBnd:\t0000003fffffffff\nCapAmb:\t0000000000000001\nNoNewPrivs:\t1\nSeccomp:\t2\n"
)
_STATUS_END = (
    b"Cpus_allowed:\tff,0000000f\nCpus_allowed_list:\t0-3,32-39\nMems_allowed:\t00000000,00000003\nMems_allowed_list:\t0-1\n"
    b"voluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n"
)
STATUS_4_18 = _STATUS_HEAD + _STATUS_MEMORY + _STATUS_TAIL + b"Speculation_Store_Bypass:\tvulnerable\n" + _STATUS_END
# 5.0 THP_enabled; 5.9 Seccomp_filters; 5.16 SpeculationIndirectBranch.
STATUS_5_16 = (
    _STATUS_HEAD
    + _STATUS_MEMORY
    + b"THP_enabled:\t1\n"
    + _STATUS_TAIL
    + b"Seccomp_filters:\t3\nSpeculation_Store_Bypass:\tthread vulnerable\nSpeculationIndirectBranch:\tconditional enabled\n"
    + _STATUS_END
)
# 6.4 untag_mask; 6.6 x86_Thread_features; 6.8 Kthread.
STATUS_6_8 = (
    _STATUS_HEAD
    + b"Kthread:\t0\n"
    + _STATUS_MEMORY
    + b"THP_enabled:\t0\nuntag_mask:\t0xffffffffffffffff\n"
    + _STATUS_TAIL
    + b"Seccomp_filters:\t0\nSpeculation_Store_Bypass:\tnot vulnerable\nSpeculationIndirectBranch:\talways enabled\n"
    + _STATUS_END
    + b"x86_Thread_features:\tshstk\nx86_Thread_features_locked:\t\n"
)
_ROOTS = _STATUS_HEAD.replace(b"1000\t1001\t1002\t1003", b"0\t0\t0\t0").replace(b"PPid:\t1", b"PPid:\t2")
STATUS_KTHREAD_4_18 = _ROOTS + _STATUS_TAIL + _STATUS_END
STATUS_KTHREAD_6_8 = _ROOTS + b"Kthread:\t1\n" + _STATUS_TAIL + _STATUS_END
# A zombie has no files and no memory: neither Umask nor Vm lines.
STATUS_ZOMBIE = (
    _STATUS_HEAD.replace(b"Umask:\t0027\n", b"")
    .replace(b"S (sleeping)", b"Z (zombie)")
    .replace(b"FDSize:\t64", b"FDSize:\t0")
    + _STATUS_TAIL
    + _STATUS_END
)
STATUS_ENDING = _STATUS_HEAD + b"Kthread:\t0\n" + _STATUS_TAIL + _STATUS_END

LIMITS = b"""Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             unlimited            unlimited            bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max core file size        0                    unlimited            bytes     
Max resident set          unlimited            unlimited            bytes     
Max processes             96365                96365                processes 
Max open files            1024                 524288               files     
Max locked memory         8388608              8388608              bytes     
Max address space         unlimited            unlimited            bytes     
Max file locks            unlimited            unlimited            locks     
Max pending signals       96365                96365                signals   
Max msgqueue size         819200               819200               bytes     
Max nice priority         0                    40                   
Max realtime priority     0                    0                    
Max realtime timeout      unlimited            200000               us        
"""  # noqa: W291

MAPS = (
    b"55c612ddc000-55c612dde000 r--p 00002000 fe:01 247278                     /usr/bin/a b (deleted)\n"
    b"55d000000000-55d000021000 rw-p 00000000 00:00 0                          [heap]\n"
    b"7f0000000000-7f0000001000 rw-s 00000000 00:01 1025                       /memfd:x\\012y (deleted)\n"
    b"7f0000001000-7f0000002000 rw-p 00000000 00:00 0 \n"
    b"7f0000002000-7f0000003000 rw-p 00000000 00:00 0                          [anon:glibc: malloc]\n"  # 5.17
    b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
)
_SMAP_4_18 = (
    b"Size:                  8 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\nRss:                   8 kB\n"
    b"Pss:                   3 kB\nShared_Clean:          4 kB\nShared_Dirty:          0 kB\nPrivate_Clean:         3 kB\n"
    b"Private_Dirty:         1 kB\nReferenced:            8 kB\nAnonymous:             1 kB\nLazyFree:              0 kB\n"
    b"AnonHugePages:         0 kB\nShmemPmdMapped:        0 kB\nShared_Hugetlb:        0 kB\nPrivate_Hugetlb:       0 kB\n"
    b"Swap:                  2 kB\nSwapPss:               2 kB\nLocked:                0 kB\n"
)
_HEADS = MAPS.split(b"\n")
SMAPS_4_18 = b"".join(
    head + b"\n" + _SMAP_4_18 + b"VmFlags: rd wr mr mw me ac sd \n" for head in (_HEADS[0], _HEADS[3], _HEADS[4])
)
# 5.0 THPeligible, with blanks before 6.1 and without since; 5.4 FilePmdMapped; 6.0 Pss_Dirty; 6.7 KSM.
SMAPS_6_18 = (
    _HEADS[1]
    + b"\n"
    + _SMAP_4_18.replace(b"Shared_Clean", b"Pss_Dirty:             1 kB\nShared_Clean")
    .replace(b"LazyFree", b"KSM:                   4 kB\nLazyFree")
    .replace(b"Shared_Hugetlb", b"FilePmdMapped:         0 kB\nShared_Hugetlb")
    + b"THPeligible:           1\nProtectionKey:         5\nVmFlags: rd wr mr mw me ac \n"
)
_ROLLUP = b"".join(line + b"\n" for line in _SMAP_4_18.split(b"\n")[3:] if line)
ROLLUP_4_18 = b"55c612ddc000-7ffe74b12000 ---p 00000000 00:00 0                          [rollup]\n" + _ROLLUP
# 5.3 Pss_Anon, Pss_File, Pss_Shmem.
ROLLUP_5_3 = ROLLUP_4_18.replace(
    b"Shared_Clean",
    b"Pss_Anon:              1 kB\nPss_File:              2 kB\nPss_Shmem:             0 kB\nShared_Clean",
)

NUMA_MAPS = (
    b"55c612ddc000 default file=/usr/bin/a\\040b mapped=2 mapmax=7 active=1 N0=1 N1=1 kernelpagesize_kB=4\n"
    b"55d000000000 default heap anon=3 dirty=3 swapcache=1 writeback=1 N0=3 kernelpagesize_kB=4\n"
    b"7ffe00000000 bind:0-1 stack anon=2 dirty=2 N0=2 kernelpagesize_kB=4\n"
    b"7f0000000000 prefer (many):0 huge dirty=1 N0=1 kernelpagesize_kB=2048\n"  # 5.15
    b"7f0000200000 weighted interleave:0-1\n"  # 6.9
    b"7f0000300000 prefer=relative:1\n"
)

CGROUP_V1 = b"12:cpu,cpuacct:/user.slice\n9:name=systemd:/a:b (deleted)\n0::/user.slice/session-1.scope\n"
CGROUP_V2 = b"0::/../outside\n"

MOUNTINFO = (
    b"22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw\n"
    b"36 35 98:0 /mnt1 /mnt\\0402\\134\\012x rw,noatime master:1 propagate_from:2 - ext3 /dev/root\\043 rw,errors=continue\n"
    b"40 27 0:50 / /none rw - tmpfs  rw,size=4k\n"
    b"41 27 0:51 / /fuse ro - fuse.sshfs host:/a\\040b ro,user_id=0\n"
)
MOUNTS = (
    b"proc /proc proc rw,relatime 0 0\n/dev/root\\040x /mnt\\0112 ext4 rw,errors=remount-ro 1 2\n tmp tmpfs rw 0 0\n"
)

FDINFO_4_18 = b"pos:\t11277\nflags:\t0100001\nmnt_id:\t27\n"
FDINFO_5_14 = FDINFO_4_18 + b"ino:\t10534981\n"
FDINFO_LOCKS = (
    FDINFO_5_14
    + b"lock:\t1: FLOCK  ADVISORY  WRITE 1466 fe:00:13 0 EOF\nlock:\t2: OFDLCK ADVISORY  READ -1 fe:00:13 5 9\n"
)
FDINFO_EPOLL_4_12 = FDINFO_4_18 + b"tfd:        5 events:       19 data: 7fff00000005\n"
FDINFO_EPOLL = (
    FDINFO_5_14
    + b"tfd:        5 events:       19 data: 7fff00000005  pos:0 ino:e sdev:d\n"
    + b"tfd:       12 events: 8000201d data:                c  pos:-1 ino:1f sdev:fe00000\n"
)
FDINFO_INOTIFY = (
    FDINFO_5_14
    + b"inotify wd:1 ino:2b sdev:fe00000 mask:fce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:2b00000000000000\n"
    + b"inotify wd:a ino:2c sdev:fe00000 mask:fce ignored_mask:10 \n"
)
FDINFO_TIMERFD = (
    FDINFO_5_14 + b"clockid: 1\nticks: 4\nsettime flags: 01\nit_value: (0, 49406829)\nit_interval: (1, 5)\n"
)
FDINFO_OTHERS = {
    "eventfd": FDINFO_5_14 + b"eventfd-count:                a\neventfd-id: 3\neventfd-semaphore: 1\n",
    "signalfd": FDINFO_5_14 + b"sigmask:\t0000000000004002\n",
    "pidfd": FDINFO_5_14 + b"Pid:\t1592\nNSpid:\t1592\t3\n",
    "pidfd gone": FDINFO_5_14 + b"Pid:\t-1\nNSpid:\t-1\n",
    "fanotify": FDINFO_5_14
    + b"fanotify flags:10 event-flags:0\nfanotify ino:2b sdev:fe00000 mflags:0 mask:3b ignored_mask:0\n",
}

TCP = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    + b" " * 53
    + b"\n   0: 0100007F:07E8 00000000:0000 0A 00000000:00000005 00:00000000 00000000  1000        0 555 1 "
    b"000000002c43fc1a 100 0 0 10 0                       \n"
    b"   1: 0200A8C0:C001 0101A8C0:01BB 01 00000010:00000000 01:0000001A 00000002     0        1 777 2 "
    b"0000000000000000 26 4 30 10 -1                      \n"
    b"   2: 0200A8C0:C002 0101A8C0:01BB 06 00000000:00000000 03:000016D5 00000000     0        0 0 3 "
    b"ffff9d5a5a5a5a5a                                    \n"
)
TCP6 = (
    b"  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when "
    b"retrnsmt   uid  timeout inode\n"
    b"   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 "
    b"00000000     0        0 20000 1 0000000000000000 100 0 0 10 0\n"
    b"   1: 0000000000000000FFFF00000200A8C0:0016 B80D0120000000000000000001000000:D431 01 00000000:00000000 02:00000001 "
    b"00000000     0        0 20001 1 0000000000000000 20 4 29 10 -1\n"
)
UDP = (
    b"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops "
    b"            \n"
    b"  412: 3500007F:0035 00000000:0000 07 00000000:00000300 00:00000000 00000000   101        0 20100 2 "
    b"0000000000000000 17      \n"
)
UNIX = (
    b"Num       RefCount Protocol Flags    Type St Inode Path\n"
    b"0000000000000000: 00000002 00000000 00010000 0001 01 20245 /run/a b\n"
    b"0000000000000000: 00000003 00000000 00000000 0002 03  1142\n"
    b"0000000000000000: 00000002 00000000 00010000 0005 01 20246 @abs@x\n"
    b"(____ptrval____): 00000002 00000000 00010000 0001 01 20247 /tmp/two\n\nlines\n"
    b"0000000000000000: 00000002 00000000 00010000 0001 01 20248 /last\xff\n"
)
ROUTE = (
    b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT" + b" " * 55 + b"\n"
    b"eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t1400\t0\t0" + b" " * 70 + b"\n"
    b"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0" + b" " * 70 + b"\n"
)
DEV = (
    b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
    b"compressed\n"
    b"    lo: 1270663    4209    0    0    0     0          0         0  1270663    4209    0    0    0     0       0"
    b"          0\n"
    b"eth0:1:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
)
ARP = (
    b"IP address       HW type     Flags       HW address            Mask     Device\n"
    b"192.0.2.1        0x1         0x2         02:fc:00:00:00:05     *        eth0\n"
)
NETLINK = (
    b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
    b"000000000a927017 0   0          00000000 0        0        0     2        0        4       \n"
    b"00000000f3d2642f 15  4294962001 00000001 212      1        1     3        9        480     \n"
)
PACKET = (
    b"sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
    b"00000000f3d2642f 3      3    0003   2     1 512    0      22001 \n"
)
SNMP = b"Ip: Forwarding DefaultTTL\nIp: 2 64\nTcp: RtoAlgorithm MaxConn\nTcp: 1 -1\n"
SOCKSTAT = b"sockets: used 16\nTCP: inuse 1 orphan 0 tw 3 alloc 1 mem 400\nUDPLITE: inuse 0\n"
IF_INET6 = (
    b"fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n"
)

KERNEL_STAT = (
    b"cpu  677188 684361 754994 2913628 9090 1 2740 3032 5 6\ncpu0 295438 323069 370211 1528857 2283 0 678 1617 0 0\n"
    b"cpu3 381749 361292 384782 1384771 6806 0 2062 1415 0 0\nintr 100 0 40 60\nctxt 150901987\nbtime 1795505502\n"
    b"processes 7409533\nprocs_running 3\nprocs_blocked 1\nsoftirq 30 0 10 4 1 2 0 3 5 0 5\n"
)
_MEMINFO = (
    b"MemTotal:       24684084 kB\nMemFree:        23594796 kB\nMemAvailable:   24034852 kB\nBuffers:            7472 kB\n"
    b"Cached:           525444 kB\nSwapCached:            0 kB\nActive(anon):      39560 kB\nCommitted_AS:     188344 kB\n"
    b"SReclaimable:     296560 kB\nHugePages_Total:       5\nHugePages_Free:        3\nHugepagesize:       2048 kB\n"
    b"DirectMap2M:     2068480 kB\n"
)
MEMINFO_4_18 = _MEMINFO
MEMINFO_6_1 = (
    _MEMINFO + b"KReclaimable:     296561 kB\nSecPageTables:        4 kB\nPercpu:              856 kB\nZswap: 8 kB\n"
)
DISK_4_17 = b"   8       0 sda 100 10 2000 30 200 20 4000 60 1 90 91\n"
DISK_4_18 = b"   8       1 sda1 100 10 2000 30 200 20 4000 60 1 90 91 7 6 5 4\n"
DISK_5_5 = b" 259       0 nvme0n1 100 10 2000 30 200 20 4000 60 0 90 91 7 6 5 4 3 2\n"
PRESSURE_4_20 = b"some avg10=0.32 avg60=0.94 avg300=6.67 total=5937470583\n"
PRESSURE_5_13 = PRESSURE_4_20 + b"full avg10=0.00 avg60=0.00 avg300=12.50 total=7\n"
PRESSURE_IRQ = b"full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"  # 6.1
PARTITIONS = b"major minor  #blocks  name\n\n 254        0  268435456 vda\n   8       17   1048576 sdb1\n"
CPUINFO_X86 = (
    b"processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R): odd\ncpu MHz\t\t: 2596.144\n"
    b"physical id\t: 1\ncore id\t\t: 4\nflags\t\t: fpu vme\npower management:\n\n"
    b"processor\t: 5\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R): odd\ncpu MHz\t\t: 800\nflags\t\t: fpu\n\n"
    b"processor\t: 6\nmodel name\t: idle\ncpu MHz\t\t: Unknown\n\n"
)
CPUINFO_ARM64 = (
    b"processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    b"CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\nprocessor\t: 1\nFeatures\t: fp\nCPU part\t: 0xd0c\n\n"
)
CPUINFO_ARM = (
    b"processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nBogoMIPS\t: 38.40\nFeatures\t: half thumb neon\n"
    b"CPU part\t: 0xd03\n\nHardware\t: BCM2835\nRevision\t: a02082\nSerial\t\t: 00000000\nModel\t\t: Raspberry Pi 3\n"
)
CPUINFO_RISCV = b"processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\nuarch\t\t: sifive,u74-mc\n\n"
# Heads of other architectures, whose CPUs have no block with a number of their own.
CPUINFO_S390 = b"vendor_id       : IBM/S390\n# processors    : 2\nprocessor 0: version = FF,  identification = 1,  machine = 2964\n"
MODULES = (
    b"nf_tables 245760 3 nft_compat,nft_ct, Live 0xffffffffc0a00000\nvboxdrv 1 0 - Live 0x0000000000000000 (OE)\n"
    b"fixed 4096 - [permanent], Live 0x0000000000000000\n"
)
LOCKS = (
    b"1: POSIX  ADVISORY  WRITE 2171 fe:00:1234 0 EOF\n1: -> POSIX  ADVISORY  READ 2172 fe:00:1234 5 9\n"
    b"2: LEASE  BREAKING  READ 55 08:11:99 0 EOF\n3: OFDLCK ADVISORY  WRITE -1 00:2a:7 0 0\n"
    b"4: FLOCK  ADVISORY  WRITE 6 <none>:0 0 EOF\n"
)
DEVICES = b"Character devices:\n  1 mem\n  4 /dev/vc/0\n  4 tty\n\nBlock devices:\n  7 loop\n259 blkext\n"
CGROUPS = b"#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t0\t57\t0\n"
SWAPS = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/swap\\040a                               file\t\t2097148\t\t12\t\t-2\n"

FORMS: list[tuple[str, str, bytes]] = [
    ("stat", "4.18", STAT),
    ("stat", "4.18, denied", STAT_DENIED),
    ("stat", "4.18, kernel thread", STAT_KERNEL_THREAD),
    ("stat", "4.18, zombie", STAT_ZOMBIE),
    ("statm", "4.18", b"765 442 414 5 0 123 0\n"),
    ("status", "4.18", STATUS_4_18),
    ("status", "5.16", STATUS_5_16),
    ("status", "6.8", STATUS_6_8),
    ("status", "4.18, kernel thread", STATUS_KTHREAD_4_18),
    ("status", "6.8, kernel thread", STATUS_KTHREAD_6_8),
    ("status", "4.18, zombie", STATUS_ZOMBIE),
    ("status", "6.8, ending", STATUS_ENDING),
    (
        "io",
        "4.18",
        b"rchar: 7299\nwchar: 323\nsyscr: 14\nsyscw: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 1\n",
    ),
    ("schedstat", "4.18", b"1072842 2737759 2\n"),
    ("syscall", "running", b"running\n"),
    ("syscall", "blocked", b"-1 0x7fff62edba18 0x7ff9698922ad\n"),
    ("syscall", "in a call", b"0 0x3 0x7ff969716000 0x20000 0x22 0xffffffff 0x0 0x7fff62edba18 0x7ff9698922ad\n"),
    ("limits", "4.18", LIMITS),
    ("maps", "6.18", MAPS),
    ("smaps", "4.18", SMAPS_4_18),
    ("smaps", "6.18", SMAPS_6_18),
    ("smaps_rollup", "4.18", ROLLUP_4_18),
    ("smaps_rollup", "5.3", ROLLUP_5_3),
    ("numa_maps", "6.18", NUMA_MAPS),
    ("cgroup", "v1", CGROUP_V1),
    ("cgroup", "v2", CGROUP_V2),
    ("mountinfo", "4.18", MOUNTINFO),
    ("mounts", "4.18", MOUNTS),
    ("swaps", "4.18", SWAPS),
    ("id_map", "4.18", b"         0       1000          1\n      1000     100000      65536\n"),
    ("autogroup", "4.18", b"/autogroup-343951 nice -5\n"),
    ("timens_offsets", "5.5", b"monotonic           0         0\nboottime          -60         5\n"),
    ("fdinfo", "4.18", FDINFO_4_18),
    ("fdinfo", "5.14", FDINFO_5_14),
    ("fdinfo", "locks", FDINFO_LOCKS),
    ("fdinfo", "epoll, old", FDINFO_EPOLL_4_12),
    ("fdinfo", "epoll", FDINFO_EPOLL),
    ("fdinfo", "inotify", FDINFO_INOTIFY),
    ("fdinfo", "timerfd", FDINFO_TIMERFD),
    *(("fdinfo", kind, data) for kind, data in FDINFO_OTHERS.items()),
    ("locks", "4.18", LOCKS),
    ("inet", "tcp", TCP),
    ("inet", "tcp6", TCP6),
    ("inet", "udp", UDP),
    ("unix", "4.18", UNIX),
    ("route", "4.18", ROUTE),
    ("dev", "4.18", DEV),
    ("arp", "4.18", ARP),
    ("netlink", "4.18", NETLINK),
    ("packet", "4.18", PACKET),
    ("counters", "4.18", SNMP),
    ("sockstat", "4.18", SOCKSTAT),
    ("if_inet6", "4.18", IF_INET6),
    ("kernel_stat", "4.18", KERNEL_STAT),
    ("meminfo", "4.18", MEMINFO_4_18),
    ("meminfo", "6.1", MEMINFO_6_1),
    ("loadavg", "4.18", b"0.70 2.17 12.49 2/104 25648\n"),
    ("uptime", "4.18", b"25351.72 29136.33\n"),
    ("vmstat", "4.18", b"nr_free_pages 3452593\nnr_dirty 0\noom_kill 2\n"),
    ("pressure", "4.20", PRESSURE_4_20),
    ("pressure", "5.13", PRESSURE_5_13),
    ("pressure", "6.1, irq", PRESSURE_IRQ),
    ("diskstats", "4.17", DISK_4_17),
    ("diskstats", "4.18", DISK_4_18),
    ("diskstats", "5.5", DISK_5_5),
    ("partitions", "4.18", PARTITIONS),
    ("cpuinfo", "x86", CPUINFO_X86),
    ("cpuinfo", "arm64", CPUINFO_ARM64),
    ("cpuinfo", "arm", CPUINFO_ARM),
    ("cpuinfo", "riscv", CPUINFO_RISCV),
    ("cpuinfo", "s390", CPUINFO_S390),
    ("modules", "4.18", MODULES),
    ("devices", "4.18", DEVICES),
    ("cgroups", "4.18", CGROUPS),
    ("filesystems", "4.18", b"nodev\tsysfs\n\text4\nnodev\tproc\n"),
    ("number", "4.18", b"-1000\n"),
    ("hex", "4.18", b"00000033\n"),
    ("unset", "4.18", b"4294967295"),
    ("line", "4.18", b"poll_schedule_timeout.constprop.0"),
    ("pids", "4.18", b"12 34 56 "),
    ("cmdline", "4.18", b"sh\0-c\0\0a b\0"),
    ("environ", "4.18", b"A=1\0B=x=y\0A=2\0odd\0=z\0C=\0"),
    ("auxv", "64-bit", bytes.fromhex("0600000000000000001000000000000011000000000000006400000000000000" + "00" * 16)),
    ("auxv", "32-bit", bytes.fromhex("06000000001000001100000064000000" + "00" * 8)),
    ("target", "path", b"/tmp/a (deleted)"),
    ("target", "socket", b"socket:[1234]"),
    ("sysctl", "numbers", b"2747\t0\t2466170\n"),
]
