"""The crew of a pool, made of everything that both pools take; and the way to an executor."""

from __future__ import annotations

import sys

from fastproc._values.options import checked
from fastproc.pool._core import Crew
from fastproc.pool._gate import Gate
from fastproc.pool._retries import Retries, as_retries, number
from fastproc.pool._settings import EXECUTOR_WORKERS, check_workers, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent import futures
    from typing import Any

    from fastproc.pool._remote import Link


def make_crew(
    workers: int | None,
    rate: float | None,
    deadline: float | None,
    retries: int | Retries,
    fail_fast: bool,
    gate: Gate | Callable[[], bool] | None,
    options: Mapping[str, Any],
    executor: futures.Executor | None = None,
    in_loop: bool = False,
) -> Crew:
    """Check everything that a pool takes, and make its threads; `in_loop` for a pool of an event loop.

    Raises:
        TypeError, ValueError: something is not possible; its name comes first.
        Unsupported: this system has no pools, or this kernel does not tell what the gate asks for.
        OSError: no threads or descriptors are left.
    """
    count = check_workers(EXECUTOR_WORKERS if workers is None and executor is not None else workers)
    if rate is not None and number("rate", rate) == 0:
        raise ValueError("rate: must be more than 0")
    if deadline is not None:
        number("deadline", deadline)
        if "timeout" in options:
            raise ValueError("deadline: is the same as timeout; give one of them")
    tried = as_retries(retries)
    if gate is not None and not isinstance(gate, Gate) and not callable(gate):
        raise TypeError(f"gate: must be a Gate or a function, not {type(gate).__name__}")
    checked(options)
    if isinstance(gate, Gate):
        look(gate)
    link = None
    if executor is not None:
        from fastproc.pool._sendable import check_values

        check_values(checked(options))
        link = make_link(executor, in_loop)
    crew = Crew(count, rate, deadline, tried, bool(fail_fast), options, link)
    if link is not None:
        try:
            link.open()
        except BaseException:
            crew.workers.close()
            raise
    return crew


_HINT = "such as client.get_executor() of distributed (fastproc[dask])"


def make_link(executor: Any, in_loop: bool = False) -> Link:
    """Return the way to an executor.

    Args:
        executor: as given to the pool.
        in_loop: whether the pool is one of an event loop.

    Raises:
        TypeError: it is none; or its workers are of this process; or its client is one of an event loop, whose thread a
            blocking pool would hold up.
    """
    from concurrent import futures

    if not isinstance(executor, futures.Executor):
        found = "the client itself" if hasattr(executor, "get_executor") else type(executor).__name__
        raise TypeError(f"executor: must be a concurrent.futures.Executor, {_HINT}, not {found}")
    if getattr(executor, "_runs_here", False):
        raise TypeError("executor: runs commands itself, and here; give one whose workers are other processes")
    if isinstance(executor, futures.ThreadPoolExecutor):
        from fastproc.pool._worker import IN_PROCESS

        raise TypeError(f"executor: {IN_PROCESS}")
    module = sys.modules.get("distributed.cfexecutor")
    if module is not None and isinstance(executor, module.ClientExecutor):
        from fastproc.pool._dask import DaskLink, check_client

        check_client(executor._client, in_loop)
        return DaskLink(executor)
    from fastproc.pool._remote import Link

    return Link(executor)
