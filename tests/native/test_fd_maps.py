"""Descriptor maps against a model, and no foreign descriptor in any child.

The child lists its descriptors with device and inode; the model says which they must be.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from random import Random
from typing import Any

import pytest

from conftest import MECHANISMS, isolated
from support.programs import Probed, Programs, fd_id

MAPS = 10_000
CHUNK = 50
LOG_TARGET = 21  # where the child finds the file for its answer

LOW_TARGETS = tuple(range(3, 16))
CLOSED_NUMBER = 19


class MapChecker:
    """Spawns probes with maps and compares what they find with the model."""

    def __init__(self, probe: str) -> None:
        """Open the sources: distinct files on low and high numbers, close-on-exec and not."""
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.probe = probe
        self.high = min(soft - 1, 4000)
        self.targets = (*LOW_TARGETS, 100, 255, 256, self.high - 1, self.high)
        self.sources: list[int] = []
        for number in (*range(3, 13), 100, 255, self.high - 2, self.high):
            first = os.memfd_create(f"source{number}")
            made = self._aside(first)
            os.close(first)
            os.dup2(made, number, inheritable=number % 3 == 0)
            os.close(made)
            self.sources.append(number)
        self.saved = [self._aside(fd) for fd in range(3)]
        self.log = self._aside(os.memfd_create("log"))
        self.env = {"PROBE": "fds", "PROBE_FD": str(LOG_TARGET)}
        self.null = fd_id(os.open("/dev/null", os.O_RDONLY))
        self.checked = 0
        self.at = 0

    def _aside(self, fd: int) -> int:
        import fcntl

        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 60)

    def open_fds(self) -> dict[int, tuple[str, bool]]:
        """Return number -> (identity, inheritable) of all open descriptors."""
        found = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                found[int(name)] = (fd_id(int(name)), os.get_inheritable(int(name)))
            except OSError:
                continue
        return found

    def expected(self, case: dict[str, Any], parent: dict[int, tuple[str, bool]]) -> dict[int, str]:
        """Return the model's answer: the child's descriptors, from those of the parent."""
        import fastproc

        found: dict[int, str] = {}
        if not case["close_fds"]:
            found = {fd: identity for fd, (identity, inheritable) in parent.items() if inheritable and fd > 2}
        streams: list[str] = []
        for slot, choice in enumerate(case["stdio"]):
            if choice is None:
                streams.append(parent[slot][0] if slot in parent else self.null)
            elif choice is fastproc.DEVNULL:
                streams.append(self.null)
            elif isinstance(choice, int) and choice >= 0:
                streams.append(parent[choice][0])
            else:
                streams.append("")
        for slot, choice in enumerate(case["stdio"]):
            if choice is fastproc.STDOUT or choice is fastproc.STDERR:
                streams[slot] = streams[1 if choice is fastproc.STDOUT else 2]
        if case["swap"]:
            streams[1], streams[2] = streams[2], streams[1]
        found |= dict(enumerate(streams))
        found |= {target: parent[source][0] for target, source in case["fds"].items()}
        found[LOG_TARGET] = parent[self.log][0]
        return found

    def check(self, case: dict[str, Any]) -> None:
        """Spawn one probe and compare."""
        import fastproc
        from fastproc import _native

        _native.force(case["mechanism"])
        options: dict[str, Any] = {"fds": case["fds"] | {LOG_TARGET: self.log}, "close_fds": case["close_fds"]}
        options |= dict(zip(("stdin", "stdout", "stderr"), case["stdio"], strict=True))
        if case["swap"]:
            options["swap_outputs"] = True
        before = self.open_fds()
        for fd in case["closed"]:
            os.close(fd)
        try:
            expected = self.expected(case, {fd: what for fd, what in before.items() if fd not in case["closed"]})
            door = fastproc.run if case["run"] else fastproc.start
            outcome = door(self.probe, env=self.env, **options)
            code = outcome.returncode if case["run"] else outcome.wait(20)
        finally:
            for fd in case["closed"]:
                os.dup2(self.saved[fd], fd, inheritable=True)
        line = os.pread(self.log, 1_000_000, self.at)
        self.at += len(line)
        got = Probed(line).fd_ids
        assert (code, got) == (0, expected), case
        assert self.open_fds() == before, case
        self.checked += 1


def check_maps(probe: str, count: int, seed: int) -> dict[str, Any]:
    """Check random maps, in chunks that hypothesis draws."""
    import hypothesis
    from hypothesis import strategies as st

    import fastproc
    from fastproc import _native

    checker = MapChecker(probe)
    usable = [name for name in MECHANISMS if name not in _native.refused()]
    usable += [name for name in usable if name.endswith("_vm")] * 3  # the others are slow in a process of this size
    source = st.sampled_from([*checker.sources, 0, 1, 2])
    stream = st.one_of(st.none(), st.just(fastproc.DEVNULL), source)

    @st.composite
    def cases(draw: Any) -> dict[str, Any]:
        closed = draw(st.sets(st.sampled_from([0, 1, 2])))
        stdio = [draw(stream), draw(st.one_of(stream, st.just(fastproc.STDERR))), draw(stream)]
        if stdio[1] is not fastproc.STDERR and draw(st.integers(0, 4)) == 0:
            stdio[2] = fastproc.STDOUT
        fds = draw(st.dictionaries(st.sampled_from(checker.targets), source, max_size=8))
        # A closed number cannot be a source; that case has its own test.
        stdio = [None if isinstance(item, int) and item in closed and item >= 0 else item for item in stdio]
        return {
            "closed": sorted(closed),
            "stdio": stdio,
            "fds": {target: item for target, item in fds.items() if item not in closed},
            "close_fds": draw(st.integers(0, 3)) > 0,
            "swap": draw(st.integers(0, 5)) == 0 and not closed & {1, 2},
            "mechanism": draw(st.sampled_from(usable)),
            "run": draw(st.booleans()),
        }

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count // CHUNK,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(st.integers(0, 2**32), cases())
    def chunk(number: int, first: dict[str, Any]) -> None:
        checker.check(first)
        random = Random(number)
        for _ in range(CHUNK - 1):
            checker.check(plain_case(random, checker, usable))

    chunk()
    while checker.checked < count:  # hypothesis ends early when it has seen everything
        checker.check(plain_case(Random(checker.checked), checker, usable))
    return {"checked": checker.checked}


def plain_case(random: Random, checker: MapChecker, usable: list[str]) -> dict[str, Any]:
    """Return a random case, cheaper to make than a drawn one."""
    import fastproc

    closed = [fd for fd in range(3) if random.random() < 0.2]
    sources = [fd for fd in (*checker.sources, 0, 1, 2) if fd not in closed]
    choices: list[Any] = [None, fastproc.DEVNULL, random.choice(sources), random.choice(sources)]
    stdio = [random.choice(choices) for _ in range(3)]
    if random.random() < 0.2:
        stdio[2] = fastproc.STDOUT
    elif random.random() < 0.2:
        stdio[1] = fastproc.STDERR
    fds = {random.choice(checker.targets): random.choice(sources) for _ in range(random.randrange(9))}
    kind = random.randrange(4)
    if kind == 0:  # a rotation: swaps and chains
        ring = random.sample([fd for fd in sources if fd > 2], 4)
        fds |= dict(zip(ring, ring[1:] + ring[:1], strict=True))
    elif kind == 1:  # onto itself
        fds |= {fd: fd for fd in random.sample([fd for fd in sources if fd > 2], 3)}
    return {
        "closed": closed,
        "stdio": stdio,
        "fds": fds,
        "close_fds": random.random() < 0.8,
        "swap": random.random() < 0.15 and not {1, 2} & set(closed),
        "mechanism": random.choice(usable),
        "run": random.random() < 0.5,
    }


@pytest.mark.slow
def test_random_maps_agree_with_the_model(programs: Programs) -> None:
    """GOTCHAS C6, C7, C8, B2: 10,000 random maps, 0 mismatches, and the parent's descriptors untouched."""
    found = isolated(check_maps, programs.probe, MAPS, 20261124, timeout=300)
    print(f"descriptor maps: {found['checked']} of {found['checked']} agree")
    assert found["checked"] >= MAPS


