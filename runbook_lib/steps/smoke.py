"""The smoke test: recorded webhooks, signed with staging's secrets, sent straight to a gateway through SSH."""

from __future__ import annotations

import pandas as pd

from runbook_lib.gateway import delivery, webhooks
from runbook_lib.gateway.delivery import Delivery
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Sending
from runbook_lib.plan.models import Plan
from runbook_lib.verdict import Check


def deliveries(mac: Mac, copy: str) -> list[Delivery]:
    """Every recorded webhook whose hook this gateway has, signed; the same `copy` of a run has the same keys."""
    section = mac.plan.webhooks
    secrets = {name: mac.vault.resolve(reference).value for name, reference in section.signing_secrets.items()}
    return delivery.deliveries(
        mac.ledger.run, mac.vault.resolve(section.hooks_token).value, secrets, copy, section.hooks_path
    )


def forged(mac: Mac, copy: str) -> list[Delivery]:
    """The same webhooks with signatures nobody's secret made."""
    section = mac.plan.webhooks
    hooks_token = mac.vault.resolve(section.hooks_token).value
    return delivery.forged(f"{mac.ledger.run}-{copy}", hooks_token, section.signing_secrets, section.hooks_path)


def for_both_sides(mac: Mac) -> list[Delivery]:
    """One copy for each gateway, where production may get one (webhooks.smoke_primary); else none."""
    return deliveries(mac, "both sides") if mac.plan.webhooks.smoke_primary else []


def together(*answers: pd.DataFrame) -> pd.DataFrame:
    """All replays as one table."""
    return pd.concat(answers, ignore_index=True)


def judge_forged(plan: Plan, answers: pd.DataFrame) -> list[Check]:
    """Is a forged signature refused, where this gateway is known to verify signatures? Every one checks its token."""
    verifies = plan.webhooks.gateway_verifies or not plan.webhooks.signing_secrets
    return [webhooks.judge_forged(answers, verifies)]


def propose_agent(mac: Mac, name: str = "canary") -> Sending:
    """One agent hook, held until its run is done, so that its model has been asked; webhooks.AGENT_COLUMNS."""
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token).value
    return Sending(
        f"an agent hook to {name}",
        mac.plan.gateways[name].url,
        lambda client: webhooks.run_agent(client, token, name, mac.plan.webhooks.hooks_path),
        tuple(webhooks.AGENT_COLUMNS),
        timeout_s=max(mac.plan.runtime.longest_model_round_trip_s, mac.plan.host.command_timeout_s),
    )


def propose_replay(mac: Mac, sent: list[Delivery], name: str) -> Sending:
    """Every delivery once to one gateway; columns as in webhooks.replay."""
    return Sending(
        f"{len(sent)} webhooks to {name}",
        mac.plan.gateways[name].url,
        lambda client: webhooks.replay(client, sent, name),
        tuple(webhooks.COLUMNS),
        facts={"keys": [delivery.idempotency_key for delivery in sent]},
    )
