"""/proc/PID/stat, statm, io, schedstat, syscall: the files of numbers. Pure."""

from __future__ import annotations

from fastproc.procfs._absent import DENIED, NOT_IN_KERNEL, Absent
from fastproc.procfs._record import Record
from fastproc.procfs._text import fill, hex0x, keyed, lines_of, number, only, signed, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PF_EXITING = 0x00000004
PF_KTHREAD = 0x00200000


class Stat(Record):
    """What /proc/PID/stat tells (proc_pid_stat(5)), all 52 fields.

    Clock ticks are hundredths of a second wherever the C library says so (sysconf(_SC_CLK_TCK)); pages are of
    sysconf(_SC_PAGESIZE) bytes. Where the caller may not trace the process, the kernel writes 0 or 1 for addresses
    and
    the exit code (since 4.18 and before); such a field is Absent("denied") here.

    Attributes:
        pid: the number of the process, of the thread below task/.
        comm: its name, up to 15 bytes; longer for workers of the kernel.
        state: one letter: R running, S sleeping, D in an uninterruptible wait, Z zombie, T stopped, t held by a
            tracer,
            X dead, I idle thread of the kernel, P parked.
        ppid, pgrp, session: pids of the parent, the process group and the session.
        tty_nr: device number of the controlling terminal, 0 without one; `tty` splits it.
        tpgid: the terminal's foreground process group, -1 without one.
        flags: the kernel's PF_ flags.
        minflt, majflt: page faults without and with a read from disk; cminflt, cmajflt: of children waited for.
        utime, stime: ticks in user mode (with guest_time) and in the kernel; cutime, cstime: of children waited for.
        priority: 20 + nice, or -1 - priority of a real-time policy.
        nice: -20 to 19.
        num_threads: threads of the process.
        itrealvalue: always 0.
        starttime: ticks from the boot to its start.
        vsize: bytes of virtual memory; rss: pages in memory, inexact (`statm` and `status` too); rsslim: bytes.
        startcode, endcode, startstack, kstkesp, kstkeip: addresses.
        signal, blocked, sigignore, sigcatch: bit sets of the first 31 signals; `Status` has all.
        wchan: 1 where it waits in the kernel; an address in old kernels.
        nswap, cnswap: always 0.
        exit_signal: what its parent gets at its end.
        processor: the CPU that it was last on.
        rt_priority, policy: scheduling (sched(7)).
        delayacct_blkio_ticks: ticks it waited for block devices; 0 unless kernel.task_delayacct is on.
        guest_time, cguest_time: ticks in virtual CPUs.
        start_data, end_data, start_brk, arg_start, arg_end, env_start, env_end: addresses.
        exit_code: as waitpid(2) gives it, for a zombie.
    """

    __module__ = "fastproc.procfs"

    pid: int
    comm: str
    state: str
    ppid: int
    pgrp: int
    session: int
    tty_nr: int
    tpgid: int
    flags: int
    minflt: int
    cminflt: int
    majflt: int
    cmajflt: int
    utime: int
    stime: int
    cutime: int
    cstime: int
    priority: int
    nice: int
    num_threads: int
    itrealvalue: int
    starttime: int
    vsize: int
    rss: int
    rsslim: int
    startcode: int | Absent
    endcode: int | Absent
    startstack: int | Absent
    kstkesp: int | Absent
    kstkeip: int | Absent
    signal: int
    blocked: int
    sigignore: int
    sigcatch: int
    wchan: int
    nswap: int
    cnswap: int
    exit_signal: int
    processor: int
    rt_priority: int
    policy: int
    delayacct_blkio_ticks: int
    guest_time: int
    cguest_time: int
    start_data: int | Absent
    end_data: int | Absent
    start_brk: int | Absent
    arg_start: int | Absent
    arg_end: int | Absent
    env_start: int | Absent
    env_end: int | Absent
    exit_code: int | Absent

    @property
    def tty(self) -> tuple[int, int] | None:
        """The controlling terminal's (major, minor), or None."""
        if not self.tty_nr:
            return None
        return (self.tty_nr >> 8) & 0xFFF, (self.tty_nr & 0xFF) | ((self.tty_nr >> 12) & 0xFFF00)

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it is a thread of the kernel (PF_KTHREAD)."""
        return bool(self.flags & PF_KTHREAD)

    @property
    def is_ending(self) -> bool:
        """Whether it is on its way to its end (PF_EXITING), a zombie too."""
        return bool(self.flags & PF_EXITING)

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and was not waited for; a leader that has, while its other threads run, looks so too."""
        return self.state in "ZXx"


_SIGNED = frozenset(
    ("ppid", "pgrp", "session", "tty_nr", "tpgid", "cutime", "cstime", "priority", "nice", "num_threads", "itrealvalue")
) | {"rss", "exit_signal", "processor", "exit_code", "cguest_time"}
_NUMBERS = Stat._fields[3:]
_HIDDEN = frozenset(("startcode", "endcode", "startstack", "kstkesp", "kstkeip", *Stat._fields[44:]))
_DENIED = Absent(DENIED, "stat: only for who may trace the process")


