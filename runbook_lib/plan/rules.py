"""What two or more parameters say together: each rule yields where, and the sentence to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath

from runbook_lib.plan.models import GatewaySection, Plan, Where, horizon_of

Mistake = tuple[Where, str]
Rule = Callable[[Plan], Iterator[Mistake]]

SLICE_PCT = (5.0, 12.0)  # article: "keep canary weight at 5-12% of requests for the first 48 hours"
STEP_PCT = 10.0  # article: "raise in 10% steps only when error budgets stay green"
OBSERVE_S = 48 * 3600  # article: checklist step 7
BROWSER_SPACING = 120  # OpenClaw's docs: browser control is base+2, CDP base+11 to +110
SLOWEST_CHANGE_S = 15  # two reloads of at most 5 s each, and the way there
HOOK_QUEUE_S = 15  # a hook waits up to 15 s for one of 8 places
GATEWAY_TOKEN = "OPENCLAW_GATEWAY_TOKEN"
SETTING = re.compile(
    r"^(HOME|PATH|TMPDIR|LANG|LC_\w+|SHELL|USER|LOGNAME|NODE_(OPTIONS|EXTRA_CA_CERTS|USE_SYSTEM_CA|ENV)|"
    r"NO_PROXY|SSL_CERT_(FILE|DIR)|OPENCLAW_(GATEWAY_PORT|LAUNCHD_LABEL|SERVICE_\w+|SYSTEMD_UNIT|WINDOWS_\w+|"
    r"STATE_DIR|CONFIG_PATH|PROFILE|NO_\w+|DISABLE_\w+|SKIP_\w+))$"
)
SECRET_HEADERS = ("authorization", "cookie", "token", "key", "secret")

PROTECTED = "is protected by macOS: access over SSH does not prove access under launchd"
SYNCED = "is synced: files are evicted, and two writers meet on one SQLite file"
DEFAULT_HOME = ".openclaw"
FORBIDDEN_STATE = {
    "desktop": PROTECTED,
    "documents": PROTECTED,
    "downloads": PROTECTED,
    "volumes": "is an external volume, protected by macOS under launchd",
    "mobile documents": f"(iCloud Drive) {SYNCED}",
    "com~apple~clouddocs": f"(iCloud Drive) {SYNCED}",
    "cloudstorage": SYNCED,
    "dropbox": SYNCED,
}


def mistakes(plan: Plan) -> Iterator[Mistake]:
    """Every mistake that needs no host, as (path of keys, sentence)."""
    for rule in RULES:
        yield from rule(plan)


def on_disk(path: str) -> PurePosixPath:
    """A path as macOS compares it: letter case does not count, and /var, /tmp and /etc lie in /private."""
    plain = PurePosixPath(path.casefold())
    parts = plain.parts
    return PurePosixPath("/", *parts[2:]) if parts[1:2] == ("private",) else plain


def _gateway(plan: Plan, name: str) -> GatewaySection:
    section: GatewaySection = getattr(plan, name)
    return section


def _unprivileged(plan: Plan, name: str) -> Iterator[Mistake]:
    port = _gateway(plan, name).port
    if port < 1024:
        yield (name, "port"), f"{port} is privileged; choose one above 1023, e.g. 18789"


def _bind(plan: Plan, name: str) -> Iterator[Mistake]:
    bind = _gateway(plan, name).bind
    if bind != "127.0.0.1":
        yield (name, "bind"), f"{bind} is not 127.0.0.1; nginx owns the public address, write 127.0.0.1"


def _spacing(plan: Plan) -> Iterator[Mistake]:
    primary, canary = plan.primary.port, plan.canary.port
    free = primary + BROWSER_SPACING if primary + BROWSER_SPACING <= 65535 else primary - BROWSER_SPACING
    distance = abs(primary - canary)
    if distance == 0:
        yield ("canary", "port"), f"{canary} is primary's port too; choose {free}"
    elif distance < BROWSER_SPACING and plan.runtime.browser_control:
        yield (
            ("canary", "port"),
            f"{canary} is {distance} from primary's {primary}, but browser control needs {BROWSER_SPACING}; "
            f"choose {free} or set runtime.browser_control: false",
        )


def _probe_port(plan: Plan) -> Iterator[Mistake]:
    port = plan.nginx.probe_port
    if port < 1024:
        yield ("nginx", "probe_port"), f"{port} is privileged; choose one above 1023, e.g. 18700"
    if port in (plan.primary.port, plan.canary.port):
        yield ("nginx", "probe_port"), f"{port} is a gateway's port too; choose another, e.g. 18700"


def _state_place(plan: Plan, name: str) -> Iterator[Mistake]:
    """Primary stays where it is, ~/.openclaw too; a canary there would be what the plain `openclaw` command means."""
    state_dir = _gateway(plan, name).state_dir
    parts = PurePosixPath(state_dir).parts
    instead = f"move it to a folder of its own, e.g. {_beside_default(plan, name)}"
    for part in parts:
        if reason := FORBIDDEN_STATE.get(part.casefold()):
            yield (name, "state_dir"), f"{state_dir}: {part} {reason}; {instead}"
    if name == "canary" and parts[-1].casefold() == DEFAULT_HOME:
        yield (
            (name, "state_dir"),
            f"{state_dir} is the default home of the user's own gateway: its `openclaw` command would meet the canary; "
            f"write e.g. {_beside_default(plan, name)}",
        )


def _beside_default(plan: Plan, name: str) -> str:
    """A state directory as OpenClaw lays out a profile: in the user's home, which an ordinary user can write."""
    home = str(PurePosixPath(_gateway(plan, name).plist).parent.parent.parent)
    return f"{home if home.startswith('/Users/') else '/Users/openclaw'}/.openclaw{'-canary' * (name == 'canary')}"


