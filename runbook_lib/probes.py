"""What several steps ask: of launchd, the ports and both gateways. A probe is one round trip and changes nothing."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pandas as pd

from runbook_lib import matrix
from runbook_lib.errors import EvidenceError
from runbook_lib.gateway import launchd, openclaw
from runbook_lib.gateway.launchd import Job
from runbook_lib.mac.mac import Mac
from runbook_lib.onmac import program, script


def probe_jobs(mac: Mac) -> dict[str, Job]:
    """What launchd says of both gateways and nginx, by the plan's names."""
    plan = mac.plan
    domain = plan.runtime.launchd_domain
    targets = {
        f"{domain}/{plan.primary.label}": "primary",
        f"{domain}/{plan.canary.label}": "canary",
        f"{plan.nginx_domain}/{plan.nginx.label}": "nginx",
    }
    done = mac.host.run(script("ask_jobs.sh"), *targets)
    jobs: dict[str, Job] = {}
    for part in done.stdout.split("job\t")[1:]:
        head, _, text = part.partition("\n")
        target, status = head.split("\t")
        if "Could not find domain" in text:
            raise EvidenceError(
                f"{mac.host.name}: launchd has no domain {target.rpartition('/')[0]}: no GUI session of that user; "
                "log in once at the screen, or use runtime.launchd_domain: user/UID or system"
            )
        jobs[targets[target]] = launchd.parse_print(text, int(status))
    return jobs


def jobs_table(jobs: dict[str, Job]) -> pd.DataFrame:
    """One row a job: job, loaded, state, pid, runs, last_exit."""
    columns = ["loaded", "state", "pid", "runs", "last_exit"]
    return pd.DataFrame([{"job": name, **{c: getattr(job, c) for c in columns}} for name, job in jobs.items()])


def probe_listeners(mac: Mac, *ports: int) -> pd.DataFrame:
    """Who listens: port (int), pid (int), command, address; no row for a free port."""
    done = mac.host.run(script("ask_listeners.sh"), *(str(port) for port in ports))
    rows = [(int(port), int(pid), command, address) for port, pid, command, address in done.rows(4)]
    return pd.DataFrame(rows, columns=["port", "pid", "command", "address"])


def probe_matrix(
    mac: Mac, gateways: tuple[str, ...] = ("primary", "canary"), through_nginx: bool = True
) -> pd.DataFrame:
    """The curl matrix on the Mac, and from outside when nginx is asked too; columns as in matrix.COLUMNS."""
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token)
    asked = matrix.rows(mac.plan, gateways, through_nginx)
    on_mac = matrix.parse(asked, mac.host.run(matrix.script(mac.plan, asked, token)))
    if not through_nginx:
        return on_mac
    return pd.concat([on_mac, matrix.ask_from_outside(mac.plan, token)], ignore_index=True)


def probe_packages(mac: Mac) -> pd.DataFrame:
    """`npm ls --depth=0` of both prefixes side by side: package, primary, canary, same (bool).

    In a global tree, which holds other people's packages, too, only the gateway's own is told.
    """
    plan, runtime = mac.plan, mac.plan.runtime
    prefixes = {g.prefix: name for name, g in plan.gateways.items()}
    pairs = [word for g in plan.gateways.values() for word in (g.prefix, openclaw.package(plan, g))]
    done = mac.host.run(script("ask_packages.sh"), runtime.node, runtime.npm, runtime.package, *pairs)
    versions: dict[str, dict[str, str]] = {"primary": {}, "canary": {}}
    for kind, prefix, text in done.rows(3):
        if kind == "tree" and text:
            tree = json.loads(text).get("dependencies", {})
            versions[prefixes[prefix]] = {name: package.get("version", "missing") for name, package in tree.items()}
    names = sorted(versions["primary"] | versions["canary"])
    table = [(n, versions["primary"].get(n, ""), versions["canary"].get(n, "")) for n in names]
    frame = pd.DataFrame(table, columns=["package", "primary", "canary"])
    return frame.assign(same=frame["primary"] == frame["canary"])


def probe_secrets(mac: Mac, salt: str) -> pd.DataFrame:
    """The secrets of both gateways by salted hash, wherever they stand (env file, openclaw.json, auth profiles).

    gateway, name, sha256, private (its env file is 0600). No value leaves the Mac.
    """
    plan = mac.plan
    files = {gateway.env_file: name for name, gateway in plan.gateways.items()}
    question = json.dumps({"salt": salt, "gateways": {n: openclaw.files(g) for n, g in plan.gateways.items()}})
    answer = program("ask_secrets.js")
    done = mac.host.run(script("ask_secrets.sh"), plan.runtime.node, question, answer, *files)
    private = {files[file]: mode == "1" for kind, file, mode in done.rows(3) if kind == "mode"}
    rows = [(name, where, digest, private.get(name, False)) for kind, name, where, digest in done.rows(4)]
    return pd.DataFrame(rows, columns=["gateway", "name", "sha256", "private"])


def probe_validation(mac: Mac) -> pd.DataFrame:
    """Each gateway's own config validation and doctor: gateway, tool, exit_status, took_s, findings (text)."""
    plan = mac.plan
    lines = [script("ask_validation.sh")]
    for name, section in plan.gateways.items():
        for tool, words in (("config validate", openclaw.VALIDATE), ("doctor", openclaw.DOCTOR)):
            lines.append(shlex.join(["one", name, tool, *openclaw.command(plan, section, *words)]))
    done = mac.host.run("\n".join(lines))
    rows = [
        (name, tool, int(status), int(took), mac.vault.redact(text)) for name, tool, status, took, text in done.rows(5)
    ]
    return pd.DataFrame(rows, columns=["gateway", "tool", "exit_status", "took_s", "findings"])


def probe_startup(mac: Mac, name: str) -> dict[str, Any]:
    """Whether a gateway is ready, with the pid launchd has for it and the version it says.

    Readiness is /readyz and the version of /startupz; /healthz answers 200 while it starts and while it drains.
    """
    plan, section = mac.plan, mac.plan.gateways[name]
    done = mac.host.run(
        script("ask_ready.sh"),
        f"{plan.runtime.launchd_domain}/{section.label}",
        section.url + openclaw.READY,
        section.url + openclaw.STARTED,
    )
    fields = done.fields()
    ready, version = openclaw.parse_ready(fields.get("ready", ""), fields.get("started", ""))
    pid = fields.get("pid", "")
    return {
        "ready": ready,
        "version": version,
        "pid": int(pid) if pid.isdigit() else None,
        "answer": fields.get("ready", "")[:200],
    }
