"""Ending a whole tree of processes: how its members are found, killed and counted.

Best first; a tree uses the first that works here:

1. A cgroup v2 of its own, which no descendant can leave without the right to: `cgroup.kill` (Linux 5.14) ends it at
   once, elsewhere it is frozen and killed one by one.
2. A mark in its environment, and the program as the child subreaper of its own descendants (prctl(2)): who loses its
   parent becomes the program's child, whatever session or group it is in. Orphans of a program that has ended are known
   by the mark; `subreaper()` brings these to us, so that they are also reaped.
3. The process group that the child leads, as long as the child is not reaped, and everybody's parent in /proc.

Where /proc is not mounted, or is the one of another PID namespace, whose numbers name strangers here, 2 and 3 have no
evidence: the child is ended, with the process group that it leads, which the kernel knows, and `TreeEnd.unseen` says
that others of the tree may be left.

Not here: waiting, the child's own status (the engine). Invariant: nobody is signalled of whom it is not proven, with a
pidfd in hand, that he is of this tree (GOTCHAS D1, D14).
"""

from __future__ import annotations

import os
from _thread import RLock
from _weakref import ref
from errno import EMFILE, ENODEV, EXDEV

from fastproc import _native
from fastproc._values.tree import Survivor, TreeEnd
from fastproc.containment._cgroup import Cgroup
from fastproc.containment._contained import contained
from fastproc.containment._member import SIGKILL, Member, Proc, is_about_one, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastproc._engine.handle import Handle
    from fastproc._values.plan import Plan
    from fastproc.containment._member import Facts

__all__ = ["Tree", "subreaper"]

SIGSTOP = 19
"""On every Linux that fastproc knows (signal(7))."""

ROUNDS = 100
"""Scans of /proc in one go, while each finds somebody new."""

MARK = "FASTPROC_TREE_"
"""Begins the name of the variable that marks a tree; one for each, so that trees may lie in each other."""


def subreaper(on: bool | None = None) -> bool:
    """Return whether this process adopts its orphaned descendants (PR_SET_CHILD_SUBREAPER), and change that if asked.

    It is a property of the whole process (prctl(2)): orphans of *every* child, of whichever library, then become
    children of this process instead of init's, and stay zombies until somebody here waits for them. `kill_tree()` reaps
    those of its tree; nobody else's are touched. Turn it on only in a program that owns all its children.

    Args:
        on: True to turn it on, False to turn it off, None to ask.

    Returns:
        What it was before.

    Raises:
        OSError: this system has none.
    """
    return _native.subreaper(-1 if on is None else int(on))


class _Guard(ref["Handle"]):
    """Sees a handle dropped whose block was entered and never left. Takes no lock, as any thread may drop it."""

    __slots__ = ("cgroup", "owner")

    def __new__(cls, process: Handle, _cgroup: Cgroup) -> _Guard:
        return ref.__new__(cls, process, _on_drop)

    def __init__(self, _process: Handle, cgroup: Cgroup) -> None:
        self.cgroup = cgroup
        self.owner = os.getpid()


_guards: set[_Guard] = set()


# What it uses is bound here: the module's names may be gone at the end of the interpreter.
def _on_drop(guard: _Guard, _guards: set[_Guard] = _guards, _getpid: Callable[[], int] = os.getpid) -> None:
    _guards.discard(guard)
    if guard.owner == _getpid():
        guard.cgroup.write("cgroup.kill", "1")


