"""`python -m fastproc top`: the busiest processes, again and again, until q or Ctrl-C.

On a terminal the whole screen is drawn, by rich in colours where that is installed (`fastproc[top]`), by plain text
where not; anywhere else, and with --batch, one text follows the other.
"""

from __future__ import annotations

import sys

from fastproc._commands.complaint import complain
from fastproc._commands.parsing import Parser
from fastproc._commands.processes import Shown, command
from fastproc._commands.text import clip, duration, printable, size, write
from fastproc.errors import Unsupported
from fastproc.info import System
from fastproc.procfs._absent import Absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc.info._snapshot import Record, Snapshot

FIELDS = ("pid", "euid", "state", "num_threads", "rss", "cpu_time", "name", "cmdline", "kthread")
IO = ("read_bytes", "write_bytes")

KEYS = {
    "P": ("cpu_percent", True, "cpu"),
    "M": ("rss", True, "mem"),
    "T": ("cpu_time", True, "time"),
    "I": ("io", True, "io"),
    "N": ("pid", False, "pid"),
}
"""Key: the field to order by, whether the largest comes first, and its word on the command line."""

HELP = "q quit  P cpu  M mem  T time  I io  N pid  R reverse  c args  k kernel  +- pace"

COLUMNS = (
    ("PID", 7, ">"),
    ("USER", 8, "<"),
    ("S", 1, "<"),
    ("THR", 4, ">"),
    ("RSS", 6, ">"),
    ("CPU%", 6, ">"),
    ("IO/s", 6, ">"),
    ("TIME", 8, ">"),
    ("COMMAND", 0, "<"),
)
"""Title, width and side of each column; the last one takes what is left, 26 of 80."""

TITLES = {"CPU%": "P", "RSS": "M", "TIME": "T", "IO/s": "I", "PID": "N"}
"""Of the columns that can be ordered by: their keys."""


class View:
    """What is shown and how; keys change it.

    Attributes:
        key: of KEYS. reverse: whether the order is turned round. whole: whether arguments are shown, or names.
        kernel: whether the kernel's own threads are shown. interval: seconds between two looks.
    """

    def __init__(self, key: str, interval: float) -> None:
        """Begin with the order of this key."""
        self.key = key
        self.interval = interval
        self.reverse = False
        self.whole = False
        self.kernel = False
        self._shown = Shown()

    def press(self, key: str) -> bool:
        """Take a key; return whether it is one to quit."""
        if key.upper() in KEYS:
            self.key, self.reverse = key.upper(), False
        elif key in "rR":
            self.reverse = not self.reverse
        elif key == "c":
            self.whole = not self.whole
        elif key == "k":
            self.kernel = not self.kernel
        elif key in "+=":
            self.interval = min(self.interval * 2, 60.0)
        elif key == "-":
            self.interval = max(self.interval / 2, 0.1)
        return key in "qQ\x03\x04"

    def ordered(self, table: Snapshot) -> list[Record]:
        """The rows in the order that was chosen."""
        field, largest, _ = KEYS[self.key]
        if not self.kernel:
            table = table.where(lambda one: not one.kthread)
        if field == "io":
            return sorted(table, key=lambda one: moved(one) or 0.0, reverse=not self.reverse)
        if field not in table.fields:
            field = "cpu_time"  # the first look has no rates
        return list(table.sort_by(field, reverse=largest != self.reverse))

    def cells(self, one: Record) -> tuple[str, ...]:
        """A row's cells, the command last; "-" for what is absent."""
        threads, memory, spent, io = one.num_threads, one.rss, one.cpu_time, moved(one)
        percent = getattr(one, "cpu_percent", None)
        return (
            str(one.pid),
            self._shown.user(one),
            one.state or "?",
            "-" if threads is None else str(threads),
            "-" if memory is None else size(memory),
            "-" if percent is None else f"{percent:.1f}",
            "-" if io is None else size(io),
            "-" if spent is None else duration(spent),
            command(one) if self.whole else (one.name or "?"),
        )


def moved(one: Record) -> float | None:
    """Bytes to and from disks by the second; None where it may not be read, and at the first look."""
    parts = (getattr(one, "read_bytes_per_s", None), getattr(one, "write_bytes_per_s", None))
    return None if parts[0] is None or parts[1] is None else parts[0] + parts[1]


def bar(share: float, width: int) -> str:
    """A share of 0 to 1 as a bar."""
    filled = round(max(0.0, min(share, 1.0)) * width)
    return "[" + "|" * filled + " " * (width - filled) + "]"


def heading(system: System) -> list[str]:
    """The lines about the machine."""
    table = system.processes
    states = table.values("state")
    threads = sum(number or 0 for number in table.values("num_threads"))
    found = system.load
    load = "?" if isinstance(found, Absent) else " ".join(f"{one:.2f}" for one in found)
    memory, swap, cpu = system.memory, system.swap, system.cpu
    lines = [
        f"{system.hostname}  up {duration(system.uptime)}  load {load}",
        f"{len(table)} processes, {threads} threads: {states.count('R')} running, {states.count('Z')} zombies",
    ]
    if cpu is None:
        lines.append("CPU ...")
    else:
        detail = f"user {cpu.user:.0f}  system {cpu.system:.0f}  iowait {cpu.iowait:.0f}  steal {cpu.steal:.0f}"
        lines.append(f"CPU {bar(cpu.busy / 100, 20)} {cpu.busy:5.1f}% of {system.cpu_count}  {detail}")
    swapped = "?" if isinstance(swap, Absent) else f"{size(swap.used)} of {size(swap.total)}"
    if isinstance(memory, Absent):
        lines.append(f"Mem ?  swap {swapped}")
    else:
        used = memory.total - memory.available
        share = used / memory.total if memory.total > 0 else 0.0
        lines.append(f"Mem {bar(share, 20)} {size(used)} of {size(memory.total)}  swap {swapped}")
    waiting = {name: getattr(one.some, "avg10", None) for name, one in system.pressure.items()}
    told = [f"{name} {share:.0f}%" for name, share in waiting.items() if share is not None]
    if told:
        lines.append("Waiting for " + "  ".join(told))
    return lines


