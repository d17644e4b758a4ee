"""The fields of a snapshot: what each means, in which unit, and how its bytes become a value.

The names are those of proc(5): of stat, statm and io as they are, of status in lower case with underscores, of
namespaces as ps(1) has them. Times are in seconds, sizes in bytes. What is there to read is the C core's list
(csrc/proc/fields.c); a test compares the two.
"""

from __future__ import annotations

from errno import errorcode
from os import fsdecode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

UNTOLD = 1004
"""The C core's FP_ABSENT_UNTOLD, for what is computed of a file that is not there."""
NEW = 1007
"""Why there is no rate: the process was not there before, or its pid was another's."""

REASONS = {
    "gone": "the process had ended, or there was none",
    "zombie": "it has ended and waits for its parent, and has no such thing any more",
    "kernel thread": "a kernel thread has no such thing",
    "not in this kernel": "this kernel, or the folder that stands for it, has no such file or line",
    "malformed": "the file says something else than proc(5) promises",
    "hidden": "the process lives, and this /proc does not show it (hidepid=)",
    "new": "there is no earlier value of this process",
}
"""Why a value is absent, apart from the errno of reading it ("EACCES", "EPERM", ...)."""

_WORDS = {"kthread": "kernel thread", "untold": "not in this kernel", "format": "malformed"}


def reason(code: int, absent: dict[int, str]) -> str:
    """Return a reason's word, or the errno's name; `absent` has the C core's own codes."""
    if code == NEW:
        return "new"
    known = absent.get(code)
    if known is not None:
        return _WORDS.get(known, known)
    return errorcode.get(code, f"errno {code}")


_ABOUT = """
pid                   |              | number of the process
comm                  |              | name that the kernel keeps: 15 bytes, chosen by the process
state                 |              | R S D Z T t X I, as ps(1) shows it
ppid                  |              | parent; 0 for none, or one outside this PID namespace
pgrp                  |              | process group
session               |              | session
tty_nr                |              | device number of the controlling terminal, 0 for none
tpgid                 |              | foreground process group of that terminal, -1 for none
flags                 |              | the kernel's PF_ bits
minflt                |              | page faults that needed no disk
cminflt               |              | those of children that were waited for
majflt                |              | page faults that needed one
cmajflt               |              | those of children that were waited for
utime                 | seconds      | CPU time in user mode
stime                 | seconds      | CPU time in the kernel
cutime                | seconds      | user time of children that were waited for
cstime                | seconds      | kernel time of children that were waited for
priority              |              | scheduling priority as the kernel keeps it
nice                  |              | -20 to 19
num_threads           |              | threads
itrealvalue           |              | always 0
starttime             | seconds      | when it began, since boot; with the pid it names the process
vsize                 | bytes        | virtual memory
rss                   | bytes        | resident memory by the kernel's quick count; `resident` is exact
rsslim                | bytes        | RLIMIT_RSS
startcode             | address      | where the program's code begins, for who may trace the process, as all addresses
endcode               | address      | where it ends
startstack            | address      | where the stack begins
kstkesp               | address      | stack pointer; 0 unless the process is exiting
kstkeip               | address      | instruction pointer; 0 unless the process is exiting
signal                | bit set      | pending signals, obsolete: see sigpnd
blocked               | bit set      | blocked signals, obsolete: see sigblk
sigignore             | bit set      | ignored signals, obsolete: see sigign
sigcatch              | bit set      | caught signals, obsolete: see sigcgt
wchan                 |              | 1 if it waits in the kernel
nswap                 |              | always 0
cnswap                |              | always 0
exit_signal           | signal       | what its parent gets at its end
processor             |              | CPU that it ran on last
rt_priority           |              | real-time priority, 0 for none
policy                |              | SCHED_ policy
delayacct_blkio_ticks | seconds      | time waited for disks; 0 without delay accounting
guest_time            | seconds      | time of virtual CPUs
cguest_time           | seconds      | the same of children that were waited for
start_data            | address      | where its data begins
end_data              | address      | where it ends
start_brk             | address      | where the heap begins
arg_start             | address      | where the arguments begin
arg_end               | address      | where they end
env_start             | address      | where the environment begins
env_end               | address      | where it ends
exit_code             |              | of a zombie, as wait(2) has it, for who may trace the process
name                  |              | comm; where it has 15 bytes, by cmdline, which takes the lock of its memory
size                  | bytes        | virtual memory
resident              | bytes        | resident memory
shared                | bytes        | resident memory of files and shared memory
text                  | bytes        | code
lib                   | bytes        | always 0
data                  | bytes        | data and stack
dt                    | bytes        | always 0
umask                 |              | file mode mask
tgid                  |              | thread group: the pid of its process
tracer_pid            |              | who traces it, 0 for nobody
uid                   |              | real user
euid                  |              | effective user
suid                  |              | saved user
fsuid                 |              | file system user
gid                   |              | real group
egid                  |              | effective group
sgid                  |              | saved group
fsgid                 |              | file system group
groups                | numbers      | supplementary groups
ns_pid                 | numbers      | its pids, from this PID namespace inwards
fd_size                |              | places of its descriptor table
vm_peak               | bytes        | largest virtual memory
vm_size               | bytes        | virtual memory
vm_lck                | bytes        | locked memory
vm_pin                | bytes        | pinned memory
vm_hwm                | bytes        | largest resident memory
vm_rss                | bytes        | resident memory
rss_anon              | bytes        | resident memory that belongs to no file
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
no_new_privs          |              | 1 if execve grants nothing
seccomp               |              | 0 off, 1 strict, 2 filter
cpus_allowed_list     |              | CPUs that it may run on, as "0-3,7"
mems_allowed_list     |              | memory nodes that it may use
voluntary_ctxt_switches    |         | times its main thread gave up the CPU
nonvoluntary_ctxt_switches |         | times its main thread lost the CPU
rchar                 | bytes        | read by system calls, from anywhere
wchar                 | bytes        | written by system calls, to anywhere
syscr                 |              | read system calls
syscw                 |              | write system calls
read_bytes            | bytes        | read from disks; io jumps when a child is reaped, whose is added
write_bytes           | bytes        | sent towards disks
cancelled_write_bytes | bytes        | of those, what was thrown away by truncation
pss                   | bytes        | resident memory, shared pages divided by who shares them
uss                   | bytes        | resident memory that nobody else has
swap                  | bytes        | swapped out
swap_pss              | bytes        | swapped out, shared pages divided
cmdline               | strings      | arguments, as the process shows them
environ               | dict         | environment at the last execve
exe                   |              | program file; " (deleted)" behind it when it was removed
cwd                   |              | working directory
root                  |              | root directory
cgroup                | dict         | controllers (of v1) or "" (of v2), and the path of the cgroup
limits                |              | the text of /proc/PID/limits
num_fds               |              | open descriptors; another user's since Linux 6.2, with those being opened
oom_score             |              | how likely the kernel kills it when memory ends
oom_score_adj         |              | -1000 to 1000, added to that
loginuid              |              | who logged in; 4294967295 for nobody
sessionid             |              | audit session; 4294967295 for none
sched_run_ns          | nanoseconds  | time its main thread ran
sched_wait_ns         | nanoseconds  | time its main thread could have run and did not
sched_timeslices      |              | times its main thread was put on a CPU
cgroupns              | inode        | cgroup namespace
ipcns                 | inode        | IPC namespace
mntns                 | inode        | mount namespace
netns                 | inode        | network namespace
pidns                 | inode        | PID namespace
timens                | inode        | time namespace
userns                | inode        | user namespace
utsns                 | inode        | UTS namespace
cpu_time              | seconds      | utime and stime together
create_time           | seconds      | when it began, since 1970
age                   | seconds      | since it began
kthread               |              | whether it is a kernel thread
"""


