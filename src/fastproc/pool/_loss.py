"""The workers that an executor has lost."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    from fastproc._values.command import Expression

    class Loss(NamedTuple):
        """A worker that its executor has lost, and the tasks that it held: running, waiting, or their results.

        The executor has run them again elsewhere, or given them up, which is a WorkerLost.

        Attributes:
            worker: its name.
            expressions: what the tasks were.
        """

        worker: str
        expressions: tuple[Expression, ...]
else:
    from collections import namedtuple

    Loss = namedtuple("Loss", ("worker", "expressions"), module="fastproc.pool")
    Loss.__doc__ = "A worker that its executor has lost, and the tasks that it held."