def _row(cells: tuple[str, ...], width: int) -> str:
    parts = [
        clip(printable(cell), wide).rjust(wide) if side == ">" else clip(printable(cell), wide).ljust(wide)
        for cell, (_, wide, side) in zip(cells[:-1], COLUMNS, strict=False)
    ]
    return clip(" ".join([*parts, printable(cells[-1])]), width)


def _whole(system: System, view: View, width: int, height: int) -> tuple[int, list[str], list[Record]]:
    """The line of the titles, all lines, and the records of those below it."""
    lines = [clip(printable(line), width) for line in heading(system)]
    lines += ["", _row(tuple(title for title, _, _ in COLUMNS), width)]
    titles = len(lines) - 1
    rows = view.ordered(system.processes)[: max(height - len(lines) - 1, 0)]
    return titles, [*lines, *(_row(view.cells(one), width) for one in rows)], rows


def plain(system: System, view: View, width: int, height: int) -> list[str]:
    """The whole screen as plain text, no line wider than it."""
    return _whole(system, view, width, height)[1]


STYLES = {"R": "green", "Z": "red", "D": "yellow", "T": "magenta"}


def coloured(system: System, view: View, width: int, height: int) -> list[str]:
    """The same by rich.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    from io import StringIO

    from rich.console import Console
    from rich.text import Text

    titles, lines, rows = _whole(system, view, width, height)
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=height, color_system="standard")
    for at, line in enumerate(lines):
        text = Text(line, no_wrap=True, overflow="crop")
        if at < titles:
            text.highlight_regex(r"\|+", "green")
            text.highlight_regex(r"[\d.]+[KMGT%]?", "bold cyan")
        elif at == titles:
            text.stylize("bold reverse")
            title = next(title for title, key in TITLES.items() if key == view.key)
            if title in line:
                text.stylize("bold reverse yellow", line.index(title), line.index(title) + len(title))
        else:
            text.stylize(STYLES.get(rows[at - titles - 1].state or "", ""))
        # As it is: rich would make markup, paths and numbers of it.
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    return out.getvalue().removesuffix("\n").split("\n")


def top(arguments: list[str]) -> int:
    """Show the busiest processes until somebody quits; return the exit status."""
    words = {word: key for key, (_, _, word) in KEYS.items()}
    parser = Parser(
        prog="python -m fastproc top", description="Show the busiest processes, again and again.", epilog=HELP
    )
    parser.add_argument("-d", "--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks (2)")
    parser.add_argument("-s", "--sort", choices=sorted(words), default="cpu", help="the order (cpu)")
    parser.add_argument("-n", "--number", type=int, default=0, metavar="N", help="quit after so many")
    parser.add_argument("-b", "--batch", action="store_true", help="print one text after the other, of all processes")
    parser.add_argument("-p", "--plain", action="store_true", help="no colours, also where rich is installed")
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.number < 2**31:
        parser.error("--number: must be 0 (forever) or more")
    if not 0.05 <= chosen.interval <= 86_400:
        parser.error("--interval: from 0.05 to 86400 seconds")
    view = View(words[chosen.sort], chosen.interval)
    try:
        system = System((*FIELDS, *IO)).refresh("processes", "cpu")
        if chosen.batch or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return _batch(system, view, chosen.number or (0 if chosen.batch else 1))
        return _interactive(system, view, chosen.number, plain if chosen.plain else _renderer())
    except KeyboardInterrupt:
        return 0
    except (OSError, Unsupported) as error:
        complain("top", error)
        return 1


def _renderer() -> Callable[[System, View, int, int], list[str]]:
    from importlib.util import find_spec

    return coloured if find_spec("rich") is not None else plain


def _batch(system: System, view: View, number: int) -> int:
    from fastproc._engine.reactor import Reactor

    shown = 0
    waiting = Reactor()
    try:
        while True:
            waiting.run_once(view.interval)
            system.refresh("processes", "cpu")
            if not write(lambda: "\n".join([*plain(system, view, 512, 1 << 30), ""])):
                return 0
            shown += 1
            if shown == number:
                return 0
    finally:
        waiting.close()


def _interactive(system: System, view: View, number: int, render: Callable[[System, View, int, int], list[str]]) -> int:
    from fastproc._commands.screen import Screen
    from fastproc._engine.reactor import deadline_from

    def now() -> float:
        return deadline_from("now", 0.0) or 0.0

    shown = 0
    with Screen() as screen:
        # The second look makes rates: soon, so that the first screen does not stay without them.
        due = now() + min(view.interval, 0.3)
        while True:
            width, height = screen.size()
            lines = render(system, view, width, height)
            lines += [""] * (height - 1 - len(lines))
            screen.draw([*lines[: height - 1], clip(HELP, width)])
            keys = screen.keys(max(due - now(), 0.0))
            if keys is None:
                return 0
            if any(view.press(key) for key in keys.decode("ascii", "replace")):
                return 0
            if b" " in keys or now() >= due:
                system.refresh("processes", "cpu")
                shown += 1
                if number and shown > number:
                    return 0
                due = now() + view.interval
