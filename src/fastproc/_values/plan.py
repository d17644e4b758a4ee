"""Lowering: a Command and what the engine resolved for it become a Plan of bytes and ints, ready for the C core.

Pure. The part that depends only on the options is made once per Options (`ResolvedOptions`), the part that depends on
the arguments once per Command (its blob). A Plan is kept on its Command while the environment stays the same object.
"""

from __future__ import annotations

from os import fsencode

from fastproc._values.checks import IDENTITY
from fastproc._values.environment import DEFAULT_PATH, Environment, check_strings, edited_by, own_environment, prefixes
from fastproc._values.options import COMPOSED, EXCHANGED, RUN_LEVEL, fd_pairs
from fastproc._values.redirect import (
    MEMFD,
    STDERR,
    STDIO_INHERIT,
    STDIO_PARENT_STDERR,
    STDIO_PARENT_STDOUT,
    STDOUT,
    on_terminal,
    stdio_number,
    streams,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from fastproc._values.capture import CaptureLimit
    from fastproc._values.options import Options
    from fastproc._values.pty import Pty
    from fastproc._values.redirect import Stream

    Stdio = tuple[int, int, int]
    FdPairs = tuple[tuple[int, int], ...]

    class Lowerable(Protocol):
        """A Command, for those below it."""

        _argv: tuple[str, ...]
        _blob: bytes
        _options: Options
        _plan: Plan | None

        @property
        def argv(self) -> tuple[str, ...]: ...


# execve(2): MAX_ARG_STRLEN is 32 pages for one string with its NUL (GOTCHAS F7); with larger pages it is more.
STRING_MAX = 131072


_ENVIRONMENT = frozenset(("env", "env_add", "env_remove", "clean_env", "listen_fds"))
_OPENED = frozenset(("root", "landlock"))


class ResolvedOptions:
    """What an Options means for every command that has it.

    Attributes:
        streams: normalised stdin, stdout, stderr, with `capture` and `input` taken into account.
        stdio: the same as FP_STDIO_* or descriptor numbers; None when one of them must be opened first.
        fds: pairs (child's, parent's number); None when one is a file whose number must be asked for.
        fd_sources: the same pairs with the files themselves.
        cwd, cgroup: path, descriptor number, or None; cwd_fd, cgroup_fd: the descriptor number, or -1.
        argv0: what replaces the first argument, or None.
        same_environment: the child's environment is the parent's; environment: the command's own, or None.
        identity: the options about who the child is, when there is one; else None.
        needs_io: whether anything must be opened or asked for before lowering: stdio, fds, cwd, cgroup or identity.
        exchanged: what the bulk path cannot do is asked for: limits, files in memory, callbacks, an idle_timeout, input
            from an iterator.
        composed: it takes more than one spawn, or a Command that is not known yet: it is run as a pipeline.
        relative_to_parent: as the option.
        plain: nothing but streams, checks and times differs from the defaults: a run needs no Plan.
        direct: the same, but for kernel attributes and an identity for which nothing has to be opened.
        swapped: stdout and stderr are exchanged: what comes from the pipe of one is the other's.
        attr: the AttrSpec, see attributes.attr_spec(); None when all is default.
        check, ok_codes, input: as the options.
        timeout_ns, grace_ns, drain_ns: nanoseconds, -1 for none.
        leads: whether the child is the leader of a process group of its own, or of a session.
        kill_tree, idle_timeout: as the options.
        limits: stdout_limit and stderr_limit; on_line, tee: as the options.
        pty: as the option; on_terminal: which of the streams are this terminal.
        adopting: these with the child as the subreaper of its descendants, made by containment.
        native: free for the caller's prepared struct of attr.
        request: free for the caller's prepared request of a plain or direct run.
        requests: free for the caller's requests of a direct run by the ids that names led to.
    """

    __slots__ = (
        "_edited",
        "_options",
        "adopting",
        "argv0",
        "attr",
        "cgroup",
        "cgroup_fd",
        "check",
        "composed",
        "cwd",
        "cwd_fd",
        "direct",
        "drain_ns",
        "environment",
        "exchanged",
        "fd_sources",
        "fds",
        "grace_ns",
        "identity",
        "idle_timeout",
        "input",
        "kill_tree",
        "leads",
        "limits",
        "native",
        "needs_io",
        "ok_codes",
        "on_line",
        "on_terminal",
        "plain",
        "pty",
        "relative_to_parent",
        "request",
        "requests",
        "same_environment",
        "stdio",
        "streams",
        "swapped",
        "tee",
        "timeout_ns",
    )

    adopting: ResolvedOptions | None
    argv0: bytes | None
    attr: dict[str, Any] | None
    cgroup: str | int | None
    cgroup_fd: int
    check: bool
    cwd: str | int | None
    cwd_fd: int
    direct: bool
    drain_ns: int
    environment: Environment | None
    exchanged: bool
    fd_sources: tuple[tuple[int, object], ...]
    fds: FdPairs | None
    grace_ns: int
    identity: dict[str, Any] | None
    idle_timeout: float | None
    input: bytes | Iterable[bytes] | None
    kill_tree: bool
    leads: bool
    limits: tuple[CaptureLimit | None, CaptureLimit | None]
    native: object
    needs_io: bool
    ok_codes: tuple[int, ...]
    on_line: Callable[[str, Any], object] | None
    on_terminal: tuple[bool, bool, bool]
    plain: bool
    pty: Pty | None
    request: object
    requests: dict[Any, object]
    same_environment: bool
    stdio: Stdio | None
    streams: tuple[Stream, Stream, Stream]
    swapped: bool
    tee: bool
    timeout_ns: int

    def __init__(self, options: Options) -> None:
        """Make it all from the options."""
        values = options.values
        self._options = options
        self._edited: tuple[Environment, Environment] | None = None
        self.native = None
        self.request = None
        self.requests = {}
        self.adopting = None
        self.streams = streams(values)
        self.pty = values.get("pty")
        self.on_terminal = on_terminal(values)
        numbers = tuple(stdio_number(item) for item in self.streams)
        self.stdio = None if None in numbers or self.pty is not None else numbers  # type: ignore[assignment]
        self.swapped = "swap_outputs" in values and self.streams[1] is not STDERR and self.streams[2] is not STDOUT
        self.fd_sources = fd_pairs(values)
        all_ints = all(isinstance(source, int) for _, source in self.fd_sources)
        self.fds = self.fd_sources if all_ints else None  # type: ignore[assignment]
        self.cwd = values.get("cwd")
        self.cgroup = values.get("cgroup")
        self.cwd_fd = self.cwd if isinstance(self.cwd, int) else -1
        self.cgroup_fd = self.cgroup if isinstance(self.cgroup, int) else -1
        self.identity = None if IDENTITY.isdisjoint(values) else values
        self.needs_io = None in (self.stdio, self.fds) or "relative_to_parent" in values or self.identity is not None
        self.needs_io = self.needs_io or isinstance(self.cwd, str) or isinstance(self.cgroup, str)
        self.relative_to_parent = values.get("relative_to_parent", False)
        self.composed = not COMPOSED.isdisjoint(values)
        self.attr = None
        if not RUN_LEVEL.issuperset(values):
            from fastproc._values.attributes import attr_spec

            self.attr = attr_spec(values)
        self.leads = self.attr is not None and ("setsid" in self.attr or self.attr.get("pgid") == 0)
        self.kill_tree = values.get("kill_tree", False)
        argv0 = values.get("argv0")
        self.argv0 = None if argv0 is None else fsencode(argv0)
        self.environment = own_environment(values)
        self.same_environment = _ENVIRONMENT.isdisjoint(values)
        self.check = values.get("check", True)
        self.ok_codes = values.get("ok_codes", (0,))
        self.input = values.get("input")
        self.timeout_ns = _ns(options.get("timeout"))
        self.grace_ns = _ns(options.get("grace"))
        self.limits = values.get("stdout_limit"), values.get("stderr_limit")
        self.on_line = values.get("on_line")
        self.tee = values.get("tee", False)
        self.idle_timeout = values.get("idle_timeout")
        self.drain_ns = _ns(options.get("drain_timeout"))
        self.exchanged = (
            not EXCHANGED.isdisjoint(values)
            or MEMFD in self.streams
            or self.pty is not None
            or "kill_tree" in values
            or (self.input is not None and type(self.input) is not bytes)
        )
        self.direct = (
            self.stdio is not None
            and not self.relative_to_parent
            and not self.exchanged
            and not self.composed
            and self.same_environment
            and (self.attr is None or "foreground" not in self.attr)
            and (self.identity is None or _OPENED.isdisjoint(self.identity))
            and self.argv0 is None
            and self.cwd is None
            and self.cgroup is None
            and self.fds == ()
            and not self.swapped
        )
        self.plain = self.direct and self.attr is None and self.identity is None

    def environment_for(self, parent: Environment) -> Environment:
        """Return the child's environment, made once for each environment of the parent."""
        if self.environment is not None:
            return self.environment
        edited = self._edited
        if edited is not None and edited[0] is parent:
            return edited[1]
        if self.same_environment:
            return parent
        values = self._options.values
        child = edited_by(parent, values, values.get("clean_env"))
        self._edited = (parent, child)
        return child


class Plan:
    """One spawn, in the terms of fp_spawn(). Not to be changed; kept and used again by its Command.

    Attributes:
        paths, npaths: blob of the files to try, and their number.
        argv, argc: blob of the arguments.
        env, envc: blob of the environment.
        stdio: stdin, stdout, stderr as descriptor numbers or FP_STDIO_*.
        fds: further pairs (child's number, parent's number).
        attr: AttrSpec or None.
        cwd, cgroup: directory descriptors or -1.
        settled: what the options mean, also for the run.
        searched: the PATH that was searched, or None when the program has a slash.
        identity: the C core's struct of who the child is, or None.
        terminal: what the engine opened for `pty`, or None; its `slave` is the child's end.
        words: the command's arguments as text, for messages. Not the command itself: it keeps its plan, and a cycle of
            the two would leave every command of a loop to the garbage collector.
    """

    __slots__ = (
        "argc",
        "argv",
        "attr",
        "cgroup",
        "cwd",
        "env",
        "envc",
        "fds",
        "identity",
        "npaths",
        "parent",
        "paths",
        "searched",
        "settled",
        "stdio",
        "terminal",
        "words",
    )

    argc: int
    argv: bytes
    attr: dict[str, Any] | None
    cgroup: int
    cwd: int
    env: bytes
    envc: int
    fds: FdPairs
    identity: Any
    npaths: int
    parent: Environment
    paths: bytes
    searched: bytes | None
    settled: ResolvedOptions
    stdio: Stdio
    terminal: Any
    words: tuple[str, ...]

    @property
    def audited(self) -> tuple[object, ...]:
        """The arguments of the audit event: program, arguments, directory, and the child's environment as a new dict.

        The latter is None where it is the parent's, as subprocess.Popen's event has it.
        """
        settled = self.settled
        env = None if settled.same_environment else settled.environment_for(self.parent).as_text()
        return self.words[0], self.words, settled.cwd, env

    def size_note(self, limit: int) -> str:
        """Say how much this hands to execve(2), for the message of E2BIG.

        Args:
            limit: os.sysconf("SC_ARG_MAX"), a quarter of the stack's limit.
        """
        words = self.argc + self.envc + 2
        total = len(self.argv) + len(self.env) + 8 * words
        return (
            f"{len(self.argv)} bytes of arguments, {len(self.env)} bytes of environment and their {words} pointers "
            f"are {total} bytes, the limit is {limit} (a quarter of RLIMIT_STACK, execve(2))"
        )


_new = object.__new__


def settle(command: Lowerable) -> ResolvedOptions:
    """Return what a command's options mean; made once."""
    return settle_options(command._options)


def settle_options(options: Options) -> ResolvedOptions:
    """Return what options mean; made once for all commands that have them."""
    settled: ResolvedOptions | None = options.settled
    if settled is None:
        settled = options.settled = ResolvedOptions(options)
    return settled


def lower(
    command: Lowerable,
    parent: Environment,
    stdio: Stdio | None = None,
    fds: FdPairs | None = None,
    cwd: int = -1,
    cgroup: int = -1,
    base: bytes = b"",
) -> Plan:
    """Make the Plan of a command.

    Args:
        command: the command.
        parent: the parent's environment, the same object as long as it has not changed.
        stdio: the three streams as FP_STDIO_* or descriptors, when settle(command).stdio is None.
        fds: further pairs, when settle(command).fds is None.
        cwd: descriptor of the working directory, when settle(command).cwd is a path.
        cgroup: descriptor of the cgroup, when settle(command).cgroup is a path.
        base: the directory that the program's relative path is relative to, where that is not the child's own.

    Raises:
        SpawnError: E2BIG, one argument or variable is longer than the kernel takes.
    """
    settled: ResolvedOptions | None = command._options.settled
    if settled is None:
        settled = settle(command)
    if settled.needs_io:
        if (cwd == -1 and isinstance(settled.cwd, str)) or (cgroup == -1 and isinstance(settled.cgroup, str)):
            raise ValueError("cwd, cgroup: must be given for a command whose directories are not opened yet")
        return _make(command, settled, parent, stdio, fds, cwd, cgroup, base)
    plan = command._plan
    if plan is None or plan.parent is not parent:
        plan = command._plan = _make(command, settled, parent, None, None, -1, -1, b"")
    return plan


def search(name: bytes, env: Environment, parent: Environment) -> tuple[bytes, int, bytes]:
    """Return the blob of the files to try for a program's name (ended by NUL), their number, and the PATH.

    GOTCHAS F3: the child's PATH, else the parent's, else the system's.
    """
    path = env.path
    if path is None:
        path = parent.path
        if path is None:
            path = DEFAULT_PATH
    before = prefixes(path)
    return name.join(before), len(before) - 1, path


def _make(
    command: Lowerable,
    settled: ResolvedOptions,
    parent: Environment,
    stdio: Stdio | None,
    fds: FdPairs | None,
    cwd: int,
    cgroup: int,
    base: bytes,
) -> Plan:
    plan = _new(Plan)
    words = command._argv
    plan.words = words
    plan.settled = settled
    plan.parent = parent
    plan.terminal = plan.identity = None
    env = parent if settled.same_environment else settled.environment_for(parent)
    plan.env = env.blob
    plan.envc = env.count
    argv = command._blob
    name = argv[: argv.index(0) + 1]
    if 47 in name:  # a slash
        plan.paths = base + b"/" + name if base and name[0] != 47 else name
        plan.npaths = 1
        plan.searched = None
    else:
        plan.paths, plan.npaths, plan.searched = search(name, env, parent)
    if settled.argv0 is not None:
        argv = settled.argv0 + argv[len(name) - 1 :]
    plan.argv = argv
    plan.argc = len(words)
    if len(argv) > STRING_MAX or len(env.blob) > STRING_MAX:
        check_strings(words, argv, env)
    plan.attr = settled.attr
    stdio = settled.stdio if stdio is None else stdio
    fds = settled.fds if fds is None else fds
    if stdio is None or fds is None:
        raise ValueError("stdio, fds: must be given for a command whose files are not opened yet")
    plan.stdio = _swapped(stdio) if settled.swapped else stdio
    plan.fds = fds
    plan.cwd = settled.cwd_fd if cwd == -1 else cwd
    plan.cgroup = settled.cgroup_fd if cgroup == -1 else cgroup
    return plan


def _swapped(stdio: Stdio) -> Stdio:
    """Exchange the places of stdout and stderr; an inherited one is then the parent's own of the other name."""
    first, out, err = stdio
    return (
        first,
        STDIO_PARENT_STDERR if err == STDIO_INHERIT else err,
        STDIO_PARENT_STDOUT if out == STDIO_INHERIT else out,
    )


def _ns(seconds: object) -> int:
    return -1 if seconds is None else int(seconds * 1e9)  # type: ignore[operator]
