"""Run one function of a test module in a process of its own.

    python isolate.py RESULT_FD MODULE_PATH FUNCTION JSON_ARGUMENTS FAULTS

For what would hurt the test run: handlers in C, filters that stay for ever, ignored SIGCHLD, floods of signals. The
function's return value goes as JSON to the descriptor. FAULTS is the extension with the fault points, or "".
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import sys


def _load(name: str, path: str) -> object:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    given_fd, path, function, arguments, faults = sys.argv[1:6]
    result_fd = fcntl.fcntl(int(given_fd), fcntl.F_DUPFD_CLOEXEC, 700)  # out of the way of what the function does
    os.close(int(given_fd))
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if faults:
        _load("fastproc._native._ffi", faults)
    module = _load("isolated_" + os.path.basename(path).removesuffix(".py"), path)
    value = getattr(module, function)(*json.loads(arguments))
    os.write(result_fd, json.dumps(value).encode())


if __name__ == "__main__":
    main()
