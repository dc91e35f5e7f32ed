"""The Mac as it told itself: system, user, launchd's jobs loaded and on disk, processes, listeners, open files."""

from __future__ import annotations

import plistlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.discovery.recording import rows
from runbook_lib.gateway.launchd import UNREADABLE

OWN_WRAPPER = "/with-env.sh"  # the runbook's own wrapper: a job that it starts is a canary's


@dataclass
class Job:
    """One launchd job: as it is loaded in a domain, as it lies on disk, or both."""

    label: str
    domain: str = ""
    """Empty where it is not loaded."""
    lines: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    """Names to values; a value that may be a secret is empty."""
    plist: str = ""
    plist_owner: str = ""
    on_disk: dict[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int | None:
        pid = self.lines.get("pid", "")
        return int(pid) if pid.isdigit() else None

    @property
    def words(self) -> list[str]:
        """What it runs: as loaded, else as on disk."""
        return self.arguments or self.disk_words

    @property
    def disk_words(self) -> list[str]:
        words = self.on_disk.get("ProgramArguments") or [self.on_disk.get("Program", "")]
        return [str(word) for word in words if word]

    @property
    def environment(self) -> dict[str, str]:
        on_disk = self.on_disk.get("EnvironmentVariables")
        told = {str(name): str(value) for name, value in on_disk.items()} if isinstance(on_disk, dict) else {}
        return {**told, **self.variables}

    @property
    def is_ours(self) -> bool:
        return any(word.endswith(OWN_WRAPPER) for word in self.words) or self.label.endswith(".sentinel")

    @property
    def is_gateway(self) -> bool:
        """Whether it runs a gateway, not a node host, a sentinel or nginx."""
        return "gateway" in self.words and not self.is_ours


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    user: str
    command: str


@dataclass
class Machine:
    """What ask_machine.sh printed, by noun."""

    system: str = ""
    processor: str = ""
    version: str = ""
    user: str = ""
    uid: str = ""
    home: str = ""
    connection: list[str] = field(default_factory=list)
    console: str = ""
    disk_kib: int | None = None
    may_sudo: bool = False
    addresses: list[str] = field(default_factory=list)
    power: dict[str, str] = field(default_factory=dict)
    updates: dict[str, str] = field(default_factory=dict)
    login: dict[str, str] = field(default_factory=dict)
    domains: dict[str, bool] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    listeners: list[tuple[int, str]] = field(default_factory=list)
    opened: dict[int, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def ports_of(self, pid: int | None) -> list[int]:
        """The ports that a process, or one that it started, listens on, lowest first."""
        family = {pid, *(p.pid for p in self.processes if p.parent == pid)}
        found = {int(address.rpartition(":")[2]) for owner, address in self.listeners if owner in family}
        return sorted(found)

    def files_of(self, pid: int | None) -> list[tuple[str, str]]:
        family = {pid, *(p.pid for p in self.processes if p.parent == pid)}
        return [one for owner, files in self.opened.items() if owner in family for one in files]

    def job_of(self, pid: int) -> Job | None:
        parents = {process.pid: process.parent for process in self.processes}
        return next((job for job in self.jobs if job.pid is not None and job.pid in (pid, parents.get(pid))), None)


def parse(text: str) -> Machine:
    """ask_machine.sh's lines as a Machine. Pure; what is not told stays empty."""
    machine, loaded, on_disk, xml = Machine(), list[Job](), list[Job](), list[str]()
    for name, *values in rows(text):
        match name, values:
            case "system", [system, processor, version]:
                machine.system, machine.processor, machine.version = system, processor, version
            case "user", [user, uid, home]:
                machine.user, machine.uid, machine.home = user, uid, home
            case "connection", [said]:
                machine.connection = said.split()
            case "console", [owner]:
                machine.console = owner
            case "disk", [_, free]:
                machine.disk_kib = int(free) if free.isdigit() else None
            case "sudo", [count]:
                machine.may_sudo = count.isdigit() and int(count) > 0
            case "address", [address]:
                machine.addresses.append(address)
            case "power", [key, value]:
                machine.power[key] = value
            case "update", [key, value]:
                machine.updates[key] = value
            case "login", [said]:
                key, _, value = said.partition("=")
                machine.login[key] = value
            case "domain", [domain, status]:
                machine.domains[domain] = status == "0"
            case "job", [domain, label]:
                loaded.append(Job(label, domain))
            case "line", [key, value]:
                loaded[-1].lines[key] = value
            case "argument", [word]:
                loaded[-1].arguments.append(word)
            case "variable", [key, value]:
                loaded[-1].variables[key] = value
            case "plist", [path, owner]:
                _close(on_disk, xml)
                on_disk.append(Job("", plist=path, plist_owner=owner))
            case "xml", _:
                xml.append("\t".join(values))
            case "process", [pid, parent, user, command]:
                machine.processes.append(Process(int(pid), int(parent), user, command))
            case "listen", [pid, _, address]:
                machine.listeners.append((int(pid), address))
            case "open", [pid, descriptor, path]:
                machine.opened[int(pid)].append((descriptor, path))
    _close(on_disk, xml)
    machine.jobs = _together(loaded, on_disk)
    return machine


def _close(on_disk: list[Job], xml: list[str]) -> None:
    """Give the property list that was read last to its job."""
    if on_disk and xml:
        try:
            content = plistlib.loads("\n".join(xml).encode())
        except (plistlib.InvalidFileException, *UNREADABLE):
            content = {}
        on_disk[-1].on_disk = content if isinstance(content, dict) else {}
    if on_disk:
        on_disk[-1].label = str(on_disk[-1].on_disk.get("Label") or on_disk[-1].plist.rpartition("/")[2][:-6])
    xml.clear()


def _together(loaded: list[Job], on_disk: list[Job]) -> list[Job]:
    """A loaded job with its property list: by path, else by label; what only lies there comes last."""
    for job in loaded:
        path = job.lines.get("path", "")
        same = next((d for d in on_disk if path and d.plist == path), None)
        if same := same or next((d for d in on_disk if d.label == job.label), None):
            job.plist, job.plist_owner, job.on_disk = same.plist, same.plist_owner, same.on_disk
        else:
            job.plist = path
    met = {job.plist for job in loaded}
    return [*loaded, *(job for job in on_disk if job.plist not in met)]
