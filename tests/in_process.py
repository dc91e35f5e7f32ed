"""The console script in this process, for what ends before any Mac is asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runbook_lib import cli


def command(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str]:
    """Run `rollout` with these words in a folder: its exit code and all that it wrote."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["rollout", *words])
        cli.main()
    return int(ended.value.code or 0), "".join(capsys.readouterr())