def _apart(plan: Plan, key: str) -> Iterator[Mistake]:
    first, second = getattr(plan.primary, key), getattr(plan.canary, key)
    ours, theirs = on_disk(second), on_disk(first)
    if ours == theirs:
        yield ("canary", key), f"{second} is primary's too; two gateways never share it, give the canary its own"
    elif ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        yield ("canary", key), f"{second} and primary's {first} lie one inside the other; put them side by side"


def _not_inside(plan: Plan) -> Iterator[Mistake]:
    """The canary's packages in primary's state would be backed up and cloned with it, and the other way round."""
    for name, other in (("canary", "primary"), ("primary", "canary")):
        prefix, state = _gateway(plan, name).prefix, _gateway(plan, other).state_dir
        if on_disk(prefix).is_relative_to(on_disk(state)):
            yield (name, "prefix"), f"{prefix} lies in {other}'s state {state}; choose a folder beside it"


def _settings(plan: Plan, name: str) -> Iterator[Mistake]:
    """What a service needs to run is no secret: as one, its value would be sought in every file that is sealed."""
    for key in _gateway(plan, name).secrets:
        if SETTING.match(key):
            yield (
                (name, "secrets", key),
                "is a setting and no secret; leave it out: step 2 carries primary's settings over and shows them",
            )


def _own(plan: Plan, key: str) -> Iterator[Mistake]:
    canary, primary = getattr(plan.canary, key), getattr(plan.primary, key)
    if on_disk(canary) == on_disk(primary):
        yield ("canary", key), f"{canary} is primary's too; give the canary its own"


def _not_nginx(plan: Plan, name: str, key: str) -> Iterator[Mistake]:
    value = getattr(_gateway(plan, name), key)
    if on_disk(value) == on_disk(getattr(plan.nginx, key)):
        yield (name, key), f"{value} is nginx's too; give {name} its own"


def _own_secrets(plan: Plan) -> Iterator[Mistake]:
    """Article: "Same API keys for both? Avoid - rotate independently to limit blast radius".

    Only what authenticates deliveries is shared: each may reach either gateway.
    """
    owner_of = {reference: name for name, reference in plan.primary.secrets.items()}
    for name, reference in plan.canary.secrets.items():
        shared = reference in plan.shared_references and name != GATEWAY_TOKEN
        if reference in owner_of and not shared:
            yield (
                ("canary", "secrets", name),
                f"{reference} is primary's {owner_of[reference]} too; the canary has its own keys, so that one "
                "can be rotated without the other: write another reference",
            )


def _gateway_token(plan: Plan) -> Iterator[Mistake]:
    if GATEWAY_TOKEN not in plan.canary.secrets:
        yield (
            ("canary", "secrets"),
            f"{GATEWAY_TOKEN} is missing; the canary needs a gateway token of its own, "
            f"write e.g. {GATEWAY_TOKEN}: keyring:openclaw-canary-gateway-token",
        )


def _probe_headers(plan: Plan) -> Iterator[Mistake]:
    for name in plan.nginx.probe_headers:
        if any(word in name.lower() for word in SECRET_HEADERS):
            yield (
                ("nginx", "probe_headers", name),
                "carries a secret, and parameters hold references only; leave it out, probes bring their own token",
            )


def _slice(plan: Plan) -> Iterator[Mistake]:
    low, high = SLICE_PCT
    slice_pct = plan.traffic.slice_pct
    if not low <= slice_pct <= high:
        yield ("traffic", "slice_pct"), f"{slice_pct:g} is outside {low:g}-{high:g} %; choose e.g. 8"
    if round(slice_pct, 2) != slice_pct:
        yield (
            ("traffic", "slice_pct"),
            f"{slice_pct} is finer than nginx can split; write at most two decimals, e.g. {slice_pct:.2f}",
        )


