"""Directories of /proc, which are held open and read by openat(2), and the meaning of errors.

Invariant: everything about a process is read through one open directory. The kernel ties this directory to the process
and not to the pid, so a later process with the same pid is never read (GOTCHAS D1).
"""

from __future__ import annotations

import os
from _functools import partial  # type: ignore[import-not-found]
from errno import EACCES, EMFILE, ENFILE, ENODEV, ENOENT, ENOMEM, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, ESRCH, EXDEV

from fastproc import _native
from fastproc._engine.fds import OwnedFd, read_all
from fastproc._native import proc
from fastproc.procfs._absent import DENIED, DISABLED, ERROR, NO_PROCFS, NOT_IN_KERNEL, Absent
from fastproc.procfs._text import ParseError, ProcfsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

OURS = (EMFILE, ENFILE, ENOMEM)
"""Errors of this process, which say nothing about the file (GOTCHAS K2): always raised."""
MISSING = (ENOENT, ESRCH, ENOTDIR)
NOT_MOUNTED = "there is no procfs (is it mounted?)"


class NoProcfs(ProcfsError, FileNotFoundError):
    """There is no usable procfs at the root: /proc is not mounted (GOTCHAS K5), or belongs to another PID namespace.

    In another PID namespace the same pids name other processes. To read its files anyway, mount it elsewhere and use
    `root`.
    """

    __module__ = "fastproc.procfs"


class ProcessGone(ProcfsError, ProcessLookupError):
    """The process has ended and was waited for, or never existed.

    Attributes:
        pid: its number.
    """

    __module__ = "fastproc.procfs"

    def __init__(self, pid: int) -> None:
        """Take the number."""
        super().__init__(f"there is no process {pid} (any more)")
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.pid,)


class ProcessHidden(ProcfsError, PermissionError):
    """The process exists, but this /proc hides it: it is mounted with hidepid.

    Attributes:
        pid: its number.
    """

    __module__ = "fastproc.procfs"

    def __init__(self, pid: int) -> None:
        """Take the number."""
        super().__init__(f"process {pid} is there, but /proc does not show it to this user (hidepid, proc(5))")
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.pid,)


