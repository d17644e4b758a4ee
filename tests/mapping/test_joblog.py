"""Records of tasks as bytes, and what a file with them says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc.mapping._joblog import TSV, Book, JSONLines, Record

FORMS = pytest.mark.parametrize("form", [TSV, JSONLines], ids=["joblog", "results"])
COMMANDS = (
    st.text(st.characters(exclude_categories=()))
    .map(lambda text: text.encode("utf-8", "surrogatepass"))
    .map(lambda data: data.decode("utf-8", "surrogateescape"))
)


@FORMS
@given(command=COMMANDS, status=st.one_of(st.none(), st.integers(-64, 255)), out=st.binary())
def test_record_comes_back(form: type[TSV] | type[JSONLines], command: str, status: int | None, out: bytes) -> None:
    """On one line, whatever is in the command and in the outputs."""
    record = Record(7, command, 1700000000.125, 2.5, status, out, None)
    line = form.encode(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    found = form.decode(line)
    assert found is not None
    if form is TSV or status is None:
        record.stdout = found.stdout
    if status is None:
        record.runtime = found.runtime
    assert found == record


@FORMS
@given(command=COMMANDS, cut=st.integers(1, 400))
def test_torn_line_is_no_record(form: type[TSV] | type[JSONLines], command: str, cut: int) -> None:
    """A line whose end was not written is none, wherever it was cut."""
    line = form.encode(Record(1, command, 1.0, 1.0, 0, b"out", b"err"))
    book = Book()
    book.read([line[: min(cut, len(line) - 1)]], form)
    assert (book.broken, book.place(command, 1)) == (1, (1, "new", None))


def test_joblog_is_gnu_parallel_s() -> None:
    record = Record(3, "echo a\tb", 1700000000.5, 0.25, -15, b"abc", b"d")
    line = b"3\t:\t1700000000.500\t     0.250\t0\t4\t0\t15\techo a\\tb\n"
    assert TSV.encode(record) == line
    assert TSV.HEADER.split(b"\t")[0::8] == [b"Seq", b"Command\n"]


def test_book_equal_tasks_are_counted() -> None:
    """Each number of a command is one task, in whatever order they come again; a later line of one replaces it."""
    book = Book()
    records = [Record(1, "a", 1.0, 1.0, 0), Record(2, "b", 1.0, 1.0, 1), Record(4, "a", 1.0, 1.0, None)]
    book.read([TSV.HEADER, *map(TSV.encode, records), TSV.encode(Record(2, "b", 1.0, 1.0, 0)), b"nonsense\n"], TSV)
    assert book.broken == 1
    assert book.place("b", 1) == (2, "ended", 0)
    assert [book.place("a", place) for place in (2, 3)] == [(1, "ended", 0), (4, "doubt", None)]
    # A place that the file uses already gets a number that it does not.
    assert [book.place("a", 4), book.place("c", 5), book.place("c", 3)] == [
        (5, "new", None),
        (6, "new", None),
        (3, "new", None),
    ]


def test_equal_lines_cost_one_step_each() -> None:
    """Placing the next of n equal tasks looks at one record, not at all of them."""
    steps = 0

    class Counted(dict[int, Any]):
        def __iter__(self) -> Any:
            nonlocal steps
            for key in dict.keys(self):
                steps += 1
                yield key

        def items(self) -> Any:
            nonlocal steps
            for item in dict.items(self):
                steps += 1
                yield item

    book = Book()
    number = 2000
    book.read([TSV.encode(Record(seq, "same", 1.0, 0.1, 0)) for seq in range(1, number + 1)], TSV)
    book._tasks["same"] = Counted(book._tasks["same"])
    placed = [book.place("same", position)[:2] for position in range(1, number + 3)]
    assert placed == [*((seq, "ended") for seq in range(1, number + 1)), (number + 1, "new"), (number + 2, "new")]
    assert steps <= number + 2
