"""Capabilities as text: parsing and formatting libcap's forms by its rules (cap_from_text(3), cap_iab(3)). Pure.

The grammar includes libcap's special cases. A comma may end the IAB form. Numbers are read as in C (0x1f, 037). `all`
means every capability of the kernel.
"""

from __future__ import annotations

from fastproc._values.capabilities import LAST_KNOWN, NUMBERS, Capability, CapabilitySet, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

_SPACE = " \t\n\v\f\r"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_NAME_START = _LETTERS + _DIGITS + "_"
_EFFECTIVE, _PERMITTED, _INHERITABLE = 1, 2, 4
_FLAGS = {"e": _EFFECTIVE, "i": _INHERITABLE, "p": _PERMITTED}

if TYPE_CHECKING:

    class CapabilityState(NamedTuple):
        """The three sets of capget(2) and of libcap's text form. See below."""

        effective: CapabilitySet
        permitted: CapabilitySet
        inheritable: CapabilitySet

    class IAB(NamedTuple):
        """The capabilities that an execve passes on. See below."""

        inheritable: CapabilitySet
        ambient: CapabilitySet
        blocked: CapabilitySet

else:
    from collections import namedtuple

    CapabilityState = namedtuple(
        "CapabilityState", ("effective", "permitted", "inheritable"), module="fastproc.capabilities"
    )
    CapabilityState.__doc__ = """The three sets of capget(2) and of libcap's text form, each a CapabilitySet."""
    IAB = namedtuple("IAB", ("inheritable", "ambient", "blocked"), module="fastproc.capabilities")
    IAB.__doc__ = """The capabilities that an execve passes on: libcap's IAB, each a CapabilitySet.

`blocked` has the capabilities that are missing in the bounding set.
"""


class _Reader:
    """A position in a text; "" is its end."""

    __slots__ = ("at", "text")

    def __init__(self, text: object) -> None:
        if not isinstance(text, str):
            raise TypeError(f"text: must be a string, not {text!r}")
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        char = self.text[self.at : self.at + 1]
        self.at += 1
        return char

    def bad(self, why: str) -> ValueError:
        return ValueError(f"{self.text!r}, at {min(self.at, len(self.text))}: {why}")

    def skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1

    def _while(self, allowed: str, start: int) -> int:
        end = start
        while end < len(self.text) and self.text[end] in allowed:
            end += 1
        return end

    def capability(self) -> int:
        """Parse one capability: a name, or a number as strtoul(3) with base 0 parses it."""
        start = self.at
        if self.peek() and self.peek() in _DIGITS:
            self.at, number = self._number(start)
            if number >= NUMBERS:
                raise self.bad(f"the numbers of capabilities are 0 to {NUMBERS - 1}")
            return number
        self.at = self._while(_LETTERS + "_", start)
        name = self.text[start : self.at].upper()
        if name not in Capability.__members__:
            self.at = start
            raise self.bad("a capability such as cap_chown is expected")
        return Capability[name]

    def _number(self, start: int) -> tuple[int, int]:
        if self.text[start] == "0":
            if self.text[start + 1 : start + 2] in ("x", "X"):
                end = self._while("0123456789abcdefABCDEF", start + 2)
                if end > start + 2:
                    return end, self._value(start + 2, end, 16)
                return start + 1, 0
            end = self._while("01234567", start)
            return end, self._value(start, end, 8)
        end = self._while(_DIGITS, start)
        return end, self._value(start, end, 10)

    def _value(self, start: int, end: int, base: int) -> int:
        digits = self.text[start:end].lstrip("0")
        # Python refuses to convert thousands of digits. Such numbers are too large anyway.
        return int(digits or "0", base) if len(digits) < 20 else NUMBERS

    def is_all(self) -> bool:
        if self.text[self.at : self.at + 3].lower() != "all":
            return False
        after = self.text[self.at + 3 : self.at + 4]
        return not after or after not in _NAME_START


def state_from_text(text: str, last_cap: int = LAST_KNOWN) -> CapabilityState:
    """Parse libcap's text form: clauses such as `cap_net_bind_service=ep` or `all=eip cap_chown-e`.

    Args:
        text: the clauses; an empty text means no capability.
        last_cap: the last capability of `all` and of a clause without a list.

    Raises:
        ValueError: the text is invalid for libcap; the message has the position and the reason.
        TypeError: `text` is not a string.
    """
    reader = _Reader(text)
    sets = {_EFFECTIVE: 0, _PERMITTED: 0, _INHERITABLE: 0}
    while True:
        reader.skip_space()
        if not reader.peek():
            return CapabilityState(
                CapabilitySet.from_mask(sets[_EFFECTIVE]),
                CapabilitySet.from_mask(sets[_PERMITTED]),
                CapabilitySet.from_mask(sets[_INHERITABLE]),
            )
        _clause(reader, sets, (2 << last_cap) - 1)


