"""Runs one of CPython's test modules in this process, with another module in the place of the one that it tests.

Started by harness.py, by the Python under test. Nothing of a suite is in this repository: the test module is imported
from that Python's own test package. Each event is one JSON line of the file SUITE_EVENTS.
"""

from __future__ import annotations

import faulthandler
import fnmatch
import gc
import importlib
import json
import os
import random
import sys
import time
import traceback
import types
import unittest

CONFIG = json.loads(os.environ["SUITE_CONFIG"])
EVENTS = os.environ["SUITE_EVENTS"]
# Imported before the swap, so that the suites' helpers keep the standard library's own modules.
HELPERS = (
    "unittest.mock",
    "concurrent.futures",
    "multiprocessing",
    "test.support",
    "test.support.os_helper",
    "test.support.import_helper",
    "test.support.warnings_helper",
    "test.support.script_helper",
    "test.support.threading_helper",
    "test.support.socket_helper",
    "test.support.hashlib_helper",
    "platform",
    "asyncio",
    "test.test_asyncio.utils",
    "tempfile",
    "shutil",
    "ctypes.util",
    "pwd",
    "grp",
)
# Private names that the suite's own set-up, clean-up and decorators look up in the module under test.
PRIVATE_NAMES = {
    "_active": [],
    "_cleanup": lambda: None,
    "os": os,
    "_PopenSelector": None,
    "_fork_exec": "given by the harness",
    "_posixsubprocess": "given by the harness",
    "_CAN_USE_PIDFD_OPEN": False,
    "_CAN_USE_KQUEUE": False,
}
ASYNCIO_NAMES = ("create_subprocess_exec", "create_subprocess_shell")


