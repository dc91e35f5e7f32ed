"""The live table of a rollout: redrawn in place on a terminal, one line a change where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pandas as pd
from rich.console import Console
from rich.live import Live

from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.regions.status import status
from runbook_lib.show.console import table_of

Say = Callable[[str], None]
TOLD = (Kind.VERDICT, Kind.GATE_WAITING, Kind.WEIGHT, Kind.DRAINED, Kind.NOT_NOTIFIED, Kind.RUN_CLOSED)


class LiveTable:
    """Shows what the ledgers say of these waves. Use as a context manager; call `show` as often as you like."""

    def __init__(self, waves: list[list[str]], say: Say) -> None:
        self._waves, self._say = waves, say
        self._regions = [region for wave in waves for region in wave]
        self._told = {region: _events(region) for region in self._regions}
        self._stamps: dict[str, object] = {}
        self._live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, wave: int) -> None:
        """What has changed; `wave` is the number of the one that runs."""
        stamps = {region: _stamp(region) for region in self._regions} | {"wave": wave}
        if stamps == self._stamps:
            return
        self._stamps = stamps
        if self._live:
            self._live.update(table_of(self.table(wave)), refresh=True)
            return
        for region in self._waves[wave - 1]:
            events = _events(region)
            for key in [key for key in events if key not in self._told[region]]:
                self._say(_line(region, events[key]))
            self._told[region] = events

    def table(self, wave: int) -> pd.DataFrame:
        """status in few and short columns, with the wave; later waves wait. lease: the time of day in UTC."""
        table = status(self._regions)
        numbers = [number for number, regions in enumerate(self._waves, start=1) for _ in regions]
        waiting = [f"wave {wave} first" if number > wave else "" for number in numbers]
        return pd.DataFrame(
            {
                "wave": numbers,
                "region": table["region"],
                "step": table["step"],
                "verdict": [w or v for w, v in zip(waiting, table["verdict"], strict=True)],
                "weight": (table["weight_pct"].map("{:g} %".format)).mask(table["drained"], "drained"),
                "observed": table["observed_h"].map("{:.1f} h".format).mask(table["observed_h"].isna(), ""),
                "left": table["left_h"].map("{:.1f} h".format).mask(table["left_h"].isna(), ""),
                "lease": table["lease"].str[-5:],
            }
        )


def _events(region: str) -> dict[tuple[str, int], Event[Any]]:
    """(run, seq) -> what a line tells, in the order in which it happened."""
    run = Run.current(region)
    return {} if run is None else {(run.name, event["seq"]): event for event in run.ledger().events(*TOLD)}


def _stamp(region: str) -> object:
    """Another one when the region's ledger has grown, or is another."""
    run = Run.current(region)
    return run and (run.name, run.ledger().path.stat().st_size)


def _line(region: str, event: Event[Any]) -> str:
    word, said = event["event"].replace("_", " "), event["what"]
    if event["event"] == Kind.VERDICT:
        detail = event["detail"]
        word, said = detail["answer"], "; ".join(detail["reasons"]) or f"{len(detail['checks'])} checks passed"
        said = f"{detail['action']}: {said}" if detail.get("action") else said
    elif "reason" in event["detail"]:
        said = event["detail"]["reason"]
    return f"{event['at'][11:19]}  {region:<6} {event['step']:<22}  {word:<12}  {said}".rstrip()
