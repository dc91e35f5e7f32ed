"""The canary's weight over time and its drains, as the ledger has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from runbook_lib.records.events import Event
from runbook_lib.records.kinds import Act, Kind


def drains(events: Iterable[Event[Any]]) -> list[Event[Any]]:
    """Every drain that was asked for: it voids what was said of the slice, whether it could be proven or not."""
    return [e for e in events if e["event"] is Kind.DRAINED or _is(e, Kind.INTENT, Act.DRAIN)]


def is_drained(events: Iterable[Event[Any]]) -> bool:
    """Whether the canary was drained, with proof, and has not had its share back since.

    A raise sets the weight first and ends the drain after it: a weight alone gives nothing back. At weight 0 there is
    nothing left to be drained.
    """
    drained, weight_pct = False, 0.0
    for event in events:
        if event["event"] is Kind.DRAINED or _is(event, Kind.VERIFIED, Act.DRAIN):
            drained, weight_pct = True, 1.0
        elif event["event"] is Kind.UNDRAINED:
            drained = False
        elif event["event"] is Kind.WEIGHT:
            weight_pct = event["detail"]["weight_pct"]
    return drained and weight_pct > 0


def _is(event: Event[Any], kind: Kind, act: Act) -> bool:
    return event["event"] is kind and event["detail"].get("act") == act


def weights(events: Iterable[Event[Any]]) -> pd.DataFrame:
    """at (aware UTC), weight_pct: a row for each change, 0 while drained; the last one held until the last event."""
    rows: list[tuple[str, float]] = []
    weight_pct, is_drained, last_at = 0.0, False, ""
    for event in events:
        last_at = event["at"]
        if event["event"] == Kind.WEIGHT:
            weight_pct = float(event["detail"]["weight_pct"])
        elif event["event"] in (Kind.DRAINED, Kind.UNDRAINED):
            is_drained = event["event"] == Kind.DRAINED
        else:
            continue
        rows.append((event["at"], 0.0 if is_drained else weight_pct))
    if rows:
        rows.append((last_at, rows[-1][1]))
    frame = pd.DataFrame(rows, columns=["at", "weight_pct"])
    return frame.assign(at=pd.to_datetime(frame["at"], utc=True, format="ISO8601"))