def closed_streams(probe: str, mechanism: str) -> list[str]:
    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    wrong = []
    saved = [os.dup(fd) for fd in range(3)]
    null = fd_id(os.open("/dev/null", os.O_RDONLY))
    for bits in range(8):
        closed = [fd for fd in range(3) if bits >> fd & 1]
        for fd in closed:
            os.close(fd)
        try:
            result = fastproc.run(probe, stdout=fastproc.PIPE, input=b"unread")
            both = fastproc.run("sh", "-c", "cat; echo err >&2", input=b"data", capture=True)
            inherited = Probed(fastproc.run(probe, stdout=fastproc.PIPE).stdout).fd_ids
        finally:
            for fd in closed:
                os.dup2(saved[fd], fd)
        if set(Probed(result.stdout).fd_ids) != {0, 1, 2}:
            wrong.append(f"{closed}: {result.stdout!r}")
        if (both.stdout, both.stderr) != (b"data", b"err\n"):
            wrong.append(f"{closed}: {both}")
        if (inherited[0] == null) != (0 in closed) and fd_id(0) != null:
            wrong.append(f"{closed}: stdin is {inherited[0]}")
        if 2 in closed and inherited[2] != null:
            wrong.append(f"{closed}: stderr is {inherited[2]}")
    return wrong


