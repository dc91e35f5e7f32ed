"""One gateway as it was found: what launchd runs, unwrapped, and what its package, state and configuration say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from runbook_lib.discovery.machine import Job, Machine
from runbook_lib.discovery.recording import rows
from runbook_lib.errors import PlanError

FLOOR = (2026, 8, 1)
"""Older gateways have no `backup restore`, no /startupz, no suspend and tell no schemas (asked of 2026.7.35)."""
DEFAULT_PORT = 18789
SPACING = 120  # OpenClaw's docs: browser control is base+2, CDP base+11 to +110
TOKENS_AT = {"OPENCLAW_GATEWAY_TOKEN": "gateway.auth.token", "OPENCLAW_HOOKS_TOKEN": "hooks.token"}
"""Where the tokens stand in a configuration."""
SCRIPT = re.compile(r"\.(?:m?js|cjs)$")


@dataclass(frozen=True)
class Program:
    """What a job runs behind its wrapper: /bin/sh WRAPPER ENV_FILE node --option entry gateway --port N."""

    node: str
    entry: str
    env_file: str
    port: int | None
    profile: str
    options: tuple[str, ...]


def unwrap(words: list[str], variables: dict[str, str]) -> Program:
    """The program of a gateway's job. Pure; what is not there is empty."""
    entry_at = next((at for at, word in enumerate(words) if SCRIPT.search(word)), None)
    if entry_at is None:  # a command in a bin folder, without Node in front
        entry_at = next((at for at, word in enumerate(words) if word.rpartition("/")[2] == "openclaw"), None)
    before = words[: entry_at or 0]
    node_at = next((at for at, word in enumerate(before) if word.rpartition("/")[2] in ("node", "bun")), None)
    port = _option(words, "port") or variables.get("OPENCLAW_GATEWAY_PORT", "")
    return Program(
        before[node_at] if node_at is not None else "",
        words[entry_at] if entry_at is not None else "",
        next((word for word in words if word.endswith(".env")), ""),
        int(port) if port.isdigit() else None,
        _option(words, "profile") or variables.get("OPENCLAW_PROFILE", ""),
        tuple(before[node_at + 1 :]) if node_at is not None else (),
    )


def replace_node(program: Program, node: str) -> Program:
    """The program with the Node that its process has open, where its words do not name it whole."""
    return replace(program, node=node)


def _option(words: list[str], name: str) -> str:
    for at, word in enumerate(words):
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
        if word == f"--{name}" and at + 1 < len(words):
            return words[at + 1]
    return ""


def choose(machine: Machine, label: str = "") -> Job:
    """The job of primary. Raises PlanError where there is none, or more than one and none is named."""
    found = [job for job in machine.jobs if job.is_gateway]
    named = [job for job in found if job.label == label] if label else found
    running = [job for job in named if job.domain]
    chosen = running or named
    if len(chosen) == 1:
        return chosen[0]
    what = [f"{job.label} ({job.domain or 'not loaded'}, {job.plist or 'no plist'})" for job in found]
    if label and not named:
        raise PlanError("--gateway", [f"there is no gateway {label!r}; found: {', '.join(what) or 'none'}"])
    if not found:
        asked = ", ".join(f"{d} {'asked' if told else 'does not exist'}" for d, told in machine.domains.items())
        raise PlanError(
            "discover",
            [
                "no gateway of OpenClaw is known to launchd, nor lies in ~/Library/LaunchAgents, /Library/LaunchAgents "
                f"or /Library/LaunchDaemons ({asked or 'launchctl print said nothing'}); install its service first: "
                "openclaw gateway install"
            ],
        )
    if label or len({job.label for job in chosen}) == 1:
        raise PlanError(
            "discover",
            [
                f"{chosen[0].label} is loaded twice: {', '.join(what)}; two KeepAlive loops fight for one port: boot "
                "one out"
            ],
        )
    raise PlanError("discover", [f"{len(chosen)} gateways: {', '.join(what)}; name primary's: --gateway LABEL"])


