"""The plan: what parameters/<region>.yaml may say, as strict models.

Every key is checked for its type and its own range here; what two keys say together is in rules.py,
reading the file in parameters.py and yaml_file.py, and what is said of a mistake in mistakes.py.
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from runbook_lib.plan.folder import RunbookFolder
from runbook_lib.plan.thresholds import LONGEST_S, Thresholds


def _absolute(path: str) -> str:
    if not path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path!r} is not an absolute path on the Mac; write it from / on, without ~ and ..")
    if any(character in "'\"\\$" or not character.isprintable() for character in path):
        raise ValueError(f"{path!r} holds a quote, backslash, dollar or control character; choose a plain path")
    return str(PurePosixPath(f"/{path.lstrip('/')}"))


MacPath = Annotated[str, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
SecretRef = Annotated[
    str,
    StringConstraints(
        pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|keyring:[^\s]+|file:/[^#\s]+#[A-Za-z_][A-Za-z0-9_]*"
        r"|json:/[^#\s]+#[A-Za-z0-9_-]+(\.[A-Za-z0-9_:-]+)*)$"
    ),
]
Domain = Annotated[str, StringConstraints(pattern=r"^(system|(gui|user)/\d+)$")]
NginxVariable = Annotated[str, StringConstraints(pattern=r"^\$[a-z_][a-z0-9_]*$")]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._~/-]*$")]
Severity = Literal["info", "success", "warning", "failure"]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[ !#-\[\]-~]*$")]
Where = tuple[str, ...]  # a key, after the sections that it stands in


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def is_section(annotation: Any) -> bool:
    """Whether a key's type is a section with keys of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


class HostSection(Section):
    """How the Mac is reached; address, user, key and ProxyJump are your ssh_config's."""

    alias: Name
    practice_mac: str | None = None
    ssh_config: str = "~/.ssh/config"
    runbook_dir: MacPath
    connect_timeout_s: Seconds = 10
    command_timeout_s: Seconds = 120


class RuntimeSection(Section):
    """What both gateways share: the npm package, the Node that runs it, the launchd domain."""

    package: Name = "openclaw"
    node: MacPath
    npm: MacPath
    canary_version: Annotated[str, StringConstraints(pattern=r"^\d[\w.+-]*$")] | None = None
    launchd_domain: Domain
    browser_control: bool = False
    canary_rpc: bool = False
    longest_model_round_trip_s: Seconds
    ready_timeout_s: Seconds = 60
    drain_timeout_s: Seconds = 315


class GatewaySection(Section):
    """One gateway: its launchd job, its port, its state and its secrets."""

    label: Name
    plist: MacPath
    port: Port
    bind: str = "127.0.0.1"
    prefix: MacPath
    package_dir: MacPath | None = None
    state_dir: MacPath
    log_file: MacPath
    env_file: MacPath
    secrets: dict[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")], SecretRef]

    @property
    def config_path(self) -> str:
        return f"{self.state_dir}/openclaw.json"

    @property
    def address(self) -> str:
        return f"{self.bind}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class NginxSection(Section):
    """The nginx in front: your server block stays yours, we render two files it includes."""

    binary: MacPath
    conf: MacPath
    server_file: MacPath
    managed_dir: MacPath
    error_log: MacPath
    pid_file: MacPath
    log_dir: MacPath
    label: Name
    plist: MacPath
    launchd_domain: Domain | None = None
    sudo: bool = False
    public_url: Annotated[str, StringConstraints(pattern=r"^https://[^/\s@]+$")]
    ca_file: str | None = None
    probe_port: Port
    probe_address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]+$")] = "127.0.0.1"
    probe_headers: dict[HeaderName, HeaderValue] = {}
    proxy_read_timeout_s: Seconds

    @property
    def slim_log(self) -> str:
        return f"{self.log_dir}/openclaw-rollout.tsv"

    @property
    def sudo_words(self) -> str:
        """What stands before a command that needs nginx's owner; empty where we are the owner."""
        return "sudo -n" if self.sudo else ""


class WebhooksSection(Section):
    """What deliveries carry: the token both gateways accept, staging's signing secrets, the split key."""

    hooks_token: SecretRef
    github_secret: SecretRef | None = None
    stripe_secret: SecretRef | None = None
    split_keys: Annotated[list[NginxVariable], Field(min_length=1)]
    pinned_paths: list[UrlPath] = []
    gateway_verifies: bool = False
    """Whether the gateway itself checks a provider's signature. OpenClaw checks its hooks token alone."""
    hooks_path: UrlPath = "/hooks"
    smoke_primary: bool = False

    @property
    def signing_secrets(self) -> dict[str, str]:
        """Provider to reference, for the providers whose hooks this gateway has."""
        both = {"github": self.github_secret, "stripe": self.stripe_secret}
        return {provider: reference for provider, reference in both.items() if reference}


class TrafficSection(Section):
    """How weight moves. Slice and step are the article's: 5-12 % first, then 10 % at a time."""

    slice_pct: float = 8
    step_pct: float = 10
    ramp_s: Annotated[float, Field(ge=0)] = 30
    settle_s: Seconds = 900
    promote_every_s: Seconds = 3600


