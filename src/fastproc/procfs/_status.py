"""/proc/PID/status: all its lines. Pure."""

from __future__ import annotations

from fastproc._values.capabilities import Capabilities, CapabilitySet
from fastproc._values.identity import Identity, Ids, status_name
from fastproc.procfs._absent import ENDING, KERNEL_THREAD, NOT_IN_KERNEL, ZOMBIE, Absent, since
from fastproc.procfs._record import Record
from fastproc.procfs._text import (
    ParseError,
    cpus,
    hex0x,
    hexa,
    keyed,
    kib,
    lines_of,
    number,
    numbers,
    octal,
    require,
    text,
    yes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Status(Record):
    """The content of /proc/PID/status (proc_pid_status(5)). A line that the kernel does not write is Absent.

    Sizes are in bytes. For a kernel thread, and for a process that has released its memory, the fields from vm_peak to
    vm_swap, core_dumping and thp_enabled are absent. The reason distinguishes the two cases.

    Attributes:
        name: name, with the kernel's escapes decoded.
        umask: file mode mask (4.7); absent for a zombie.
        state: one letter, as in Stat.
        tgid, pid, ppid: ids of the process, the thread and the parent.
        ngid: NUMA group, 0 for none.
        tracer_pid: pid of the tracer, 0 for none.
        uids, gids: real, effective, saved, filesystem.
        groups: the supplementary groups, ascending.
        fd_size: allocated slots for descriptors.
        ns_tgid, ns_pid, ns_pgid, ns_sid: the ids in this PID namespace and in each namespace inside it, outermost
            first.
        kernel_thread: whether this is a kernel thread (6.8).
        vm_peak, vm_size: largest and current virtual memory.
        vm_lck: locked memory.
        vm_pin: pinned memory.
        vm_hwm, vm_rss: largest and current resident memory, inexact.
        rss_anon, rss_file, rss_shmem: parts of vm_rss.
        vm_data, vm_stk, vm_exe, vm_lib: virtual memory of data, stack, program, libraries.
        vm_pte: memory of page tables.
        vm_swap: memory that is swapped out.
        hugetlb_pages: memory in hugetlbfs pages.
        core_dumping: whether a core dump is in progress (4.15).
        thp_enabled: whether transparent huge pages are permitted (5.0).
        untag_mask: address bits that the CPU does not ignore (6.4, with address tagging).
        threads: number of threads of the process.
        sigq: number of signals queued for the user, and the limit.
        sigpnd, shdpnd, sigblk, sigign, sigcgt: bit sets of signals: pending for the thread, pending for the process,
            blocked, ignored, caught; bit 0 is signal 1.
        capabilities: the five sets.
        no_new_privs: whether execve cannot grant privileges (4.10).
        seccomp: 0 none, 1 strict, 2 filter.
        seccomp_filters: number of filters (5.9).
        speculation_store_bypass: state of this mitigation (4.17).
        speculation_indirect_branch: state of this mitigation (5.16).
        cpus_allowed, mems_allowed: permitted CPUs and memory nodes.
        voluntary_ctxt_switches, nonvoluntary_ctxt_switches: context switches of this thread.
        others: unknown lines, by key.
    """

    __module__ = "fastproc.procfs"

    name: str
    umask: int | Absent
    state: str
    tgid: int
    ngid: int | Absent
    pid: int
    ppid: int
    tracer_pid: int | Absent
    uids: Ids
    gids: Ids
    fd_size: int | Absent
    groups: tuple[int, ...]
    ns_tgid: tuple[int, ...] | Absent
    ns_pid: tuple[int, ...] | Absent
    ns_pgid: tuple[int, ...] | Absent
    ns_sid: tuple[int, ...] | Absent
    kernel_thread: bool | Absent
    vm_peak: int | Absent
    vm_size: int | Absent
    vm_lck: int | Absent
    vm_pin: int | Absent
    vm_hwm: int | Absent
    vm_rss: int | Absent
    rss_anon: int | Absent
    rss_file: int | Absent
    rss_shmem: int | Absent
    vm_data: int | Absent
    vm_stk: int | Absent
    vm_exe: int | Absent
    vm_lib: int | Absent
    vm_pte: int | Absent
    vm_swap: int | Absent
    hugetlb_pages: int | Absent
    core_dumping: bool | Absent
    thp_enabled: bool | Absent
    untag_mask: int | Absent
    threads: int
    sigq: tuple[int, int] | Absent
    sigpnd: int | Absent
    shdpnd: int | Absent
    sigblk: int | Absent
    sigign: int | Absent
    sigcgt: int | Absent
    capabilities: Capabilities
    no_new_privs: bool | Absent
    seccomp: int | Absent
    seccomp_filters: int | Absent
    speculation_store_bypass: str | Absent
    speculation_indirect_branch: str | Absent
    cpus_allowed: tuple[int, ...] | Absent
    mems_allowed: tuple[int, ...] | Absent
    voluntary_ctxt_switches: int | Absent
    nonvoluntary_ctxt_switches: int | Absent
    others: dict[str, str]

    @property
    def identity(self) -> Identity:
        """The identity of the process, as `privileges.identity()` returns it."""
        words = ("none", "strict", "filter")
        seccomp = self.seccomp if isinstance(self.seccomp, int) else 0
        return Identity(
            self.pid,
            self.name,
            self.uids,
            self.gids,
            self.groups,
            self.capabilities,
            bool(self.no_new_privs),
            words[seccomp] if seccomp < len(words) else str(seccomp),
        )


def _ids(word: bytes) -> Ids:
    values = numbers(word)
    if len(values) != 4:
        raise ValueError(f"{len(values)} ids and not 4")
    return Ids(*values)


def _queue(word: bytes) -> tuple[int, int]:
    used, most = word.split(b"/")
    return number(used), number(most)


def _state(word: bytes) -> str:
    if not word[:1].isalpha():
        raise ValueError(f"{word[:40]!r} is not a state")
    return word[:1].decode()


def _set(word: bytes) -> CapabilitySet:
    return CapabilitySet.from_mask(hexa(word))


def _sorted(word: bytes) -> tuple[int, ...]:
    return tuple(sorted(numbers(word)))


_KINDS: dict[str, tuple[Callable[[bytes], object], str]] = {
    "number": (number, "Tgid Ngid Pid PPid TracerPid FDSize Threads Seccomp Seccomp_filters"),
    "numbers": (numbers, "NStgid NSpid NSpgid NSsid"),
    "kib": (
        kib,
        "VmPeak VmSize VmLck VmPin VmHWM VmRSS RssAnon RssFile RssShmem "
        "VmData VmStk VmExe VmLib VmPTE VmSwap HugetlbPages",
    ),
    "yes": (yes, "Kthread CoreDumping THP_enabled NoNewPrivs"),
    "hexa": (hexa, "SigPnd ShdPnd SigBlk SigIgn SigCgt"),
    "set": (_set, "CapInh CapPrm CapEff CapBnd CapAmb"),
    "text": (text, "Speculation_Store_Bypass SpeculationIndirectBranch"),
    "count": (number, "voluntary_ctxt_switches nonvoluntary_ctxt_switches"),
}
_NAMES = {
    "FDSize": "fd_size",
    "PPid": "ppid",
    "TracerPid": "tracer_pid",
    "NStgid": "ns_tgid",
    "NSpid": "ns_pid",
    "NSpgid": "ns_pgid",
    "NSsid": "ns_sid",
    "Kthread": "kernel_thread",
    "HugetlbPages": "hugetlb_pages",
    "CoreDumping": "core_dumping",
    "NoNewPrivs": "no_new_privs",
    "SpeculationIndirectBranch": "speculation_indirect_branch",
    **{f"Vm{key}": f"vm_{key.lower()}" for key in ("Peak", "Size", "Lck", "Pin", "HWM", "RSS", "Data", "Stk")},
    **{f"Vm{key}": f"vm_{key.lower()}" for key in ("Exe", "Lib", "PTE", "Swap")},
    **{key: f"{key[:3]}_{key[3:]}".lower() for key in ("RssAnon", "RssFile", "RssShmem")},
}
_TABLE: dict[bytes, tuple[str, Callable[[bytes], object]]] = {
    key.encode(): (_NAMES.get(key, key.lower()), convert) for convert, keys in _KINDS.values() for key in keys.split()
}
_TABLE.update(
    {
        b"Name": ("name", lambda word: text(status_name(word))),
        b"Umask": ("umask", octal),
        b"State": ("state", _state),
        b"Uid": ("uids", _ids),
        b"Gid": ("gids", _ids),
        b"Groups": ("groups", _sorted),
        b"SigQ": ("sigq", _queue),
        b"untag_mask": ("untag_mask", hex0x),
        b"Cpus_allowed_list": ("cpus_allowed", cpus),
        b"Mems_allowed_list": ("mems_allowed", cpus),
    }
)
# The same as the lists, as words of 32 bits.
_MASKS = ("Cpus_allowed", "Mems_allowed")
# The version that introduced each field, or what the field depends on.
_LATER = {
    "kernel_thread": since("6.8"),
    "untag_mask": since("6.4, with address tagging"),
    "thp_enabled": since("5.0"),
    "seccomp_filters": since("5.9"),
    "speculation_store_bypass": since("4.17"),
    "speculation_indirect_branch": since("5.16"),
    "seccomp": Absent(NOT_IN_KERNEL, "built without seccomp"),
    "hugetlb_pages": Absent(NOT_IN_KERNEL, "built without hugetlbfs"),
    "mems_allowed": Absent(NOT_IN_KERNEL, "built without cpusets"),
}
_MEMORY = frozenset(Status._fields[Status._fields.index("vm_peak") : Status._fields.index("threads")])
_NEEDED: tuple[str, ...] = ("name", "state", "tgid", "pid", "ppid", "uids", "gids", "groups", "threads")
# Fields of the identity: an invalid one makes the whole file invalid.
_TRUE = frozenset((*_NEEDED, *(f"cap{key}" for key in ("inh", "prm", "eff", "bnd", "amb")), "no_new_privs", "seccomp"))


def parse_status(data: bytes) -> Status:
    """Parse /proc/PID/status. A line that cannot be parsed gives an Absent, with the reason.

    Raises:
        ParseError: the data do not have the format of this file, or a line about the identity cannot be parsed.
    """
    values, others = keyed(lines_of(data), "status", _TABLE, _TRUE)
    require(values, "status", *_NEEDED)
    for key in _MASKS:
        others.pop(key, None)
    empty = CapabilitySet()
    try:
        sets = (values.pop(f"cap{key}", empty) for key in ("eff", "prm", "inh", "bnd", "amb"))
        values["capabilities"] = Capabilities(*sets)
    except ValueError as error:
        raise ParseError("status", 1, str(error)) from None
    has_memory = "vm_size" in values
    reason = _without_memory(values)
    for name in Status._fields:
        if name not in values and name != "others":
            gone = name in _MEMORY and not has_memory
            values[name] = reason if gone or name == "umask" else _LATER.get(name, Absent(NOT_IN_KERNEL))
    return Status(**values, others=others)


parse_status.__module__ = "fastproc.procfs"


def _without_memory(values: dict[str, object]) -> Absent:
    """Return why the lines about memory are missing: the kernel calls task_mem() only for a thread with memory."""
    if values["state"] in ("Z", "X", "x"):
        return Absent(ZOMBIE)
    # Before 6.8 there is no line for this. All kernel threads are children of thread 2, or thread 2 itself.
    if values.get("kernel_thread") or (
        "kernel_thread" not in values and (values["pid"] == 2 or values["ppid"] == 2) and values["uids"] == (0, 0, 0, 0)
    ):
        return Absent(KERNEL_THREAD)
    if "kernel_thread" not in values:
        return Absent(ENDING, "or a thread of the kernel")
    return Absent(ENDING)
