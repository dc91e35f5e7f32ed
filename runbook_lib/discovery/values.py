"""Each parameter that was found, with where it came from, and the few that only a person knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runbook_lib.clock import in_words
from runbook_lib.discovery.front import TEST_CLIENT, Way
from runbook_lib.discovery.gateway import DEFAULT_PORT, SPACING, TOKENS_AT, Gateway, log_file
from runbook_lib.discovery.machine import Machine
from runbook_lib.discovery.traffic import Traffic, decides_after_s
from runbook_lib.plan.models import TrafficSection
from runbook_lib.plan.thresholds import Thresholds

CANARY = "ai.openclaw.canary"
PROBE_PORTS = (18700, 18701, 18702, 18703)
LONGEST_ROUND_TRIP_S = 600
HOOK_QUEUE_S = 15
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|_KEY$")
SIGNING = {"github_secret": "GITHUB.*SECRET", "stripe_secret": "STRIPE.*SECRET"}
"""Names of what signs a provider's deliveries, which either gateway has to verify."""
LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True)
class Value:
    """One line of parameters/<region>.yaml.

    `question` is set where a person has to say it; `value` is then what is proposed, None where nothing can be.
    """

    where: tuple[str, ...]
    value: Any
    source: str
    question: str = ""


@dataclass(frozen=True)
class Found:
    """Everything that was found on one Mac, for one region."""

    region: str
    alias: str
    machine: Machine
    gateway: Gateway
    way: Way
    traffic: Traffic
    ssh_config: str = ""


def values(found: Found) -> list[Value]:
    """All parameters of a region, in the order of the file."""
    parts = (_host, _runtime, _primary, _canary, _nginx, _webhooks, _incident)
    return [value for part in parts for value in part(found)]


def _host(found: Found) -> Iterator[Value]:
    yield Value(("region",), found.region, "as asked")
    yield Value(("topology",), "active_active", "primary_standby: probes instead of a slice, promotion is one swap")
    yield Value(("host", "alias"), found.alias, "a Host of your ssh_config")
    if found.ssh_config not in ("", "~/.ssh/config"):
        yield Value(("host", "ssh_config"), found.ssh_config, "as asked")
    yield Value(("host", "runbook_dir"), f"{found.machine.home}/rollout", "a new folder in the home of the SSH user")


def _runtime(found: Found) -> Iterator[Value]:
    gateway = found.gateway
    if gateway.package and gateway.package != "openclaw":
        yield Value(("runtime", "package"), gateway.package, f"{gateway.root}/package.json")
    yield Value(("runtime", "node"), gateway.program.node, f"what launchd starts; {gateway.node_version}")
    registry = gateway.npm_config.get("registry", "")
    if gateway.npm:
        yield Value(("runtime", "npm"), gateway.npm, f"beside Node; npm {gateway.npm_version}, {registry}")
    else:
        yield Value(
            ("runtime", "npm"), None, "no npm beside Node", "the npm that belongs to this Node: its absolute path"
        )
    domain = gateway.job.domain or f"gui/{found.machine.uid}"
    where = "where its job is loaded" if gateway.job.domain else "its job is not loaded; this is where it would be"
    yield Value(("runtime", "launchd_domain"), domain, where)
    yield Value(
        ("runtime", "browser_control"),
        gateway.said("browser.enabled") == "true",
        "browser.enabled of its configuration; the canary's port is far enough for both",
    )
    if not gateway.has_rpc:
        offer = "primary's admin-http-rpc is off; on for the canary alone, or step 7 sees no backlog"
        yield Value(("runtime", "canary_rpc"), True, offer)
    read_s = found.way.read_timeout_s
    proposed = int(min(LONGEST_ROUND_TRIP_S, read_s)) if read_s > HOOK_QUEUE_S else LONGEST_ROUND_TRIP_S
    yield Value(
        ("runtime", "longest_model_round_trip_s"),
        proposed,
        f"nginx waits {read_s:g} s",
        "the longest round trip to a model that you permit, in seconds",
    )


