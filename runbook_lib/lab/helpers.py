"""Processes that are a fault while they run, each bounded in time: `python -m runbook_lib.lab.helpers VERB …`.

hold-port PORT FOR_S       something else listens there
starve PID_FILE FOR_S all|new   nginx's workers get a tenth of a core each, like under cpulimit
slay PID_FILE FOR_S        kills a recorded process whenever it is there
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from runbook_lib.lab import processes

STOPPED_S, RUNNING_S = 0.09, 0.01  # every wait of a request becomes up to 90 ms: under the 120 ms of connect p95
LOOK_S = 0.2  # how soon a worker born by a reload is found
SLAY_S = 0.1


def hold_port(port: int, for_s: float) -> None:
    held = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError):
            held.append(socket.create_server((address, port), family=family))
    time.sleep(for_s if held else 0)


def starve(pid_file: Path, for_s: float, whom: str) -> None:
    """Stop and continue the workers in turn. `new` spares those that run already: it bites after a reload."""
    spared = {worker.pid for worker in _workers(pid_file)} if whom == "new" else set()
    deadline_s, looked_at_s = time.monotonic() + for_s, -LOOK_S
    workers: list[psutil.Process] = []
    try:
        while time.monotonic() < deadline_s:
            if time.monotonic() - looked_at_s >= LOOK_S:
                workers = [worker for worker in _workers(pid_file) if worker.pid not in spared]
                looked_at_s = time.monotonic()
            _signal_all(workers, signal.SIGSTOP)
            time.sleep(STOPPED_S)
            _signal_all(workers, signal.SIGCONT)
            time.sleep(RUNNING_S)
    finally:
        _signal_all(workers, signal.SIGCONT)


def slay(pid_file: Path, for_s: float) -> None:
    deadline_s = time.monotonic() + for_s
    while time.monotonic() < deadline_s:
        process = processes.find(pid_file.parent, pid_file.stem)
        if process is not None:
            _signal_all([process], signal.SIGKILL)
        time.sleep(SLAY_S)


def _workers(pid_file: Path) -> list[psutil.Process]:
    """The children of nginx's master, as its pid file names it now."""
    with suppress(OSError, ValueError, psutil.Error):
        return psutil.Process(int(pid_file.read_text())).children()
    return []


def _signal_all(some: list[psutil.Process], number: int) -> None:
    for process in some:
        with suppress(psutil.Error):
            process.send_signal(number)


def main(verb: str, subject: str, for_s: str, whom: str = "all") -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what is stopped is continued
    if verb == "hold-port":
        hold_port(int(subject), float(for_s))
    elif verb == "starve":
        starve(Path(subject), float(for_s), whom)
    else:
        slay(Path(subject), float(for_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
