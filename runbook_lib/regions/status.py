"""Where each region stands, from its ledger alone: what the tables, the live board and the page agree on."""

from __future__ import annotations

import pandas as pd

from runbook_lib.mac.lease import held_until
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.weights import is_drained
from runbook_lib.show.page import summary
from runbook_lib.verdict import CheckName

COLUMNS = ["region", "run", "step", "verdict", "weight_pct", "drained", "observed_h", "left_h", "lease"]


def status(regions: list[str]) -> pd.DataFrame:
    """One row a region: region, run, step, verdict (as in page.StepRow.state), weight_pct, drained, observed_h, left_h,
    lease.

    The step is the last of the checklist that was begun or asked for. Hours are those of the last verdict on the
    observation, NaN before it. lease: when the sentinel drains unless somebody answers (UTC), empty where none is held.
    """
    return pd.DataFrame([_row(region, Run.current(region)) for region in regions], columns=COLUMNS)


def _row(region: str, run: Run | None) -> tuple[object, ...]:
    if run is None:
        return (region, "", "", "", 0.0, False, float("nan"), float("nan"), "")
    steps = summary(run.directory)
    done = steps[steps["verdict"] != "not run"]
    last = done.iloc[-1] if len(done) else {"step": "", "verdict": ""}
    weight, drained = run.ledger().last(Kind.WEIGHT), is_drained(run.ledger().events())
    pct = 0.0 if weight is None or drained else float(weight["detail"]["weight_pct"])
    until = held_until(run.ledger())
    lease = f"{until:%Y-%m-%d %H:%M}" if until else ""
    return (region, run.name, last["step"], last["verdict"], pct, drained, *_hours(run), lease)


def _hours(run: Run) -> tuple[float, float]:
    """Hours observed, and left to observe."""
    verdicts = run.ledger().events(Kind.VERDICT)
    checks = [check for event in verdicts for check in event["detail"]["checks"] if check["name"] == CheckName.OBSERVED]
    if not checks:
        return float("nan"), float("nan")
    seen_s, needed_s = float(checks[-1]["measured"]), float(checks[-1]["threshold"])
    return seen_s / 3600, max(0.0, needed_s - seen_s) / 3600
