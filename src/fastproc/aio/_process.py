"""`start` in an event loop: a handle whose waits are awaited."""

from __future__ import annotations

from fastproc import errors
from fastproc._engine.exit_watch import ExitWatch, has_ended
from fastproc._engine.fds import Opened
from fastproc._engine.reactor import deadline_from
from fastproc._engine.signal_api import SWEEP_MAX, TREE_PATIENCE
from fastproc._engine.streams.reading_api import Streaming
from fastproc._run import as_command, check_start, new_handle
from fastproc._values.command import Command, Expression
from fastproc._values.loading import loaded
from fastproc._values.plan import settle
from fastproc.aio._current import current_hub
from fastproc.aio._hub import Again
from fastproc.aio._run import outlast_death, spawn
from fastproc.aio._streams import Items, Lines, Shared, StreamWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import Any, Unpack

    from fastproc._engine.handle import Handle
    from fastproc._engine.process import Process as Child
    from fastproc._engine.streams.pump import Pause
    from fastproc._engine.streams.terminal import Terminal
    from fastproc._values.aliases import Text
    from fastproc._values.command import OptionsDict
    from fastproc._values.expect import Expected, Pattern
    from fastproc._values.status import Result, Usage
    from fastproc._values.tree import TreeEnd
    from fastproc.aio._hub import Hub