class ObservationSection(Section):
    """How long the slice is watched, in which windows; a notebook waits by itself for at most `wait_s`."""

    observe_s: Seconds = 172_800
    window_s: Seconds = 900
    sample_every_s: Seconds = 5
    wait_s: Annotated[float, Field(ge=0)] = 600


class LeaseSection(Section):
    """How long the Mac waits for an operator who is silent before it helps itself.

    A lease that lapses drains the canary: `attended_s` while a step runs; once it is over, the length of an
    observation and `answer_s` for somebody to answer. A change of nginx that is not confirmed within `confirm_s` is
    taken back.
    """

    attended_s: Seconds = 600
    answer_s: Seconds = 43_200
    confirm_s: Seconds = 120


class IncidentSection(Section):
    """Who is paged. `notify` names an apprise URL; `confirm_url` answers 200 once the page arrived."""

    notify: SecretRef | None = None
    confirm_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$")] | None = None
    confirm_timeout_s: Seconds = 300


class EvidenceSection(Section):
    """Who vouches for a run: the key that `ssh-keygen -Y sign` seals with, and the file that says whose keys count."""

    signing_key: Annotated[str, StringConstraints(pattern=r"^[~/]")] | None = None
    allowed_signers: Annotated[str, StringConstraints(pattern=r"^[~/]")] | None = None


class GatesSection(Section):
    """Before which steps (2 to 8) a person is asked, and how long that answer holds.

    Unset means before the canary gets traffic and before it gets all of it; on a practice Mac, nowhere.
    """

    before: list[Annotated[int, Field(ge=2, le=8)]] | None = None
    approval_s: Seconds = 86_400


class ChannelSection(Section):
    """Somebody to tell: an apprise URL, by reference, and what is said there."""

    url: SecretRef
    severities: Annotated[list[Severity], Field(min_length=1)] = ["success", "warning", "failure"]


def horizon_of(observe_s: float) -> int:
    """thresholds.observation_s of an observation: whole seconds, a week at most."""
    return math.ceil(min(observe_s, LONGEST_S))


def with_horizon(values: dict[str, Any]) -> dict[str, Any]:
    """The judge's budget of false drains is for as long as the observation lasts: written once, used by both."""
    observation, thresholds = values.get("observation", {}), values.get("thresholds", {})
    observe_s = observation.get("observe_s") if isinstance(observation, dict) else None
    if not isinstance(observe_s, int | float) or not isinstance(thresholds, dict) or not observe_s > 0:
        return values  # what is wrong with them is said where they are read
    return values | {"thresholds": {"observation_s": horizon_of(observe_s)} | thresholds}


class Plan(Section):
    """One region's rollout, whole and checked."""

    region: Name
    topology: Literal["active_active", "primary_standby"]
    host: HostSection
    runtime: RuntimeSection
    primary: GatewaySection
    canary: GatewaySection
    nginx: NginxSection
    webhooks: WebhooksSection
    traffic: TrafficSection = TrafficSection()
    observation: ObservationSection = ObservationSection()
    thresholds: Thresholds = Thresholds()
    lease: LeaseSection = LeaseSection()
    incident: IncidentSection = IncidentSection()
    evidence: EvidenceSection = EvidenceSection()
    gates: GatesSection = GatesSection()
    notifications: dict[Name, ChannelSection] = {}

    @property
    def gated_steps(self) -> list[int]:
        """The numbers of the steps that a person has to approve."""
        if self.gates.before is None:
            return [] if self.is_practice else [6, 8]
        return self.gates.before

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        return with_horizon(values) if isinstance(values, dict) else values

    @property
    def gateways(self) -> dict[str, GatewaySection]:
        return {"primary": self.primary, "canary": self.canary}

    @property
    def upstreams(self) -> dict[str, str]:
        """nginx's upstream address to gateway name, as the access log needs it."""
        return {gateway.address: name for name, gateway in self.gateways.items()}

    @property
    def nginx_domain(self) -> str:
        """launchd's domain for nginx's job: the gateways' own, unless the plan says another."""
        return self.nginx.launchd_domain or self.runtime.launchd_domain

    @property
    def shared_references(self) -> set[str]:
        """The secrets both gateways need alike, since a delivery may reach either."""
        return {self.webhooks.hooks_token, *self.webhooks.signing_secrets.values()}

    @property
    def shared_names(self) -> set[str]:
        """The names under which those secrets stand, in an env file or in openclaw.json."""
        named = {n for n, reference in self.canary.secrets.items() if reference in self.shared_references}
        return {*named, "hooks.token"}

    @property
    def secret_references(self) -> set[str]:
        """Every secret that the plan names."""
        both = {reference for gateway in self.gateways.values() for reference in gateway.secrets.values()}
        told = {channel.url for channel in self.notifications.values()}
        return both | told | self.shared_references | ({self.incident.notify} if self.incident.notify else set())

    @property
    def is_practice(self) -> bool:
        return self.host.practice_mac is not None

    @property
    def unattended_s(self) -> float:
        """How long a canary with traffic is left to the sentinel."""
        return self.observation.observe_s + self.lease.answer_s

    @property
    def sentinel_label(self) -> str:
        return f"{self.canary.label}.sentinel"

    @property
    def folder(self) -> RunbookFolder:
        """What the runbook keeps on the Mac."""
        return RunbookFolder(self.host.runbook_dir)