def _table() -> dict[str, tuple[str, str]]:
    rows = (line.split("|") for line in _ABOUT.strip().splitlines())
    return {name.strip(): (unit.strip(), about.strip()) for name, unit, about in rows}


ABOUT: dict[str, tuple[str, str]] = _table()
"""Name of a field: its unit, and what it is."""

DEFAULT = ("pid", "ppid", "name", "state", "utime", "stime", "rss", "num_threads", "starttime")
"""All from stat: the fields that cost least."""

DERIVED = {
    "cpu_time": ("utime", "stime"),
    "create_time": ("starttime",),
    "age": ("starttime",),
    "kthread": ("flags",),
}
"""Fields that are computed, and of what."""

COUNTERS = (
    *("minflt", "majflt", "rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"),
    *("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "delayacct_blkio_ticks", "sched_timeslices"),
)
"""Fields that only grow, of which two snapshots make a rate: NAME_per_s. utime and stime make cpu_percent."""

PF_KTHREAD = 0x00200000


def expand(fields: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the fields as they were asked for, once each, and those that have to be read for them.

    Raises:
        TypeError: a string instead of several, or something else than strings.
        ValueError: there is no such field.
    """
    if isinstance(fields, (str, bytes)):
        raise TypeError(f"fields: several names are wanted, not {fields!r}")
    asked = tuple(dict.fromkeys(fields))
    read: dict[str, None] = {"pid": None}
    for name in asked:
        if not isinstance(name, str):
            raise TypeError(f"fields: a name is a string, not {name!r}")
        if name not in ABOUT:
            raise ValueError(f"fields: there is no {name!r}; fastproc.info.FIELDS has those that there are")
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
        # A process may have written anything there; of a name that stands there twice getenv(3) takes the first.
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
"""How the bytes of a field become its value; the others by os.fsdecode."""

UNORDERED = ("environ", "cgroup")
"""Fields whose values, dicts, cannot be compared."""
