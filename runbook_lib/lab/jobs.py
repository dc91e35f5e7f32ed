"""One launchd job: the definition as it was loaded, its process, and how `launchctl print` shows it.

bootstrap ──▶ not running ──▶ running ──▶ SIGTERMed ──▶ SIGKILLed
                  ▲   spawn scheduled ◀─┘ (KeepAlive; ThrottleInterval since the last launch)
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

THROTTLE_S = 10  # launchd.plist(5): "by default, jobs will not be spawned more than once every 10 seconds"
EXIT_TIMEOUT_S = 20  # launchd.plist(5), ExitTimeOut: what OpenClaw's own plist states too
EX_CONFIG = 78  # what launchd reports when it cannot run the program or open its log

OnProcess = Callable[[str, int | None], None]


class Job:
    """A loaded job. `live()` runs it until it is booted out."""

    def __init__(
        self, domain: str, path: Path, spec: dict[str, Any], environment: dict[str, str], told: OnProcess
    ) -> None:
        self.domain, self.path, self.spec = domain, path, spec
        self.label: str = spec["Label"]
        self.arguments = [str(word) for word in spec.get("ProgramArguments") or [spec["Program"]]]
        self.program = str(spec.get("Program") or self.arguments[0])
        given = spec.get("EnvironmentVariables", {})
        self.own = {key: value for key, value in given.items() if isinstance(value, str)}
        self.environment = {**environment, **self.own, "XPC_SERVICE_NAME": self.label}
        self.state = "not running"
        self.runs = 0
        self.last_exit: int | None = None
        self.process: Process | None = None
        self.leaving = False
        self._told = told
        self._kicked = asyncio.Event()
        self._spawned = asyncio.Condition()
        self._launched_at_s = -float("inf")

    async def live(self) -> None:
        wanted = bool(self.spec.get("RunAtLoad")) or self.spec.get("KeepAlive") is True
        while not self.leaving:
            delay_s = self.throttle_s - (time.monotonic() - self._launched_at_s)
            if not wanted:
                self.state = "not running"
                await self._kicked.wait()
            elif delay_s > 0 and not self._kicked.is_set():
                self.state = "spawn scheduled"
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._kicked.wait(), delay_s)
            self._kicked.clear()
            if not self.leaving:
                await self._run()
            wanted = self._kicked.is_set() or self._kept_alive()

    @property
    def throttle_s(self) -> int:
        return int(self.spec.get("ThrottleInterval", THROTTLE_S))

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    async def kick(self, kill: bool) -> int | None:
        """Run now, whatever the throttle says; with `kill` the running process goes first. The new pid."""
        if self.process and not kill:
            return self.pid
        before = self.runs
        self._kicked.set()
        if self.process:
            self.terminate()
        async with self._spawned:
            await self._spawned.wait_for(lambda: self.runs > before or self.leaving)
        return self.pid

    def leave(self) -> None:
        self.leaving = True
        self._kicked.set()
        if self.process:
            self.terminate()

    def terminate(self) -> None:
        self.state = "SIGTERMed"
        self.signal(signal.SIGTERM)
        patience_s = int(self.spec.get("ExitTimeOut", EXIT_TIMEOUT_S)) or 10**6  # 0 waits for ever
        asyncio.get_running_loop().call_later(patience_s, self._kill, self.pid)

    def signal(self, number: int) -> bool:
        if self.process is None:
            return False
        with suppress(ProcessLookupError):  # os.kill: asyncio's send_signal polls, and the exit code is lost
            os.kill(self.process.pid, number)
        return True

    def _kill(self, pid: int | None) -> None:
        if self.process and self.pid == pid:
            self.state = "SIGKILLed"
            self.signal(signal.SIGKILL)

    def _kept_alive(self) -> bool:
        keep = self.spec.get("KeepAlive", False)
        if not isinstance(keep, dict):
            return bool(keep)
        exited_well, crashed = self.last_exit == 0, (self.last_exit or 0) < 0
        return keep.get("SuccessfulExit") == exited_well or keep.get("Crashed") == crashed

    async def _run(self) -> None:
        self._launched_at_s = time.monotonic()
        try:
            self.process = await self._spawn()
            self.state = "running"
            self._told(self.label, self.process.pid)
        except OSError:
            self.last_exit = EX_CONFIG
        async with self._spawned:
            self.runs += 1
            self._spawned.notify_all()
        if self.process is None:
            return
        self.last_exit = await self.process.wait()
        if not self.spec.get("AbandonProcessGroup"):
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None
        self._told(self.label, None)

    async def _spawn(self) -> Process:
        out, err = (_append(self.spec.get(key)) for key in ("StandardOutPath", "StandardErrorPath"))
        try:
            return await asyncio.create_subprocess_exec(
                *self.arguments,
                executable=self.program,
                stdin=DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.spec.get("WorkingDirectory", "/"),
                env=self.environment,
                umask=_umask(self.spec.get("Umask")),
                start_new_session=True,
            )
        finally:
            for descriptor in {out, err} - {DEVNULL}:
                os.close(descriptor)


def _append(path: str | None) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666) if path else DEVNULL


def _umask(value: int | str | None) -> int:
    """launchd.plist(5): an integer is decimal (63 is 077), a string may be octal."""
    return -1 if value is None else int(value, 8) if isinstance(value, str) else value