def _clause(reader: _Reader, sets: dict[int, int], everything: int) -> None:
    listed = reader.peek() in _NAME_START
    mask = _list(reader, everything) if listed else everything
    op = reader.take()
    if op not in ("=", "+", "-"):
        reader.at -= 1
        raise reader.bad("one of = + - is expected")
    if not listed and (op != "=" or reader.peek() in ("+", "-")):
        raise reader.bad(f"{op} needs a list of capabilities")
    clear, needs_flags = op == "=", op != "="
    if op == "=" and reader.peek() in ("+", "-"):
        op, needs_flags = reader.take(), True
    flags = 0
    while True:
        char = reader.peek()
        if char and char not in _SPACE:
            if char not in _FLAGS:
                raise reader.bad("one of e i p is expected")
            flags |= _FLAGS[reader.take()]
        elif needs_flags:
            raise reader.bad("one of e i p is expected after + or -")
        for flag in sets:
            if clear:
                sets[flag] &= ~mask
            if flags & flag:
                sets[flag] = sets[flag] & ~mask if op == "-" else sets[flag] | mask
        char = reader.peek()
        if char in ("+", "-"):
            if not listed:
                raise reader.bad(f"{char} needs a list of capabilities")
            op, clear, needs_flags, flags = reader.take(), False, True, 0
            char = reader.peek()
            if not char or char not in _LETTERS:
                raise reader.bad("one of e i p is expected")
        if not char or char in _SPACE:
            return


def _list(reader: _Reader, everything: int) -> int:
    mask = 0
    while True:
        if reader.is_all():
            reader.at += 3
            mask = everything  # as in libcap, this drops earlier capabilities that the kernel does not have
        else:
            mask |= 1 << reader.capability()
        if reader.peek() != ",":
            return mask
        reader.at += 1
        if not reader.peek() or reader.peek() not in _NAME_START:
            raise reader.bad("a capability is expected after the comma")


def _letters(flags: int) -> str:
    return "".join(letter for letter, flag in _FLAGS.items() if flags & flag)


def state_to_text(
    effective: CapabilitySet, permitted: CapabilitySet, inheritable: CapabilitySet, last_cap: int = LAST_KNOWN
) -> str:
    """Return libcap's text form, as cap_to_text(3): the most frequent flags come first, then the exceptions.

    Args:
        effective: the effective set.
        permitted: the permitted set.
        inheritable: the inheritable set.
        last_cap: the last capability of the kernel; higher ones are listed one by one.
    """
    groups: list[list[int]] = [[] for _ in range(8)]
    unnamed: list[list[int]] = [[] for _ in range(8)]
    for number in range(NUMBERS):
        flags = sum(
            flag
            for flag, some in ((_EFFECTIVE, effective), (_PERMITTED, permitted), (_INHERITABLE, inheritable))
            if some.mask >> number & 1
        )
        (groups if number <= last_cap else unnamed)[flags].append(number)
    most = max(range(8), key=lambda flags: (len(groups[flags]), -flags))
    words = ["=" + _letters(most)]
    for flags in range(7, -1, -1):
        if flags == most or not groups[flags]:
            continue
        word = ",".join(map(name_of, groups[flags]))
        if flags & ~most:
            op = "+"
            if words == ["="]:
                op, words = "=", []  # "= cap_chown+ep" is written "cap_chown=ep"
            word += op + _letters(flags & ~most)
        if most & ~flags:
            word += "-" + _letters(most & ~flags)
        words.append(word)
    for flags in range(7, 0, -1):
        if unnamed[flags]:
            words.append(",".join(map(name_of, unnamed[flags])) + "+" + _letters(flags))
    return " ".join(words)


def iab_from_text(text: str) -> IAB:
    """Parse libcap's IAB form: a list of capabilities with prefixes, separated by commas.

    `!` removes a capability from the bounding set, `^` makes it ambient and inheritable, `%` or no prefix makes it
    inheritable.

    Raises:
        ValueError: the text is invalid for libcap; the message has the position and the reason.
        TypeError: `text` is not a string.
    """
    reader = _Reader(text)
    inheritable = ambient = blocked = 0
    while reader.peek():
        prefixes = ""
        while reader.peek() and reader.peek() in "!^%":
            prefixes += reader.take()
        if not reader.peek():
            break
        bit = 1 << reader.capability()
        if not prefixes or "%" in prefixes or "^" in prefixes:
            inheritable |= bit
        if "^" in prefixes:
            ambient |= bit
        if "!" in prefixes:
            blocked |= bit
        if reader.peek() and reader.peek() != ",":
            raise reader.bad("a comma is expected")
        reader.take()
    return IAB(*map(CapabilitySet.from_mask, (inheritable, ambient, blocked)))


def iab_to_text(
    inheritable: CapabilitySet, ambient: CapabilitySet, blocked: CapabilitySet, last_cap: int = LAST_KNOWN
) -> str:
    """Return libcap's IAB form, as cap_iab_to_text(3).

    Args:
        inheritable: capabilities that an execve may pass on.
        ambient: capabilities that an execve passes on.
        blocked: capabilities that are missing in the bounding set.
        last_cap: the last capability of the kernel; higher ones are left out.
    """
    words = []
    for number in range(last_cap + 1):
        is_blocked, is_ambient, is_inheritable = (some.mask >> number & 1 for some in (blocked, ambient, inheritable))
        if is_blocked or is_ambient or is_inheritable:
            mark = "^" if is_ambient else "%" if is_blocked and is_inheritable else ""
            words.append(("!" if is_blocked else "") + mark + name_of(number))
    return ",".join(words)
