"""An entry of the user and of the group database (passwd(5), group(5)), and what it means that there is none. Pure."""

from __future__ import annotations

from fastproc._values.identity import check_id, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NamedTuple, Self

    class _User(NamedTuple):
        name: str
        uid: int
        gid: int
        gecos: str
        home: str
        shell: str
        password: str

    class _Group(NamedTuple):
        name: str
        gid: int
        members: tuple[str, ...]
        password: str

else:
    from collections import namedtuple

    _User = namedtuple("_User", "name uid gid gecos home shell password")
    _Group = namedtuple("_Group", "name gid members password")


class User(_User):
    """An entry of the user database.

    Attributes:
        name: the login name.
        uid: the user's id.
        gid: the id of the primary group.
        gecos: the comment; see `full_name`.
        home: the home directory.
        shell: the login shell; empty means /bin/sh.
        password: the encrypted one, mostly "x": it is in shadow(5). Not shown by repr().
    """

    __module__ = "fastproc.users"

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        uid: int,
        gid: int,
        gecos: str = "",
        home: str = "/",
        shell: str = "",
        password: str = "x",
    ) -> Self:
        """Take the fields.

        Raises:
            ValueError: an id that is none (GOTCHAS G6), or a name that cannot be asked for.
            TypeError: an id that is no number.
        """
        _check_text(name=name, gecos=gecos, home=home, shell=shell, password=password)
        return super().__new__(
            cls, check_name("name", name), check_id("uid", uid), check_id("gid", gid), gecos, home, shell, password
        )

    @property
    def full_name(self) -> str:
        """The comment up to its first comma, with the name for each `&`, as finger(1) shows it."""
        return self.gecos.partition(",")[0].replace("&", self.name.capitalize())

    def to_dict(self) -> dict[str, object]:
        """Return the fields, without the password, as what JSON has."""
        return {name: value for name, value in self._asdict().items() if name != "password"}

    def __repr__(self) -> str:
        """Show everything but the password."""
        return f"User({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"


class Group(_Group):
    """An entry of the group database.

    Attributes:
        name: the group's name.
        gid: its id.
        members: names of those who have it as a supplementary group. Who has it as the primary one is not told here.
        password: mostly "x" or empty. Not shown by repr().
    """

    __module__ = "fastproc.users"

    __slots__ = ()

    def __new__(cls, name: str, gid: int, members: Iterable[str] = (), password: str = "x") -> Self:
        """Take the fields.

        Raises:
            ValueError: an id that is none, or a name that cannot be asked for.
            TypeError: an id that is no number; members that are one string.
        """
        if isinstance(members, str):
            raise TypeError(f"members: must be names, not the one string {members!r}")
        members = tuple(members)
        _check_text(name=name, password=password, **{f"members[{at}]": member for at, member in enumerate(members)})
        return super().__new__(cls, check_name("name", name), check_id("gid", gid), members, password)

    def to_dict(self) -> dict[str, object]:
        """Return the fields, without the password, as what JSON has."""
        return {"name": self.name, "gid": self.gid, "members": list(self.members)}

    def __repr__(self) -> str:
        """Show everything but the password."""
        return f"Group(name={self.name!r}, gid={self.gid!r}, members={self.members!r})"


def _check_text(**fields: object) -> None:
    for name, value in fields.items():
        if not isinstance(value, str):
            raise TypeError(f"{name}: must be a string, not {value!r}")


class Unknown(KeyError):
    """There is no such user or group. A KeyError, as the standard modules pwd and grp raise.

    Attributes:
        who: the name or id that was asked for.
    """

    __module__ = "fastproc.users"

    what = "user or group"

    def __init__(self, who: str | int) -> None:
        """Keep what was asked for."""
        super().__init__(who)
        self.who = who

    def __str__(self) -> str:
        """A sentence; a KeyError alone would show the key only."""
        if isinstance(self.who, int):
            return f"there is no {self.what} with the id {self.who}"
        digits = self.who.isascii() and self.who.isdigit()
        hint = " (a string is always a name, an id always a number)" if digits else ""
        return f"there is no {self.what} named {self.who!r}{hint}"


class UnknownUser(Unknown):
    """There is no such user."""

    __module__ = "fastproc.users"

    what = "user"


class UnknownGroup(Unknown):
    """There is no such group."""

    __module__ = "fastproc.users"

    what = "group"


def check_who(name: str, who: object) -> str | int:
    """Return what a user or group is asked by: a string is always a name, a number always an id (GOTCHAS G7).

    Args:
        name: the argument's, for the message.
        who: the value.

    Raises:
        TypeError: neither.
        ValueError: an id or a name that none can have.
    """
    if isinstance(who, str):
        return check_name(name, who)
    if isinstance(who, bool) or not isinstance(who, int):
        raise TypeError(f"{name}: must be a name or an id, not {who!r}")
    return check_id(name, who)
