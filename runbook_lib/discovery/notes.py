"""What was found beside the parameters: what a person should know before the first step."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runbook_lib.discovery.front import Way
from runbook_lib.discovery.gateway import TOKENS_AT, Gateway
from runbook_lib.discovery.machine import Machine
from runbook_lib.discovery.values import Found


def notes(found: Found, others: list[Way]) -> list[str]:
    """A sentence each: what is there, and what of it asks for care."""
    gateway, machine = found.gateway, found.machine
    return [
        *_machine(machine),
        *_jobs(machine, gateway),
        *_gateway(gateway),
        *_configuration(gateway),
        *_front(found, others),
    ]


def _machine(machine: Machine) -> Iterator[str]:
    yield f"{machine.system} {machine.version} {machine.processor}, user {machine.user}, home {machine.home}"
    gui = machine.domains.get(f"gui/{machine.uid}", False)
    yield f"GUI session of {machine.user}: " + (
        "yes" if gui else "no: its jobs run in user/ or system alone, and start with nobody logged in only from system"
    )
    if (sleep := machine.power.get("sleep", "")) not in ("", "0"):
        yield f"it sleeps after {sleep} min: a sleeping Mac answers nobody (sudo pmset -a sleep 0)"
    if machine.power.get("autorestart") == "0":
        yield "it stays off after a power failure (sudo pmset -a autorestart 1)"
    if machine.updates.get("AutomaticallyInstallMacOSUpdates") == "1":
        yield "macOS installs updates by itself: one that restarts the Mac ends an observation"
    if machine.login:
        yield f"a login shell alone knows: {', '.join(sorted(machine.login))}; npm needs them in ~/.npmrc"


def _jobs(machine: Machine, gateway: Gateway) -> Iterator[str]:
    for job in machine.jobs:
        if job.is_ours:
            yield f"{job.label} is a canary or sentinel of an earlier rollout ({job.domain or 'on disk, not loaded'})"
        elif job is not gateway.job and "openclaw" in job.label:
            yield f"{job.label} is there, too ({job.domain or 'on disk, not loaded'}), and stays as it is"
    job = gateway.job
    if job.domain and job.disk_words and job.arguments and job.disk_words != job.arguments:
        yield (
            f"{job.label}: the loaded job is not what {job.plist} says. It runs `{' '.join(job.arguments)}`; a restart "
            f"would start `{' '.join(job.disk_words)}`"
        )
    if not job.domain:
        yield f"{job.label} is on disk and not loaded: start it before the first step"
    elif job.pid is None:
        yield f"{job.label} is loaded and does not run ({job.lines.get('last exit code', 'no exit code')})"


def _gateway(gateway: Gateway) -> Iterator[str]:
    yield f"OpenClaw {gateway.version}, {gateway.installed} in {gateway.root} (owner {gateway.root_owner})"
    if gateway.program.options:
        yield f"it runs Node with {' '.join(gateway.program.options)}"
    for path, schema in gateway.databases.items():
        yield f"{path}: schema {schema or 'unread'}"
    for file, is_private in gateway.env_files.items():
        names = gateway.names_in.get(file, [])
        yield f"{file}: {', '.join(names) or 'no name'}" + ("" if is_private else "; others may read it, chmod 600")
    for name, (kind, provider) in gateway.profiles.items():
        yield f"auth profile {name}: {kind}{f' of {provider}' if provider else ''}" + (
            "; a login is not copied: two gateways that refresh one token log each other out" if kind == "oauth" else ""
        )


def _configuration(gateway: Gateway) -> Iterator[str]:
    for file, why in gateway.unreadable.items():
        yield f"{file} cannot be read ({why})"
    if gateway.config_path != f"{gateway.state}/openclaw.json":
        yield f"its configuration is {gateway.config_path}, outside of its state; the runbook looks in {gateway.state}"
    if gateway.json5:
        yield f"JSON5 with comments or trailing commas: {', '.join(gateway.json5)}"
    if len(gateway.files) > 1:
        yield f"it includes {', '.join(gateway.files[1:])}"
    for where, path in gateway.paths().items():
        yield f"{where} = {path}"
    secrets = gateway.secret_places()
    if secrets:
        yield "secrets in its configuration: " + ", ".join(f"{where} ({kind})" for where, kind in secrets.items())
    if TOKENS_AT["OPENCLAW_GATEWAY_TOKEN"] not in secrets:
        mode = gateway.said("gateway.auth.mode") or "not set"
        yield f"no gateway token in its configuration; gateway.auth.mode is {mode}"
    bind = gateway.said("gateway.bind")
    if bind not in ("", "loopback"):
        yield f"gateway.bind is {bind}: whoever reaches it goes past nginx and meets no canary"
    if "gateway.trustedProxies.0" not in gateway.config:
        yield "gateway.trustedProxies is empty: OpenClaw answers 403 proxy_attribution_required to proxied requests"
    yield f"hooks: {', '.join(gateway.hooks) or 'off'}"
    plugins = sorted({m[1] for w in gateway.config if (m := re.match(r"plugins\.entries\.([^.]+)\.", w))})
    yield f"plugins configured: {', '.join(plugins) or 'none'}; admin-http-rpc is {_switch(gateway)}"


def _switch(gateway: Gateway) -> str:
    return "on" if gateway.has_rpc else "off: primary's backlog is not seen; runtime.canary_rpc gives it to the canary"


def _front(found: Found, others: list[Way]) -> Iterator[str]:
    way, front = found.way, found.way.front
    yield f"{way.url}: {way.server.file} line {way.server.line}, nginx {front.version}, logged in {', '.join(way.logs)}"
    for other in others:
        yield f"{other.url} leads to the gateway, too: {other.server.file} line {other.server.line}"
    foreign = [path for path, ours in front.writable.items() if not ours and path == way.server.file]
    if foreign and front.master.user != "root":
        yield f"{foreign[0]} is not yours to write: chown it to {found.machine.user}, or nginx cannot be changed"
    traffic = found.traffic
    for path, count in sorted(traffic.paths.items(), key=lambda pair: -pair[1])[:8]:
        senders = ", ".join(traffic.senders.get(path.partition(" ")[2], {}))
        yield f"lately {count} x {path}" + (f" from {senders}" if senders else "")
