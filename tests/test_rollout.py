"""A whole rollout on a practice Mac: by papermill alone, back again, dry, as a standby, and rehearsed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.evidence import Run
from runbook_lib.lab import faults, traffic
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.step import STEPS

HERE = Path(__file__).parents[1]
STEP_LIMIT_S = 180


class Project:
    """A project folder of its own with a practice Mac under traffic; commands run in it as a user types them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("notebooks", "parameters"):
            shutil.copytree(HERE / name, root / name)
        self.mac = PracticeMac(root / ".lab", say=lambda text: None)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / words[0]), *words[1:]]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=STEP_LIMIT_S)

    def papermill(self, step: str, *words: str) -> subprocess.CompletedProcess[str]:
        flags = ["--no-progress-bar", "--log-level", "ERROR", "-f", "parameters/lab.yaml"]
        return self.run("papermill", f"notebooks/{step}.ipynb", f"{step}.out.ipynb", *flags, *words)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        run = self.current()
        return run.ledger().events(*kinds)

    def current(self) -> Run:
        name = (self.root / "outputs/lab/current").read_text()
        return Run("lab", self.root / "outputs/lab" / name)

    def settings(self, **sections: dict[str, Any]) -> None:
        """Change sections of parameters/lab.yaml."""
        path = self.root / "parameters/lab.yaml"
        values = yaml.safe_load(path.read_text())
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
        path.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    project.mac.up()
    traffic.start(project.mac.layout, 80, 600)
    try:
        yield project
    finally:
        faults.clear(project.mac)
        project.mac.down()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_papermill_alone_runs_all_eight_steps_and_every_notebook_records_a_pass(project: Project) -> None:
    for step in STEPS:
        done = project.papermill(step)
        assert done.returncode == 0, f"{step}: {done.stderr[-3000:]}"
    verdicts = {e["step"]: e["detail"]["answer"] for e in project.events("verdict")}
    assert verdicts == dict.fromkeys(STEPS, "pass")
    weights = [e["detail"]["weight_pct"] for e in project.events("weight")]
    assert weights == [0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert project.current().is_closed
    sent = traffic.stop(project.mac.layout)
    assert sent["sent"] > 1000
    assert set(sent["statuses"]) == {"200"}, f"a rollout must not cost one webhook: {sent}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rollback_from_a_slice_restores_nginx_byte_for_byte_and_sets_the_canary_aside(project: Project) -> None:
    layout = project.mac.layout
    conf = layout.nginx_etc
    before = {path: path.read_bytes() for path in sorted(conf.rglob("*")) if path.is_file()}
    done = project.run("rollout", "run", "lab", "--through", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    done = project.run("rollout", "rollback", "lab")
    assert done.returncode == 0, done.stdout + done.stderr
    after = {path: path.read_bytes() for path in sorted(conf.rglob("*")) if path.is_file()}
    assert after == before
    assert not layout.state_dir("canary").exists()
    assert project.current().ledger().last("run_closed")["what"] == "rolled back"  # type: ignore[index]
    again = project.run("rollout", "status", "lab", "--json")
    assert json.loads(again.stdout)[0]["verdict"] == "pass"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_dry_run_shows_every_change_and_makes_none(project: Project) -> None:
    layout = project.mac.layout
    watched = [layout.home, layout.nginx_etc]
    before = _listing(watched)
    done = project.run("rollout", "run", "lab", "--dry-run", "--through", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _listing(watched) == before
    executed = (project.root / "outputs/lab/dry-run/02_install_canary.ipynb").read_text()
    assert "npm ci" in executed
    assert not (project.root / "outputs/lab/current").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_standby_gets_no_slice_and_is_promoted_by_one_swap(project: Project) -> None:
    project.settings(topology="primary_standby")  # type: ignore[arg-type]
    done = project.run("rollout", "run", "lab")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [e["detail"]["weight_pct"] for e in project.events("weight")] == [0, 100]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rehearsed_nginx_failure_leaves_both_gateways_alive_and_pages_somebody(project: Project) -> None:
    assert project.run("rollout", "run", "lab", "--through", "4").returncode == 0
    done = project.papermill("rehearse_nginx_failure")
    assert done.returncode == 0, done.stderr[-3000:]
    verdict = project.events("verdict")[-1]["detail"]
    assert verdict["answer"] == "pass"
    names = {check["name"]: check["answer"] for check in verdict["checks"]}
    assert names["Page confirmed"] == names["matrix direct canary"] == "pass"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_step_out_of_turn_is_refused_with_what_to_do(project: Project) -> None:
    done = project.papermill("06_raise_weight")
    assert done.returncode == 1
    assert "start with 01_snapshot" in done.stderr
    assert not (project.root / "outputs/lab/current").exists()


def _listing(folders: list[Path]) -> list[tuple[str, int]]:
    return [
        (str(path), path.stat().st_mtime_ns)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "/Logs/" not in str(path)
    ]


def test_the_project_is_found_from_the_notebooks_folder(tmp_path: Path) -> None:
    script = "from runbook_lib.parameters import project_root; print(project_root())"
    for folder in ("notebooks", "parameters"):
        (tmp_path / folder).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "notebooks", capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == str(tmp_path)