def start(
    program: Expression | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Starting:
    """Start a command when awaited, or entered by `async with`, which stops it at the end; gives its Process.

    Takes what `fastproc.start()` takes; of another expression, or a command with hooks or substitutions, it gives a
    Pipeline. Nothing is started before it is awaited or entered.

    Raises:
        SpawnError: when awaited: the program could not be started.
        TypeError, ValueError: at once: an argument or option is not possible; its name comes first.
    """
    if isinstance(program, Expression) and type(program) is not Command and not args:
        return _start_expression(program, options)
    command = as_command(program, args, options)
    settled = settle(command)
    if settled.composed:
        return _start_expression(command, {})
    check_start(settled)
    return Starting(command)


start.__module__ = "fastproc.aio"


def _start_expression(expression: Expression, options: OptionsDict) -> Starting:
    from fastproc.aio._pipeline import StartingPipeline

    return StartingPipeline(expression, options)  # type: ignore[return-value]


class Starting:
    """A start that is awaited, or entered by `async with`."""

    __slots__ = ("_command", "_process")

    def __init__(self, command: Command) -> None:
        self._command = command
        self._process: Process | None = None

    async def _start(self) -> Process:
        hub = current_hub()
        child = new_handle(self._command, settle(self._command))
        try:
            with Opened() as opened:
                child.memory = opened.memory  # type: ignore[assignment]
                await spawn(hub, child, self._command, opened, None)
            return Process(child, hub)
        except BaseException:
            # What a signal handler has raised: nobody else has the handle.
            if child.pid > 0 and not hub.reactor.inert:
                child.abandon()
            raise

    def __await__(self) -> Generator[Any, Any, Process]:
        return self._start().__await__()

    async def __aenter__(self) -> Process:
        try:
            self._process = await self._start()
            # From here on one that is dropped, as its block was not left to its end, is killed.
            self._process.child.__enter__()
            return self._process
        except BaseException:
            if self._process is not None:
                self._process.child.abandon()
            raise

    async def __aexit__(self, *exc: object) -> None:
        assert self._process is not None
        await self._process.__aexit__(*exc)


class Process(Streaming):
    """A child process, in an event loop.

    `start()` makes it. What waits is awaited, in tasks of the loop that it was started in; signals may be sent from
    anywhere. Leaving the `async with` block stops a child that still runs, also when the task is cancelled. Dropping
    the last reference to a running child kills nothing: it gives a ResourceWarning, and the child is reaped later.

    Attributes:
        argv: the command's arguments as text.
        pid: the child's number; after the child has ended it may be somebody else's.
        child: the blocking handle that this one is for.
    """

    __module__ = "fastproc.aio"

    __slots__ = ("__weakref__", "_hub", "_turns", "_watch", "argv", "child", "pid")

    def __init__(self, child: Child, hub: Hub) -> None:
        self.child = child
        self.argv = child.argv
        self.pid = child.pid
        self._hub = hub
        # Those who wait for its end, and those who wait for its streams.
        self._watch = Shared(hub, lambda wake: ExitWatch(child, hub.reactor, lambda _: wake()))
        self._turns = Shared(hub, lambda wake: StreamWatch(child, hub, wake))

    def __repr__(self) -> str:
        return repr(self.child)

    # -- what it is

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it is not known that the child has ended."""
        return self.child.returncode

    @property
    def core_dumped(self) -> bool:
        """Whether the child has ended by a signal and left a core."""
        return self.child.core_dumped

    @property
    def mechanism(self) -> str:
        """How the child was made, such as "clone3_vm"."""
        return self.child.mechanism

    @property
    def usage(self) -> Usage | None:
        """Resources that the child has used; None while it runs, and where somebody else reaped it."""
        return self.child.usage

    @property
    def pidfd(self) -> int:
        """The descriptor that names the child, or -1."""
        return self.child.pidfd

    # -- its end

    def poll(self) -> int | None:
        """Look whether the child has ended, and give its return code; None while it runs. As the blocking handle's."""
        return self.child.poll()

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the child and give its return code, negative for a signal. Several tasks may wait.

        Args:
            timeout: seconds at most; None for no limit.

        Raises:
            TimeoutExpired: it still runs.
            ExitStatusUnknown: it has ended, and somebody else took its status (GOTCHAS D2).
            ProcessError: in a forked copy.
        """
        if self.child.taps is not None:
            await self._read_out(timeout)
        if not await self._ended(deadline_from("timeout", timeout)):
            assert timeout is not None
            raise errors.timeout_expired(self.argv, timeout)
        return self._code()

    def _code(self) -> int:
        code = self.child.poll()
        assert code is not None
        return code

    async def stop(self, grace: float | None = None) -> int:
        """End the child: SIGTERM, and SIGKILL after `grace` seconds (at once when 0). Give its return code.

        Args:
            grace: None for what start() was given (0.1).

        The child gets its grace also when the task is cancelled, before or meanwhile, as run() gives it; the
        cancellation is raised when the child is gone. Only an endless grace ends with it. A child that a tracer holds,
        or the kernel for more than five seconds, is left then, and reaped later.

        Raises:
            ExitStatusUnknown, ProcessError: as wait does.
        """
        await self._stop(grace, False)
        return self._code()

    async def _stop(self, grace: float | None, leaving: bool) -> None:
        """As stop(); `leaving` does not wait for a child that is held, and keeps an endless grace, too."""
        if grace is None:
            grace = self.child.times[0]
        deadline = deadline_from("grace", grace)
        try:
            if grace > 0:
                self.terminate()
                # A cancellation says that nobody waits for the child, and nothing against its grace.
                if leaving or deadline is not None:
                    await self._outlast_grace(deadline)
                if await self._ended(deadline):
                    return
            self.kill()
            if not leaving:
                await self._ended(None)
        except BaseException:
            await self._outlast()
            raise
        if leaving:
            await self._outlast()

    async def _outlast_grace(self, deadline: float | None) -> None:
        """Give a child its time, whatever is cancelled meanwhile; that is raised then."""
        if self._hub.reactor.inert or has_ended(self.child):
            return
        over = self._hub.event()
        timer = None if deadline is None else self._hub.reactor.call_at(deadline, Again(over.set))
        try:
            with self._watch.by(over):
                await self._hub.outlast(over)
        finally:
            if timer is not None:
                timer.cancel()

    async def _outlast(self) -> None:
        """See a child gone, whatever is cancelled meanwhile. One that is held, or may not be killed, is an orphan."""
        if self._hub.reactor.inert or has_ended(self.child):
            return
        gone = self._hub.event()
        try:
            self.kill()
            with self._watch.by(gone):
                await outlast_death(self._hub, self.child, gone)
        except PermissionError:
            # A set-user-ID program (kill(2)). The exception on its way to the caller is the one to tell.
            pass
        finally:
            if not self._hub.reactor.inert and not has_ended(self.child):
                self.child.detach()

    async def _ended(self, deadline: float | None) -> bool:
        self.child._check_usable()
        if has_ended(self.child):
            await self._hub.breathe()
            return True
        await self._watch.wait(deadline)
        return has_ended(self.child)

    def send_signal(self, sig: int) -> None:
        """Send a signal to the child, and to nobody else. As the blocking handle's."""
        self.child.send_signal(sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.child.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self.child.kill()

    def detach(self) -> None:
        """Let the child outlive the handle, as the blocking handle's."""
        self.child.detach()

    async def __aenter__(self) -> Process:
        self.child.__enter__()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        child = self.child
        if child._detached or child._is_foreign():
            return
        try:
            try:
                if child.final is None and child.pid > 0:
                    await self._stop(None, True)
            except errors.ExitStatusUnknown:
                # It has ended; nobody asked how.
                pass
            finally:
                if not child._is_foreign():
                    self._turns.drop()
                    await self._end_tree()
        except BaseException:
            # A signal handler may have raised in the middle of the end of the tree: once more, without waiting.
            if not child._is_foreign():
                child.sweep_tree(True)
            raise
        finally:
            # Not in a copy that was forked meanwhile: what is buffered is the parent's to write.
            if not child._is_foreign():
                child._close_files()

    async def kill_tree(self, grace: float | None = None) -> TreeEnd:
        """End the child and all its descendants, and say what is left. As the blocking handle's.

        A cancellation of the task is raised when that is done.
        """
        steps = self.child.ending_tree(grace)
        late: BaseException | None = None
        while True:
            try:
                pause = next(steps)
            except StopIteration as done:
                if late is not None:
                    raise late from None
                end: TreeEnd = done.value
                return end
            late = await self._wait_anyhow(pause) or late
            if late is not None and self._hub.reactor.inert:
                raise late

    async def _end_tree(self) -> None:
        """Nothing of a contained tree (kill_tree=True) outlives the block, whatever is cancelled meanwhile."""
        late: BaseException | None = None
        rounds = 0
        while not self.child.sweep_tree(rounds * SWEEP_MAX >= TREE_PATIENCE):
            rounds += 1
            late = await self._wait_anyhow(SWEEP_MAX) or late
        if late is not None:
            raise late

    async def _wait_anyhow(self, seconds: float) -> BaseException | None:
        """Wait in any case, and return the cancellation that came meanwhile."""
        over = self._hub.event()
        timer = self._hub.reactor.call_after(seconds, Again(over.set))
        try:
            await self._hub.outlast(over)
        except BaseException as error:
            return error
        finally:
            timer.cancel()
        return None

    # -- its streams

    async def write(self, data: bytes, timeout: float | None = None) -> None:
        """Write bytes to stdin, all of them, keeping what comes on the outputs meanwhile.

        That the child has gone is no error: its status tells.

        Raises:
            TimeoutExpired: the child does not take all of it in `timeout` seconds; the rest is dropped.
            ValueError: stdin is no pipe or terminal, is closed, or being fed already; or a line is longer than a
                terminal takes.
        """
        streams, child = self._begin(None, None)
        await self._finish(streams.writing(child, self.child.typed(bytes(data)), timeout))

    async def expect(
        self,
        pattern: Pattern | list[Pattern] | tuple[Pattern, ...],
        timeout: float | None = None,
        *,
        stream: str = "stdout",
    ) -> Expected:
        """Wait until a pattern, or one of several, is found in an output, as the blocking handle's."""
        loaded("fastproc._engine.streams.expect")
        from fastproc._engine.streams import expect as expecting

        loaded("fastproc._values.expect")
        from fastproc._values.expect import Search

        search = Search(pattern)
        streams, child = self._begin(None, stream)
        found: Expected = await self._finish(expecting.expect(child, streams, streams.output(stream), search, timeout))
        return found

    async def readline(self, timeout: float | None = None, *, stream: str = "stdout") -> bytes:
        """Wait for one line of an output and return it with its end, as the blocking handle's."""
        loaded("fastproc._engine.streams.expect")
        from fastproc._engine.streams import expect as expecting

        streams, child = self._begin(None, stream)
        found: bytes = await self._finish(expecting.readline(child, streams, streams.output(stream), timeout))
        return found

    async def send_key(self, name: str) -> None:
        """Type a special key of the terminal, as the blocking handle's."""
        await self.write(self.child.key(name))

    @property
    def terminal(self) -> Terminal | None:
        """The pseudo-terminal that the child was started on (`pty`), with its size and settings; else None."""
        return self.child.terminal

    def close_stdin(self) -> None:
        """Let the child see the end of its input. Harmless when repeated."""
        self.child.close_stdin()
        # A task that still writes has nothing to wait for any more.
        self._turns.wake()

    async def read(self, stream: str = "stdout") -> bytes:
        """Read an output to its end, and give the bytes of it that were not yet taken."""
        return b"".join([chunk async for chunk in self.chunks(stream)])

    async def result(self, *, input: bytes | Iterable[bytes] | None = None, timeout: float | None = None) -> Result:
        """Feed stdin, read the outputs to their ends, wait for the end of the child, and return its Result.

        As the blocking handle's.
        """
        loaded("fastproc._engine.streams.result_of_started")
        from fastproc._engine.streams.result_of_started import conclude

        self.child.finishing(input)
        await self._read_out(timeout)
        streams, child = self._begin(None, None)
        return conclude(child, streams)

    async def _read_out(self, timeout: float | None) -> None:
        streams, child = self._begin(None, None)
        await self._finish(streams.ending(child, timeout, child.times[1], child.times[2]))

    async def _finish(self, steps: Iterator[Pause]) -> Any:
        """Do the steps, and return what they return."""
        try:
            while True:
                await self._pause(next(steps))
        except StopIteration as done:
            return done.value
        finally:
            # What a cancelled wait has read is given back now, not when the steps are freed.
            steps.close()  # type: ignore[attr-defined]

    async def _pause(self, pause: Pause) -> None:
        """Wait once for whatever comes on the streams, and do it."""
        streams = self.child._streams
        assert streams is not None
        seconds = streams.prepare(self.child, pause)
        await self._turns.wait(deadline_from("seconds", seconds))
        if streams.turn(self.child, 0.0):
            # That was done for all streams: what another task waits for may be among it, and is not reported again.
            self._turns.wake()

    def _process(self) -> Child:
        return self.child

    def _iterate(self, process: Handle, steps: Iterator[Any], batches: bool = False) -> Any:
        return Lines(self, steps) if batches else Items(self, steps)
