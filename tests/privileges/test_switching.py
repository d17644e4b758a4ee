"""`temporarily()`: another user's effective ids for a while, and everything as it was afterwards; or a refusal."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc import privileges
from fastproc._engine import loading
from fastproc.privileges import HalfSwitched, Securebits, temporarily
from support.identities import CALLS, FEW, USERS, begin, forked, of_all, spoil
from support.witness import sets_of

if __name__.startswith("isolated_"):
    # Once, and not in each copy: the interpreter may lie where nobody else can read.
    loading.load_all()

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

ZERO = f"{0:016x}"


def refused(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["returned"]


def enter(*arguments: Any, **options: Any) -> None:
    with temporarily(*arguments, users=USERS, **options):
        pass


def round_trip(state: str) -> list[Any]:
    def work() -> list[Any]:
        begin(state)
        dumpable = privileges._credentials.held().dumpable
        before = [sets_of("self"), privileges.keepcaps(), dumpable]
        inside = []
        block = temporarily("app", users=USERS)
        for _ in range(2):
            with block as identity:
                assert identity == privileges.identity()
                inside.append(sets_of("self"))
                with tempfile.TemporaryDirectory() as folder:
                    Path(folder, "file").touch()
                    owner = os.stat(Path(folder, "file"))
        after = [sets_of("self"), privileges.keepcaps(), privileges._credentials.held().dumpable]
        return [before, inside, [owner.st_uid, owner.st_gid], after]

    return forked(work, lambda pid: None)[0]


@pytest.mark.parametrize("state", ["root", "few", "user", "nofixup", "setuid", "ambient", "keepcaps"])
def test_inside_it_is_the_user_and_afterwards_all_is_as_before(state: str) -> None:
    """Ids, groups, all five sets, keepcaps, and whether the process is dumpable."""
    before, inside, owner, after = isolated(round_trip, state, pid_namespace=True)
    assert before == after
    assert owner == [1234, 1235]
    was = before[0]
    (real, _, saved, _), (real_gid, _, saved_gid, _) = (was[at].split("\t") for at in (5, 6))
    expected = [
        ZERO,
        was[1],
        was[2],
        was[3],
        ZERO,
        f"{real}\t1234\t{saved}\t1234",
        f"{real_gid}\t1235\t{saved_gid}\t1235",
        "29 44 1235",
        "0",
    ]
    assert inside == [expected, expected]


def options_and_errors() -> list[Any]:
    begin("root")
    before = sets_of("self")
    found: list[Any] = []
    with temporarily(5, group="audio", groups=[7], users=USERS):
        found.append(sets_of("self")[5:8])
    with temporarily("app", groups="keep", users=USERS):
        found.append(sets_of("self")[5:8])
        # Another one inside.
        with temporarily(9, group=9, groups=[]):
            found.append(sets_of("self")[5:8])
        found.append(sets_of("self")[5:8])
    found.append(sets_of("self") == before)

    def fails() -> None:
        with temporarily("app", users=USERS):
            raise LookupError(os.geteuid())

    found.append(refused(fails))
    found.append(sets_of("self") == before)
    block = temporarily("app", users=USERS)
    with block:
        found.append(refused(block.__enter__))
    found.append(refused(lambda: block.__exit__(None, None, None)))
    for wrong in (None, -1, "1234", 9):
        found.append(refused(lambda wrong=wrong: enter(wrong)))
    found.append(sets_of("self") == before)
    return found


def test_options_nesting_and_errors() -> None:
    assert isolated(options_and_errors, pid_namespace=True) == [
        ["0\t5\t0\t5", "0\t29\t0\t29", "7"],
        ["0\t1234\t0\t1234", "0\t1235\t0\t1235", "0 4 27"],
        ["0\t9\t0\t9", "0\t9\t0\t9", ""],
        ["0\t1234\t0\t1234", "0\t1235\t0\t1235", "0 4 27"],
        True,
        ["LookupError", "1234"],
        True,
        ["RuntimeError", "this block was entered already"],
        ["RuntimeError", "this block was not entered"],
        ["TypeError", "user: must be a name, an id or a User, not None"],
        ["ValueError", 'who: -1 is no id: it is which means "unchanged" to the kernel'],
        ["UnknownUser", "there is no user named '1234' (a string is always a name, an id always a number)"],
        ["ValueError", "group: must be given, because the user database has no entry with the id 9"],
        True,
    ]


def unsafe() -> list[Any]:
    found: list[Any] = []

    def ask(prepare: Callable[[], object], call: Callable[[], object] = lambda: enter("app")) -> None:
        def work() -> list[Any]:
            prepare()
            before = of_all(os.getpid())
            return [*refused(call), of_all(os.getpid()) == before]

        found.append(forked(work, lambda pid: None)[0])

    def with_threads() -> None:
        for _ in range(2):
            threading.Thread(target=threading.Event().wait, daemon=True).start()

    async def task() -> None:
        enter("app")

    def no_root_to_go_back_to() -> None:
        os.setresuid(1000, 0, 1000)

    def lost() -> None:
        os.setresuid(0, 5, 0)
        privileges.permitted.set(FEW.without("setuid"))

    def locked() -> None:
        begin("ambient")
        privileges.set_securebits(Securebits.NO_CAP_AMBIENT_RAISE)

    ask(with_threads)
    ask(lambda: None, lambda: asyncio.run(task()))
    ask(no_root_to_go_back_to)
    ask(lost, lambda: enter(0, group=0, groups=[]))
    ask(locked)
    return found


def test_where_it_is_not_safe_it_is_refused() -> None:
    assert isolated(unsafe, pid_namespace=True) == [
        ["UnsafeSwitch", "temporarily: this process has 3 threads, and all of them would be switched", True],
        [
            "UnsafeSwitch",
            "temporarily: an event loop runs in this thread, and its other tasks would be switched too",
            True,
        ],
        [
            "UnsafeSwitch",
            "temporarily: neither the real nor the saved user id is 0: the kernel would clear the permitted "
            "capabilities, so it would be impossible to switch back",
            True,
        ],
        ["UnsafeSwitch", "temporarily: it would be impossible to restore the effective user id", True],
        [
            "UnsafeSwitch",
            "temporarily: the securebits (no_cap_ambient_raise) would keep the ambient set empty",
            True,
        ],
    ]


def in_trio() -> list[str]:
    import trio

    async def task() -> list[str]:
        return refused(lambda: enter("app"))

    return trio.run(task)


def test_it_is_refused_in_trio_too() -> None:
    pytest.importorskip("trio")
    assert isolated(in_trio, pid_namespace=True)[0] == "UnsafeSwitch"


def meddled(how: str) -> list[Any]:
    """Something inside has changed what cannot be restored, or can."""

    def work() -> list[Any]:
        begin("root")
        before = of_all(os.getpid())
        try:
            with temporarily("app", users=USERS):
                if how == "no_new_privs":
                    privileges.set_no_new_privs()
                elif how == "dropped":
                    privileges.drop_privileges("app", users=USERS)
                elif how == "permitted":
                    privileges.permitted.drop("chown")
                elif how == "ids":
                    os.setresuid(0, 0, 0)
                elif how == "sets":
                    privileges.effective.raise_("chown", "kill")
                    privileges.inheritable.set("kill")
                elif how == "thread":
                    threading.Thread(target=threading.Event().wait, daemon=True).start()
        except HalfSwitched as error:
            assert error.identity == privileges.identity()
            return ["HalfSwitched", str(error), len(of_all(os.getpid()))]
        return ["restored", of_all(os.getpid()) == before, len(os.listdir("/proc/self/task"))]

    return forked(work, lambda pid: None)[0]


@pytest.mark.parametrize("how", ["no_new_privs", "dropped", "permitted", "ids", "sets", "thread"])
def test_what_happened_inside_is_undone_or_told(how: str) -> None:
    told = isolated(meddled, how, pid_namespace=True)
    if how in ("no_new_privs", "dropped", "permitted"):
        text = "the change of identity failed at the end and could not be undone: this process should end"
        assert told == ["HalfSwitched", text, 1]
    else:
        assert told == ["restored", True, 2 if how == "thread" else 1]


def spoiled_blocks() -> list[Any]:
    def one(name: str, error: int, late: bool) -> list[Any]:
        def work() -> list[Any]:
            begin("ambient")
            before = of_all(os.getpid())
            if not late:
                spoil(*CALLS[name], error)
            try:
                with temporarily("app", users=USERS):
                    if late:
                        os.seteuid(0)  # a filter needs the right
                        privileges.effective.raise_("sys_admin")
                        spoil(*CALLS[name], error)
                    inside = sets_of("self")
            except HalfSwitched:
                return ["HalfSwitched"]
            except (OSError, privileges.NotAllThreads):
                return ["undone", of_all(os.getpid()) == before]
            return ["returned", of_all(os.getpid()) == before, inside]

        return [name, error, late, *forked(work, lambda pid: None)]

    names = ("setgroups", "setresgid", "setresuid", "capset", "ambient")
    return [one(name, error, late) for name in names for error in (0, 1) for late in (False, True)]


def test_calls_that_fail_or_lie_are_found_on_both_ways() -> None:
    """GOTCHAS G3: no block is entered as somebody else than asked, none is left as somebody else than before."""
    kinds = set()
    for name, error, late, said, _ in isolated(spoiled_blocks, pid_namespace=True):
        where = (name, error, late, said)
        kinds.add(said[0])
        if said[0] == "returned":
            # The kernel clears the effective set itself, so a capset that does nothing may do no harm.
            assert said[1] is True, where
            if late:
                continue
            assert [said[2][0], *said[2][4:8]] == [
                ZERO,
                ZERO,
                "0\t1234\t0\t1234",
                "0\t1235\t0\t1235",
                "29 44 1235",
            ], where
        else:
            assert said in (["undone", True], ["HalfSwitched"]), where
        if not late and error and name != "ambient":
            assert said == ["undone", True], where
    assert kinds == {"undone", "HalfSwitched", "returned"}


def unprivileged() -> list[Any]:
    """A set-user-ID program of an ordinary user may exchange its ids without any capability."""
    os.setgroups([29, 44, 1235])
    os.setresgid(1235, 1235, 1235)
    os.setresuid(1234, 5, 5)
    before = sets_of("self")
    with temporarily("app", users=USERS):
        inside = sets_of("self")[5]
    return [before[1], before[5], inside, sets_of("self") == before]


def test_exchange_of_own_ids_needs_no_capability() -> None:
    assert isolated(unprivileged, pid_namespace=True) == [
        ZERO,
        "1234\t5\t5\t5",
        "1234\t1234\t5\t1234",
        True,
    ]
