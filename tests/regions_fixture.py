"""Five practice regions in one project folder; `rollout` runs in it as a user types it.

Used as lab_fixture is: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.lab import faults
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.ledger import Ledger

PROJECT = Path(__file__).parents[1]
NAMES = ("lab-hk", "lab-jp", "lab-kr", "lab-sg", "lab-us")
LIMIT_S = 500


class Regions:
    """A project folder with a practice Mac for each region; `rollout` runs in it as a user types it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(PROJECT / "notebooks", root / "notebooks")
        (root / "parameters").mkdir()
        text = (PROJECT / "parameters/lab.yaml").read_text(encoding="utf-8")
        for name in NAMES:
            own = text.replace("region: lab", f"region: {name}").replace(".lab/", f".{name}/")
            (root / f"parameters/{name}.yaml").write_text(own)
        self.macs = {name: PracticeMac(root / f".{name}", say=lambda _: None) for name in NAMES}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).parent / "rollout"), *words]
        return subprocess.Popen(command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def rollout(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        output, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, output

    def table(self) -> dict[str, dict[str, Any]]:
        code, output = self.rollout("status", "--json")
        assert code == 0, output
        return {row["region"]: row for row in json.loads(output)}

    def run_of(self, name: str) -> Run | None:
        pointer = self.root / "outputs" / name / "current"
        return Run(name, pointer.parent / pointer.read_text()) if pointer.exists() else None

    def ledger(self, name: str) -> Ledger:
        run = self.run_of(name)
        assert run is not None
        return run.ledger()

    def agree(self, name: str) -> tuple[str, str]:
        """The last verdict of a region's ledger, after the table and the page have said the same."""
        last = self.ledger(name).last(Kind.VERDICT)
        assert last is not None
        step, answer = last["step"], last["detail"]["answer"]
        row = self.table()[name]
        assert (row["step"], row["verdict"]) == (step, answer)
        run = self.run_of(name)
        assert run is not None
        page = (run.directory / "index.html").read_text(encoding="utf-8")
        title = re.sub(r"^0(\d)_", r"\1 ", step).replace("_", " ")
        rows = [re.sub(r"<[^>]+>", " ", text) for text in re.findall(r"<tr.*?</tr>", page, re.DOTALL)]
        (own,) = [text for text in rows if title.casefold() in " ".join(text.split()).casefold()]
        assert answer in own.casefold().split()
        return step, answer

    def files(self, name: str) -> dict[str, int]:
        """What lies on a region's Mac, but for what its own services write all the time."""
        folders = (self.macs[name].layout.home, self.macs[name].layout.nginx_etc)
        found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return {str(path): path.stat().st_mtime_ns for path in found if "/Logs/" not in str(path)}


@pytest.fixture(scope="module")
def regions() -> Iterator[Regions]:
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder:
        regions = Regions(Path(folder).resolve())
        try:
            with ThreadPoolExecutor(2) as two:
                list(two.map(PracticeMac.up, regions.macs.values()))
            yield regions
        finally:
            for mac in regions.macs.values():
                faults.clear(mac)
                mac.down(keep_cache=False)