def _primary(found: Found) -> Iterator[Value]:
    gateway, job = found.gateway, found.gateway.job
    yield Value(
        ("primary", "label"), job.label, f"{job.domain}, pid {job.pid}" if job.domain else "on disk, not loaded"
    )
    yield Value(("primary", "plist"), job.plist, "launchctl print" if job.domain else "on disk")
    yield Value(("primary", "port"), port(found), "it listens there" if listens(found) else "its program's words")
    owner = f"{gateway.installed}, owner {gateway.root_owner}, OpenClaw {gateway.version}"
    if gateway.prefix:
        beside = f", beside {gateway.beside_count} other packages" if gateway.beside_count else ""
        yield Value(("primary", "prefix"), gateway.prefix, owner + beside)
    else:
        yield Value(
            ("primary", "prefix"),
            None,
            f"{owner} in {gateway.root}",
            "a prefix with OpenClaw in its node_modules: the runbook compares and installs npm packages, and a git "
            "checkout is none",
        )
    size = f"{gateway.state_kib / 1024:.0f} MB" if gateway.state_kib is not None else "size unknown"
    room = f"{gateway.free_kib / 1024 / 1024:.0f} GB free" if gateway.free_kib is not None else "free disk unknown"
    yield Value(("primary", "state_dir"), gateway.state, f"{size}, {room}")
    yield Value(("primary", "log_file"), log_file(gateway), "logging.file, else launchd's")
    env_file = next(iter(gateway.env_files), "") or gateway.program.env_file
    told = (
        f"{len(gateway.names_in.get(env_file, []))} names in it" if env_file else "there is none: the plist has it all"
    )
    yield Value(("primary", "env_file"), env_file or f"{gateway.state}/service-env/{job.label}.env", told)
    for name, reference, source in primary_secrets(gateway):
        yield Value(("primary", "secrets", name), reference, source)


def primary_secrets(gateway: Gateway) -> Iterator[tuple[str, str, str]]:
    """Each secret of primary that something on the Mac holds: name, reference, where it stands."""
    told = set()
    for name, where in TOKENS_AT.items():
        if reference := gateway.reference(where):
            told |= {name, reference.rpartition("#")[2]}
            yield name, reference, f"{where} of its configuration"
    for file, names in gateway.names_in.items():
        for name in names:
            if SECRET_NAME.search(name) and name not in told and not name.startswith("OPENCLAW_SERVICE"):
                told.add(name)
                yield name, f"file:{file}#{name}", "its env file"


def _canary(found: Found) -> Iterator[Value]:
    home, gateway = found.machine.home, found.gateway
    state = f"{home}/.openclaw-canary"
    plists = gateway.job.plist.rpartition("/")[0] or f"{home}/Library/LaunchAgents"
    yield Value(("canary", "label"), CANARY, "as OpenClaw names the service of a profile called canary")
    yield Value(("canary", "plist"), f"{plists}/{CANARY}.plist", "beside primary's")
    chosen = next((int(p) for p, is_free in gateway.ports.items() if is_free and int(p) not in PROBE_PORTS), None)
    yield Value(
        ("canary", "port"),
        chosen,
        f"free, {SPACING} from primary's, as OpenClaw's docs ask" if chosen else "none of those tried is free",
        "" if chosen else f"a free port at least {SPACING} from primary's",
    )
    yield Value(("canary", "prefix"), f"{home}/gateways/canary", "a new folder")
    yield Value(("canary", "state_dir"), state, "as OpenClaw lays out a profile called canary")
    yield Value(("canary", "log_file"), f"{state}/logs/gateway.log", "in its state")
    yield Value(("canary", "env_file"), f"{state}/service-env/{CANARY}.env", "in its state")
    for name, proposed, source in canary_keys(found):
        yield Value(("canary", "secrets", name), proposed, source, f"where {name} of the canary's own is kept")
    for name, reference, _ in primary_secrets(gateway):
        if name == "OPENCLAW_HOOKS_TOKEN" or any(re.search(of, name) for of in SIGNING.values()):
            yield Value(("canary", "secrets", name), reference, "primary's: a delivery may reach either gateway")


