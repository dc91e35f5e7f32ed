"""Who is told of what: an event that somebody should hear of is sent once, and the ledger says that it was."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.incident import send
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.vault import Vault
from runbook_lib.plan.models import Plan, Severity
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Act, Closing, Kind
from runbook_lib.verdict import Action, Answer

SEVERITIES: dict[str, Severity] = {
    "gate_waiting": "info",
    "lease_ending": "warning",
    "drained": "failure",
    "not_drained": "failure",
    "promoted": "success",
    "failed": "failure",
    "paused": "warning",
}
UNPROVEN = "the canary is NOT drained, or nobody can prove it"


def kind_of(event: Event[Any]) -> str:
    """A key of SEVERITIES; empty for an event that nobody is told of."""
    if event["event"] == Kind.VERDICT:
        failed = "paused" if event["detail"].get("action") == Action.PAUSE else "failed"
        return failed if event["detail"]["answer"] == Answer.FAIL else ""
    if event["event"] == Kind.RUN_CLOSED:
        return "promoted" if event["detail"]["outcome"] == Closing.PROMOTED else ""
    if event["event"] == Kind.FAILED:
        return Kind.NOT_DRAINED if event["detail"].get("act") == Act.DRAIN else ""
    return event["event"] if event["event"] in SEVERITIES else ""


def send_due(plan: Plan, run: Run) -> list[str]:
    """Send what this ledger has and nobody was told of yet; returns a sentence for each that was not taken.

    Each attempt is an event: `notified`, or `not_notified` with the reason. None is repeated, and none stops anything.
    """
    if not plan.notifications:
        return []
    events = run.ledger().events()
    told = {e["detail"]["seq"] for e in events if e["event"] in (Kind.NOTIFIED, Kind.NOT_NOTIFIED)}
    due = [event for event in events if kind_of(event) and event["seq"] not in told]
    return [failure for event in due for failure in _send(plan, run, event)]


def _send(plan: Plan, run: Run, event: Event[Any]) -> list[str]:
    kind, failures = kind_of(event), []
    said = UNPROVEN if event["event"] == Kind.FAILED else event["what"]
    severity, title = SEVERITIES[kind], f"{plan.region}: {said}"
    body = "; ".join(event["detail"].get("reasons", [])) or event["detail"].get("reason", "")
    body = body or event["detail"].get("error", "")
    body = f"{body or event['detail'].get('why', '')}\n\n{plan.region} {run.name}, {event['who']}, {event['at']}"
    for name, channel in plan.notifications.items():
        if severity not in channel.severities:
            continue
        ledger, told = run.ledger(), {"seq": event["seq"], "channel": name, "severity": severity}
        try:
            with ExitStack() as stack:
                vault = Vault(None)
                if channel.url.startswith("file:"):
                    vault = stack.enter_context(Mac.connect(plan, ledger)).vault
                url = vault.resolve(channel.url).value
            wrong = vault.redact(send(url, title, body, severity))
        except RunbookError as error:
            wrong = str(error)
        if wrong:
            ledger.append(Kind.NOT_NOTIFIED, f"{name} was not told: {title}", error=wrong, **told)
            failures.append(f"{plan.region}: {name} ({channel.url}) was not told that {said}: {wrong}")
        else:
            ledger.append(Kind.NOTIFIED, f"{name} was told: {title}", **told)
    return failures
