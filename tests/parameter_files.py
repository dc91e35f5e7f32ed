"""A sound parameters file, and a project of a test's own to write broken ones into."""

from __future__ import annotations

from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
VALID = (PROJECT / "parameters/hk.yaml").read_text(encoding="utf-8")
LITERAL = "sk-ant-api03-0123456789abcdefABCDEF"  # looks like a key, and is none


def make_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("parameters", "notebooks"):
        (folder / name).mkdir()
    monkeypatch.chdir(folder)
    return folder / "parameters"
