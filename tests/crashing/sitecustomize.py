"""Crashes a rollout at its effects. test_crashes.py puts this folder on PYTHONPATH, for the runner and its kernels.

An effect is a change that the ledger has an `intent` of. Each is hit twice, once early and once late:

    before       the intent is on disk, the Mac has not been asked
    unrecorded   the Mac has done it, the ledger does not say so
    recorded     the ledger has the effect, nobody has proven it

CRASHES is a folder: `hits.jsonl` has one line a crash, `done.jsonl` one line a change that the Mac carried out.
CRASH_TURN shifts which way goes with which effect: over eight turns each effect meets every point in every way.
CRASH_FROM is the first step that is crashed, to look at a later one sooner.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

WAYS = ("kernel killed", "runner killed", "runner asked to stop", "connection cut")
LATE = ("unrecorded", "recorded")
HELD_BY_ANOTHER = 75
FOREVER_S = 120  # until the signal that was sent has arrived


class Crashes:
    def __init__(self, folder: Path, turn: int) -> None:
        self.folder, self.turn = folder, turn
        self.runner = int(os.environ.setdefault("CRASH_RUNNER", str(os.getpid())))
        self.what, self.step, self.host = "", "", None
        self.is_tried = False  # between an intent and its effect; what is sent beside that confirms or lets go

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def note(self, name: str, **facts: Any) -> None:
        with (self.folder / name).open("a") as file:
            file.write(json.dumps(facts) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def reach(self, point: str) -> bool:
        """Crash here if it is this effect's turn; True where the connection was cut, and the code goes on."""
        if self.step[:1].isdigit() and self.step < os.environ.get("CRASH_FROM", ""):
            return False
        hits = self.lines("hits.jsonl")
        if any(hit["what"] == self.what and (hit["point"] in LATE) == (point in LATE) for hit in hits):
            return False
        effects = list(dict.fromkeys([*(hit["what"] for hit in hits), self.what]))
        number = effects.index(self.what) + self.turn
        late = LATE[(number + self.turn // len(WAYS)) % 2]
        if point in LATE and point != late:
            return False
        way = WAYS[(number + (point in LATE)) % len(WAYS)]
        self.note("hits.jsonl", what=self.what, step=self.step, point=point, way=way, at=time.time())
        return self.crash(way)

    def crash(self, way: str) -> bool:
        is_runner = os.getpid() == self.runner
        if way == "connection cut":
            self.host._transport.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
            return True
        target = os.getpid() if way == "kernel killed" else self.runner
        os.kill(target, signal.SIGTERM if way == "runner asked to stop" else signal.SIGKILL)
        if not is_runner:
            time.sleep(FOREVER_S)
        return False


def watch_ledger(module: ModuleType, crashes: Crashes) -> None:
    append = module.Ledger.append

    def appended(self: Any, event: str, what: str, **detail: Any) -> Any:
        entry = append(self, event, what, **detail)
        if event == "intent":
            crashes.what, crashes.step, crashes.is_tried = what, self.step, True
        if event == "effect":
            crashes.is_tried = False
            crashes.reach("recorded")
        return entry

    module.Ledger.append = appended  # type: ignore[attr-defined]


def watch_host(module: ModuleType, crashes: Crashes) -> None:
    change = module.Host.change

    def changed(self: Any, script: str, *args: str, **options: Any) -> Any:
        crashes.host = self
        if not crashes.is_tried:
            return change(self, script, *args, **options)
        crashes.reach("before")
        done = change(self, script, *args, **options)
        result = done.fields().get("result", "")
        crashes.note("done.jsonl", what=crashes.what, status=done.exit_status, result=result, at=time.time())
        is_done = done.exit_status != HELD_BY_ANOTHER
        return self.run("# ask once more\n:") if is_done and crashes.reach("unrecorded") else done

    module.Host.change = changed  # type: ignore[attr-defined]


PATCHES: dict[str, Callable[[ModuleType, Crashes], None]] = {
    "runbook_lib.records.ledger": watch_ledger,
    "runbook_lib.ssh.host": watch_host,
}


class Finder(importlib.abc.MetaPathFinder):
    """Finds the two modules as ever, and patches them when they have been executed."""

    def __init__(self, crashes: Crashes) -> None:
        self.crashes = crashes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec and spec.loader
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            PATCHES[name](module, self.crashes)

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


if "CRASHES" in os.environ:
    sys.meta_path.insert(0, Finder(Crashes(Path(os.environ["CRASHES"]), int(os.environ["CRASH_TURN"]))))
