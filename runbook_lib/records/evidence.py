"""The run folder: one region's rollout with its ledger, its executed notebooks and what they judged.

outputs/<region>/<run>/
    ledger.jsonl                 every event, in order
    NN_verb_noun.ipynb, .html    the executed notebooks
    evidence/<step>/…            tables and texts a verdict was made from
    evidence/log/…               slices of the access log and samples, as fetched
outputs/<region>/current         the name of the run that is open
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from runbook_lib.errors import EvidenceError
from runbook_lib.plan.models import Plan
from runbook_lib.plan.reading import project_root
from runbook_lib.records import tables
from runbook_lib.records.kinds import Closing, Kind
from runbook_lib.records.ledger import Ledger


@dataclass(frozen=True)
class Run:
    """One rollout of one region."""

    region: str
    directory: Path
    redact: Callable[[str], str] = field(default=str, compare=False, repr=False)
    """What every text passes through before it is kept: an open step's run knows its secrets."""

    @classmethod
    def start(cls, region: str) -> Run:
        """Open a new run and make it the region's current one."""
        moment = datetime.now(UTC)
        while (directory := _region_dir(region) / moment.strftime("%Y%m%dT%H%M%SZ")).exists():
            moment += timedelta(seconds=1)  # two runs in one second
        directory.mkdir(parents=True, exist_ok=False)
        run, name = cls(region, directory), directory.name
        write_whole(_region_dir(region) / "current", name)
        run.ledger().append(Kind.RUN_OPENED, f"rollout of {region}", run=name)
        return run

    @classmethod
    def dry_run(cls, region: str) -> Run:
        """The folder of a dry run, which never becomes the current run."""
        run = cls(region, _region_dir(region) / "dry-run")
        run.directory.mkdir(exist_ok=True)
        return run

    @classmethod
    def current(cls, region: str) -> Run | None:
        """The region's open run; None where there is none."""
        pointer = _region_dir(region) / "current"
        if not pointer.exists():
            return None
        name = pointer.read_text(encoding="utf-8").strip()
        directory = _region_dir(region) / (name or "nothing")
        if name not in {path.name for path in _region_dir(region).iterdir() if path.is_dir()}:
            raise EvidenceError(
                f"{pointer} names {directory.name}, which is not there; restore it or delete {pointer.name}"
            )
        return cls(region, directory)

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def is_dry_run(self) -> bool:
        return self.name == "dry-run"

    @property
    def is_closed(self) -> bool:
        return self.ledger().last(Kind.RUN_CLOSED) is not None

    def ledger(self, step: str = "") -> Ledger:
        return Ledger(self.directory / "ledger.jsonl", step)

    def answer(self, step: str) -> str:
        """The last verdict of a step; empty where it has none, or was opened again since."""
        last = self.ledger().last(Kind.STEP_OPENED, Kind.VERDICT, step=step)
        return str(last["detail"]["answer"]) if last and last["event"] == Kind.VERDICT else ""

    def close(self, outcome: str) -> None:
        """End the run. Raises ValueError for an outcome that is no Closing."""
        self.ledger().append(Kind.RUN_CLOSED, outcome, outcome=Closing(outcome))

    def keep_table(self, step: str, name: str, frame: pd.DataFrame) -> Path:
        """Keep a table a verdict was made from, with its types."""
        return self.keep_text(step, f"{name}{tables.SUFFIX}", tables.to_text(frame))

    def keep_facts(self, step: str, name: str, facts: Any) -> Path:
        return self.keep_text(step, f"{name}.json", json.dumps(facts, indent=1, default=str, sort_keys=True))

    def keep_text(self, step: str, name: str, text: str) -> Path:
        path = self.directory / "evidence" / step / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.redact(text))
        return path

    def kept_plan(self) -> Plan | None:
        """The plan that the newest step kept and that is sound; None where there is none."""
        kept = self.directory.glob("evidence/*/plan.json")
        for path in sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True):
            with suppress(ValidationError, OSError):
                return Plan.model_validate_json(path.read_bytes())
        return None

    def fetched(self) -> dict[str, int]:
        """How many slices of the log and of the samples are here: with it a verdict names what it was made from."""
        return {kind: len(self.slices(kind)) for kind in ("log", "samples")}

    def slices(self, kind: str) -> list[Path]:
        return sorted((self.directory / "evidence" / kind).glob("*.tsv.gz"))

    def facts(self, step: str, name: str) -> Any:
        """What keep_facts kept. Raises EvidenceError where that step kept nothing of that name."""
        path = self.directory / "evidence" / step / f"{name}.json"
        if not path.exists():
            raise EvidenceError(f"{self.region} {self.name}: step {step} kept no {name}; run it first")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise EvidenceError(f"{path} is not JSON; it was edited or damaged, run step {step} again") from None


def runs(region: str) -> list[Run]:
    """All runs of a region, oldest first."""
    return [Run(region, d) for d in sorted(_region_dir(region).glob("*Z")) if d.is_dir()]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that no reader ever sees half of it."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _region_dir(region: str) -> Path:
    path = project_root() / "outputs" / region
    path.mkdir(parents=True, exist_ok=True)
    return path
