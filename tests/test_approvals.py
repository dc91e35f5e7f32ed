"""Gates: silence holds, an approval is for one evidence and for a time, and what it was is in the ledger."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.checklist import approvals
from runbook_lib.checklist.order import STEPS, next_step
from runbook_lib.errors import GateWaiting, StepNotReady
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.regions import rollout
from runbook_lib.regions.status import status
from runbook_lib.show.page import summary
from runbook_lib.step import open_step

PROJECT = Path(__file__).parents[1]
BEFORE, STEP = STEPS[4], STEPS[5]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(PROJECT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters/hk.yaml").write_text((PROJECT / "parameters/hk.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(place: Path) -> Run:
    """hk with its first five steps passed."""
    run = Run.start("hk")
    for step in STEPS[:5]:
        verdict(run, step, "pass")
    run.keep_text(BEFORE, "table.csv", "a,b\n1,2\n")
    return run


def verdict(run: Run, step: str, answer: str) -> None:
    ledger = run.ledger(step)
    ledger.append(Kind.STEP_OPENED, step)
    ledger.append(Kind.VERDICT, f"{step}: {answer}", answer=answer, hops=[], reasons=[], checks=[])


def plan(**sections: dict[str, Any]) -> Plan:
    values = yaml.safe_load((PROJECT / "parameters/hk.yaml").read_text())
    return reading.build(values | sections, "hk.yaml")


def refusal(run: Run) -> str:
    return approvals.refusal(plan(), run, STEP)


def test_a_person_is_asked_before_the_slice_and_before_promotion_unless_the_file_says_otherwise() -> None:
    assert plan().gated_steps == [6, 8]
    assert plan(gates={"before": [2]}).gated_steps == [2]
    assert plan(gates={"before": []}).gated_steps == []


def test_silence_holds_and_says_what_to_type(run: Run) -> None:
    assert refusal(run) == f'{STEP} waits for a person; look at {BEFORE}, then: rollout approve hk --why "…"'
    assert approvals.refusal(plan(gates={"before": []}), run, STEP) == ""


def test_a_run_stops_at_the_gate_before_anything_is_connected(run: Run) -> None:
    said: list[str] = []
    for _ in range(2):
        outcome = rollout.run_region("hk", said.append)
        assert (outcome.exit_code, outcome.step) == (3, STEP)
        assert "rollout approve hk --why" in outcome.reason
    assert len(run.ledger().events(Kind.GATE_WAITING)) == 1, "asked once for the same evidence"
    (row,) = status(["hk"]).to_dict("records")
    assert (row["step"], row["verdict"]) == (STEP, "waits")
    assert summary(run.directory).set_index("step").loc[STEP, "verdict"] == "waits"
    assert "waits" in re.findall(r"6 Raise weight.*?</tr>", (run.directory / "index.html").read_text(), re.DOTALL)[0]


def test_papermill_and_jupyter_stop_at_it_too(run: Run) -> None:
    with pytest.raises(GateWaiting, match="rollout approve hk"):
        open_step(STEP, {"region": "hk"})


def test_an_approval_says_who_why_until_when_and_for_what(run: Run) -> None:
    event = rollout.approve("hk", "smoke is green")
    assert refusal(run) == ""
    assert (event["step"], event["detail"]["why"], event["detail"]["before"]) == (STEP, "smoke is green", BEFORE)
    assert event["who"] and event["detail"]["expires_at"] > event["at"]
    assert event["detail"]["evidence"] == approvals.evidence_of(run, BEFORE)


def test_it_is_void_when_a_kept_file_changes(run: Run) -> None:
    rollout.approve("hk", "smoke is green")
    run.keep_text(BEFORE, "table.csv", "a,b\n1,3\n")
    assert f"is void, the evidence of {BEFORE} has changed since" in refusal(run)
    rollout.approve("hk", "looked again")
    assert refusal(run) == ""


def test_it_is_void_when_the_step_is_judged_again(run: Run) -> None:
    rollout.approve("hk", "smoke is green")
    verdict(run, BEFORE, "pass")
    assert "is void" in refusal(run)


def test_it_is_void_after_a_drain(run: Run) -> None:
    rollout.approve("hk", "smoke is green")
    run.ledger("drain").append(Kind.DRAINED, "every new request goes to primary", why="by hand")
    assert "is void, the canary was drained after it" in refusal(run)


def test_it_expires(run: Run) -> None:
    approvals.approve(plan(gates={"approval_s": 0.001}), run, STEP, "smoke is green")
    assert "has expired at" in refusal(run)


def test_another_steps_approval_does_not_count(run: Run) -> None:
    rollout.approve("hk", "smoke is green")
    assert "waits for a person" in approvals.refusal(plan(), run, STEPS[7])


@pytest.mark.parametrize("why", ["", "  "])
def test_without_a_reason_it_is_refused(run: Run, why: str) -> None:
    with pytest.raises(GateWaiting, match="says why"):
        rollout.approve("hk", why)


def test_nothing_to_approve(place: Path) -> None:
    with pytest.raises(GateWaiting, match="no open run at a gate"):
        rollout.approve("hk", "go")
    run = Run.start("hk")
    verdict(run, STEPS[0], "pass")
    with pytest.raises(GateWaiting, match=f"{STEPS[1]} in hk has no gate"):
        rollout.approve("hk", "go")


@pytest.mark.parametrize("failed", [BEFORE, STEP])
def test_a_failed_step_cannot_be_approved(run: Run, failed: str) -> None:
    verdict(run, failed, "fail")
    with pytest.raises(GateWaiting, match="no gate|failed at"):
        rollout.approve("hk", "go")
    assert not run.ledger().events(Kind.APPROVED)


def test_mended_and_judged_again_it_can(run: Run) -> None:
    verdict(run, STEP, "fail")
    verdict(run, BEFORE, "pass")
    rollout.approve("hk", "restarted the canary")
    assert refusal(run) == ""


def test_a_closed_gate_is_not_a_step_that_is_not_ready(run: Run) -> None:
    verdict(run, BEFORE, "inconclusive")
    with pytest.raises(StepNotReady):
        open_step(STEP, {"region": "hk"})


OPENED, ACTED = (Kind.STEP_OPENED, {}), (Kind.EFFECT, {"act": Act.CONFIGURE_NGINX})
HELD, FAILED = (Kind.EFFECT, {"act": Act.HOLD_LEASE}), (Kind.VERDICT, {"answer": "fail"})


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([OPENED], False),
        ([OPENED, HELD], False),
        ([OPENED, HELD, ACTED], True),
        ([OPENED, ACTED, OPENED], False),
        ([OPENED, ACTED, (Kind.VERDICT, {"answer": "pass"})], False),
        ([OPENED, ACTED, (Kind.VERDICT, {"answer": "inconclusive"})], False),
        ([OPENED, FAILED], True),
        ([OPENED, FAILED, (Kind.INTENT, {"act": Act.DRAIN})], True),
        ([OPENED, FAILED, (Kind.VERIFIED, {"act": Act.DRAIN})], False),
    ],
)
def test_a_step_that_died_is_drained_where_it_may_have_left_traffic(
    run: Run, events: list[tuple[Kind, dict[str, str]]], expected: bool
) -> None:
    for kind, detail in events:
        run.ledger(STEP).append(kind, "a sentence that decides nothing", **detail)
    assert rollout.is_left_with_traffic(run, STEP) is expected
    assert rollout.is_left_with_traffic(run, BEFORE) is False


@pytest.mark.parametrize("end", [Kind.FAILED, Kind.VERIFIED, None])
def test_a_rollback_whatever_its_end_leaves_the_snapshot_alone_and_voids_the_rest(run: Run, end: Kind | None) -> None:
    assert next_step(run) == STEP
    rollback = run.ledger("rollback")
    rollback.append(Kind.STEP_OPENED, "rollback")
    assert next_step(run) == STEP, "it has only looked"
    rollback.append(Kind.INTENT, "stop canary", act=Act.STOP)
    if end:
        rollback.append(end, "stop canary", act=Act.STOP)
    assert next_step(run) == STEPS[1]
    with pytest.raises(StepNotReady, match="02_install_canary has not passed .*rolled back"):
        open_step(STEPS[2], {"region": "hk"})
    verdict(run, STEPS[1], "pass")
    assert next_step(run) == STEPS[2]
