"""What `python -m fastproc map` is asked: its options, the command, the sources of items.

Read without argparse, whose import takes as long as a hundred small tasks.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("-P -j --jobs --max-procs", "jobs", "N", "tasks at once (CPUs); 0: as many as can be; 50%, +1, -1: of the CPUs"),
    ("-a --arg-file", "files", "FILE+", "items from a file, one a line; - for stdin; several are combined"),
    ("-0 --null", "null", "", "items end with a NUL, not with the line"),
    ("-d --delimiter", "delimiter", "CHAR", r"items end with this character, such as , \t \0"),
    ("-C --colsep", "colsep", "REGEXP", "each line is several sources: {1} {2}"),
    ("-I --replace", "mark", "TEXT", "what stands for the item in place of {}"),
    ("-n --max-args", "group", "N", "N items for each command: {1} {2}, or {} for all"),
    ("-N --max-replace-args", "repeated", "N", "the same; a word with {} in it is repeated for each item"),
    ("-L --max-lines", "lines", "N", "the same as -N: an item is a line"),
    ("-X", "pack=repeat", "", "as many items for each command as fit (128 KiB at most); repeats words as -N"),
    ("-m --xargs", "pack=join", "", "the same; all items come into one word, with blanks between"),
    ("--link --xapply", "link", "", "sources are taken side by side, not each with each"),
    ("-r --no-run-if-empty", "_", "", "nothing is run without items; it never is"),
    ("--shell", "shell", "", "the command is a line for sh -c; items in it are quoted"),
    ("-k --keep-order", "keep", "", "outputs in the order of the items"),
    ("--group", "output=group", "", "print a task's output when it has ended (the default)"),
    ("--line-buffer --linebuffer --lb", "output=line", "", "print its lines as they come"),
    ("-u --ungroup", "output=ungroup", "", "let it write where we write"),
    ("--tag", "tag", "", "put the item and a tab before each line"),
    ("--timeout", "timeout", "SECONDS", "end a task that takes longer; 30, 5m, 2h"),
    ("--delay", "delay", "SECONDS", "between two starts at least"),
    ("--retries", "tries", "N", "try a task up to N times"),
    ("--halt", "halt", "WHEN", "such as soon,fail=1 now,fail=20% now,success=1"),
    ("--joblog", "joblog", "FILE", "a line for each task that has ended"),
    ("--results", "results", "FILE", "a JSON object for each, with what it wrote"),
    ("--resume", "resume", "", "skip the tasks that the file has"),
    ("--resume-failed", "resume=failed", "", "skip those that succeeded"),
    ("--at-most-once", "once", "", "log the start, too; one that was interrupted is told, not run again"),
    ("--durable", "durable", "", "each line is on the disk before it goes on"),
    ("--bar --progress --eta", "bar", "", "how far it is, on stderr"),
    ("--summary", "summary", "", "say at the end how many succeeded, on stderr"),
    ("-t --verbose", "trace", "", "print each line to stderr before it is run"),
    ("--dry-run --dryrun", "dry", "", "print the lines, run nothing"),
    ("-h --help", "help", "", "this"),
)
"""Names; where it goes (with `=`, what is put there); what its value is called, nothing for none; what it is."""

USAGE = """\
usage: python -m fastproc map [OPTION...] COMMAND [ARGUMENT...] [::: ITEM... | :::: FILE...]...

