"""Users and groups: typed entries of the databases, a cache, a fake for tests, and the ids of the calling thread.

A string is always a name, a number always an id (GOTCHAS G7). -1, 65535 and 4294967295 are not ids (GOTCHAS G6). If a
user or group does not exist, UnknownUser or UnknownGroup is raised. If a database cannot be read, OSError is raised,
while the standard modules `pwd` and `grp` report that the entry does not exist. The C library performs the look-up, so
all sources of nsswitch.conf(5) are used. Look up names before a chroot, not after it (GOTCHAS G8).

>>> from fastproc import users
>>> users.user("root").uid, users.user(0).name
(0, 'root')
"""

from __future__ import annotations

import os

from fastproc._native import users as _native
from fastproc._values.identity import Ids, check_id, is_id
from fastproc._values.users import Group, Unknown, UnknownGroup, UnknownUser, User, check_who

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FakeUsers",
    "Group",
    "Ids",
    "SystemUsers",
    "Unknown",
    "UnknownGroup",
    "UnknownUser",
    "User",
    "Users",
    "UsersCache",
    "access_groups",
    "access_list",
    "all_groups",
    "all_users",
    "current_group",
    "current_user",
    "effective_group",
    "effective_user",
    "find_group",
    "find_user",
    "gids",
    "group",
    "group_list",
    "groups_of",
    "uids",
    "user",
]

# In the old "compat" form of nsswitch.conf(5), such names refer to another database.
_COMPAT = ("+", "-")


class Users:
    """The interface of a database of users and groups. SystemUsers, UsersCache and FakeUsers implement it."""

    def find_user(self, who: str | int) -> User | None:
        """Return a user by name or id; None if there is no such user.

        Raises:
            TypeError: `who` is not a string or number.
            ValueError: `who` is not a valid name or id, or the id of the user in the database is invalid.
            OSError: the database could not be read.
        """
        raise NotImplementedError

    def find_group(self, who: str | int) -> Group | None:
        """Return a group by name or id; None if there is no such group. Raises as `find_user()`."""
        raise NotImplementedError

    def all_users(self) -> list[User]:
        """Return all users that the databases list, in their order.

        A database may have users that it does not list (LDAP, winbind), and may list a user twice. Entries with an
        invalid id are left out (`find_user()` raises ValueError for them), and so are lines with + or -, which are not
        users.
        """
        raise NotImplementedError

    def all_groups(self) -> list[Group]:
        """Return all groups that the databases list, in their order; see `all_users()`."""
        raise NotImplementedError

    def group_list(self, who: str | int | User, gid: int | None = None) -> tuple[int, ...]:
        """Return the ids of all groups of a user, including the primary group (getgrouplist(3)).

        Args:
            who: a user.
            gid: the id of the primary group. Default: the user's.

        Raises:
            UnknownUser: there is no such user.
            ValueError, OSError: as for `find_user()`.
        """
        raise NotImplementedError

    def uids(self) -> Ids:
        """Return the real, effective, saved and filesystem user ids of the calling thread."""
        raise NotImplementedError

    def gids(self) -> Ids:
        """Return the real, effective, saved and filesystem group ids of the calling thread."""
        raise NotImplementedError

    def access_list(self) -> tuple[int, ...]:
        """Return the ids of the supplementary groups of the calling thread (getgroups(2)), ascending."""
        raise NotImplementedError

    def user(self, who: str | int) -> User:
        """Return a user by name or id.

        Raises:
            UnknownUser: there is no such user.
            TypeError, ValueError, OSError: as for `find_user()`.
        """
        found = self.find_user(who)
        if found is None:
            raise UnknownUser(who)
        return found

    def group(self, who: str | int) -> Group:
        """Return a group by name or id.

        Raises:
            UnknownGroup: there is no such group.
            TypeError, ValueError, OSError: as for `find_user()`.
        """
        found = self.find_group(who)
        if found is None:
            raise UnknownGroup(who)
        return found

    def groups_of(self, who: str | int | User) -> list[Group]:
        """Return all groups of a user. Ids without a group entry are left out."""
        return self._known(self.group_list(who))

    def current_user(self) -> User:
        """Return the user with the real id of the calling thread. Raises UnknownUser if the id has no entry."""
        return self._user_of(self.uids().real)

    def effective_user(self) -> User:
        """Return the user with the effective id of the calling thread; see `current_user()`."""
        return self._user_of(self.uids().effective)

    def current_group(self) -> Group:
        """Return the group with the real id of the calling thread. Raises UnknownGroup if the id has no entry."""
        return self._group_of(self.gids().real)

    def effective_group(self) -> Group:
        """Return the group with the effective id of the calling thread; see `current_group()`."""
        return self._group_of(self.gids().effective)

    def access_groups(self) -> list[Group]:
        """Return the supplementary groups of the calling thread. Ids without a group entry are left out."""
        return self._known(self.access_list())

    # A thread may have the id 65535, but it cannot be looked up (GOTCHAS G6): no database has it.
    def _user_of(self, uid: int) -> User:
        if not is_id(uid):
            raise UnknownUser(uid)
        return self.user(uid)

    def _group_of(self, gid: int) -> Group:
        if not is_id(gid):
            raise UnknownGroup(gid)
        return self.group(gid)

    def _known(self, gids: Iterable[int]) -> list[Group]:
        return [found for gid in gids if is_id(gid) and (found := self.find_group(gid)) is not None]


