r"""Templates of commands: words with places for an item, as xargs and GNU parallel have them; no shell reads them.

>>> Template.parse("convert {} -resize '50 %' {.}.png").render(("a b.jpg",), 1, 1)
['convert', 'a b.jpg', '-resize', '50 %', 'a b.png']
"""

from __future__ import annotations

from os import fsdecode, fspath

from fastproc._values.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

    Part: TypeAlias = "str | Place"

_FOR_A_SHELL = frozenset("|&;<>()`$*?[\n")
_BLANKS = " \t"
_ESCAPED_IN_QUOTES = '"\\$`\n'


def extension(path: str) -> int:
    """Where the extension of a path starts, its length without one: what GNU parallel cuts off for {.}."""
    dot = path.rfind(".")
    return dot if dot > path.rfind("/") else len(path)


def _without(path: str) -> str:
    return path[: extension(path)]


def _base(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def _directory(path: str) -> str:
    # As dirname(1): the slashes behind the last part are none of it.
    slash = path.rstrip("/").rfind("/")
    return path[:slash].rstrip("/") or "/" if slash >= 0 else "/" if path.startswith("/") else "."


FORMS: dict[str, Callable[[str], str]] = {
    "": str,
    ".": _without,
    "/": _base,
    "//": _directory,
    "/.": lambda path: _without(_base(path)),
}
"""What may stand in braces behind the number of a source, and what it makes of the item."""


class Place:
    """A place in a word: an item or what is made of it, or the number of the task ("#"), or its slot ("%").

    Attributes:
        form: what is made of it; a key of FORMS, or one of these two.
        source: of which source it is, from 1, or from -1 backwards; None for all.
    """

    __module__ = "fastproc.mapping"
    __slots__ = ("form", "source")

    def __init__(self, form: str, source: int | None) -> None:
        self.form = form
        self.source = source

    @property
    def is_for_all(self) -> bool:
        """Whether it takes the items of all sources."""
        return self.source is None and self.form in FORMS

    def values(self, items: tuple[str, ...], number: int, slot: int | str) -> list[str]:
        """Return what stands there: one for each source that is meant."""
        if self.form == "#":
            return [str(number)]
        if self.form == "%":
            return [str(slot)]
        make = FORMS[self.form]
        if self.source is None:
            return [make(item) for item in items]
        index = self.source - 1 if self.source > 0 else self.source
        # A source that is not there gives nothing, as with GNU parallel.
        return [make(items[index])] if -len(items) <= index < len(items) else [""]


class Template:
    """A command with places for items.

    Places: `{}` the item; `{.}` without its extension; `{/}` its last part; `{//}` its directory; `{/.}` the last part
    without extension; `{1}`, `{2/.}`, `{-1}` and so on those of one of several sources; `{#}` the number of the task,
    from 1; `{%}` its slot, from 1 to the number of workers. A word that is only `{}` becomes as many arguments as there
    are items. Where there is no place at all, the item comes behind the last word.
    An item is never split, unquoted or expanded.

    Attributes:
        words: each a tuple of str and Place.
        takes_items: whether a place for an item was found.
        takes_slot: whether {%} was.
        shell: whether it is one line for `sh -c`, in which items are quoted.
        repeats: whether a word with a place in it is repeated for each of several items.
    """

    __module__ = "fastproc.mapping"

    __slots__ = ("repeats", "shell", "takes_items", "takes_slot", "words")

    def __init__(
        self, words: Iterable[str], mark: str = "{}", shell: bool = False, append: bool = True, repeats: bool = False
    ) -> None:
        """Find the places in words.

        Args:
            words: the program and its arguments; one line for a shell.
            mark: what stands for the item in the place of {}.
            shell: whether it is a line for a shell.
            append: whether an item with no place comes behind the last word.
            repeats: whether a word with a place in it is repeated for each of several items, as GNU parallel has it
                with -X; else they come into the one word, with blanks between.

        Raises:
            ValueError: there is no word; mark is empty; a place is inside the quotes of a line for a shell, or in a
                word of it that would be repeated.
        """
        if not mark:
            raise ValueError("replace: must not be empty")
        self.words = [tuple(_parts(word, mark)) for word in words]
        if not self.words or (shell and not any(self.words)):
            raise ValueError("template: there is no command in it")
        self.shell = shell
        places = [part for word in self.words for part in word if type(part) is Place]
        self.takes_items = any(place.form in FORMS for place in places)
        self.takes_slot = any(place.form == "%" for place in places)
        self.repeats = repeats
        if shell:
            _check_unquoted(self.words[0])
            if repeats:
                _check_alone(self.words[0])
        if not places and append:
            if shell:
                self.words[0] = (*self.words[0], " ", Place("", None))
            else:
                self.words.append((Place("", None),))
            self.takes_items = True

    @classmethod
    def parse(cls, text: str, mark: str = "{}", append: bool = True, repeats: bool = False) -> Template:
        """Split a line into words as a shell does (blanks, quotes, backslashes), and find the places.

        Raises:
            ValueError: a quote is not closed; something stands unquoted there that only a shell understands: see
                split(); or the first word is an assignment, as in `A=b make`, or begins a compound command, as `if`.
        """
        _check_first(text)
        return cls(split(text, mark), mark, append=append, repeats=repeats)

    @property
    def takes_one_source(self) -> bool:
        """Whether there is a place for the item of one source."""
        return any(isinstance(part, Place) and part.source is not None for word in self.words for part in word)

    @property
    def places(self) -> int:
        """How many places there are."""
        return sum(isinstance(part, Place) for word in self.words for part in word)

    def render(
        self, items: tuple[str, ...], number: int, slot: int | str, quoted: Callable[[str], str] = quote
    ) -> list[str]:
        """Return the arguments for these items, one of each source.

        Args:
            items: of each source.
            number: of the task.
            slot: of the task.
            quoted: what quotes an item in a line for a shell: another one for a line that a person reads.
        """
        if self.shell:
            return ["sh", "-c", "".join(_joined(word, items, number, slot, quoted) for word in self.words)]
        found: list[str] = []
        for word in self.words:
            if len(word) == 1 and type(word[0]) is Place:
                found += word[0].values(items, number, slot)
            elif len(word) == 1:
                found.append(word[0])  # type: ignore[arg-type]
            elif self.repeats and any(type(part) is Place and part.is_for_all for part in word):
                found += (_joined(word, items, number, slot, str, (item,)) for item in items)
            else:
                found.append(_joined(word, items, number, slot, str))
        return found


def _joined(
    word: tuple[Part, ...],
    items: tuple[str, ...],
    number: int,
    slot: int | str,
    show: Callable[[str], str],
    every: tuple[str, ...] | None = None,
) -> str:
    """Return a word with its places filled; those for all items by `every`, if it is given."""
    return "".join(
        part
        if isinstance(part, str)
        else " ".join(map(show, part.values(items if every is None or not part.is_for_all else every, number, slot)))
        for part in word
    )


def _parts(word: str, mark: str) -> Iterator[Part]:
    """Cut a word into text and places."""
    start = at = 0
    while at < len(word):
        place, end = None, at
        if word.startswith(mark, at):
            place, end = Place("", None), at + len(mark)
        elif word[at] == "{" and (close := word.find("}", at)) > 0:
            place, end = _place(word[at + 1 : close]), close + 1
        if place is None:
            at += 1
            continue
        if start < at:
            yield word[start:at]
        yield place
        start = at = end
    if start < len(word):
        yield word[start:]


def _place(body: str) -> Place | None:
    """What braces mean; None where they are only braces."""
    if body in ("#", "%"):
        return Place(body, None)
    digits = len(body) - len(body.lstrip("-0123456789"))
    source, form = body[:digits], body[digits:]
    # {} itself is the mark, which may be another one.
    if form not in FORMS or not body:
        return None
    if not source:
        return Place(form, None)
    number = source.removeprefix("-")
    if not (number.isascii() and number.isdigit()) or int(number) == 0:
        return None
    return Place(form, int(source))


_FOR_A_SHELL_HERE = "is for a shell, and none reads this: quote it, or give the words 'sh', '-c', ..."
_COMPOUND = ("!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "then", "until", "while")


def _check_first(text: str) -> None:
    """Refuse a first word that only a shell understands.

    Raises:
        ValueError: it is an assignment or a reserved word, and no quote is in it.
    """
    text = text.strip(" \t\n")
    end = next((at for at, char in enumerate(text) if char in " \t'\"\\"), len(text))
    word = text[:end]
    name, equals, _ = word.partition("=")
    if equals and name.removesuffix("+").isidentifier() and name.isascii():
        raise ValueError(f"template: {word!r} {_FOR_A_SHELL_HERE}, or as an option, such as env_add, or by env(1)")
    if word in _COMPOUND and text[end : end + 1] in (" ", "\t", ""):
        raise ValueError(f"template: {word!r} {_FOR_A_SHELL_HERE}")


def _check_plain(word: list[str], start: int, text: str, at: int) -> None:
    """Refuse an unquoted character that means something to a shell only where it stands.

    Args:
        word: what there is of the word before it, without quotes.
        start: where the word begins in the text.
        text: the line.
        at: where the character is.

    Raises:
        ValueError: it does.
    """
    char = text[at]
    if char == "#" and at == start:
        raise ValueError(f"template: '#' at the beginning of a word, a comment, {_FOR_A_SHELL_HERE}")
    if char == "~":
        name = "".join(word).partition("=")[0]
        if at == start or (name.isascii() and name.isidentifier() and word[-1] in "=:" and "=" in word):
            raise ValueError(f"template: '~', a home directory, {_FOR_A_SHELL_HERE}")
    if char == "}":
        plain = _without_quoted(text[start:at])
        begun, depth = len(plain), 1
        while begun > 0 and depth:
            begun -= 1
            depth += (plain[begun] == "}") - (plain[begun] == "{")
        inside = plain[begun + 1 :]
        begun += start
        if not depth and ("," in inside or ".." in inside):
            raise ValueError(f"template: {text[begun : at + 1]!r}, which bash expands, {_FOR_A_SHELL_HERE}")


def _without_quoted(text: str) -> str:
    """Return the beginning of a word with a NUL for each character that is quoted or escaped, or a quote."""
    found, quote, at = [], "", 0
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\" and quote == '"' and at + 1 < len(text):
                found.append("\0")
                at += 1
            quote = "" if char == quote else quote
            found.append("\0")
        elif char == "\\" and at + 1 < len(text):
            found += "\0\0"
            at += 1
        else:
            quote = char if char in "'\"" else ""
            found.append("\0" if quote else char)
        at += 1
    return "".join(found)


def split(text: str, mark: str = "") -> list[str]:
    r"""Split a line into words as a POSIX shell does, which `shlex` would do with the imports of `re`.

    Unquoted are refused: `| & ; < > ( ) ` $ * ? [` and a newline; `~` and `#` at the beginning of a word (and `~`
    behind the `=` or a `:` of an assignment); braces that bash expands, as {a,b} and {1..3}. All others are as they
    stand.
    The mark of a place, where it is given, means nothing else.

    >>> split(r'''printf '%s\n' "a b"  c\ d''')
    ['printf', '%s\\n', 'a b', 'c d']

    Raises:
        ValueError: a quote is not closed, or something stands unquoted there that only a shell understands.
    """
    words: list[str] = []
    word: list[str] | None = None
    start = 0
    text = text.strip(" \t\n")
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char in _BLANKS:
            if word is not None:
                words.append("".join(word))
                word = None
            continue
        if char == "\\" and text[at : at + 1] == "\n":
            at += 1
            continue
        if word is None:
            word, start = [], at - 1
        if mark and text.startswith(mark, at - 1):
            word.append(mark)
            at += len(mark) - 1
        elif char == "\\":
            if at == len(text):
                raise ValueError("template: nothing follows the last backslash")
            word.append(text[at])
            at += 1
        elif char in "'\"":
            at = _quoted(text, at, char, word)
        elif char in _FOR_A_SHELL:
            raise ValueError(f"template: {char!r} {_FOR_A_SHELL_HERE}")
        else:
            _check_plain(word, start, text, at - 1)
            word.append(char)
    if word is not None:
        words.append("".join(word))
    return words


def _quoted(text: str, at: int, mark: str, word: list[str]) -> int:
    """Take what is quoted; return where it goes on."""
    while at < len(text):
        char = text[at]
        at += 1
        if char == mark:
            return at
        if mark == '"' and char == "\\" and at < len(text) and text[at] in _ESCAPED_IN_QUOTES:
            if text[at] != "\n":
                word.append(text[at])
            at += 1
        elif mark == '"' and char in "$`":
            raise ValueError(f"template: {char!r} is for a shell, and none reads this: put it into single quotes")
        else:
            word.append(char)
    raise ValueError(f"template: a quote {mark} is not closed")


def _check_unquoted(word: tuple[Part, ...]) -> None:
    """Refuse a place inside quotes: what is put there has its own, and would end these."""
    inside = ""
    for part in word:
        if not isinstance(part, str):
            if inside:
                raise ValueError(f"template: {inside}{{}}{inside}: leave the quotes away, an item is quoted already")
            continue
        at = 0
        while at < len(part):
            char = part[at]
            if char == "\\" and inside != "'":
                at += 1
            elif inside:
                inside = "" if char == inside else inside
            elif char in "'\"":
                inside = char
            at += 1


def _check_alone(word: tuple[Part, ...]) -> None:
    """Refuse a place for all items that is a part of a word only: which word that is only a shell knows."""
    for at, part in enumerate(word):
        if isinstance(part, str) or not part.is_for_all:
            continue
        before, after = word[at - 1] if at else " ", word[at + 1] if at + 1 < len(word) else " "
        if not (isinstance(before, str) and before[-1] in _ENDS_A_WORD):
            raise ValueError("template: with shell=True, {} must be a whole word to be repeated")
        if not (isinstance(after, str) and after[0] in _ENDS_A_WORD):
            raise ValueError("template: with shell=True, {} must be a whole word to be repeated")


_ENDS_A_WORD = " \t\n;|&()<>"


def item_text(item: Any) -> str:
    """Return an item as the text of an argument: str, bytes and paths as they are, numbers as str().

    Raises:
        TypeError: it is something else.
    """
    if isinstance(item, str):
        return item
    if isinstance(item, (int, float)):
        return str(item)
    try:
        return fsdecode(fspath(item))
    except TypeError:
        raise TypeError(
            f"items: must be str, bytes, paths or numbers for a template, not {type(item).__name__}"
        ) from None


def item_texts(item: Any) -> tuple[str, ...]:
    """Return what an item is for each source: of a tuple or list, its parts."""
    if isinstance(item, (tuple, list)):
        return tuple(map(item_text, item))
    return (item_text(item),)
