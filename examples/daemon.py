"""A server that is a daemon: `python examples/daemon.py start|stop|status|reload FOLDER`.

The socket is bound as whoever starts it; the server runs as another user, if root starts it. `start` returns when it
listens, or says why it does not. docs/daemons.md explains it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from fastproc import Append
from fastproc.daemon import Daemon, DaemonError, Outcome


def make(folder: str) -> Daemon:
    """The daemon of a folder, of which the action needs the rights that the server will not have."""

    def bind() -> socket.socket:
        path = os.path.join(folder, "socket")
        if os.path.exists(path):
            os.unlink(path)
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        os.chmod(path, 0o666)
        return server

    return Daemon(
        "greeter",
        pid_file=os.path.join(folder, "greeter.pid"),
        user="nobody" if os.geteuid() == 0 else None,
        stdout=Append(os.path.join(folder, "log")),
        stderr=Append(os.path.join(folder, "log")),
        privileged_action=bind,
    )


def serve(running: Outcome) -> None:
    """Answer every connection with the greeting; SIGHUP changes it, SIGTERM ends."""
    server = running.value
    assert isinstance(server, socket.socket)
    greeting = [b"hello\n"]
    signal.signal(signal.SIGHUP, lambda *_: greeting.__setitem__(0, b"hello again\n"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.listen()
    running.ready("listening")
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(greeting[0])
            print("one more", flush=True)


def main(action: str, folder: str) -> int:
    """Do what the command line says; return the exit status."""
    daemon = make(folder)
    if action == "start":
        try:
            outcome = daemon.run(serve)
        except DaemonError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"started, pid {outcome.pid}")
    elif action == "stop":
        print(daemon.stop() or "it was not running")
    elif action == "reload":
        print(f"told pid {daemon.reload()}")
    else:
        status = daemon.status()
        print(status.state)
        return 0 if status.running else 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
