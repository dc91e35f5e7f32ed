"""OpenClaw's own commands, variables, HTTP paths and answers. The scripts on the Mac that speak to it name them again.

Verified against openclaw 2026.9.6; the practice Mac's stand-in answers the same commands.
"""

from __future__ import annotations

import json
import re
from typing import Any

from runbook_lib.plan.models import GatewaySection, Plan
from runbook_lib.plan.rules import GATEWAY_TOKEN as GATEWAY_TOKEN

READY, STARTED, LIVE, RPC = "/readyz", "/startupz", "/healthz", "/api/v1/admin/rpc"
ADMIN = "/api/v1/admin/"
HOOKS = "/hooks/"
UNATTRIBUTED = "proxy_attribution_required"
EXIT_CONFIG = 78
DOWNGRADE = "a state directory that a newer version has migrated never starts with an older one (exit 78)"
SUPERVISED = "OPENCLAW_SUPERVISOR_MODE"
QUIET = {
    "OPENCLAW_NO_AUTO_UPDATE": "1",
    "OPENCLAW_DISABLE_BONJOUR": "1",
    "OPENCLAW_NO_RESPAWN": "1",
    SUPERVISED: "external",
}
# Cron, channels and watchers come along enabled with a cloned state: nothing may act twice.
ACT_ONCE = {
    "OPENCLAW_SKIP_CHANNELS": "1",
    "OPENCLAW_SKIP_CRON": "1",
    "OPENCLAW_SKIP_GMAIL_WATCHER": "1",
    "OPENCLAW_SKIP_BROWSER_CONTROL_SERVER": "1",
}
ENTRY = "openclaw.mjs"
RPC_PLUGIN = "admin-http-rpc"
STATE_DATABASE = "state/openclaw.sqlite"


def package(plan: Plan, gateway: GatewaySection) -> str:
    """Where a gateway's package lies: below its prefix, or a checkout of its own."""
    return gateway.package_dir or f"{gateway.prefix}/node_modules/{plan.runtime.package}"


def entry(plan: Plan, gateway: GatewaySection) -> str:
    return f"{package(plan, gateway)}/{ENTRY}"


def environment(gateway: GatewaySection, acts: bool) -> dict[str, str]:
    """What stands in the plist; `acts` is false for a canary, whose cron and channels stay off."""
    paths = {"OPENCLAW_STATE_DIR": gateway.state_dir, "OPENCLAW_CONFIG_PATH": gateway.config_path}
    return {**paths, **QUIET, **({} if acts else ACT_ONCE)}


def files(gateway: GatewaySection) -> dict[str, Any]:
    """Where a gateway's own things lie, and which of its variables are secrets, as the programs on the Mac ask."""
    places = {"state": gateway.state_dir, "config": gateway.config_path, "env": gateway.env_file}
    return {**places, "names": sorted(gateway.secrets)}


def command(plan: Plan, gateway: GatewaySection, *words: str) -> list[str]:
    """The gateway's own command line tool, run on the Mac with its env file: the words of one command."""
    variables = [f"{name}={value}" for name, value in environment(gateway, acts=True).items()]
    return [
        "/usr/bin/env",
        *variables,
        "/bin/sh",
        plan.folder.wrapper,
        gateway.env_file,
        plan.runtime.node,
        entry(plan, gateway),
        *words,
    ]


VALIDATE = ("config", "validate", "--json")
DOCTOR = ("doctor", "--lint", "--json", "--severity-min", "error")


def config_patch(canary: GatewaySection, rpc: bool = False) -> dict[str, Any]:
    """What a canary's openclaw.json must say otherwise than the primary's it was cloned from: path of keys to value.

    `rpc` switches the plugin on that tells a gateway's backlog.
    """
    return {
        "gateway.port": canary.port,
        "gateway.auth.mode": "token",
        "gateway.auth.token": f"${{{GATEWAY_TOKEN}}}",
        "logging.file": canary.log_file,
        "agents.defaults.workspace": f"{canary.state_dir}/workspace",
        **({f"plugins.entries.{RPC_PLUGIN}.enabled": True} if rpc else {}),
    }


def explain(status: int, body: str) -> str:
    """A known refusal in words; empty when the answer is not one."""
    if status == 403 and UNATTRIBUTED in body:
        return (
            "403 proxy_attribution_required: the gateway does not trust this proxy. Put nginx's address in "
            "gateway.trustedProxies, let nginx set X-Forwarded-For to $remote_addr, and probe through the Mac's "
            "own address, not 127.0.0.1"
        )
    if status == 503 and "gateway-draining" in body:
        return "503: the gateway is draining"
    return {401: "401: wrong token", 413: "413: over 262,144 bytes", 429: "429: 20 bad tokens in 60 s"}.get(status, "")


def findings(text: str) -> str:
    """What config validation or doctor found, a sentence each, from their JSON; the end of the text if it has none."""
    messages = dict.fromkeys(re.findall(r'"message":\s*"((?:[^"\\]|\\.)*)"', text))
    return "; ".join(messages) or text[-300:].strip()


PORT_TAKEN = "the port is taken"
EXITS = (
    ("78", "owns gateway-lifecycle", "the state directory is in use by another gateway"),
    ("78", "already owns this state directory", "the state directory is in use by another gateway"),  # before 2026.9.6
    ("78", "newer than this build", DOWNGRADE),
    ("78", "missing gateway.mode", "the configuration has no gateway.mode"),
    ("78", "Invalid config", "the configuration is invalid"),
    ("1", "already listening on", PORT_TAKEN),
    ("1", "EADDRINUSE", PORT_TAKEN),
    ("1", "duplicate rows resolve to canonical session key", "an agent's database has the same session twice"),
)


def explain_exit(last_exit: str, said: str = "") -> str:
    """What launchd's last exit code of a gateway means, by the end of its log; empty when it is not OpenClaw's own.

    A code alone has many causes: where the log names none that is known, that is said.
    """
    code = last_exit.partition(":")[0].strip()
    if code not in {code for code, *_ in EXITS}:
        return ""
    known = [meaning for of, text, meaning in EXITS if of == code and text in said]
    return f"Exit {code}: {known[-1] if known else 'the end of its log names no known cause'}. "


def parse_ready(readyz: str, startupz: str) -> tuple[bool, str]:
    """(is ready, version) from the bodies of /readyz and /startupz; anything but their JSON is not ready."""
    try:
        ready, started = json.loads(readyz), json.loads(startupz)
    except ValueError:
        return False, ""
    return ready.get("ready") is True and started.get("ok") is True, str(started.get("version", ""))
