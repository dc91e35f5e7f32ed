"""What `rollout lab fault NAME` breaks, each at the step of the eight where the runbook should notice.

inject(mac, "frozen-canary")  ──▶  step 7 ends in the verdict fail  ──▶  clear(mac)
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from runbook_lib.lab import processes
from runbook_lib.lab.layout import CANARY_LABEL, LabError, Layout, write
from runbook_lib.lab.mac import PracticeMac

FOR_S = 600.0  # no fault outlives ten minutes by a process of its own
PATIENCE_S = 5.0
HELPERS = ("fault-taken-port", "fault-starved-workers", "fault-dead-canary")

Injection = Callable[[PracticeMac, float], None]


@dataclass(frozen=True)
class Fault:
    """`step` is the first of the eight where it bites: inject it before that step, after the one before."""

    name: str
    step: int
    says: str
    inject: Injection
    action: str = "drain"
    """What the verdict asks for."""


FAULTS: dict[str, Fault] = {}


def fault(name: str, step: int, action: str = "drain") -> Callable[[Injection], Injection]:
    def register(injection: Injection) -> Injection:
        says = (injection.__doc__ or "").split(": ", 1)[1].split("\n")[0].rstrip(".")
        FAULTS[name] = Fault(name, step, says, injection, action)
        return injection

    return register


def inject(mac: PracticeMac, name: str, for_s: float = FOR_S) -> Fault:
    """Break it. Raises LabError for an unknown name, or when what it breaks is not there yet."""
    if name not in FAULTS:
        raise LabError(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}")
    if not mac.layout.yaml.is_file():
        raise LabError(f"there is no practice Mac in {mac.layout.root}; start it: rollout lab up")
    FAULTS[name].inject(mac, for_s)
    return FAULTS[name]


def clear(mac: PracticeMac) -> None:
    """Take every fault away. What died is started again by launchd, after its ThrottleInterval."""
    layout = mac.layout
    for name in HELPERS:
        processes.end(layout.run, name)
    _faults_file(layout).unlink(missing_ok=True)
    _signal_canary(layout, signal.SIGCONT)
    saved, broken = _saved_config(layout)
    if saved.is_file():
        path = layout.state_dir("canary") / "openclaw.json"
        if path.is_file() and path.read_text() == broken.read_text():  # else the runbook has put it right
            write(path, saved.read_text(), 0o600)
        saved.unlink()
        broken.unlink()


@fault("taken-port", step=2)
def taken_port(mac: PracticeMac, for_s: float) -> None:
    """Step 2, host: something else listens on the canary's port."""
    _help(mac, "fault-taken-port", "hold-port", mac.ports.canary, for_s)
    _until("the port is taken", lambda: not _is_free(mac.ports.canary))


@fault("bad-config", step=3)
def bad_config(mac: PracticeMac, for_s: float) -> None:
    """Step 3, gateway: the canary's openclaw.json ends in the middle and does not parse."""
    path = _canary_state(mac) / "openclaw.json"
    if not path.is_file():
        raise LabError(f"{path} is not there yet; this fault bites at step 3, inject it after step 2")
    whole = path.read_text()
    saved, broken = _saved_config(mac.layout)
    if not saved.exists():
        write(saved, whole, 0o600)
        write(broken, whole[: len(whole) // 2], 0o600)
    write(path, broken.read_text(), 0o600)


@fault("starved-workers", step=6, action="pause")
def starved_workers(mac: PracticeMac, for_s: float) -> None:
    """Step 6, nginx: the workers of the next reload get a tenth of a core, so p95 jumps right after it.

    Those that run now are spared: the article's rule compares with the minutes before the reload.
    """
    _help(mac, "fault-starved-workers", "starve", mac.layout.nginx_pid, for_s, "new")


@fault("canary-5xx", step=7)
def canary_5xx(mac: PracticeMac, for_s: float) -> None:
    """Step 7, gateway: 5 % of the canary's answers are 500, ten times the article's 0.5 %."""
    _tell(mac, error_pct=5)


@fault("slow-canary", step=7, action="pause")
def slow_canary(mac: PracticeMac, for_s: float) -> None:
    """Step 7, gateway: every answer of the canary takes 400 ms longer."""
    _tell(mac, delay_ms=400)


@fault("dead-canary", step=7)
def dead_canary(mac: PracticeMac, for_s: float) -> None:
    """Step 7, gateway: the canary exits and exits again each time launchd starts it."""
    if mac.kind.takes_orders:
        _tell(mac, exit_code=1)
    else:
        _canary_state(mac)
        record = mac.layout.run / f"job-{CANARY_LABEL}.pid"
        _help(mac, "fault-dead-canary", "slay", record, for_s)
    _until("the canary is dead", lambda: _canary(mac.layout) is None)


@fault("frozen-canary", step=7)
def frozen_canary(mac: PracticeMac, for_s: float) -> None:
    """Step 7, gateway: the canary's process is stopped; its port still takes connections and says nothing."""
    if not _signal_canary(mac.layout, signal.SIGSTOP):
        raise LabError("the canary does not run yet; this fault bites at step 7, inject it after step 6")


@fault("rss-growth", step=7, action="pause")
def rss_growth(mac: PracticeMac, for_s: float) -> None:
    """Step 7, gateway: the canary's memory grows by 20 MB a second; the article allows a gap of 18 %."""
    _tell(mac, rss_mb_per_s=20)


@fault("backlog", step=7, action="pause")
def backlog(mac: PracticeMac, for_s: float) -> None:
    """Step 7, gateway: 300 jobs wait at the canary; the article allows 200."""
    _tell(mac, backlog=300)


def _tell(mac: PracticeMac, **said: float) -> None:
    """Write it into the stand-in's fault file, beside what is there; it looks five times a second."""
    if not mac.kind.takes_orders:
        raise LabError("only the stand-in gateway can be told to fail like this; use GATEWAY=standin")
    _canary_state(mac)
    path = _faults_file(mac.layout)
    before = json.loads(path.read_text()) if path.is_file() else {}
    write(path, json.dumps({**before, **said}), 0o600)


def _help(mac: PracticeMac, name: str, *words: object) -> None:
    processes.end(mac.layout.run, name)
    argv = [sys.executable, "-m", "runbook_lib.lab.helpers", *(str(word) for word in words)]
    processes.start(mac.layout.run, name, argv)


def _canary(layout: Layout) -> psutil.Process | None:
    return processes.find(layout.run, f"job-{CANARY_LABEL}")


def _canary_state(mac: PracticeMac) -> Path:
    path = mac.layout.state_dir("canary")
    if not path.is_dir():
        raise LabError("there is no canary yet; run the rollout through step 2 first")
    return path


def _signal_canary(layout: Layout, number: int) -> bool:
    process = _canary(layout)
    if process is None:
        return False
    with suppress(psutil.Error):
        for one in [process, *process.children(recursive=True)]:
            one.send_signal(number)
    return True


def _faults_file(layout: Layout) -> Path:
    return layout.state_dir("canary") / "practice-faults.json"


def _saved_config(layout: Layout) -> tuple[Path, Path]:
    return layout.run / "fault-openclaw.json", layout.run / "fault-openclaw-broken.json"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _until(what: str, reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > deadline_s:
            raise LabError(f"within {PATIENCE_S:g} s it did not come true that {what}")
        time.sleep(0.02)
