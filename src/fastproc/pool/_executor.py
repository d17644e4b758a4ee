"""An Executor of `concurrent.futures` on a pool."""

from __future__ import annotations

from concurrent import futures

from fastproc._values.command import Expression
from fastproc.pool._pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc.pool._future import Future


class Executor(futures.Executor):
    """A `concurrent.futures.Executor` whose tasks are commands.

    Args:
        max_workers: as `workers` of Pool; or a Pool, which is then only used, and not closed.
        options: as of Pool.

    >>> with Executor(2) as executor:
    ...     executor.submit("printf", "hello").result().text()
    'hello'
    """

    __module__ = "fastproc.pool"

    _runs_here = True
    """For a pool that is given an executor: this one's tasks are no other process's."""

    def __init__(self, max_workers: int | Pool | None = None, **options: Any) -> None:
        """Make a pool, or take one."""
        self._owned = not isinstance(max_workers, Pool)
        self._pool = max_workers if isinstance(max_workers, Pool) else Pool(max_workers, **options)
        self._shut = False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:  # type: ignore[override]
        """Queue a command.

        Args:
            fn: a command or another expression; a program, with its arguments after it; or a function that makes one of
                the arguments, called at once.
            args: see fn.
            kwargs: options as of `Pool.submit()`, or of the function.

        Raises:
            RuntimeError: after shutdown().
        """
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if callable(fn) and not isinstance(fn, Expression):
            return self._pool.submit(fn(*args, **kwargs))
        return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; with `wait` until all are done. A pool that was given stays open."""
        self._shut = True
        if not self._owned:
            return
        if cancel_futures:
            self._pool.withdraw()
        if wait:
            self._pool.close()
        else:
            self._pool.close_later()
