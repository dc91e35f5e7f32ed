"""A gateway at rest before it is stopped: no new work, nothing in flight, by OpenClaw's own cooperative suspension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.errors import ActionFailed
from runbook_lib.gateway import openclaw
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.nginx.asking import probe_pulse
from runbook_lib.onmac import script
from runbook_lib.probes import probe_jobs
from runbook_lib.records.kinds import Act
from runbook_lib.ssh.host import Completed

ANSWER_S = 30  # two answers that do not come, and the connection


def propose_suspension(mac: Mac, name: str) -> Proposal:
    """Fence a gateway and wait, at most runtime.drain_timeout_s, until nothing is in flight; stop it right after.

    The lease of 120 s is renewed by every question and runs out by itself when nobody asks any more. A gateway that
    does not answer (frozen, hung) or refuses (no plugin, another token) is recorded as not drained, and left to its
    own drain on SIGTERM: a way back never ends here. Raises ActionFailed where nginx still sends traffic to the
    canary, and, when applied, where work does not end in time.
    """
    plan, section = mac.plan, mac.plan.gateways[name]
    running = probe_jobs(mac)[name].pid is not None
    if name == "canary" and running and not mac.dry_run:
        _refuse_under_traffic(mac)
    return Proposal(
        Act.SUSPEND,
        f"suspend {name}",
        script("suspend_gateway.sh"),
        args=(
            section.url + openclaw.RPC,
            plan.folder.wrapper,
            section.env_file,
            openclaw.GATEWAY_TOKEN,
            f"rollout-{name}",
            f"{plan.runtime.drain_timeout_s:g}",
            plan.runtime.node,
        ),
        commands=(
            "openclaw gateway call gateway.suspend.prepare --params '{\"drain\": true}'   # until nothing is in flight",
        ),
        proof=lambda mac, done: _prove_quiet(mac, name, done),
        undo="it takes work again by itself within 120 s",
        done_already="" if running else "it does not run",
        timeout_s=plan.runtime.drain_timeout_s + ANSWER_S,
    )


def _refuse_under_traffic(mac: Mac) -> None:
    weight_pct = probe_pulse(mac).weight_pct
    if weight_pct > 0:
        raise ActionFailed(
            f"{mac.host.name}, nginx: {weight_pct:g} % of new requests go to the canary; nothing was changed. Cut its "
            f"traffic first, or they meet a closed door: rollout drain {mac.plan.region}"
        )


def _prove_quiet(mac: Mac, name: str, done: Completed) -> Mapping[str, Any]:
    fields = done.fields()
    result, waited_s = fields.get("result", ""), int(fields.get("waited_s", 0))
    where = f"{mac.host.name}, gateway {name}"
    if result == "busy":
        raise ActionFailed(
            f"{where}: still busy after {waited_s} of {mac.plan.runtime.drain_timeout_s:g} s: {fields['blockers']}. "
            "It takes work again. End those runs or raise runtime.drain_timeout_s, then do this again"
        )
    said = mac.vault.redact(fields.get("detail", ""))
    if said:
        said += f". Is the plugin admin-http-rpc on, and {openclaw.GATEWAY_TOKEN} its token?"
    renewed_count = max(0, int(fields.get("asked", 0)) - 1)
    return {
        "job": name,
        "drained": result == "ready",
        "waited_s": waited_s,
        "renewed_count": renewed_count,
        "said": said,
    }
