"""The canary's weight over time, as the ledger has it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from runbook_lib.records.ledger import Event


def weights(events: Iterable[Event]) -> pd.DataFrame:
    """at (aware UTC), weight_pct: a row for each change, 0 while drained; the last one held until the last event."""
    rows: list[tuple[str, float]] = []
    weight_pct, is_drained, last_at = 0.0, False, ""
    for event in events:
        last_at = event["at"]
        if event["event"] == "weight":
            weight_pct = float(event["detail"]["weight_pct"])
        elif event["event"] in ("drained", "undrained"):
            is_drained = event["event"] == "drained"
        else:
            continue
        rows.append((event["at"], 0.0 if is_drained else weight_pct))
    if rows:
        rows.append((last_at, rows[-1][1]))
    frame = pd.DataFrame(rows, columns=["at", "weight_pct"])
    return frame.assign(at=pd.to_datetime(frame["at"], utc=True, format="ISO8601"))
