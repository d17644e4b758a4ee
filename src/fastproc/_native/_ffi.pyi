"""The compiled binding. Its declarations are the cdef region of csrc/fastproc.h; a second copy would drift."""

from typing import Any

ffi: Any
lib: Any
