"""A small launchd: loads real plists, keeps their jobs, and answers launchctl's verbs over a socket.

    launchctl bootstrap gui/501 x.plist ──▶ run/launchd.sock ──▶ Domain.answer ──▶ Job.live

Why not supervisor: it restarts a running program at once and gives up on a failing one, where launchd waits
out ThrottleInterval since the last launch and never gives up; it counts no runs and forgets exit codes of
restarts. These are what a runbook must cope with, so they are done here.
Codes and texts: facts/macos.md, and what people measured of launchctl on macOS 14 to 15.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from runbook_lib.lab import processes
from runbook_lib.lab.jobs import Job
from runbook_lib.lab.layout import Layout
from runbook_lib.lab.printed import printed
from runbook_lib.lab.targets import definition, split, spoken

Answer = tuple[int, str, str]
SOFT_OPEN_FILES = 256  # what a launchd job on macOS starts with
BOOTOUT_ANSWERS_S = 0.3  # a quick exit is gone by then (0); a slow one is still tearing down (36)
OFFER_RICHER = "Try re-running the command as root for richer errors.\n"
GONE = "Could not find service"


class Launchd:
    """Every domain this user has: gui/UID and user/UID, and system for root."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        uid = os.getuid()
        self.domains = [f"gui/{uid}", f"user/{uid}", *(["system"] if uid == 0 else [])]
        self.jobs: dict[str, Job] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.overrides = layout.run / "launchd-disabled.json"
        self.environment = layout.mac_environment()  # PATH is a Mac's, with our launchctl as its /bin/launchctl

    async def answer(self, argv: list[str], folder: str) -> Answer:
        verbs: dict[str, Callable[..., Coroutine[Any, Any, Answer]]] = {
            "bootstrap": self.bootstrap,
            "bootout": self.bootout,
            "print": self.show,
            "kickstart": self.kickstart,
            "enable": self.enable,
            "disable": self.disable,
            "kill": self.kill,
            "list": self.listing,
            "print-disabled": self.print_disabled,
        }
        verb, *rest = argv or ["help"]
        if verb not in verbs:
            return (
                64,
                "",
                f"Unrecognized subcommand: {verb}\nUsage: launchctl <subcommand> ... | help [subcommand]\n",
            )
        options = [word for word in rest if word.startswith("-")]
        flags = {flag for word in options for flag in ([word] if word.startswith("--") else word[1:])}
        words = [word for word in rest if not word.startswith("-")]
        try:
            return await verbs[verb](words, flags=flags, folder=Path(folder))
        except (IndexError, ValueError):
            return 64, "", f"Usage: launchctl {verb} <service-target>\n"

    async def bootstrap(self, words: list[str], folder: Path, **_: Any) -> Answer:
        domain, name = words[0], words[1]
        if domain not in self.domains:
            if domain == "system":
                return 5, "", f"Bootstrap failed: 5: Input/output error\n{OFFER_RICHER}"
            return 125, "", "Bootstrap failed: 125: Domain does not support specified action\n"
        path = folder / name
        spec = definition(path)
        label = spec.get("Label") if spec else None
        if spec is None or f"{domain}/{label}" in self.jobs or label in self._disabled():
            return 5, "", f"Bootstrap failed: 5: Input/output error\n{OFFER_RICHER}"
        if domain.startswith("user/") and "Background" not in str(spec.get("LimitLoadToSessionType")):
            return 134, "", "Bootstrap failed: 134: Service cannot load in requested session\n"
        self._load(domain, path, spec)
        return 0, "", ""

    async def bootout(self, words: list[str], folder: Path, flags: set[str], **_: Any) -> Answer:
        target = words[0]
        if len(words) > 1:  # bootout DOMAIN PLIST
            spec = definition(folder / words[1]) or {}
            target = f"{target}/{spec.get('Label')}"
        job = self.jobs.get(target)
        if job is None:
            return 3, "", "Boot-out failed: 3: No such process\n"
        if job.leaving:
            return 36, "", "Boot-out failed: 36: Operation now in progress\n"
        job.leave()
        _done, busy = await asyncio.wait({self.tasks[target]}, timeout=None if "--wait" in flags else BOOTOUT_ANSWERS_S)
        if busy:
            return 36, "", "Boot-out failed: 36: Operation now in progress\n"
        return 0, "", ""

    async def show(self, words: list[str], **_: Any) -> Answer:
        target = words[0]
        if target in self.domains:
            jobs = [job for key, job in self.jobs.items() if key.startswith(f"{target}/")]
            rows = "".join(f"\t\t{job.pid or 0:>8} {_status(job):>7} \t{job.label}\n" for job in jobs)
            kind = "login" if target.startswith("gui/") else "user"
            return 0, f"{target} = {{\n\ttype = {kind}\n\tservices = {{\n{rows}\t}}\n}}\n", ""
        domain, label = split(target)
        if domain not in self.domains:
            return 112, "", f"Bad request.\nCould not find domain for {spoken(domain)}\n"
        job = self.jobs.get(target)
        return (0, printed(job), "") if job else self._missing(domain, label)

    async def kickstart(self, words: list[str], flags: set[str], **_: Any) -> Answer:
        domain, label = split(words[0])
        job = self.jobs.get(words[0])
        if domain not in self.domains:
            return 112, "", f"Bad request.\nCould not find domain for {spoken(domain)}\n"
        if job is None:
            return self._missing(domain, label)
        pid = await job.kick(kill="k" in flags)
        return 0, f"{pid}\n" if "p" in flags else "", ""

    async def enable(self, words: list[str], **_: Any) -> Answer:
        return self._override(words[0], disabled=False)

    async def disable(self, words: list[str], **_: Any) -> Answer:
        return self._override(words[0], disabled=True)

    async def kill(self, words: list[str], **_: Any) -> Answer:
        name, target = words
        name = name.upper()
        number = int(name) if name.isdigit() else signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        job = self.jobs.get(target)
        if job is None:
            return self._missing(*split(target))
        return (0, "", "") if job.signal(number) else (3, "", "No process to signal.\n")

    async def listing(self, words: list[str], **_: Any) -> Answer:
        if words:
            job = next((job for job in self.jobs.values() if job.label == words[0]), None)
            if job is None:
                return 113, "", f'{GONE} "{words[0]}" in domain for port\n'
            # the raw wait(2) status, unlike the table below
            raw = -(job.last_exit or 0) if (job.last_exit or 0) < 0 else (job.last_exit or 0) << 8
            pid = f'\t"PID" = {job.pid};\n' if job.pid else ""
            return 0, f'{{\n\t"Label" = "{job.label}";\n\t"LastExitStatus" = {raw};\n{pid}}};\n', ""
        rows = [f"{job.pid or '-'}\t{_status(job)}\t{job.label}" for job in self.jobs.values()]
        return 0, "\n".join(["PID\tStatus\tLabel", *rows]) + "\n", ""

    async def print_disabled(self, words: list[str], **_: Any) -> Answer:
        rows = "".join(
            f'\t\t"{label}" => {"disabled" if off else "enabled"}\n' for label, off in self._overrides().items()
        )
        return 0, f"\tdisabled services = {{\n{rows}\t}}\n", ""

    def load_agents(self) -> None:
        """At boot launchd loads LaunchDaemons, at login LaunchAgents; here when it comes up after being ended."""
        daemons = self.layout.mac / "Library/LaunchDaemons"
        for folder, domain in ((daemons, "system"), (self.layout.launch_agents, self.domains[0])):
            for path in sorted(folder.glob("*.plist")) if domain in self.domains else []:
                spec = definition(path)
                if spec and spec["Label"] not in self._disabled():
                    self._load(domain, path, spec)

    async def leave(self) -> None:
        """The Mac goes down: every job is asked to end, and killed after two seconds."""
        for job in self.jobs.values():
            job.spec["ExitTimeOut"] = 2
            job.leave()
            job.signal(signal.SIGCONT)
        if self.tasks:
            await asyncio.wait(list(self.tasks.values()), timeout=5)

    def _load(self, domain: str, path: Path, spec: dict[str, Any]) -> None:
        job = Job(domain, path, spec, self.environment, self._told)
        target = f"{domain}/{job.label}"
        self.jobs[target] = job
        self.tasks[target] = task = asyncio.create_task(job.live())
        task.add_done_callback(lambda _: (self.jobs.pop(target), self.tasks.pop(target)))

    def _told(self, label: str, pid: int | None) -> None:
        if pid is None:
            processes.forget(self.layout.run, f"job-{label}")
        else:
            processes.record(self.layout.run, f"job-{label}", pid)

    def _missing(self, domain: str, label: str) -> Answer:
        return 113, "", f'Bad request.\n{GONE} "{label}" in domain for {spoken(domain)}\n'

    def _override(self, target: str, disabled: bool) -> Answer:
        domain, label = split(target)
        if domain not in self.domains:
            verb = "disable" if disabled else "enable"
            return 125, "", f"Could not {verb} service: 125: Domain does not support specified action\n"
        self.overrides.write_text(json.dumps({**self._overrides(), label: disabled}))
        return 0, "", ""

    def _overrides(self) -> dict[str, bool]:
        return dict(json.loads(self.overrides.read_text())) if self.overrides.is_file() else {}

    def _disabled(self) -> set[str]:
        return {label for label, off in self._overrides().items() if off}


def _status(job: Job) -> int:
    return job.last_exit or 0


async def serve(layout: Layout) -> None:
    os.chdir(layout.run)  # a relative name: a socket's path may have 104 bytes at most
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_OPEN_FILES, hard))
    launchd, down = Launchd(layout), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, down.set)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            writer.write(json.dumps(await launchd.answer(request["argv"], request["cwd"])).encode())
            await writer.drain()
        except (ValueError, KeyError, ConnectionError):
            pass  # the caller went away or is not launchctl
        finally:
            writer.close()

    Path("launchd.sock").unlink(missing_ok=True)
    launchd.load_agents()
    async with await asyncio.start_unix_server(converse, "launchd.sock"):
        await down.wait()
        await launchd.leave()


if __name__ == "__main__":
    asyncio.run(serve(Layout(Path(sys.argv[1]))))
