"""Our controlling terminal, which a child with foreground=True takes: given back when the child has ended.

As a shell does it: without it the terminal would be left to a group that is gone, and our next read from it would stop
or fail.
"""

from __future__ import annotations

import os
from _signal import SIG_BLOCK, SIG_SETMASK, SIGTTOU, pthread_sigmask  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Foreground:
    """Who has the terminal before a child takes it.

    Args:
        spec: the child's attributes.
    """

    __slots__ = ("_before", "_group")

    def __init__(self, spec: dict[str, Any]) -> None:
        self._group: int = spec.get("pgid", 0)
        self._before = 0
        fd = _open_ours()
        if fd >= 0:
            try:
                self._before = os.tcgetpgrp(fd)
            except OSError:
                # It was hung up.
                pass
            finally:
                os.close(fd)

    def give_back(self, pid: int) -> None:
        """Give it to whom it was taken from, if the group of the child, which has ended, still has it."""
        fd = _open_ours() if self._before > 0 else -1
        if fd < 0:
            return
        # From the background it would be SIGTTOU, which stops; blocked, the call is allowed (tcsetpgrp(3)).
        mask = pthread_sigmask(SIG_BLOCK, (SIGTTOU,))
        try:
            if os.tcgetpgrp(fd) == (self._group or pid):
                os.tcsetpgrp(fd, self._before)
        except OSError:
            # Hung up, or nobody is left in that group.
            pass
        finally:
            pthread_sigmask(SIG_SETMASK, mask)
            os.close(fd)


def _open_ours() -> int:
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return -1
