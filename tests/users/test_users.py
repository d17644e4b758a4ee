"""`fastproc.users` beside pwd, grp, getent(1) and id(1)."""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import resource
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import isolated
from fastproc import users
from fastproc.users import FakeUsers, Group, Ids, SystemUsers, UnknownGroup, UnknownUser, User, Users, UsersCache


def told(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}(1)")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def fields(user: User) -> tuple[Any, ...]:
    return user.name, user.password, user.uid, user.gid, user.gecos, user.home, user.shell


# -- an id that the kernel gives and nobody can ask for


def unasked(number: int) -> list[Any]:
    """The own user and group, where the number is this process's."""
    os.setgroups([number, 0])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)
    found: list[Any] = []
    for ask in (users.current_user, users.effective_user, users.current_group, users.effective_group):
        try:
            found.append(ask().name)
        except (UnknownUser, UnknownGroup) as error:
            found.append([type(error).__name__, error.who])
    groups = [one.gid for one in users.access_groups()]
    cached = UsersCache()
    try:
        cached.current_user()
    except UnknownUser as error:
        found.append(str(error))
    return [*found, groups, list(users.access_list()) == sorted([number, 0])]


@pytest.mark.privileged
@pytest.mark.parametrize("number", [65535, 2**32 - 2, 3_999_999_999])
def test_own_id_without_an_entry_is_unknown(number: int) -> None:
    """Also one that cannot be asked for (GOTCHAS G6): the kernel gave it, it is no argument."""
    user, group = ["UnknownUser", number], ["UnknownGroup", number]
    expected = [user, user, group, group, f"there is no user with the id {number}", [0], True]
    assert isolated(unasked, number) == expected


# -- the system's databases


def test_every_user_is_what_pwd_says() -> None:
    listed = users.all_users()
    assert [fields(user) for user in listed] == [tuple(entry) for entry in pwd.getpwall()]
    for user in listed:
        assert fields(users.user(user.name)) == tuple(pwd.getpwnam(user.name))
        assert fields(users.user(user.uid)) == tuple(pwd.getpwuid(user.uid))
        assert users.find_user(user.name) == users.user(user.name)


def test_every_group_is_what_grp_says() -> None:
    listed = users.all_groups()
    assert [tuple(group) for group in listed] == [
        (entry.gr_name, entry.gr_gid, tuple(entry.gr_mem), entry.gr_passwd) for entry in grp.getgrall()
    ]
    for group in listed:
        for found, witness in (
            (users.group(group.name), grp.getgrnam(group.name)),
            (users.group(group.gid), grp.getgrgid(group.gid)),
        ):
            assert (found.name, found.password, found.gid, list(found.members)) == tuple(witness)
        assert users.find_group(group.gid) == users.group(group.gid)


def test_getent_agrees() -> None:
    lines = [":".join(map(str, fields(user))) for user in users.all_users()]
    assert lines == told("getent", "passwd").splitlines()
    lines = [f"{group.name}:{group.password}:{group.gid}:{','.join(group.members)}" for group in users.all_groups()]
    assert lines == told("getent", "group").splitlines()


def test_group_list_is_what_id_says() -> None:
    for user in users.all_users():
        witness = [int(word) for word in told("id", "-G", user.name).split()]
        assert sorted(users.group_list(user.name)) == sorted(witness), user
        assert users.group_list(user.name)[0] == user.gid
        assert [group.gid for group in users.groups_of(user)] == [
            gid for gid in users.group_list(user) if users.find_group(gid)
        ]


def test_group_list_with_another_primary_group() -> None:
    root = users.user("root")
    assert users.group_list("root", 12345) == tuple(os.getgrouplist("root", 12345))
    assert 12345 in users.group_list(root, 12345)
    assert users.group_list(0) == users.group_list("root") == users.group_list(root)


def test_ids_are_procs() -> None:
    status = dict(line.split(":\t") for line in Path("/proc/thread-self/status").read_text().splitlines())
    assert users.uids() == tuple(map(int, status["Uid"].split()))
    assert users.gids() == tuple(map(int, status["Gid"].split()))
    assert users.access_list() == tuple(sorted(map(int, status["Groups"].split())))
    assert users.uids()[:3] == os.getresuid()
    assert [group.gid for group in users.access_groups()] == [
        gid for gid in users.access_list() if users.find_group(gid)
    ]


