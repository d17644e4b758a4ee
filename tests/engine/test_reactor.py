"""One epoll, one heap of timers."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import isolated
from fastproc._engine import reactor as module
from fastproc._engine.reactor import HANGUP, READ, WRITE, Poll, Reactor, borrowed, deadline_from


@pytest.fixture(params=["epoll", "poll"])
def reactor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reactor]:
    """A reactor on epoll(7), and one as on systems without it."""
    if request.param == "poll":
        monkeypatch.delattr(select, "epoll")
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def test_watched_descriptor_calls_back_until_unwatched(reactor: Reactor, pipe: tuple[int, int]) -> None:
    """Level-triggered: as long as there is something to read, every round reports it."""
    seen: list[int] = []
    reactor.watch(pipe[0], READ, seen.append)
    assert reactor.run_once(0) == 0
    os.write(pipe[1], b"x")
    assert (reactor.run_once(), reactor.run_once(), seen) == (1, 1, [READ, READ])
    os.close(pipe[1])
    os.read(pipe[0], 1)
    assert (reactor.run_once(), seen[-1]) == (1, HANGUP)
    reactor.unwatch(pipe[0])
    reactor.unwatch(pipe[0])
    assert (reactor.run_once(0), len(seen)) == (0, 3)


def test_watch_again_replaces(reactor: Reactor, pipe: tuple[int, int]) -> None:
    """The same descriptor with other events or another callback is one registration."""
    seen: list[str] = []
    reactor.watch(pipe[1], READ, lambda _: seen.append("first"))
    reactor.watch(pipe[1], WRITE, lambda _: seen.append("second"))
    reactor.run_once()
    reactor.watch(pipe[1], WRITE, lambda _: seen.append("third"))
    reactor.run_once()
    assert seen == ["second", "third"]


class _Interrupted:
    """A poller whose next register() is done, and then interrupted."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self.left = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)

    def register(self, fd: int, events: int) -> None:
        self._poller.register(fd, events)
        if self.left:
            self.left -= 1
            raise KeyboardInterrupt


@pytest.mark.parametrize("then", ["watch", "unwatch"])
def test_interrupted_watch_can_be_repeated_and_undone(reactor: Reactor, pipe: tuple[int, int], then: str) -> None:
    """A signal handler that raises just after the registration: it is neither in the way nor left behind."""
    os.write(pipe[1], b"x")
    seen: list[int] = []
    reactor._poller = _Interrupted(reactor._open())  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        reactor.watch(pipe[0], READ, seen.append)
    if then == "watch":
        reactor.watch(pipe[0], READ, seen.append)
        assert reactor.run_once(1) == 1
    reactor.unwatch(pipe[0])
    assert reactor.run_once(0) == 0
    assert len(seen) == (then == "watch")
    assert reactor._poller.poll(0, 8) == []


def test_number_recycled_within_a_batch_is_not_mixed_up(reactor: Reactor) -> None:
    """A ready event of a descriptor that was closed must not reach the one that has its number now."""
    first, second = os.pipe(), os.pipe()
    fresh: list[tuple[int, int]] = []
    wrong: list[int] = []
    done: list[int] = []

    def swap(own: tuple[int, int], other: tuple[int, int]) -> None:
        done.append(own[0])
        for fd in other:
            reactor.unwatch(fd)
            os.close(fd)
        fresh.append(os.pipe())
        assert fresh[0][0] == other[0]
        reactor.watch(fresh[0][0], READ, wrong.append)

    reactor.watch(first[0], READ, lambda _: swap(first, second))
    reactor.watch(second[0], READ, lambda _: swap(second, first))
    for _, write_end in (first, second):
        os.write(write_end, b"x")
    assert (reactor.run_once(), wrong) == (1, [])
    left = first if done == [first[0]] else second
    for fd in (*left, *fresh[0]):
        reactor.unwatch(fd)
        os.close(fd)


def test_unwatch_after_close_is_harmless(reactor: Reactor) -> None:
    """The kernel forgets a closed file by itself; so must we."""
    read_end, write_end = os.pipe()
    reactor.watch(read_end, READ, lambda _: None)
    os.close(read_end)
    os.close(write_end)
    reactor.unwatch(read_end)
    with pytest.raises(RuntimeError, match="for ever"):
        reactor.run_once()


def test_callback_that_raises_loses_no_other_event(reactor: Reactor, pipe: tuple[int, int]) -> None:
    """The exception reaches the driver, the rest is reported by the next round."""
    os.write(pipe[1], b"x")
    seen: list[int] = []

    def fail(_ready: int) -> None:
        reactor.unwatch(pipe[1])
        raise LookupError("mine")

    reactor.watch(pipe[1], WRITE, fail)
    reactor.watch(pipe[0], READ, seen.append)
    with pytest.raises(LookupError, match="mine"):
        reactor.run_once(0)
    reactor.run_once(0)
    assert READ in seen


