"""Many commands, a limited number at a time: pools, and a front that `concurrent.futures` knows.

>>> from fastproc import cmd, Pool
>>> with Pool(4) as pool:
...     [result.text() for result in pool.map(lambda word: cmd("printf", word), ["a", "b", "c"])]
['a', 'b', 'c']
"""

from __future__ import annotations

from fastproc.pool._gate import Gate
from fastproc.pool._pool import Pool
from fastproc.pool._retries import Retries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.pool._executor import Executor as Executor
    from fastproc.pool._future import Future as Future
    from fastproc.pool._loss import Loss as Loss

__all__ = ["Executor", "Future", "Gate", "Loss", "Pool", "Retries"]


def __getattr__(name: str) -> object:
    # concurrent.futures costs an import of 10 ms, which a map does not need.
    if name not in ("Executor", "Future", "Loss"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastproc.pool import _executor, _future, _loss

    module = {"Executor": _executor, "Future": _future, "Loss": _loss}[name]
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
