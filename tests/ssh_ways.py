"""Ways to the practice Mac over SSH, and ports that answer nothing."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from mac_fixture import connections, plan_of

from runbook_lib.lab.mac import PracticeMac
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh.host import Host


def section(lab: PracticeMac, config: Path | None = None, **keys: Any) -> HostSection:
    values = {**plan_of(lab).host.model_dump(), **keys}
    return HostSection(**(values | {"ssh_config": str(config)} if config else values))


def ssh_config(lab: PracticeMac, folder: Path, *lines: str, known_hosts: Path | None = None) -> Path:
    """The practice Mac's ssh_config with other hosts above it."""
    text = lab.layout.ssh_config.read_text()
    if known_hosts:
        text = re.sub(r"UserKnownHostsFile .*", f"UserKnownHostsFile {known_hosts}", text)
    path = folder / "ssh_config"
    path.write_text("\n".join([*lines, "", text]))
    return path


def own_connection(lab: PracticeMac, host: Host) -> psutil.Process:
    """The sshd process that serves this host's connection: the parent of its shell's parents."""
    pid = int(host.run("ps -o ppid= -p $$").stdout)
    mine = {pid, *(parent.pid for parent in psutil.Process(pid).parents())}
    return next(process for process in connections(lab) if process.pid in mine)


@contextmanager
def cut_unnoticed(lab: PracticeMac, host: Host) -> Iterator[None]:
    """A connection that is gone before its reader has heard of it: what is sent next finds out."""
    served = own_connection(lab, host)
    served.suspend()
    host._transport.sock.shutdown(socket.SHUT_WR)
    try:
        yield
    finally:
        served.resume()


@contextmanager
def hangs_up_after(answer: bytes) -> Iterator[int]:
    """A port that hears whoever connects, gives this answer and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # the listener was closed, or what it serves was cut
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1 << 16)
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(1 << 16)  # closed with something unread, it would be a reset

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def black_hole(accepts: bool) -> Iterator[int]:
    """A port that answers nothing: after the handshake, or not even that (its queue is full)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8 if accepts else 0)
        fillers = []
        for _ in range(0 if accepts else 4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()
