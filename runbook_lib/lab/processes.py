"""Processes the lab starts: each is recorded with its start time, and only what is recorded is ended.

A pid alone may belong to somebody else by the time `down` reads it; a pid with its start time may not.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

SAME_START_S = 1.5  # start times come from the clock ticks since boot: two readings differ by rounding
POLL_S = 0.01


def start(folder: Path, name: str, argv: list[str], *, env: Mapping[str, str] | None = None, pass_fd: int = -1) -> int:
    """Start a process in a session of its own, its output in <name>.log, and record it.

    posix_spawn rather than Popen: the process outlives us, and nobody here waits for it. A descriptor
    passed is number 3 on the other side.
    """
    log = folder / f"{name}.log"
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    if pass_fd >= 0:
        os.set_inheritable(pass_fd, True)
        actions.append((os.POSIX_SPAWN_DUP2, pass_fd, 3))
    pid = os.posix_spawn(argv[0], argv, dict(os.environ if env is None else env), file_actions=actions, setsid=True)
    record(folder, name, pid)
    return pid


def record(folder: Path, name: str, pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        entry = {"pid": pid, "started_at": psutil.Process(pid).create_time()}
        whole = folder / f"{name}.pid"
        part = whole.with_suffix(".pid-part")
        part.write_text(json.dumps(entry))
        part.replace(whole)


def forget(folder: Path, name: str) -> None:
    (folder / f"{name}.pid").unlink(missing_ok=True)


def recorded(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.pid"))


def find(folder: Path, name: str) -> psutil.Process | None:
    """The recorded process if it still runs and is the one that was recorded."""
    try:
        entry = json.loads((folder / f"{name}.pid").read_text())
        process = psutil.Process(entry["pid"])
        same = abs(process.create_time() - entry["started_at"]) < SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def end(folder: Path, name: str, grace_s: float = 3.0) -> bool:
    """End a recorded process and what it started: asked first, then killed. False when it was gone."""
    process = find(folder, name)
    if process is not None:
        end_all([*_descendants(process), process], grace_s)
    forget(folder, name)
    return process is not None


def end_all(processes: Iterable[psutil.Process], grace_s: float) -> None:
    some = list(processes)
    _signal(some, signal.SIGTERM)
    _signal(some, signal.SIGCONT)  # a stopped process hears SIGTERM only once it goes on
    left = _wait(some, grace_s)
    _signal(left, signal.SIGKILL)
    _wait(left, grace_s)


def _wait(processes: list[psutil.Process], patience_s: float) -> list[psutil.Process]:
    """Those that still run after `patience_s`. A zombie is gone: some init reaps only every other second."""
    deadline_s = time.monotonic() + patience_s
    left = processes
    while (left := [process for process in left if _runs(process)]) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        if process.ppid() == os.getpid():
            os.waitpid(process.pid, os.WNOHANG)
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []
