"""The article's eight steps: their order, which of them have passed, and which is next."""

from __future__ import annotations

from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Cause, Kind
from runbook_lib.records.weights import drains
from runbook_lib.verdict import Answer

TITLES = {
    "01_snapshot": "1 Snapshot",
    "02_install_canary": "2 Install canary",
    "03_validate": "3 Validate",
    "04_start_dark": "4 Start dark",
    "05_smoke": "5 Smoke",
    "06_raise_weight": "6 Raise weight",
    "07_observe": "7 Observe",
    "08_promote_or_rollback": "8 Promote or rollback",
}
STEPS = tuple(TITLES)
ROLLBACK = "rollback"
BESIDE = (ROLLBACK, "rehearse_nginx_failure")
ACTING = tuple(step for step in STEPS if step not in ("03_validate", "07_observe"))
RAISED, OBSERVED = STEPS[5], STEPS[6]
FORGIVEN = (Cause.LEASE, Cause.DEATH)  # causes of a drain that say nothing against the canary
MANAGED_FROM = STEPS.index("04_start_dark")  # from here on our configuration runs, so a failure drains


def step_before(name: str) -> str:
    """The step whose evidence this one rests on."""
    return STEPS[STEPS.index(name) - 1]


def next_step(run: Run | None) -> str | None:
    """The first step without a pass; None where the rollout is done."""
    if run is None or run.is_closed:
        return STEPS[0]
    return next((name for name in STEPS if not has_passed(run, name)), None)


def has_passed(run: Run, name: str) -> bool:
    """Whether a step's last verdict is a pass that still stands.

    A drain takes the slice away, so it has to be raised again. Unless it says nothing against the canary (a lease
    that lapsed, a step that died), the observation of that slice is void, too. A rollback that was begun, whatever its
    end, leaves the snapshot and voids all after it.
    """
    if run.answer(name) != Answer.PASS:
        return False
    events = run.ledger().events()
    judged = max(e["seq"] for e in events if e["event"] == Kind.VERDICT and e["step"] == name)
    rolled_back = any(e["event"] == Kind.INTENT and e["step"] == ROLLBACK and e["seq"] > judged for e in events)
    if rolled_back and name != STEPS[0]:
        return False
    if name not in (RAISED, OBSERVED):
        return True
    raised = [e["seq"] for e in events if e["event"] == Kind.VERDICT and e["step"] == RAISED and e["seq"] <= judged]
    since = [e for e in drains(events) if e["seq"] > max(raised, default=0)]
    if name == RAISED:
        return not since
    return all(e["detail"].get("cause") in FORGIVEN for e in since)
