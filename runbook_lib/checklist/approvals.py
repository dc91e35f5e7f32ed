"""Gates: before some steps a person is asked, and an answer holds only for the evidence it was given for."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from runbook_lib.checklist.order import step_before
from runbook_lib.errors import GateWaiting
from runbook_lib.plan.models import Plan
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.weights import drains
from runbook_lib.verdict import Answer


def refusal(plan: Plan, run: Run, step: str) -> str:
    """Why `step` has to wait for a person, who looks at the step before it; empty where it may run."""
    if int(step[:2]) not in plan.gated_steps:
        return ""
    why = _invalid(run, step, datetime.now(UTC))
    return f'{why}; look at {step_before(step)}, then: rollout approve {plan.region} --why "…"' if why else ""


def ask(plan: Plan, run: Run, step: str) -> str:
    """As refusal, and the ledger says since when it waits, once for the same evidence."""
    why = refusal(plan, run, step)
    if why:
        evidence, ledger = evidence_of(run, step_before(step)), run.ledger(step)
        last = ledger.last(Kind.GATE_WAITING, Kind.APPROVED, Kind.STEP_OPENED, step=step)
        if last is None or last["event"] != Kind.GATE_WAITING or last["detail"]["evidence"] != evidence:
            ledger.append(Kind.GATE_WAITING, f"{step} waits for a person", evidence=evidence, reason=why)
    return why


def approve(plan: Plan, run: Run, step: str, why: str) -> Event[Any]:
    """Record who let `step` run, why, for which evidence and until when.

    Raises GateWaiting where there is nothing to approve: the step has no gate, or what it rests on has not passed.
    """
    where, before = f"{step} in {plan.region}", step_before(step)
    if int(step[:2]) not in plan.gated_steps:
        raise GateWaiting(f"{where} has no gate, nothing to approve: rollout run {plan.region}")
    if not why.strip():
        raise GateWaiting(f'{where}: an approval says why, and nothing was said; write --why "…"')
    judged = run.ledger().last(Kind.VERDICT)
    if judged and judged["detail"]["answer"] == Answer.FAIL:
        raise GateWaiting(
            f"{where} cannot be approved: {judged['step']} failed at {judged['at']}. Mend it and execute {before} "
            f"again, or go back: rollout rollback {plan.region}"
        )
    if run.answer(before) != Answer.PASS:
        said = run.answer(before) or "nothing yet"
        raise GateWaiting(f"{where} cannot be approved: {before} has not passed (it says {said})")
    until = datetime.now(UTC) + timedelta(seconds=plan.gates.approval_s)
    detail = {"why": why, "evidence": evidence_of(run, before), "expires_at": until.isoformat(timespec="seconds")}
    return run.ledger(step).append(Kind.APPROVED, f"{step} may run", before=before, **detail)


def evidence_of(run: Run, step: str) -> str:
    """The hash of a step's last verdict, as it stands in the ledger, and of every file that the step kept."""
    verdict = run.ledger().last(Kind.VERDICT, step=step)
    kept = sorted(path for path in (run.directory / "evidence" / step).rglob("*") if path.is_file())
    files = {str(path.relative_to(run.directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}
    return hashlib.sha256(json.dumps([verdict, files], sort_keys=True).encode()).hexdigest()


def _invalid(run: Run, step: str, now: datetime) -> str:
    before = step_before(step)
    events = run.ledger().events()
    approved = run.ledger().last(Kind.APPROVED, step=step)
    if approved is None:
        return f"{step} waits for a person"
    given = f"{step} waits for a person: the approval of {approved['who']} at {approved['at']}"
    if any(e["seq"] > approved["seq"] for e in drains(events)):  # who approved had seen a canary that serves
        return f"{given} is void, the canary was drained after it"
    if approved["detail"]["evidence"] != evidence_of(run, before):
        return f"{given} is void, the evidence of {before} has changed since"
    if datetime.fromisoformat(approved["detail"]["expires_at"]) < now:
        return f"{given} has expired at {approved['detail']['expires_at']}"
    return ""