def parse_stat(data: bytes) -> Stat:
    """Read /proc/PID/stat.

    Raises:
        ParseError: it is no such text.
    """

    def convert(line: bytes) -> Stat:
        # The name may hold blanks, newlines and parentheses: it ends at the last one.
        first, last = line.find(b" ("), line.rfind(b") ")
        if first < 0 or last < first + 2:
            raise ValueError("no name in parentheses")
        words = line[last + 2 :].split()
        if len(words) < len(_NUMBERS) + 1:
            raise ValueError(f"{len(words) + 2} fields and not 52")
        values: dict[str, object] = {
            "pid": number(line[:first]),
            "comm": text(line[first + 2 : last]),
            "state": _letter(words[0]),
        }
        for name, word in zip(_NUMBERS, words[1:], strict=False):
            values[name] = signed(word) if name in _SIGNED else number(word)
        # do_task_stat() in fs/proc/array.c: 1 stands for a start of code that the caller may not know.
        if values["startcode"] == 1:
            values.update(dict.fromkeys(_HIDDEN, _DENIED))
        return Stat(**values)  # type: ignore[arg-type]

    return only(data, "stat", convert)


parse_stat.__module__ = "fastproc.procfs"


def _letter(word: bytes) -> str:
    if len(word) != 1 or not word.isalpha():
        raise ValueError(f"{word[:40]!r} is no state")
    return word.decode()


class Statm(Record):
    """What /proc/PID/statm tells, in pages; inexact, as the kernel counts on each CPU for itself.

    Attributes:
        size: virtual memory; resident: in memory; shared: in memory, of files and shared memory.
        code: of the program's code; lib, dirty: always 0; data: data and stack.
    """

    __module__ = "fastproc.procfs"

    size: int
    resident: int
    shared: int
    code: int
    lib: int
    data: int
    dirty: int


def parse_statm(data: bytes) -> Statm:
    """Read /proc/PID/statm.

    Raises:
        ParseError: it is no such text.
    """
    return only(data, "statm", lambda line: Statm(*map(number, exactly(line, 7))))


parse_statm.__module__ = "fastproc.procfs"


def exactly(line: bytes, count: int) -> list[bytes]:
    """Return the words of a line that has at least so many: kernels add at the end."""
    words = line.split()
    if len(words) < count:
        raise ValueError(f"{len(words)} fields and not {count}")
    return words[:count]


class Io(Record):
    """What /proc/PID/io tells (proc_pid_io(5)), in bytes and calls, with children that were waited for.

    Attributes:
        rchar, wchar: bytes that read and write calls took, from memory or a terminal too.
        syscr, syscw: such calls.
        read_bytes, write_bytes: bytes from and to block devices.
        cancelled_write_bytes: bytes of write_bytes that were never written, as their file was cut.
    """

    __module__ = "fastproc.procfs"

    rchar: int | Absent
    wchar: int | Absent
    syscr: int | Absent
    syscw: int | Absent
    read_bytes: int | Absent
    write_bytes: int | Absent
    cancelled_write_bytes: int | Absent


_IO: dict[bytes, tuple[str, Callable[[bytes], object]]] = {name.encode(): (name, number) for name in Io._fields}


def parse_io(data: bytes) -> Io:
    """Read /proc/PID/io.

    Raises:
        ParseError: it is no such text.
    """
    values, _ = keyed(lines_of(data), "io", _IO)
    fill(values, "io", *Io._fields)
    return Io(**values)


parse_io.__module__ = "fastproc.procfs"


class Schedstat(Record):
    """What /proc/PID/schedstat tells.

    Attributes:
        run_ns: nanoseconds on a CPU; wait_ns: nanoseconds ready to run, waiting for one.
        slices: how often it was given one.
    """

    __module__ = "fastproc.procfs"

    run_ns: int
    wait_ns: int
    slices: int


def parse_schedstat(data: bytes) -> Schedstat:
    """Read /proc/PID/schedstat.

    Raises:
        ParseError: it is no such text.
    """
    return only(data, "schedstat", lambda line: Schedstat(*map(number, exactly(line, 3))))


parse_schedstat.__module__ = "fastproc.procfs"


class Syscall(Record):
    """What /proc/PID/syscall tells (proc_pid_syscall(5)).

    Attributes:
        running: it is on a CPU or ready to be, so that nothing else is known.
        number: of the system call that it waits in; -1 where it waits elsewhere in the kernel; absent while it runs.
        arguments: the six registers of the call.
        stack_pointer, program_counter: addresses.
    """

    __module__ = "fastproc.procfs"

    running: bool
    number: int | Absent
    arguments: tuple[int, ...]
    stack_pointer: int | Absent
    program_counter: int | Absent


_RUNNING = Absent(NOT_IN_KERNEL, "it runs, and is not in a system call that it waits in")


def parse_syscall(data: bytes) -> Syscall:
    """Read /proc/PID/syscall.

    Raises:
        ParseError: it is no such text.
    """

    def convert(line: bytes) -> Syscall:
        if line == b"running":
            return Syscall(True, _RUNNING, (), _RUNNING, _RUNNING)
        first, *rest = line.split()
        values = tuple(map(hex0x, rest))
        if len(values) not in (2, 8):
            raise ValueError(f"{len(values)} addresses and not 2 or 8")
        return Syscall(False, signed(first), values[:-2], *values[-2:])

    return only(data, "syscall", convert)


parse_syscall.__module__ = "fastproc.procfs"
