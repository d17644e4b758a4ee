"""Templates of commands: where items go, and how a line is split without a shell."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.quoting import join
from fastproc.mapping._template import Template, item_texts, split


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
        with pytest.raises(ValueError, match="omit the quotes"):
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
        *((f"a {word}", "for a shell") for word in ("~", "~/x", "~root", "#", "#b", "x=~/y", "PATH=/a:~/b")),
        *(
            (f"a {word}", "which bash expands")
            for word in ("{a,b}", "x{a,}y", "{1..3}", "{}.{txt,bak}", "{a,{}}", '{"a",b}', '{a,"b c"}', "{a,b\\ c}")
        ),
        *(
            (f"{word} a", "for a shell")
            for word in ("A=b", "A=", "A+=b", "if", "while", "!", "{", "case", "#a", "~/bin/x")
        ),
        ('a "`x`"', "for a shell"),
    ],
)
def test_template_what_only_a_shell_understands_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template.parse(line)


@pytest.mark.parametrize("word", ['"{"a,b}', "{a','b}", "{a\\,b}", "{'a,b'}"])
def test_template_braces_that_bash_does_not_expand_are_text(word: str) -> None:
    """The brace or the comma is quoted."""
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {word}"], capture_output=True, text=True, check=True).stdout
    assert split(f"a {word}") == ["a", *told.split("\0")[:-1]]


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


def test_template_what_means_nothing_to_a_shell_there_is_taken_as_it_stands() -> None:
    """And everything that is quoted, in each way."""
    plain = "p a~ a#b --x=~/y c:~ {a} {} {1.2} } = =ls %1 ! a!b ^ ] @ , + time if A=b -A=b"
    assert split(plain) == plain.split(" ")
    quoted = r"""'A=b' \#a '#'b \~ "~"/x '{a,b}' {a\,b} x='~'/y {'a,b'} {1.\.3}"""
    assert split(quoted) == ["A=b", "#a", "#b", "~", "~/x", "{a,b}", "{a,b}", "x=~/y", "{a,b}", "{1..3}"]
    for first in ("'A=b'", "\\A=b", "'if'", "\\{", "A.b=c", "-A=b", "iff", "a"):
        Template.parse(f"{first} x")


def test_template_mark_is_no_character_for_a_shell() -> None:
    """Whatever it is."""
    for mark in ("?", "~", "#", "$x", "[]", "{a,b}"):
        assert Template.parse(f"p {mark} a{mark}", mark).render(("i",), 1, 1) == ["p", "i", "ai"]


def test_template_that_repeats_makes_a_word_for_each_item() -> None:
    """As GNU parallel's -X; what is of one source, or of the task, stays as it is in each."""
    template = Template(["p", "x{}y", "{}", "{.}-{#}{.}", "{#}", "c"], repeats=True)
    assert template.render(("a.1", "b.2"), 7, 1) == [
        *("p", "xa.1y", "xb.2y", "a.1", "b.2", "a-7a", "b-7b", "7", "c"),
    ]
    assert Template(["p", "x{}y"]).render(("a", "b"), 1, 1) == ["p", "xa by"]
    assert Template(["echo {} >x; cat ({}|{})"], shell=True, repeats=True).render(("a", "b b"), 1, 1)[2] == (
        "echo a 'b b' >x; cat (a 'b b'|a 'b b')"
    )
    for line in ("echo x{}", "echo {}y", "echo {}{}", "echo {}{1}"):
        with pytest.raises(ValueError, match="whole word"):
            Template([line], shell=True, repeats=True)
