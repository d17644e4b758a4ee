"""libcap as a witness that is not ours: its text forms, through ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import POINTER, byref, c_char_p, c_int, c_ssize_t, c_void_p

import pytest


class Libcap:
    """The functions of libcap.so.2 that tests compare with."""

    def __init__(self) -> None:
        """Load it, or skip the test."""
        try:
            lib = ctypes.CDLL("libcap.so.2", use_errno=True)
        except OSError as error:
            pytest.skip(f"no libcap.so.2 (Debian: libcap2): {error}")
        self.lib = lib
        for name, result, arguments in (
            ("cap_from_text", c_void_p, [c_char_p]),
            ("cap_to_text", c_void_p, [c_void_p, POINTER(c_ssize_t)]),
            ("cap_init", c_void_p, []),
            ("cap_get_flag", c_int, [c_void_p, c_int, c_int, POINTER(c_int)]),
            ("cap_set_flag", c_int, [c_void_p, c_int, c_int, POINTER(c_int), c_int]),
            ("cap_free", c_int, [c_void_p]),
            ("cap_max_bits", c_int, []),
            ("cap_iab_init", c_void_p, []),
            ("cap_iab_from_text", c_void_p, [c_char_p]),
            ("cap_iab_to_text", c_void_p, [c_void_p]),
            ("cap_iab_get_vector", c_int, [c_void_p, c_int, c_int]),
            ("cap_iab_set_vector", c_int, [c_void_p, c_int, c_int, c_int]),
        ):
            try:
                function = getattr(lib, name)
            except AttributeError:
                pytest.skip(f"this libcap has no {name}")
            function.restype, function.argtypes = result, arguments
        self.last_cap = int(lib.cap_max_bits()) - 1

    def _text(self, pointer: int) -> str:
        text = ctypes.string_at(pointer).decode("ascii")
        self.lib.cap_free(pointer)
        return text

    def state_from_text(self, text: str) -> tuple[int, int, int] | None:
        """Masks of effective, permitted, inheritable; None when libcap refuses the text."""
        caps = self.lib.cap_from_text(text.encode())
        if not caps:
            return None
        masks = [0, 0, 0]
        value = c_int()
        for flag in range(3):
            for number in range(64):
                assert self.lib.cap_get_flag(caps, number, flag, byref(value)) == 0
                masks[flag] |= value.value << number
        self.lib.cap_free(caps)
        return masks[0], masks[1], masks[2]

    def state_to_text(self, *masks: int) -> str:
        """The text of effective, permitted, inheritable."""
        caps = self.lib.cap_init()
        for flag, mask in enumerate(masks):
            numbers = [number for number in range(64) if mask >> number & 1]
            for some in (numbers[:32], numbers[32:]):  # it takes 63 at most
                array = (c_int * len(some))(*some)
                assert not some or self.lib.cap_set_flag(caps, flag, len(some), array, 1) == 0
        text = self._text(self.lib.cap_to_text(caps, None))
        self.lib.cap_free(caps)
        return text

    def iab_from_text(self, text: str) -> tuple[int, int, int] | None:
        """Masks of inheritable, ambient, blocked up to the last capability; None when libcap refuses the text."""
        iab = self.lib.cap_iab_from_text(text.encode())
        if not iab:
            return None
        masks = [0, 0, 0]
        for vector in range(3):
            for number in range(self.last_cap + 1):
                masks[vector] |= self.lib.cap_iab_get_vector(iab, 2 + vector, number) << number
        self.lib.cap_free(iab)
        return masks[0], masks[1], masks[2]

    def iab_text(self, text: str) -> str:
        """An IAB read and written again."""
        iab = self.lib.cap_iab_from_text(text.encode())
        again = self._text(self.lib.cap_iab_to_text(iab))
        self.lib.cap_free(iab)
        return again
