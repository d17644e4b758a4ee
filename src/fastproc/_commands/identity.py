"""`python -m fastproc caps` and `id`: what processes may do, and who they are; as tables or JSON."""

from __future__ import annotations

import argparse
import os

from fastproc._commands.complaint import complain
from fastproc._commands.parsing import Parser
from fastproc._commands.text import as_json, printable, table, write
from fastproc._values.capabilities import CapabilitySet, name_of
from fastproc._values.identity import Identity
from fastproc.capabilities import cap_last_cap, check_proc, read_identity, to_iab, to_text
from fastproc.privileges import _all_threads as _credentials
from fastproc.users import UsersCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Rows = list[tuple[str, ...]]

_LETTERS = (("E", "effective"), ("P", "permitted"), ("I", "inheritable"), ("B", "bounding"), ("A", "ambient"))


def caps(arguments: list[str]) -> int:
    """Show the capabilities of processes; return the exit status."""
    parser = _parser(
        "caps",
        "Show which capabilities processes have, in which of the five sets (Effective, Permitted, Inheritable, "
        "Bounding, Ambient), and what each permits.",
    )
    parser.add_argument("-a", "--all", action="store_true", help="list all processes that have any outside bounding")
    chosen = parser.parse_args(arguments)
    if chosen.all and chosen.pid:
        parser.error("--all and PID exclude one another")
    if chosen.all:
        try:
            found = list(_privileged())
        except OSError as error:
            complain("caps", error.strerror)
            return 1
        write(lambda: as_json([_capability_facts(one) for one in found]) if chosen.json else _overview(found))
        return 0
    return _show("caps", chosen, _capability_facts, _capability_table)


def identify(arguments: list[str]) -> int:
    """Show users and groups of processes; return the exit status."""
    parser = _parser("id", "Show the user and group ids of processes, real, effective, saved and of the file system.")
    return _show("id", parser.parse_args(arguments), _identity_facts, _identity_table)


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"python -m fastproc {name}", description=about)
    parser.add_argument("pid", nargs="*", type=_pid, metavar="PID", help="processes or threads (this one)")
    parser.add_argument("-j", "--json", action="store_true", help="print a JSON list with one object for each")
    return parser


def _pid(text: str) -> int:
    # int() would take " 1", "1_0" and digits of other scripts.
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no pid")
    return int(text)


def _show(
    command: str,
    chosen: argparse.Namespace,
    facts: Callable[[Identity], dict[str, object]],
    rows: Callable[[Identity], str],
) -> int:
    found, status = [], 0
    for pid in chosen.pid or [None]:
        try:
            found.append(_credentials.own() if pid is None else read_identity(pid))
        except OSError as error:
            complain(command, f"{pid}: {error.strerror}")
            status = 1
    if found or chosen.json:
        write(lambda: as_json([facts(one) for one in found]) if chosen.json else "\n\n".join(map(rows, found)))
    return status


# -- threads


def _threads(one: Identity) -> tuple[int, list[Identity]]:
    """Return how many threads the process has, and those that differ from this one (GOTCHAS G9)."""
    try:
        others = _credentials.threads(one.pid)
    except OSError:
        return 0, []
    key = _credentials.everything(one)
    return len(others), [other for other in others.values() if _credentials.everything(other) != key]


def _thread_facts(one: Identity) -> dict[str, object]:
    count, different = _threads(one)
    return {"count": count, "different": [other.to_dict() for other in different]}


def _thread_row(one: Identity) -> tuple[str, str]:
    count, different = _threads(one)
    if not different:
        return "threads", f"{count}" if count < 2 else f"{count}, all the same"
    names = ", ".join(f"{other.pid} ({printable(other.name)})" for other in different)
    return "threads", f"{count}, of which DIFFERENT: {names}"


# -- id


class _Names:
    """Names of ids, for those who read them."""

    def __init__(self) -> None:
        self._users = UsersCache()

    def user(self, uid: int) -> str | None:
        return self._name(self._users.find_user, uid)

    def group(self, gid: int) -> str | None:
        return self._name(self._users.find_group, gid)

    def _name(self, find: Callable[[int], object], number: int) -> str | None:
        try:
            return getattr(find(number), "name", None)
        except (OSError, ValueError):
            return None  # a database that cannot be read, or an id that nobody can have: the number says enough


