"""mac.yaml: what the practice Mac is, in the words of parameters/<region>.yaml; merged under lab.yaml."""

from __future__ import annotations

from typing import Any

import yaml

from runbook_lib.lab import gateway, stock, web
from runbook_lib.lab.kinds import Kind
from runbook_lib.lab.layout import CANARY_LABEL, NGINX_LABEL, PRIMARY_LABEL, Layout, launchd_domain, write
from runbook_lib.lab.ports import Ports

WEBHOOK_SECRETS = {
    "hooks_token": "OPENCLAW_HOOKS_TOKEN",
    "github_secret": "STANDIN_GITHUB_SECRET",
    "stripe_secret": "STANDIN_STRIPE_SECRET",
}
CLIENT = "203.0.113.9"  # RFC 5737: an address for documentation; nginx's realip makes the probe come from there


def describe(layout: Layout, ports: Ports, kind: Kind) -> None:
    references = (stock if layout.is_stock else gateway).secret_references(layout)
    canary = references["canary"]
    described: dict[str, Any] = {
        "host": {
            "alias": "practice-mac",
            "ssh_config": str(layout.ssh_config),
            "runbook_dir": str(layout.home / "rollout"),
            "connect_timeout_s": 5,
            "command_timeout_s": kind.command_s,
        },
        "runtime": {
            "package": kind.package,
            "node": str(layout.node_bin / "node"),
            "npm": str(layout.node_bin / "npm"),
            "launchd_domain": launchd_domain(),
            "browser_control": False,
            "canary_rpc": layout.is_stock,
            "longest_model_round_trip_s": 20,
            "ready_timeout_s": kind.ready_s,
        },
        "primary": {
            **_gateway(layout, "primary", PRIMARY_LABEL, ports.primary, references["primary"]),
            "log_file": str(layout.gateway_log.with_name("gateway.log")),
        },
        "canary": _gateway(layout, "canary", CANARY_LABEL, ports.canary, canary),
        "nginx": {
            "binary": str(layout.nginx_binary),
            "conf": str(layout.nginx_etc / "nginx.conf"),
            "server_file": str(layout.nginx_server_file),
            "managed_dir": str(layout.nginx_etc / "openclaw-rollout"),
            "error_log": str(layout.nginx_log / "error.log"),
            "pid_file": str(layout.nginx_pid),
            "log_dir": str(layout.nginx_log),
            "label": NGINX_LABEL,
            "launchd_domain": layout.nginx_domain,
            "plist": str(layout.nginx_plist),
            "sudo": False,
            "public_url": f"https://localhost:{ports.https}",
            "ca_file": str(layout.nginx_etc / "tls/ca.pem"),
            "probe_port": ports.probe,
            "probe_address": "127.0.0.1",
            "probe_headers": {"X-Practice-Client": CLIENT},
            "proxy_read_timeout_s": web.READ_TIMEOUT_S,
        },
        "webhooks": {
            **{name: canary[secret] for name, secret in WEBHOOK_SECRETS.items() if secret in canary},
            "gateway_verifies": kind.verifies_signatures,
            "smoke_primary": not layout.is_stock,
        },
        "thresholds": dict(kind.thresholds),
        "incident": {
            "notify": f"file:{layout.staging / 'incident.env'}#INCIDENT_URL",
            "confirm_url": f"http://127.0.0.1:{ports.outside}/pages",
            "confirm_timeout_s": 10,
        },
    }
    head = "# Written by `rollout lab up`; parameters/lab.yaml is merged over it. Secrets are references only.\n"
    write(layout.yaml, head + yaml.safe_dump(described, sort_keys=False, width=200))


def _gateway(layout: Layout, name: str, label: str, port: int, secrets: dict[str, str]) -> dict[str, Any]:
    state = layout.state_dir(name)
    return {
        "label": label,
        "plist": str(layout.plist(label)),
        "port": port,
        "prefix": str(layout.prefix(name)),
        "state_dir": str(state),
        "log_file": str(state / "logs/gateway.log"),
        "env_file": str(layout.env_file(name)),
        "secrets": secrets,
    }
