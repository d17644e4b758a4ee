"""The directory of a file that a privileged process writes: entered step by step, so that nobody else can move it.

Not here: the file itself. Invariant: what `enter` gives lies where only root or this process's user could have put it.
"""

from __future__ import annotations

import os
import stat

from fastproc._engine.fds import OwnedFd

LINKS_MAX = 40
"""Symbolic links on one way, as the kernel has it (path_resolution(7))."""

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Untrusted(Exception):
    """Somebody else could change what the path means; the text says where."""


def trusted_owners() -> frozenset[int]:
    """Root, and who this process acts for."""
    return frozenset((0, os.geteuid()))


def enter(folder: str) -> OwnedFd:
    """Open a directory by its absolute path, one component after the other.

    Root or this process's user must own each directory, and nobody else may write to it; on the way a sticky one, such
    as /tmp, is allowed, in which nobody can move what is ours. A symbolic link is followed where nobody else could have
    made it (/var/run). The last directory may not be sticky either.

    Raises:
        Untrusted: somebody else can change it, or something on the way.
        OSError: ENOENT, ENOTDIR, EACCES.
    """
    owners = trusted_owners()
    todo = [part for part in reversed(folder.split("/")) if part not in ("", ".")]
    here = OwnedFd(os.open("/", _PATH | os.O_DIRECTORY))
    links, where = 0, "/"
    try:
        _check_directory(os.fstat(here.number), where, owners, last=not todo)
        while todo:
            part = todo.pop()
            found = OwnedFd(os.open(part, _PATH, dir_fd=here.number))
            status = os.fstat(found.number)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > LINKS_MAX:
                    raise Untrusted(f"{folder}: too many symbolic links")
                if os.fstat(here.number).st_mode & 0o022:
                    found.close()
                    raise Untrusted(f"{where} can be written by others, and {part} in it is a symbolic link")
                target = os.readlink("", dir_fd=found.number)
                found.close()
                todo += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
                if target.startswith("/"):
                    here.close()
                    here = OwnedFd(os.open("/", _PATH | os.O_DIRECTORY))
                    where = "/"
                continue
            here.close()
            here = found
            where = os.path.join(where, part)
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(20, os.strerror(20), where)
            _check_directory(status, where, owners, last=not todo)
        here.lift()
        return here
    except BaseException:
        here.close()
        raise


def _check_directory(status: os.stat_result, where: str, owners: frozenset[int], last: bool) -> None:
    if status.st_uid not in owners:
        raise Untrusted(f"the directory {where} belongs to user {status.st_uid}")
    if status.st_mode & 0o022 and (last or not status.st_mode & stat.S_ISVTX):
        raise Untrusted(f"the directory {where} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})")


def why_not_regular(status: os.stat_result, owners: frozenset[int]) -> str:
    """Return what is wrong with a file that must be regular, with one name, writable for its owner alone; or ""."""
    if not stat.S_ISREG(status.st_mode):
        return f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')}"
    if status.st_nlink > 1:
        return f"it has {status.st_nlink} names (hard links)"
    if status.st_uid not in owners:
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & 0o022:
        return f"it can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
