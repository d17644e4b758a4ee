"""The part of the door to C that descriptors are owned by: cells whose destructor closes what is in them."""

from __future__ import annotations

from os import strerror

from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Cell = Any
    """An int32_t[1]; the number is its first item, -1 where there is none."""

_new = ffi.new
_gc = ffi.gc
_CELL = ffi.typeof("int32_t[1]")
_drop = lib.fp_fd_drop
_close = lib.fp_fd_close

take = lib.fp_fd_take
"""Take the number out of a cell, which closes it no more; -1 where there is none."""


def new_cell(fd: int) -> Cell:
    """Return the owner of a descriptor. Its destructor is C: no signal handler runs in it, so none raises in vain."""
    return _gc(_new(_CELL, (fd,)), _drop)


def close(cell: Cell) -> None:
    """Close what is in a cell, if there is anything.

    Raises:
        OSError: close(2). The descriptor is gone all the same.
    """
    r = _close(cell)
    if r < 0:
        raise OSError(-r, strerror(-r))