Run a command for each item. Items come from stdin, one a line, or from behind ::: or from files behind ::::; several
such are combined, each with each (:::+ and ::::+: side by side with the one before). In the command {} is the item,
{.} without its extension, {/} its last part, {//} its directory, {/.} the last part without extension, {1} {2/} ... of
one source, {#} the number of the task, {%} its slot. Without any the item comes last. No shell reads the command, but a
COMMAND that is one word with blanks is split as a shell would. Without a command, items are the commands.

The status is the number of tasks that failed, 101 for more than 100; 2 for what was asked wrongly.

options:
"""

SEPARATORS = (":::", "::::", ":::+", "::::+")


class Wrong(Exception):
    """What was asked is not possible."""


class Source:
    """Where items come from: literal ones, or a file; linked to the source before, or combined with it."""

    def __init__(self, items: list[str] | None, path: str, linked: bool) -> None:
        self.items = items
        self.path = path
        self.linked = linked


class Asked:
    """What a command line says.

    Attributes:
        values: of the options, by where they go.
        command: its words.
        sources: of items; one of stdin where none is named.
    """

    def __init__(self, arguments: list[str]) -> None:
        """Read it.

        Raises:
            Wrong: an option is not known, or its value is missing.
        """
        self.values: dict[str, str | list[str]] = {}
        self.command: list[str] = []
        self.sources: list[Source] = []
        rest = self._options(arguments)
        cut = next((place for place, word in enumerate(rest) if word in SEPARATORS), len(rest))
        self.command = rest[:cut]
        self.sources = [Source(None, path, False) for path in self.values.get("files", ())]
        self._behind(rest[cut:])
        if not self.sources:
            self.sources = [Source(None, "-", False)]
        self._check()

    def _check(self) -> None:
        """Refuse what would be ignored.

        Raises:
            Wrong: two options exclude each other, or one is about a command that is not there.
        """
        numbers = (("group", "-n"), ("repeated", "-N"), ("lines", "-L"))
        counts = [name for where, name in numbers if where in self.values]
        if len(counts) > 1:
            raise Wrong(f"{counts[1]}: cannot be combined with {counts[0]}")
        if self.values.get("pack") == "join" and self.repeats:
            raise Wrong(f"-m: puts all items into one word, and {counts[0]} repeats the word: use -n with -m, or -X")
        if "null" in self.values and "delimiter" in self.values:
            raise Wrong("-d: -0 is given too, and each says what ends an item")
        if self.values.get("output") == "ungroup" and "keep" in self.values:
            raise Wrong("-k: with -u, tasks write where we write, at once and so in no order")
        if not self.command:
            for where, name in (("mark", "-I"), ("pack", "-X, -m")):
                if where in self.values:
                    raise Wrong(f"{name}: there is no command to put items into: each item is one")

    @property
    def repeats(self) -> bool:
        """Whether a word with {} in it is repeated for each item."""
        return self.values.get("pack") == "repeat" or "repeated" in self.values or "lines" in self.values

    @property
    def count(self) -> int | None:
        """How many items a command gets; None where that is not said.

        Raises:
            Wrong: it is no number.
        """
        found = (self.number(where, 1) for where in ("group", "repeated", "lines"))
        return next((number for number in found if number is not None), None)

    def _options(self, arguments: list[str]) -> list[str]:
        waiting = list(reversed(arguments))
        while waiting:
            word = waiting.pop()
            if word == "--":
                break
            if not word.startswith("-") or word == "-":
                waiting.append(word)
                break
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                self._take(name, waiting, value if equals else None)
                continue
            name, more = word[:2], word[2:]
            if self._take(name, waiting, more or None, cluster=True) and more:
                waiting.append("-" + more)
        return waiting[::-1]

    def _take(self, name: str, waiting: list[str], value: str | None, cluster: bool = False) -> bool:
        """Take in one option; return whether it had no use for a value."""
        where, label = _known(name)
        where, _, constant = where.partition("=")
        if not label:
            if value is not None and not cluster:
                raise Wrong(f"{name}: takes no value")
            self.values[where] = constant or "yes"
            return True
        if value is None:
            if not waiting:
                raise Wrong(f"{name}: needs a value")
            value = waiting.pop()
        if label.endswith("+"):
            found = self.values.setdefault(where, [])
            assert isinstance(found, list)
            found.append(value)
        else:
            self.values[where] = value
        return False

    def _behind(self, words: list[str]) -> None:
        """Read the sources behind the command."""
        kind = ""
        groups: list[tuple[str, list[str]]] = []
        for word in words:
            if word in SEPARATORS:
                kind = word
                groups.append((kind, []))
            else:
                groups[-1][1].append(word)
        for kind, items in groups:
            linked = kind.endswith("+")
            if linked and not self.sources:
                raise Wrong(f"{kind}: there is no source before it")
            if kind.startswith("::::"):
                self.sources += [Source(None, path, linked) for path in items]
            else:
                self.sources.append(Source(items, "", linked))

    def text(self, where: str) -> str | None:
        """Return the value of an option, or None."""
        value = self.values.get(where)
        return None if value is None else str(value)

    def number(self, where: str, least: int) -> int | None:
        """Return the value of an option as a number, or None.

        Raises:
            Wrong: it is none, or less than it may be.
        """
        text = self.text(where)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()):
            raise Wrong(f"{_name(where)}: must be a number from {least} on, not {text[:30]!r}")
        if len(text) > 18 or int(text) > MOST:
            raise Wrong(f"{_name(where)}: must be at most {MOST}, not {text[:30]!r}")
        if int(text) < least:
            raise Wrong(f"{_name(where)}: must be a number from {least} on, not {text!r}")
        return int(text)

    def seconds(self, where: str) -> float | None:
        """Return the value of an option in seconds, or None; s, m, h and d may follow.

        Raises:
            Wrong: it is no duration.
        """
        text = self.text(where)
        if text is None:
            return None
        factor = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:], 0)
        try:
            value = float(text[:-1]) * factor if factor else float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= MOST:
            raise Wrong(f"{_name(where)}: must be seconds up to {MOST}, or such as 5m, not {text[:30]!r}")
        return value

    def jobs(self) -> int:
        """Return how many tasks are run at once.

        Raises:
            Wrong: it is no number.
        """
        from os import cpu_count

        cpus = cpu_count() or 1
        text = self.text("jobs")
        if text is None:
            return cpus
        digits = text.lstrip("+-").removesuffix("%")
        if not (digits.isascii() and digits.isdigit()) or text[:2] in ("+-", "-+", "--", "++"):
            raise Wrong(f"-P: must be a number, or such as 50%, +1, -1, not {text!r}")
        number = int(digits) if len(digits) < 10 else MOST
        if text.endswith("%"):
            number = cpus * number // 100
        if text[0] in "+-":
            number = max(1, cpus + (number if text[0] == "+" else -number))
        elif not number:
            number = 1 if text.endswith("%") else MOST_JOBS
        if number > TOO_MANY_JOBS:
            raise Wrong(f"-P: {text[:30]!r} is more than {TOO_MANY_JOBS} tasks at once")
        return number


MOST_JOBS = 252
"""What -P 0 is: as GNU parallel, which takes what a process may have open."""

TOO_MANY_JOBS = 100_000
"""More tasks at once than any machine has places for: each takes memory before it begins."""

MOST = 2**31 - 1
"""The largest number, and number of seconds, that an option takes."""


def _known(name: str) -> tuple[str, str]:
    for names, where, label, _ in OPTIONS:
        if name in names.split():
            return where, label
    # A beginning that only one has, as getopt_long(3) has it.
    if name.startswith("--") and len(name) > 3:
        found = {
            (where, label) for names, where, label, _ in OPTIONS for full in names.split() if full.startswith(name)
        }
        if len(found) == 1:
            return found.pop()
    raise Wrong(f"{name}: no such option")


def _name(where: str) -> str:
    return next(names.split()[-1] for names, found, _, _ in OPTIONS if found.partition("=")[0] == where)


def usage() -> str:
    """Return what there is to ask."""
    return USAGE + "".join(_help())


def _help() -> Iterator[str]:
    for names, _, label, about in OPTIONS:
        shown = ", ".join(names.split()) + (f" {label.removesuffix('+')}" if label else "")
        yield f"  {shown:32}  {about}\n" if len(shown) <= 32 else f"  {shown}\n{'':36}{about}\n"
