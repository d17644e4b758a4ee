"""Feeding a child's stdin and reading its outputs to their ends, with a deadline that ends neither of them.

For the standard module's communicate(): the files are the user's, and what has been read is kept for the next call.
Invariant: no byte that was read or written is forgotten, whatever interrupts the exchange.
"""

from __future__ import annotations

import os
import select
from time import monotonic

from fastproc._engine.reactor import LONGEST_WAIT, READ, WRITE
from fastproc._engine.streams.feeder import Feeder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

READ_SIZE = 1 << 16


def seconds_left(deadline: float | None) -> float | None:
    """Return the time until a monotonic instant, negative after it; None for no limit."""
    return None if deadline is None else deadline - monotonic()


class Conversation:
    """The streams of one child.

    Args:
        stdin: where `data` goes, closed at its end; None when there is nothing to feed.
        data: bytes-like.
        outputs: the files to read and then to close.
    """

    __slots__ = ("_chunks", "_feeder", "_open", "_outputs", "_stdin")

    def __init__(self, stdin: IO[Any] | None, data: Any, outputs: tuple[IO[Any] | None, ...]) -> None:
        self._stdin = stdin
        self._feeder = Feeder([data] if stdin is not None else None)
        self._outputs = outputs
        self._chunks: tuple[list[bytes], ...] = tuple([] for _ in outputs)
        self._open = [index for index, file in enumerate(outputs) if file is not None]

    def output(self, index: int) -> bytes | None:
        """What an output gave so far; None when it is no output of ours."""
        return None if self._outputs[index] is None else b"".join(self._chunks[index])

    def partial(self, index: int) -> bytes | None:
        """The same for an exception: None also when there was nothing."""
        return self.output(index) or None

    def run(self, deadline: float | None) -> bool:
        """Go on until all is read and written; False when a monotonic instant has come first.

        Raises:
            OSError: read(2), write(2).
        """
        stdin = self._stdin
        if stdin is None or stdin.closed:
            return self._run(None, deadline)
        # Large writes must not block; the flag belongs to the open file, which is the user's again afterwards.
        fd = stdin.fileno()
        blocking = os.get_blocking(fd)
        os.set_blocking(fd, False)
        try:
            return self._run(stdin, deadline)
        finally:
            if blocking and not stdin.closed:
                os.set_blocking(fd, True)

    def _run(self, stdin: IO[Any] | None, deadline: float | None) -> bool:
        poller = select.poll()
        targets: dict[int, int] = {}
        if stdin is not None:
            targets[stdin.fileno()] = -1
            poller.register(stdin.fileno(), WRITE)
        for index in list(self._open):
            file = self._outputs[index]
            if file is None or file.closed:
                self._open.remove(index)
                continue
            targets[file.fileno()] = index
            poller.register(file.fileno(), READ)
        while targets:
            left = LONGEST_WAIT if deadline is None else deadline - monotonic()
            if left < 0.0:
                return False
            ready = poller.poll(min(left, LONGEST_WAIT) * 1000.0)
            if deadline is not None and monotonic() > deadline:
                return False
            for fd, _ in ready:
                if self._feeder.write(fd) if targets[fd] < 0 else self._read(fd, targets[fd]):
                    # Before the file is closed, and with it the number free for others.
                    poller.unregister(fd)
                    self._close(targets.pop(fd))
        return True

    def _read(self, fd: int, index: int) -> bool:
        chunks = self._chunks[index]
        # From the system call into the list with no bytecode between at which Ctrl-C could lose the bytes.
        chunks.extend(map(os.read, (fd,), (READ_SIZE,)))
        return not chunks[-1]

    def _close(self, index: int) -> None:
        file = self._stdin if index < 0 else self._outputs[index]
        if index >= 0:
            self._open.remove(index)
        try:
            if file is not None:
                file.close()
        except BrokenPipeError:
            pass