def test_closed_standard_streams_become_null(mechanism: str, programs: Programs) -> None:
    """GOTCHAS C8: with any of 0, 1, 2 closed in the parent, the pipes are right and the child has all three."""
    assert isolated(closed_streams, programs.probe, mechanism) == []


def swapped_closed(probe: str, mechanism: str) -> list[Any]:
    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    log = os.memfd_create("log")
    null = fd_id(os.open("/dev/null", os.O_RDONLY))
    out = fd_id(1)
    saved = os.dup(2)
    os.close(2)
    try:
        fastproc.run(probe, swap_outputs=True, fds={9: log}, env={"PROBE": "fds", "PROBE_FD": "9"})
    finally:
        os.dup2(saved, 2)
    ids = Probed(os.pread(log, 10_000, 0)).fd_ids
    return [ids[1] == null, ids[2] == out]


def test_swapped_outputs_with_a_closed_stream(mechanism: str, programs: Programs) -> None:
    """With 2 closed in the parent and the outputs swapped, the child's 1 is /dev/null and its 2 is the parent's 1."""
    assert isolated(swapped_closed, programs.probe, mechanism) == [True, True]


def test_closed_source_is_refused(mechanism: str) -> None:
    """A number that is not open gives EBADF before any child exists, and says which."""
    import fastproc

    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run("true", fds={5: CLOSED_NUMBER + 500})
    assert (caught.value.errno, caught.value.stage) == (9, "fds")
    assert str(CLOSED_NUMBER + 500) in str(caught.value)
    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run("true", stdout=CLOSED_NUMBER + 500)
    assert (caught.value.errno, caught.value.stage) == (9, "fds")


def test_many_descriptors_are_passed(mechanism: str, programs: Programs) -> None:
    """GOTCHAS C19: more pairs than fit on any stack."""
    import fastproc

    read_end, write_end = os.pipe()
    try:
        fds = dict.fromkeys(range(10, 900), read_end)
        probed = Probed(fastproc.run(programs.probe, stdout=fastproc.PIPE, fds=fds, env={"PROBE": "fds"}).stdout)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert set(probed.fd_ids) == {0, 1, 2, *fds}


def without_close_range(probe: str, hostile: str, mechanism: str, also: str) -> list[int] | str:
    """Return the child's descriptors, or the failure's stage, where close_range(2) is refused."""
    import ctypes

    import fastproc
    from fastproc import _native

    library = ctypes.CDLL(hostile)
    made = os.memfd_create("leak")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = min(soft - 1, 5000)
    os.dup2(made, high, inheritable=True)
    os.dup2(made, 7, inheritable=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, soft), hard))  # GOTCHAS C5: 5000 is above it and open
    sys_close_range, sys_getdents64 = {"x86_64": (436, 217), "aarch64": (436, 61)}[os.uname().machine]
    assert library.hostile_refuse(sys_close_range, 1, -1, 0) == 0
    log = os.memfd_create("log")
    if also == "getdents64":
        assert library.hostile_refuse(sys_getdents64, 1, -1, 0) == 0
    _native.force(mechanism)
    options: dict[str, Any] = {"fds": {9: log}, "env": {"PROBE": "fds", "PROBE_FD": "9"}}
    if also == "getdents64":
        # The probe cannot list either: a shell looks at the numbers in question.
        argv: tuple[str, ...] = ("sh", "-c", f'for n in 7 {high}; do [ -e /proc/self/fd/$n ] && echo "$n" >&9; done; :')
    else:
        argv = (probe,)
    try:
        fastproc.run(*argv, **options)
    except fastproc.SpawnError as error:
        return error.stage
    if also == "getdents64":
        return [0, 1, 2, 9, *map(int, os.pread(log, 100, 0).split())]
    return sorted(Probed(os.pread(log, 100_000, 0)).fd_ids)


def test_close_range_refused_by_a_filter(mechanism: str, programs: Programs) -> None:
    """GOTCHAS C3, C5: then by listing, and nothing leaks, not above the soft limit either."""
    assert isolated(without_close_range, programs.probe, programs.hostile, mechanism, "") == [0, 1, 2, 9]


def test_nothing_lists_and_nothing_closes(mechanism: str, programs: Programs) -> None:
    """GOTCHAS C4: where neither works the child does not start; a half-closed child is never run."""
    found = isolated(without_close_range, programs.probe, programs.hostile, mechanism, "getdents64")
    assert found in ("close_fds", "mechanism", "exec", [0, 1, 2, 9])
    if mechanism != "posix_spawn":
        assert found == "close_fds"


