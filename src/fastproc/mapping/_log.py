"""The file in which a map keeps what has ended: a job log, or results with what the tasks wrote.

Each record is one write(2) to a descriptor opened with O_APPEND. A process that is killed loses no record whose write
has returned, and what it was writing is at most a last line without an end, which the next one to open the file cuts
off. Two maps do not share a file: it is locked (flock(2)) as long as one has it.
"""

from __future__ import annotations

import os
from errno import EWOULDBLOCK

from fastproc._engine.fds import OwnedFd
from fastproc._values.joblog import TSV, Book, JSONLines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from fastproc._values.joblog import Record
    from fastproc.mapping._tasks import Task, Work

_CHUNK = 1 << 20


class LogFile:
    """One such file, open for records.

    Args:
        path: where it is; made when it is not there.
        form: TSV or JSONLines.
        resume: whether what is in it counts. Otherwise it must be empty, and an old one is not overwritten.
        durable: whether each record is on the disk (fdatasync(2)) before the map goes on.

    Raises:
        FileExistsError: there is something in it, and resume was not asked for.
        BlockingIOError: another map has it.
        OSError: it cannot be opened, read or written.
    """

    def __init__(
        self, path: str | bytes | PathLike[str], form: type[TSV] | type[JSONLines], resume: bool, durable: bool
    ):
        import fcntl

        self.path = os.fspath(path)
        self.form = form
        self.durable = durable
        self.book = Book()
        self._fd = OwnedFd()
        self._fd.fill(os.open, self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fd = self._fd.fileno()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno != EWOULDBLOCK:
                    raise
                raise BlockingIOError(EWOULDBLOCK, "another map writes to it", self.path) from None
            if os.fstat(fd).st_size and not resume:
                from errno import EEXIST

                raise FileExistsError(EEXIST, "there are records in it: resume, or take another file", self.path)
            self.book.read(self._lines(fd), form)
            if os.fstat(fd).st_size == 0 and form.HEADER:
                self._write(form.HEADER)
        except BaseException:
            self._fd.close()
            raise

    def _lines(self, fd: int) -> Iterator[bytes]:
        """The lines that have an end; what is behind the last end is cut off."""
        begun: list[bytes] = []
        at = 0
        while piece := os.pread(fd, _CHUNK, at):
            at += len(piece)
            *whole, rest = piece.split(b"\n")
            if whole:
                # A line of many pieces is copied once.
                whole[0] = b"".join((*begun, whole[0]))
                begun.clear()
                yield from (line + b"\n" for line in whole)
            if rest:
                begun.append(rest)
        if begun:
            os.ftruncate(fd, at - sum(map(len, begun)))

    def write(self, record: Record) -> None:
        """Add a record.

        Raises:
            OSError: it could not be written as a whole; nothing of it is left in the file.
        """
        self._write(self.form.encode(record))

    def _write(self, data: bytes) -> None:
        fd = self._fd.fileno()
        # A signal that kills may end a long write early, a full disk too; only the latter is seen here.
        done = os.write(fd, data)
        if done != len(data):
            from errno import ENOSPC

            os.ftruncate(fd, os.fstat(fd).st_size - done)
            raise OSError(ENOSPC, "a record could not be written as a whole", self.path)
        if self.durable:
            os.fdatasync(fd)

    def close(self) -> None:
        """Let another map have it."""
        self._fd.close()


class Known:
    """What such a file says, for a map that runs nothing: it is read once, and neither made, locked nor changed.

    Args:
        path: where it is; it need not be there.
        form: TSV or JSONLines.
        failed_again: whether tasks that failed are to be run again.
        skip_doubt: whether tasks whose end is not known are left out.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(
        self,
        path: str | bytes | PathLike[str],
        form: type[TSV] | type[JSONLines],
        failed_again: bool,
        skip_doubt: bool,
    ) -> None:
        self._book = Book()
        self._failed_again = failed_again
        self._skip_doubt = skip_doubt
        try:
            with open(path, "rb") as file:
                self._book.read(file, form)
        except FileNotFoundError:
            pass

    def is_done(self, work: Work, task: Task) -> bool:
        """Whether a task would not be run."""
        expression = None if task.texts is not None else work.expression(task)
        _, state, status = self._book.place(work.line(task, expression, work.fed(task)), task.number)
        if state == "doubt":
            return self._skip_doubt
        return state == "ended" and not (self._failed_again and status != 0)


def chosen_form(
    joblog: str | bytes | PathLike[str] | None, results: str | bytes | PathLike[str] | None
) -> tuple[str | bytes | PathLike[str], type[TSV] | type[JSONLines]] | None:
    """Return which file is kept, and in which form.

    Raises:
        ValueError: both are given.
    """
    if joblog is not None and results is not None:
        raise ValueError("joblog: results is a log, too: give one of them")
    if joblog is not None:
        return joblog, TSV
    return None if results is None else (results, JSONLines)
