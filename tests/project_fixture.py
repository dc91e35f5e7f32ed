"""A project folder of its own with a practice Mac under traffic; commands run in it as a user types them.

Used as lab_fixture is: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.lab import faults, traffic
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.records.evidence import Run

HERE = Path(__file__).parents[1]
STEP_LIMIT_S = 180


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("notebooks", "parameters"):
            shutil.copytree(HERE / name, root / name)
        self.mac = PracticeMac(root / ".lab", say=lambda text: None)

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, limit_s: float = STEP_LIMIT_S
    ) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / words[0]), *words[1:]]
        return subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, timeout=limit_s, env={**os.environ, **(env or {})}
        )

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
def own_project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    project.mac.up()
    traffic.start(project.mac.layout, 80, 600)
    try:
        yield project
    finally:
        faults.clear(project.mac)
        project.mac.down()