class Folder:
    """An open directory.

    Args:
        path: the path of the directory.
        inside: an open directory to which the path is relative.

    Raises:
        OSError: the directory cannot be opened.
    """

    def __init__(self, path: str, inside: Folder | None = None) -> None:
        self._fd = OwnedFd()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if inside is None:
            self._fd.fill(os.open, path, flags)
        else:
            self._fd.fill(partial(os.open, dir_fd=inside.fileno()), path, flags)
        self._fd.lift()

    def fileno(self) -> int:
        """Return the descriptor.

        Raises:
            ValueError: the directory is closed.
        """
        return self._fd.fileno()

    def close(self) -> None:
        """Close the directory."""
        self._fd.close()

    def is_linked(self) -> bool:
        """Return whether the directory still has a name. A directory of procfs always has one."""
        try:
            return os.fstat(self.fileno()).st_nlink > 0
        except FileNotFoundError:
            # pid_getattr() in fs/proc/base.c, for a hidden process.
            return True

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Raises:
            OSError: it cannot be read.
        """
        with OwnedFd() as file:
            file.fill(partial(os.open, dir_fd=self.fileno()), name, os.O_RDONLY | os.O_CLOEXEC)
            return read_all(file.number)

    def link(self, name: str) -> bytes:
        """Return the target of a link.

        Raises:
            OSError: it cannot be read.
        """
        return os.readlink(os.fsencode(name), dir_fd=self.fileno())

    def names(self, name: str = ".") -> list[str]:
        """Return the names in the directory, or in a subdirectory.

        The directory is opened again, because another thread that lists the same descriptor would move its offset.

        Raises:
            OSError: it cannot be read.
        """
        with OwnedFd() as inner:
            inner.fill(partial(os.open, dir_fd=self.fileno()), name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return os.listdir(inner.fileno())


def open_process(pid: int, root: str) -> Folder:
    """Open the directory of a process.

    Raises:
        ProcessGone: there is no process with this pid.
        ProcessHidden: the process exists, but is hidden from this user.
        NoProcfs: the root is empty or missing, or /proc belongs to another PID namespace.
        OSError: EMFILE, ENFILE, ENOMEM.
    """
    try:
        if not proc.is_proc(root):
            return Folder(f"{root}/{pid}")
        # The procfs that was checked, even if another is mounted over it meanwhile.
        own = open_proc()
        try:
            return Folder(str(pid), own)
        finally:
            own.close()
    except NoProcfs:
        raise
    except OSError as error:
        if error.errno in OURS:
            raise
        if error.errno in (EPERM, EACCES):
            raise ProcessHidden(pid) from None
        if not is_there(root):
            raise NoProcfs(ENOENT, NOT_MOUNTED, root) from None
        if error.errno not in MISSING:
            raise
    if proc.is_proc(root) and exists(pid):
        raise ProcessHidden(pid)
    raise ProcessGone(pid)


def is_there(root: str) -> bool:
    """Return whether the root has any files: an unmounted /proc is an empty directory."""
    try:
        with os.scandir(root) as found:
            return next(found, None) is not None
    except OSError as error:
        if error.errno in OURS:
            raise
        return False


def open_proc() -> Folder:
    """Open /proc.

    Raises:
        NoProcfs: no procfs is mounted there, or it belongs to another PID namespace.
        OSError: EMFILE, ENFILE, ENOMEM.
    """
    try:
        folder = Folder("/proc")
    except (FileNotFoundError, NotADirectoryError):
        raise NoProcfs(ENOENT, NOT_MOUNTED, "/proc") from None
    try:
        proc.check(folder.fileno())
    except OSError as error:
        folder.close()
        if error.errno == ENODEV:
            raise NoProcfs(ENOENT, NOT_MOUNTED, "/proc") from None
        if error.errno == EXDEV:
            raise NoProcfs(EXDEV, proc.FOREIGN, "/proc") from None
        raise
    return folder


def exists(pid: int) -> bool:
    """Return whether a process has this pid, even if it is hidden: pidfd_open(2) needs no permission."""
    fd = OwnedFd()
    try:
        fd.fill(_native.fp_pidfd_open, pid)
    except OSError as error:
        if error.errno in OURS:
            raise
        return False
    fd.close()
    return True


def reason_of(error: OSError, name: str) -> Absent | None:
    """Return why a file cannot be read, or None if the error only means that it does not exist.

    Raises:
        OSError: this process lacks descriptors or memory.
    """
    if error.errno in OURS:
        raise error
    if error.errno in MISSING:
        return None
    detail = f"{name}: {error.strerror or error}"
    if error.errno in (EPERM, EACCES):
        return Absent(DENIED, detail)
    if error.errno in (EOPNOTSUPP, ENODEV, ENOSYS):
        return Absent(DISABLED, detail)
    return Absent(ERROR, detail)


class Files:
    """Files of the whole machine. Each read opens the path again.

    Args:
        root: the mount point of procfs, or a directory with saved files.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def get(self, name: str, parse: Callable[[bytes], T]) -> T | Absent:
        """Return the parsed file, or an Absent with the reason; also if the file has another format.

        Raises:
            OSError: EMFILE, ENFILE, ENOMEM.
        """
        try:
            with open(f"{self.root}/{name}", "rb", buffering=0) as file:
                data = file.readall()
        except OSError as error:
            reason = reason_of(error, name)
            if reason is not None:
                return reason
            if not is_there(self.root):
                return Absent(NO_PROCFS, self.root)
            return Absent(NOT_IN_KERNEL, name)
        try:
            return parse(data)
        except ParseError as error:
            return Absent(ERROR, str(error))