def nonblocking_kept(probe: str, mechanism: str) -> list[Any]:
    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    read_end, write_end = os.pipe()
    os.dup2(read_end, 0)
    before = [os.get_blocking(fd) for fd in range(3)]
    probed = Probed(fastproc.run(probe, stdout=fastproc.PIPE, stdin=read_end).stdout)
    fed = Probed(fastproc.run(probe, input=b"x" * 10, capture=True).stdout)
    with fastproc.start(probe, stdin=fastproc.PIPE, stdout=fastproc.PIPE) as child:
        assert child.stdout is not None
        started = Probed(child.stdout.read())
    os.close(write_end)
    children = [fd["nonblock"] for said in (probed, fed, started) for fd in said.fields["fds"].values()]
    return [before == [os.get_blocking(fd) for fd in range(3)], any(children)]


def test_nonblocking_flag_never_leaves_our_ends(mechanism: str, programs: Programs) -> None:
    """GOTCHAS C10: the child's streams block, and the parent's inherited ones are not touched."""
    assert isolated(nonblocking_kept, programs.probe, mechanism) == [True, False]


def noisy_spawns(probe: str, count: int, mechanisms: list[str], spawners: int = 32, openers: int = 8) -> dict[str, Any]:
    """Spawn from many threads while others open inheritable descriptors and fork; count what does not belong."""
    import warnings

    import fastproc
    from fastproc import _native

    warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads: that is the point
    sys.setswitchinterval(0.0005)
    stop = threading.Event()
    foreign: list[Any] = []
    done = [0]
    lock = threading.Lock()
    null = fd_id(os.open("/dev/null", os.O_RDONLY))

    def disturb(number: int) -> None:
        while not stop.is_set():
            fds = [os.open("/etc/passwd", os.O_RDONLY), *os.pipe()]
            for fd in fds:
                os.set_inheritable(fd, True)
            if number % 4 == 0:
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
            for fd in fds:
                os.close(fd)

    def spawn() -> None:
        while True:
            with lock:
                if done[0] >= count:
                    return
                done[0] += 1
            result = fastproc.run(probe, stdin=fastproc.DEVNULL, capture=True, env={"PROBE": "fds"})
            fds = Probed(result.stdout).fields["fds"]
            modes = {number: fd["mode"] for number, fd in fds.items()}
            if modes != {"0": "rw", "1": "w", "2": "w"} or fds["0"]["id"] != null or fds["1"]["id"] == fds["2"]["id"]:
                foreign.append(fds)

    total = 0
    disturbers = [threading.Thread(target=disturb, args=(number,)) for number in range(openers)]
    for thread in disturbers:
        thread.start()
    try:
        for mechanism in mechanisms:
            _native.force(mechanism)
            done[0] = 0
            threads = [threading.Thread(target=spawn) for _ in range(spawners)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            total += done[0]
    finally:
        stop.set()
        for thread in disturbers:
            thread.join()
    return {"children": total, "foreign": foreign}


@pytest.mark.slow
def test_no_foreign_descriptor_in_any_child(programs: Programs) -> None:
    """GOTCHAS C1: 32 threads spawn while 8 others open inheritable descriptors and fork."""
    from fastproc import _native

    usable = [name for name in MECHANISMS if name not in _native.refused()]
    found = isolated(noisy_spawns, programs.probe, 300, usable, timeout=180)
    assert found == {"children": 300 * len(usable), "foreign": []}


def failing_among_sleepers(mechanism: str) -> float:
    """Return the longest time of a failing spawn while others start long-lived children."""
    import time

    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    longest = [0.0]
    stop = threading.Event()
    sleepers: list[Any] = []

    def start() -> None:
        while not stop.is_set() and len(sleepers) < 200:
            sleepers.append(fastproc.start("sleep", "30"))

    def fail() -> None:
        for _ in range(40):
            begin = time.monotonic()
            try:
                fastproc.run("/nonexistent/program")
            except FileNotFoundError:
                longest[0] = max(longest[0], time.monotonic() - begin)

    threads = [threading.Thread(target=start) for _ in range(2)] + [threading.Thread(target=fail) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads[2:]:
        thread.join()
    stop.set()
    for thread in threads[:2]:
        thread.join()
    for child in sleepers:
        child.kill()
        child.wait()
    return longest[0]


def test_failing_spawns_do_not_wait_for_other_children(mechanism: str) -> None:
    """GOTCHAS B1: nobody else's long-lived child holds the way of the report."""
    assert 0 < isolated(failing_among_sleepers, mechanism) < 3.0
