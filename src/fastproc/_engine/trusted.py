"""Paths that a privileged process follows: walked one component at a time, so that nobody else decides where they lead.

The kernel follows a symbolic link whoever made it. A process that may write where the maker of the link may not would
write for him. Here each directory is opened by a descriptor, and a link is followed only where nobody but root and this
process's user could have put it. openat2(2) cannot say that: it refuses all links (/var/run is one), or none.
"""

from __future__ import annotations

import errno
import os
import stat

from fastproc._engine.fds import OwnedFd, read_all
from fastproc._native import credentials, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

LINKS_MAX = 40
"""Symbolic links on one path, as the kernel counts them (path_resolution(7))."""

NEW_MODE = 0o666

OF_THE_KERNEL = ("/dev", "/dev/fd", "/proc/self/fd", "/proc/thread-self/fd")
"""Directories whose links lead to open descriptors: the kernel must follow them."""

COMMON = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""Of every open: no terminal becomes ours, and no FIFO or line without carrier holds us (GOTCHAS H6, H8)."""

_PATH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERRIDES = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7))."""


class Untrusted(Exception):
    """Somebody else could change what the path means; the text says where."""


def trusted_owners() -> frozenset[int]:
    """Root, and the user that this process acts for."""
    return frozenset((0, os.geteuid()))


def is_privileged() -> bool:
    """Whether this process may write where other users may not."""
    return os.geteuid() == 0 or bool(credentials.held().effective & _OVERRIDES)


def absolute(name: str, path: str) -> str:
    """Return the absolute form of a path that was given as an argument.

    Raises:
        FileNotFoundError: it is relative, and the current directory was removed.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        text = f"{name}: it is relative to the current directory, which was removed"
        raise FileNotFoundError(errno.ENOENT, text, path) from None


def enter(folder: str) -> OwnedFd:
    """Open a directory by its absolute path, one component after the other.

    Root or this process's user must own each directory, and nobody else may write to it; on the way a sticky one, such
    as /tmp, is allowed, in which nobody can move what is ours. A symbolic link is followed where nobody else could have
    made it (/var/run). The last directory may not be sticky either.

    Raises:
        Untrusted: somebody else can change it, or something on the way.
        OSError: ENOENT, ENOTDIR, EACCES; with the path up to the component that it is about.
    """
    return _walk(folder, True)[0]


def approach(folder: str) -> tuple[OwnedFd, str]:
    """Open a directory that others may be able to change, without following a link of theirs.

    From the first directory that somebody else can change, no link and no ".." is followed any more: what is opened
    below is what that user has there, and nothing else.

    Returns:
        The directory, and why somebody else can change what the path means; "" when nobody can.

    Raises:
        Untrusted: the path has a symbolic link, or "..", where others can change it.
        OSError: as `enter()`.
    """
    return _walk(folder, False)


def _walk(folder: str, strict: bool) -> tuple[OwnedFd, str]:
    owners = trusted_owners()
    todo = [part for part in reversed(folder.split("/")) if part not in ("", ".")]
    here, found = OwnedFd(), OwnedFd()
    links, where = 0, "/"
    try:
        here.open("/", _PATH | os.O_DIRECTORY)
        status = os.fstat(here.number)
        why = _why_untrusted(status, where, owners, last=not todo)
        while todo and not (strict and why):
            part = todo.pop()
            if why and part == "..":
                raise Untrusted(f'{why}, and the path has ".." below it')
            found.close()
            try:
                _open_part(found, part, here)
            except OSError as error:
                error.filename = os.path.join(where, part)
                raise
            above, status = status, os.fstat(found.number)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), folder)
                if not _may_follow(above, status, owners, why):
                    place = why or f"the directory {_changeable(where, above)}"
                    raise Untrusted(f"{place}, and {os.path.join(where, part)} is a symbolic link")
                target = os.readlink("", dir_fd=found.number)
                todo += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
                status = above
                if target.startswith("/"):
                    here.close()
                    here.open("/", _PATH | os.O_DIRECTORY)
                    status, where = os.fstat(here.number), "/"
                if not todo:
                    why = why or _why_untrusted(status, where, owners, last=True)
                continue
            here, found = found, here
            where = os.path.normpath(os.path.join(where, part))
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), where)
            why = why or _why_untrusted(status, where, owners, last=not todo)
        if strict and why:
            raise Untrusted(why)
        here.lift()
        return here, why
    except BaseException:
        here.close()
        raise
    finally:
        found.close()


def _open_part(found: OwnedFd, part: str, here: OwnedFd) -> None:
    """Open one component; as a directory first, as nothing else mounts what is mounted when it is used (autofs)."""
    try:
        found.open(part, _PATH | os.O_DIRECTORY, dir_fd=here.number)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        found.open(part, _PATH, dir_fd=here.number)


def _why_untrusted(status: os.stat_result, where: str, owners: frozenset[int], last: bool) -> str:
    """Return why somebody else can change what is in a directory, or ""."""
    if status.st_uid in owners and not status.st_mode & 0o022:
        return ""
    if status.st_uid in owners and not last and status.st_mode & stat.S_ISVTX:
        return ""
    return f"the directory {_changeable(where, status)}"


def _changeable(where: str, status: os.stat_result) -> str:
    if status.st_uid not in trusted_owners():
        return f"{where} belongs to user {status.st_uid}"
    return f"{where} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"


def _may_follow(above: os.stat_result, link: os.stat_result, owners: frozenset[int], why: str) -> bool:
    """Whether a symbolic link in a directory was put there by root or this process's user."""
    if above.st_uid not in owners:
        return False
    if not why and not above.st_mode & 0o022:
        return True
    # A process that is not privileged follows its user's own links also where his group could have moved them.
    own = link.st_uid in owners and link.st_nlink == 1
    return own and not above.st_mode & 0o002 and not is_privileged()


