"""The side of the worker of a pool with an executor."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
from typing import Any

import pytest

from conftest import isolated
from fastproc import cmd

pytestmark = pytest.mark.filterwarnings("error")


class Value:
    """Of a module: it pickles."""


def fork_and(condition: Any) -> int:
    """Return the pid of a fork that ends with 0 if it finds something so."""
    child = os.fork()
    if not child:
        os._exit(0 if condition() else 1)
    return child


def talk_to_a_worker() -> list[Any]:
    """The side of the worker, in this process."""
    from fastproc.pool import _worker

    def pickled(*words: str) -> bytes:
        return pickle.dumps((cmd(*words, capture=True), None))

    here = f"{os.uname().nodename}:{os.getpid()}"
    assert _worker.stop({"early": 1}) == {}
    # What is to be ended before it has come does not begin.
    assert pickle.loads(_worker.perform("early", pickled("false"))) == (here, None, None)
    worker, result, error = pickle.loads(_worker.perform("plain", pickled("echo", "x")))
    assert (worker, result.stdout, error) == (here, b"x\n", None)
    assert _worker.stop({"plain": 1}) == {"plain": _worker.ENDED}
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        answer = threads.submit(_worker.perform, "long", pickled("sleep", "60"))
        while "long" not in _worker._running:
            assert not answer.done()
        assert _worker.stop({"long": 2, "other": 2}) == {"long": _worker.RUNNING}
        _, result, _ = pickle.loads(answer.result(10))
        assert result is None or result.signal == 9
    _, result, error = pickle.loads(_worker.perform("broken", b"no pickle"))
    assert (result, type(error)) == (None, pickle.UnpicklingError)
    # The options of a run may say themselves what ends it with its worker.
    piped = pickle.dumps((cmd("echo", "x") | cmd("cat"), {"pdeathsig": 15, "capture": True}))
    _, result, error = pickle.loads(_worker.perform("piped", piped))
    assert (result.stdout, error) == (b"x\n", None)
    # What does not pickle is told.
    for result, error in ((Value, None), (lambda: 0, None), (None, ValueError(lambda: 0)), (lambda: 0, OSError("x"))):
        there, _, error = pickle.loads(_worker._packed("there", result, error))
        assert there == "there"
        assert (error is None) is (result is Value)
        assert error is None or "it cannot be sent" in str(error)
    # A lock that is taken again by its thread, and is free in a fork.
    with _worker._lock, concurrent.futures.ThreadPoolExecutor(1) as threads:
        assert _worker.stop({"plain": 1}) == {"plain": _worker.ENDED}
        child = threads.submit(fork_and, lambda: _worker._lock.acquire(blocking=False)).result(10)
        assert os.waitpid(child, 0)[1] == 0
    before = len(_worker._ended)
    _worker.stop({str(number): 1 for number in range(_worker._KEPT + 10)})
    assert len(_worker._refused) == _worker._KEPT
    return [before]


def test_the_side_of_the_worker() -> None:
    """Tasks there are ended by their tokens; which of them run, have ended or will not begin is told."""
    assert isolated(talk_to_a_worker) == [4]
