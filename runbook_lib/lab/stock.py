"""A stock practice Mac: what npm -g, OpenClaw's own onboarding and its owner's edits leave on it."""

from __future__ import annotations

import json
import secrets
import subprocess
from typing import Any

from runbook_lib.lab import gateway
from runbook_lib.lab.kinds import Kind
from runbook_lib.lab.layout import PRIMARY_LABEL, LabError, Layout, write

NEIGHBOURS = {"npm": "11.6.1", "pnpm": "10.18.2", "@acme/deploy-tools": "3.1.0"}
"""Other global packages of the same Node, which are no business of a gateway's."""
ONBOARD: tuple[str, ...] = (
    "--non-interactive",
    "--accept-risk",
    "--mode",
    "local",
    "--skip-daemon",
    "--skip-health",
    "--skip-skills",
)
ONBOARD += ("--skip-channels", "--skip-search", "--skip-ui", "--gateway-bind", "loopback")
LIKE_A_MAC = """\
// OpenClaw's installer writes launchd's files on a Mac alone, for the home of its account.
Object.defineProperty(process, 'platform', { value: 'darwin' });
const os = require('node:os');
const told = os.userInfo;
os.userInfo = (...words) => ({ ...told(...words), homedir: process.env.HOME });
require('node:module').syncBuiltinESMExports();
"""
ZSHENV = """\
# read by every zsh, also by one that SSH starts for a single command
echo "Welcome to $USER's Mac"
export http_proxy=http://127.0.0.1:9
"""
LIMIT_S = 120


def make_neighbours(layout: Layout) -> None:
    """Packages beside OpenClaw in the global tree, as `npm -g` leaves them."""
    for name, version in NEIGHBOURS.items():
        package = {"name": name, "version": version, "license": "MIT"}
        write(layout.prefix("primary") / "node_modules" / name / "package.json", json.dumps(package))


def make_primary(layout: Layout, port: int, kind: Kind, outside_port: int, incident_url: str) -> None:
    """Onboard, edit the configuration as its owner would, and install the service, each by OpenClaw's own command."""
    if layout.plist(PRIMARY_LABEL).is_file():
        return
    write(layout.home / ".zshenv", ZSHENV)
    write(layout.run / "like-a-mac.cjs", LIKE_A_MAC)
    layout.launch_agents.mkdir(parents=True, exist_ok=True)
    model: tuple[str, ...] = ("--custom-base-url", f"http://127.0.0.1:{outside_port}/v1", "--custom-model-id", "echo")
    model += ("--custom-api-key", secrets.token_hex(24), "--custom-provider-id", "practice")
    choice = ("--auth-choice", "custom-api-key", *model, "--custom-compatibility", "openai")
    words = choice if kind.asks_model else ("--auth-choice", "skip")
    _openclaw(layout, kind, "onboard", *ONBOARD, "--gateway-port", str(port), *words)
    paste = ("models", "auth", "paste-api-key", "--provider", "anthropic", "--profile-id", "anthropic:default")
    _openclaw(layout, kind, *paste, said=f"sk-ant-{secrets.token_hex(24)}\n")
    file = layout.state_dir("primary") / "openclaw.json"
    hooks_token = secrets.token_hex(24)
    write(file, json5(edited(json.loads(file.read_text()), layout, hooks_token)), 0o600)
    canary = {"OPENCLAW_GATEWAY_TOKEN": secrets.token_hex(24), "ANTHROPIC_API_KEY": f"sk-ant-{secrets.token_hex(24)}"}
    write(layout.staging / "canary.env", gateway.exports(canary), 0o600)
    write(layout.staging / "incident.env", gateway.exports({"INCIDENT_URL": incident_url}), 0o600)
    layout.staging.chmod(0o700)
    _openclaw(layout, kind, "gateway", "install", "--port", str(port))


def edited(settings: dict[str, Any], layout: Layout, hooks_token: str) -> dict[str, Any]:
    """What its owner wrote: hooks with a literal token, nginx as a trusted proxy; and quiet, for a practice Mac."""
    settings["gateway"] |= {"trustedProxies": ["127.0.0.1"], "controlUi": {"enabled": False}}
    settings["hooks"] = {**settings.get("hooks", {}), "enabled": True, "token": hooks_token, "path": "/hooks"}
    settings["agents"]["defaults"] |= {"heartbeat": {"every": "0m"}, "skipBootstrap": True}
    settings["update"] = {"checkOnStart": False}
    settings["discovery"] = {"mdns": {"mode": "off"}}
    settings["models"] = {**settings.get("models", {}), "catalogRefresh": {"enabled": False}}
    settings["logging"] = {"file": str(layout.gateway_log.with_name("openclaw.log"))}
    return settings


def json5(settings: dict[str, Any]) -> str:
    """JSON as somebody leaves it who edits it by hand: comments, and a comma after the last member."""
    body = json.dumps(settings, indent=2).removesuffix("\n}")
    return f"// Our gateway. The proxy in front is nginx: see its servers/gateway.conf\n{body}, // the end\n}}\n"


def secret_references(layout: Layout) -> dict[str, dict[str, str]]:
    """Primary's tokens stand in its openclaw.json; the canary's own lie ready in a file of the Mac."""
    config = layout.state_dir("primary") / "openclaw.json"
    tokens = {"OPENCLAW_GATEWAY_TOKEN": "gateway.auth.token", "OPENCLAW_HOOKS_TOKEN": "hooks.token"}
    primary = {name: f"json:{config}#{where}" for name, where in tokens.items()}
    own = {name: f"file:{layout.staging}/canary.env#{name}" for name in ("OPENCLAW_GATEWAY_TOKEN", "ANTHROPIC_API_KEY")}
    return {"primary": primary, "canary": {**own, "OPENCLAW_HOOKS_TOKEN": primary["OPENCLAW_HOOKS_TOKEN"]}}


def _openclaw(layout: Layout, kind: Kind, *words: str, said: str = "") -> None:
    """OpenClaw's own command in the session of the Mac's user. Raises LabError with what it said."""
    entry = layout.prefix("primary") / "node_modules" / kind.package / "openclaw.mjs"
    loaded = ["--require", str(layout.run / "like-a-mac.cjs")]
    environment = {**layout.mac_environment(), "NODE_OPTIONS": " ".join(loaded)}
    command = [str(layout.node_bin / "node"), str(entry), *words]
    try:
        done = subprocess.run(
            command, env=environment, cwd=layout.home, input=said, capture_output=True, text=True, timeout=LIMIT_S
        )
    except OSError as error:
        raise LabError(f"openclaw {words[0]}: {error}") from error
    if done.returncode:
        raise LabError(
            f"openclaw {' '.join(words[:2])} ended with {done.returncode}:\n{(done.stderr or done.stdout)[-1500:]}"
        )
