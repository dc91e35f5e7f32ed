"""A step by hand: JupyterLab in a real browser runs a notebook on the practice Mac, and its record cannot act again."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from lab_fixture import until
from playwright.sync_api import Browser, Page, expect
from project_fixture import Project

from runbook_lib.records.kinds import Kind

pytest_plugins = ["browser_fixture", "project_fixture"]

STARTS_WITHIN_S, RUNS_WITHIN_MS = 120, 240_000


@dataclass(frozen=True)
class JupyterLab:
    """A server on loopback that asks for a token."""

    url: str
    token: str

    def address(self, path: str) -> str:
        return f"{self.url}/lab/tree/{path}?token={self.token}&reset"


@pytest.fixture
def jupyterlab(own_project: Project, tools: Path, tmp_path: Path) -> Iterator[JupyterLab]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = [f"--port={port}", "--port-retries=0", "--no-browser", f"--IdentityProvider.token={token}"]
    options += ["--allow-root"] if os.getuid() == 0 else []
    log = tmp_path / "jupyterlab.log"
    with log.open("wb") as said:
        server = subprocess.Popen(
            [tools / "jupyter-lab", "--ip=127.0.0.1", *options],
            cwd=own_project.root,
            env={**os.environ, **own, "PATH": f"{tools}:{os.environ['PATH']}"},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    lab = JupyterLab(f"http://127.0.0.1:{port}", token)
    try:
        until(lambda: _answers(lab) or server.poll() is not None, STARTS_WITHIN_S)
        assert server.poll() is None, log.read_text()
        yield lab
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _answers(lab: JupyterLab) -> bool:
    try:
        return httpx.get(f"{lab.url}/api/status", params={"token": lab.token}, timeout=5).is_success
    except httpx.HTTPError:
        return False


def run_all(page: Page, lab: JupyterLab, path: str) -> None:
    """Open a notebook and run all cells from its menu, as a person does."""
    page.goto(lab.address(path), timeout=RUNS_WITHIN_MS)
    name = page.get_by_role("tab", name=Path(path).name, exact=False)
    expect(name.first).to_be_visible(timeout=RUNS_WITHIN_MS)
    expect(page.get_by_text("| Idle").first).to_be_visible(timeout=RUNS_WITHIN_MS)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()


def end_kernels(lab: JupyterLab) -> None:
    """So that the next notebook starts in a kernel of its own, as on another day."""
    headers = {"Authorization": f"token {lab.token}"}
    for kernel in httpx.get(f"{lab.url}/api/kernels", headers=headers, timeout=30).json():
        ended = httpx.delete(f"{lab.url}/api/kernels/{kernel['id']}", headers=headers, timeout=30)
        assert ended.status_code == 204, ended.text


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_notebook_runs_by_hand_and_its_record_changes_nothing(
    own_project: Project, jupyterlab: JupyterLab, browser: Browser
) -> None:
    refused = httpx.get(f"{jupyterlab.url}/api/contents", timeout=10)
    assert refused.status_code == 403, "without the token nobody gets in"
    with browser.new_context(viewport={"width": 1400, "height": 1200}) as context:
        page = context.new_page()
        run_all(page, jupyterlab, "notebooks/01_snapshot.ipynb")
        banner = page.locator(".jp-OutputArea-output").get_by_text("01_snapshot in lab")
        expect(banner.first).to_be_visible(timeout=RUNS_WITHIN_MS)
        expect(page.locator(".jp-OutputArea-output").get_by_text("PASS").first).to_be_visible()
        ledger = own_project.current().ledger()
        until(lambda: ledger.last(Kind.STEP_CLOSED) is not None, 60)
    verdict = ledger.last(Kind.VERDICT)
    assert verdict and verdict["detail"]["answer"] == "pass"
    changes = len(ledger.events(Kind.INTENT))
    assert changes > 0

    # Its record lies in the run's folder: there, and in notebooks/ as well, running all cells is refused.
    record = own_project.current().directory / "01_snapshot.ipynb"
    shutil.copy(own_project.root / "notebooks/01_snapshot.ipynb", record)
    for path, said in (
        (str(record.relative_to(own_project.root)), "this is the record of run"),
        ("notebooks/01_snapshot.ipynb", "has passed in run"),
    ):
        end_kernels(jupyterlab)
        with browser.new_context(viewport={"width": 1400, "height": 1200}) as context:
            page = context.new_page()
            run_all(page, jupyterlab, path)
            error = page.locator(".jp-OutputArea-output").get_by_text(said)
            expect(error.first).to_be_visible(timeout=RUNS_WITHIN_MS)
            expect(page.locator(".jp-OutputArea-output").get_by_text("again = True").first).to_be_visible()
    assert len(own_project.current().ledger().events(Kind.INTENT)) == changes
    assert json.loads(record.read_text())["cells"][2]["outputs"] == [], "and the record is as it was"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_passed_step_acts_again_only_where_a_parameter_says_so(own_project: Project) -> None:
    assert own_project.papermill("01_snapshot").returncode == 0
    first = own_project.current()
    refused = own_project.papermill("01_snapshot")
    assert refused.returncode == 1
    assert f"01_snapshot in lab has passed in run {first.name}" in refused.stderr
    assert "nothing was done again" in refused.stderr
    assert own_project.current() == first and len(first.ledger().events(Kind.VERDICT)) == 1
    done = own_project.papermill("01_snapshot", "-p", "again", "true")
    assert done.returncode == 0, done.stderr[-3000:]
    # Papermill alone seals nothing by itself: the next contact does, and says which step.
    executed = (own_project.root / "out.ipynb").read_text() if (own_project.root / "out.ipynb").exists() else ""
    sealed = own_project.run("rollout", "seal", "lab")
    assert "01_snapshot" in sealed.stdout + executed
    assert own_project.run("rollout", "verify", str(own_project.current().directory)).returncode == 0
