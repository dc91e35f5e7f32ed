"""`rollout discover`: a Mac asked in a few round trips, and what it said as the parameters of a region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.discovery import front as fronts
from runbook_lib.discovery import gateway as gateways
from runbook_lib.discovery import machine as machines
from runbook_lib.discovery import parameters_file, recording
from runbook_lib.discovery import traffic as traffics
from runbook_lib.discovery.front import Front, Master, Way
from runbook_lib.discovery.gateway import SPACING, Gateway
from runbook_lib.discovery.machine import Job, Machine
from runbook_lib.discovery.notes import notes
from runbook_lib.discovery.recording import Recording
from runbook_lib.discovery.traffic import Traffic
from runbook_lib.discovery.values import PROBE_PORTS, Found, Value, values
from runbook_lib.errors import PlanError
from runbook_lib.mac.mac import connect_to_ask
from runbook_lib.onmac import script
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh.host import Host


@dataclass(frozen=True)
class Discovered:
    """What discover wrote: the values, how many of them a person gave, and what is worth knowing beside them."""

    path: Path
    values: list[Value]
    given_count: int
    notes: list[str]

    @property
    def left(self) -> list[Value]:
        return parameters_file.left(self.values)

    @property
    def exit_code(self) -> int:
        return 3 if self.left else 0

    def lines(self) -> list[str]:
        """What to read on the terminal."""
        region = self.values[0].value
        told = [f"  {note}" for note in self.notes]
        count = f"{len(self.values)} values, {self.given_count} of them from a person"
        missing = [f"  {'.'.join(value.where)}: {value.question}" for value in self.left]
        after = f"rollout plan {region}, then rollout run {region} --dry-run"
        end = (
            [f"{len(missing)} left for a person, marked in the file:", *missing]
            if missing
            else [f"complete; next: {after}"]
        )
        return ["found:", *told, f"wrote {self.path}: {count}", *end]

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "values": {
                ".".join(v.where): {"value": v.value, "source": v.source} for v in self.values if not v.question
            },
            "left": {".".join(value.where): value.question for value in self.left},
            "given_count": self.given_count,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Choice:
    """What a person names where a Mac has more than one."""

    gateway: str = ""
    way: str = ""


def from_mac(section: HostSection, choice: Choice, region: str) -> tuple[Recording, Found, list[Way]]:
    """Ask a Mac. Raises HostError, or PlanError where it has no one gateway and way."""
    record = Recording(section.alias)
    with connect_to_ask(section) as host:
        return (record, *_found(record, host, choice, region, section.ssh_config))


def from_report(path: Path, choice: Choice, region: str) -> tuple[Recording, Found, list[Way]]:
    """The same from a report of a Mac that was asked. Raises EvidenceError, or PlanError as from_mac does."""
    record = recording.read(path)
    return (record, *_found(record, None, choice, region, ""))


def write_parameters(
    found: Found, others: list[Way], path: Path, said: dict[str, str], ask: parameters_file.Ask | None
) -> Discovered:
    """Write the parameters of what was found; what is left is asked, where somebody can be asked."""
    answered, given_count = parameters_file.answered(values(found), said, ask)
    beside = notes(found, others)
    head = [
        f"Found by `rollout discover {found.alias}` at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; nothing was changed.",
        "Beside each value stands where it came from.",
        f"Next: rollout plan {found.region}, then rollout run {found.region} --dry-run",
    ]
    parameters_file.write(path, parameters_file.render(answered, head))
    return Discovered(path, answered, given_count, beside)


def _found(
    record: Recording, host: Host | None, choice: Choice, region: str, ssh_config: str
) -> tuple[Found, list[Way]]:
    machine = machines.parse(record.ask("machine", _asking(host, _ask_machine)))
    job = gateways.choose(machine, choice.gateway)
    gateway = _gateway(record, host, machine, job)
    gateways.refuse_old(gateway)
    port = gateway.program.port or int(gateway.said("gateway.port") or 0) or gateways.DEFAULT_PORT
    found = [way for master in _masters(machine) for way in fronts.ways(_front(record, host, machine, master), port)]
    way = fronts.choose(found, port, choice.way)
    traffic = _traffic(record, host, gateway, way)
    others = [other for other in found if other.server is not way.server]
    return Found(region, record.name, machine, gateway, way, traffic, ssh_config), others


def _asking(host: Host | None, ask: Callable[..., str], *words: str) -> Callable[[], str] | None:
    """The question as a call, or none where only a report can answer."""
    return None if host is None else lambda: ask(host, *words)


def _ask_machine(host: Host) -> str:
    return host.run(script("ask_machine.sh")).stdout


def _ask_gateway(host: Host, *words: str) -> str:
    return host.run(script("ask_gateway.sh"), *words).stdout


def _ask_front(host: Host, *words: str) -> str:
    return host.run(script("ask_front.sh"), *words).stdout


def _ask_way(host: Host, *words: str) -> str:
    return host.run(script("ask_way.sh"), *words).stdout


def _gateway(record: Recording, host: Host | None, machine: Machine, job: Job) -> Gateway:
    program = gateways.unwrap(job.words, job.environment)
    opened = next((path for what, path in machine.files_of(job.pid) if what == "txt"), "")
    node = program.node if program.node.startswith("/") else opened
    program = gateways.replace_node(program, node)
    state, _ = gateways.state_dir(machine, job, program)
    config = job.environment.get("OPENCLAW_CONFIG_PATH", "")
    port = program.port or next(iter(machine.ports_of(job.pid)), gateways.DEFAULT_PORT)
    tried = [p for p in (port + n * SPACING for n in (1, 2, 3, -1)) if 1024 <= p <= 65535]
    words = (program.node, program.entry, program.env_file, state, config, port, *tried, *PROBE_PORTS)
    text = record.ask(f"gateway {job.label}", _asking(host, _ask_gateway, *map(str, words)))
    return gateways.parse(text, job, program)


def _masters(machine: Machine) -> list[Master]:
    """The running nginx: those that launchd started, where it started any."""
    found = fronts.masters(machine)
    if not found:
        raise PlanError(
            "discover",
            [
                "no nginx runs on this Mac, and the canary gets its share of the traffic there; put nginx in front of "
                "the gateway first"
            ],
        )
    return [master for master in found if master.job] or found


def _front(record: Recording, host: Host | None, machine: Machine, master: Master) -> Front:
    sudo = "sudo -n" if master.user == "root" and machine.user != "root" else ""
    text = record.ask(f"nginx {master.pid}", _asking(host, _ask_front, master.binary, sudo, *master.words))
    return fronts.parse(text, master)


def _traffic(record: Recording, host: Host | None, gateway: Gateway, way: Way) -> Traffic:
    words = (way.name, str(way.port), gateway.hooks_path, *way.logs)
    return traffics.parse(record.ask(f"way {way.url}", _asking(host, _ask_way, *words)))
