"""The standard library's `subprocess`, on fastproc's core: change one import line, or call `fastproc.install()`.

    from fastproc import subprocess

Exactly the standard module's names. The exceptions, CompletedProcess and the constants are the very same objects, and
Popen derives from the standard one. What is different is told at `Popen`; all else of the standard module, its private
names among it, can be reached here too and is the standard's own.
"""

from __future__ import annotations

import subprocess as _standard
from subprocess import (
    DEVNULL,
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,
    TimeoutExpired,
)
from subprocess import list2cmdline as list2cmdline

from fastproc import errors as _errors
from fastproc._engine import orphans as _orphans
from fastproc.subprocess import _whole
from fastproc.subprocess._popen import Popen

_TYPE_CHECKING = False
if _TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Popen",
    "PIPE",
    "STDOUT",
    "call",
    "check_call",
    "getstatusoutput",
    "getoutput",
    "check_output",
    "run",
    "CalledProcessError",
    "DEVNULL",
    "SubprocessError",
    "TimeoutExpired",
    "CompletedProcess",
]

# Looked at by run(): a program that has put something else in its place wants to see it used.
_OWN_POPEN = Popen
_cleanup = _orphans.reap


def run(
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **kwargs: Any,
) -> CompletedProcess[Any]:
    """Run a command, wait for it, and return a CompletedProcess.

    Args:
        popenargs: as of Popen.
        input: for stdin: bytes, or a str in text mode.
        capture_output: the same as stdout=PIPE, stderr=PIPE.
        timeout: seconds until the child is killed.
        check: whether a status that is not 0 is an error.
        kwargs: as of Popen.

    Raises:
        CalledProcessError: with check; has the output.
        TimeoutExpired: has what was written until then.
        fastproc.errors.ExitStatusUnknown: somebody else took the status, and this kernel does not tell it again.
    """
    if not kwargs and input is None and timeout is None and len(popenargs) == 1 and Popen is _OWN_POPEN:
        done = _whole.run_plain(popenargs[0], bool(capture_output))
        if done is not None:
            if check and done.returncode:
                raise CalledProcessError(done.returncode, done.args, output=done.stdout, stderr=done.stderr)
            return done
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        kwargs["stdin"] = PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        kwargs["stdout"] = kwargs["stderr"] = PIPE
    if len(popenargs) == 1 and Popen is _OWN_POPEN and _whole.OPTIONS.issuperset(kwargs):
        args = popenargs[0]
        code, stdout, stderr = _whole.run(args, input, timeout, kwargs)
    else:
        with Popen(*popenargs, **kwargs) as process:
            try:
                stdout, stderr = process.communicate(input, timeout=timeout)
            except TimeoutExpired:
                process.kill()
                try:
                    process.wait()
                except _errors.ExitStatusUnknown:
                    pass
                raise
            except BaseException:
                _kill(process)
                raise
            code = process.poll()  # type: ignore[assignment]
            args = process.args
    if check and code:
        raise CalledProcessError(code, args, output=stdout, stderr=stderr)
    return CompletedProcess(args, code, stdout, stderr)


def call(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> int:
    """Run a command and return its status; the arguments are as of Popen."""
    with Popen(*popenargs, **kwargs) as process:
        try:
            return process.wait(timeout=timeout)
        except BaseException:
            _kill(process)
            raise


def check_call(*popenargs: Any, **kwargs: Any) -> int:
    """Run a command whose status must be 0.

    Raises:
        CalledProcessError: it is not.
    """
    code = call(*popenargs, **kwargs)
    if code:
        command = kwargs.get("args")
        raise CalledProcessError(code, popenargs[0] if command is None else command)
    return 0


def check_output(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> Any:
    r"""Run a command whose status must be 0, and return what it wrote to stdout.

    Raises:
        CalledProcessError: its status is not 0; has the output.

    >>> from fastproc import subprocess
    >>> subprocess.check_output(["echo", "hello"])
    b'hello\n'
    """
    for name in ("stdout", "check"):
        if name in kwargs:
            raise ValueError(f"{name} argument not allowed, it will be overridden.")
    if "input" in kwargs and kwargs["input"] is None:
        text = any(kwargs.get(name) for name in ("universal_newlines", "text", "encoding", "errors"))
        kwargs["input"] = "" if text else b""
    return run(*popenargs, stdout=PIPE, timeout=timeout, check=True, **kwargs).stdout


def getstatusoutput(cmd: Any, *, encoding: str | None = None, errors: str | None = None) -> tuple[int, str]:
    """Run a shell line; return its status, and both outputs as one text without the last newline."""
    try:
        output = check_output(cmd, shell=True, text=True, stderr=STDOUT, encoding=encoding, errors=errors)
        code = 0
    except CalledProcessError as error:
        output = error.output
        code = error.returncode
    return code, output.removesuffix("\n")


def getoutput(cmd: Any, *, encoding: str | None = None, errors: str | None = None) -> str:
    """Run a shell line; return both its outputs as one text without the last newline."""
    return getstatusoutput(cmd, encoding=encoding, errors=errors)[1]


def _kill(process: Popen) -> None:
    """Kill a child and reap it, which takes but a moment: after Ctrl-C nobody else would."""
    process.kill()
    try:
        process.wait(timeout=0.25)
    except (TimeoutExpired, _errors.ExitStatusUnknown):
        pass


def __getattr__(name: str) -> object:
    return getattr(_standard, name)


# The standard module's namespace has no more names than these either.
del annotations
