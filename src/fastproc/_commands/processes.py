"""`python -m fastproc ps` and `tree`: the processes of the machine, as a table, a tree or JSON."""

from __future__ import annotations

import os
import sys

from fastproc._commands.complaint import complain
from fastproc._commands.parsing import Parser
from fastproc._commands.text import as_json, duration, printable, size, table, write
from fastproc.errors import Unsupported
from fastproc.info import children, snapshot, thread_names, tree
from fastproc.info._fields import ABOUT
from fastproc.users import UsersCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc.info._snapshot import Record, Snapshot

SHOWN = ("pid", "ppid", "euid", "state", "num_threads", "rss", "cpu_time", "age", "cmdline")
TITLES = {
    "euid": "USER",
    "state": "S",
    "num_threads": "THR",
    "cpu_time": "TIME",
    "cmdline": "COMMAND",
    "create_time": "STARTED",
}


def ps(arguments: list[str]) -> int:
    """Show processes as a table; return the exit status."""
    parser = Parser(prog="python -m fastproc ps", description="Show the processes of the machine.")
    parser.add_argument("pid", nargs="*", type=int, metavar="PID", help="only these (all)")
    parser.add_argument("-o", "--fields", metavar="FIELD,...", help="what to show of each; -L lists what there is")
    parser.add_argument("-L", "--list-fields", action="store_true", help="list the fields, and what they mean")
    parser.add_argument("-s", "--sort", metavar="FIELD", help="order by this")
    parser.add_argument("-r", "--reverse", action="store_true", help="the largest first")
    parser.add_argument("-u", "--user", help="only those of an effective user, by name or number")
    parser.add_argument("-n", "--name", help="only those whose name has this in it")
    parser.add_argument("-c", "--children-of", type=int, metavar="PID", help="only the descendants of this one")
    parser.add_argument("-j", "--json", action="store_true", help="print a JSON list with one object for each")
    chosen = parser.parse_args(arguments)
    if chosen.list_fields:
        rows = [("FIELD", "UNIT", "MEANING"), *((name, *about) for name, about in ABOUT.items())]
        write(lambda: table(rows))
        return 0
    fields = tuple(chosen.fields.split(",")) if chosen.fields else SHOWN
    order = (chosen.sort,) if chosen.sort else ()
    uid: int | None = None
    if chosen.user:
        number = chosen.user.isascii() and chosen.user.isdigit() and len(chosen.user) < 20
        try:
            known = None if number else UsersCache().find_user(chosen.user)
        except (OSError, ValueError) as error:
            complain("ps", f"{chosen.user}: {error}")
            return 1
        uid = int(chosen.user) if number else getattr(known, "uid", None)
        if uid is None:
            complain("ps", f"{chosen.user}: there is no such user")
            return 1
    try:
        pids = children(chosen.children_of, recursive=True) if chosen.children_of else (chosen.pid or None)
        found = snapshot((*fields, *order, "pid", "name", "euid", "state", "cmdline"), pids)
    except (ValueError, OSError, Unsupported) as error:
        complain("ps", error)
        return 1
    missing = [one.pid for one in found if one.why("state") in ("gone", "hidden")] if chosen.pid else []
    for pid in missing:
        complain("ps", f"{pid}: there is no such process")
    found = _chosen(found, chosen.name, uid, missing).sort_by(*order, reverse=chosen.reverse)
    if chosen.json:
        write(lambda: as_json([{name: one[name] for name in fields} for one in found]))
    else:
        write(lambda: _table(found, fields))
    return 1 if missing else 0


def _chosen(found: Snapshot, name: str | None, uid: int | None, missing: list[int]) -> Snapshot:
    if missing:
        found = found.where(lambda one: one.pid not in missing)
    if name:
        found = found.where(lambda one: name in (one.name or ""))
    if uid is not None:
        found = found.where(lambda one: one.euid == uid)
    return found


