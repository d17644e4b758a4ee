"""The service that tests/systemd/test_managed.py lets systemd manage: `managed_service.py MODE`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import fastproc
from fastproc import systemd
from fastproc.daemon import Daemon


def plain() -> None:
    """Ready, reloads on SIGHUP, stops on SIGTERM; its status says what it did."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGTERM))
    systemd.notify(status="starting")
    systemd.notify(ready=True, status=f"runs because of {systemd.foreground_reason()}")
    while signal.sigwait((signal.SIGHUP, signal.SIGTERM)) == signal.SIGHUP:
        systemd.notify(reloading=True, status="reloading")
        systemd.barrier()
        systemd.notify(ready=True, status="reloaded")
    systemd.notify(stopping=True, status="bye")
    systemd.barrier()


def silent() -> None:
    """Never ready."""
    time.sleep(1000)


def failing() -> None:
    """Says why, and ends."""
    systemd.notify(status="no database", errno=13)
    systemd.barrier()
    sys.exit(7)


def slow() -> None:
    """Takes longer than its unit allows, and says so in time."""
    for _ in range(8):
        systemd.notify(extend_timeout_usec=2_000_000, status="migrating")
        time.sleep(0.5)
    systemd.notify(ready=True, status="migrated")
    time.sleep(1000)


def parent() -> None:
    """Its child is the main process."""
    if pid := os.fork():
        systemd.notify(mainpid=pid, ready=True, status=str(pid))
        systemd.barrier()
        os._exit(0)
    time.sleep(1000)


def pinging() -> None:
    """Pings the watchdog until a file is there, and then hangs."""
    with fastproc.Reactor() as reactor, systemd.watchdog(reactor) as dog:
        systemd.notify(ready=True, status=f"{systemd.watchdog_usec()}")
        while not os.path.exists("/run/test/hang"):
            reactor.run_once(0.01)
        systemd.notify(status=f"hangs after {dog.sent} pings")
    time.sleep(1000)


def storing() -> None:
    """Gives a socket to the manager, and gets it back after a restart."""
    found = systemd.listen_fds()
    if found:
        with found[0].socket(listening=True) as kept:
            systemd.notify(ready=True, status=f"got {found[0].name} {kept.getsockname()[1]}")
            time.sleep(1000)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        systemd.notify(fdstore=[server], fdname="kept")
        systemd.barrier()
        systemd.notify(ready=True, status=f"kept {server.getsockname()[1]}")
        time.sleep(1000)


def activated() -> None:
    """Answers at the sockets that it was given."""
    found = systemd.listen_fds()
    names = [(each.fd, each.name, each.kind) for each in found]
    servers = [each.socket(listening=True) for each in found]
    systemd.notify(ready=True, status=f"{names} {[name for name in os.environ if name.startswith('LISTEN_')]}")
    while True:
        connection, _ = servers[0].accept()
        with connection:
            connection.sendall(connection.recv(99).upper())


def daemon(foreground: str, fails: str) -> None:
    """A Daemon, which stays in the foreground by itself, unless it is told otherwise."""

    def action() -> None:
        if fails == "fails":
            raise PermissionError("no key")

    choice = {"auto": None, "never": False}[foreground]
    chosen = Daemon("managed", pid_file="/run/test/pid", foreground=choice, privileged_action=action)
    outcome = chosen.start()
    outcome.ready()
    time.sleep(1000)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
