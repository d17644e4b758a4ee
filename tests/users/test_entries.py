"""Entries of the databases as values."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.users import Group, Unknown, UnknownGroup, UnknownUser, User, check_who

ANN = User("ann", 1000, 1001, "Ann & Co,Room 1,", "/home/ann", "/bin/sh", "secret")
AUDIO = Group("audio", 29, ["ann", "bob"], "secret")


@pytest.mark.parametrize("entry", [ANN, AUDIO])
def test_entry_is_a_value(entry: User | Group) -> None:
    again = type(entry)(*entry)
    assert entry == again
    assert hash(entry) == hash(again)
    assert pickle.loads(pickle.dumps(entry)) == copy.deepcopy(entry) == entry
    assert type(pickle.loads(pickle.dumps(entry))) is type(entry)
    with pytest.raises(AttributeError):
        entry.name = "x"  # type: ignore[misc]


def test_password_is_not_shown() -> None:
    assert repr(ANN) == (
        "User(name='ann', uid=1000, gid=1001, gecos='Ann & Co,Room 1,', home='/home/ann', shell='/bin/sh')"
    )
    assert repr(AUDIO) == "Group(name='audio', gid=29, members=('ann', 'bob'))"
    for entry in (ANN, AUDIO):
        assert "secret" not in repr(entry) + str(entry) + json.dumps(entry.to_dict())
        assert entry.password == "secret"


def test_defaults_and_full_name() -> None:
    assert User("a", 1, 2) == ("a", 1, 2, "", "/", "", "x")
    assert Group("a", 1) == ("a", 1, (), "x")
    assert ANN.full_name == "Ann Ann Co"
    assert User("bob", 1, 2, "Bob").full_name == "Bob"
    assert User("bob", 1, 2).full_name == ""


@pytest.mark.parametrize("number", [-1, 65535, 4294967295, 2**32, -2, 2**64])
def test_number_that_is_no_id_is_refused(number: int) -> None:
    """GOTCHAS G6."""
    with pytest.raises(ValueError, match=rf"uid: {number} is no id"):
        User("a", number, 1)
    with pytest.raises(ValueError, match=rf"gid: {number} is no id"):
        User("a", 1, number)
    with pytest.raises(ValueError, match=rf"gid: {number} is no id"):
        Group("a", number)
    with pytest.raises(ValueError, match=rf"user: {number} is no id"):
        check_who("user", number)


@pytest.mark.parametrize("wrong", [True, 1.0, None, b"root", ["root"], "1"])
def test_id_of_another_type_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="uid: an id is a number"):
        User("a", wrong, 1)  # type: ignore[arg-type]
    if wrong != "1":
        with pytest.raises(TypeError, match="who: must be a name or an id"):
            check_who("who", wrong)


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "a\0b"])
def test_name_that_none_can_have_is_refused(name: str) -> None:
    for call in (lambda: User(name, 1, 1), lambda: Group(name, 1), lambda: check_who("name", name)):
        with pytest.raises(ValueError, match=r"name: .* cannot be a name"):
            call()


def test_members_that_are_one_string_are_refused() -> None:
    with pytest.raises(TypeError, match="members: must be names"):
        Group("a", 1, "bob")
    with pytest.raises(TypeError, match=r"members\[1\]: must be a string"):
        Group("a", 1, ["bob", 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="home: must be a string"):
        User("a", 1, 1, home=None)  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_characters=":\n\0"), min_size=1))
def test_string_is_always_a_name(name: str) -> None:
    """GOTCHAS G7: also one of digits."""
    assert check_who("who", name) == name
    assert isinstance(check_who("who", name), str)


@given(st.integers(0, 2**32 - 2).filter(lambda number: number != 65535))
def test_number_is_always_an_id(number: int) -> None:
    assert check_who("who", number) == number
    assert isinstance(check_who("who", number), int)


def test_unknown_says_whom_was_asked_for() -> None:
    assert str(UnknownUser("bob")) == "there is no user named 'bob'"
    assert str(UnknownUser("1000")) == (
        "there is no user named '1000' (a string is always a name, an id always a number)"
    )
    assert str(UnknownGroup(5)) == "there is no group with the id 5"
    for error in (UnknownUser("bob"), UnknownGroup(5)):
        assert isinstance(error, KeyError)
        assert isinstance(error, Unknown)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.who, str(again)) == (type(error), error.who, str(error))
    assert not issubclass(UnknownGroup, UnknownUser)
