r"""Templates of commands: words with placeholders for an item, as in xargs and GNU parallel. No shell reads them.

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
    """Return where the extension of a path starts, or the length of the path: GNU parallel's {.} ends there."""
    dot = path.rfind(".")
    return dot if dot > path.rfind("/") else len(path)


def _without(path: str) -> str:
    return path[: extension(path)]


def _base(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def _directory(path: str) -> str:
    # As dirname(1): slashes after the last part are ignored.
    slash = path.rstrip("/").rfind("/")
    return path[:slash].rstrip("/") or "/" if slash >= 0 else "/" if path.startswith("/") else "."


FORMS: dict[str, Callable[[str], str]] = {
    "": str,
    ".": _without,
    "/": _base,
    "//": _directory,
    "/.": lambda path: _without(_base(path)),
}
"""The forms in braces, after the number of a source, and the conversion of each."""


class Place:
    """A placeholder in a word: an item or a part of it, the number of the task ("#"), or its slot ("%").

    Attributes:
        form: the conversion of the item, a key of FORMS; or "#" or "%".
        source: the number of the source, from 1, or from -1 backwards; None for all sources.
    """

    __module__ = "fastproc.mapping"
    __slots__ = ("form", "source")

    def __init__(self, form: str, source: int | None) -> None:
        self.form = form
        self.source = source

    @property
    def is_for_all(self) -> bool:
        """Whether the placeholder stands for the items of all sources."""
        return self.source is None and self.form in FORMS

    def values(self, items: tuple[str, ...], number: int, slot: int | str) -> list[str]:
        """Return the values for the placeholder, one for each source."""
        if self.form == "#":
            return [str(number)]
        if self.form == "%":
            return [str(slot)]
        make = FORMS[self.form]
        if self.source is None:
            return [make(item) for item in items]
        index = self.source - 1 if self.source > 0 else self.source
        # A missing source gives an empty text, as in GNU parallel.
        return [make(items[index])] if -len(items) <= index < len(items) else [""]


class Template:
    """A command with placeholders for items.

    Placeholders: `{}` the item; `{.}` the item without its extension; `{/}` its last path component; `{//}` its
    directory; `{/.}` the last component without extension; `{1}`, `{2/.}`, `{-1}` and so on the same for one of several
    sources; `{#}` the number of the task, from 1; `{%}` its slot, from 1 to the number of workers. If a word is only
    `{}`, each item becomes an argument. If there is no placeholder, the item is appended after the last word. An item
    is never split, unquoted or expanded.

    Attributes:
        words: the words, each a tuple of str and Place.
        takes_items: whether there is a placeholder for an item.
        takes_slot: whether there is {%}.
        shell: whether the template is one line for `sh -c`, in which items are quoted.
        repeats: whether a word with a placeholder is repeated for each of several items.
    """

    __module__ = "fastproc.mapping"

    __slots__ = ("repeats", "shell", "takes_items", "takes_slot", "words")

    def __init__(
        self, words: Iterable[str], mark: str = "{}", shell: bool = False, append: bool = True, repeats: bool = False
    ) -> None:
        """Find the placeholders in words.

        Args:
            words: the program and its arguments, or one line for a shell.
            mark: the placeholder for the item, instead of {}.
            shell: whether this is a line for a shell.
            append: whether the item is appended after the last word if there is no placeholder.
            repeats: whether a word with a placeholder is repeated for each of several items, as by -X of GNU parallel.
                Otherwise the items are joined with spaces in one word.

        Raises:
            ValueError: there is no word; `mark` is empty; in a line for a shell a placeholder is inside quotes, or
                would have to be repeated and is only a part of a word.
        """
        if not mark:
            raise ValueError("replace: must not be empty")
        self.words = [tuple(_parts(word, mark)) for word in words]
        if not self.words or (shell and not any(self.words)):
            raise ValueError("template: it has no command")
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
        """Split a line into words as a shell does (blanks, quotes, backslashes), and find the placeholders.

        Raises:
            ValueError: a quote is not closed; an unquoted character is for a shell: see split(); or the first word is
                an assignment, as in `A=b make`, or begins a compound command, as `if`.
        """
        _check_first(text)
        return cls(split(text, mark), mark, append=append, repeats=repeats)

    @property
    def takes_one_source(self) -> bool:
        """Whether there is a placeholder for the item of one source."""
        return any(isinstance(part, Place) and part.source is not None for word in self.words for part in word)

    @property
    def places(self) -> int:
        """The number of placeholders."""
        return sum(isinstance(part, Place) for word in self.words for part in word)

    def render(
        self, items: tuple[str, ...], number: int, slot: int | str, quoted: Callable[[str], str] = quote
    ) -> list[str]:
        """Return the arguments for items, one of each source.

        Args:
            items: the items.
            number: the number of the task.
            slot: the slot of the task.
            quoted: the function that quotes an item in a line for a shell. A line for people uses another function.
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
    """Return a word with its placeholders replaced; those for all items by `every`, if it is given."""
    return "".join(
        part
        if isinstance(part, str)
        else " ".join(map(show, part.values(items if every is None or not part.is_for_all else every, number, slot)))
        for part in word
    )


def _parts(word: str, mark: str) -> Iterator[Part]:
    """Split a word into text and placeholders."""
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
    """Return the placeholder for the text in braces; None if it is not a placeholder."""
    if body in ("#", "%"):
        return Place(body, None)
    digits = len(body) - len(body.lstrip("-0123456789"))
    source, form = body[:digits], body[digits:]
    # {} itself is the mark, which may have another value.
    if form not in FORMS or not body:
        return None
    if not source:
        return Place(form, None)
    number = source.removeprefix("-")
    if not (number.isascii() and number.isdigit()) or int(number) == 0:
        return None
    return Place(form, int(source))


_FOR_A_SHELL_HERE = "is for a shell, and no shell reads this: quote it, or use the words 'sh', '-c', ..."
_COMPOUND = ("!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "then", "until", "while")


def _check_first(text: str) -> None:
    """Refuse a first word that is for a shell.

    Raises:
        ValueError: the word is an assignment or a reserved word, and has no quote.
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
    """Refuse an unquoted character that has a meaning for a shell at this position.

    Args:
        word: the word before the character, without quotes.
        start: the position of the word in the text.
        text: the line.
        at: the position of the character.

    Raises:
        ValueError: the character has a meaning.
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
    """Return the beginning of a word with each quote, and each quoted or escaped character, replaced by a NUL."""
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
    r"""Split a line into words as a POSIX shell does, without `shlex`, which imports `re`.

    These are refused unless they are quoted: `| & ; < > ( ) ` $ * ? [` and a newline; `~` and `#` at the beginning of a
    word, and `~` after the `=` or a `:` of an assignment; braces that bash expands, such as {a,b} and {1..3}. All other
    characters are taken literally.
    The mark of a placeholder, if given, is never refused.

    >>> split(r'''printf '%s\n' "a b"  c\ d''')
    ['printf', '%s\\n', 'a b', 'c d']

    Raises:
        ValueError: a quote is not closed, or an unquoted character is for a shell.
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
    """Read a quoted part; return the position after it."""
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
            raise ValueError(f"template: {char!r} is for a shell, and no shell reads this: put it into single quotes")
        else:
            word.append(char)
    raise ValueError(f"template: a quote {mark} is not closed")


def _check_unquoted(word: tuple[Part, ...]) -> None:
    """Refuse a placeholder inside quotes: the item is quoted, and its quotes would end these."""
    inside = ""
    for part in word:
        if not isinstance(part, str):
            if inside:
                raise ValueError(f"template: {inside}{{}}{inside}: omit the quotes, an item is quoted already")
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
    """Refuse a placeholder for all items that is only a part of a word: only a shell can find the whole word."""
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
    """Return an item as the text of an argument: str, bytes and paths unchanged, numbers by str().

    Raises:
        TypeError: the item has another type.
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
    """Return the text of an item for each source: the parts of a tuple or list."""
    if isinstance(item, (tuple, list)):
        return tuple(map(item_text, item))
    return (item_text(item),)