def test_nothing_to_wait_for_is_refused(reactor: Reactor) -> None:
    """A driver that waits for nothing would hang for ever."""
    with pytest.raises(RuntimeError, match="for ever"):
        reactor.run_once()
    assert reactor.run_once(0.001) == 0
    assert reactor.timeout() is None


def test_timers_run_in_order_and_not_early(reactor: Reactor) -> None:
    """By their instant, then by the order in which they were set."""
    seen: list[tuple[str, bool]] = []
    start = monotonic()

    def note(name: str, when: float) -> None:
        seen.append((name, monotonic() >= when))

    for name, delay in (("c", 0.02), ("a", 0.01), ("b", 0.01), ("x", 0.015)):
        when = start + delay
        timer = reactor.call_at(when, lambda name=name, when=when: note(name, when))
        if name == "x":
            timer.cancel()
            timer.cancel()
    timeout = reactor.timeout()
    assert timeout is not None
    assert 0 <= timeout <= 0.01
    while reactor.timeout() is not None:
        reactor.run_once()
    assert seen == [("a", True), ("b", True), ("c", True)]


def test_timer_set_by_a_timer_waits_for_the_next_round(reactor: Reactor) -> None:
    """A chain of timers that are due at once must not hold the loop."""
    rounds: list[int] = []

    def again() -> None:
        rounds.append(1)
        reactor.call_at(0.0, again)

    reactor.call_at(0.0, again)
    assert [reactor.run_once(), reactor.run_once(), reactor.timeout()] == [1, 1, 0.0]
    assert len(rounds) == 2


def test_timer_cancelled_by_an_earlier_one_does_not_run(reactor: Reactor) -> None:
    """Also when both are due in the same round."""
    ran: list[str] = []
    later = reactor.call_at(2.0, lambda: ran.append("later"))
    reactor.call_at(1.0, later.cancel)
    assert (reactor.run_once(), ran, reactor.timeout()) == (1, [], None)


def test_cancelled_timers_do_not_pile_up(reactor: Reactor) -> None:
    """A deadline of an hour for each of many runs that take a millisecond."""
    kept = reactor.call_at(monotonic() + 3600, lambda: None)
    for _ in range(10_000):
        reactor.call_at(monotonic() + 1800, lambda: None).cancel()
    assert len(reactor._timers) < 300
    assert reactor.timeout() is not None
    kept.cancel()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=200))
def test_any_timers_run_once_unless_cancelled(plan: list[tuple[float, bool]]) -> None:
    """Whatever is cancelled never runs, everything else runs once and in order."""
    reactor = Reactor()
    ran: list[int] = []
    timers = [reactor.call_at(when, lambda index=index: ran.append(index)) for index, (when, _) in enumerate(plan)]
    for timer, (_, cancelled) in zip(timers, plan, strict=True):
        if cancelled:
            timer.cancel()
    while reactor.timeout() is not None:
        reactor._run_timers(reactor._serial)
    expected = [index for index, (_, cancelled) in enumerate(plan) if not cancelled]
    assert ran == sorted(expected, key=lambda index: (plan[index][0], index))


def test_reactor_costs_no_descriptor_before_it_watches() -> None:
    """The first use makes the epoll; close gives it back."""
    before = os.listdir("/proc/self/fd")
    reactor = Reactor()
    reactor.call_at(0.0, lambda: None)
    assert os.listdir("/proc/self/fd") == before
    reactor.run_once()
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    reactor.close()
    reactor.close()
    assert os.listdir("/proc/self/fd") == before


def test_fileno_is_readable_when_something_is_ready(pipe: tuple[int, int]) -> None:
    """The contract for embedding: one descriptor, one timeout, one call."""
    reactor = Reactor()
    seen: list[int] = []
    reactor.watch(pipe[0], READ, seen.append)
    outer = select.poll()
    outer.register(reactor.fileno(), select.POLLIN)
    assert outer.poll(0) == []
    os.write(pipe[1], b"x")
    assert outer.poll(1000) == [(reactor.fileno(), select.POLLIN)]
    assert (reactor.run_once(0), seen) == (1, [READ])
    reactor.close()


def test_fileno_without_epoll_says_so() -> None:
    """There is nothing to embed by on such a system."""
    with pytest.raises(NotImplementedError, match="epoll"):
        Poll().fileno()