def canary_keys(found: Found) -> Iterator[tuple[str, str, str]]:
    """The keys that a canary needs of its own: name, proposed reference, why."""
    gateway, base = found.gateway, f"keyring:openclaw-{found.region}-canary"
    yield "OPENCLAW_GATEWAY_TOKEN", f"{base}-gateway-token", "never primary's"
    providers: dict[str, str] = {}
    for profile, (kind, provider) in gateway.profiles.items():
        if kind != "oauth":  # a login is no key: the canary gets its own, or does without
            providers.setdefault(provider or profile.partition(":")[0], f"profile {profile} ({kind})")
    for provider, source in providers.items():
        name = re.sub(r"[^A-Z0-9]+", "_", provider.upper()).strip("_")
        yield f"{name}_API_KEY", f"{base}-{provider}-key", f"its own key: primary has {source}"
    names = {name for names in gateway.names_in.values() for name in names if SECRET_NAME.search(name)}
    for name in sorted(names - set(TOKENS_AT) - {f"{p.upper()}_API_KEY" for p in providers}):
        if not name.startswith("OPENCLAW_") and not any(re.search(of, name) for of in SIGNING.values()):
            yield name, f"{base}-{name.lower().replace('_', '-')}", "its own: primary has one in its env file"


def port(found: Found) -> int:
    """The port that primary serves: what it listens on, what its words, its configuration or OpenClaw itself say."""
    said = found.gateway.program.port or int(found.gateway.said("gateway.port") or 0)
    open_ports = found.machine.ports_of(found.gateway.job.pid)
    return said or next(iter(open_ports), DEFAULT_PORT)


def listens(found: Found) -> bool:
    return port(found) in found.machine.ports_of(found.gateway.job.pid)


def _nginx(found: Found) -> Iterator[Value]:
    way, front, machine = found.way, found.way.front, found.machine
    master, job, folder = front.master, front.master.job, front.conf.rpartition("/")[0]
    yield Value(("nginx", "binary"), master.binary, f"its job; nginx {front.version}, owner {front.owner}")
    yield Value(("nginx", "conf"), front.conf, "nginx -V and the words it was started with")
    yield Value(
        ("nginx", "server_file"), way.server.file, f"line {way.server.line}: its server block leads to the gateway"
    )
    yield Value(("nginx", "managed_dir"), f"{folder}/openclaw-rollout", "a new folder beside nginx.conf")
    yield Value(("nginx", "error_log"), front.error_log, "nginx.conf, else built in")
    yield Value(("nginx", "pid_file"), front.pid_file, "nginx.conf, else built in")
    log = next(iter(way.logs), "") or front.access_log
    yield Value(("nginx", "log_dir"), log.rpartition("/")[0], "where its access log is")
    if job:
        yield Value(("nginx", "label"), job.label, f"the job whose pid is the master, {master.pid}")
        yield Value(("nginx", "launchd_domain"), job.domain, "where that job is loaded")
        yield Value(("nginx", "plist"), job.plist, "launchctl print")
    else:
        question = "which launchd job starts nginx: a restart of the Mac would not bring it back"
        for key in ("label", "plist"):
            yield Value(("nginx", key), None, f"no job of launchd has the master's pid {master.pid}", question)
    needs_sudo = master.user == "root" and machine.user != "root"
    may = (
        "sudo -n allows something"
        if machine.may_sudo
        else "sudo -n allows nothing yet: rollout plan --sudoers says what"
    )
    yield Value(("nginx", "sudo"), needs_sudo, f"its master runs as {master.user}" + (f"; {may}" if needs_sudo else ""))
    if way.is_tls:
        yield Value(("nginx", "public_url"), way.url, f"{way.server.file}: server_name and listen")
    else:
        question = "the https URL that customers call: TLS ends before this nginx"
        yield Value(("nginx", "public_url"), None, f"{way.url} has no TLS", question)
    if found.traffic.trusts_certificate is False:
        question = "a file here with the CA that signed its certificate"
        yield Value(("nginx", "ca_file"), None, "the Mac itself does not trust it", question)
    taken = {str(port(found))}
    probe = next((int(p) for p, is_free in found.gateway.ports.items() if is_free and int(p) in PROBE_PORTS), None)
    yield Value(
        ("nginx", "probe_port"),
        probe,
        "free, loopback only",
        "" if probe and str(probe) not in taken else "a free port on loopback, above 1023",
    )
    yield from _probe_address(found)
    yield Value(("nginx", "proxy_read_timeout_s"), _number(way.read_timeout_s), "as it holds in that server block")


