"""Rules: which are refused, and what becomes of values under them. No process is started here."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc.info._fields import ABOUT
from fastproc.monitor._rules import METRICS, Level, ProcessAlert, Rule


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("heat", 1), {}, "metric: 'heat' is none of cpu, rss"),
        (("cpu",), {}, "cpu: needs one threshold, above or below"),
        (("cpu", 1), {"below": 2}, "cpu: needs one threshold, above or below"),
        (("cpu", float("nan")), {}, "cpu: threshold: nan is not a number"),
        (("cpu", "9"), {}, "cpu: threshold: '9' is not a number"),
        (("cpu", 9), {"hold": -1}, "cpu: hold and clear_hold must be seconds of 0 or more"),
        (("cpu", 9), {"clear": 10}, "cpu: clear=10 is beyond the threshold 9"),
        (("rss",), {"below": 9, "clear": 8}, "rss: clear=8 is beyond the threshold 9"),
    ],
)
def test_wrong_rules_are_refused(arguments: tuple[Any, ...], options: dict[str, Any], text: str) -> None:
    """With the metric and the reason."""
    with pytest.raises(ValueError, match=re.escape(text)):
        Rule(*arguments, **options)


def test_rules_are_values() -> None:
    """Equal, hashable, printed as they are made."""
    rule = Rule("cpu", 90, clear=70, hold=5)
    assert rule == Rule("cpu", above=90, clear=70, hold=5)
    assert len({rule, Rule("cpu", 90, clear=70, hold=5), Rule("cpu", 90)}) == 2
    assert repr(rule) == "Rule('cpu', above=90, clear=70, hold=5)"
    assert eval(repr(rule)) == rule
    assert Rule("zombie") == Rule("zombie", 0.5)


def steps(rule: Rule, values: list[float], every: float = 1.0) -> list[tuple[float, str]]:
    level = Level(rule)
    found = [(at * every, level.step(value, at * every)) for at, value in enumerate(values)]
    return [(when, event) for when, event in found if event is not None]


@pytest.mark.parametrize(
    ("rule", "values", "events"),
    [
        (Rule("cpu", 10), [10, 11, 12, 10, 9, 11], [(1, "raised"), (4, "cleared"), (5, "raised")]),
        (Rule("cpu", 80), [79, 81, 79, 81, 79, 72], [(1, "raised"), (5, "cleared")]),
        (Rule("rss", below=100), [101, 99, 101, 109, 110], [(1, "raised"), (4, "cleared")]),
        (Rule("cpu", 10, clear=5), [11, 9, 6, 5, 11], [(0, "raised"), (3, "cleared"), (4, "raised")]),
        (Rule("cpu", 10, hold=2), [11, 11, 9, 11, 11, 11, 9], [(5, "raised"), (6, "cleared")]),
        (Rule("cpu", 10, clear_hold=2), [11, 9, 11, 9, 9, 9], [(0, "raised"), (5, "cleared")]),
        (Rule("threads", below=3, clear=5), [3, 2, 4, 5], [(1, "raised"), (3, "cleared")]),
        (Rule("cpu", 10, clear=5, hold=1, clear_hold=1), [11, 11, 4, 6, 4, 4], [(1, "raised"), (5, "cleared")]),
    ],
)
def test_alerts_have_hysteresis_and_a_minimum_duration(
    rule: Rule, values: list[float], events: list[tuple[float, str]]
) -> None:
    """What trembles around a threshold, or is beyond it for a moment, tells nothing."""
    assert steps(rule, values) == events


@pytest.mark.parametrize(
    ("rule", "clear"),
    [
        (Rule("cpu", 80), 72),
        (Rule("rss", -10), -11),
        (Rule("threads", 1), 1),
        (Rule("threads", 25), 23),
        (Rule("fds", below=25), 27),
        (Rule("cpu_pressure", below=90), 95),
        (Rule("cpu", below=200), 220),
        (Rule("cpu_pressure", below=50), 55),
        (Rule("zombie"), 0.45),
    ],
)
def test_alert_ends_away_from_its_threshold_when_nothing_is_said(rule: Rule, clear: float) -> None:
    """A tenth, and where the value can come to."""
    assert rule.clear == pytest.approx(clear)


@given(
    st.lists(st.floats(0, 20), max_size=60),
    st.floats(0, 5),
    st.floats(0, 5),
    st.floats(0, 10),
)
def test_alerts_alternate_and_are_justified(values: list[float], hold: float, back: float, clear: float) -> None:
    """Raised and cleared take turns, and before each the value was on that side for the whole time."""
    rule = Rule("cpu", 10.0, clear=clear, hold=hold, clear_hold=back)
    events = steps(rule, values)
    assert [event for _, event in events] == (["raised", "cleared"] * len(events))[: len(events)]
    for when, event in events:
        duration = hold if event == "raised" else back
        seen = [value for at, value in enumerate(values) if when - duration <= at <= when]
        assert all(value > 10 if event == "raised" else value <= clear for value in seen)


def test_metrics_are_made_of_fields() -> None:
    """Those of a snapshot, by the same names."""
    assert {field for _, fields in METRICS.values() for field in fields} <= set(ABOUT)


def test_alerts_are_lines_for_a_log() -> None:
    """Who, what, and how much."""
    rule = Rule("rss", 100, clear=50)
    alerts = [
        ProcessAlert("raised", 7, "x", 1.0, rule=rule, value=200.0),
        ProcessAlert("cleared", 7, "x", 1.0, rule=rule, value=50.0),
        ProcessAlert("died", 7, "x", 1.0, returncode=-9),
        ProcessAlert("died", 7, "x", 1.0),
        ProcessAlert("restarted", 8, "x", 1.0, replaced=7),
        ProcessAlert("unknown", 7, "x", 1.0, rule=rule, reason="EACCES"),
        ProcessAlert("raised", 0, "host", 1.0, rule=Rule("io_pressure", 5), value=7.5),
    ]
    assert list(map(str, alerts)) == [
        "process 7 (x): rss is above 100: 200",
        "process 7 (x): rss is back at 50: 50",
        "process 7 (x) has died with -9",
        "process 7 (x) has died",
        "process 8 (x) has replaced process 7",
        "process 7 (x): rss is not available: EACCES",
        "the machine: io_pressure is above 5: 7.5",
    ]
    assert repr(alerts[2]) == "ProcessAlert(event='died', pid=7, name='x', returncode=-9)"
    assert alerts[0].metric == "rss"
