"""The parent's ends of a child's standard streams."""

from __future__ import annotations

import os

from fastproc._engine.fds import FIRST_FREE_FD, OwnedFd
from fastproc._native.fds import take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader, BufferedWriter

    from fastproc._engine.streams.terminal import Terminal


class PipeEnds:
    """The parent's ends of a child's stdin, stdout and stderr; each may be missing.

    Attributes:
        terminal: the one of which they are, where the child has one of ours; closed with them.
    """

    __slots__ = ("_ends", "terminal")

    def __init__(self) -> None:
        self._ends = (OwnedFd(), OwnedFd(), OwnedFd())
        self.terminal: Terminal | None = None

    def attach(self, terminal: Terminal) -> None:
        """Take the ends of a terminal: one to read and, where stdin is the terminal, one to write.

        Raises:
            OSError: EMFILE, fcntl(2).
        """
        import fcntl

        self.terminal = terminal
        for stream in (0, 1) if terminal.on_stdin else (1,):
            self._ends[stream].fill(fcntl.fcntl, terminal._master.number, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)

    def __getitem__(self, stream: int) -> OwnedFd:
        return self._ends[stream]

    def adopt(self, stdin: int, stdout: int, stderr: int) -> None:
        """Become the owner of the ends; -1 where the stream has no pipe. Harmless when repeated at once."""
        for end, fd in zip(self._ends, (stdin, stdout, stderr), strict=True):
            if fd >= 0:
                end.adopt(fd)

    def swap(self) -> None:
        """Exchange stdout and stderr."""
        first, out, err = self._ends
        self._ends = first, err, out

    def file(self, stream: int, buffering: int = -1) -> BufferedReader | BufferedWriter | None:
        """Turn one end into a blocking file that owns it, buffered as open() has it; None where there is no pipe.

        The end is our own open file description, so clearing O_NONBLOCK is seen by nobody else (GOTCHAS C10).
        """
        end = self._ends[stream]
        if end.closed:
            return None
        number = end.number
        os.set_blocking(number, True)
        mode = "wb" if stream == 0 else "rb"
        try:
            # From its owner into the file with no bytecode between at which an interrupt could lose it.
            for file in map(open, map(take, (end._cell,)), (mode,), (buffering,)):
                return file  # type: ignore[return-value]
        except Exception:
            os.close(number)
            raise
        return None

    def close(self) -> None:
        """Close the ends that are still here."""
        for end in self._ends:
            try:
                end.close()
            except OSError:
                # Pipes have nothing to write back; the number is gone whatever close(2) said.
                pass
        if self.terminal is not None:
            self.terminal.close()
