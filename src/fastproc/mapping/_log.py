"""The file with the records of a map: a job log, or results with the output of the tasks.

Each record is one write(2) to a descriptor opened with O_APPEND. If the process is killed, a record whose write has
returned is not lost, and an incomplete record is the last line without a newline. The next process that opens the file
removes it. The file is locked (flock(2)), so two maps never share a file. Only an empty file, or a file that begins
with a header or record, is written to or truncated; any other file is refused.
"""

from __future__ import annotations

import os
import stat
from errno import EEXIST, EINVAL, EPERM, EWOULDBLOCK

from fastproc._engine.fds import OwnedFd
from fastproc._engine.trusted import Untrusted, absolute, kind_of, open_file
from fastproc.mapping._joblog import TSV, Book, JSONLines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from fastproc.mapping._joblog import Record
    from fastproc.mapping._tasks import Task, Work

_CHUNK = 1 << 20
FIRST_LINE_MAX = 4096
"""Bytes of a file that are examined to find out whether it is a log."""


class LogFile:
    """An open file of records.

    Args:
        path: the path of the file, which is created if it does not exist.
        form: TSV or JSONLines.
        resume: True: use the records of the file. False: the file must be empty.
        durable: whether each record is on the disk (fdatasync(2)) before the map continues.

    Raises:
        FileExistsError: the file has records, and `resume` is False; or it is not a log.
        PermissionError: this process is root, and another user could have created a link in the path.
        BlockingIOError: another map uses the file.
        OSError: the file cannot be opened, read or written.
    """

    def __init__(
        self, path: str | bytes | PathLike[str], form: type[TSV] | type[JSONLines], resume: bool, durable: bool
    ):
        import fcntl

        self.path = os.fspath(path)
        self.form = form
        self.durable = durable
        self.book = Book()
        self._fd = self._open()
        try:
            fd = self._fd.fileno()
            self._check(fd, resume)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno != EWOULDBLOCK:
                    raise
                raise BlockingIOError(EWOULDBLOCK, "another map writes to it", self.path) from None
            # Checked again, because no other map writes to the file now.
            self._check(fd, resume)
            self.book.read(self._lines(fd), form)
            if os.fstat(fd).st_size == 0 and form.HEADER:
                self._write(form.HEADER)
        except BaseException:
            self._fd.close()
            raise

    def _open(self) -> OwnedFd:
        path = absolute("joblog, results", os.fsdecode(self.path))
        try:
            # Checked without an open: the open of some devices has an effect.
            check_regular(os.stat(path), self.path)
        except FileNotFoundError:
            pass
        try:
            return open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, shared=True)
        except Untrusted as error:
            raise PermissionError(EPERM, f"{error}", self.path) from None
        except OSError as error:
            if os.path.normpath(error.filename or path) == os.path.normpath(path):
                error.filename = self.path
            raise

    def _check(self, fd: int, resume: bool) -> None:
        """Refuse a file that this map must not write to. The file is unchanged."""
        if check_log(fd, self.form, self.path) and not resume:
            raise FileExistsError(EEXIST, "it has records: resume, or use another file", self.path)

    def _lines(self, fd: int) -> Iterator[bytes]:
        """Yield the complete lines; remove an incomplete last line from the file."""
        begun: list[bytes] = []
        at = 0
        while piece := os.pread(fd, _CHUNK, at):
            at += len(piece)
            *whole, rest = piece.split(b"\n")
            if whole:
                # The pieces of a long line are joined only once.
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
            OSError: the record could not be written completely; it was removed from the file.
        """
        self._write(self.form.encode(record))

    def _write(self, data: bytes) -> None:
        fd = self._fd.fileno()
        # A full disk ends a write early. So may a fatal signal, but then this code does not continue.
        done = os.write(fd, data)
        if done != len(data):
            from errno import ENOSPC

            os.ftruncate(fd, os.fstat(fd).st_size - done)
            raise OSError(ENOSPC, "a record could not be written completely", self.path)
        if self.durable:
            os.fdatasync(fd)

    def close(self) -> None:
        """Close and unlock the file."""
        self._fd.close()


def _open_without_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK the open of a FIFO would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def check_log(fd: int, form: type[TSV] | type[JSONLines], path: str | bytes | PathLike[str]) -> int:
    """Refuse a file that is not a log of this form; return its size.

    Raises:
        FileExistsError: the file has other contents.
        OSError: the file is not a regular file.
    """
    status = os.fstat(fd)
    check_regular(status, path)
    if status.st_size and not form.begins(os.pread(fd, FIRST_LINE_MAX, 0)):
        raise FileExistsError(EEXIST, f"it is not {form.NAME}, and is not written to", path)
    return status.st_size


def check_regular(status: os.stat_result, path: str | bytes | PathLike[str]) -> None:
    """Refuse a file that is not a regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(EINVAL, f"it is {kind_of(status)}, and a log must be a regular file", path)


class Known:
    """The records of a file, for a dry run. The file is read once, and not created, locked or changed.

    Args:
        path: the path of the file, which need not exist.
        form: TSV or JSONLines.
        failed_again: whether failed tasks are run again.
        skip_doubt: whether tasks whose end is unknown are skipped.

    Raises:
        OSError: the file cannot be read.
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
            check_regular(os.stat(path), path)
            with open(path, "rb", opener=_open_without_waiting) as file:
                check_log(file.fileno(), form, path)
                self._book.read(file, form)
        except FileNotFoundError:
            pass

    def is_done(self, work: Work, task: Task) -> bool:
        """Return whether a task would be skipped."""
        expression = None if task.texts is not None else work.expression(task)
        _, state, status = self._book.place(work.line(task, expression, work.fed(task)), task.number)
        if state == "doubt":
            return self._skip_doubt
        return state == "ended" and not (self._failed_again and status != 0)


def chosen_form(
    joblog: str | bytes | PathLike[str] | None, results: str | bytes | PathLike[str] | None
) -> tuple[str | bytes | PathLike[str], type[TSV] | type[JSONLines]] | None:
    """Return the path and format of the file, or None.

    Raises:
        ValueError: both arguments are given.
    """
    if joblog is not None and results is not None:
        raise ValueError("joblog: cannot be combined with results, which is a log too")
    if joblog is not None:
        return joblog, TSV
    return None if results is None else (results, JSONLines)