def test_current_is_what_id_says() -> None:
    assert users.current_user().name == users.effective_user().name == told("id", "-un").strip()
    assert users.current_group().name == users.effective_group().name == told("id", "-gn").strip()


def test_who_is_not_there() -> None:
    free = next(number for number in range(60_000, 65_000) if users.find_user(number) is users.find_group(number))
    for who in ("no-such-name", "0", "00", "0x0", "+0", " root", "ROOT", free):
        assert users.find_user(who) is None
        assert users.find_group(who) is None
        with pytest.raises(UnknownUser, match="there is no user"):
            users.user(who)
        with pytest.raises(UnknownGroup, match="there is no group"):
            users.group(who)
        with pytest.raises(UnknownUser):
            users.group_list(who)


@pytest.mark.parametrize("place", [SystemUsers(), UsersCache(), FakeUsers()], ids=lambda place: type(place).__name__)
def test_what_no_user_can_be_is_refused_everywhere(place: Users) -> None:
    """GOTCHAS G6, G7: not "there is none", which could be taken for leave to go on."""
    for call in (place.find_user, place.find_group, place.user, place.group, place.group_list, place.groups_of):
        for number in (-1, 65535, 4294967295, 2**32, -2):
            with pytest.raises(ValueError, match="is no id"):
                call(number)
        for name in ("", "root:x", "root\n", "root\0"):
            with pytest.raises(ValueError, match="cannot be a name"):
                call(name)
        for wrong in (True, None, 0.0, b"root"):
            with pytest.raises(TypeError, match="who: must be a name or an id"):
                call(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gid: -1 is no id"):
        place.group_list(User("a", 1, 1), -1)


@given(st.integers(-(2**40), 2**40))
def test_any_number_is_an_entry_or_none_or_refused(number: int) -> None:
    if 0 <= number < 2**32 - 1 and number != 65535:
        found = users.find_user(number)
        assert found is None or found.uid == number
    else:
        with pytest.raises(ValueError, match="is no id"):
            users.find_user(number)


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        found = users.find_user(text)
    except (ValueError, UnicodeEncodeError):
        return
    assert found is None or found.name == text


# -- databases that a test has made


def with_database(passwd: str, group: str) -> None:
    """In the mount namespace of `isolated()`: other files in the place of /etc/passwd and /etc/group."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name, text in (("passwd", passwd), ("group", group)):
        Path(f"/tmp/.fastproc-{os.getpid()}").write_text(text)
        source = f"/tmp/.fastproc-{os.getpid()}".encode()
        try:
            if libc.mount(source, f"/etc/{name}".encode(), None, 4096, None) != 0:  # MS_BIND
                raise OSError(ctypes.get_errno(), "mount")
        finally:
            os.unlink(source)


STRANGE = """\
root:x:0:0:root:/root:/bin/sh
0day:x:7000:7000::/:
0x10:x:7001:7001::/:
1000:x:7002:7002::/:
-1:x:7003:7003::/:
ann:x:1000:1000:Ann:/home/ann:/bin/sh
toor:x:0:0:second name:/root:/bin/sh
evil:x:4294967295:0::/:
evil16:x:65535:0::/:
evilgroup:x:7004:4294967295::/:
"""
STRANGE_GROUPS = """\
root:x:0:
1000:x:8000:ann
+more:x:8001:ann
ann:x:1000:
evil:x:65535:ann
"""


def strange() -> dict[str, Any]:
    with_database(STRANGE, STRANGE_GROUPS)
    found: dict[str, Any] = {}
    for who in ("0day", "0x10", "1000", "-1", 1000, 0, "toor", 16, 7002):
        entry = users.find_user(who)
        found[repr(who)] = entry and [entry.name, entry.uid]
    for who in ("1000", 1000):
        found[f"group {who!r}"] = users.group(who).gid
    for who in ("evil", "evil16", "evilgroup"):
        try:
            users.user(who)
        except ValueError as error:
            found[who] = str(error)
    try:
        users.group("evil")
    except ValueError as error:
        found["group evil"] = str(error)
    try:
        users.group_list("ann")
    except ValueError as error:
        found["list"] = str(error)
    found["all"] = [user.name for user in users.all_users()]
    found["all groups"] = [group.name for group in users.all_groups()]
    cache = UsersCache()
    cache.preload()
    found["cache"] = [cache.user("toor").name, cache.user(0).name, cache.user("1000").uid, cache.user(1000).name]
    cold = UsersCache()
    found["cold cache"] = [cold.user("toor").name, cold.user(0).name, cold.user("root").name]
    return found


@pytest.mark.privileged
def test_names_that_look_like_numbers_are_names(pid_namespace: None) -> None:
    """GOTCHAS G7, G6: what such a name stands for is never its digits, and an id that is none comes from nowhere."""
    found = isolated(strange, pid_namespace=True)
    assert found == {
        "'0day'": ["0day", 7000],
        "'0x10'": ["0x10", 7001],
        "'1000'": ["1000", 7002],
        "'-1'": None,
        "1000": ["ann", 1000],
        "0": ["root", 0],
        "'toor'": ["toor", 0],
        "16": None,
        "7002": ["1000", 7002],
        "group '1000'": 8000,
        "group 1000": 1000,
        "evil": "the user database, for 'evil': uid: 4294967295 is no id: it is -1",
        "evil16": "the user database, for 'evil16': uid: 65535 is no id: it is the 16-bit form of -1",
        "evilgroup": "the user database, for 'evilgroup': gid: 4294967295 is no id: it is -1",
        "group evil": "the group database, for 'evil': gid: 65535 is no id: it is the 16-bit form of -1",
        "list": "the group database, for 'ann': 65535 is no id: it is the 16-bit form of -1",
        "all": ["root", "0day", "0x10", "1000", "ann", "toor"],
        "all groups": ["root", "1000", "ann"],
        "cache": ["toor", "root", 7002, "ann"],
        "cold cache": ["toor", "root", "root"],
    }


def large() -> list[int]:
    names = [f"member{number:06}" for number in range(20_000)]
    with_database("root:x:0:0::/:\n", f"root:x:0:\nlarge:x:500:{','.join(names)}\n")
    return [users.group("large").members == tuple(names), len(users.group(500).members), len(users.all_groups())]


@pytest.mark.privileged
def test_group_larger_than_any_buffer(pid_namespace: None) -> None:
    assert isolated(large, pid_namespace=True) == [True, 20_000, 2]


def without_descriptors() -> list[str]:
    """At the limit of descriptors the files cannot be opened."""
    users.user("root")
    cache = UsersCache()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.dup(2))
    found = []
    root = User("root", 0, 0)
    for call in (
        lambda: users.user("root"),
        lambda: users.find_group(0),
        lambda: cache.find_user("root"),
        lambda: users.group_list(root),
        lambda: cache.group_list(root),
    ):
        try:
            found.append(repr(call()))
        except OSError as error:
            found.append(type(error).__name__ + str(error.errno))
    try:
        found.append(repr(pwd.getpwnam("root")))
    except KeyError:
        found.append("pwd: KeyError")
    for fd in held:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    found.append(cache.user("root").name)
    found.append(str(cache.group_list(root) == tuple(os.getgrouplist("root", 0))))
    return found


def test_database_that_cannot_be_read_is_no_missing_user() -> None:
    """Nor does a cache keep it. The standard module says that root does not exist."""
    emfile = "OSError24"
    assert isolated(without_descriptors) == [*[emfile] * 5, "pwd: KeyError", "root", "True"]


def fsuid_and_threads() -> dict[str, Any]:
    libc = ctypes.CDLL(None)
    libc.setfsuid(1001)
    libc.setfsgid(1002)
    found: dict[str, Any] = {"main": [users.uids(), users.gids()]}

    def other() -> None:
        number = 117 if os.uname().machine == "x86_64" else 147
        libc.syscall(number, 1001, 1002, 1003)  # setresuid of this thread alone
        found["thread"] = users.uids()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    libc.setfsuid(0)
    found["after"] = users.uids()
    return found


@pytest.mark.privileged
def test_ids_are_the_calling_threads(pid_namespace: None) -> None:
    """GOTCHAS G9; and the ids of the file system are told apart."""
    assert isolated(fsuid_and_threads, pid_namespace=True) == {
        "main": [[0, 0, 0, 1001], [0, 0, 0, 1002]],
        "thread": [1001, 1002, 1003, 1002],
        "after": [0, 0, 0, 0],
    }


# -- a fake, and a cache

ANN, BOB = User("ann", 1000, 1000), User("bob", 1001, 100)
GROUPS = [Group("ann", 1000), Group("users", 100, ["ann"]), Group("audio", 29, ["ann", "bob"])]


def test_fake_answers_like_a_system() -> None:
    fake = FakeUsers([ANN], GROUPS, uid=1000, gid=Ids(1000, 100, 100, 100), access_list=[100, 29, 555])
    fake.add(BOB)
    assert fake.user("ann") == fake.user(1000) == ANN
    assert fake.all_users() == [ANN, BOB]
    assert fake.all_groups() == GROUPS
    assert fake.group_list("ann") == (1000, 100, 29)
    assert fake.group_list(BOB) == (100, 29)
    assert fake.group_list(1001, 7) == (7, 29)
    assert [group.name for group in fake.groups_of("bob")] == ["users", "audio"]
    assert fake.current_user() == fake.effective_user() == ANN
    assert (fake.current_group().name, fake.effective_group().name) == ("ann", "users")
    assert fake.access_list() == (29, 100, 555)
    assert [group.name for group in fake.access_groups()] == ["audio", "users"]
    assert fake.find_user("carl") is fake.find_group("carl") is None
    with pytest.raises(UnknownUser):
        FakeUsers(uid=5).current_user()
    with pytest.raises(TypeError, match="entries: must be User and Group"):
        fake.add("carl")  # type: ignore[arg-type]
    for option in ("uid", "gid"):
        with pytest.raises(ValueError, match=f"{option}: -1 is no id"):
            FakeUsers(**{option: -1})
    with pytest.raises(ValueError, match="access_list: 65535 is no id"):
        FakeUsers(access_list=[65535])


class Counting(FakeUsers):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__([ANN, BOB, User("second", 1000, 1)], GROUPS, uid=1000)
        self.asked: list[object] = []

    def find_user(self, who: str | int) -> User | None:
        self.asked.append(who)
        if who == "broken":
            raise OSError(5, "cannot read")
        return super().find_user(who)

    def find_group(self, who: str | int) -> Group | None:
        self.asked.append(who)
        return super().find_group(who)

    def group_list(self, who: str | int | User, gid: int | None = None) -> tuple[int, ...]:
        self.asked.append(("list", who, gid))
        return super().group_list(who, gid)


def test_cache_asks_once_in_each_direction_and_keeps_misses() -> None:
    source = Counting()
    cache = UsersCache(source)
    for _ in range(3):
        assert cache.user("ann") == cache.user(1000) == ANN
        assert cache.user("second").uid == 1000
        assert cache.find_user("carl") is cache.find_user(5) is cache.find_group("carl") is None
        assert cache.group(29) == cache.group("audio") == GROUPS[2]
        assert cache.group_list("ann") == cache.group_list(ANN) == (1000, 100, 29)
        with pytest.raises(UnknownUser):
            cache.user("carl")
    assert source.asked == ["ann", 1000, "second", "carl", 5, "carl", 29, "audio", ("list", ANN, 1000)]
    cache.clear()
    assert cache.find_user("carl") is None
    assert source.asked[-1] == "carl"


def test_cache_does_not_keep_errors() -> None:
    source = Counting()
    cache = UsersCache(source)
    for _ in range(2):
        with pytest.raises(OSError, match="cannot read"):
            cache.user("broken")
    assert source.asked == ["broken", "broken"]


def test_preloaded_cache_asks_only_for_what_was_not_listed() -> None:
    source = Counting()
    cache = UsersCache(source)
    cache.preload()
    assert cache.user("ann") == cache.user(1000) == ANN
    assert cache.user("second").uid == 1000
    assert cache.group("audio") == cache.group(29) == GROUPS[2]
    assert source.asked == []
    assert cache.find_user("carl") is None
    assert source.asked == ["carl"]
    source.add(User("carl", 1002, 1))
    assert cache.find_user("carl") is None
    cache.clear()
    cache.preload()
    assert cache.user("carl").uid == 1002
    assert source.asked == ["carl"]


def test_cache_never_keeps_the_current_ids() -> None:
    source = Counting()
    cache = UsersCache(source)
    assert cache.current_user() == ANN
    source._uids = Ids(1001, 1001, 1001, 1001)
    assert cache.current_user() == cache.effective_user() == BOB
    assert cache.gids() == source.gids()
    assert cache.access_list() == source.access_list()
    assert cache.all_users() == source.all_users()
    assert cache.all_groups() == source.all_groups()


def test_cache_of_the_system_is_the_default() -> None:
    cache = UsersCache()
    assert cache.user("root") == users.user("root")
    assert cache.group_list("root") == users.group_list("root")
    assert cache.uids() == users.uids()