def without_descriptors() -> list[object]:
    import resource

    import fastproc
    from fastproc import as_completed  # its module is read now, not when nothing can be opened

    read_end, write_end = os.pipe()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    processes = []
    try:
        while True:
            processes.append(fastproc.start("cat", stdin=read_end))
    except fastproc.SpawnError as error:
        text = str(error)
    os.dup2(read_end, write_end)  # their input ends, and no number becomes free
    reactor = Reactor()
    try:
        reactor.fileno()
    except OSError as error:
        refused = error.errno
    found = sum(process.returncode == 0 for process in as_completed(processes, timeout=20))
    return [found == len(processes) > 40, "may have 64 (RLIMIT_NOFILE" in text, refused]


def test_children_that_took_all_descriptors_are_waited_for() -> None:
    """The spawn that found none says which limit it is; waiting for the others needs none."""
    assert isolated(without_descriptors) == [True, True, errno.EMFILE]


def test_forked_copy_is_inert(pipe: tuple[int, int]) -> None:
    """A fork must neither wait on the parent's epoll nor change it (GOTCHAS I2)."""
    reactor = Reactor()
    seen: list[int] = []
    reactor.watch(pipe[0], READ, seen.append)
    with borrowed() as mine:
        pass
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            reactor.unwatch(pipe[0])
            try:
                reactor.run_once(0)
            except RuntimeError:
                with borrowed() as fresh:
                    code = 0 if fresh is not mine and reactor.inert else 2
                reactor.close()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    os.write(pipe[1], b"x")
    assert (reactor.run_once(0), seen) == (1, [READ])
    reactor.close()


def test_borrowed_reactor_is_kept_for_its_thread() -> None:
    """One for each thread; a driver within a driver, and another thread, get their own."""
    with borrowed() as outer:
        with borrowed() as inner:
            assert inner is not outer
            inner.run_once(0)
        assert inner._poller is None
        found: list[Reactor] = []

        def other() -> None:
            with borrowed() as reactor:
                found.append(reactor)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert found[0] is not outer
    with borrowed() as again:
        assert again is outer


def test_borrowed_reactor_on_which_something_is_left_is_given_up() -> None:
    """An interrupt may come in the middle of a callback, or before what was watched is forgotten."""
    first, last = os.pipe()

    def interrupted(_ready: int) -> None:
        raise KeyboardInterrupt

    os.write(last, b"x")
    with borrowed() as watching:
        watching.watch(first, READ, interrupted)
    with borrowed() as second:
        assert second is not watching
        timer = second.call_after(60, list)
    with borrowed() as third:
        assert third is not second
        timer.cancel()
        third.watch(first, READ, interrupted)
        with pytest.raises(KeyboardInterrupt):
            third.run_once(0)
        third.unwatch(first)
        assert not third.idle
    with borrowed() as fourth:
        assert fourth is not third
        assert fourth.idle
    os.close(first)
    os.close(last)


def epoll_number_with_closed_streams() -> list[object]:
    os.close(0)
    os.close(2)
    reactor = Reactor()
    number = reactor.fileno()
    return [number >= 3, os.get_inheritable(number), [fd for fd in (0, 2) if os.path.exists(f"/proc/self/fd/{fd}")]]


def test_epoll_is_no_standard_stream() -> None:
    """Where the host runs with closed streams, the epoll must not become one (GOTCHAS C8)."""
    number_is_high, inheritable, low = isolated(epoll_number_with_closed_streams)
    # /proc/self/fd itself is listed with a number while it is looked at, never by exists().
    assert (number_is_high, inheritable, low) == (True, False, [])


@given(st.one_of(st.floats(), st.integers(), st.none()))
@example(10**400)
@example(-(10**400))
def test_instant_takes_any_number(seconds: float | None) -> None:
    """A time is an instant, never, or refused; nothing overflows (GOTCHAS D19)."""
    if seconds is not None and seconds != seconds:
        with pytest.raises(ValueError, match="timeout: NaN"):
            deadline_from("timeout", seconds)
        return
    when = deadline_from("timeout", seconds)
    assert when is None or when < module.NEVER
    if seconds is None or seconds > 1e10:
        assert when is None


def test_wait_longer_than_the_kernel_takes_is_cut(reactor: Reactor, pipe: tuple[int, int]) -> None:
    """31 bits of milliseconds is the limit of epoll_wait(2); the driver's loop goes on."""
    os.write(pipe[1], b"x")
    seen: list[int] = []
    reactor.watch(pipe[0], READ, seen.append)
    assert (reactor.run_once(1e300), seen) == (1, [READ])
