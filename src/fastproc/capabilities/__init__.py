"""Capabilities: values, their text forms, what this kernel has, and those of processes and files (capabilities(7)).

Not here: changing the capabilities of this process, which is `fastproc.privileges`.
"""

from __future__ import annotations

import errno
import os
import stat

from fastproc._native import credentials as _native
from fastproc._native import proc
from fastproc._values.capabilities import Capabilities, Capability, CapabilitySet
from fastproc._values.identity import Identity, check_pid
from fastproc.capabilities import _text as captext
from fastproc.capabilities._file import XATTR, FileCapabilities
from fastproc.capabilities._text import IAB, CapabilityState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader

    from fastproc._values.capabilities import CapabilityLike

    Place = str | bytes | os.PathLike[str] | os.PathLike[bytes] | int

__all__ = [
    "IAB",
    "Capabilities",
    "Capability",
    "CapabilitySet",
    "CapabilityState",
    "FileCapabilities",
    "ambient_supported",
    "cap_last_cap",
    "file_capabilities_supported",
    "from_iab",
    "from_text",
    "has_cap",
    "of_process",
    "read_file",
    "remove_file",
    "to_iab",
    "to_text",
    "write_file",
]

_last_cap: int | None = None


# -- what this kernel has


def cap_last_cap() -> int:
    """Return the number of the last capability that this kernel has.

    From /proc/sys/kernel/cap_last_cap (Linux 3.2), or, without /proc, by asking for each with PR_CAPBSET_READ.
    """
    global _last_cap
    if _last_cap is None:
        try:
            with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
                found = int(file.read())
        except (OSError, ValueError):
            found = -1
        # A file that somebody put there does not decide (GOTCHAS G23).
        if found < 0 or _native.in_bounding(found) is None or _native.in_bounding(found + 1) is not None:
            found = max(number for number in range(64) if _native.in_bounding(number) is not None)
        _last_cap = found
    return _last_cap


def ambient_supported() -> bool:
    """Return whether this kernel has the ambient set (Linux 4.3)."""
    return _native.ambient_supported()


def file_capabilities_supported(path: Place) -> bool:
    """Return whether the file system of an existing file can hold capabilities (and tells them)."""
    try:
        os.getxattr(path, XATTR)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return False
        if error.errno != errno.ENODATA:
            raise
    return True


# -- processes


def of_process(pid: int | None = None) -> Capabilities:
    """Return the five sets of a process: of its main thread, or of the calling thread for None.

    Args:
        pid: a process or thread id.

    Raises:
        ProcessLookupError: there is none.
        TypeError, ValueError: it is no pid.
        OSError: a pid is given, and no /proc is mounted, or another PID namespace's.
    """
    if pid is None and not _is_told():
        return Capabilities(*(CapabilitySet.from_mask(getattr(_native.held(), name)) for name in Capabilities._fields))
    return read_identity(pid).capabilities


def has_cap(capability: CapabilityLike, pid: int | None = None) -> bool:
    """Return whether a process may use a capability now: it is in the effective set.

    Args:
        capability: a name or a number.
        pid: as in `of_process`.
    """
    return Capability.find(capability) in of_process(pid).effective


proc_fd = -1
"""A descriptor of /proc, for the time in which this process is in another root; see `_credentials.proc_at()`."""


def open_proc(path: str) -> BufferedReader:
    """Open a file below /proc for reading."""
    if proc_fd < 0:
        return open(path, "rb")
    return open(path.removeprefix("/proc/"), "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=proc_fd))


def read_identity(pid: int | None = None) -> Identity:
    """Return what /proc/PID/status tells about ids, groups and capabilities; see `fastproc.privileges.identity`."""
    path = "/proc/thread-self/status" if pid is None else f"/proc/{check_pid('pid', pid)}/status"
    check_proc(path)
    try:
        with open_proc(path) as file:
            data = file.read()
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, "no such process", path) from None
    return Identity.from_status(data)


def _is_told() -> bool:
    try:
        check_proc()
    except OSError:
        return False
    return True


def check_proc(path: str = "/proc") -> None:
    """Make sure that the numbers in /proc are those of this process's PID namespace.

    Raises:
        FileNotFoundError: no /proc is mounted.
        OSError: EXDEV: it is another PID namespace's; EMFILE, ENFILE, ENOMEM.
    """
    try:
        proc.check(proc_fd)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        raise FileNotFoundError(errno.ENOENT, "no /proc is mounted", path) from None


# -- text


def from_text(text: str) -> CapabilityState:
    """Read libcap's text form, such as `cap_net_bind_service=ep` or `all=eip cap_chown-e`, for this kernel.

    Raises:
        ValueError: cap_from_text(3) would not take it either; says where and why.
        TypeError: it is no string.
    """
    return captext.state_from_text(text, cap_last_cap())


