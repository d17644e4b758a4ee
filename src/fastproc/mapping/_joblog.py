r"""Records of tasks: formatting, parsing, and the tasks that a file of records has.

There are two formats. A job log is GNU parallel's: a header, and for each ended task a line of nine columns that are
separated by tabs. A results file has a JSON object on each line, with the output of the task. In both, a line is one
record, written by one write. A last line without a newline was being written when the writer was killed, and is
ignored.

>>> record = Record(7, "printf 'a\tb'", 1700000000.0, 0.25, 3)
>>> TSV.decode(TSV.encode(record)) == record
True
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

STARTED = None
"""The status of a record of a start: the task had not ended when the record was written."""


class Record:
    """The record of one task.

    Attributes:
        seq: the number of the task, from 1.
        command: the command line that identifies the task; a slot is left as {%}.
        start: the time of the start, in seconds since 1970.
        runtime: seconds.
        status: the exit code, 0 to 255, or the negative number of the signal that ended the task; None for a start.
        stdout, stderr: the output, or None.
    """

    __slots__ = ("command", "runtime", "seq", "start", "status", "stderr", "stdout")

    def __init__(
        self,
        seq: int,
        command: str,
        start: float,
        runtime: float = 0.0,
        status: int | None = STARTED,
        stdout: bytes | None = None,
        stderr: bytes | None = None,
    ) -> None:
        self.seq = seq
        self.command = command
        self.start = start
        self.runtime = runtime
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def _key(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        """Compare all fields."""
        return self._key() == other._key() if isinstance(other, Record) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        """Show every field by name."""
        return f"Record({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r"))


def _escaped(text: str) -> str:
    for char, shown in _ESCAPES:
        text = text.replace(char, shown)
    return text


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    plain = {"n": "\n", "t": "\t", "r": "\r"}
    pieces = text.split("\\")
    found = [pieces[0]]
    rest = iter(pieces[1:])
    for piece in rest:
        # An empty piece is a doubled backslash. The piece after it is taken unchanged.
        found.append("\\" + next(rest, "") if not piece else plain.get(piece[0], "\\" + piece[0]) + piece[1:])
    return "".join(found)


class TSV:
    r"""The format of GNU parallel's --joblog.

    Tabs, newlines, carriage returns and backslashes in a command are written as \t, \n, \r and \\. Receive is the
    number of captured bytes.
    """

    NAME = "a job log"
    HEADER = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

    @staticmethod
    def begins(data: bytes) -> bool:
        r"""Return whether the data begin with the header, or are an incomplete header of at least four bytes.

        >>> TSV.begins(TSV.HEADER + b"1\t:\t..."), TSV.begins(b"Seq\tHo"), TSV.begins(b"S"), TSV.begins(b"text\n")
        (True, True, False, False)
        """
        return data.startswith(TSV.HEADER) or (data[:4] == TSV.HEADER[:4] and TSV.HEADER.startswith(data))

    @staticmethod
    def encode(record: Record) -> bytes:
        """Return the line of a record."""
        status = record.status
        got = len(record.stdout or b"") + len(record.stderr or b"")
        ended = "-\t-" if status is None else f"0\t{-status}" if status < 0 else f"{status}\t0"
        times = f"{record.start:.3f}\t{record.runtime:10.3f}"
        line = f"{record.seq}\t:\t{times}\t0\t{got}\t{ended}\t{_escaped(record.command)}\n"
        return line.encode("utf-8", "surrogateescape")

    @staticmethod
    def decode(line: bytes) -> Record | None:
        """Return the record of a line; None if the line is not a record."""
        columns = line.decode("utf-8", "surrogateescape").removesuffix("\n").split("\t", 8)
        try:
            seq, _, start, runtime, _, _, code, signal, command = columns
            status = None if code == signal == "-" else -int(signal) if int(signal) else int(code)
            return Record(int(seq), _unescaped(command), float(start), float(runtime), status)
        except ValueError:
            return None


class JSONLines:
    """A JSON object on each line: seq, command, start and, for an ended task, runtime, status, stdout and stderr.

    Bytes of outputs that are not UTF-8 become lone surrogates, as by Python's "surrogateescape".
    """

    NAME = "a file of results"
    HEADER = b""

    @staticmethod
    def begins(data: bytes) -> bool:
        r"""Return whether the data begin with a record, or are the beginning of a record.

        >>> JSONLines.begins(b'{"seq": 12, "comm'), JSONLines.begins(b'{"seq": 1, "x'), JSONLines.begins(b'{"a": 1}\n')
        (True, False, False)
        """
        line, end, _ = data.partition(b"\n")
        if end:
            return JSONLines.decode(line) is not None
        number = line.removeprefix(_FIRST)
        if number == line:
            return len(line) > 4 and _FIRST.startswith(line)
        rest = number.lstrip(b"0123456789")
        return not number or (rest != number and (rest.startswith(_SECOND) or _SECOND.startswith(rest)))

    @staticmethod
    def encode(record: Record) -> bytes:
        """Return the line of a record."""
        from json import dumps

        values: dict[str, Any] = {"seq": record.seq, "command": record.command, "start": round(record.start, 6)}
        if record.status is not None:
            values |= {"runtime": round(record.runtime, 6), "status": record.status}
            values |= {name: _text(getattr(record, name)) for name in ("stdout", "stderr")}
        return dumps(values).encode() + b"\n"

    @staticmethod
    def decode(line: bytes) -> Record | None:
        """Return the record of a line; None if the line is not a record."""
        from json import loads

        try:
            values = loads(line)
            fields = values["seq"], values["command"], values["start"], values.get("runtime", 0.0)
            if [type(field) for field in fields[:2]] != [int, str]:
                return None
            return Record(*fields, values.get("status"), _bytes(values.get("stdout")), _bytes(values.get("stderr")))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


_FIRST, _SECOND = b'{"seq": ', b', "command": "'
"""The beginning of a record: a number is between the two."""


def _text(data: bytes | memoryview | None) -> str | None:
    return None if data is None else bytes(data).decode("utf-8", "surrogateescape")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")


class Book:
    """The tasks in a file of records, with their numbers.

    A task is identified by its command. Equal commands may occur several times: each number is a separate task. So the
    items may come in another order than before, and new items may be added.

    Attributes:
        broken: the number of lines that are not records.
    """

    def __init__(self) -> None:
        self.broken = 0
        self._tasks: dict[str, dict[int, int | None]] = {}
        # For each command that was looked up, the tasks that are left.
        self._taken: dict[str, Iterator[tuple[int, int | None]]] = {}
        self._used: set[int] = set()
        self._highest = 0

    def read(self, lines: Iterable[bytes], form: type[TSV] | type[JSONLines]) -> None:
        """Read the lines of a file."""
        for line in lines:
            if line == form.HEADER:
                continue
            record = form.decode(line) if line.endswith(b"\n") else None
            if record is None:
                self.broken += 1
                continue
            numbers = self._tasks.setdefault(record.command, {})
            # A start after an end is another try, whose end is unknown.
            numbers[record.seq] = record.status
            self._use(record.seq)

    def _use(self, seq: int) -> None:
        self._used.add(seq)
        self._highest = max(self._highest, seq)

    def place(self, command: str, position: int) -> tuple[int, str, int | None]:
        """Return the number, state and status of the next task with a command.

        Args:
            command: the command line that identifies the task.
            position: the position among the items, from 1. It is the number of a new task if it is free.

        Returns:
            The number; "new", "ended" or "doubt" (the task was started, and its end is unknown); the status of an
            ended task.
        """
        numbers = self._tasks.get(command)
        if numbers is not None:
            left = self._taken.get(command)
            if left is None:
                left = self._taken[command] = iter(numbers.items())
            for seq, status in left:
                return seq, "doubt" if status is None else "ended", status
        seq = position if position not in self._used else self._highest + 1
        self._use(seq)
        return seq, "new", None
