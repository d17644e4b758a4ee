"""What the blocking pool and that of event loops tell of themselves."""

from __future__ import annotations

from fastproc.pool._settings import check_workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.pool._core import Crew
    from fastproc.pool._loss import Loss


class Front:
    """The base of both pools."""

    _crew: Crew
    _name: str

    def __repr__(self) -> str:
        """Show what goes on."""
        if self._crew.closed or self._crew.inert:
            return f"<{self._name} workers={self.workers} closed>"
        return f"<{self._name} workers={self.workers} running={self.running} queued={self.queued}>"

    @property
    def workers(self) -> int:
        """How many tasks run at the same time; may be set: with fewer, those that run go on."""
        return self._crew.limit

    @workers.setter
    def workers(self, workers: int) -> None:
        self._crew.check_usable()
        self._crew.limit = check_workers(workers)
        self._crew.adjust()

    @property
    def running(self) -> int:
        """How many tasks run."""
        return 0 if self._crew.closed else self._crew.workers.count()[1]

    @property
    def queued(self) -> int:
        """How many wait for their turn, or for their next try."""
        return 0 if self._crew.closed else self._crew.workers.count()[0]

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The workers that the executor has lost, as far as it tells, and the tasks that each held then.

        What a task of these has done it may have done twice; of all others each has run once for each of its tries.
        """
        link = self._crew.link
        return () if link is None else tuple(link.losses)
