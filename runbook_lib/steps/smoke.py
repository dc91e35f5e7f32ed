"""The smoke test: recorded webhooks, signed with staging's secrets, sent straight to a gateway through SSH."""

from __future__ import annotations

import pandas as pd

from runbook_lib.gateway import delivery, openclaw, webhooks
from runbook_lib.gateway.delivery import Delivery
from runbook_lib.mac.mac import Mac
from runbook_lib.plan.models import Plan
from runbook_lib.verdict import Check


def deliveries(mac: Mac, copy: str) -> list[Delivery]:
    """Every recorded webhook whose hook this gateway has, signed; the same `copy` of a run has the same keys."""
    section = mac.plan.webhooks
    secrets = {name: mac.vault.resolve(reference).value for name, reference in section.signing_secrets.items()}
    return delivery.deliveries(mac.ledger.run, mac.vault.resolve(section.hooks_token).value, secrets, copy)


def forged(mac: Mac, copy: str) -> list[Delivery]:
    """The same webhooks with signatures nobody's secret made."""
    section = mac.plan.webhooks
    hooks_token = mac.vault.resolve(section.hooks_token).value
    return delivery.forged(f"{mac.ledger.run}-{copy}", hooks_token, section.signing_secrets)


def together(*answers: pd.DataFrame) -> pd.DataFrame:
    """All replays as one table."""
    return pd.concat(answers, ignore_index=True)


def judge_forged(plan: Plan, answers: pd.DataFrame) -> list[Check]:
    """Is a forged signature refused, where this gateway is known to verify signatures?"""
    verifies = openclaw.verifies_signatures(plan) if plan.webhooks.signing_secrets else True  # the token, then
    return [webhooks.judge_forged(answers, verifies)]


def run_agent(mac: Mac, name: str = "canary") -> pd.DataFrame:
    """One agent hook, held until its run is done, so that its model has been asked; webhooks.AGENT_COLUMNS."""
    mac.ledger.append("replayed", f"an agent hook to {name}")
    if mac.dry_run:
        return pd.DataFrame(columns=webhooks.AGENT_COLUMNS)
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token).value
    patience_s = max(mac.plan.runtime.longest_model_round_trip_s, mac.plan.host.command_timeout_s)
    with mac.host.http(mac.plan.gateways[name].url, patience_s) as client:
        return webhooks.run_agent(client, token, name)


def replay(mac: Mac, sent: list[Delivery], *gateways: str) -> pd.DataFrame:
    """Send every delivery to each of these gateways, recorded in the ledger; columns as in webhooks.replay."""
    answers = []
    for name in gateways:
        mac.ledger.append("replayed", f"{len(sent)} webhooks to {name}", keys=[d.idempotency_key for d in sent])
        if mac.dry_run:
            continue
        with mac.host.http(mac.plan.gateways[name].url) as client:
            answers.append(webhooks.replay(client, sent, name))
    return pd.concat(answers, ignore_index=True) if answers else pd.DataFrame(columns=webhooks.COLUMNS)
