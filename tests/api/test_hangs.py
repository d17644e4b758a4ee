"""Eight ways in which a run hangs for ever elsewhere: each ends at its deadline and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import hangs

BOUNDED = [scenario for scenario in hangs.SCENARIOS if scenario is not hangs.exec_delayed_by_tracer]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", BOUNDED, ids=lambda scenario: scenario.__name__)
def test_hang_ends_at_its_deadline(
    scenario: Callable[[], float], engine: str, record_property: Callable[[str, object], None]
) -> None:
    """0.3 s after it at the latest, in one of three tries; what is left behind, the leak check sees."""
    times = [scenario() - hangs.DEADLINE]
    while min(times) > hangs.LATEST and len(times) < 3:
        times.append(scenario() - hangs.DEADLINE)
    record_property("seconds after the deadline", min(times))
    assert min(times) >= 0
    assert min(times) <= hangs.LATEST
    assert max(times) < 5


@pytest.mark.slow
def test_tracer_that_delays_exec_delays_the_run_and_no_more(engine: str) -> None:
    """The thread stands still until the program is executed (HAZARDS A15); then it ends, as the deadline has passed."""
    if not hangs.possible(hangs.exec_delayed_by_tracer):
        pytest.skip("no strace(1)")
    assert hangs.exec_delayed_by_tracer() < 2.0 + 2.0