def emit(**event):
    data = (json.dumps(event) + "\n").encode("utf-8", "replace")
    fd = os.open(EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def children_now():
    found = []
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as file:
                found += file.read().split()
    except OSError:
        pass
    return sorted(map(int, found))


def fds_now():
    return len(os.listdir("/proc/self/fd"))


def name_of(test):
    return ".".join(test.id().split(".")[-2:])


class Result(unittest.TextTestResult):
    """Reports each test, with the children and descriptors that it has left."""

    bad, begin, children, fds = None, None, (), 0

    def startTest(self, test):
        super().startTest(test)
        self.bad, self.begin = None, time.monotonic()
        self.children, self.fds = children_now(), fds_now()
        emit(ev="start", id=name_of(test))

    def _note(self, outcome, message=""):
        if self.bad is None or outcome in ("fail", "error"):
            self.bad = (outcome, message)

    def _at_once(self, name, outcome, message):
        emit(ev="start", id=name)
        emit(ev="end", id=name, outcome=outcome, secs=0.0, msg=message)

    def addError(self, test, err):
        super().addError(test, err)
        message = "".join(traceback.format_exception(*err))[-3000:]
        if hasattr(test, "_testMethodName"):
            self._note("error", message)
        else:  # setUpModule(), setUpClass() and their like
            self._at_once(str(test), "error", message)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note("fail", "".join(traceback.format_exception(*err))[-3000:])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        if hasattr(test, "_subDescription"):
            return
        if self.begin is not None:
            self._note("skip", str(reason))
        elif hasattr(test, "_testMethodName"):  # Python 3.12.1 does not start what it skips
            self._at_once(name_of(test), "skip", str(reason))

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._note("xfail")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._note("fail", "unexpected success")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            message = "".join(traceback.format_exception(*err))[-3000:]
            kind = "fail" if issubclass(err[0], test.failureException) else "error"
            self._note(kind, f"{subtest._subDescription()}\n{message}")

    def _left(self):
        return [pid for pid in children_now() if pid not in self.children], fds_now() - self.fds

    def stopTest(self, test):
        super().stopTest(test)
        if self.begin is None:
            return
        outcome, message = self.bad or ("pass", "")
        seconds = time.monotonic() - self.begin
        left, fds = self._left()
        if left or fds:
            gc.collect()
            left, fds = self._left()
        emit(ev="end", id=name_of(test), outcome=outcome, secs=round(seconds, 4), msg=message, left=left, fds=fds)
        self.begin = None


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


class Seen(types.ModuleType):
    """A module seen through: some names of our own, the real module's else; writes to others go to the real one."""

    def __init__(self, real, names):
        super().__init__(real.__name__)
        vars(self).update(_real=real, _names=names, **names)

    def __getattr__(self, name):
        return getattr(vars(self)["_real"], name)

    def __setattr__(self, name, value):
        if name in self._names:
            vars(self)[name] = value
        else:
            setattr(self._real, name, value)


def put_asyncio(module, target):
    """Swap what the test module calls, in its own namespace only: the event loop stays as it is."""
    import asyncio
    import asyncio.subprocess

    names = {name: getattr(target, name) for name in ASYNCIO_NAMES}
    more = {name: getattr(target, name) for name in ("PIPE", "STDOUT", "DEVNULL", "Process") if hasattr(target, name)}
    subprocess = Seen(asyncio.subprocess, {**names, **more})
    module.asyncio = Seen(asyncio, {**names, "subprocess": subprocess})
    if hasattr(module, "subprocess"):
        module.subprocess = subprocess
    if not hasattr(target, "subprocess_exec"):
        return
    # The calls of the loop itself, on each loop that a test makes.
    from test.test_asyncio import utils

    set_loop = utils.TestCase.set_event_loop

    def set_event_loop(self, loop, **options):
        set_loop(self, loop, **options)
        try:
            loop.subprocess_exec = lambda *a, **k: target.subprocess_exec(loop, *a, **k)
            loop.subprocess_shell = lambda *a, **k: target.subprocess_shell(loop, *a, **k)
        except AttributeError:  # a loop written in C
            pass

    utils.TestCase.set_event_loop = set_event_loop


def load():
    """Import the stand-in and the test module; return the latter."""
    target = importlib.import_module(CONFIG["target"])
    emit(ev="meta", target_file=getattr(target, "__file__", None))
    if CONFIG["kind"] == "asyncio":
        module = importlib.import_module(CONFIG["module"])
        if target.__name__ != "asyncio":
            put_asyncio(module, target)
        return module
    sys.modules["subprocess"] = target
    given = [name for name in PRIVATE_NAMES if not hasattr(target, name)]
    for name in given:
        setattr(target, name, PRIVATE_NAMES[name])
    os.environ["SUITE_SWAP"] = "subprocess=" + CONFIG["target"]
    os.environ["SUITE_SWAP_PATH"] = os.pathsep.join(CONFIG["path"])
    module = importlib.import_module(CONFIG["module"])
    emit(ev="meta", given=given)
    if module.subprocess is not target:
        raise RuntimeError("the test module has not got the stand-in")
    return module


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def main():
    for path in reversed(CONFIG["path"]):
        if path not in sys.path:
            sys.path.insert(0, path)
    faulthandler.enable()
    for name in HELPERS:
        try:
            importlib.import_module(name)
        except (ImportError, unittest.SkipTest):
            pass
    module = load()
    emit(ev="meta", suite_file=module.__file__)
    tests = list(tests_of(unittest.defaultTestLoader.loadTestsFromModule(module)))
    if CONFIG["only"]:
        tests = [test for test in tests if matches(name_of(test), CONFIG["only"])]
    emit(ev="list", ids=[name_of(test) for test in tests])
    with open(os.environ["SUITE_DONE"]) as file:
        done = set(json.load(file))
    todo = []
    for test in tests:
        name = name_of(test)
        if name in done:
            continue
        if matches(name, CONFIG["excluded"]):
            emit(ev="end", id=name, outcome="excluded", secs=0.0, msg="")
        else:
            todo.append(test)
    if CONFIG["shuffle"] is not None:
        random.Random(CONFIG["shuffle"]).shuffle(todo)
    for name in ("SUITE_CONFIG", "SUITE_DONE", "SUITE_EVENTS"):
        del os.environ[name]
    unittest.TextTestRunner(stream=sys.stderr, verbosity=2, resultclass=Result).run(unittest.TestSuite(todo))
    emit(ev="done")
    sys.stdout.flush()
    os._exit(0)  # what a test has left must not hold the end up


try:
    main()
except unittest.SkipTest as error:
    emit(ev="fatal", msg=f"the whole module was skipped: {error}")
    emit(ev="done")
except BaseException as error:
    emit(ev="fatal", msg="".join(traceback.format_exception(error))[-4000:])
    raise
