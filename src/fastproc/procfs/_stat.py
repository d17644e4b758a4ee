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
    """The content of /proc/PID/stat (proc_pid_stat(5)), all 52 fields.

    Ticks are clock ticks of sysconf(_SC_CLK_TCK), usually hundredths of a second. If the caller may not trace the
    process, the kernel writes 0 or 1 for addresses and the exit code. fastproc returns Absent("denied") for such a
    field.

    Attributes:
        pid: pid of the process; below task/, id of the thread.
        comm: name, up to 15 bytes; longer for workers of the kernel.
        state: one letter: R running, S sleeping, D uninterruptible sleep, Z zombie, T stopped, t stopped by a tracer, X
            dead, I idle kernel thread, P parked.
        ppid, pgrp, session: pids of the parent, the process group and the session.
        tty_nr: device number of the controlling terminal, 0 for none; `tty` splits it.
        tpgid: foreground process group of the terminal, -1 without a terminal.
        flags: PF_ flags of the kernel.
        minflt, majflt: page faults without and with reading from disk.
        cminflt, cmajflt: the same for children that were waited for.
        utime, stime: ticks in user mode (including guest_time) and in kernel mode.
        cutime, cstime: the same for children that were waited for.
        priority: 20 + nice, or -1 - priority for a real-time policy.
        nice: -20 to 19.
        num_threads: threads of the process.
        itrealvalue: always 0.
        starttime: ticks from boot to the start of the process.
        vsize: bytes of virtual memory.
        rss: resident pages, inexact (in `statm` and `status` too).
        rsslim: bytes.
        startcode, endcode, startstack, kstkesp, kstkeip: addresses.
        signal, blocked, sigignore, sigcatch: bit sets of the first 31 signals; `Status` has all.
        wchan: 1 if the process waits in the kernel; an address in old kernels.
        nswap, cnswap: always 0.
        exit_signal: signal that the parent gets when the process ends.
        processor: CPU on which it ran last.
        rt_priority, policy: scheduling (sched(7)).
        delayacct_blkio_ticks: ticks spent waiting for block devices; 0 unless kernel.task_delayacct is on.
        guest_time, cguest_time: ticks running virtual CPUs; the same for children.
        start_data, end_data, start_brk, arg_start, arg_end, env_start, env_end: addresses.
        exit_code: exit status of a zombie, in the form of waitpid(2).
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
        """The device (major, minor) of the controlling terminal, or None."""
        if not self.tty_nr:
            return None
        return (self.tty_nr >> 8) & 0xFFF, (self.tty_nr & 0xFF) | ((self.tty_nr >> 12) & 0xFFF00)

    @property
    def is_kernel_thread(self) -> bool:
        """Whether this is a kernel thread (PF_KTHREAD)."""
        return bool(self.flags & PF_KTHREAD)

    @property
    def is_ending(self) -> bool:
        """Whether the process is exiting (PF_EXITING) or is a zombie."""
        return bool(self.flags & PF_EXITING)

    @property
    def is_zombie(self) -> bool:
        """Whether the state is zombie or dead. A leader that has ended before its other threads is a zombie too."""
        return self.state in "ZXx"


_SIGNED = frozenset(
    ("ppid", "pgrp", "session", "tty_nr", "tpgid", "cutime", "cstime", "priority", "nice", "num_threads", "itrealvalue")
) | {"rss", "exit_signal", "processor", "exit_code", "cguest_time"}
_NUMBERS = Stat._fields[3:]
_HIDDEN = frozenset(("startcode", "endcode", "startstack", "kstkesp", "kstkeip", *Stat._fields[44:]))
_DENIED = Absent(DENIED, "stat: the caller may not trace the process")


def parse_stat(data: bytes) -> Stat:
    """Parse /proc/PID/stat.

    Raises:
        ParseError: the data do not have the format of this file.
    """

    def convert(line: bytes) -> Stat:
        # The name may contain spaces, newlines and parentheses: it ends at the last parenthesis.
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
        # do_task_stat() in fs/proc/array.c writes startcode as 1 if the caller may not trace the process.
        if values["startcode"] == 1:
            values.update(dict.fromkeys(_HIDDEN, _DENIED))
        return Stat(**values)  # type: ignore[arg-type]

    return only(data, "stat", convert)


parse_stat.__module__ = "fastproc.procfs"


def _letter(word: bytes) -> str:
    if len(word) != 1 or not word.isalpha():
        raise ValueError(f"{word[:40]!r} is not a state")
    return word.decode()


class Statm(Record):
    """The content of /proc/PID/statm, in pages.

    The values are inexact, because the kernel counts on each CPU separately.

    Attributes:
        size: virtual memory.
        resident: resident memory.
        shared: resident memory of files and shared memory.
        code: code of the program.
        lib, dirty: always 0.
        data: data and stack.
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
    """Parse /proc/PID/statm.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    return only(data, "statm", lambda line: Statm(*map(number, exactly(line, 7))))


parse_statm.__module__ = "fastproc.procfs"


def exactly(line: bytes, count: int) -> list[bytes]:
    """Return the first `count` words of a line. Later kernels may add words."""
    words = line.split()
    if len(words) < count:
        raise ValueError(f"{len(words)} fields and not {count}")
    return words[:count]


class Io(Record):
    """The content of /proc/PID/io (proc_pid_io(5)), in bytes and calls. It includes children that were waited for.

    Attributes:
        rchar, wchar: bytes transferred by read and write calls, including those from the page cache or a terminal.
        syscr, syscw: number of read and write calls.
        read_bytes, write_bytes: bytes read from and written to block devices.
        cancelled_write_bytes: bytes of write_bytes that were never written, because the file was truncated.
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
    """Parse /proc/PID/io.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    values, _ = keyed(lines_of(data), "io", _IO)
    fill(values, "io", *Io._fields)
    return Io(**values)


parse_io.__module__ = "fastproc.procfs"


class Schedstat(Record):
    """The content of /proc/PID/schedstat.

    Attributes:
        run_ns: nanoseconds on a CPU.
        wait_ns: nanoseconds runnable, waiting for a CPU.
        slices: number of time slices.
    """

    __module__ = "fastproc.procfs"

    run_ns: int
    wait_ns: int
    slices: int


def parse_schedstat(data: bytes) -> Schedstat:
    """Parse /proc/PID/schedstat.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    return only(data, "schedstat", lambda line: Schedstat(*map(number, exactly(line, 3))))


parse_schedstat.__module__ = "fastproc.procfs"


class Syscall(Record):
    """The content of /proc/PID/syscall (proc_pid_syscall(5)).

    Attributes:
        running: whether the thread is running or runnable; then `arguments` is empty and the other fields are absent.
        number: number of the system call in which it waits; -1 if it waits elsewhere in the kernel; absent while it
            runs.
        arguments: the six argument registers.
        stack_pointer, program_counter: addresses.
    """

    __module__ = "fastproc.procfs"

    running: bool
    number: int | Absent
    arguments: tuple[int, ...]
    stack_pointer: int | Absent
    program_counter: int | Absent


_RUNNING = Absent(NOT_IN_KERNEL, "the thread is running and does not wait in a system call")


def parse_syscall(data: bytes) -> Syscall:
    """Parse /proc/PID/syscall.

    Raises:
        ParseError: the data do not have the format of this file.
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