def state_dir(machine: Machine, job: Job, program: Program) -> tuple[str, str]:
    """A gateway's state directory and where that is known from; its env file may say otherwise, and then counts."""
    said = job.environment.get("OPENCLAW_STATE_DIR", "")
    opened = [path for _, path in machine.files_of(job.pid) if path.endswith("/state/openclaw.sqlite")]
    real = [path.removesuffix("/state/openclaw.sqlite") for path in opened]
    if said:
        return said, "OPENCLAW_STATE_DIR of its job"
    if real:
        return real[0], "the state that it has open"
    if "/service-env/" in program.env_file:
        return program.env_file.partition("/service-env/")[0], "where its env file lies"
    profile = program.profile or job.label.removeprefix("ai.openclaw.")
    suffix = "" if profile in ("gateway", job.label, "default", "") else f"-{profile}"
    return f"{machine.home}/.openclaw{suffix}", "OpenClaw's default for its label"


@dataclass
class Gateway:
    """What ask_gateway.sh printed of one gateway."""

    job: Job
    program: Program
    node_version: str = ""
    root: str = ""
    real_root: str = ""
    root_owner: str = ""
    is_git: bool = False
    package: str = ""
    version: str = ""
    beside_count: int = 0
    npm: str = ""
    npm_version: str = ""
    npm_config: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    env_files: dict[str, bool] = field(default_factory=dict)
    """Each env file, and whether nobody else may read it."""
    names_in: dict[str, list[str]] = field(default_factory=dict)
    state: str = ""
    state_owner: str = ""
    state_kib: int | None = None
    free_kib: int | None = None
    databases: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, tuple[str, str]] = field(default_factory=dict)
    config_path: str = ""
    files: list[str] = field(default_factory=list)
    json5: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    config: dict[str, tuple[str, str]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    ports: dict[str, bool] = field(default_factory=dict)

    @property
    def has_rpc(self) -> bool:
        """Whether the plugin is on that tells how many jobs are pending."""
        return self.said("plugins.entries.admin-http-rpc.enabled") == "true"

    def said(self, where: str) -> str:
        """A value of the configuration by its path; empty where it is not told."""
        return self.config.get(where, ("", ""))[1]

    @property
    def prefix(self) -> str:
        """What stands before /node_modules/; empty for a git checkout."""
        return self.root.rpartition("/node_modules/")[0]

    @property
    def installed(self) -> str:
        """How the package came here."""
        where = f"{self.root}/"
        kinds = (
            (self.is_git or "/node_modules/" not in where, "a git checkout"),
            (".app/" in where, "OpenClaw's app"),
            ("/.pnpm/" in self.real_root or "/pnpm/" in where, "pnpm add -g"),
            ("/.bun/" in where, "bun add -g"),
            ("/.nvm/" in where, "npm install -g under nvm"),
            ("/.openclaw" in where, "OpenClaw's installer, with a prefix of its own"),
            (self.prefix.endswith("/lib"), "npm install -g"),
        )
        return next((kind for holds, kind in kinds if holds), "npm install in a prefix of its own")

    @property
    def is_old(self) -> bool:
        numbers = [int(number) for number in re.findall(r"\d+", self.version)[:3]]
        return len(numbers) == 3 and tuple(numbers) < FLOOR

    @property
    def hooks_path(self) -> str:
        return self.said("hooks.path") or "/hooks"

    @property
    def hooks(self) -> list[str]:
        """Where its hooks take deliveries; none where they are off."""
        if self.said("hooks.enabled") != "true":
            return []
        mapped = [
            value
            for where, (_, value) in self.config.items()
            if re.fullmatch(r"hooks\.mappings\.\d+\.match\.path", where)
        ]
        return [f"{self.hooks_path}/{name}" for name in (*mapped, "agent", "wake")]

    def paths(self) -> dict[str, str]:
        """Every path of the file system that its configuration names, by where it stands."""
        urls = ("hooks.path", "gateway.controlUi.basePath")
        return {w: v for w, (kind, v) in self.config.items() if kind == "path" and not w.endswith(urls)}

    def secret_places(self) -> dict[str, str]:
        """Where secrets stand in its configuration, and as what: secret (a literal), variable or reference."""
        return {w: kind for w, (kind, _) in self.config.items() if kind in ("secret", "variable", "reference")}

    def reference(self, where: str) -> str:
        """A secret of its configuration as the plan names it; empty where nothing on the Mac holds it by itself."""
        kind, value = self.config.get(where, ("", ""))
        if kind == "secret":
            return f"json:{value}"
        held = next((f for f in self.env_files if value in self.names_in.get(f, [])), "") if kind == "variable" else ""
        return f"file:{held}#{value}" if held else ""


def parse(text: str, job: Job, program: Program) -> Gateway:
    """ask_gateway.sh's lines as a Gateway. Pure; what is not told stays empty."""
    found = Gateway(job, program)
    for name, *values in rows(text):
        match name, values:
            case "configuration", [path]:
                found.config_path = path
            case "node", [version]:
                found.node_version = version
            case "root", [root, real, owner]:
                found.root, found.real_root, found.root_owner = root, real, owner
            case "git", _:
                found.is_git = True
            case "package", [said] if said:
                told = json.loads(said)
                found.package, found.version = str(told.get("name", "")), str(told.get("version", ""))
            case "beside", [count]:
                found.beside_count = int(count) - 1 if count.strip().isdigit() else 0
            case "npm", [path, version]:
                found.npm, found.npm_version = path, version
            case "setting", [said]:
                key, _, value = said.partition("=")
                found.npm_config[key.strip()] = value.strip()
            case "env file", [path, private]:
                found.env_files[path], found.names_in[path] = private == "1", []
            case "env", [key, value]:
                found.variables[key] = value.strip("'\"")
                next(reversed(found.names_in.values())).append(key)
            case "state", [path, owner, size, free]:
                found.state, found.state_owner = path, owner
                found.state_kib = int(size) if size.isdigit() else None
                found.free_kib = int(free) if free.isdigit() else None
            case "database", [path, schema]:
                found.databases[path] = schema
            case "profile", [key, kind, provider]:
                found.profiles[key] = (kind, provider)
            case "file", [path, *_]:
                found.files.append(path)
            case "json5", [path]:
                found.json5.append(path)
            case "unreadable", [path, why]:
                found.unreadable[path] = why
            case "config", [where, kind, value]:
                found.config[where] = (kind, value)
            case "answer", [path, body]:
                found.answers[path] = body
            case "port", [port, state]:
                found.ports[port] = state == "free"
    found.version = _running_version(found.answers.get("startupz", "")) or found.version
    return found


def _running_version(body: str) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    return str(told.get("version", "")) if isinstance(told, dict) else ""


def refuse_old(gateway: Gateway) -> None:
    """Raises PlanError for a gateway that is older than what the runbook needs of it."""
    if gateway.is_old:
        floor = ".".join(map(str, FLOOR))
        raise PlanError(
            gateway.job.label,
            [
                f"OpenClaw {gateway.version} is older than {floor}: it has no `backup restore`, no /startupz and no "
                f"suspend, by which the runbook snapshots, watches and drains; update primary to {floor} or newer first"
            ],
        )


def log_file(gateway: Gateway) -> str:
    """The log that the gateway writes itself, or launchd keeps of it."""
    said = gateway.said("logging.file")
    stdout = gateway.job.lines.get("stdout path") or str(gateway.job.on_disk.get("StandardOutPath", ""))
    return said or stdout or str(PurePosixPath(gateway.state) / "logs/gateway.log")