class Shown:
    """Fields of a process as people read them."""

    def __init__(self) -> None:
        """Begin with an empty cache of users."""
        self._users = UsersCache()
        self._names: dict[int, str] = {}
        self._special: dict[str, Callable[[Record], str]] = {"cmdline": command, "euid": self.user}

    def user(self, one: Record) -> str:
        """The name of its effective user, or the number."""
        uid = one["euid"]
        if uid is None:
            return "?"
        name = self._names.get(uid)
        if name is None:
            try:
                name = getattr(self._users.find_user(uid), "name", None) or str(uid)
            except (OSError, ValueError):
                name = str(uid)
            self._names[uid] = name
        return name

    def cell(self, one: Record, name: str) -> str:
        """One field; a reason in brackets where it is absent."""
        if name in self._special:
            return self._special[name](one)
        value: Any = one[name]
        if value is None:
            return f"[{one.why(name)}]"
        unit = ABOUT[name][0]
        if unit == "bytes":
            return size(value)
        if unit == "seconds":
            return duration(value)
        return str(value)


def command(one: Record) -> str:
    """The arguments, or the name in brackets where a process has none: a zombie, the kernel's."""
    arguments = one["cmdline"]
    return " ".join(arguments) if arguments and any(arguments) else f"[{one['name'] or '?'}]"


def _width() -> int | None:
    """Columns of the terminal that is printed to; None where it is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None if sys.stdout.isatty() else None
    except OSError:
        return None


def _table(found: Snapshot, fields: tuple[str, ...]) -> str:
    shown = Shown()
    rows = [tuple(TITLES.get(name, name.upper()) for name in fields)]
    rows += [tuple(shown.cell(one, name) for name in fields) for one in found]
    text, width = table(rows), _width()
    return text if width is None else "\n".join(line[:width] for line in text.splitlines())


def show_tree(arguments: list[str]) -> int:
    """Show processes as a tree; return the exit status."""
    parser = Parser(prog="python -m fastproc tree", description="Show processes as a tree, drawn as pstree(1) does.")
    parser.add_argument("pid", nargs="*", type=int, metavar="PID", help="below these (all)")
    parser.add_argument("-p", "--pids", action="store_true", help="show pids; equal families are not put together then")
    parser.add_argument("-a", "--arguments", action="store_true", help="show arguments, one process on each line")
    parser.add_argument("-n", "--by-pid", action="store_true", help="order by pid and not by name")
    parser.add_argument("-t", "--threads", action="store_true", help="show threads, as {name}")
    parser.add_argument("-c", "--no-compact", action="store_true", help="do not put equal families together")
    parser.add_argument("-A", "--ascii", action="store_true", help="draw with -+|`")
    parser.add_argument("-l", "--long", action="store_true", help="do not cut lines at the width of the terminal")
    chosen = parser.parse_args(arguments)
    try:
        found = tree(("comm", "name", "cmdline", "num_threads"))
    except (OSError, Unsupported) as error:
        complain("tree", error)
        return 1
    missing = [pid for pid in chosen.pid if pid not in found]
    for pid in missing:
        complain("tree", f"{pid}: there is no such process")
    wanted = [pid for pid in chosen.pid if pid not in missing] if chosen.pid else found.roots
    threads = {}
    if chosen.threads:
        many = (one.pid for one in found.snapshot if (one.num_threads or 0) > 1)
        threads = {pid: [printable(name) for name in thread_names(pid)] for pid in many}

    def label(one: Record) -> str:
        text = one["comm"] or "?"
        if chosen.pids:
            text += f",{one['pid']}" if chosen.arguments else f"({one['pid']})"
        if chosen.arguments and one["cmdline"]:
            text = " ".join([text, *one["cmdline"][1:]])
        return printable(text)

    if wanted:
        plain = chosen.ascii or "utf" not in (sys.stdout.encoding or "").lower()
        write(
            lambda: found.text(
                wanted,
                label=label,
                compact=not chosen.no_compact,
                vertical=chosen.arguments,
                by_pid=chosen.by_pid,
                threads=threads,
                ascii=plain,
                width=None if chosen.long else _width(),
            )
        )
    return 1 if missing else 0