class SystemUsers(Users):
    """The databases of this system, without a cache. The functions of the module are the methods of a SystemUsers."""

    def find_user(self, who: str | int) -> User | None:  # noqa: D102
        key = check_who("who", who)
        name, uid = (os.fsencode(key), 0) if isinstance(key, str) else (None, key)
        found = _native.passwd(name, uid)
        if found is None:
            return None
        return _checked_user(*found)

    def find_group(self, who: str | int) -> Group | None:  # noqa: D102
        key = check_who("who", who)
        name, gid = (os.fsencode(key), 0) if isinstance(key, str) else (None, key)
        found = _native.group(name, gid)
        if found is None:
            return None
        return _checked_group(*found)

    def all_users(self) -> list[User]:  # noqa: D102
        # All threads share the position of getpwent(3). pwd.getpwall() protects it against other threads.
        from pwd import getpwall

        users = []
        for entry in getpwall():
            if entry.pw_name.startswith(_COMPAT):
                continue
            try:
                users.append(
                    User(
                        entry.pw_name,
                        entry.pw_uid,
                        entry.pw_gid,
                        entry.pw_gecos,
                        entry.pw_dir,
                        entry.pw_shell,
                        entry.pw_passwd,
                    )
                )
            except ValueError:
                continue
        return users

    def all_groups(self) -> list[Group]:  # noqa: D102
        from grp import getgrall

        groups = []
        for entry in getgrall():
            if entry.gr_name.startswith(_COMPAT):
                continue
            try:
                groups.append(Group(entry.gr_name, entry.gr_gid, entry.gr_mem, entry.gr_passwd or ""))
            except ValueError:
                continue
        return groups

    def group_list(self, who: str | int | User, gid: int | None = None) -> tuple[int, ...]:  # noqa: D102
        entry = who if isinstance(who, User) else self.user(who)
        primary = check_id("gid", entry.gid if gid is None else gid)
        # getgrouplist(3) reports no errors: it ignores a database that cannot be read. find_group() raises.
        self.find_group(primary)
        found = os.getgrouplist(entry.name, primary)
        return tuple(check_id(f"the group database, for {entry.name!r}", number) for number in found)

    def uids(self) -> Ids:  # noqa: D102
        return Ids(*_native.ids()[0])

    def gids(self) -> Ids:  # noqa: D102
        return Ids(*_native.ids()[1])

    def access_list(self) -> tuple[int, ...]:  # noqa: D102
        return tuple(sorted(os.getgroups()))


class UsersCache(Users):
    """A cache of another database. Each look-up is made once, also if the user or group does not exist.

    Look-ups by name and by id are cached separately, because one id may have two names (`root` and `toor`). Errors and
    the ids of the calling thread are not cached. Threads may share a cache. It grows with each new look-up. `clear()`
    empties it; changes in the database become visible only then.

    Args:
        source: the database; None for the system's.
    """

    def __init__(self, source: Users | None = None) -> None:
        """Create an empty cache."""
        self._source = _system if source is None else source
        self._users: dict[str | int, User | None] = {}
        self._groups: dict[str | int, Group | None] = {}
        self._lists: dict[tuple[str, int], tuple[int, ...]] = {}

    def preload(self) -> None:
        """Cache all users and groups that the source lists, by name and id.

        Of entries with the same name or id the first is used, as by the C library. Other users and groups are still
        looked up in the source.
        """
        for user in self._source.all_users():
            self._users.setdefault(user.name, user)
            self._users.setdefault(user.uid, user)
        for group in self._source.all_groups():
            self._groups.setdefault(group.name, group)
            self._groups.setdefault(group.gid, group)

    def clear(self) -> None:
        """Empty the cache."""
        self._users.clear()
        self._groups.clear()
        self._lists.clear()

    def find_user(self, who: str | int) -> User | None:  # noqa: D102
        key = check_who("who", who)
        try:
            return self._users[key]
        except KeyError:
            return self._users.setdefault(key, self._source.find_user(key))

    def find_group(self, who: str | int) -> Group | None:  # noqa: D102
        key = check_who("who", who)
        try:
            return self._groups[key]
        except KeyError:
            return self._groups.setdefault(key, self._source.find_group(key))

    def all_users(self) -> list[User]:
        """Return all users of the source. The list is not cached, because the cache may not have all entries."""
        return self._source.all_users()

    def all_groups(self) -> list[Group]:
        """Return all groups of the source. The list is not cached."""
        return self._source.all_groups()

    def group_list(self, who: str | int | User, gid: int | None = None) -> tuple[int, ...]:  # noqa: D102
        entry = who if isinstance(who, User) else self.user(who)
        key = entry.name, check_id("gid", entry.gid if gid is None else gid)
        try:
            return self._lists[key]
        except KeyError:
            return self._lists.setdefault(key, self._source.group_list(entry, key[1]))

    def uids(self) -> Ids:  # noqa: D102
        return self._source.uids()

    def gids(self) -> Ids:  # noqa: D102
        return self._source.gids()

    def access_list(self) -> tuple[int, ...]:  # noqa: D102
        return self._source.access_list()


