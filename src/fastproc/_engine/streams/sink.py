"""What an exchange does with an output: keeps it, all or in part, writes it to a file or on, hands out its lines.

Also a file in memory as a view, and who else holds a pipe.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from errno import EPERM
from io import BufferedRandom, BufferedWriter, FileIO
from itertools import chain, repeat, starmap
from time import monotonic, thread_time

from fastproc import errors
from fastproc._engine.fds import STREAMS, Opened
from fastproc._engine.resolve import WRITE_FLAGS
from fastproc._engine.streams.tee import Outlet, Plain
from fastproc._values.capture import HeadTail
from fastproc._values.lines import LineSplitter, LineTooLong
from fastproc._values.redirect import MEMFD, PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from fastproc._engine.fds import OwnedFd
    from fastproc._values.capture import CaptureLimit
    from fastproc._values.plan import Lowerable, ResolvedOptions

    class Asked(Protocol):
        """What is asked for both outputs."""

        on_line: Callable[[str, Any], object] | None
        tee: bool


SCAN_SECONDS = 0.05
SCAN_SECONDS_MAX = 0.15
"""The longest that the search for a pipe's holders may take, of this thread's time and in all: a machine can have a
hundred thousand descriptors."""


class Tap:
    """What is done with everything that is read from one output: written to a file and on, told line by line, counted.

    Args:
        name: "stdout" or "stderr".
        limit: what is kept of it; None for all.
        on_line: what is told, or None.
        outlets: what gets a copy.

    Attributes:
        over: whether the limit is passed.
        size: bytes that came.
        memory: the file in memory that gets all of it, or None.
        quiet: whether an error is on its way: nothing more is told, and copies that fail are no second one.
        failure: the end is no line as on_line asks for them. To be raised where nothing else is.
        fresh: what was read and not yet taken.
        name, limit, outlets: as given.
    """

    __slots__ = (
        *("_call", "_lines", "_queues", "_splitter", "_unsplit"),
        *("failure", "fresh", "limit", "memory", "name", "outlets", "over", "quiet", "size"),
    )

    def __init__(
        self,
        name: str,
        limit: CaptureLimit | None,
        on_line: Callable[[str, Any], object] | None,
        outlets: list[Outlet | Plain],
    ) -> None:
        self.name = name
        self.limit = limit
        self.over = False
        self.size = 0
        self.quiet = False
        self.outlets = outlets
        self.memory: OwnedFd | None = None
        self.failure: Exception | None = None
        self.fresh: deque[bytes] = deque()
        self._call = on_line
        self._lines: deque[Any] = deque()
        self._unsplit: deque[bytes] = deque()
        self._splitter: LineSplitter | None = None
        # Those that get every piece, all of them in one step.
        self._queues: list[deque[bytes]] = [outlet.rest for outlet in outlets]
        if on_line is not None:
            from fastproc._values.on_line import on_line as normal

            self._splitter = normal(on_line).splitter()
            self._queues.append(self._unsplit)

    def tell_of(self, child: object) -> None:
        """Whose lines these are: the handle of the child, which may not be there yet."""
        of = getattr(self._call, "of", None)
        if of is not None:
            self._call = of(child)

    def join(self, queue: deque[bytes]) -> None:
        """Put every piece into this queue too."""
        self._queues.append(queue)

    def add(self, data: bytes) -> None:
        """Take the next piece.

        Raises:
            Exception, LineTooLong, UnicodeDecodeError: as take().
        """
        self.fresh.append(data)
        self.take()

    def share(self) -> None:
        """Give what was read to all who get it."""
        fresh = self.fresh
        while fresh:
            size = self.size + len(fresh[0])
            # All of it by one call in C: a signal handler that raises, between two of them, would have one of those who
            # get the piece go without, or get it twice.
            once = chain.from_iterable(map(repeat, starmap(fresh.popleft, ((),))))
            moves = map(deque.append, self._queues, once)
            self.size = size
            deque(moves, 0)
        if self.limit is not None:
            self.over = self.size > self.limit.head + self.limit.tail

    def take(self) -> None:
        """Take what was read: all that is in `fresh`.

        Raises:
            Exception: a copy cannot be written; it gets nothing more.
            LineTooLong, UnicodeDecodeError: the lines are not what on_line asks for; it is told nothing more.
            BaseException: what the callback raises; the next piece goes on with the line after.
        """
        self.share()
        failure = None
        for outlet in tuple(self.outlets):
            try:
                outlet.flush()
            except Exception as error:
                failure = failure or error
            if outlet.broken:
                self.outlets.remove(outlet)
                self._leave(outlet.rest)
        if self.quiet:
            return
        if failure is not None:
            raise failure
        self._tell()

    def finish(self) -> None:
        """Tell the last line, which has no end. To be repeated when a callback has raised; harmless at any time.

        Where what is left is no line that on_line asks for, that is kept as the `failure`: it must not hide how the
        child has ended.
        """
        self.take()
        splitter = self._splitter
        if splitter is None or self.quiet:
            return
        try:
            self._lines.extend(splitter.finish())
        except (LineTooLong, UnicodeDecodeError) as error:
            self._stop_telling()
            self.failure = error
        else:
            if splitter.error is not None:
                self._stop_telling()
                self.failure = splitter.error
        self._tell()

    def _tell(self) -> None:
        lines, unsplit = self._lines, self._unsplit
        while True:
            while lines:
                assert self._call is not None
                self._call(self.name, lines.popleft())
            splitter = self._splitter
            if splitter is None:
                return
            try:
                if splitter.waits:
                    splitter.resume()
                if not unsplit:
                    return
                lines.extend(splitter.feed(unsplit.popleft()))
            except Exception:
                self._stop_telling()
                raise

    def _stop_telling(self) -> None:
        self._splitter = None
        self._leave(self._unsplit)

    def _leave(self, queue: deque[bytes]) -> None:
        self._queues = [other for other in self._queues if other is not queue]
        queue.clear()

    def spilled(self) -> memoryview | None:
        """All that came, where it went to a file in memory, which is given away with this; else None."""
        memory, self.memory = self.memory, None
        return None if memory is None else view(memory)

    @property
    def full(self) -> bool:
        """Whether no more should be read at the moment: a copy is not taken as fast as the output comes."""
        return any(outlet.full for outlet in self.outlets)

    @property
    def copying(self) -> bool:
        """Whether a copy is not written to its end."""
        return any(outlet.waiting for outlet in self.outlets)

    @property
    def stops(self) -> bool:
        """Whether the child is stopped when the limit is passed."""
        return self.limit is not None and self.limit.over != "discard"

    @property
    def raises(self) -> bool:
        """Whether that is an error."""
        return self.limit is not None and self.limit.over == "raise"


class Capture(Tap):
    """The same for an output that is kept too."""

    __slots__ = ("_chunks", "_kept")

    def __init__(
        self,
        name: str,
        limit: CaptureLimit | None,
        on_line: Callable[[str, Any], object] | None,
        outlets: list[Outlet | Plain],
    ) -> None:
        super().__init__(name, limit, on_line, outlets)
        self._chunks: deque[bytes] = deque()
        self._kept = None if limit is None else HeadTail(limit.head, limit.tail)
        self.join(self._chunks if self._kept is None else self._kept.fresh)

    def take(self) -> None:
        """As Tap.take(); what raises there is kept all the same."""
        self.share()
        if self._kept is not None:
            self._kept.take()
        super().take()

    @property
    def dropped(self) -> int:
        """How many bytes are lost."""
        return 0 if self._kept is None else self._kept.dropped

    def value(self) -> bytes:
        """What is kept."""
        self.share()
        return b"".join(self._chunks) if self._kept is None else self._kept.value()


class Taps:
    """The taps of one child.

    Attributes:
        by_number: 1 for stdout, 2 for stderr.
        files: what was opened for copies.
    """

    __slots__ = ("by_number", "files")

    def __init__(self, by_number: dict[int, Tap], files: Opened) -> None:
        self.by_number = by_number
        self.files = files


def taps(
    command: Lowerable, settled: ResolvedOptions, opened: Opened, kind: type[Tap], child: object
) -> dict[int, Any]:
    """Return what is done with the outputs of a command, by the number of the pipe.

    Args:
        command: for messages.
        settled: its options.
        opened: takes the files that are opened; whoever owns it closes it.
        kind: Capture, or Tap where the output is kept by others.
        child: its handle.

    Raises:
        SpawnError, ValueError: as make_tap().
    """
    found: dict[int, Any] = {}
    known: dict[int, Outlet] = {}
    for number in (1, 2):
        if settled.streams[number] is PIPE:
            tap = make_tap(kind, number, settled, settled.limits[number - 1], opened, known, command.argv)
            if tap is not None:
                tap.tell_of(child)
                # Exchanged outputs: what comes from the pipe of one is the other's.
                found[3 - number if settled.swapped else number] = tap
    return found


def make_tap(
    kind: type[Tap],
    number: int,
    asked: Asked,
    limit: CaptureLimit | None,
    opened: Opened,
    known: dict[int, Outlet],
    argv: tuple[str, ...] = (),
) -> Any:
    """Return what is done with one output, or None when nothing is asked for.

    Args:
        kind: Capture, or Tap where the output is kept by others.
        number: 1 for stdout, 2 for stderr.
        asked: has `on_line` and `tee`, as the options.
        limit: what is kept.
        opened: takes the files that are opened; whoever owns it closes it.
        known: the outlets by descriptor: one for each, also where several outputs go to it.
        argv: for messages.

    Raises:
        SpawnError: a file cannot be opened, or a stream of ours that should get a copy is closed.
        ValueError: a given file is closed, or not open for writing.
    """
    if limit is None and asked.on_line is None and not asked.tee:
        return None
    name = STREAMS[number]
    spill = None if limit is None else limit.spill
    memory = None
    outlets: list[Outlet | Plain] = []
    try:
        if spill is MEMFD:
            memory = opened.new_memory(number)
            outlets.append(_outlet(memory.number, opened, known))
        elif isinstance(spill, str):
            outlets.append(_outlet(_open_spill(f"{name}_limit: spill", spill, opened), opened, known))
        elif spill is not None:
            outlets.append(_file_outlet(f"{name}_limit: spill", spill, opened, known))
        if asked.tee:
            spill = f"{name} of this process"
            outlets.append(_outlet(number, opened, known))
    except OSError as error:
        filename = spill if isinstance(spill, str) else repr(spill)
        extra = error.strerror or "" if error.errno == EPERM else ""
        raise errors.spawn_error(error.errno or 0, "redirect", argv=argv, filename=filename, extra=extra) from error
    tap = kind(name, limit, asked.on_line, outlets)
    tap.memory = memory
    return tap


def _open_spill(what: str, path: str, opened: Opened) -> int:
    from fastproc._engine import trusted

    if not trusted.is_privileged():
        return opened.open(path, WRITE_FLAGS)
    try:
        fd = trusted.open_file(trusted.absolute(what, path), WRITE_FLAGS, shared=True)
    except trusted.Untrusted as error:
        raise PermissionError(EPERM, str(error), path) from None
    opened.own(fd)
    os.set_blocking(fd.number, False)
    return fd.number


def _outlet(fd: int, opened: Opened, known: dict[int, Outlet]) -> Outlet:
    outlet = known.get(fd)
    if outlet is None:
        outlet = known[fd] = Outlet(fd, opened)
    return outlet


def _file_outlet(what: str, file: Any, opened: Opened, known: dict[int, Outlet]) -> Outlet | Plain:
    """What was written to the file before comes before."""
    if getattr(file, "closed", False) is True:
        raise ValueError(f"{what}: the file {file!r} is closed")
    writable = getattr(file, "writable", None)
    if callable(writable) and not writable():
        raise ValueError(f"{what}: the file {file!r} is not open for writing")
    if not _writes_through(file):
        # Its descriptor, where it has one, would go around what it does with the data, such as to compress them.
        return Plain(file)
    file.flush()
    return _outlet(file.fileno(), opened, known)


def _writes_through(file: Any) -> bool:
    """Whether what is written to a file goes to its descriptor, as it is."""
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None and type(file) is tempfile._TemporaryFileWrapper:
        file = file.file
    write = getattr(type(file), "write", None)
    if write in (BufferedWriter.write, BufferedRandom.write):
        file = file.raw
        write = getattr(type(file), "write", None)
    if write is FileIO.write:
        return True
    socket = sys.modules.get("socket")
    return socket is not None and write is socket.SocketIO.write


def view(memory: OwnedFd) -> memoryview:
    """Return what a file in memory holds, without a copy, and close its descriptor. The view keeps the pages.

    From then on the file cannot become shorter: a child that lives on and truncates it would otherwise end us by SIGBUS
    (mmap(2)). It may still write to it.
    """
    import fcntl
    import mmap

    with memory:
        fcntl.fcntl(memory.number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        size = os.fstat(memory.number).st_size
        return memoryview(mmap.mmap(memory.number, size, prot=mmap.PROT_READ) if size else b"")


def holders(inodes: set[int]) -> tuple[int, ...]:
    """Return the pids of other processes that have one of the pipes open, as far as /proc shows them.

    Bounded in time, so perhaps not all. Nobody is signalled by these numbers: they are for messages.
    """
    from fastproc._native import proc

    wanted = {f"pipe:[{inode}]" for inode in inodes}
    end = thread_time() + SCAN_SECONDS
    end_of_all = monotonic() + SCAN_SECONDS_MAX
    found = []
    try:
        # The numbers are to be of use to who reads the message.
        proc.check()
        # The youngest first: descendants of a child that has just ended.
        pids = sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)
    except OSError:
        return ()
    for pid in pids:
        if thread_time() > end or monotonic() > end_of_all:
            break
        if pid != os.getpid() and _holds(pid, wanted):
            found.append(pid)
    return tuple(sorted(found))


def _holds(pid: int, wanted: set[str]) -> bool:
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{name}") in wanted:
                return True
    except OSError:
        # It has ended, has closed this one, or is another user's.
        pass
    return False
