"""The fields of a snapshot: the meaning and unit of each, and the conversion of its bytes to a value.

The names come from proc(5): names in stat, statm and io are unchanged, names in status are in lower case with
underscores. Namespaces have the names of ps(1). Times are in seconds, sizes in bytes. The C core has the list of fields
that can be read (csrc/proc/fields.c). A test compares the two.
"""

from __future__ import annotations

from errno import errorcode
from os import fsdecode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

UNTOLD = 1004
"""The C core's FP_ABSENT_UNTOLD, for a field that is computed from a missing file."""
NEW = 1007
"""No rate is available: the process did not exist before, or its pid belonged to another process."""

REASONS = {
    "gone": "the process has ended or did not exist",
    "zombie": "the process is a zombie and does not have this value any more",
    "kernel thread": "kernel threads do not have this value",
    "not in this kernel": "this kernel, or the directory of `root`, does not have this file or line",
    "malformed": "the file is not in the format of proc(5)",
    "hidden": "the process exists, and this /proc hides it (hidepid=)",
    "new": "there is no earlier value of this process",
}
"""Why a value is absent, apart from the errno of reading it ("EACCES", "EPERM", ...)."""

_WORDS = {"kthread": "kernel thread", "untold": "not in this kernel", "format": "malformed"}


def reason(code: int, absent: dict[int, str]) -> str:
    """Return the word for a reason, or the name of an errno; `absent` maps the codes of the C core to words."""
    if code == NEW:
        return "new"
    known = absent.get(code)
    if known is not None:
        return _WORDS.get(known, known)
    return errorcode.get(code, f"errno {code}")


