"""Capabilities: values, text forms, the kernel's support, and the sets of processes and files (capabilities(7)).

`fastproc.privileges` changes the capabilities of this process.
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


# -- support of this kernel


def cap_last_cap() -> int:
    """Return the highest capability number of this kernel.

    It is read from /proc/sys/kernel/cap_last_cap (Linux 3.2), or, without /proc, found by PR_CAPBSET_READ.
    """
    global _last_cap
    if _last_cap is None:
        try:
            with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
                found = int(file.read())
        except (OSError, ValueError):
            found = -1
        # The file is not trusted alone: in a container it may be another file (GOTCHAS G23).
        if found < 0 or _native.in_bounding(found) is None or _native.in_bounding(found + 1) is not None:
            found = max(number for number in range(64) if _native.in_bounding(number) is not None)
        _last_cap = found
    return _last_cap


def ambient_supported() -> bool:
    """Return whether this kernel has the ambient set (Linux 4.3)."""
    return _native.ambient_supported()


def file_capabilities_supported(path: Place) -> bool:
    """Return whether the file system of an existing file supports capabilities."""
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
    """Return the five sets of a process.

    Args:
        pid: a pid, for the main thread of the process, or a thread id. None: the calling thread.

    Raises:
        ProcessLookupError: there is no such process or thread.
        TypeError, ValueError: `pid` is not a pid.
        OSError: a pid is given, and /proc is not mounted or belongs to another PID namespace.
    """
    if pid is None and not _is_told():
        return Capabilities(*(CapabilitySet.from_mask(getattr(_native.held(), name)) for name in Capabilities._fields))
    return read_identity(pid).capabilities


def has_cap(capability: CapabilityLike, pid: int | None = None) -> bool:
    """Return whether a capability is in the effective set of a process.

    Args:
        capability: a name or a number.
        pid: as for `of_process()`.
    """
    return Capability.find(capability) in of_process(pid).effective


proc_fd = -1
"""A descriptor of /proc while this process is in another root, or -1; see `proc_at` in privileges/_all_threads.py."""


def open_proc(path: str) -> BufferedReader:
    """Open a file below /proc for reading."""
    if proc_fd < 0:
        return open(path, "rb")
    return open(path.removeprefix("/proc/"), "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=proc_fd))


def read_identity(pid: int | None = None) -> Identity:
    """Return the ids, groups and capabilities in /proc/PID/status; see `fastproc.privileges.identity()`."""
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
    """Check that /proc belongs to the PID namespace of this process.

    Raises:
        FileNotFoundError: /proc is not mounted.
        OSError: EXDEV: /proc belongs to another PID namespace; EMFILE, ENFILE, ENOMEM.
    """
    try:
        proc.check(proc_fd)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        raise FileNotFoundError(errno.ENOENT, "no /proc is mounted", path) from None


# -- text


def from_text(text: str) -> CapabilityState:
    """Parse libcap's text form, such as `cap_net_bind_service=ep` or `all=eip cap_chown-e`, for this kernel.

    Raises:
        ValueError: the text is invalid for cap_from_text(3); the message has the position and the reason.
        TypeError: `text` is not a string.
    """
    return captext.state_from_text(text, cap_last_cap())


def to_text(state: CapabilityState | Capabilities | FileCapabilities) -> str:
    """Return libcap's text form, as cap_to_text(3) returns it on this kernel.

    Args:
        state: three sets; five sets, of which three are used; or the capabilities of a file, in the form of getcap(8).
    """
    if isinstance(state, FileCapabilities):
        has = state.permitted | state.inheritable
        state = CapabilityState(has if state.effective else CapabilitySet(), state.permitted, state.inheritable)
    return captext.state_to_text(state.effective, state.permitted, state.inheritable, cap_last_cap())


def from_iab(text: str) -> IAB:
    """Parse libcap's IAB form, such as `!cap_chown,^cap_net_raw` (cap_iab(3)).

    Raises:
        ValueError: the text is invalid for libcap; the message has the position and the reason.
        TypeError: `text` is not a string.
    """
    return captext.iab_from_text(text)


def to_iab(state: IAB | Capabilities) -> str:
    """Return libcap's IAB form, as cap_iab_to_text(3) returns it on this kernel.

    Args:
        state: an IAB, or the five sets of a process.
    """
    last = cap_last_cap()
    blocked = state.blocked if isinstance(state, IAB) else CapabilitySet.all(last) - state.bounding
    return captext.iab_to_text(state.inheritable, state.ambient, blocked, last)


# -- files


def read_file(place: Place) -> FileCapabilities | None:
    """Return the capabilities of a file; None if it has none.

    Args:
        place: a path (symbolic links are followed) or a descriptor.

    Raises:
        ValueError: the attribute is malformed.
        OSError: getxattr(2) failed. EOVERFLOW: they are for a user namespace whose root has no uid in this namespace.
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
        capabilities: the value, or a text such as `cap_net_raw=ep`. A file has one effective bit, so either all or none
            of the capabilities must be effective.

    Raises:
        ValueError: `place` is not a regular file; a file cannot hold the sets of the text; this kernel does not have a
            capability.
        PermissionError: CAP_SETFCAP is missing.
        OSError: setxattr(2) failed.
    """
    value = _file_value(capabilities)
    beyond = (value.permitted | value.inheritable) - CapabilitySet.all(cap_last_cap())
    if beyond:
        raise ValueError(f"capabilities: this kernel does not have {', '.join(beyond.names)}")
    _check_regular(place)
    # cap_convert_nscap() of the kernel accepts only versions 2 and 3.
    if value.version == 1:
        raise ValueError("capabilities: the kernel reads version 1 but does not write it: use version 2")
    try:
        os.setxattr(place, XATTR, value.to_bytes(), follow_symlinks=isinstance(place, int))
    except PermissionError as error:
        raise _needs_setfcap(error, place) from None


def remove_file(place: Place) -> bool:
    """Remove the capabilities of a file; return whether it had any.

    Args:
        place: as for `write_file()`.

    Raises:
        ValueError: `place` is not a regular file.
        PermissionError: CAP_SETFCAP is missing.
        OSError: removexattr(2) failed.
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
    # execve(2) uses the attribute only of regular files, but setxattr(2) accepts others. Links are refused (GOTCHAS
    # H8).
    mode = os.stat(place, follow_symlinks=isinstance(place, int)).st_mode
    if not stat.S_ISREG(mode):
        what = "is a symbolic link" if stat.S_ISLNK(mode) else "is not a regular file"
        raise ValueError(f"place: {place!r} {what}")


def _needs_setfcap(error: PermissionError, place: Place) -> PermissionError:
    text = f"{error.strerror}: changing the capabilities of a file needs cap_setfcap"
    return PermissionError(error.errno, text, None if isinstance(place, int) else os.fspath(place))