_names = _Names()


def _both(name: str | None, number: int) -> str:
    return str(number) if name is None else f"{name} ({number})"


def _identity_facts(one: Identity) -> dict[str, object]:
    facts = {key: value for key, value in one.to_dict().items() if key in ("pid", "name", "uids", "gids", "groups")}
    gids = {*one.gids, *one.groups}
    facts["user_names"] = {str(uid): name for uid in sorted({*one.uids}) if (name := _names.user(uid)) is not None}
    facts["group_names"] = {str(gid): name for gid in sorted(gids) if (name := _names.group(gid)) is not None}
    facts["threads"] = _thread_facts(one)
    return facts


def _identity_table(one: Identity) -> str:
    rows: Rows = [("", *one.uids._fields)]
    rows.append(("user", *(_both(_names.user(uid), uid) for uid in one.uids)))
    rows.append(("group", *(_both(_names.group(gid), gid) for gid in one.gids)))
    groups = ", ".join(_both(_names.group(gid), gid) for gid in one.groups) or "none"
    return "\n".join([table([_process_row(one), _thread_row(one), ("groups", groups)]), "", table(rows)])


def _process_row(one: Identity) -> tuple[str, str]:
    return "process", f"{one.pid} ({one.name})"


# -- caps


def _capability_facts(one: Identity) -> dict[str, object]:
    facts = one.to_dict()
    facts["text"] = to_text(one.capabilities)
    facts["iab"] = to_iab(one.capabilities)
    facts["threads"] = _thread_facts(one)
    return facts


def _capability_table(one: Identity) -> str:
    if one.securebits is None:
        securebits = "not told of other processes"
    else:
        securebits = ", ".join(one.securebits.names) or "none"
    head = [
        _process_row(one),
        ("user", _both(_names.user(one.uids.effective), one.uids.effective)),
        _thread_row(one),
        ("text", to_text(one.capabilities)),
        ("iab", to_iab(one.capabilities) or "-"),
        ("no_new_privs", "yes" if one.no_new_privs else "no"),
        ("seccomp", one.seccomp),
        ("securebits", securebits),
    ]
    everywhere = CapabilitySet()
    for some in one.capabilities:
        everywhere |= some
    nowhere = CapabilitySet.all(cap_last_cap()) - everywhere
    if nowhere:
        head.append(("in no set", ", ".join(nowhere.names) if everywhere else "all of them"))
    if not everywhere:
        return table(head)
    rows: Rows = [("capability", *(letter for letter, _ in _LETTERS), "permits to")]
    for number in everywhere:
        marks = ("x" if number in getattr(one.capabilities, name) else "." for _, name in _LETTERS)
        rows.append((name_of(number), *marks, getattr(number, "permits", "")))
    return "\n".join([table(head), "", table(rows)])


def _privileged() -> Iterator[Identity]:
    """All processes that have a capability in another set than bounding.

    Raises:
        OSError: there is no /proc, or it is another PID namespace's.
    """
    check_proc()
    for name in sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int):
        try:
            one = read_identity(int(name))
            if not _runs_a_program(name):
                continue
        except OSError:
            continue  # it has ended, or may not be seen
        has = one.capabilities
        if has.effective | has.permitted | has.inheritable | has.ambient:
            yield one


def _runs_a_program(name: str) -> bool:
    """Whether it is neither the kernel's own nor a zombie."""
    try:
        os.readlink(f"/proc/{name}/exe")
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it does, but which one is not ours to know
    return True


def _overview(found: list[Identity]) -> str:
    rows: Rows = [("PID", "USER", "NAME", "CAPABILITIES")]
    for one in found:
        user = _names.user(one.uids.effective) or str(one.uids.effective)
        rows.append((str(one.pid), user, one.name, to_text(one.capabilities)))
    return table(rows)
