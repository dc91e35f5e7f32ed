"""`rollout remind`: what people must hear while nobody runs anything. It changes nothing on the Mac."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from runbook_lib import notifications
from runbook_lib.errors import HostError, RunbookError, StepNotReady
from runbook_lib.mac.lease import held_until
from runbook_lib.mac.mac import Mac
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.weights import is_drained
from runbook_lib.regions.rollout import alone
from runbook_lib.steps.collect import collect_events


def remind(regions: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Tell people of leases about to lapse, and of what the sentinels did while nobody was connected.

    Yields for each region what there is to say, and the exit code of what kept it from being asked, else 0: one that
    cannot be asked keeps nobody from hearing of the others. A region that somebody works on is left alone.
    """
    for region in regions:
        try:
            yield _remind(region)
        except RunbookError as error:
            yield f"{region}: {error}", error.exit_code


def _remind(region: str) -> tuple[str, int]:
    plan, run = reading.load(region), Run.current(region)
    until = held_until(run.ledger()) if run and not run.is_closed else None
    if run is None or until is None:
        return f"{region}: no lease is held, nobody needs to be told", 0
    left_s = (until - datetime.now(UTC)).total_seconds()
    last = run.ledger().last(Kind.STEP_OPENED, Kind.VERDICT)
    if last and last["event"] == Kind.STEP_OPENED and left_s > 0:  # one that has died does not renew its lease
        return f"{region}: {last['step']} runs, nobody needs to be told", 0
    try:
        with alone(region):
            unasked = _ask(plan, run)
    except StepNotReady as busy:
        return str(busy), 0
    drained = is_drained(run.ledger().events())
    said = "the canary is drained" if drained else f"the lease holds until {until:%d %b %H:%M} UTC"
    if not drained and left_s < plan.lease.answer_s:
        _note_once(run, until)
    lines = [f"{region}: {unasked or said}", *notifications.send_due(plan, run)]
    return "\n".join(lines), unasked.exit_code if unasked else 0


def _ask(plan: Plan, run: Run) -> HostError | None:
    """What the sentinel did goes into the ledger; what kept the Mac from being asked is the answer, not an end."""
    try:
        with Mac.connect(plan, run.ledger("remind")) as mac:
            collect_events(mac, run)
    except HostError as error:
        return error
    return None


def _note_once(run: Run, until: datetime) -> None:
    noted = run.ledger().last(Kind.LEASE_ENDING)
    if noted is None or noted["detail"]["until"] != until.isoformat():
        what = f"the lease ends at {until:%d %b %H:%M} UTC"
        why = f"silence drains the canary; answer with: rollout run {run.region}"
        run.ledger("remind").append(Kind.LEASE_ENDING, what, until=until.isoformat(), why=why)
