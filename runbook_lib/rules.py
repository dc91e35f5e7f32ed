"""What two or more parameters say together: each rule yields where, and the sentence to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from runbook_lib.plan import Plan

Where = tuple[str, ...]
Mistake = tuple[Where, str]

SLICE_PCT = (5.0, 12.0)  # article: "keep canary weight at 5-12% of requests for the first 48 hours"
STEP_PCT = 10.0  # article: "raise in 10% steps only when error budgets stay green"
OBSERVE_S = 48 * 3600  # article: checklist step 7
BROWSER_SPACING = 120  # OpenClaw's docs: browser control is base+2, CDP base+11 to +110
GATEWAY_KEEPALIVE_S = 5  # OpenClaw closes an idle connection after 5 s
HOOK_QUEUE_S = 15  # a hook waits up to 15 s for one of 8 places

FORBIDDEN_STATE = {
    ".openclaw": "is the shared default home of every gateway of that user; give each its own, e.g. /var/lib/openclaw-canary",
    "Desktop": "is protected by macOS: access over SSH does not prove access under launchd",
    "Documents": "is protected by macOS: access over SSH does not prove access under launchd",
    "Downloads": "is protected by macOS: access over SSH does not prove access under launchd",
    "Mobile Documents": "is iCloud Drive: files are evicted and synced under a running database",
    "com~apple~CloudDocs": "is iCloud Drive: files are evicted and synced under a running database",
    "Dropbox": "is synced: two writers on one SQLite file",
    "Volumes": "is an external volume, protected by macOS under launchd",
}


def mistakes(plan: Plan) -> Iterator[Mistake]:
    """Every mistake that needs no host, as (path of keys, sentence)."""
    yield from _ports(plan)
    yield from _state_dirs(plan)
    yield from _identities(plan)
    yield from _secrets(plan)
    yield from _traffic(plan)
    yield from _timeouts(plan)
    yield from _practice(plan)


def _ports(plan: Plan) -> Iterator[Mistake]:
    for name, gateway in plan.gateways.items():
        if gateway.port < 1024:
            yield (name, "port"), f"{gateway.port} is privileged; choose one above 1023, e.g. 18789"
        if gateway.bind != "127.0.0.1":
            yield (
                (name, "bind"),
                f"{gateway.bind} is not 127.0.0.1; nginx owns the public address, write 127.0.0.1",
            )
    if plan.nginx.probe_port < 1024:
        yield ("nginx", "probe_port"), f"{plan.nginx.probe_port} is privileged; choose one above 1023"
    distance = abs(plan.primary.port - plan.canary.port)
    if distance == 0:
        yield (
            ("canary", "port"),
            f"{plan.canary.port} is primary's port too; choose {plan.primary.port + BROWSER_SPACING}",
        )
    elif distance < BROWSER_SPACING and plan.runtime.browser_control:
        yield (
            ("canary", "port"),
            f"{plan.canary.port} is {distance} from primary's {plan.primary.port}, but browser control needs "
            f"{BROWSER_SPACING}; choose {plan.primary.port + BROWSER_SPACING} or set runtime.browser_control: false",
        )
    if plan.nginx.probe_port in (plan.primary.port, plan.canary.port):
        yield ("nginx", "probe_port"), f"{plan.nginx.probe_port} is a gateway's port too; choose another"


def _state_dirs(plan: Plan) -> Iterator[Mistake]:
    for name, gateway in plan.gateways.items():
        for part in PurePosixPath(gateway.state_dir).parts:
            if part in FORBIDDEN_STATE:
                yield (name, "state_dir"), f"{gateway.state_dir}: {part} {FORBIDDEN_STATE[part]}"
    for key in ("state_dir", "prefix"):
        first, second = PurePosixPath(getattr(plan.primary, key)), PurePosixPath(getattr(plan.canary, key))
        if first == second:
            yield ("canary", key), f"{second} is primary's too; two gateways never share it"
        elif second.is_relative_to(first) or first.is_relative_to(second):
            yield (
                ("canary", key),
                f"{second} and primary's {first} lie one inside the other; put them side by side",
            )


def _identities(plan: Plan) -> Iterator[Mistake]:
    for key in ("label", "plist", "log_file", "env_file"):
        value = getattr(plan.canary, key)
        if value == getattr(plan.primary, key):
            yield ("canary", key), f"{value} is primary's too; give the canary its own"
        if key in ("label", "plist") and value == getattr(plan.nginx, key):
            yield ("canary", key), f"{value} is nginx's too; give the canary its own"


def _secrets(plan: Plan) -> Iterator[Mistake]:
    """Article: "Same API keys for both? Avoid - rotate independently to limit blast radius".

    Only what authenticates deliveries is shared: each may reach either gateway.
    """
    owner_of = {reference: name for name, reference in plan.primary.secrets.items()}
    for name, reference in plan.canary.secrets.items():
        if reference in owner_of and reference not in plan.shared_references:
            yield (
                ("canary", "secrets", name),
                f"{reference} is primary's {owner_of[reference]} too; the canary has its own keys, so that one "
                "can be rotated without the other",
            )
    if "OPENCLAW_GATEWAY_TOKEN" not in plan.canary.secrets:
        yield (
            ("canary", "secrets"),
            "OPENCLAW_GATEWAY_TOKEN is missing; the canary needs a gateway token of its own",
        )


def _traffic(plan: Plan) -> Iterator[Mistake]:
    low, high = SLICE_PCT
    traffic, observation = plan.traffic, plan.observation
    if not low <= traffic.slice_pct <= high:
        yield ("traffic", "slice_pct"), f"{traffic.slice_pct:g} is outside {low:g}-{high:g} %; choose e.g. 8"
    if traffic.step_pct != STEP_PCT:
        yield (
            ("traffic", "step_pct"),
            f"{traffic.step_pct:g} is not {STEP_PCT:g} %; promotion goes in {STEP_PCT:g} % steps",
        )
    if round(traffic.slice_pct, 2) != traffic.slice_pct:
        yield (
            ("traffic", "slice_pct"),
            f"{traffic.slice_pct} is finer than nginx can split; use at most two decimals",
        )
    if not plan.is_practice and observation.observe_s < OBSERVE_S:
        yield (
            ("observation", "observe_s"),
            f"{observation.observe_s:g} s is shorter than 48 h; write {OBSERVE_S} (only the practice Mac may observe less)",
        )
    if observation.window_s > observation.observe_s:
        yield (
            ("observation", "window_s"),
            f"{observation.window_s:g} s is longer than the observation of {observation.observe_s:g} s",
        )
    if observation.sample_every_s * 2 > observation.window_s:
        yield (
            ("observation", "sample_every_s"),
            f"{observation.sample_every_s:g} s gives fewer than two samples in a window of {observation.window_s:g} s",
        )


def _timeouts(plan: Plan) -> Iterator[Mistake]:
    read_s, longest_s = plan.nginx.proxy_read_timeout_s, plan.runtime.longest_model_round_trip_s
    if read_s < longest_s:
        yield (
            ("nginx", "proxy_read_timeout_s"),
            f"{read_s:g} s is below the longest model round trip of {longest_s:g} s; write at least {longest_s:g}",
        )
    if read_s <= HOOK_QUEUE_S:
        yield (
            ("nginx", "proxy_read_timeout_s"),
            f"{read_s:g} s is not above the {HOOK_QUEUE_S} s a hook may wait for its turn; write at least {HOOK_QUEUE_S + 1}",
        )


def _practice(plan: Plan) -> Iterator[Mistake]:
    if plan.is_practice and plan.region != "lab":
        yield (
            ("host", "practice_mac"),
            f"region {plan.region} is not the lab; only parameters/lab.yaml may name a practice Mac",
        )
    if plan.nginx.probe_address == "127.0.0.1" and not plan.nginx.probe_headers:
        yield (
            ("nginx", "probe_address"),
            "127.0.0.1 makes OpenClaw refuse every probe through nginx (403 proxy_attribution_required); "
            "write the Mac's own address in its network",
        )
