"""What is started when, and with which streams: an expression as a tree of nodes that start, end and have an outcome.

The streams are handed down from the outside, as duct does it: a redirection changes them for what is inside of it. A
node that is given streams has one use of each and drops it when its commands have got them.
Not here: reading, feeding, deadlines (plumbing.py, pipeline.py).
"""

from __future__ import annotations

from fastproc._engine.fds import Opened
from fastproc._engine.resolve import open_stream, resolve
from fastproc._values.combination import Pipe, Scoped, Sequence, Tee, hooked
from fastproc._values.command import FD_FIRST, Command
from fastproc._values.redirect import MEMFD, PIPE, STDERR, STDIO_NULL, STDIO_PARENT_STDERR, STDIO_PARENT_STDOUT, STDOUT
from fastproc.pipeline._plumbing import Shared
from fastproc.pipeline._result import Outcome, precedence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from fastproc._values.command import Expression
    from fastproc._values.plan import Plan
    from fastproc.pipeline._member import Child, Settings
    from fastproc.pipeline._plumbing import Plumbing

    Place = int | Shared
    """An FP_STDIO_ number, a descriptor of the caller's, STAGE_STDERR, or a descriptor of ours."""
    Streams = tuple[Place, Place, Place]

    class Run(Protocol):
        """The part of a Run that its nodes use."""

        first: Command
        plumbing: Plumbing
        settings: Settings
        stopping: bool

        def fail(self, error: BaseException) -> None: ...
        def grouped(self, command: Command) -> Command: ...
        def lost_reader(self, place: int) -> bool: ...
        def new_child(self, command: Command, place: int) -> Child: ...
        def new_place(self) -> int: ...
        def ok(self, child: Child) -> bool: ...
        def skipped(self, expression: Expression) -> None: ...
        def started(self, child: Child, on_end: Callable[[Child], object]) -> None: ...


STAGE_STDERR = -100
"""Captured stderr: each stage gets a pipe of its own."""

_STREAM_OPTIONS = ("stdin", "stdout", "stderr", "input", "swap_outputs", "substitutes")


def use(place: Place) -> Place:
    """Add a use of a place, and return it."""
    return place.take() if isinstance(place, Shared) else place


def drop(streams: tuple[Place, ...]) -> None:
    """Take one away from each."""
    for place in streams:
        if isinstance(place, Shared):
            place.drop()


class Node:
    """A part of a running expression.

    Attributes:
        outcome: its status, once everything in it has ended.
    """

    __slots__ = ("_on_end", "outcome", "run")

    def __init__(self, run: Run, on_end: Callable[[Node], object]) -> None:
        self.run = run
        self.outcome: Outcome | None = None
        self._on_end = on_end

    def start(self, streams: Streams) -> None:
        """Start what is to be started first.

        Raises:
            SpawnError: one could not be started; the caller breaks the whole run off.
        """
        raise NotImplementedError

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._on_end(self)


class Leaf(Node):
    """One command."""

    __slots__ = ("_command", "_extra", "_place", "_writes_on")

    def __init__(self, run: Run, command: Command, on_end: Callable[[Node], object]) -> None:
        super().__init__(run, on_end)
        self._command = command
        # For substitutions: the child's number and what it gets.
        self._extra: list[tuple[int, Shared]] = []
        self._writes_on = False
        self._place = run.new_place()

    def start(self, streams: Streams) -> None:
        run = self.run
        command = self._command
        if command._options.get("before_spawn"):
            command = hooked(command)
        child = run.new_child(command, self._place)
        with Opened() as opened:
            places, feed = self._places(command, child, streams, opened)
            child.writes_on = self._writes_on or any(isinstance(p, Shared) and p.joins for p in places[1:])
            plan = resolve(run.grouped(_bare(command)), opened, run.settings.deadline)
            numbers = tuple(p.owned.number if isinstance(p, Shared) else p for p in places)
            extra = tuple((number, place.owned.number) for number, place in self._extra)
            child.process.spawn(_with_streams(plan, numbers, extra), run.settings.stays, run.settings.deadline)
        # At once: what the parent still held would keep readers from their end and writers from SIGPIPE (GOTCHAS E14).
        drop(places)
        drop(tuple(place for _, place in self._extra))
        if feed is not None:
            run.plumbing.feed(*feed)
        run.started(child, self._ended)

    def _places(
        self, command: Command, child: Child, streams: Streams, opened: Opened
    ) -> tuple[Streams, tuple[Shared, Any] | None]:
        """Return where the three streams go by the command's own redirections, which are the innermost."""
        run = self.run
        values = command._options.values
        deadline = run.settings.deadline
        first, out, err = streams
        feed = None
        if "input" in values:
            reader, writer = run.plumbing.join(None)
            feed = writer, values["input"]
            drop((first,))
            first = reader
        elif "stdin" in values:
            if values["stdin"] is PIPE:
                raise ValueError("stdin: a pipeline's commands cannot have PIPE here; use input, or stdin of start()")
            drop((first,))
            first = open_stream(command, opened, 0, values["stdin"], deadline)
        own_out, own_err = values.get("stdout"), values.get("stderr")
        if own_out is not None and own_out is not STDERR:
            drop((out,))
            out = self._open(command, opened, 1, own_out)
        if own_err is not None and own_err is not STDOUT:
            drop((err,))
            err = self._open(command, opened, 2, own_err)
        if own_out is STDERR:
            drop((out,))
            out = use(err)
        if own_err is STDOUT:
            drop((err,))
            err = use(out)
        if "swap_outputs" in values:
            out, err = err, out
        if STAGE_STDERR in (out, err):
            pipe, child.stderr = run.plumbing.stderr()
            if out == err:
                pipe.take()
            out = pipe if out == STAGE_STDERR else out
            err = pipe if err == STAGE_STDERR else err
        return (first, out, err), feed

    def _open(self, command: Command, opened: Opened, index: int, stream: Any) -> Place:
        if stream is PIPE:
            return self.run.plumbing.stdout() if index == 1 else STAGE_STDERR
        if stream is MEMFD:
            raise ValueError(f"{('stdout', 'stderr')[index - 1]}: MEMFD is for the run of one command")
        return open_stream(command, opened, index, stream, self.run.settings.deadline)

    def _ended(self, child: Child) -> None:
        options = child.command._options
        self._end(Outcome(child.place, self.run.ok(child), options.get("check")))


