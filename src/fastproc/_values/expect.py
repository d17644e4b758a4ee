"""Finding the first of several patterns in what has been read so far. Pure: bytes in, the place of the match out.

Invariant: what is found does not depend on how the bytes were cut into pieces, but for a regular expression that can
match more than one length: that one matches what has come when it first matches.
"""

from __future__ import annotations

from codecs import getincrementaldecoder

from fastproc.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import Any, NamedTuple

    Pattern = bytes | str | re.Pattern[bytes] | re.Pattern[str] | type[EOFError]

    class Expected(NamedTuple):
        """What `Process.expect` found.

        Attributes:
            which: the index of the pattern; 0 where there is one.
            before: the bytes before it that nobody had read.
            data: the bytes that it matched; b"" for the end of the output.
            match: the re.Match of a regular expression, else None.
        """

        which: int
        before: bytes
        data: bytes
        match: re.Match[Any] | None
else:
    from collections import namedtuple

    Expected = namedtuple("Expected", ("which", "before", "data", "match"), module="fastproc")
    Expected.__doc__ = (
        "What Process.expect() found: which pattern, the bytes before it, its bytes, the re.Match or None."
    )


class EndOfOutput(ProcessError, EOFError):
    """The output has ended, and nothing of what was expected was in it.

    Attributes:
        patterns: what was expected.
        before: what there was; it can still be read.
    """

    __module__ = "fastproc"

    def __init__(self, patterns: tuple[Any, ...], before: bytes = b"") -> None:
        super().__init__(patterns, before)
        self.patterns = patterns
        self.before = before

    def __str__(self) -> str:
        """What was expected, and the last of what came."""
        wanted = " or ".join(describe(pattern) for pattern in self.patterns)
        return f"the output ended without {wanted}; its last bytes: {self.before[-200:]!r}"


def describe(pattern: Any) -> str:
    """Return a pattern for a message."""
    return "its end" if pattern is EOFError else repr(getattr(pattern, "pattern", pattern))


class Search:
    """Looks for the first of several patterns in bytes that grow.

    The match that begins first counts; of those that begin at one place the pattern that was given first.

    Args:
        patterns: bytes, str (taken as UTF-8), compiled regular expressions of either, EOFError for the end; or several
            of them in a list or tuple.

    Attributes:
        patterns: as a tuple.
        takes_end: the index of EOFError, or -1.

    Raises:
        TypeError, ValueError: something else, nothing, or an empty text.
    """

    __slots__ = ("_from", "_literals", "_regexes", "_text", "patterns", "takes_end")

    def __init__(self, patterns: Pattern | list[Pattern] | tuple[Pattern, ...]) -> None:
        self.patterns: tuple[Any, ...] = tuple(patterns) if isinstance(patterns, (list, tuple)) else (patterns,)
        if not self.patterns:
            raise ValueError("pattern: there is none to expect")
        self.takes_end = -1
        self._literals: list[tuple[int, bytes]] = []
        self._regexes: list[tuple[int, Any]] = []
        self._text = False
        for index, pattern in enumerate(self.patterns):
            self._add(index, pattern)
        # Where to go on looking for literals: what is before was seen whole.
        self._from = 0

    def _add(self, index: int, pattern: Any) -> None:
        if pattern is EOFError:
            self.takes_end = index
        elif isinstance(pattern, (bytes, str)):
            if not pattern:
                raise ValueError("pattern: is empty, which is found everywhere")
            self._literals.append((index, pattern.encode() if isinstance(pattern, str) else pattern))
        elif callable(getattr(pattern, "search", None)) and isinstance(getattr(pattern, "pattern", None), (bytes, str)):
            self._regexes.append((index, pattern))
            self._text = self._text or isinstance(pattern.pattern, str)
        else:
            raise TypeError(
                "pattern: must be bytes, str, a compiled regular expression, EOFError or a list of them, not "
                f"{type(pattern).__name__}"
            )

    @property
    def is_literal(self) -> bool:
        """Whether no regular expression is among the patterns."""
        return not self._regexes

    def find(self, data: bytes | bytearray) -> Expected | None:
        """Return the match in all that has come so far, or None. Each call is given what the last was, and more.

        Where `is_literal`, only what is new is looked at, and nothing of a bytearray is kept or copied but a match.
        """
        best: tuple[int, int, int, Any] | None = None
        for index, literal in self._literals:
            start = data.find(literal, max(0, self._from - len(literal) + 1))
            if start >= 0:
                best = _first(best, (start, index, start + len(literal), None))
        if self._regexes:
            whole = bytes(data)
            text = _decode(whole) if self._text else ""
            for index, regex in self._regexes:
                best = _first(best, _search(index, regex, whole, text))
        self._from = len(data)
        if best is None:
            return None
        start, index, end, match = best
        return Expected(index, bytes(data[:start]), bytes(data[start:end]), match)

    def at_end(self, data: bytes) -> Expected | None:
        """Return the match of the end itself, or None where that is not expected."""
        return None if self.takes_end < 0 else Expected(self.takes_end, data, b"", None)


Found = tuple[int, int, int, object]


def _first(one: Found | None, other: Found | None) -> Found | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda found: found[:2])


def _search(index: int, regex: Any, data: bytes, text: str) -> Found | None:
    if isinstance(regex.pattern, bytes):
        match = regex.search(data)
        return None if match is None else (match.start(), index, match.end(), match)
    match = regex.search(text)
    if match is None:
        return None
    start = len(text[: match.start()].encode("utf-8", "surrogateescape"))
    return start, index, start + len(match.group().encode("utf-8", "surrogateescape")), match


def _decode(data: bytes) -> str:
    """As text, without a character that has not come whole; what is no UTF-8 becomes what it was when encoded again."""
    return getincrementaldecoder("utf-8")("surrogateescape").decode(data)
