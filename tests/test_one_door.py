"""All acting goes through the open step: it shows what it will do as it will do it, and ends with the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from mac_fixture import values_of
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from project_fixture import Project

from runbook_lib.errors import StepFailed, StepNotReady
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.mac.switch import propose_trial, propose_undrain
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.step import Step, open_step
from runbook_lib.steps import rehearsal, smoke
from runbook_lib.verdict import Answer, Check, Hop

pytest_plugins = ["lab_fixture", "mac_fixture", "project_fixture"]

NAME = "rehearse_nginx_failure"  # needs a run, and nothing before it
FAILED = [Check("a check", Answer.FAIL, "it failed", Hop.CANARY)]
ACTED = ("intent", "replayed", "skipped", "kept", "drained", "undrained")


@pytest.fixture
def run(lab: PracticeMac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A project folder whose region `lab` has an open run."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters/lab.yaml").write_text(yaml.safe_dump(values_of(lab)))
    monkeypatch.chdir(tmp_path)
    return Run.start("lab")


@pytest.fixture
def step(run: Run) -> Iterator[Step]:
    opened = open_step(NAME, {"region": "lab"})
    with opened.mac:
        yield opened


def acted(run: Run) -> list[str]:
    return [event["what"] for event in run.ledger().events(*ACTED)]


def every_way_to_act(step: Step) -> None:
    """Each is refused as not ready."""
    stop, start = rehearsal.propose_stop(step.mac), rehearsal.propose_start(step.mac)
    sending = smoke.propose_replay(step.mac, smoke.deliveries(step.mac, copy="x"), "primary")
    for act in (
        lambda: step.apply(*propose_trial(step.plan)),
        lambda: step.send(sending),
        lambda: step.stay(),
        lambda: step.drain("again"),
        lambda: rehearsal.rehearse(step, stop, start),
    ):
        with pytest.raises(StepNotReady, match="is judged; nothing was done again"):
            act()


def test_a_judged_step_does_nothing_more(step: Step, run: Run) -> None:
    (pulled, back) = step.apply(*propose_trial(step.plan))
    assert pulled and back
    step.conclude(FAILED)
    before = acted(run)
    every_way_to_act(step)
    assert acted(run) == before
    with pytest.raises(StepFailed):
        step.gate()


def test_a_fail_stays_a_fail_until_the_step_is_done_anew(step: Step, run: Run) -> None:
    """Asking once more and judging that instead is no way round; a fail may be said again, for it drains."""
    passed = [Check("a check", Answer.PASS, "it is well now", Hop.CANARY)]
    doubtful = [Check("a check", Answer.INCONCLUSIVE, "too few", Hop.CANARY)]
    step.conclude(doubtful)
    step.conclude(FAILED)
    for better in (passed, doubtful):
        with pytest.raises(StepNotReady, match="is judged fail; .* from its top"):
            step.conclude(better)
    step.conclude(FAILED)
    assert [e["detail"]["answer"] for e in run.ledger().events(Kind.VERDICT)] == ["inconclusive", "fail", "fail"]
    with pytest.raises(StepFailed):
        step.gate()


def test_a_verdict_that_another_process_gave_counts_too(step: Step, run: Run) -> None:
    run.ledger(NAME).append(Kind.VERDICT, f"{NAME}: fail", answer="fail")
    every_way_to_act(step)
    assert acted(run) == []


def test_a_canary_that_was_drained_meanwhile_gets_no_traffic_from_an_open_step(step: Step, run: Run) -> None:
    run.ledger("drain").append(Kind.DRAINED, "every new request goes to primary", why="5xx at 3 a.m.")
    for raises in (
        Proposal(Act.CONFIGURE_NGINX, "raise", "true", facts={"weight_pct": 5}),
        propose_undrain(step.plan, "on with it"),
    ):
        with pytest.raises(StepNotReady, match="was drained since this step was opened .5xx at 3 a.m."):
            step.apply(raises)
    assert acted(run) == ["every new request goes to primary"]
    step.drain("a drain is never refused")
    assert acted(run)[-2:] == ["drain the canary", "every new request goes to primary"]
    with open_step(NAME, {"region": "lab"}).mac as mac:  # whoever opens it anew has seen the drain
        assert mac.ledger.last(Kind.DRAINED)
        Step(NAME, run, mac, mac.ledger.last(Kind.STEP_OPENED)["seq"]).apply(propose_undrain(step.plan, "looked at"))  # type: ignore[index]
    assert acted(run)[-1] == "the canary has its share back"


def test_a_dry_rehearsal_stops_nothing_and_pages_nobody(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = tmp_path / "pages"
    monkeypatch.setenv("PAGER", f"file://{pages}")  # no channel of apprise's: a page would be a failed check
    given = {"region": "lab", "dry_run": True, "incident": {"notify": "env:PAGER"}}
    step = open_step(NAME, given)
    with step.mac:
        stop, start = rehearsal.propose_stop(step.mac), rehearsal.propose_start(step.mac)
        step.preview(stop, start)
        times, direct, checks = rehearsal.rehearse(step, stop, start)
    assert checks == []
    events = step.mac.ledger.events()
    assert [e["what"] for e in events if e["event"] == Kind.SKIPPED][-2:] == [stop.what, start.what]
    assert not [e for e in events if e["event"] == Kind.INTENT]
    assert direct.query("gateway == 'primary'")["ok"].all(), "primary was asked, and answers"
    assert acted(run) == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_apply_cell_of_a_failed_notebook_is_refused_in_its_kernel_and_the_canary_stays_drained(
    own_project: Project,
) -> None:
    own_project.settings(observation={"wait_s": 10})  # nothing will arrive: it need not be waited for long
    done = own_project.run("rollout", "run", "lab", "--through", "5", limit_s=400)
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = nbformat.read(own_project.root / "notebooks/06_raise_weight.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": own_project.root / "notebooks"}}
    )
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells):
            if cell.source.startswith("step.apply("):
                apply_cell = cell
                # Somebody pulls the kill switch by hand: nothing of the slice arrives, which is a certain fail.
                (own_project.mac.layout.home / "rollout/drain").touch()
            if cell.source == "step.gate()":
                with pytest.raises(CellExecutionError, match="StepFailed"):
                    client.execute_cell(cell, number)
            else:
                client.execute_cell(cell, number)
        ledger = own_project.current().ledger()
        planned, did = (
            [(e["what"], e["detail"].get("revision")) for e in ledger.events(kind, step="06_raise_weight")]
            for kind in ("proposed", "intent")
        )
        assert len(planned) >= 3, "the lease and two weights of the ramp"
        assert did[: len(planned)] == planned, "what was shown is what was done, before the verdict undid it"
        intents = own_project.events("intent")
        with pytest.raises(CellExecutionError, match="06_raise_weight in lab is judged; nothing was done again"):
            client.execute_cell(apply_cell, notebook.cells.index(apply_cell))
        look = "pulse = asking.probe_pulse(step.mac)\nprint(pulse.revision[:7], pulse.drained, pulse.weight_pct)"
        looked = nbformat.v4.new_code_cell(look)
        client.nb.cells.append(looked)
        client.execute_cell(looked, len(client.nb.cells) - 1)
        assert looked.outputs[0].text.split() == ["w000.00", "True", "0.0"]
    assert own_project.events("intent") == intents
    assert own_project.events("undrained") == []