def _probe_address(found: Found) -> Iterator[Value]:
    """OpenClaw refuses a proxied request whose client is loopback: a probe comes from the Mac's own address."""
    connection, addresses = found.machine.connection, found.machine.addresses
    reached = connection[2] if len(connection) == 4 else ""
    on_all = any(listen in ("*", "0.0.0.0", "[::]") for listen in found.way.listens)
    listened = [listen for listen in found.way.listens if not listen.startswith(LOOPBACK) and listen[:1].isdigit()]
    own = [address for address in addresses if not address.startswith(LOOPBACK)]
    if on_all and reached in own:
        yield Value(
            ("nginx", "probe_address"), reached, "the address that this connection reached; nginx listens on it"
        )
    elif listened or (on_all and own):
        yield Value(("nginx", "probe_address"), (listened or own)[0], "an address of the Mac that nginx listens on")
    elif found.way.trusted_header:
        yield Value(("nginx", "probe_address"), "127.0.0.1", "nginx listens on loopback alone")
        yield Value(
            ("nginx", "probe_headers"),
            {found.way.trusted_header: TEST_CLIENT},
            "real_ip_header, trusted from loopback: the probe stands for a client from outside",
        )
    else:
        question = "an address of the Mac, not loopback, on which nginx listens"
        yield Value(("nginx", "probe_address"), None, "nginx listens on loopback alone", question)


def _webhooks(found: Found) -> Iterator[Value]:
    gateway, traffic = found.gateway, found.traffic
    reference = gateway.reference(TOKENS_AT["OPENCLAW_HOOKS_TOKEN"])
    state = f"hooks on {gateway.hooks_path}: {', '.join(gateway.hooks)}" if gateway.hooks else "hooks are off"
    question = "" if reference else "where the token of hooks is kept, which both gateways take"
    proposed = reference or f"keyring:openclaw-{found.region}-hooks-token"
    yield Value(("webhooks", "hooks_token"), proposed, state, question)
    for key, of in SIGNING.items():
        for name, signing, source in primary_secrets(gateway):
            if re.search(of, name):
                yield Value(("webhooks", key), signing, f"{name}, {source}")
    yield Value(("webhooks", "split_keys"), traffic.split_keys, _senders(traffic))
    pinned = "their delivery id is in the body: they stay on primary" if traffic.pinned_paths else _no_pins(traffic)
    yield Value(("webhooks", "pinned_paths"), traffic.pinned_paths, pinned)
    slice_pct = TrafficSection().slice_pct
    yield Value(("traffic", "slice_pct"), _number(slice_pct), _decides(traffic, slice_pct))


def _senders(traffic: Traffic) -> str:
    counts: dict[str, int] = {}
    for senders in traffic.senders.values():
        for sender, count in senders.items():
            counts[sender] = counts.get(sender, 0) + count
    told = ", ".join(f"{sender} {count}" for sender, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    return f"who sent to the hooks lately: {told}" if told else "no delivery is in the log; these are the usual names"


def _no_pins(traffic: Traffic) -> str:
    if not traffic.senders:
        return "no delivery is in the log: write the paths of Stripe, Slack and Telegram here"
    return "no sender whose delivery id is in the body is in the log"


def _decides(traffic: Traffic, slice_pct: float) -> str:
    if not (per_s := traffic.per_s):
        return "the log does not say how much comes in: an observation may take longer than 48 h"
    after_s = decides_after_s(per_s, slice_pct, Thresholds())
    return f"{per_s:.3g} requests a second: a healthy canary is certainly under 0.5 % errors after {in_words(after_s)}"


def _incident(found: Found) -> Iterator[Value]:
    proposed = f"keyring:openclaw-{found.region}-incident-channel"
    yield Value(("incident", "notify"), proposed, "nobody is told yet", "where the URL of who is paged is kept")


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