def _bare(command: Command) -> Command:
    """Return the command without what is about its streams."""
    values = command._options.values
    given = [name for name in _STREAM_OPTIONS if name in values]
    if not given:
        return command
    from fastproc._values.options import DEFAULTS

    return command._with({name: DEFAULTS[name] for name in given})


def _with_streams(plan: Plan, stdio: Any, fds: tuple[tuple[int, int], ...]) -> Plan:
    """Return the same plan with other standard streams and further descriptors; the given one is its command's."""
    new = type(plan).__new__(type(plan))
    for name in plan.__slots__:
        setattr(new, name, getattr(plan, name))
    new.stdio = stdio
    new.fds = (*plan.fds, *fds)
    return new


class Parallel(Node):
    """Several that run at the same time: the last of them, or the first from the right that failed, decides."""

    __slots__ = ("_nodes", "_open")

    def __init__(self, run: Run, parts: tuple[Expression, ...], on_end: Callable[[Node], object]) -> None:
        super().__init__(run, on_end)
        self._nodes = [make_node(run, part, self._ended) for part in parts]
        self._open = len(self._nodes)

    def _ended(self, _node: Node) -> None:
        self._open -= 1
        if self._open:
            return
        outcomes = [node.outcome for node in self._nodes if node.outcome is not None]
        decisive = outcomes[0]
        for outcome in outcomes[1:]:
            decisive = precedence(decisive, outcome)
        self._end(decisive)


class PipeNode(Parallel):
    """A pipe."""

    __slots__ = ()

    def start(self, streams: Streams) -> None:
        first, out, err = streams
        last = self._nodes[-1]
        for node in self._nodes:
            if node is last:
                node.start((first, out, err))
            else:
                reader, writer = self.run.plumbing.join(self.run.settings.pipe_size)
                # The left side starts first, as in duct. Its use of the writer ends there, so that nobody else has it.
                node.start((first, writer, use(err)))
                first = reader


class TeeNode(Parallel):
    """A source whose output goes to several."""

    __slots__ = ()

    def start(self, streams: Streams) -> None:
        first, out, err = streams
        plumbing = self.run.plumbing
        size = self.run.settings.pipe_size
        source, writer = plumbing.join(size)
        pairs = [plumbing.join(size) for _ in self._nodes[1:]]
        self._nodes[0].start((first, writer, use(err)))
        for node, (reader, _) in zip(self._nodes[1:], pairs, strict=True):
            node.start((reader, use(out), use(err)))
        drop((out, err))
        plumbing.fan_out(source, [end for _, end in pairs])


class SubstitutedNode(Parallel):
    """A command with the expressions that stand among its arguments."""

    __slots__ = ("_substitutes",)

    def __init__(self, run: Run, command: Command, on_end: Callable[[Node], object]) -> None:
        self._substitutes = command._options.get("substitutes")
        super().__init__(run, tuple(item.expression for item in self._substitutes), on_end)
        self._nodes.append(Leaf(run, command, self._ended))
        self._open += 1

    def start(self, streams: Streams) -> None:
        _, out, err = streams
        leaf: Any = self._nodes[-1]
        for index, item in enumerate(self._substitutes):
            reader, writer = self.run.plumbing.join(self.run.settings.pipe_size)
            if item.writes:
                self._nodes[index].start((reader, use(out), use(err)))
                leaf._writes_on = True
            else:
                self._nodes[index].start((STDIO_NULL, writer, use(err)))
            leaf._extra.append((FD_FIRST - index, writer if item.writes else reader))
        leaf.start(streams)


