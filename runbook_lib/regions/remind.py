"""`rollout remind`: what people must hear while nobody runs anything. It changes nothing on the Mac."""

from __future__ import annotations

from datetime import UTC, datetime

from runbook_lib import notifications, parameters
from runbook_lib.mac import Mac
from runbook_lib.records.evidence import Run
from runbook_lib.regions.rollout import alone
from runbook_lib.regions.status import is_drained
from runbook_lib.steps.collect import collect_events
from runbook_lib.steps.lease import held_until


def remind(region: str) -> str:
    """Tell people of a lease that is about to lapse, and of what the sentinel did while nobody was connected.

    A region that somebody works on is left alone. Raises HostError where the Mac cannot be asked.
    """
    plan, run = parameters.load(region), Run.current(region)
    until = held_until(run.ledger()) if run and not run.is_closed else None
    if run is None or until is None:
        return f"{region}: no lease is held, nobody needs to be told"
    last = run.ledger().last("step_opened", "verdict", "failed")
    if last and last["event"] == "step_opened":
        return f"{region}: {last['step']} runs, nobody needs to be told"
    with alone(region), Mac.connect(plan, run.ledger("remind")) as mac:
        collect_events(mac, run)
    drained = is_drained(run)
    if not drained and (until - datetime.now(UTC)).total_seconds() < plan.lease.answer_s:
        _note_once(run, until)
    said = "the canary is drained" if drained else f"the lease holds until {until:%d %b %H:%M} UTC"
    return "\n".join([f"{region}: {said}", *notifications.send_due(plan, run)])


def _note_once(run: Run, until: datetime) -> None:
    noted = run.ledger().last("lease_ending")
    if noted is None or noted["detail"]["until"] != until.isoformat():
        what = f"the lease ends at {until:%d %b %H:%M} UTC"
        why = f"silence drains the canary; answer with: rollout run {run.region}"
        run.ledger("remind").append("lease_ending", what, until=until.isoformat(), why=why)
