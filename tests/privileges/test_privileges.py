"""`fastproc.privileges`: reading and changing what this process may do, in all its threads.

Whatever changes something runs in processes and PID namespaces of its own. Witnesses are /proc, setpriv(1), capsh(1).
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc import capabilities, privileges
from fastproc.privileges import Capability, CapabilitySet, MissingCapability, NotAllThreads, Securebits
from support.identities import CALLS, forked, spoil, start_threads
from support.witness import capsh, setpriv, sets_of

SETS = ("effective", "permitted", "inheritable", "bounding", "ambient")
NOBODY = 65534

changing = pytest.mark.usefixtures("pid_namespace")


def refusal(call: Callable[[], object]) -> list[str]:
    """The exception's class and text; what it had for a result when there was none."""
    try:
        return ["returned", repr(call())]
    except Exception as error:
        return [type(error).__name__, str(error)]


class Idle:
    """Threads that stand in the way."""

    def __init__(self, count: int) -> None:
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.over.wait) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def everyone() -> list[list[str]]:
    """Cap lines and ids of every thread, from /proc, without repetition."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            lines = sets_of(f"self/task/{task}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if lines not in found:
            found.append(lines)
    return found


# -- reading


def test_identity_is_what_proc_and_the_kernel_say() -> None:
    mine = privileges.identity()
    shown = dict(line.split(":\t") for line in Path("/proc/thread-self/status").read_text().splitlines())
    assert mine.uids == tuple(map(int, shown["Uid"].split()))
    assert mine.gids == tuple(map(int, shown["Gid"].split()))
    assert [some.hex for some in mine.capabilities] == [shown[f"Cap{x}"] for x in ("Eff", "Prm", "Inh", "Bnd", "Amb")]
    assert mine.securebits == privileges.securebits()
    assert mine.no_new_privs is privileges.no_new_privs() is bool(int(shown["NoNewPrivs"]))
    assert isinstance(privileges.keepcaps(), bool)
    for name in SETS:
        some = getattr(privileges, name)
        assert some.read() == getattr(mine.capabilities, name) == some.read(os.getpid())
        assert repr(some) == f"<the {name} set of this process>"


def test_identity_of_others() -> None:
    init = privileges.identity(1)
    assert (init.pid, init.securebits) == (1, None)
    assert set(privileges.threads(1)) == {int(name) for name in os.listdir("/proc/1/task")}
    assert set(privileges.threads()) == {int(name) for name in os.listdir("/proc/self/task")}
    for call in (privileges.identity, privileges.threads, privileges.effective.read):
        with pytest.raises(ProcessLookupError):
            call(2**31 - 1)
        with pytest.raises(ValueError, match="pid: 0 is no pid"):
            call(0)


def test_errors_are_pickled_whole() -> None:
    error = NotAllThreads("text", changed=True, tid=7)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.changed, again.tid) == ("text", True, 7)
    with pytest.raises(MissingCapability) as caught:
        privileges.permitted.set({*privileges.permitted.read(), *_beyond_permitted()})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.capabilities, again.errno) == (
        str(caught.value),
        caught.value.capabilities,
        errno.EPERM,
    )


def _beyond_permitted() -> CapabilitySet:
    beyond = CapabilitySet.all(capabilities.cap_last_cap()) - privileges.permitted.read()
    if not beyond:
        pytest.skip("everything is permitted here")
    return beyond


# -- the five sets, in 8 threads


def sets_changed() -> list[Any]:
    """Each operation on each set by one of 8 threads; after each, what all threads show."""
    idle = Idle(7)
    found: list[Any] = []

    def note(*expected: str) -> None:
        shown = everyone()
        found.append([len(shown), *(shown[0][SETS.index(name)] for name in expected)])

    def work() -> None:
        privileges.effective.drop("net_raw", "chown", Capability.CAP_CHOWN)
        note("effective", "permitted")
        privileges.effective.raise_(13)
        note("effective")
        privileges.inheritable.set("net_raw,cap_kill,chown")
        note("inheritable")
        privileges.ambient.raise_("net_raw", "kill")
        note("ambient")
        privileges.ambient.drop("kill", "mknod")
        note("ambient")
        privileges.inheritable.drop("net_raw")
        note("inheritable", "ambient")
        privileges.ambient.raise_("kill")
        privileges.bounding.drop("sys_time")
        note("bounding", "permitted")
        privileges.permitted.set({"net_raw", "setpcap", "kill"})
        note("effective", "permitted", "ambient")
        privileges.bounding.clear()
        note("bounding", "permitted")
        privileges.permitted.drop("kill")
        note("permitted", "ambient")
        privileges.effective.clear()
        note("effective")
        privileges.permitted.clear()
        privileges.inheritable.clear()
        note(*SETS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    idle.end()
    return found


@changing
@pytest.mark.privileged
def test_every_operation_reaches_all_of_eight_threads() -> None:
    """GOTCHAS G9, and what the kernel takes along (GOTCHAS G13)."""

    def mask(*names: str) -> str:
        return CapabilitySet(names).hex

    full, bounding = privileges.permitted.read(), privileges.bounding.read()
    zero = mask()
    assert isolated(sets_changed, pid_namespace=True) == [
        [1, full.without("net_raw", "chown").hex, full.hex],
        [1, full.without("chown").hex],
        [1, mask("net_raw", "kill", "chown")],
        [1, mask("net_raw", "kill")],
        [1, mask("net_raw")],
        [1, mask("kill", "chown"), zero],
        [1, bounding.without("sys_time").hex, full.hex],
        [1, mask("net_raw", "setpcap", "kill"), mask("net_raw", "setpcap", "kill"), mask("kill")],
        [1, zero, mask("net_raw", "setpcap", "kill")],
        [1, mask("net_raw", "setpcap"), zero],
        [1, zero],
        [1, zero, zero, zero, zero, zero],
    ]


def refused_changes() -> list[Any]:
    """What is not possible, with what the exception says; afterwards nothing has changed."""
    found: list[Any] = []

    def ask(call: Callable[[], object]) -> None:
        before = everyone()
        found.append([*refusal(call), everyone() == before])

    privileges.permitted.drop("mknod", "lease")
    privileges.bounding.drop("sys_time")
    ask(lambda: privileges.permitted.raise_("mknod"))
    ask(lambda: privileges.effective.raise_("mknod", "lease"))
    ask(lambda: privileges.bounding.raise_("sys_time"))
    ask(lambda: privileges.inheritable.raise_("sys_time"))  # permitted, but not bounding any more (GOTCHAS G13)
    ask(lambda: privileges.ambient.raise_("chown"))
    ask(lambda: privileges.ambient.set({"mknod"}))
    ask(lambda: privileges.effective.raise_(capabilities.cap_last_cap() + 1))
    ask(lambda: privileges.effective.set("typo"))
    ask(lambda: privileges.effective.set(5))  # type: ignore[arg-type]
    ask(lambda: privileges.effective.raise_(True))
    privileges.effective.drop("setpcap")
    ask(lambda: privileges.bounding.drop("chown"))
    ask(lambda: privileges.inheritable.raise_("mknod"))
    ask(lambda: privileges.set_securebits(Securebits.NOROOT))
    ask(lambda: privileges.bounding.drop("sys_time"))  # is not there: nothing to do, nothing needed
    return found


@changing
@pytest.mark.privileged
def test_what_is_not_possible_is_refused_by_name() -> None:
    beyond = capabilities.cap_last_cap() + 1
    lacks = "MissingCapability"
    assert isolated(refused_changes, pid_namespace=True) == [
        [lacks, "[Errno 1] permitted: cap_mknod is not in this set, and only an execve can add to it", True],
        [lacks, "[Errno 1] effective: cap_mknod, cap_lease is not permitted to this process", True],
        [lacks, "[Errno 1] bounding: cap_sys_time is not in this set, and nothing can add to it", True],
        [lacks, "[Errno 1] inheritable: cap_sys_time is not in the bounding set", True],
        [lacks, "[Errno 1] ambient: cap_chown is not in the inheritable set: raise it there first", True],
        [lacks, "[Errno 1] ambient: cap_mknod is not permitted to this process", True],
        ["ValueError", f"effective: this kernel does not have {beyond}", True],
        [
            "ValueError",
            "effective: 'typo' is no capability: a name such as 'cap_net_raw' or 'net_raw' is expected",
            True,
        ],
        [
            "TypeError",
            "effective: a set of capabilities from a number is ambiguous: use CapabilitySet.from_mask(5)",
            True,
        ],
        ["TypeError", "effective: a capability is a name or a number, not True", True],
        [lacks, "[Errno 1] bounding: dropping from it needs cap_setpcap in the effective set", True],
        [lacks, "[Errno 1] inheritable: cap_mknod is not permitted: adding it needs cap_setpcap", True],
        [lacks, "[Errno 1] securebits: changing them needs cap_setpcap in the effective set", True],
        ["returned", "None", True],
    ]


# -- flags


def flags_changed() -> list[Any]:
    idle = Idle(7)
    found: list[Any] = []

    def elsewhere(read: Callable[[], Any]) -> Any:
        got = []
        thread = threading.Thread(target=lambda: got.append(read()))
        thread.start()
        thread.join()
        return got[0]

    def note(result: object = None) -> None:
        found.append([result, int(privileges.securebits()), privileges.keepcaps(), elsewhere(privileges.keepcaps)])

    privileges.set_keepcaps(True)
    note()
    privileges.set_securebits(Securebits.NOROOT | Securebits.NO_SETUID_FIXUP | Securebits.NO_SETUID_FIXUP_LOCKED)
    note()
    note(refusal(lambda: privileges.set_securebits(Securebits.NO_SETUID_FIXUP_LOCKED)))
    note(refusal(lambda: privileges.set_securebits(Securebits.NO_SETUID_FIXUP)))
    note(refusal(lambda: privileges.set_securebits(1 << 12)))
    note(refusal(lambda: privileges.set_securebits(-1)))
    note(refusal(lambda: privileges.set_securebits(True)))
    bits = privileges.securebits() | Securebits.KEEP_CAPS_LOCKED | Securebits.NO_CAP_AMBIENT_RAISE
    privileges.set_securebits(bits)
    note(refusal(lambda: privileges.set_keepcaps(True)))
    privileges.inheritable.set("chown")
    note(refusal(lambda: privileges.ambient.raise_("chown")))
    note(refusal(lambda: privileges.set_keepcaps(1)))  # type: ignore[arg-type]
    found.append([[privileges.no_new_privs()], *({one.no_new_privs for one in privileges.threads().values()})])
    privileges.set_no_new_privs()
    privileges.set_no_new_privs()
    found.append([[privileges.no_new_privs()], *({one.no_new_privs for one in privileges.threads().values()})])
    found.append(setpriv())
    idle.end()
    return found


@changing
@pytest.mark.privileged
def test_securebits_keepcaps_and_no_new_privs() -> None:
    found = isolated(flags_changed, pid_namespace=True)
    witness = found.pop()
    assert found == [
        [None, 0b10000, True, True],
        [None, 0b1101, False, False],
        [["PermissionError", "[Errno 1] securebits: no_setuid_fixup is locked"], 0b1101, False, False],
        [
            ["PermissionError", "[Errno 1] securebits: no_setuid_fixup_locked cannot be removed"],
            0b1101,
            False,
            False,
        ],
        [["ValueError", "flags: 0x1000 has unknown flags: 0xfff are all flags"], 0b1101, False, False],
        [["ValueError", "flags: -0x1 has unknown flags: 0xfff are all flags"], 0b1101, False, False],
        [["TypeError", "flags: must be Securebits, not True"], 0b1101, False, False],
        [["PermissionError", "[Errno 1] securebits: keep_caps is locked"], 0b1101101, False, False],
        [
            [
                "PermissionError",
                "[Errno 1] ambient: the securebits of this process (no_cap_ambient_raise) forbid adding any",
            ],
            0b1101101,
            False,
            False,
        ],
        [["TypeError", "on: must be True or False, not 1"], 0b1101101, False, False],
        [[False], False],
        [[True], True],
    ]
    if witness:
        assert witness["no_new_privs"] == "1"
        # Older ones have no name for the last.
        assert witness["Securebits"].startswith("noroot,no_setuid_fixup,no_setuid_fixup_locked,keep_caps_locked,")


# -- not all threads


def other_thread_differs(how: str) -> list[Any]:
    """A thread has given up capabilities, or has its own filesystem id, by raw system calls."""
    libc = ctypes.CDLL(None)
    ready, over = threading.Event(), threading.Event()
    tids: list[int] = []

    def poorer() -> None:
        if how == "caps":
            header = (ctypes.c_uint32 * 2)(0x20080522, 0)
            number = 126 if os.uname().machine == "x86_64" else 91
            assert libc.syscall(number, header, (ctypes.c_uint32 * 6)()) == 0
        elif how == "deaf":
            mask = ctypes.c_uint64(1 << 32)
            number = 14 if os.uname().machine == "x86_64" else 135
            assert libc.syscall(number, 0, ctypes.byref(mask), None, 8) == 0
        tids.append(threading.get_native_id())
        ready.set()
        over.wait()

    thread = threading.Thread(target=poorer)
    thread.start()
    ready.wait()
    from fastproc.privileges import _all_threads as _credentials

    _credentials.TIMEOUT_NS = 300_000_000
    before = everyone()
    found: list[Any] = []
    for call in (
        lambda: privileges.effective.drop("chown"),
        lambda: privileges.drop_privileges(NOBODY, group=NOBODY, groups=[]),
        privileges.set_no_new_privs,
    ):
        if how == "caps" and call is privileges.set_no_new_privs:
            continue
        try:
            call()
        except NotAllThreads as error:
            found.append([error.changed, error.tid == tids[0], str(error).replace(f"thread {tids[0]} ", "thread TID ")])
    found.append(everyone() == before)
    over.set()
    thread.join()
    return found


@changing
@pytest.mark.privileged
def test_threads_that_differ_are_left_alone() -> None:
    differs, also, unchanged = isolated(other_thread_differs, "caps", pid_namespace=True)
    assert unchanged
    for changed, is_that_thread, text in (differs, also):
        assert (changed, is_that_thread) == (False, True)
        assert text.startswith("thread TID (python")
        assert "differs: capabilities Capabilities(effective=CapabilitySet('')" in text


@changing
@pytest.mark.privileged
def test_thread_that_cannot_be_reached_is_named_and_nothing_changes() -> None:
    found = isolated(other_thread_differs, "deaf", pid_namespace=True)
    why = (
        "thread TID cannot be reached within 0.3 s: it sleeps and does not handle signal 33: it has blocked it, or is "
        "a thread of the kernel, such as io_uring's; nothing was changed"
    )
    assert found == [
        [False, True, f"effective: {why}"],
        [False, True, f"drop_privileges: reach: {why}"],
        [False, True, f"no_new_privs: {why}"],
        True,
    ]


def changes_at_once() -> list[Any]:
    """Four threads raise and drop four capabilities: none undoes what another did."""
    names = ["chown", "kill", "net_raw", "mknod"]
    failed: list[str] = []

    def work(name: str) -> None:
        for _ in range(30):
            privileges.effective.drop(name)
            if name in privileges.effective.read():
                failed.append(name)
            privileges.effective.raise_(name)
            if name not in privileges.effective.read():
                failed.append(name)
        privileges.effective.drop(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [failed, everyone()[0][0], len(everyone())]


@changing
@pytest.mark.privileged
def test_changes_from_several_threads_do_not_undo_one_another() -> None:
    left = privileges.effective.read().without("chown", "kill", "net_raw", "mknod")
    assert isolated(changes_at_once, pid_namespace=True) == [[], left.hex, 1]


def while_others_work(rounds: int) -> list[Any]:
    """One of 8 threads changes all it can, again and again; the others spawn, spin, wait, start threads, change ids."""
    import fastproc

    over = threading.Event()
    failed: list[str] = []
    children: set[tuple[str, ...]] = set()
    spawned = [0]

    def guarded(work: Callable[[], object]) -> Callable[[], None]:
        def loop() -> None:
            while not over.is_set():
                try:
                    work()
                except Exception as error:
                    failed.append(repr(error))
                    return

        return loop

    def spawn() -> None:
        lines = fastproc.run("grep", "^Cap", "/proc/self/status", capture=True).lines()
        children.add(tuple(lines))
        spawned[0] += 1

    def breed() -> None:
        one = threading.Thread(target=int)
        one.start()
        one.join()

    def ids() -> None:
        os.setresgid(0, 0, 0)

    works = [spawn, spawn, spawn, breed, ids, lambda: sum(range(1000)), lambda: over.wait(0.001)]
    threads = [threading.Thread(target=guarded(work), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    shown: set[int] = set()
    changed = 0
    for _ in range(rounds):
        for name, some in (("chown", privileges.effective), ("kill", privileges.inheritable)):
            if name in some.read():
                some.drop(name)
            else:
                some.raise_(name)
            shown.add(len(everyone()))
            changed += 1
    over.set()
    for thread in threads:
        thread.join(60)
    stuck = sum(thread.is_alive() for thread in threads)
    # A child has an execve behind it, so for uid 0 the sets are full again but for what the process had inherited.
    inherited = {lines[0] for lines in children}
    return [failed, stuck, sorted(shown), changed, spawned[0], sorted(inherited)]


@changing
@pytest.mark.privileged
@pytest.mark.slow
def test_changes_while_others_spawn_and_start_threads() -> None:
    """Every change is the same in all threads when it returns, and no spawn is harmed by being held still."""
    failed, stuck, shown, changed, spawned, inherited = isolated(while_others_work, 12, pid_namespace=True)
    assert (failed, stuck, shown, changed) == ([], 0, [1], 24)
    assert spawned > 3
    assert set(inherited) <= {f"CapInh:\t{0:016x}", f"CapInh:\t{1 << 5:016x}"}


def in_a_fork() -> list[Any]:
    from fastproc.privileges import _all_threads as _credentials

    with _credentials.lock:  # as if another thread was at it
        locked = threading.Thread(target=_fork_and_drop)
        locked.start()
        locked.join()
    return [_codes, privileges.effective.read() == privileges.permitted.read()]


_codes: list[int] = []


def _fork_and_drop() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            privileges.effective.drop("chown")
            os._exit("chown" in privileges.effective.read())
        finally:
            os._exit(9)
    _codes.append(os.waitpid(pid, 0)[1])


@changing
@pytest.mark.privileged
def test_fork_while_another_thread_changes() -> None:
    assert isolated(in_a_fork, pid_namespace=True) == [[0], True]


MS_BIND = 4096


def false_proc() -> list[Any]:
    libc = ctypes.CDLL(None, use_errno=True)
    saved = Path("/proc/thread-self/status").read_text()
    held = privileges.effective.read()
    assert libc.mount(b"tmpfs", b"/proc", b"tmpfs", 0, None) == 0
    found = [refusal(lambda: privileges.effective.drop("chown"))]
    os.makedirs(f"/proc/thread-self/task/{os.getpid()}")
    os.symlink("thread-self", "/proc/self")
    for folder in ("", f"/task/{os.getpid()}"):
        Path(f"/proc/thread-self{folder}/status").write_text(saved)
    found.append(refusal(lambda: privileges.effective.drop("chown")))
    assert libc.umount2(b"/proc", 2) == 0
    over = f"/proc/{os.getpid()}/task/{os.getpid()}/status".encode()
    with tempfile.NamedTemporaryFile("w") as liar:
        liar.write(saved.replace(held.hex, f"{0:016x}"))
        liar.flush()
        assert libc.mount(liar.name.encode(), over, None, MS_BIND, None) == 0
        found.append(refusal(privileges.identity))
        assert libc.umount2(over, 2) == 0
    found.append([privileges.effective.read() == held])
    return found


@changing
@pytest.mark.privileged
def test_false_proc_is_not_believed() -> None:
    """GOTCHAS G23: not for reading, and not as the proof that all threads were reached."""
    none, fake, lies, unchanged = isolated(false_proc, pid_namespace=True)
    assert none == ["FileNotFoundError", "[Errno 2] no /proc is mounted: '/proc/thread-self/status'"]
    assert fake == none
    assert lies == ["OSError", "[Errno 18] this /proc is not this process's: the kernel reports other capabilities"]
    assert unchanged == [True]


# -- a kernel that fails, or lies

SPOILED: dict[str, tuple[str, Callable[[], object]]] = {
    "effective": ("capset", lambda: privileges.effective.drop("chown")),
    "permitted": ("capset", lambda: privileges.permitted.drop("chown")),
    "inheritable": ("capset", lambda: privileges.inheritable.raise_("chown")),
    "bounding": ("bounding", lambda: privileges.bounding.drop("chown")),
    "ambient": ("ambient", lambda: privileges.ambient.raise_("kill")),
    "securebits": ("securebits", lambda: privileges.set_securebits(Securebits.NOROOT)),
    "keepcaps": ("keepcaps", lambda: privileges.set_keepcaps(True)),
    "no_new_privs": ("no_new_privs", privileges.set_no_new_privs),
}


def spoiled_changes() -> list[Any]:
    def one(name: str, error: int) -> list[Any]:
        def work() -> list[Any]:
            privileges.inheritable.set("kill")
            spoil(*CALLS[SPOILED[name][0]], error)
            start_threads(3)  # they have the filter too
            before = everyone()
            try:
                SPOILED[name][1]()
            except NotAllThreads as failure:
                return ["NotAllThreads", failure.changed, everyone() == before]
            except (OSError, ValueError) as failure:
                return [type(failure).__name__, str(failure), everyone() == before]
            return ["returned"]

        return [name, error, *forked(work, lambda pid: None)[0]]

    return [one(name, error) for name in SPOILED for error in (0, 1, 11)]


@changing
@pytest.mark.privileged
def test_change_that_fails_or_lies_is_found() -> None:
    """GOTCHAS G3: never a return, and nothing has changed."""
    found = isolated(spoiled_changes, pid_namespace=True)
    assert len(found) == 24
    for name, error, kind, text, unchanged in found:
        where = (name, error, kind, text)
        assert unchanged, where
        if error == 0:
            assert (kind, text) == ("NotAllThreads", True), where
        elif error == 11:
            assert (kind, "Resource temporarily unavailable" in text) == ("BlockingIOError", True), where
        elif name == "securebits":
            assert (kind, "this kernel does not have all of noroot" in text) == ("ValueError", True), where
        else:
            assert (kind, "the kernel or a security module refuses it" in text) == ("PermissionError", True), where


def one_thread_refuses() -> list[Any]:
    """A filter in one other thread only."""
    ready, over = threading.Event(), threading.Event()
    tids: list[int] = []

    def filtered() -> None:
        spoil(*CALLS["capset"], 1)
        tids.append(threading.get_native_id())
        ready.set()
        over.wait()

    start_threads(3)
    threading.Thread(target=filtered, daemon=True).start()
    ready.wait()
    try:
        privileges.effective.drop("chown")
    except NotAllThreads as error:
        return [error.changed, error.tid == tids[0], str(error).replace(str(tids[0]), "TID"), len(everyone())]
    return ["returned"]


@changing
@pytest.mark.privileged
def test_change_that_one_other_thread_cannot_make_is_told() -> None:
    text = (
        "effective: Operation not permitted in thread TID, but not in this thread: the threads differ now, and the "
        "process should end"
    )
    assert isolated(one_thread_refuses, pid_namespace=True) == [True, True, text, 2]


# -- without privilege


def unprivileged() -> dict[str, list[str]]:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    before = everyone()
    calls: dict[str, Callable[[], object]] = {
        "effective": lambda: privileges.effective.raise_("net_raw"),
        "permitted": lambda: privileges.permitted.raise_("net_raw"),
        "inheritable": lambda: privileges.inheritable.raise_("net_raw"),
        "ambient": lambda: privileges.ambient.raise_("net_raw"),
        "bounding": lambda: privileges.bounding.drop("net_raw"),
        "securebits": lambda: privileges.set_securebits(Securebits.NOROOT),
        "uid": lambda: privileges.drop_privileges(1, group=NOBODY, groups="keep", bounding=privileges.bounding.read()),
        "gid": lambda: privileges.drop_privileges(group=1, bounding=privileges.bounding.read()),
        "groups": lambda: privileges.drop_privileges(groups=[1], bounding=privileges.bounding.read()),
        "keep": lambda: privileges.drop_privileges(keep={"chown"}),
        "limit": lambda: privileges.drop_privileges(),
        "temporarily": lambda: privileges.temporarily(1, group=NOBODY, groups="keep").__enter__(),
        "temporarily gid": lambda: privileges.temporarily(NOBODY, group=1, groups="keep").__enter__(),
        "keepcaps": lambda: privileges.set_keepcaps(True),
        "drop own": lambda: (
            privileges.drop_privileges(NOBODY, group=NOBODY, groups="keep", bounding=privileges.bounding.read()).uids
        ),
        "clear": lambda: [getattr(privileges, name).clear() for name in SETS if name != "bounding"],
    }
    found = {name: refusal(call) for name, call in calls.items()}
    after = everyone()
    found["same"] = [str(before[0][:5] == after[0][:5]), str(len(after))]
    return found


@changing
@pytest.mark.privileged
def test_who_has_no_privilege_is_told_which_is_missing() -> None:
    found = isolated(unprivileged, pid_namespace=True)
    named = {
        "effective": "cap_net_raw",
        "permitted": "cap_net_raw",
        "inheritable": "cap_setpcap",
        "ambient": "cap_net_raw",
        "bounding": "cap_setpcap",
        "securebits": "cap_setpcap",
        "uid": "cap_setuid",
        "gid": "cap_setgid",
        "groups": "cap_setgid",
        "keep": "cap_chown",
        "limit": "cap_setpcap",
        "temporarily": "cap_setuid",
        "temporarily gid": "cap_setgid",
    }
    for name, capability in named.items():
        assert found[name][0] == "MissingCapability", (name, found[name])
        assert capability in found[name][1], (name, found[name])
    # What needs none works.
    assert found["keepcaps"] == ["returned", "None"]
    assert found["drop own"] == ["returned", "Ids(real=65534, effective=65534, saved=65534, filesystem=65534)"]
    assert found["clear"] == ["returned", "[None, None, None, None]"]
    assert found["same"] == ["True", "1"]


# -- witnesses that are not ours


def witnesses() -> list[Any]:
    privileges.inheritable.set("net_raw,chown")
    privileges.ambient.set("chown")
    privileges.bounding.drop("sys_time", "mknod")
    privileges.permitted.drop("kill")
    mine = privileges.identity()
    names = [list(some.names) for some in mine.capabilities]
    getpcaps = shutil.which("getpcaps", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    told = ""
    if getpcaps:
        told = subprocess.run([getpcaps, str(os.getpid())], capture_output=True, text=True, check=True).stdout
    text = f"{os.getpid()}: {capabilities.to_text(mine.capabilities)}\n"
    return [names, setpriv(), capsh(), told, text]


@changing
@pytest.mark.privileged
def test_setpriv_capsh_and_getpcaps_agree() -> None:
    (_, _, inheritable, bounding, ambient), dump, printed, told, text = isolated(witnesses, pid_namespace=True)

    def short(names: list[str]) -> str:
        return ",".join(name.removeprefix("cap_") for name in names)

    if not (dump and printed and told):
        pytest.skip("no setpriv, capsh or getpcaps (Debian: util-linux, libcap2-bin)")
    assert dump["Inheritable capabilities"] == short(inheritable)
    assert dump["Ambient capabilities"] == short(ambient)
    assert dump["Capability bounding set"] == short(bounding)
    assert printed["Bounding set"] == ",".join(bounding)
    assert printed["Ambient set"] == ",".join(ambient)
    assert told == text