_ABOUT = """
pid                   |              | process id
comm                  |              | name in the kernel: up to 15 bytes, set by the process
state                 |              | R S D Z T t X I, as ps(1) shows it
ppid                  |              | pid of the parent; 0 for none, or if it is outside this PID namespace
pgrp                  |              | process group id
session               |              | session id
tty_nr                |              | device number of the controlling terminal, 0 for none
tpgid                 |              | foreground process group of that terminal, -1 for none
flags                 |              | the kernel's PF_ bits
minflt                |              | page faults without disk access
cminflt               |              | minflt of children that were waited for
majflt                |              | page faults with disk access
cmajflt               |              | majflt of children that were waited for
utime                 | seconds      | CPU time in user mode
stime                 | seconds      | CPU time in kernel mode
cutime                | seconds      | utime of children that were waited for
cstime                | seconds      | stime of children that were waited for
priority              |              | scheduling priority in the kernel's form
nice                  |              | nice value, -20 to 19
num_threads           |              | number of threads
itrealvalue           |              | always 0
starttime             | seconds      | start time since boot; pid and starttime identify a process
vsize                 | bytes        | virtual memory
rss                   | bytes        | resident memory by the kernel's fast counter; `resident` is exact
rsslim                | bytes        | RLIMIT_RSS
startcode             | address      | start of the program's code; addresses are visible if you may trace the process
endcode               | address      | end of the program's code
startstack            | address      | start of the stack
kstkesp               | address      | stack pointer; 0 unless the process is exiting
kstkeip               | address      | instruction pointer; 0 unless the process is exiting
signal                | bit set      | pending signals; obsolete, see sigpnd
blocked               | bit set      | blocked signals; obsolete, see sigblk
sigignore             | bit set      | ignored signals; obsolete, see sigign
sigcatch              | bit set      | caught signals; obsolete, see sigcgt
wchan                 |              | 1 if the process waits in the kernel
nswap                 |              | always 0
cnswap                |              | always 0
exit_signal           | signal       | signal that is sent to the parent when the process exits
processor             |              | CPU on which the process ran last
rt_priority           |              | real-time priority; 0 for none
policy                |              | scheduling policy (SCHED_*)
delayacct_blkio_ticks | seconds      | time waited for block I/O; 0 without delay accounting
guest_time            | seconds      | time running virtual CPUs
cguest_time           | seconds      | guest_time of children that were waited for
start_data            | address      | start of the data
end_data              | address      | end of the data
start_brk             | address      | start of the heap
arg_start             | address      | start of the arguments
arg_end               | address      | end of the arguments
env_start             | address      | start of the environment
env_end               | address      | end of the environment
exit_code             |              | status of a zombie as for wait(2); visible if you may trace the process
name                  |              | comm; if that has 15 bytes, the longer name in cmdline (takes the memory lock)
size                  | bytes        | virtual memory
resident              | bytes        | resident memory
shared                | bytes        | resident memory of files and of shared memory
text                  | bytes        | code
lib                   | bytes        | always 0
data                  | bytes        | data and stack
dt                    | bytes        | always 0
umask                 |              | file mode mask
tgid                  |              | thread group id: the pid of the process
tracer_pid            |              | pid of the tracer; 0 for none
uid                   |              | real user id
euid                  |              | effective user id
suid                  |              | saved user id
fsuid                 |              | file system user id
gid                   |              | real group id
egid                  |              | effective group id
sgid                  |              | saved group id
fsgid                 |              | file system group id
groups                | numbers      | supplementary groups
ns_pid                | numbers      | pids in this PID namespace and in those below it
fd_size               |              | size of the descriptor table
vm_peak               | bytes        | largest virtual memory
vm_size               | bytes        | virtual memory
vm_lck                | bytes        | locked memory
vm_pin                | bytes        | pinned memory
vm_hwm                | bytes        | largest resident memory
vm_rss                | bytes        | resident memory
rss_anon              | bytes        | resident anonymous memory
rss_file              | bytes        | resident memory of files
rss_shmem             | bytes        | resident shared memory
vm_data               | bytes        | data
vm_stk                | bytes        | stack
vm_exe                | bytes        | code
vm_lib                | bytes        | code of libraries
vm_pte                | bytes        | page tables
vm_swap               | bytes        | swapped out, without shared memory
sigpnd               | bit set      | signals pending for the main thread
shdpnd               | bit set      | signals pending for the process
sigblk               | bit set      | blocked signals
sigign               | bit set      | ignored signals
sigcgt               | bit set      | caught signals
cap_inh               | bit set      | inheritable capabilities
cap_prm               | bit set      | permitted capabilities
cap_eff               | bit set      | effective capabilities
cap_bnd               | bit set      | bounding capabilities
cap_amb               | bit set      | ambient capabilities
no_new_privs          |              | 1 if execve(2) cannot grant privileges
seccomp               |              | 0 off, 1 strict, 2 filter
cpus_allowed_list     |              | allowed CPUs, such as "0-3,7"
mems_allowed_list     |              | allowed memory nodes
voluntary_ctxt_switches    |         | how often the main thread gave up the CPU
nonvoluntary_ctxt_switches |         | how often the main thread was preempted
rchar                 | bytes        | read by system calls, from any file
wchar                 | bytes        | written by system calls, to any file
syscr                 |              | number of read system calls
syscw                 |              | number of write system calls
read_bytes            | bytes        | read from disks; the values of a child are added when it is reaped
write_bytes           | bytes        | written to disks
cancelled_write_bytes | bytes        | part of write_bytes that was discarded by truncation
pss                   | bytes        | resident memory; shared pages are divided by the number of sharers
uss                   | bytes        | resident memory that no other process shares
swap                  | bytes        | swapped-out memory
swap_pss              | bytes        | swapped-out memory; shared pages are divided by the number of sharers
cmdline               | strings      | arguments, as the process shows them
environ               | dict         | environment at the last execve(2)
exe                   |              | path of the program; with " (deleted)" at the end if the file was removed
cwd                   |              | working directory
root                  |              | root directory
cgroup                | dict         | path of the cgroup by controllers (v1) or "" (v2)
limits                |              | contents of /proc/PID/limits
num_fds               |              | number of open descriptors; for other users' processes since Linux 6.2
oom_score             |              | score of the OOM killer; the highest score is killed first
oom_score_adj         |              | adjustment of oom_score, -1000 to 1000
loginuid              |              | user id at login; 4294967295 for none
sessionid             |              | audit session; 4294967295 for none
sched_run_ns          | nanoseconds  | time the main thread ran
sched_wait_ns         | nanoseconds  | time the main thread was runnable and waited for a CPU
sched_timeslices      |              | how often the main thread got a CPU
cgroupns              | inode        | cgroup namespace
ipcns                 | inode        | IPC namespace
mntns                 | inode        | mount namespace
netns                 | inode        | network namespace
pidns                 | inode        | PID namespace
timens                | inode        | time namespace
userns                | inode        | user namespace
utsns                 | inode        | UTS namespace
cpu_time              | seconds      | utime plus stime
create_time           | seconds      | start time since 1970
age                   | seconds      | time since the start
kthread               |              | whether the process is a kernel thread
"""


