"""The counts of a log as small pandas frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from runbook_lib.accesslog.counting import TOTALS
from runbook_lib.accesslog.names import GATEWAYS
from runbook_lib.accesslog.tally import Tally
from runbook_lib.statistics import interval, quantile

if TYPE_CHECKING:
    from runbook_lib.accesslog.counts import LogCounts

SHOWN = ("primary", "canary")
FILLED_COUNT = 10_000


def totals(counts: LogCounts, *, windows: bool = True, confidence: float = 0.99) -> pd.DataFrame:
    """One row a window and gateway, or a gateway if not `windows`; windows without a line are there too.

    window_at            datetime64[UTC]   start of the window (missing if not `windows`)
    gateway              str               primary and canary; other and none where they were seen
    requests_count ...   int64             one column for each of counting.TOTALS
    share_ratio          float64           of all requests meant for primary or canary, the part of this one
    error_ratio          float64           attempts_5xx / attempts, NaN for none
    error_low_ratio, error_high_ratio      its exact interval at `confidence` (Clopper and Pearson)
    in_flight_count      int64             most requests open at once, of those logged by now
    """
    rows = [
        (int(tick) * counts.tick_s, gateway, what, int(count))
        for (_, gateway, what), ticks, found in counts.ticks.items()
        for tick, count in zip(ticks, found, strict=True)
    ]
    long = pd.DataFrame(rows, columns=["at_s", "gateway", "what", "count"])
    long["window_s"] = long["at_s"] // counts.window_s * counts.window_s if windows else 0
    wide = long.pivot_table(index=["window_s", "gateway"], columns="what", values="count", aggfunc="sum", fill_value=0)
    index = _index(long, counts.window_s, windows)
    wide = wide.reindex(index, fill_value=0).reindex(columns=list(TOTALS), fill_value=0)
    wide = wide.astype(np.int64).rename(columns=lambda what: f"{what}_count").rename_axis(columns=None)
    meant = wide["requests_count"][wide.index.get_level_values("gateway").isin(SHOWN)]
    wide["share_ratio"] = meant / meant.groupby("window_s").transform("sum").replace(0, np.nan)
    wide["error_ratio"] = wide["attempts_5xx_count"] / wide["attempts_count"].replace(0, np.nan)
    low, high = interval(wide["attempts_5xx_count"], wide["attempts_count"], confidence)
    wide["error_low_ratio"], wide["error_high_ratio"] = low, high
    wide["in_flight_count"] = _in_flight(long, index, counts.window_s if windows else 2**40)
    return _with_time(wide.reset_index(), windows)


def _index(long: pd.DataFrame, window_s: int, windows: bool) -> pd.MultiIndex:
    """Every window from the first to the last, unless a clock that jumped makes that too many."""
    ended = long.loc[long["what"] == "requests", "window_s"]
    starts = sorted(set(ended))
    if windows and starts and (starts[-1] - starts[0]) // window_s < FILLED_COUNT:
        starts = list(range(starts[0], starts[-1] + 1, window_s))
    gateways = [g for g in GATEWAYS if g in SHOWN or g in set(long["gateway"])]
    return pd.MultiIndex.from_product([starts, gateways], names=["window_s", "gateway"])


def _in_flight(long: pd.DataFrame, windows: pd.MultiIndex, window_s: int) -> list[int]:
    """The most that were open in each window, at its start or at the end of a tick: started minus ended."""
    found: list[int] = []
    steps = long.assign(
        step=long["count"] * long["what"].map({"started": 1, "requests": -1}).fillna(0).astype(np.int64)
    )
    by_gateway = {name: part.groupby("at_s")["step"].sum().cumsum() for name, part in steps.groupby("gateway")}
    for start_s, gateway in windows:
        if gateway not in by_gateway:
            found.append(0)
            continue
        times, open_count = by_gateway[gateway].index.to_numpy(), by_gateway[gateway].to_numpy()
        first, end = np.searchsorted(times, [start_s, start_s + window_s])
        found.append(int(max(open_count[max(first - 1, 0) : end].max(initial=0), 0)))
    return found


def quantiles(counts: LogCounts, *, windows: bool = True) -> pd.DataFrame:
    """One row a window, gateway and metric, or a gateway and metric if not `windows`.

    A metric is connect, header, response, waited, request or long_lived.

    window_at, gateway, metric, requests_count (int64: how many times were measured), p50_ms, p95_ms,
    p99_ms (int64). Nearest rank: the smallest millisecond with that share of all at or under it.
    """
    together = Tally()
    for (window, _, gateway, metric), values, found in counts.times.items():
        together.add((window if windows else 0, gateway, metric), values, found)
    rows = [
        (*group, int(found.sum()), *(quantile(values, found, q) for q in (0.50, 0.95, 0.99)))
        for group, values, found in together.items()
    ]
    columns = ["window_s", "gateway", "metric", "requests_count", "p50_ms", "p95_ms", "p99_ms"]
    return _with_time(pd.DataFrame(rows, columns=columns), windows)


def _with_time(frame: pd.DataFrame, windows: bool) -> pd.DataFrame:
    if windows:
        frame.insert(0, "window_at", pd.to_datetime(frame["window_s"].astype("int64"), unit="s", utc=True))
    return frame.drop(columns="window_s")