class SequenceNode(Node):
    """Several, of which each starts, or not, when the one before it has ended."""

    __slots__ = ("_at", "_nodes", "_sequence", "_so_far", "_streams")

    def __init__(self, run: Run, sequence: Sequence, on_end: Callable[[Node], object]) -> None:
        super().__init__(run, on_end)
        self._sequence = sequence
        # Kept until the last one is started, or left out.
        self._streams: Streams | None = None
        self._nodes = [make_node(run, part, self._ended) for part in sequence.parts]
        self._at = 0
        self._so_far: Outcome | None = None

    def start(self, streams: Streams) -> None:
        first, out, err = self._streams = streams
        self._nodes[0].start((use(first), use(out), use(err)))

    def _ended(self, node: Node) -> None:
        outcome, run, sequence = node.outcome, self.run, self._sequence
        assert outcome is not None
        if self._so_far is not None and sequence.conditions[self._at - 1]:
            # What failed before `||` is no failure any more; an unchecked failure before `&&` still is a status.
            outcome = precedence(self._so_far, outcome)
        self._so_far = outcome
        went_well = outcome.ok or not outcome.checked
        last = len(self._nodes) - 1
        while self._at < last:
            streams = self._streams
            assert streams is not None
            self._at += 1
            # With its reader gone, what follows would have nobody to write to: neither `&&` nor `||` goes on.
            if run.stopping or run.lost_reader(outcome.stage) or went_well is not sequence.conditions[self._at - 1]:
                if self._at == last:
                    self._streams = None
                    drop(streams)
                run.skipped(sequence.parts[self._at])
                continue
            if self._at == last:
                self._streams = None
            else:
                first, out, err = streams
                streams = use(first), use(out), use(err)
            try:
                self._nodes[self._at].start(streams)
            except Exception as error:
                # Nobody is here to be told; the run breaks off, and its result raises it.
                run.fail(error)
            return
        self._end(outcome)


class ScopedNode(Node):
    """A redirection of what is inside, or its being unchecked."""

    __slots__ = ("_inner", "_scoped")

    def __init__(self, run: Run, scoped: Scoped, on_end: Callable[[Node], object]) -> None:
        super().__init__(run, on_end)
        self._scoped = scoped
        self._inner = make_node(run, scoped.inner, self._ended)

    def start(self, streams: Streams) -> None:
        name, value = self._scoped.name, self._scoped.value
        plumbing = self.run.plumbing
        first, out, err = streams
        if name == "input":
            reader, writer = plumbing.join(None)
            drop((first,))
            self._inner.start((reader, out, err))
            plumbing.feed(writer, value)
            return
        if name == "swap":
            out, err = err, out
        elif name == "stdin":
            drop((first,))
            first = self._open(0, value)
        elif name == "stdout":
            drop((out,))
            out = use(err) if value is STDERR else self._open(1, value)
        elif name == "stderr":
            drop((err,))
            err = use(out) if value is STDOUT else self._open(2, value)
        self._inner.start((first, out, err))

    def _open(self, index: int, value: Any) -> Place:
        if value is PIPE and index:
            return self.run.plumbing.stdout() if index == 1 else STAGE_STDERR
        with Opened() as opened:
            number = open_stream(self.run.first, opened, index, value, self.run.settings.deadline)
            # A copy of the caller's own, who may close it before the last command inside is started.
            return self.run.plumbing.file(opened.give(number)) if number >= 0 else number

    def _ended(self, node: Node) -> None:
        outcome = node.outcome
        assert outcome is not None
        self._end(outcome._replace(checked=False) if self._scoped.name == "unchecked" else outcome)


def make_node(run: Run, expression: Expression, on_end: Callable[[Node], object]) -> Node:
    """Return the node of an expression; nothing is started."""
    if isinstance(expression, Command):
        if expression._options.get("substitutes"):
            return SubstitutedNode(run, expression, on_end)
        return Leaf(run, expression, on_end)
    if isinstance(expression, Pipe):
        return PipeNode(run, expression.parts, on_end)
    if isinstance(expression, Sequence):
        return SequenceNode(run, expression, on_end)
    if isinstance(expression, Tee):
        return TeeNode(run, (expression.source, *expression.consumers), on_end)
    assert isinstance(expression, Scoped)
    return ScopedNode(run, expression, on_end)


OUTSIDE: Streams = (-1, STDIO_PARENT_STDOUT, STDIO_PARENT_STDERR)
"""What the outermost expression gets: our own streams."""
