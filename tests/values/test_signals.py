"""Signal numbers and names, against the signal module."""

from __future__ import annotations

import signal

import pytest

from fastproc._values import signals


@pytest.mark.parametrize("item", list(signal.Signals))
def test_number_of_every_name(item):
    """Every name is known in full, short and lower-case form, and as the enum's member."""
    for form in (item.name, item.name[3:], item.name.lower(), item, int(item)):
        number = signals.number("x", form)
        assert (number, type(number)) == (int(item), int)
    assert signals.label(item) == item.name


def test_number_of_real_time_signal():
    """A real-time signal is named by its distance."""
    assert signals.number("x", "RTMIN+3") == signal.SIGRTMIN + 3
    assert signals.label(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0, ValueError, "x: 0 is not a signal number (1 to 64)"),
        (-1, ValueError, "x: -1 is not"),
        (65, ValueError, "x: 65 is not"),
        (True, TypeError, "x: a signal must be an int or a name such as 'TERM', not bool"),
        (1.0, TypeError, "x: a signal must be"),
        ("NOSUCH", ValueError, "x: unknown signal name 'NOSUCH'"),
        ("SIG_DFL", ValueError, "x: unknown signal name"),
        ("_DFL", ValueError, "x: unknown signal name"),
        ("", ValueError, "x: unknown signal name"),
        ("RTMIN+", ValueError, "x: unknown signal name"),
        ("RTMIN+99", ValueError, "x: 1"),
    ],
)
def test_number_of_bad_value_is_refused(value, kind, text):
    """What is no signal is an error that names the option."""
    with pytest.raises(kind) as caught:
        signals.number("x", value)
    assert str(caught.value).startswith(text)


def test_mask():
    """Bit n-1 is signal n."""
    assert signals.mask([1, 2, 64]) == 0b11 | 1 << 63
    assert signals.mask([signal.SIGPIPE, signal.SIGXFSZ]) == signals.PYTHON_IGNORES
    assert signals.mask([signal.SIGCHLD]) == signals.CHLD


@pytest.mark.parametrize("name", ["KILL", "STOP", "SEGV", "BUS", "FPE", "ILL", 32, 33])
def test_catchable_refuses_what_cannot_be_handled(name):
    """The kernel's two, faults of a thread, and those of the C library, each with the reason."""
    with pytest.raises(ValueError, match="x: ") as caught:
        signals.catchable("x", name)
    text = str(caught.value)
    assert any(reason in text for reason in ("lets nobody catch it", "a fault of its own", "belongs to the C library"))
    assert "RTMIN, 34" in text or isinstance(name, str)


def test_catchable_takes_all_others():
    """Every other number, standard and real-time."""
    refused = {9, 19, 11, 7, 8, 4, 32, 33}
    assert [signals.catchable("x", n) for n in range(1, 65) if n not in refused] == [
        n for n in range(1, 65) if n not in refused
    ]


def test_default_of_every_signal():
    """As the table of signal(7) has it."""
    table = {
        "ignore": {"CHLD", "URG", "WINCH"},
        "continue": {"CONT"},
        "stop": {"STOP", "TSTP", "TTIN", "TTOU"},
        "core": {"ABRT", "BUS", "FPE", "ILL", "QUIT", "SEGV", "SYS", "TRAP", "XCPU", "XFSZ"},
    }
    expected = {signals.number("x", name): kind for kind, names in table.items() for name in names}
    assert {n: signals.default_of(n) for n in range(1, 65)} == {n: expected.get(n, "terminate") for n in range(1, 65)}


def test_members_is_the_other_way_of_mask():
    """All bits, also the highest."""
    assert signals.members(signals.mask([1, 33, 64])) == [1, 33, 64]
    assert signals.members(-1) == list(range(1, 65))
