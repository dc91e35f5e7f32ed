"""What a verdict was made from, read back from a run's folder: tables, facts, slices of the log, samples."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.errors import EvidenceError
from runbook_lib.plan.models import Plan
from runbook_lib.records import tables
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.steps.collect import read_samples, read_slice

FLAGS = {"ok", "same", "private", "loaded", "changing"}
WHOLE = {"status", "exit_status", "port"}


@dataclass
class Slices:
    """The fetched slices of one run, read once for all verdicts in their order."""

    run: Run
    _counts: LogCounts | None = None
    _read_count: int = 0
    _samples: dict[int, pd.DataFrame] = field(default_factory=dict)

    def counts(self, plan: Plan, fetched: int) -> LogCounts:
        """All counts as they were when `fetched` slices of the log were here."""
        if self._counts is None or fetched < self._read_count:
            self._counts, self._read_count = LogCounts(int(plan.observation.window_s)), 0
        for path in self._some("log", fetched)[self._read_count :]:
            self._counts.merge(read_slice(path, plan))
        self._read_count = fetched
        return self._counts

    def samples(self, fetched: int) -> pd.DataFrame:
        if fetched not in self._samples:
            self._samples = {fetched: read_samples(self._some("samples", fetched))}
        return self._samples[fetched]

    def _some(self, kind: str, fetched: int) -> list[Path]:
        found = self.run.slices(kind)
        if len(found) < fetched:
            raise EvidenceError(f"{fetched} slices of {kind} were judged, {len(found)} are here")
        return found[:fetched]


@dataclass(frozen=True)
class Kept:
    """One event with checks (a verdict, or a step of the promotion) and what was kept for it.

    `before` are the ledger's events until then; `folder` holds the step's tables and facts as they were.
    """

    event: Event[Any]
    before: list[Event[Any]]
    folder: Path
    slices: Slices

    @property
    def plan(self) -> Plan:
        return Plan.model_validate_json(self._text("plan.json"))

    def table(self, name: str) -> pd.DataFrame:
        """A kept table with its types. Raises EvidenceError where it was not kept, or is damaged."""
        if not (self.folder / f"{name}{tables.SUFFIX}").exists() and (self.folder / f"{name}.csv").exists():
            return self._table_without_types(name)
        return tables.from_text(self._text(f"{name}{tables.SUFFIX}"), name)

    def _table_without_types(self, name: str) -> pd.DataFrame:
        """A CSV, as older runs kept their tables: FLAGS as bool, WHOLE as Int64, _ms as float, all others as text."""
        frame = pd.read_csv(self.folder / f"{name}.csv", dtype=str, keep_default_na=False)
        typed: dict[str, Any] = {column: frame[column] == "True" for column in frame.columns if column in FLAGS}
        for column in frame.columns:
            if column in WHOLE:
                typed[column] = pd.Series([int(v) if v else pd.NA for v in frame[column]], dtype="Int64")
            elif column.endswith("_ms"):
                typed[column] = pd.Series([float(v) if v else float("nan") for v in frame[column]], dtype=float)
        return frame.assign(**typed)

    def has(self, name: str) -> bool:
        return any((self.folder / f"{name}{suffix}").exists() for suffix in (tables.SUFFIX, ".csv"))

    def facts(self, name: str) -> Any:
        return json.loads(self._text(f"{name}.json"))

    def counts(self) -> LogCounts:
        return self.slices.counts(self.plan, self._fetched("log"))

    def samples(self) -> pd.DataFrame:
        return self.slices.samples(self._fetched("samples"))

    def last(self, kind: Kind) -> Event[Any]:
        """The last event of a kind before this one. Raises EvidenceError where there is none."""
        found: Event[Any] | None = next((event for event in reversed(self.before) if event["event"] is kind), None)
        if found is None:
            raise EvidenceError(f"the ledger has no {kind} before it")
        return found

    def _fetched(self, kind: str) -> int:
        fetched = self.event["detail"].get("fetched")
        if not fetched:
            raise EvidenceError("the ledger does not say from how many slices")
        return int(fetched[kind])

    def _text(self, name: str) -> str:
        path = self.folder / name
        if not path.exists():
            raise EvidenceError(f"{name} was not kept")
        return path.read_text(encoding="utf-8")
