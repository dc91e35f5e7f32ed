"""What a run took, in numbers: from its ledger and from what the sentinel sampled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from runbook_lib.records.details import Verified
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.steps.collect import read_samples

COLUMNS = ["what", "value", "unit", "n"]


def of_run(run: Run) -> pd.DataFrame:
    """One row a number: what, value, unit (s or MB), n (how many it is the median of). Nothing for what never was."""
    found = [*_times(run.ledger().events()), *_memory(run)]
    frame = pd.DataFrame(found, columns=COLUMNS[:3])
    table = frame.groupby(["what", "unit"], sort=False)["value"].agg(["median", "size"]).reset_index()
    return table.rename(columns={"median": "value", "size": "n"}).astype({"value": float})[COLUMNS].round(1)


def _times(events: list[Event[Any]]) -> Iterator[tuple[str, float, str]]:
    opened: dict[str, pd.Timestamp] = {}
    for event in events:
        detail, at = event["detail"], pd.Timestamp(event["at"])
        if event["event"] == Kind.STEP_OPENED:
            opened[event["step"]] = at
        if event["event"] == Kind.VERIFIED:
            yield from _proven(detail)
        if event["event"] == Kind.STEP_CLOSED and event["step"] == "rollback":
            yield "the whole rollback", (at - opened["rollback"]).total_seconds(), "s"


def _proven(detail: Verified) -> Iterator[tuple[str, float, str]]:
    act, name = detail.get("act"), detail.get("job")
    if name is None:
        return
    if "ready_after_s" in detail:
        verb = "start" if act == Act.START else "kickstart"
        yield f"{name} from {verb} to ready", detail["ready_after_s"], "s"
    if "waited_s" in detail:
        yield f"{name} until nothing was in flight", detail["waited_s"], "s"
    if "took_s" in detail:
        yield f"{name} from stop to gone", detail["took_s"], "s"


def _memory(run: Run) -> Iterator[tuple[str, float, str]]:
    slices = run.slices("samples")
    if slices:
        for name, part in read_samples(slices).groupby("gateway"):
            yield from ((f"memory of {name}", float(megabytes), "MB") for megabytes in part["rss_mb"].dropna())