def why_not_regular(status: os.stat_result, owners: frozenset[int]) -> str:
    """Return what is wrong with a file that must be regular, with one name, writable for its owner alone; or ""."""
    if not stat.S_ISREG(status.st_mode):
        return f"it is {kind_of(status)}"
    if status.st_nlink > 1:
        return f"it has {status.st_nlink} names (hard links)"
    if status.st_uid not in owners:
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & 0o022:
        return f"it can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def kind_of(status: os.stat_result) -> str:
    """Return what a file that is not regular is."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(
    path: str, flags: int, mode: int = NEW_MODE, guarded: bool | None = None, shared: bool = False
) -> OwnedFd:
    """Open a file of this process's user at a place of that user's choice (GOTCHAS H8). It is blocking.

    A link is followed where only root or this user could have made it, and so is the next one. In a directory that
    others can change the last part of the path must not be a link, and for a privileged process an existing file there
    must be root's or its own, and have one name. A file is emptied (O_TRUNC) when all this is known.

    Args:
        path: absolute.
        flags: of open(2).
        mode: of a new file.
        guarded: whether the way to the directory is walked like that, too; otherwise the kernel finds it. None: if this
            process is privileged.
        shared: whether, for a privileged process, a file may also belong to the owner of its directory.

    Raises:
        Untrusted: somebody else could change what the path means, or has put something else there.
        OSError: open(2); the path is its filename.
    """
    shown = path
    if flags & os.O_ACCMODE == os.O_RDONLY and not is_privileged():
        return open_blocking(path, flags, mode)
    for _ in range(LINKS_MAX):
        folder, name = os.path.split(path)
        if not name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown)
        if folder in OF_THE_KERNEL:
            return open_blocking(path, flags, mode, shown=shown)
        with _descriptors_of(folder) as process:
            if not process.closed:
                return open_blocking(name, flags, mode, process.number, shown)
        place, why = _place_of(folder, is_privileged() if guarded is None else guarded)
        with place:
            try:
                return _open_checked(flags, mode, name, place, why, shown, shared)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
            path = os.path.join(folder, _target(name, place, why, path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown)


def _descriptors_of(folder: str) -> OwnedFd:
    """Open /proc/PID/fd of a process of root's or of this user's, whose links the kernel must follow.

    Another user's process chooses where its links lead, so its directory is walked as any other. The owner of the
    directory does not tell: it is root's also for a process that has changed its user (proc_pid(5)).

    Returns:
        The directory, which stays this process's whatever becomes of its number; closed where it is not such a one.
    """
    found = OwnedFd()
    first, *parts, last = os.path.normpath(folder)[1:].split("/") if folder.count("/") > 2 else ("", "")
    if first != "proc" or last != "fd" or len(parts) not in (1, 3) or parts[1:2] not in ([], ["task"]):
        return found
    try:
        proc.check()
        found.open(folder, _PATH | os.O_DIRECTORY)
        with OwnedFd() as status:
            status.open("../status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=found.number)
            lines = read_all(status.number).splitlines()
        uids = next(line.split()[1:] for line in lines if line.startswith(b"Uid:"))
        if trusted_owners().issuperset(map(int, uids)):
            return found
    except (OSError, StopIteration, ValueError):
        pass
    found.close()
    return found


def _target(name: str, place: OwnedFd, why: str, path: str) -> str:
    """Return where a link leads that may be followed."""
    with OwnedFd() as link:
        link.open(name, _PATH, dir_fd=place.number)
        if not _may_follow(os.fstat(place.number), os.fstat(link.number), trusted_owners(), why):
            raise Untrusted(f"{path} is a symbolic link, where others can make one")
        return os.readlink("", dir_fd=link.number)


def _place_of(folder: str, guarded: bool) -> tuple[OwnedFd, str]:
    try:
        return approach(folder)
    except Untrusted as error:
        if guarded:
            raise
        place = OwnedFd()
        place.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
        place.lift()
        return place, str(error)


def _open_checked(flags: int, mode: int, name: str, place: OwnedFd, why: str, shown: str, shared: bool) -> OwnedFd:
    fd = open_blocking(name, flags & ~os.O_TRUNC | os.O_NOFOLLOW, mode, place.number, shown)
    try:
        status = os.fstat(fd.number)
        if why and flags & os.O_ACCMODE != os.O_RDONLY and is_privileged():
            check_ours(status, shown, {os.fstat(place.number).st_uid} if shared else frozenset())
        if flags & os.O_TRUNC and stat.S_ISREG(status.st_mode):
            os.ftruncate(fd.number, 0)
    except BaseException:
        fd.close()
        raise
    return fd


def check_ours(status: os.stat_result, shown: str, owners: AbstractSet[int] = frozenset()) -> None:
    """Refuse a file that is somebody else's, or has a second name, which may be somebody else's.

    Args:
        status: of the open file.
        shown: its path.
        owners: who may own it beside root and this process's user.

    Raises:
        Untrusted: see above.
    """
    if status.st_uid not in trusted_owners() | owners:
        raise Untrusted(f"{shown}: it belongs to user {status.st_uid}")
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise Untrusted(f"{shown}: it has {status.st_nlink} names (hard links)")


def open_blocking(path: str, flags: int, mode: int = NEW_MODE, folder: int | None = None, shown: str = "") -> OwnedFd:
    """Open a file without waiting for its other side; afterwards its reads and writes block.

    Raises:
        OSError: open(2); its filename is `shown`.
    """
    fd = OwnedFd()
    try:
        fd.open(path, flags | COMMON, mode, dir_fd=folder)
    except OSError as error:
        error.filename = shown or path
        if error.errno == errno.ENXIO:
            error.strerror = "it is a FIFO without a reader, a socket, or a device without a driver"
        raise
    fd.lift()
    os.set_blocking(fd.number, True)
    return fd
