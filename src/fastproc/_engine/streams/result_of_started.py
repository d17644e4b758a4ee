"""What a started child's outputs have besides being read: limits, callbacks, copies; and the Result of all of it.

Everything that is read passes a Tap, whoever asked for it; what nobody has taken is the Result's.
"""

from __future__ import annotations

from time import monotonic_ns

from fastproc import _native, errors
from fastproc._engine.fds import Opened
from fastproc._engine.streams.sink import Tap, Taps, taps, view
from fastproc._values.capture import OutputTooLarge
from fastproc._values.status import CORE_DUMPED, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._engine.handle import Handle
    from fastproc._engine.streams.pump import Streams
    from fastproc._values.plan import Lowerable, ResolvedOptions


def equip(process: Handle, command: Lowerable, settled: ResolvedOptions) -> None:
    """Prepare, before the spawn, what is done with everything that will be read.

    Raises:
        SpawnError, ValueError: as make_tap().
    """
    files = Opened()
    # By the names of the handle's streams, where exchanged outputs are exchanged already.
    found = {(1 if tap.name == "stdout" else 2): tap for tap in taps(command, settled, files, Tap, process).values()}
    process.taps = Taps(found, files)


def conclude(process: Handle, streams: Streams) -> Result:
    """Give the Result of a child that has ended and whose outputs are read to their ends.

    Raises:
        OutputTooLarge: it was stopped because of a limit that says so.
        ExitStatusUnknown: nobody knows how it ended; carries the output.
        ValueError: an output is being read as text, in the middle of a line.
    """
    final = process.final
    assert final is not None
    kept = [streams.outputs.get(name) for name in ("stdout", "stderr")]
    out, err = (None if output is None else output.take() for output in kept)
    for stream, memory in process.memory.items():
        if not isinstance(memory, memoryview):
            process.memory[stream] = view(memory)
    # Documented at Result: the type is that of everything else that is captured.
    out, err = process.memory.get(1, out), process.memory.get(2, err)  # type: ignore[assignment]
    if final.state == _native.WAIT_UNKNOWN:
        raise errors.ExitStatusUnknown(process.pid, process.argv, out, err)
    ended_ns = process.ended_ns or monotonic_ns()
    result = Result(
        process.argv,
        final.returncode,
        out,
        err,
        process.pid,
        ended_ns - process.started_ns,
        _native.usage_bytes(final),
        process.mechanism,
        streams.flags | (CORE_DUMPED if final.core_dumped else 0),
        refused=_native.refused(),
    )
    result._pipe_holders = streams.holders
    result._dropped = tuple(0 if output is None else output.dropped for output in kept)  # type: ignore[assignment]
    result._spilled = tuple(  # type: ignore[assignment]
        None if output is None or output.tap is None else output.tap.spilled() for output in kept
    )
    if streams.overflowed is not None and streams.overflowed.raises:
        raise OutputTooLarge(streams.overflowed.name, result)
    return result
