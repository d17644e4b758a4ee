"""Parents and children in one snapshot, and their drawing in the style of pstree(1). Pure.

No function is recursive: a chain of shells may be deeper than Python's stack.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fastproc.info._snapshot import Record, Snapshot

SYMBOLS = ("  ", "├─", "│ ", "└─", "───", "─┬─")
ASCII = ("  ", "|-", "| ", "`-", "---", "-+-")


class Tree:
    """The parents and children in one snapshot.

    A process whose parent is not in the table is a root: the first process, kernel threads without a parent, and
    processes whose parent was filtered out.

    Attributes:
        snapshot: the table.
        roots: the pids of the roots, ascending.
    """

    __module__ = "fastproc.info"

    __slots__ = ("_children", "_parent", "roots", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        """Sort the rows into families.

        Raises:
            KeyError: pid or ppid is not in the snapshot.
        """
        self.snapshot = snapshot
        parents = snapshot.values("ppid")
        self._parent: dict[int, int] = {}
        self._children: dict[int, list[int]] = {}
        pids = snapshot.pids
        there = set(pids)
        for pid, parent in sorted(zip(pids, parents, strict=True)):
            if parent in there and parent != pid and pid not in self._parent:
                self._parent[pid] = parent
                self._children.setdefault(parent, []).append(pid)
        self.roots = [pid for pid in sorted(there) if pid not in self._parent]
        self._cut_circles(there)

    def _cut_circles(self, there: set[int]) -> None:
        # The rows are not read at the same time. If a pid is reused meanwhile, they may form a circle.
        reached = {pid for root in self.roots for pid in self.walk(root)}
        for pid in sorted(there - reached):
            if pid not in reached:
                self._children[self._parent.pop(pid)].remove(pid)
                self.roots.append(pid)
                reached.update(self.walk(pid))

    def __contains__(self, pid: object) -> bool:
        return pid in self._parent or pid in self.roots

    def record(self, pid: int) -> Record:
        """Return the record of a process.

        Raises:
            KeyError: the process is not in the table.
        """
        return self.snapshot.by_pid(pid)

    def parent(self, pid: int) -> int | None:
        """Return the pid of the parent; None for a root."""
        return self._parent.get(pid)

    def parents(self, pid: int) -> list[int]:
        """Return the pids of all ancestors, the nearest first."""
        found = []
        above = self._parent.get(pid)
        while above is not None:
            found.append(above)
            above = self._parent.get(above)
        return found

    def children(self, pid: int, recursive: bool = False) -> list[int]:
        """Return the pids of the children, ascending; with `recursive`, of all descendants, each after its parent."""
        return list(self.walk(pid))[1:] if recursive else list(self._children.get(pid, ()))

    def walk(self, pid: int) -> Iterator[int]:
        """Yield this pid and all its descendants, each family after its parent."""
        waiting = [pid]
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(self._children.get(one, ())))

    def text(
        self,
        roots: Sequence[int] | None = None,
        *,
        label: Callable[[Record], str] | None = None,
        compact: bool = True,
        vertical: bool = False,
        by_pid: bool = False,
        threads: Mapping[int, Sequence[str]] | None = None,
        ascii: bool = False,
        width: int | None = None,
    ) -> str:
        """Return the drawing. As in pstree(1), a process gets a new line unless it is the first child of its parent.

        Args:
            roots: the pids to draw with their descendants; None for all roots.
            label: returns the text of a process. Default: its comm. Trees with equal labels are equal.
            compact: draw equal siblings once, with their number: `3*[worker]`.
            vertical: draw a line for each process, without compaction, as `pstree -a`.
            by_pid: sort siblings by pid instead of label.
            threads: the names of the threads of processes, drawn as `{name}`.
            ascii: draw with -+|` instead of line characters.
            width: cut longer lines to this width; their last character is then "+".

        Raises:
            KeyError: a root is not in the table; comm is not in the snapshot and `label` is None.
        """
        wanted = self.roots if roots is None else roots
        drawing = _Drawing(self, label or (lambda one: str(one["comm"])), threads or {}, by_pid)
        symbols = ASCII if ascii else SYMBOLS
        lines = [line for root in wanted for line in drawing.draw(root, symbols, compact and not vertical, vertical)]
        if width is not None:
            lines = [line if len(line) <= width else line[: max(width - 1, 0)] + "+" for line in lines]
        return "\n".join(lines)


class _Drawing:
    """The labels of the nodes, their sorted children, and a number that equal trees share."""

    def __init__(
        self,
        tree: Tree,
        label: Callable[[Record], str],
        threads: Mapping[int, Sequence[str]],
        by_pid: bool,
    ) -> None:
        self._tree = tree
        self._label = label
        self._threads = threads
        self._by_pid = by_pid
        self._labels: dict[object, str] = {}
        self._families: dict[object, list[object]] = {}
        self._kinds: dict[object, int] = {}

    def _prepare(self, root: int) -> None:
        numbers: dict[tuple[object, ...], int] = {}
        for pid in reversed(list(self._tree.walk(root))):  # so that children come before their parent
            self._labels[pid] = self._label(self._tree.record(pid))
            family: list[object] = list(self._tree.children(pid))
            for at, name in enumerate(self._threads.get(pid, ())):
                thread = (pid, at)
                self._labels[thread] = f"{{{name}}}"
                self._families[thread] = []
                self._kinds[thread] = numbers.setdefault((self._labels[thread],), len(numbers))
                family.append(thread)
            if not self._by_pid:
                family.sort(key=lambda one: self._labels[one])
            self._families[pid] = family
            key = (self._labels[pid], *sorted(self._kinds[one] for one in family))
            self._kinds[pid] = numbers.setdefault(key, len(numbers))

    def _groups(self, node: object, compact: bool) -> list[tuple[object, int]]:
        """Return the children, each with the number of siblings that are equal to it."""
        if not compact:
            return [(one, 1) for one in self._families[node]]
        counts: dict[int, tuple[object, int]] = {}
        for one in self._families[node]:
            kind = self._kinds[one]
            first, count = counts.get(kind, (one, 0))
            counts[kind] = (first, count + 1)
        return list(counts.values())

    def draw(self, root: int, symbols: Sequence[str], compact: bool, vertical: bool) -> Iterator[str]:
        """Yield the lines of one tree."""
        self._prepare(root)
        empty, branch, vert, end, single, first_of = symbols
        widths: list[int] = []
        more: list[bool] = []
        line = ""
        # node, level, number of equal siblings, whether it continues the parent's line, whether it is last, open
        # brackets
        waiting: list[tuple[object, int, int, bool, bool, int]] = [(root, 0, 1, False, True, 0)]
        while waiting:
            node, level, count, same_line, last, closing = waiting.pop()
            del widths[level:], more[level:]
            more.append(not last)
            if not same_line:
                line = "".join(
                    " " * (widths[at] + 1)
                    + ((end if last else branch) if at == level - 1 else vert if more[at + 1] else empty)
                    for at in range(level)
                )
            before = len(line)
            line += (f"{count}*[" if count > 1 else "") + self._labels[node]
            family = self._groups(node, compact)
            if vertical or not family:
                yield line + "]" * closing
            widths.append(1 if vertical else len(line) - before)
            if family and not vertical:
                line += first_of if len(family) > 1 else single
            for at in range(len(family) - 1, -1, -1):
                child, alike = family[at]
                below = 0 if vertical else closing
                on_line = at == 0 and not vertical
                is_last = at == len(family) - 1
                waiting.append((child, level + 1, alike, on_line, is_last, below + (alike > 1)))
