"""What an exchange does with an output: keeps it, all or in part, writes it to a file or on, hands out its lines.

Also a file in memory as a view, and who else holds a pipe.
"""

from __future__ import annotations

import os
from time import monotonic

from fastproc import errors
from fastproc._engine.feeder import write_quietly
from fastproc._engine.resolve import STREAMS, WRITE_FLAGS, Opened
from fastproc._values.capture import HeadTail, LineSplitter
from fastproc._values.redirect import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.fds import OwnedFd
    from fastproc._values.capture import CaptureLimit
    from fastproc._values.command import Command
    from fastproc._values.plan import Settled

SCAN_SECONDS = 0.05
"""The longest that the search for a pipe's holders may take: a machine can have a hundred thousand descriptors."""


class Capture:
    """One output with a limit, a callback, a copy, or any of them.

    Args:
        name: "stdout" or "stderr".
        limit: what is kept; None for all.
        on_line: called with the name and each line, bytes without their end.
        tee: the descriptor that gets a copy, or -1.
        opened: takes the spill file; whoever owns it closes it.

    Attributes:
        over: whether the limit is passed.
        limit: as given.
    """

    __slots__ = ("_chunks", "_kept", "_on_line", "_spill", "_splitter", "_tee", "limit", "name", "over")

    def __init__(
        self,
        name: str,
        limit: CaptureLimit | None,
        on_line: Callable[[str, bytes], object] | None,
        tee: int,
        opened: Opened,
    ) -> None:
        self.name = name
        self.limit = limit
        self.over = False
        self._chunks: list[bytes] = []
        self._kept = None if limit is None else HeadTail(limit.head, limit.tail)
        self._on_line = on_line
        self._splitter = None if on_line is None else LineSplitter()
        self._tee = tee
        self._spill = -1
        if limit is not None and limit.spill is not None:
            self._spill = opened.open(limit.spill, WRITE_FLAGS)

    def add(self, data: bytes) -> None:
        """Take the next piece.

        Raises:
            OSError: the copy or the spill file cannot be written.
            BaseException: what the callback raises.
        """
        kept = self._kept
        if kept is None:
            self._chunks.append(data)
        else:
            kept.add(data)
            assert self.limit is not None
            self.over = kept.size > self.limit.head + self.limit.tail
        if self._spill >= 0:
            write_all(self._spill, data)
        if self._tee >= 0:
            write_all(self._tee, data)
        if self._splitter is not None:
            self._tell(self._splitter.feed(data))

    def finish(self) -> None:
        """Tell the last line, which has no end. Harmless when repeated."""
        if self._splitter is not None:
            self._tell(self._splitter.finish())

    def _tell(self, lines: list[bytes]) -> None:
        assert self._on_line is not None
        for line in lines:
            self._on_line(self.name, line)

    @property
    def stops(self) -> bool:
        """Whether the child is stopped when the limit is passed."""
        return self.limit is not None and self.limit.over != "discard"

    @property
    def raises(self) -> bool:
        """Whether that is an error."""
        return self.limit is not None and self.limit.over == "raise"

    @property
    def dropped(self) -> int:
        """How many bytes are lost."""
        return 0 if self._kept is None else self._kept.dropped

    def value(self) -> bytes:
        """What is kept."""
        return b"".join(self._chunks) if self._kept is None else self._kept.value()


def captures(command: Command, settled: Settled, opened: Opened) -> dict[int, Capture]:
    """Return what is done with the outputs of a run, by the number of the pipe.

    Raises:
        SpawnError: a spill file cannot be opened.
    """
    found: dict[int, Capture] = {}
    for number in (1, 2):
        limit = settled.limits[number - 1]
        if settled.streams[number] is not PIPE or (limit is None and settled.on_line is None and not settled.tee):
            continue
        try:
            capture = Capture(STREAMS[number], limit, settled.on_line, number if settled.tee else -1, opened)
        except OSError as error:
            name = limit.spill if limit is not None else None
            raise errors.spawn_error(error.errno or 0, "redirect", argv=command.argv, filename=name) from error
        # Exchanged outputs: what comes from the pipe of one is the other's.
        found[3 - number if settled.swapped else number] = capture
    return found


def write_all(fd: int, data: bytes) -> None:
    """Write everything, waiting where the descriptor, which is the user's, does not block."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[write_quietly(fd, rest) :]
        except BlockingIOError:
            import select

            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()


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
    wanted = {f"pipe:[{inode}]" for inode in inodes}
    end = monotonic() + SCAN_SECONDS
    found = []
    try:
        # The youngest first: descendants of a child that has just ended.
        pids = sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)
    except OSError:
        return ()
    for pid in pids:
        if monotonic() > end:
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
