"""Logs, notebooks, plists and samples that are broken: a sentence and the right exit code, and nothing has changed.

Broken parameter files are in test_parameters.py.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import command

from runbook_lib.gateway.launchd import lint_plist, render_plist
from runbook_lib.plan import reading
from runbook_lib.steps.sentinel import SAMPLE_FIELDS, parse_samples

PROJECT = Path(__file__).parents[1]
WHOLE_GZ = gzip.compress(b"no line of any access log\n" * 1000)
SAMPLE = b"2026-09-06T12:00:00Z\tprimary\t812\t204800\t3.1\t200\t4\t0\t1\n"


LOGS: dict[str, tuple[bytes | None, str]] = {
    "missing.log": (None, "No such file"),
    "torn.gz": (WHOLE_GZ[: len(WHOLE_GZ) // 2], "cut or damaged"),
    "wrong-sum.gz": (WHOLE_GZ[:-6] + b"xxxxxx", "CRC check failed"),
    "scribbled.gz": (WHOLE_GZ[:12] + b"\xff" * 8 + WHOLE_GZ[20:], ""),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, says = LOGS[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, said = command(capsys, tmp_path, "analyse", name)
    assert code == 2, said
    assert said.startswith(f"{name}: ") and says in said and said.endswith("nothing was judged\n")


@pytest.mark.parametrize("content", [b"", b"hello world\n" * 100, b'{"time": \n' * 50, bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["some.log", "unpacked-already.gz"])
def test_a_log_without_a_request_is_inconclusive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, name: str
) -> None:
    """What a log holds says how it is packed; its name does not."""
    (tmp_path / name).write_bytes(content)
    code, said = command(capsys, tmp_path, "analyse", name, "--json")
    assert code == 3, said
    assert "inconclusive" in said


NOTEBOOKS = {
    "missing": (None, "cannot be read: No such file"),
    "empty": (b"", "is not JSON"),
    "cut": (b'{"cells": [', "is not JSON"),
    "bytes": (b"\xff\xfe\x00", "is not JSON"),
    "other": (b'{"a": 1}', "is no notebook of format 4"),
    "old": (b'{"nbformat": 3, "worksheets": []}', "is no notebook of format 4"),
    "cells": (b'{"nbformat": 4, "cells": [1]}', "has a cell that is none"),
    "kernel": (b'{"nbformat": 4, "cells": [], "metadata": {}}', "names no kernel"),
    "tag": (b'{"nbformat": 4, "cells": [], "metadata": {"kernelspec": {"name": "python3"}}}', "has no cell tagged"),
}


@pytest.mark.parametrize("how", NOTEBOOKS)
def test_a_broken_notebook_is_found_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    for name in ("notebooks", "parameters"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    content, says = NOTEBOOKS[how]
    broken = tmp_path / "notebooks/05_smoke.ipynb"
    broken.unlink() if content is None else broken.write_bytes(content)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    code, said = command(capsys, tmp_path, "run", "hk")
    assert code == 2, said
    assert "notebooks: 1 mistake, nothing was touched" in said
    assert f"notebooks/05_smoke.ipynb {says}" in said
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def scribbled(whole: bytes) -> st.SearchStrategy[bytes]:
    """Cut anywhere, with up to three bytes written over."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> bytes:
        content = bytearray(whole)
        for _ in range(draw(st.integers(0, 3))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
        return bytes(content[: draw(st.integers(0, len(content)))])

    return draw_one()


PLAN = reading.load("hk")
PLIST = render_plist(PLAN, PLAN.canary, ["/opt/openclaw.mjs"], {"OPENCLAW_STATE_DIR": PLAN.canary.state_dir})


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(content=scribbled(PLIST))
def test_a_broken_plist_is_a_finding_and_no_crash(content: bytes) -> None:
    found = lint_plist(content, PLAN.canary)
    assert all(isinstance(finding, str) and finding for finding in found)
    if len(content) < len(PLIST) - 1:
        assert found, "half a plist is not as planned"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(content=scribbled(SAMPLE * 20))
def test_broken_samples_are_missing_samples(content: bytes) -> None:
    samples = parse_samples(content)
    assert len(samples) <= 20
    assert set(samples["gateway"]) <= {"primary", "canary"}
    assert samples["at"].notna().all()
    assert len(SAMPLE_FIELDS) == len(SAMPLE.split(b"\t"))