def _table() -> dict[str, tuple[str, str]]:
    rows = (line.split("|") for line in _ABOUT.strip().splitlines())
    return {name.strip(): (unit.strip(), about.strip()) for name, unit, about in rows}


ABOUT: dict[str, tuple[str, str]] = _table()
"""The unit and the meaning of each field."""

DEFAULT = ("pid", "ppid", "name", "state", "utime", "stime", "rss", "num_threads", "starttime")
"""The default fields. All come from stat, so they cost least."""

DERIVED = {
    "cpu_time": ("utime", "stime"),
    "create_time": ("starttime",),
    "age": ("starttime",),
    "kthread": ("flags",),
}
"""Computed fields, and the fields that they are computed from."""

COUNTERS = (
    *("minflt", "majflt", "rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"),
    *("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "delayacct_blkio_ticks", "sched_timeslices"),
)
"""Counters. Two snapshots give a rate of each: NAME_per_s. utime and stime give cpu_percent."""

PF_KTHREAD = 0x00200000


def expand(fields: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the requested fields without duplicates, and the fields that must be read for them.

    Raises:
        TypeError: `fields` is one string, or an item is not a string.
        ValueError: there is no such field.
    """
    if isinstance(fields, (str, bytes)):
        raise TypeError(f"fields: must be several names, not {fields!r}")
    asked = tuple(dict.fromkeys(fields))
    read: dict[str, None] = {"pid": None}
    for name in asked:
        if not isinstance(name, str):
            raise TypeError(f"fields: a name must be a string, not {name!r}")
        if name not in ABOUT:
            raise ValueError(f"fields: there is no {name!r}; fastproc.info.FIELDS has all fields")
        read.update(dict.fromkeys(DERIVED.get(name, (name,))))
    return asked, tuple(read)


def _numbers(raw: bytes) -> tuple[int, ...] | None:
    words = raw.split()
    if any(not word.isdigit() or len(word) > 20 for word in words):
        return None
    return tuple(map(int, words))


def _strings(raw: bytes) -> list[str]:
    return [fsdecode(part) for part in raw.removesuffix(b"\0").split(b"\0")] if raw else []


def _environ(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in raw.split(b"\0"):
        name, equals, value = part.partition(b"=")
        # The process may have overwritten its environment. Of a repeated name getenv(3) returns the first.
        if equals:
            found.setdefault(fsdecode(name), fsdecode(value))
    return found


def _cgroup(raw: bytes) -> dict[str, str]:
    found = {}
    for line in raw.splitlines():
        _, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        found[fsdecode(controllers)] = fsdecode(path)
    return found


DECODERS: dict[str, Callable[[bytes], object]] = {
    "groups": _numbers,
    "ns_pid": _numbers,
    "cmdline": _strings,
    "environ": _environ,
    "cgroup": _cgroup,
}
"""Functions that convert the bytes of a field to its value. Default: os.fsdecode."""

UNORDERED = ("environ", "cgroup")
"""Fields whose values are dicts, which cannot be ordered."""
