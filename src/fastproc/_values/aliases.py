"""The types of what is given to commands. For type checkers only: nothing imports it when the program runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Protocol, TypedDict

from fastproc._values.capabilities import Capabilities, CapabilitySet
from fastproc._values.capture import CaptureLimit
from fastproc._values.combination import Substitute
from fastproc._values.command import Command
from fastproc._values.plan import Plan
from fastproc._values.pty import Pty
from fastproc._values.redirect import Append, Special
from fastproc._values.tree import TreeEnd


class HasFileno(Protocol):
    """A file, socket or anything else with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


class Killer(Protocol):
    """What ends a whole tree of processes; handed to the engine, which knows no cgroups. Nothing here waits."""

    def plans(self, plan: Plan) -> Iterator[Plan]:
        """Before the spawn: give the plan changed so that the tree can be found; the next way when one is refused."""
        ...

    def signal(self, sig: int) -> bool:
        """Send a signal to everybody in the tree but its leader's handle, once; return whether that has got it too."""
        ...

    def kill(self) -> bool:
        """Send SIGKILL to everybody who is found now; return whether nobody was there."""
        ...

    def is_gone(self) -> bool:
        """Return whether nobody is there."""
        ...

    def guard(self, on: bool) -> None:
        """Kill the tree when the child's handle is dropped, or do so no more.

        An interrupt can come before the end of a `with` block has begun.
        """
        ...

    def end(self) -> TreeEnd:
        """Return what has happened up to now."""
        ...

    def close(self) -> None:
        """Give up what belongs to the tree. May be called again."""
        ...


Text = str | bytes | PathLike[str] | PathLike[bytes]
Path = Text
Environ = Mapping[str, Text] | Mapping[bytes, Text]
Stream = None | Special | int | str | Append | HasFileno
"""A normalised stream."""
StreamArgument = None | int | Text | Append | HasFileno
Signal = int | str
Limit = int | str | None
BytesLike = bytes | bytearray | memoryview


class OptionsDict(TypedDict, total=False):
    """The keyword options of a command, with the types that each takes."""

    cwd: Path | int | None
    env: Environ | None
    env_add: Environ
    env_remove: Iterable[str | bytes]
    argv0: Text | None
    stdin: StreamArgument
    stdout: StreamArgument
    stderr: StreamArgument
    swap_outputs: bool
    fds: Mapping[int, int | HasFileno]
    pass_fds: Iterable[int | HasFileno]
    listen_fds: Mapping[str, int | HasFileno | Sequence[int | HasFileno]] | Iterable[int | HasFileno]
    close_fds: bool
    umask: int | None
    setsid: bool | None
    pgid: int | None
    ctty: int | None
    foreground: bool
    nice: int | None
    ionice: str | tuple[str, int] | None
    affinity: Iterable[int] | None
    scheduler: str | tuple[str, int] | None
    rlimits: Mapping[str, Limit | tuple[Limit, Limit]] | Mapping[int, Limit | tuple[Limit, Limit]]
    oom_score_adj: int | None
    sigmask: Iterable[Signal] | str
    sigdefault: Iterable[Signal]
    sigignore: Iterable[Signal]
    restore_signals: bool
    pdeathsig: Signal | None
    die_with_parent: bool
    kill_tree: bool
    subreaper: bool
    no_new_privs: bool | None
    timer_slack_ns: int | None
    cgroup: Path | int | None
    pipe_size: int | None
    pty: bool | tuple[int, int] | Pty | None
    user: str | int | None
    group: str | int | None
    groups: Iterable[str | int] | str | None
    capabilities: Capabilities | CapabilitySet | Iterable[int | str] | None
    ambient: CapabilitySet | Iterable[int | str] | None
    bounding: CapabilitySet | Iterable[int | str] | None
    securebits: int | Iterable[str] | None
    root: Path | int | None
    namespaces: Iterable[str] | None
    uid_map: Iterable[tuple[int, int, int]] | None
    gid_map: Iterable[tuple[int, int, int]] | None
    time_offsets: Mapping[str, float] | None
    landlock: Mapping[str, str] | None
    seccomp: BytesLike | None
    clean_env: Iterable[str] | bool | None
    check: bool
    ok_codes: Iterable[int] | int
    capture: bool
    input: BytesLike | Iterable[bytes] | None
    timeout: float | None
    grace: float
    drain_timeout: float | None
    idle_timeout: float | None
    stdout_limit: CaptureLimit | None
    stderr_limit: CaptureLimit | None
    on_line: Callable[[str, Any], object] | None
    tee: bool
    sigpipe_ok: bool
    relative_to_parent: bool
    before_spawn: Callable[[Command], Command] | Iterable[Callable[[Command], Command]]
    substitutes: Iterable[Substitute]
