"""One region's rollout: which step may run next, its notebook executed, the page made anew, people asked and told."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import yaml

from runbook_lib import notifications
from runbook_lib.checklist import approvals
from runbook_lib.checklist.order import BESIDE, MANAGED_FROM, STEPS, next_step
from runbook_lib.clock import wait_until
from runbook_lib.errors import EvidenceError, GateWaiting, HostError, StepNotReady, exit_code_of
from runbook_lib.execution.execute import execute
from runbook_lib.execution.notebooks import check_notebooks
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Act, Cause, Kind
from runbook_lib.records.ledger import operator
from runbook_lib.regions.emergency import drain_now
from runbook_lib.regions.filing import file_away, file_unsealed
from runbook_lib.verdict import Action, Answer

EXIT_CODES = {Answer.PASS: 0, Answer.FAIL: 1, Answer.INCONCLUSIVE: 3}
LET_GO_S = 5  # a runner that was killed holds its region until its process is gone
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How far a region came: the last step that ran, its answer, and why it stopped where it did."""

    region: str
    run: str
    step: str
    answer: Answer
    reason: str

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.answer]


def run_region(
    region: str,
    say: Say,
    through: int = len(STEPS),
    dry_run: bool = False,
    before_step: Say = lambda step: None,
) -> Outcome:
    """Run a region's next steps until one does not pass, waits for a person, or `through` is reached.

    Raises PlanError before any, StepNotReady where another runner has the region.
    """
    plan = reading.load(region)
    check_notebooks(STEPS[:through])
    with alone(region):
        return _run_alone(plan, say, through, dry_run, before_step)


def _run_alone(plan: Plan, say: Say, through: int, dry_run: bool, before_step: Say) -> Outcome:
    region = plan.region
    given = {**_sections(region), "dry_run": dry_run}
    if dry_run:
        return _run_dry(region, given, say, through, before_step)
    try:
        if sealed := file_unsealed(Run.current(region)):
            say(f"{region:<4} {sealed}")
    except EvidenceError as refused:
        return Outcome(region, "", "", Answer.INCONCLUSIVE, str(refused))
    outcome = Outcome(region, "", "", Answer.PASS, "nothing left to do")
    while (name := next_step(Run.current(region))) and STEPS.index(name) < through:
        if waiting := _at_gate(plan, name, say):
            return waiting
        before_step(name)
        outcome = run_step(plan, name, given, say)
        if outcome.answer is not Answer.PASS or name == STEPS[-1]:
            break
    return outcome


@contextmanager
def alone(region: str) -> Iterator[None]:
    """One runner of a region at a time, wherever this folder is shared; one that has died lets go by itself."""
    folder = reading.project_root() / "outputs" / region
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".runner").open("a+") as file:
        if not wait_until(lambda: _held(file), bool, LET_GO_S, 0.2):
            file.seek(0)
            raise StepNotReady(f"{region}: {file.read()} runs it already; wait for it, or stop it")
        file.truncate(0)
        file.write(f"{operator()}, process {os.getpid()},")
        file.flush()
        yield


