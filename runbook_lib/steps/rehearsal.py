"""The quarterly rehearsal: nginx stopped on purpose, both gateways alive on loopback, people paged, nginx back.

Article: "stop nginx intentionally, confirm launchd still keeps both gateways alive on loopback, and verify your
incident bot pages the right humans".
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import pandas as pd

from runbook_lib import matrix
from runbook_lib.clock import wait_until
from runbook_lib.errors import ActionFailed
from runbook_lib.incident import page_incident, wait_confirmed
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.onmac import script
from runbook_lib.probes import probe_matrix
from runbook_lib.records.kinds import Act
from runbook_lib.ssh.host import Completed
from runbook_lib.steps.acting import Acting
from runbook_lib.verdict import Check

STARTS_ITSELF_AFTER_S = 120  # nginx comes back even when the connection is lost meanwhile
ANSWERS_WITHIN_S = 15


def propose_stop(mac: Mac) -> Proposal:
    """Stop nginx, with a timer on the Mac that starts it again if nobody does."""
    section, domain = mac.plan.nginx, mac.plan.nginx_domain
    return Proposal(
        Act.STOP,
        "stop nginx on purpose",
        script("stop_job.sh") + script("start_later.sh"),
        args=(domain, section.label, "20", "", section.plist, str(STARTS_ITSELF_AFTER_S)),
        commands=(
            f"launchctl bootout {domain}/{section.label}",
            f"(sleep {STARTS_ITSELF_AFTER_S}; launchctl bootstrap {domain} {section.plist}) &   # if nobody does",
        ),
        proof=_prove_stopped,
        undo=f"launchctl bootstrap {domain} {section.plist}",
    )


def propose_start(mac: Mac) -> Proposal:
    """Start nginx again; proven when the public address answers."""
    section, domain = mac.plan.nginx, mac.plan.nginx_domain
    return Proposal(
        Act.START,
        "start nginx again",
        script("start_job.sh"),
        args=(domain, section.label, section.plist, "20"),
        commands=(f"launchctl bootstrap {domain} {section.plist}",),
        proof=_prove_answers,
        undo="nothing: nginx runs as before",
    )


def rehearse(step: Acting, stop: Proposal, start: Proposal) -> tuple[pd.DataFrame, pd.DataFrame, list[Check]]:
    """Stop nginx, look at both gateways, page and wait for the confirmation, start nginx whatever happened.

    Returns the times (what, took_s), the matrix of both gateways while nginx was down, and the page's checks. A dry
    run pages nobody.
    """
    mac, started = step.mac, time.monotonic()
    took: list[tuple[str, float]] = []
    step.apply(stop)
    took.append(("stop nginx", time.monotonic() - started))
    try:
        direct = probe_matrix(mac, through_nginx=False)
        took.append(("both gateways asked", time.monotonic() - started))
        checks = [] if mac.dry_run else _page(mac)
        took.append(("page answered", time.monotonic() - started))
    finally:
        step.apply(start)
        took.append(("nginx back", time.monotonic() - started))
    return pd.DataFrame(took, columns=["what", "took_s"]), direct, checks


def _page(mac: Mac) -> list[Check]:
    incident, page_id = mac.plan.incident, f"rehearsal-{uuid.uuid4().hex[:8]}"
    notify = mac.vault.resolve(incident.notify).value if incident.notify else None
    title = f"Rehearsal: nginx is down in {mac.plan.region}"
    body = f"Stopped on purpose; it comes back by itself within {STARTS_ITSELF_AFTER_S} s. Please confirm this page."
    delivered = page_incident(notify, title, body, page_id)
    return [delivered, wait_confirmed(incident.confirm_url, page_id, incident.confirm_timeout_s)]


def _prove_stopped(mac: Mac, done: Completed) -> Mapping[str, Any]:
    if done.fields().get("result") != "gone":
        raise ActionFailed(f"{mac.host.name}: nginx did not stop: {done.fields().get('detail', done.stderr)}")
    return {"job": "nginx", "took_s": round(done.duration_s, 1)}


def _prove_answers(mac: Mac, done: Completed) -> Mapping[str, Any]:
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token)
    outside = wait_until(
        lambda: matrix.ask_from_outside(mac.plan, token), lambda seen: bool(seen["ok"].all()), ANSWERS_WITHIN_S, 0.5
    )
    if outside["ok"].all():
        return {"answers": len(outside)}
    first = outside[~outside["ok"]].iloc[0]
    raise ActionFailed(
        f"{mac.host.name}: nginx was started but {first['request']} from outside got {first['status']} "
        f"{str(first['body'])[:200]} for {ANSWERS_WITHIN_S} s. Look at its error log NOW: {mac.plan.nginx.error_log}"
    )