class FakeUsers(Users):
    """A database for tests, in place of the system's.

    >>> fake = FakeUsers([User("ann", 1000, 1000)], [Group("audio", 29, ["ann"])], uid=1000, gid=1000)
    >>> fake.current_user().name, fake.group_list("ann")
    ('ann', (1000, 29))

    Args:
        users, groups: the entries, in the order of the database; `add()` adds more.
        uid, gid: the ids of the calling thread: one number for all four, or Ids.
        access_list: the supplementary groups of the calling thread.
    """

    def __init__(
        self,
        users: Iterable[User] = (),
        groups: Iterable[Group] = (),
        *,
        uid: int | Ids = 0,
        gid: int | Ids = 0,
        access_list: Iterable[int] = (),
    ) -> None:
        """Store the entries."""
        self._users: list[User] = []
        self._groups: list[Group] = []
        self.add(*users, *groups)
        self._uids = _four("uid", uid)
        self._gids = _four("gid", gid)
        self._access_list = tuple(sorted(check_id("access_list", number) for number in access_list))

    def add(self, *entries: User | Group) -> None:
        """Add users and groups."""
        for entry in entries:
            if isinstance(entry, User):
                self._users.append(entry)
            elif isinstance(entry, Group):
                self._groups.append(entry)
            else:
                raise TypeError(f"entries: must be User and Group, not {entry!r}")

    def find_user(self, who: str | int) -> User | None:  # noqa: D102
        key = check_who("who", who)
        return next((user for user in self._users if key == (user.name if isinstance(key, str) else user.uid)), None)

    def find_group(self, who: str | int) -> Group | None:  # noqa: D102
        key = check_who("who", who)
        return next((some for some in self._groups if key == (some.name if isinstance(key, str) else some.gid)), None)

    def all_users(self) -> list[User]:  # noqa: D102
        return list(self._users)

    def all_groups(self) -> list[Group]:  # noqa: D102
        return list(self._groups)

    def group_list(self, who: str | int | User, gid: int | None = None) -> tuple[int, ...]:  # noqa: D102
        entry = who if isinstance(who, User) else self.user(who)
        primary = check_id("gid", entry.gid if gid is None else gid)
        more = [some.gid for some in self._groups if entry.name in some.members]
        return tuple(dict.fromkeys([primary, *more]))

    def uids(self) -> Ids:  # noqa: D102
        return self._uids

    def gids(self) -> Ids:  # noqa: D102
        return self._gids

    def access_list(self) -> tuple[int, ...]:  # noqa: D102
        return self._access_list


def _checked_user(name: bytes, password: bytes, uid: int, gid: int, gecos: bytes, home: bytes, shell: bytes) -> User:
    text = os.fsdecode
    try:
        return User(text(name), uid, gid, text(gecos), text(home), text(shell), text(password))
    except ValueError as error:
        raise ValueError(f"the user database, for {text(name)!r}: {error}") from None


def _checked_group(name: bytes, password: bytes, gid: int, members: list[bytes]) -> Group:
    text = os.fsdecode
    try:
        return Group(text(name), gid, map(text, members), text(password))
    except ValueError as error:
        raise ValueError(f"the group database, for {text(name)!r}: {error}") from None


def _four(name: str, value: int | Ids) -> Ids:
    numbers = value if isinstance(value, tuple) else (value,) * 4
    return Ids(*(check_id(name, number) for number in numbers))


_system = SystemUsers()
find_user = _system.find_user
find_group = _system.find_group
user = _system.user
group = _system.group
all_users = _system.all_users
all_groups = _system.all_groups
group_list = _system.group_list
groups_of = _system.groups_of
uids = _system.uids
gids = _system.gids
access_list = _system.access_list
access_groups = _system.access_groups
current_user = _system.current_user
current_group = _system.current_group
effective_user = _system.effective_user
effective_group = _system.effective_group