class Tree:
    """One child and all its descendants, for the engine (its `Killer`).

    Args:
        process: the handle. Not kept alive from here.
    """

    __slots__ = (
        "_cgroup",
        "_crowded",
        "_end",
        "_guard",
        "_killed",
        "_lock",
        "_mark",
        "_members",
        "_owner",
        "_proc",
        "_process",
        "_root_killed",
        "_unseen",
    )

    def __init__(self, process: Handle) -> None:
        self._process = ref(process)
        self._owner = os.getpid()
        self._cgroup: Cgroup | None = None
        self._mark = b""
        self._members: dict[int, Member] = {}
        self._killed = 0
        # Whether members had to be let out of sight, for lack of descriptors.
        self._crowded = False
        self._root_killed = False
        self._end: TreeEnd | None = None
        self._guard: _Guard | None = None
        # While somebody looks: our own /proc, or why there is none.
        self._proc: Proc | None = None
        self._unseen = ""
        self._lock = RLock()

    # -- before the spawn

    def plans(self, plan: Plan) -> Iterator[Plan]:
        """The plan in the ways in which its tree can be found, best first, for as long as one is refused."""
        cgroup = Cgroup.make(plan.cgroup)
        if cgroup is not None:
            self._cgroup = cgroup
            yield contained(plan, cgroup=cgroup.fd.number)
            self._cgroup = None
            cgroup.remove()
        name = f"{MARK}{os.urandom(8).hex()}=1".encode()
        self._mark = b"\0" + name + b"\0"
        yield contained(plan, mark=name + b"\0", subreaper=True)
        yield contained(plan, mark=name + b"\0")

    # -- afterwards

    def signal(self, sig: int) -> bool:
        """Send a signal to all but the child itself, once; return whether the child, too, has got it."""
        with self._lock, _Look(self):
            if self._cgroup is not None:
                self._cgroup.signal(sig, self._root())
                return False
            self._scan()
            for member in list(self._members.values()):
                member.send(sig)
            return bool(self._unseen) and self._signal_group(sig)

    def kill(self) -> bool:
        """Send SIGKILL to all that are found, the child too, and return whether nobody was left to kill."""
        with self._lock, _Look(self):
            if self._cgroup is not None:
                found = self._cgroup.kill()
                self._killed = max(self._killed, found)
                return self._cgroup.is_empty()
            if self._unseen:
                self._root_killed = self._root_killed or self._root_is_running()
                self._signal_group(SIGKILL)
                self._signal_root(SIGKILL)
                for member in list(self._members.values()):
                    member.send(SIGKILL)
                return self._is_gone()
            # Stopped first, and killed when nobody new is found: a stopped process forks no more, and its children keep
            # their parent, by which they are found.
            self._signal_root(SIGSTOP)
            rounds = 0
            while self._scan(SIGSTOP) and rounds < ROUNDS:
                rounds += 1
            self._root_killed = self._root_killed or self._root_is_running()
            self._signal_root(SIGKILL)
            for member in list(self._members.values()):
                member.send(SIGKILL)
            return self._is_gone()

    def is_gone(self) -> bool:
        """Return whether the child and all that are found have ended."""
        with self._lock, _Look(self):
            if self._cgroup is not None:
                return self._cgroup.is_empty()
            self._scan()
            return self._is_gone()

    def guard(self, on: bool) -> None:
        """As Killer.guard(), where there is a cgroup: nothing else is known without a look at all processes."""
        process = self._process()
        if on and self._cgroup is not None and process is not None:
            self._guard = _Guard(process, self._cgroup)
            _guards.add(self._guard)
        elif self._guard is not None:
            _guards.discard(self._guard)
            self._guard = None

    def end(self) -> TreeEnd:
        """Return what was done, and who is still there."""
        with self._lock:
            return self._told() if self._end is None else self._end

    def _told(self) -> TreeEnd:
        with _Look(self):
            if self._cgroup is not None:
                return TreeEnd(("cgroup",), self._killed, tuple(self._cgroup.survivors(self._proc)))
            found = [*self._left()]
            killed = self._killed + self._root_killed + sum(member.killed for member in self._members.values())
            if self._unseen:
                # How many the kernel has found in a group it does not say.
                leads = self._leads()
                return TreeEnd(("group",) if leads else (), None if leads else killed, tuple(found), self._unseen)
            ways = (*(("mark",) if self._mark else ()), *(("group",) if self._leads() else ()), "parents")
            return TreeEnd(ways, killed, tuple(found))

    def close(self) -> None:
        """Remove the cgroup, close the pidfds."""
        with self._lock:
            self._end = self.end()
            for member in list(self._members.values()):
                member.close()
            self._members.clear()
            if self._cgroup is not None and self._cgroup.remove():
                self._cgroup.fd.close()
            self.guard(False)

    # -- the child itself

    def _root(self) -> int:
        process = self._process()
        return -1 if process is None else process.pid

    def _leads(self) -> bool:
        process = self._process()
        return process is not None and process._leads

    def _signal_root(self, sig: int) -> None:
        """The child itself, by its handle; where there are no pidfds the group that it leads too."""
        process = self._process()
        if process is None or process.pid <= 0:
            return
        try:
            process.send_signal(sig)
            if process.pidfd < 0 and process.final is None and process._leads:
                with process._lock:
                    _native.signal_group(-1, process.pid, sig)
        except OSError:
            # Another user's by now, or gone; it is among the survivors then.
            pass

    def _signal_group(self, sig: int) -> bool:
        """The group that the child leads, the child too; return whether there is one. The kernel knows who is in it."""
        process = self._process()
        if process is None or not self._leads():
            return False
        try:
            # Under its lock the child is not reaped: the number of the group is its own (GOTCHAS D14).
            process.signal_group(sig)
        except OSError:
            return False
        return True

    def _root_is_running(self) -> bool:
        process = self._process()
        if process is None or process.final is not None or process.pid <= 0:
            return False
        if self._unseen:
            return _is_running(process)
        facts = self._facts(process.pid)
        number = process.hold()
        try:
            # Somebody else may have reaped it: then they were facts about a stranger.
            there = number < 0 or Member(process.pid, number).is_there()
        finally:
            process.release()
        return there and facts is not None and not facts.ended

    # -- the others

    def _scan(self, sig: int = 0) -> int:
        """Look through /proc once; send a signal to each new member as soon as it is proven; return their number."""
        self._forget_reaped()
        process = self._process()
        if process is None or process.pid <= 0 or self._proc is None:
            return 0
        number = process.hold()
        try:
            new = 0
            self._crowded = False
            known: dict[int, Member] = dict(self._members)
            if process.final is None and number >= 0:
                known[process.pid] = Member(process.pid, number)
            skipped = {*self._members, process.pid, self._owner, 0, 1}
            for pid in self._proc.pids():
                if pid not in skipped and self._examine(pid, known):
                    self._members[pid] = known[pid]
                    known[pid].send(sig)
                    new += 1
            return new + self._crowded
        finally:
            process.release()

    def _examine(self, pid: int, known: dict[int, Member]) -> bool:
        """Add a process to the known ones, if it is proven to be of the tree."""
        proc = self._proc
        assert proc is not None
        try:
            facts = proc.facts(pid)
            if facts is None or facts.ended or not self._belongs(facts, known):
                return False
            # Only now the costly part: the same again, about a process that cannot change under its number.
            member = Member(pid)
            facts = proc.facts(pid)
            reason = None if facts is None else self._belongs(facts, known)
            if facts is None or not reason or not member.is_there():
                return False
        except OSError as error:
            if not is_about_one(error):
                self._make_room()
            return False
        member.name = facts.name
        member.descends = reason in ("parent", "mark")
        known[pid] = member
        return True

    def _belongs(self, facts: Facts, known: dict[int, Member]) -> str:
        """The evidence that a process is of the tree, or "". True of the one whose pidfd still finds it afterwards."""
        parent = known.get(facts.ppid)
        if parent is not None and parent.is_there():
            return "parent"
        # A group or session has the number of the process that made it, which nobody else gets while one of both is
        # there (GOTCHAS D14). The child's own is meant only if it was given one.
        for number in (facts.pgrp, facts.session):
            leader = known.get(number)
            if leader is not None and leader.is_there() and (number != self._root() or self._leads()):
                return "group"
        if self._mark and self._proc is not None and self._mark in self._proc.environ(facts.pid):
            return "mark"
        return ""

    def _forget_reaped(self) -> None:
        for pid, member in list(self._members.items()):
            if self._unseen:
                if member.has_ended():
                    self._drop(pid, member)
                continue
            facts = self._facts(pid) if member.is_there() else None
            if facts is not None and facts.ended and facts.ppid == self._owner and member.descends:
                # It came to us when its parent ended (`subreaper()`); nobody else here knows it.
                member.reap()
            if facts is None or not member.is_there():
                self._drop(pid, member)

    def _drop(self, pid: int, member: Member) -> None:
        self._killed += member.killed
        member.close()
        self._members.pop(pid, None)

    def _facts(self, pid: int) -> Facts | None:
        assert self._proc is not None
        try:
            return self._proc.facts(pid)
        except OSError:
            self._make_room()
            return self._proc.facts(pid)

    def _make_room(self) -> None:
        """No descriptor is left: those who have a pidfd are killed now, it is closed, and they are found again or gone.

        Raises:
            OSError: EMFILE, ENFILE: none of them is ours to close.
        """
        if not self._members:
            raise OSError(EMFILE, os.strerror(EMFILE))
        self._crowded = True
        for pid, member in list(self._members.items()):
            member.send(SIGKILL)
            self._killed += member.killed
            member.close()
            del self._members[pid]

    def _is_gone(self) -> bool:
        self._forget_reaped()
        return not self._crowded and not self._root_is_running() and not any(True for _ in self._left())

    def _left(self) -> Iterator[Survivor]:
        """Those that run, as survivors."""
        members = [(pid, member.refused) for pid, member in self._members.items()]
        if self._root_is_running():
            members.append((self._root(), False))
        for pid, refused in members:
            if self._unseen:
                member = self._members.get(pid)
                yield Survivor(pid, "?" if member is None else member.name, why("", refused))
                continue
            facts = self._facts(pid)
            if facts is not None and not facts.ended:
                yield Survivor(pid, facts.name, why(facts.state, refused))


