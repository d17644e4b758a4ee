"""Directories of /proc, held open and read by openat; what an error means.

Invariant: everything about one process is read through the one directory that was opened for it. The kernel ties that
directory to the process and not to its number, so a process that has the number later is never read (GOTCHAS D1).
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
"""Our own shortage, which says nothing about what was asked for (GOTCHAS K2): always raised."""
MISSING = (ENOENT, ESRCH, ENOTDIR)
NOT_MOUNTED = "there is no procfs (is it mounted?)"


class NoProcfs(ProcfsError, FileNotFoundError):
    """There is no procfs at the root: /proc is not mounted here (GOTCHAS K5), or is another PID namespace's.

    The numbers of another one name other processes here. Its files can be read all the same where it is mounted
    elsewhere, with `root`.
    """

    __module__ = "fastproc.procfs"


class ProcessGone(ProcfsError, ProcessLookupError):
    """The process has ended and was waited for, or there was none with that number.

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
    """The process is there, and this /proc does not show it: it is mounted with hidepid.

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
    """A directory that is held open.

    Args:
        path: of it.
        inside: another one that the path is relative to.

    Raises:
        OSError: it cannot be opened.
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
        """The descriptor.

        Raises:
            ValueError: it is closed.
        """
        return self._fd.fileno()

    def close(self) -> None:
        """Close it."""
        self._fd.close()

    def is_linked(self) -> bool:
        """Return whether the directory still has a name: those of procfs always have one."""
        try:
            return os.fstat(self.fileno()).st_nlink > 0
        except FileNotFoundError:
            # pid_getattr() in fs/proc/base.c, for a hidden one.
            return True

    def read(self, name: str) -> bytes:
        """Return all of a file.

        Raises:
            OSError: it cannot be read.
        """
        with OwnedFd() as file:
            file.fill(partial(os.open, dir_fd=self.fileno()), name, os.O_RDONLY | os.O_CLOEXEC)
            return read_all(file.number)

    def link(self, name: str) -> bytes:
        """Return where a link points to.

        Raises:
            OSError: it cannot be read.
        """
        return os.readlink(os.fsencode(name), dir_fd=self.fileno())

    def names(self, name: str = ".") -> list[str]:
        """Return the names in it, or in a directory inside of it.

        It is opened anew, as another thread that lists the same descriptor would move our place in it.

        Raises:
            OSError: it cannot be read.
        """
        with OwnedFd() as inner:
            inner.fill(partial(os.open, dir_fd=self.fileno()), name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return os.listdir(inner.fileno())


def open_process(pid: int, root: str) -> Folder:
    """Open a process's directory.

    Raises:
        ProcessGone: there is none with that number.
        ProcessHidden: there is, and it is not shown to this user.
        NoProcfs: there is nothing at the root, or it is /proc and another PID namespace's.
        OSError: EMFILE, ENFILE, ENOMEM.
    """
    try:
        if not proc.is_proc(root):
            return Folder(f"{root}/{pid}")
        # The one that was looked at, whatever is mounted there meanwhile.
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
    """Return whether anything is at the root: an unmounted /proc is an empty directory."""
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
        NoProcfs: none is mounted there, or it is another PID namespace's.
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
    """Return whether a process has the number, whoever may see it: pidfd_open(2) asks for no permission."""
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
    """Return why a file cannot be read, or None where the error only says that it is not there.

    Raises:
        OSError: it is about our own lack of descriptors or memory.
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
    """Files below a directory that is opened anew each time: those of the whole machine.

    Args:
        root: where procfs is mounted, or a folder with saved files.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def get(self, name: str, parse: Callable[[bytes], T]) -> T | Absent:
        """Return what a file means, or why it is absent: also where it has not the form that the kernel gives it.

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
