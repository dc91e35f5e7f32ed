"""What all tests share: no display, the project's own tools, and the rule that a skipped test is a failed one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
os.environ["MPLBACKEND"] = "Agg"  # also in the kernels and commands that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell began this in the background


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of this environment's commands: papermill, shellcheck, rollout."""
    return Path(sys.executable).parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    """A test that cannot run here must say so as a failure: a skip is green and proves nothing."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report
