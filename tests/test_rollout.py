"""A whole rollout on a practice Mac: by papermill alone, back again, dry, as a standby, and rehearsed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from project_fixture import Project

from runbook_lib.checklist.order import STEPS
from runbook_lib.lab import traffic
from runbook_lib.records.kinds import Kind

pytest_plugins = ["project_fixture"]

QUESTIONS = dict(zip(STEPS, (8, 14, 10, 30, 5, 30, 30, 140), strict=True))
"""At most. Step 4 waits for a gateway, 7 for the end of the observation and asks for news of the log, the samples and
the sentinel; 6 changes two weights and 8 nine, each with up to 15 questions: what runs, the change, its proof and
confirmation, the lease, and two for each look at the log while it settles."""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_papermill_alone_runs_all_eight_steps_and_every_notebook_records_a_pass(own_project: Project) -> None:
    for step in STEPS:
        done = own_project.papermill(step)
        assert done.returncode == 0, f"{step}: {done.stderr[-3000:]}"
    verdicts = {e["step"]: e["detail"]["answer"] for e in own_project.events("verdict")}
    assert verdicts == dict.fromkeys(STEPS, "pass")
    weights = [e["detail"]["weight_pct"] for e in own_project.events("weight")]
    assert weights == [0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert own_project.current().is_closed
    assert own_project.run("rollout", "seal", "lab").returncode == 0
    found = json.loads(own_project.run("rollout", "verify", str(own_project.current().directory), "--json").stdout)
    assert (found["answer"], found["problems"]) == ("pass", {}), found
    assert {again["step"]: again["recorded_count"] for again in found["verdicts"] if again["recorded_count"]} == {}
    sent = traffic.stop(own_project.mac.layout)
    assert sent["sent"] > 1000
    assert set(sent["statuses"]) == {"200"}, f"a rollout must not cost one webhook: {sent}"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_rollback_from_a_slice_restores_nginx_byte_for_byte_and_sets_the_canary_aside(own_project: Project) -> None:
    layout = own_project.mac.layout
    conf = layout.nginx_etc
    before = {path: path.read_bytes() for path in sorted(conf.rglob("*")) if path.is_file()}
    done = own_project.run("rollout", "run", "lab", "--through", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    done = own_project.run("rollout", "rollback", "lab")
    assert done.returncode == 0, done.stdout + done.stderr
    after = {path: path.read_bytes() for path in sorted(conf.rglob("*")) if path.is_file()}
    assert after == before
    assert not layout.state_dir("canary").exists()
    assert own_project.current().ledger().last(Kind.RUN_CLOSED)["what"] == "rolled back"  # type: ignore[index]
    again = own_project.run("rollout", "status", "lab", "--json")
    assert json.loads(again.stdout)[0]["verdict"] == "pass"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_dry_run_shows_every_change_and_makes_none(own_project: Project) -> None:
    layout = own_project.mac.layout
    watched = [layout.home, layout.nginx_etc]
    before = _listing(watched)
    done = own_project.run("rollout", "run", "lab", "--dry-run", "--through", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _listing(watched) == before
    executed = (own_project.root / "outputs/lab/dry-run/02_install_canary.ipynb").read_text()
    assert "npm ci" in executed
    assert not (own_project.root / "outputs/lab/current").exists()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_standby_gets_no_slice_and_is_promoted_by_one_swap(own_project: Project) -> None:
    own_project.settings(topology="primary_standby")  # type: ignore[arg-type]
    done = own_project.run("rollout", "run", "lab")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [e["detail"]["weight_pct"] for e in own_project.events("weight")] == [0, 100]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_rehearsed_nginx_failure_leaves_both_gateways_alive_and_pages_somebody(own_project: Project) -> None:
    assert own_project.run("rollout", "run", "lab", "--through", "4").returncode == 0
    done = own_project.papermill("rehearse_nginx_failure")
    assert done.returncode == 0, done.stderr[-3000:]
    verdict = own_project.events("verdict")[-1]["detail"]
    assert verdict["answer"] == "pass"
    names = {check["name"]: check["answer"] for check in verdict["checks"]}
    assert names["Page confirmed"] == names["matrix direct canary"] == "pass"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_step_out_of_turn_is_refused_with_what_to_do(own_project: Project) -> None:
    done = own_project.papermill("06_raise_weight")
    assert done.returncode == 1
    assert "start with 01_snapshot" in done.stderr
    assert not (own_project.root / "outputs/lab/current").exists()


def _listing(folders: list[Path]) -> list[tuple[str, int]]:
    return [
        (str(path), path.stat().st_mtime_ns)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "/Logs/" not in str(path)
    ]


def test_the_project_is_found_from_the_notebooks_folder(tmp_path: Path) -> None:
    script = "from runbook_lib.plan.reading import project_root; print(project_root())"
    for folder in ("notebooks", "parameters"):
        (tmp_path / folder).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "notebooks", capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == str(tmp_path)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_step_asks_the_mac_a_handful_of_questions(own_project: Project) -> None:
    """Each is a round trip, 150 ms or more from another continent."""
    assert own_project.run("rollout", "run", "lab").returncode == 0
    counts = {e["step"]: e["detail"]["round_trips_count"] for e in own_project.events("step_closed")}
    print(counts)
    assert list(counts) == list(STEPS)
    assert all(count <= QUESTIONS[step] for step, count in counts.items()), counts