class _Look:
    """For the time of a `with` block a tree has our own /proc open, or knows why there is none. May be nested.

    Raises:
        OSError: EMFILE, ENFILE, and nobody's descriptor of the tree can be given up for it.
    """

    __slots__ = ("_outer", "_tree")

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._outer: Proc | None = None

    def __enter__(self) -> None:
        tree = self._tree
        self._outer = tree._proc
        if self._outer is not None:
            return
        try:
            tree._proc = self._open()
        except OSError as error:
            if error.errno not in (EXDEV, ENODEV):
                raise
            tree._unseen = error.strerror or "?"
        else:
            tree._unseen = ""

    def _open(self) -> Proc:
        try:
            return Proc()
        except OSError as error:
            if is_about_one(error):
                raise
            self._tree._make_room()
            return Proc()

    def __exit__(self, *_exc: object) -> None:
        if self._outer is None and self._tree._proc is not None:
            proc, self._tree._proc = self._tree._proc, None
            proc.close()


def _is_running(process: Handle) -> bool:
    """Whether a child has not ended, as waitid(2) tells it without taking its status."""
    number = process.hold()
    try:
        which = (os.P_PID, process.pid) if number < 0 else (os.P_PIDFD, number)
        return os.waitid(*which, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except OSError:
        # Somebody else has reaped it.
        return False
    finally:
        process.release()