def _held(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_step(plan: Plan, name: str, given: Mapping[str, Any], say: Say) -> Outcome:
    """Execute one notebook for a region and say how it ended."""
    region, started = plan.region, time.monotonic()
    run = Run.current(region)
    if run is None or (run.is_closed and name not in BESIDE):
        run = Run.start(region)
    error = execute(name, given, run.directory)
    answer = run.answer(name)
    not_asked = not error or exit_code_of(error) == EXIT_CODES[Answer.INCONCLUSIVE]
    verdict = Answer(answer) if answer else Answer.INCONCLUSIVE if not_asked else Answer.FAIL
    if error and verdict is Answer.PASS:
        verdict = Answer.INCONCLUSIVE if not_asked else Answer.FAIL
    if error and is_left_with_traffic(run, name):
        error += f"; {_drained_after_death(region, name)}"
    if error and not answer:
        run.ledger(name).append(Kind.FAILED, "no verdict", error=error)  # or it would run for ever in every table
    _tell(plan, run, say)  # before the seal, which holds who was told
    try:
        file_away(run)
    except EvidenceError as refused:
        verdict = Answer.INCONCLUSIVE if verdict is Answer.PASS else verdict
        error = "; ".join(filter(None, [error, str(refused)]))
    reason = error or "passed"
    say(_progress(region, name, verdict, started, error))
    return Outcome(region, run.name, name, verdict, reason)


def _at_gate(plan: Plan, name: str, say: Say) -> Outcome | None:
    """That this step waits for a person; None where it does not."""
    run = Run.current(plan.region)
    if run is None or name == STEPS[0]:
        return None
    why = approvals.ask(plan, run, name)
    if not why:
        return None
    _tell(plan, run, say)
    file_away(run)
    say(_progress(plan.region, name, "waits", time.monotonic(), why))
    return Outcome(plan.region, run.name, name, Answer.INCONCLUSIVE, why)


def _tell(plan: Plan, run: Run, say: Say) -> None:
    for failure in notifications.send_due(plan, run):
        say(failure)


def approve(region: str, why: str) -> Event[Any]:
    """A person lets the next step run. Raises GateWaiting where there is nothing to approve."""
    plan, run = reading.load(region), Run.current(region)
    name = next_step(run)
    if run is None or run.is_closed or name is None or name == STEPS[0]:
        raise GateWaiting(f"{region} has no open run at a gate, nothing to approve: rollout run {region}")
    event = approvals.approve(plan, run, name, why)
    file_away(run)
    return event


def is_left_with_traffic(run: Run, name: str) -> bool:
    """Whether a step that died may have left a canary that nobody judges, or one that failed a canary with traffic.

    A step that was only refused, only looked, or only held the lease changed nothing.
    """
    if name not in STEPS[MANAGED_FROM:]:
        return False
    events = run.ledger().events(Kind.STEP_OPENED, Kind.EFFECT, Kind.VERDICT, Kind.VERIFIED, step=name)
    opened = max((e["seq"] for e in events if e["event"] == Kind.STEP_OPENED), default=0)
    since = [e for e in events if e["seq"] > opened]
    acts = [(e["event"], e["detail"].get("act")) for e in since]
    verdicts = [e["detail"] for e in since if e["event"] == Kind.VERDICT]
    if verdicts:
        asks = verdicts[-1].get("action", Action.DRAIN if verdicts[-1]["answer"] == Answer.FAIL else "")
        return asks == Action.DRAIN and Act.DRAIN not in [act for kind, act in acts if kind == Kind.VERIFIED]
    return any(kind == Kind.EFFECT and act != Act.HOLD_LEASE for kind, act in acts)


def _drained_after_death(region: str, name: str) -> str:
    """A step that died without a verdict leaves a canary that nobody judges: it gets no traffic."""
    try:
        return drain_now(region, f"{name} died without a verdict", Cause.DEATH)
    except HostError as lost:
        return f"the canary could NOT be drained: {lost}"


def roll_back(region: str, say: Say) -> Outcome:
    """The rollback notebook for a region's current run."""
    plan = reading.load(region)
    check_notebooks(["rollback"])
    return run_step(plan, "rollback", _sections(region), say)


def _run_dry(region: str, given: Mapping[str, Any], say: Say, through: int, before_step: Say) -> Outcome:
    run = Run.dry_run(region)
    for name in STEPS[:through]:
        before_step(name)
        started = time.monotonic()
        error = execute(name, given, run.directory)
        say(_progress(region, name, "stopped" if error else "dry run", started, error))
        if error:
            return Outcome(region, run.name, name, Answer.INCONCLUSIVE, error)
    return Outcome(region, run.name, STEPS[through - 1], Answer.PASS, "dry run: nothing was changed")


def _progress(region: str, name: str, answer: str, started: float, reason: str) -> str:
    return f"{region:<4} {name:<24} {answer:<12} {time.monotonic() - started:5.1f} s  {reason}".rstrip()


def _sections(region: str) -> dict[str, Any]:
    """The parameters file as papermill's -f would inject it."""
    values: dict[str, Any] = yaml.safe_load(reading.parameters_file(region).read_text(encoding="utf-8"))
    return values
