"""Windows of an observation in which samples or log lines are missing: what nobody saw is not healthy."""

from __future__ import annotations

import numpy as np
import pandas as pd

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.verdict import Answer, Check, Hop

EPOCH = pd.Timestamp(0, tz="UTC")
FEWEST_SAMPLES_RATIO = 0.25
"""Of the samples that a window should have. The sentinel pauses between samples, so it never reaches all of them."""
BUSY_COUNT = 10
"""Where a window usually has this many requests, one without any is a gap: by chance it is one in 22,000 (e^-10)."""


def find_gaps(
    samples: pd.DataFrame, counts: LogCounts, since: pd.Timestamp, until: pd.Timestamp, every_s: float
) -> pd.DataFrame:
    """One row a whole window between `since` and `until`: what was recorded in it, and whether that is too little.

    window_at          datetime64[UTC]   start of the window
    samples_count      int64             of the gateway that has fewer
    requests_count     int64             in the log, of both gateways
    no_samples         bool              under FEWEST_SAMPLES_RATIO of what should be there
    no_lines           bool              none, where the median window has BUSY_COUNT or more
    """
    window_s = counts.window_s
    first, end = int(np.ceil(since.timestamp() / window_s)), int(until.timestamp() // window_s)
    numbers = np.arange(first, max(first, end))
    placed = samples.assign(number=(samples["at"] - EPOCH) // pd.Timedelta(seconds=window_s))
    sampled = [
        placed.loc[placed["gateway"] == name, "number"].value_counts().reindex(numbers, fill_value=0)
        for name in ("primary", "canary")
    ]
    ticks, found = counts.series(["primary", "canary"], "requests")
    logged = pd.Series(found).groupby(ticks * counts.tick_s // window_s).sum().reindex(numbers, fill_value=0)
    fewer = np.minimum(*(part.to_numpy() for part in sampled))
    busy = len(logged) > 0 and float(logged.median()) >= BUSY_COUNT
    return pd.DataFrame(
        {
            "window_at": pd.to_datetime(numbers * window_s, unit="s", utc=True),
            "samples_count": fewer,
            "requests_count": logged.to_numpy(np.int64),
            "no_samples": fewer < FEWEST_SAMPLES_RATIO * window_s / every_s,
            "no_lines": (logged.to_numpy() == 0) & busy,
        }
    )


def judge_gaps(gaps: pd.DataFrame, thresholds: Thresholds, *, has_traffic: bool = True) -> Check:
    """Too many windows with something missing are inconclusive; a standby has no traffic that could be missing."""
    lost = gaps["no_samples"] | (gaps["no_lines"] & has_traffic)
    n, count, allowed = len(gaps), int(lost.sum()), thresholds.missing_windows_pct
    if not n:
        reason = f"gaps: no whole window yet, over {allowed:g} % missing would be too many, n=0"
        return Check("gaps", Answer.INCONCLUSIVE, reason, Hop.RUNBOOK, None, allowed, "%", 0, "wait for a whole window")
    over = round(100 * count - allowed * n, 9) > 0
    unseen, unwritten = int(gaps["no_samples"].sum()), int(gaps["no_lines"].sum())
    reason = f"gaps: {count} of {n} windows lack samples ({unseen}) or log lines ({unwritten}), "
    reason += f"{100 * count / n:.3g} %, {'over' if over else 'not over'} {allowed:g} %"
    if count:
        reason += f"; the first at {gaps['window_at'][lost].iloc[0]:%d %b %H:%M:%S} UTC"
    remedy = "look whether the sentinel ran and nginx wrote its log then, and observe anew" if over else ""
    answer = Answer.INCONCLUSIVE if over else Answer.PASS
    return Check("gaps", answer, reason, Hop.RUNBOOK, 100 * count / n, allowed, "%", n, remedy)
