"""Interpreters that end while children run: each way to leave handles behind, and nothing may be said or go wrong.

tests/run/test_exits.py runs each a few times, tests/soak a thousand times.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

PYTHONS = (sys.executable, *map(str, sorted(ROOT.glob(".venv-*/bin/python"))))
"""This interpreter, and the others that `make PYTHON=... VENV=.venv-...` was used with."""

BEGIN = """
import fastproc, os, sys
from fastproc import PIPE, start
SLEEP = ("/bin/sleep", "60")
def say(*handles):
    for handle in handles:
        print(handle.pid)
    sys.stdout.flush()
"""

SCRIPTS: dict[str, str] = {
    "a global": "child = start(*SLEEP); say(child)",
    "several": "children = [start(*SLEEP, stdout=PIPE) for _ in range(5)]; say(*children)",
    "dropped": "say(start(*SLEEP))",
    "detached": "child = start(*SLEEP); child.detach(); say(child)",
    "a tree": "child = start(*SLEEP, kill_tree=True); say(child)",
    "a group": "child = start(*SLEEP, pgid=0, stdin=PIPE, stdout=PIPE); say(child)",
    "a terminal": """
child = start("/bin/sh", "-c", "trap '' HUP; echo x; exec sleep 60", pty=True)
lines = iter(child.lines()); next(lines); say(child)
""",
    "a cycle": """
class Node: pass
node = Node(); node.me = node; node.child = start(*SLEEP); say(node.child)
""",
    "in a module": """
import builtins
builtins.child = fastproc.child = sys.modules["fastproc._engine.orphans"].child = start(*SLEEP); say(fastproc.child)
""",
    "a user's finalizer": """
class Owner:
    def __init__(self): self.child = start(*SLEEP)
    def __del__(self): self.child.poll(); self.child.send_signal(0)
owner = Owner(); owner.me = owner; say(owner.child)
""",
    "atexit": "import atexit; child = start(*SLEEP); atexit.register(child.poll); say(child)",
    "weakref.finalize": "import weakref; child = start(*SLEEP); weakref.finalize(tuple, child.poll); say(child)",
    "in an iteration": """
child = start("/bin/sh", "-c", "echo x; exec sleep 60", stdout=PIPE)
lines = iter(child.lines()); next(lines); events = child.events(); say(child)
""",
    "in as_completed": """
child = start(*SLEEP)
ends = iter(fastproc.as_completed([child, start("/bin/true")])); next(ends); say(child)
""",
    "a thread that waits": """
import threading, time
child = start(*SLEEP)
threading.Thread(target=child.wait, daemon=True).start(); time.sleep(0.01); say(child)
""",
    "a thread that runs": """
import threading, time
from pathlib import Path
fastproc.run("/bin/true")  # the first one tries what works here, with children of its own
thread = threading.Thread(target=fastproc.run, args=SLEEP, daemon=True)
thread.start()
while not (found := Path(f"/proc/self/task/{thread.native_id}/children").read_text().split()): time.sleep(0.001)
print(*found, flush=True)
""",
    "a fork": """
child = start(*SLEEP)
pid = os.fork()
if pid: os.waitpid(pid, 0); say(child)
""",
    "the drop-in": "from fastproc import subprocess; child = subprocess.Popen(SLEEP, stdout=PIPE); say(child)",
    "installed": """
fastproc.install()
import subprocess
child = subprocess.Popen(SLEEP, stdin=subprocess.PIPE, text=True); say(child)
""",
    "a loop that was closed": """
import asyncio, fastproc.aio
async def main(): return await fastproc.aio.start(*SLEEP, stdout=PIPE)
child = asyncio.run(main()); say(child)
""",
    "a loop that was not": """
import asyncio, fastproc.aio
async def main():
    global task
    child = await fastproc.aio.start(*SLEEP); task = asyncio.ensure_future(child.wait()); await asyncio.sleep(0)
    return child
loop = asyncio.new_event_loop(); child = loop.run_until_complete(main()); say(child)
""",
    "a pipeline": """
child = start(*SLEEP)
reader = start("/bin/cat", stdin=PIPE, stdout=PIPE); reader.stdin.write(b"x"); say(child)
""",
    "sys.exit": "child = start(*SLEEP); say(child); sys.exit(0)",
}


def leave(python: str, count: int) -> dict[str, Any]:
    """Run that many interpreters, of all kinds in turn; end what they leave. For a PID namespace of its own.

    Returns:
        How many there were; how many of them were silent, ended with 0 and left their children alive; what was wrong,
        by kind: the exit status, what was said, children that did not outlive it.
    """
    wrong: dict[str, Any] = {}
    done = silent = 0
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": ""}
    while done < count:
        for name, script in SCRIPTS.items():
            command = [python, "-c", BEGIN + script]
            # Not by pipes: the children hold them, and their end would be the children's.
            with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
                code = subprocess.run(command, stdout=out, stderr=err, env=env, check=False).returncode
                out.seek(0)
                err.seek(0)
                pids, said = out.read().split(), err.read()
            gone = [pid for pid in map(int, pids) if not _end(pid)]
            if code or said or gone or not pids:
                wrong.setdefault(name, [code, said.decode(errors="replace"), gone])
            else:
                silent += 1
            done += 1
    return {"done": done, "silent": silent, "wrong": wrong}


def _end(pid: int) -> bool:
    """Kill what an interpreter left, and return whether it still ran."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