def to_text(state: CapabilityState | Capabilities | FileCapabilities) -> str:
    """Write libcap's text form, as cap_to_text(3) does on this kernel.

    Args:
        state: the three sets; or the five, of which it tells three; or those of a file, as getcap(8) shows them.
    """
    if isinstance(state, FileCapabilities):
        has = state.permitted | state.inheritable
        state = CapabilityState(has if state.effective else CapabilitySet(), state.permitted, state.inheritable)
    return captext.state_to_text(state.effective, state.permitted, state.inheritable, cap_last_cap())


def from_iab(text: str) -> IAB:
    """Read libcap's IAB form, such as `!cap_chown,^cap_net_raw` (cap_iab(3)).

    Raises:
        ValueError: libcap would not take it either; says where and why.
        TypeError: it is no string.
    """
    return captext.iab_from_text(text)


def to_iab(state: IAB | Capabilities) -> str:
    """Write libcap's IAB form, as cap_iab_to_text(3) does on this kernel.

    Args:
        state: an IAB, or the five sets of a process.
    """
    last = cap_last_cap()
    blocked = state.blocked if isinstance(state, IAB) else CapabilitySet.all(last) - state.bounding
    return captext.iab_to_text(state.inheritable, state.ambient, blocked, last)


# -- files


def read_file(place: Place) -> FileCapabilities | None:
    """Return the capabilities of a file; None when it has none.

    Args:
        place: a path (symbolic links are followed) or a descriptor.

    Raises:
        ValueError: the attribute is damaged.
        OSError: getxattr(2). EOVERFLOW: they are for a user namespace whose root has no number here.
    """
    try:
        return FileCapabilities.from_bytes(os.getxattr(place, XATTR))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise


def write_file(place: Place, capabilities: FileCapabilities | str) -> None:
    """Set the capabilities of a file.

    Args:
        place: a path (a symbolic link is refused) or a descriptor of a regular file.
        capabilities: the value; or a text such as `cap_net_raw=ep`, whose effective part must be all or nothing, as a
            file has only one bit for it.

    Raises:
        ValueError: no regular file; a text that a file cannot hold; a capability that this kernel does not have.
        PermissionError: CAP_SETFCAP is missing.
        OSError: setxattr(2).
    """
    value = _file_value(capabilities)
    beyond = (value.permitted | value.inheritable) - CapabilitySet.all(cap_last_cap())
    if beyond:
        raise ValueError(f"capabilities: this kernel does not have {', '.join(beyond.names)}")
    _check_regular(place)
    # cap_convert_nscap() of the kernel takes versions 2 and 3 only.
    if value.version == 1:
        raise ValueError("capabilities: the kernel reads version 1 and writes it no more: use version 2")
    try:
        os.setxattr(place, XATTR, value.to_bytes(), follow_symlinks=isinstance(place, int))
    except PermissionError as error:
        raise _needs_setfcap(error, place) from None


def remove_file(place: Place) -> bool:
    """Take the capabilities of a file away; return whether it had some.

    Args:
        place: as in `write_file`.

    Raises:
        ValueError: no regular file.
        PermissionError: CAP_SETFCAP is missing.
        OSError: removexattr(2).
    """
    _check_regular(place)
    try:
        os.removexattr(place, XATTR, follow_symlinks=isinstance(place, int))
    except PermissionError as error:
        raise _needs_setfcap(error, place) from None
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise
    return True


def _file_value(capabilities: FileCapabilities | str) -> FileCapabilities:
    if isinstance(capabilities, FileCapabilities):
        return capabilities
    if not isinstance(capabilities, str):
        raise TypeError(f"capabilities: must be FileCapabilities or a text, not {capabilities!r}")
    state = from_text(capabilities)
    has = state.permitted | state.inheritable
    if state.effective and has - state.effective:
        raise ValueError(
            f"capabilities: {capabilities!r}: a file has one effective bit for all; "
            f"{', '.join((has - state.effective).names)} would be effective too"
        )
    if state.effective - has:
        missing = ", ".join((state.effective - has).names)
        raise ValueError(
            f"capabilities: {capabilities!r}: {missing} is effective, but neither permitted nor inheritable"
        )
    return FileCapabilities(state.permitted, state.inheritable, bool(state.effective))


def _check_regular(place: Place) -> None:
    # execve(2) looks only at regular files; setxattr would take others (GOTCHAS H8: and links lead elsewhere).
    mode = os.stat(place, follow_symlinks=isinstance(place, int)).st_mode
    if not stat.S_ISREG(mode):
        what = "is a symbolic link" if stat.S_ISLNK(mode) else "is no regular file"
        raise ValueError(f"place: {place!r} {what}")


def _needs_setfcap(error: PermissionError, place: Place) -> PermissionError:
    text = f"{error.strerror}: changing the capabilities of a file needs cap_setfcap"
    return PermissionError(error.errno, text, None if isinstance(place, int) else os.fspath(place))
