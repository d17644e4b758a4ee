"""The file in which a map keeps what has ended: a job log, or results with what the tasks wrote.

Each record is one write(2) to a descriptor opened with O_APPEND. A process that is killed loses no record whose write
has returned, and what it was writing is at most a last line without an end, which the next one to open the file cuts
off. Two maps do not share a file: it is locked (flock(2)) as long as one has it. Only a file whose first line is one of
ours, or an empty one, is ever written to or cut: any other may be anything.
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
"""Bytes of a file that are looked at to know whether it is a log."""


class LogFile:
    """One such file, open for records.

    Args:
        path: where it is; made when it is not there.
        form: TSV or JSONLines.
        resume: whether what is in it counts. Otherwise it must be empty, and an old one is not overwritten.
        durable: whether each record is on the disk (fdatasync(2)) before the map goes on.

    Raises:
        FileExistsError: there is something in it, and resume was not asked for; or it is not such a file.
        PermissionError: root would write where somebody else has made a link on the way.
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
            # Again, now that no other map writes to it.
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
            # Not even opened: some devices act when they are.
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
        """Refuse a file that this map must not write to; it is as it was."""
        if check_log(fd, self.form, self.path) and not resume:
            raise FileExistsError(EEXIST, "there are records in it: resume, or take another file", self.path)

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


def _open_without_waiting(path: str, flags: int) -> int:
    # A FIFO without a writer would hold it.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def check_log(fd: int, form: type[TSV] | type[JSONLines], path: str | bytes | PathLike[str]) -> int:
    """Refuse a file that is not a log of this form; return its size.

    Raises:
        FileExistsError: there is something else in it.
        OSError: it is not a regular file.
    """
    status = os.fstat(fd)
    check_regular(status, path)
    if status.st_size and not form.begins(os.pread(fd, FIRST_LINE_MAX, 0)):
        raise FileExistsError(EEXIST, f"it is not {form.NAME}, and is not written to", path)
    return status.st_size


def check_regular(status: os.stat_result, path: str | bytes | PathLike[str]) -> None:
    """Refuse what is not a regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(EINVAL, f"it is {kind_of(status)}, and a log must be a regular file", path)


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
            check_regular(os.stat(path), path)
            with open(path, "rb", opener=_open_without_waiting) as file:
                check_log(file.fileno(), form, path)
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
