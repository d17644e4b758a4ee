"""One entry of the user or group database, and the calling thread's ids: the typed door to csrc/self/users.c."""

from __future__ import annotations

import os
from errno import ERANGE

from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Entry = tuple[bytes, bytes, int, int, bytes, bytes, bytes]
    GroupEntry = tuple[bytes, bytes, int, list[bytes]]
    FourIds = tuple[int, int, int, int]

_PASSWD = ffi.typeof("struct fp_passwd *")
_GROUP = ffi.typeof("struct fp_group *")
_BUFFER = ffi.typeof("char[]")
_UINTS = ffi.typeof("uint32_t[4]")
_FIRST = 1024
_LAST = 1 << 26


def _ask(function: Any, name: bytes | None, number: int, entry: Any) -> Any:
    """Return the buffer in which the entry's strings lie; None when there is no such entry."""
    size = _FIRST
    while True:
        buffer = ffi.new(_BUFFER, size)
        r = function(ffi.NULL if name is None else name, number, buffer, size, entry)
        if r == -ERANGE and size < _LAST:
            size *= 4
            continue
        if r < 0:
            raise OSError(-r, os.strerror(-r))
        return buffer if r else None


def _text(pointer: Any) -> bytes:
    return ffi.string(pointer) if pointer else b""


def passwd(name: bytes | None, uid: int = 0) -> Entry | None:
    """Return name, password, uid, gid, gecos, directory, shell of a user; None when there is none.

    Args:
        name: the user's; None to ask by uid.
        uid: asked for when there is no name.

    Raises:
        OSError: the database could not be asked.
    """
    entry = ffi.new(_PASSWD)
    buffer = _ask(lib.fp_passwd_get, name, uid, entry)
    if buffer is None:
        return None
    return (
        _text(entry.name),
        _text(entry.password),
        entry.uid,
        entry.gid,
        _text(entry.gecos),
        _text(entry.dir),
        _text(entry.shell),
    )


def passwd_ids(name: bytes | None, uid: int = 0) -> tuple[int, int] | None:
    """Return uid and primary gid of a user; None when there is none. Arguments and errors as those of `passwd()`."""
    entry = ffi.new(_PASSWD)
    return None if _ask(lib.fp_passwd_get, name, uid, entry) is None else (entry.uid, entry.gid)


def group(name: bytes | None, gid: int = 0) -> GroupEntry | None:
    """Return name, password, gid, members of a group; None when there is none.

    Args:
        name: the group's; None to ask by gid.
        gid: asked for when there is no name.

    Raises:
        OSError: the database could not be asked.
    """
    entry = ffi.new(_GROUP)
    buffer = _ask(lib.fp_group_get, name, gid, entry)
    if buffer is None:
        return None
    members: list[bytes] = []
    while entry.members and entry.members[len(members)]:
        members.append(_text(entry.members[len(members)]))
    return _text(entry.name), _text(entry.password), entry.gid, members


def ids() -> tuple[FourIds, FourIds]:
    """Return the real, effective, saved and filesystem uids and gids of the calling thread."""
    uids, gids = ffi.new(_UINTS), ffi.new(_UINTS)
    lib.fp_ids_get(uids, gids)
    return (uids[0], uids[1], uids[2], uids[3]), (gids[0], gids[1], gids[2], gids[3])