def _step(plan: Plan) -> Iterator[Mistake]:
    step_pct = plan.traffic.step_pct
    if step_pct != STEP_PCT:
        yield (
            ("traffic", "step_pct"),
            f"{step_pct:g} is not {STEP_PCT:g} %; promotion goes in {STEP_PCT:g} % steps, write {STEP_PCT:g}",
        )


def _observation(plan: Plan) -> Iterator[Mistake]:
    observe_s = plan.observation.observe_s
    if not plan.is_practice and observe_s < OBSERVE_S:
        yield (
            ("observation", "observe_s"),
            f"{observe_s:g} s is shorter than 48 h; write {OBSERVE_S} (only the practice Mac may observe less)",
        )


def _one_length(plan: Plan) -> Iterator[Mistake]:
    observe_s, horizon_s = plan.observation.observe_s, plan.thresholds.observation_s
    if horizon_s != horizon_of(observe_s):
        yield (
            ("thresholds", "observation_s"),
            f"{horizon_s} s is not observation.observe_s, {observe_s:g} s; leave it out, it is taken from there",
        )


def _window(plan: Plan) -> Iterator[Mistake]:
    window_s, observe_s = plan.observation.window_s, plan.observation.observe_s
    if window_s > observe_s:
        yield (
            ("observation", "window_s"),
            f"{window_s:g} s is longer than the observation of {observe_s:g} s; write at most {observe_s:g}, e.g. 900",
        )


def _samples(plan: Plan) -> Iterator[Mistake]:
    every_s, window_s = plan.observation.sample_every_s, plan.observation.window_s
    if every_s * 2 > window_s:
        yield (
            ("observation", "sample_every_s"),
            f"{every_s:g} s gives fewer than two samples in a window of {window_s:g} s; write at most {window_s / 2:g}",
        )


def _leases(plan: Plan) -> Iterator[Mistake]:
    attended_s, confirm_s, every_s = plan.lease.attended_s, plan.lease.confirm_s, plan.observation.sample_every_s
    if attended_s < 4 * every_s:
        yield (
            ("lease", "attended_s"),
            f"{attended_s:g} s is less than four samples of the sentinel ({every_s:g} s each); "
            f"write at least {4 * every_s:g}, e.g. 600",
        )
    if confirm_s < SLOWEST_CHANGE_S:
        yield (
            ("lease", "confirm_s"),
            f"{confirm_s:g} s is shorter than a change and its proof may take ({SLOWEST_CHANGE_S} s); write e.g. 120",
        )


def _round_trip(plan: Plan) -> Iterator[Mistake]:
    read_s, longest_s = plan.nginx.proxy_read_timeout_s, plan.runtime.longest_model_round_trip_s
    if read_s < longest_s:
        yield (
            ("nginx", "proxy_read_timeout_s"),
            f"{read_s:g} s is below the longest model round trip of {longest_s:g} s; write at least {longest_s:g}",
        )


def _hook_queue(plan: Plan) -> Iterator[Mistake]:
    read_s = plan.nginx.proxy_read_timeout_s
    if read_s <= HOOK_QUEUE_S:
        yield (
            ("nginx", "proxy_read_timeout_s"),
            f"{read_s:g} s is not above the {HOOK_QUEUE_S} s a hook may wait for its turn; "
            f"write at least {HOOK_QUEUE_S + 1}",
        )


def _practice(plan: Plan) -> Iterator[Mistake]:
    if plan.is_practice and plan.region.partition("-")[0] != "lab":
        yield (
            ("host", "practice_mac"),
            f"region {plan.region} is not the lab; leave it out, only lab or lab-{plan.region} may name a practice Mac",
        )


def _probe_address(plan: Plan) -> Iterator[Mistake]:
    if plan.nginx.probe_address == "127.0.0.1" and not plan.nginx.probe_headers:
        yield (
            ("nginx", "probe_address"),
            "127.0.0.1 makes OpenClaw refuse every probe through nginx (403 proxy_attribution_required); "
            "write the Mac's own address in its network, e.g. 192.0.2.10",
        )


BOTH = ("primary", "canary")
RULES: tuple[Rule, ...] = (
    *(partial(rule, name=name) for rule in (_unprivileged, _bind, _state_place, _settings) for name in BOTH),
    _not_inside,
    _spacing,
    _probe_port,
    *(partial(_apart, key=key) for key in ("state_dir", "prefix")),
    *(partial(_own, key=key) for key in ("label", "plist", "log_file", "env_file")),
    *(partial(_not_nginx, name=name, key=key) for name in BOTH for key in ("label", "plist")),
    _own_secrets,
    _gateway_token,
    _probe_headers,
    _slice,
    _step,
    _observation,
    _one_length,
    _window,
    _samples,
    _leases,
    _round_trip,
    _hook_queue,
    _practice,
    _probe_address,
)
