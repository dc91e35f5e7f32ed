"""Whose turn it is: the run that a step may be opened in, or why it may not."""

from __future__ import annotations

from pathlib import Path

from runbook_lib.checklist import approvals
from runbook_lib.checklist.order import ACTING, BESIDE, STEPS, has_passed
from runbook_lib.errors import GateWaiting, StepNotReady
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.verdict import Answer


def run_for(name: str, plan: Plan, again: bool) -> Run:
    """The run that a step belongs to; step 1 starts one. `again` lets it act where it has passed.

    Raises StepNotReady where it is not its turn, GateWaiting where a person has not approved.
    """
    region = plan.region
    run = Run.current(region)
    if not again:
        _refuse_a_record(name, region)
        _refuse_a_second_time(name, region, run)
    if name in BESIDE:
        if run is None:
            raise StepNotReady(f"{name} in {region}: there is no run; start with 01_snapshot")
        return run
    place = STEPS.index(name)
    if place == 0:
        fresh = run is None or run.is_closed or run.answer(STEPS[1]) != ""
        return Run.start(region) if run is None or fresh else run
    if run is None or run.is_closed:
        raise StepNotReady(f"{name} in {region}: there is no open run; start with 01_snapshot")
    for before in STEPS[:place]:
        if not has_passed(run, before):
            said = run.answer(before) or "nothing yet"
            void = ", void since the canary was drained or rolled back" if said == Answer.PASS else ""
            raise StepNotReady(
                f"{name} in {region}: {before} has not passed (it says {said}{void}); run it first: "
                f"rollout run {region}"
            )
    if why := approvals.refusal(plan, run, name):
        raise GateWaiting(f"{region}: {why}")
    return run


def _refuse_a_record(name: str, region: str) -> None:
    """Jupyter runs a notebook in its own folder: in a run's folder it is the record of what was done."""
    here = Path.cwd()
    if reading.project_root() / "outputs" in here.parents:
        raise StepNotReady(
            f"{name} in {region}: this is the record of run {here.name}; nothing was done again. Open "
            f"notebooks/{name}.ipynb to run the step, or set again = True here to change the Mac from a record"
        )


def _refuse_a_second_time(name: str, region: str, run: Run | None) -> None:
    if run is None or run.is_closed or name not in ACTING or not has_passed(run, name):
        return
    passed = run.ledger().last(Kind.VERDICT, step=name)
    at = passed["at"] if passed else "no time"
    raise StepNotReady(
        f"{name} in {region} has passed in run {run.name} ({at}); nothing was done again. Go on with "
        f"rollout run {region}, go back with rollout rollback {region}, or set again = True to change the Mac again"
    )
