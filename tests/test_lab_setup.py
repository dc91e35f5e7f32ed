"""setup.sh and everything that runs on the Mac is clean POSIX sh, and setup is silent when nothing is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import timeit
from pathlib import Path

PROJECT = Path(__file__).parents[1]
LAB = PROJECT / "runbook_lib/lab"


def test_shell_is_clean() -> None:
    scripts = [LAB / "setup.sh", *sorted((LAB / "templates").glob("*.sh"))]
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, "--shell=sh", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_setup_is_silent_and_quick_when_all_is_there(tmp_path: Path) -> None:
    """In a copy of the project whose environment is this one, stamped as setup stamps it."""
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / "runbook_lib/lab").mkdir(parents=True)
    shutil.copy(LAB / "setup.sh", tmp_path / "runbook_lib/lab")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    stamp = "cat requirements.lock pyproject.toml runbook_lib/lab/setup.sh | cksum >.venv/ready"
    subprocess.run(["/bin/sh", "-c", stamp], cwd=tmp_path, check=True)
    said = []

    def setup() -> None:
        said.append(subprocess.run(["/bin/sh", "lab/setup.sh"], cwd=tmp_path / "runbook_lib", capture_output=True))

    assert min(timeit.repeat(setup, number=1, repeat=3)) < 0.5
    assert {(done.returncode, done.stdout, done.stderr) for done in said} == {(0, b"", b"")}
