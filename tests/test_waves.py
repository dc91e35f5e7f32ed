"""Regions as waves: how they are written, and what is refused before anything is touched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.errors import PlanError, StepNotReady
from runbook_lib.records.evidence import Run
from runbook_lib.regions.rollout import alone, run_region
from runbook_lib.regions.waves import parse_waves

PROJECT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


@pytest.mark.parametrize(
    ("words", "first_bakes", "waves"),
    [
        ("hk", False, [["hk"]]),
        ("hk", True, [["hk"]]),
        ("hk jp kr sg us", False, [["hk", "jp", "kr", "sg", "us"]]),
        ("hk jp kr sg us", True, [["hk"], ["jp", "kr", "sg", "us"]]),
        ("hk : jp kr : sg us", False, [["hk"], ["jp", "kr"], ["sg", "us"]]),
        ("hk jp : kr", True, [["hk", "jp"], ["kr"]]),
    ],
)
def test_regions_as_waves(words: str, first_bakes: bool, waves: list[list[str]]) -> None:
    assert parse_waves(words.split(), first_bakes) == waves


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (": hk", ["a wave is empty; write e.g. hk : jp kr"]),
        ("hk :", ["a wave is empty; write e.g. hk : jp kr"]),
        ("hk : : jp", ["a wave is empty; write e.g. hk : jp kr"]),
        (":", ["a wave is empty; write e.g. hk : jp kr"]),
        ("hk jp : hk", ["hk stands there twice"]),
    ],
)
def test_what_cannot_be_waves(words: str, wrong: list[str]) -> None:
    with pytest.raises(PlanError) as refused:
        parse_waves(words.split())
    assert refused.value.mistakes == wrong


def test_the_mistakes_of_all_regions_at_once() -> None:
    with pytest.raises(PlanError) as refused:
        parse_waves(["hk", "atlantis", ":", "mu", "hk"])
    said = str(refused.value)
    assert "hk stands there twice" in said and "'atlantis'" in said and "'mu'" in said


def test_one_runner_at_a_time_works_on_a_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PROJECT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters/hk.yaml").write_text((PROJECT / "parameters/hk.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runbook_lib.regions.rollout.LET_GO_S", 0.1)
    script = "import time; from runbook_lib.regions.rollout import alone\n"
    script += "with alone('hk'): print('has it', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout and other.stdout.readline() == "has it\n"
            with pytest.raises(StepNotReady, match=f"hk: .*process {other.pid}, runs it already"):
                run_region("hk", lambda text: None)
            assert Run.current("hk") is None
        finally:
            other.kill()
    with alone("hk"):
        assert other.returncode != 0, "a runner that was killed has let go"
