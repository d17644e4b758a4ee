"""Templates of commands: where items go, and how a line is split without a shell."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.quoting import join
from fastproc._values.template import Template, item_texts, split


def test_template_places_are_filled() -> None:
    """One word may have several; a word that is only a place becomes as many arguments as there are items."""
    template = Template.parse("p {} {1}{2} x{}y {-1} {3} {#}.{%} {2/.}")
    assert template.render(("a", "d/b.c"), 7, 2) == ["p", "a", "d/b.c", "ad/b.c", "xa d/b.cy", "d/b.c", "", "7.2", "b"]
    assert (template.takes_items, template.takes_slot) == (True, True)


def test_template_without_places_takes_the_item_last() -> None:
    assert Template.parse("gzip -k").render(("a b",), 1, 1) == ["gzip", "-k", "a b"]
    assert Template(["p"], append=False).render(("a",), 1, 1) == ["p"]
    assert Template(["p", "{#}"]).render(("a",), 3, 1) == ["p", "3"]


def test_template_braces_that_are_none_are_left_alone() -> None:
    words = ["awk", "{print}", "{0}", "{a}", "{1x}", "{", "{}}", "}{"]
    assert Template(words).render(("i",), 1, 1) == ["awk", "{print}", "{0}", "{a}", "{1x}", "{", "i}", "}{"]


def test_template_another_mark() -> None:
    """What is in its place then means nothing; the other places stay."""
    assert Template(["p", "%%", "{}", "{/}"], "%%").render(("a/b",), 1, 1) == ["p", "a/b", "{}", "b"]


def test_template_item_is_never_read_again() -> None:
    """Neither as a place, nor by a shell."""
    for item in ("{#}", "$(echo x)", "a b", "'", "", "-n"):
        assert Template.parse("p {}").render((item,), 1, 1) == ["p", item]


def test_template_for_a_shell_quotes_the_items() -> None:
    template = Template(["echo {} >/dev/null; echo '{'{}"], shell=True)
    assert template.render(("a'b; c",), 1, 1)[2] == """echo 'a'"'"'b; c' >/dev/null; echo '{''a'"'"'b; c'"""
    for line in ("echo '{}'", 'echo "x {} y"', "echo 'a'\\''{}'"):
        with pytest.raises(ValueError, match="leave the quotes away"):
            Template([line], shell=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no command"),
        ("   ", "no command"),
        ("a 'b", "quote ' is not closed"),
        ('a "b', 'quote " is not closed'),
        ("a \\", "nothing follows"),
        *((f"a {char} b", "for a shell") for char in "|&;<>()`$*?[\n"),
        ('a "$x"', "for a shell"),
        ('a "`x`"', "for a shell"),
    ],
)
def test_template_what_only_a_shell_understands_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template.parse(line)


def test_split_is_the_shell_s() -> None:
    line = r"""a 'b c' "d\"\\\$\x" e\ f '' g"h"'i'  \
    j"""
    assert split(line) == ["a", "b c", 'd"\\$\\x', "e f", "", "ghi", "j"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=0), min_size=1))
def test_split_gives_back_what_was_quoted(words: list[str]) -> None:
    """As shlex does, for every text."""
    line = join(words)
    assert split(line) == words == shlex.split(line)


def test_items_are_texts() -> None:
    assert item_texts(b"\xff") == ("\udcff",)
    assert item_texts((1, "a", 2.5)) == ("1", "a", "2.5")
    with pytest.raises(TypeError, match=r"^items: must be str, bytes, paths or numbers for a template, not NoneType$"):
        item_texts(None)


def test_template_mark_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match=r"^replace: must not be empty$"):
        Template(["p"], "")
