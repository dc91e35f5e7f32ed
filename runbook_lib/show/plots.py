"""Drawing on axes: frames in, axes out. Lines differ by style and marker, never by colour alone.

Nothing here touches pyplot: a figure belongs to who asked for it, and a kept kernel collects none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runbook_lib.plan.thresholds import Thresholds

WIDTH_IN = 5.2
POINTS_SHOWN = 160
GAP_FACTOR = 2.5
LOOKS: dict[str, dict[str, Any]] = {
    "primary": {"color": "#3b3b3b", "linestyle": "-", "linewidth": 1.3, "marker": "o"},
    "canary": {"color": "#d1600a", "linestyle": "--", "linewidth": 1.7, "marker": "^"},
}
LIMIT: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1.4}
PANELS = [
    ("rss_mb", "Memory (RSS)", "MB", "mean"),
    ("cpu_pct", "CPU", "%", "mean"),
    ("in_flight_count", "Requests in flight", "count", "max"),
    ("failed_connects_count", "Failed upstream connects", "count", "sum"),
]


def plot_samples(samples: pd.DataFrame, thresholds: Thresholds) -> Figure:
    """Four panels, one line per gateway: RSS, CPU, in flight, failed upstream connects.

    `samples`: at (aware UTC), gateway, rss_mb, cpu_pct, in_flight_count, failed_connects_count (new ones
    since the sample before). Where no sample was taken, and where a value is NaN, the line is broken. Long
    observations are drawn in at most POINTS_SHOWN steps: the mean of RSS and CPU, the largest number in
    flight, the sum of failed connects.
    """
    figure = Figure(figsize=(WIDTH_IN, 8.4), layout="constrained")
    axes = figure.subplots(len(PANELS), 1, sharex=True)
    for ax, (column, title, unit, how) in zip(axes, PANELS, strict=True):
        for gateway, line in _lines(samples, column, how):
            _line(ax, line, gateway)
            if (column, gateway) == ("rss_mb", "primary"):
                _rss_limits(ax, line, thresholds.rss_gap_pct)
        ax.set_title(title, loc="left", fontweight="bold")
        ax.set_ylabel(unit)
        if unit == "count":
            ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _grid(ax)
    for ax in axes[1:]:
        ax.set_ylim(bottom=0)
    _legend(axes[0], columns=3)
    _time_axis(axes[-1])
    return figure


def plot_quantiles(before_after: pd.DataFrame, thresholds: Thresholds, ax: Axes | None = None) -> Axes:
    """p95 before and after a reload, two bars a gateway, with the line it may not pass.

    `before_after`: gateway, before_ms, after_ms. The article: a jump right after a reload means starved workers. As
    for the judge, a rise of smallest_rise_ms is none.
    """
    ax, rise_pct = ax or _axes(2.9), thresholds.reload_p95_rise_pct
    bars = before_after[["before_ms", "after_ms"]].to_numpy(float)
    for place, (before_ms, after_ms) in enumerate(bars):
        limit_ms = max(before_ms * (1 + rise_pct / 100), before_ms + thresholds.smallest_rise_ms)
        first = "_" if place else ""
        ax.bar(place - 0.2, before_ms, 0.36, color="white", edgecolor="black", label=f"{first}before")
        ax.bar(place + 0.2, after_ms, 0.36, color="#9aa0a6", edgecolor="black", hatch="//", label=f"{first}after")
        ax.hlines(
            limit_ms,
            place - 0.42,
            place + 0.42,
            label=f"{first}limit +{rise_pct:g} % or {thresholds.smallest_rise_ms} ms",
            **LIMIT,
        )
        rise = f"{100 * (after_ms / before_ms - 1):+.0f} %" if before_ms > 0 else "no rate"
        ax.annotate(f"{before_ms:.0f}", (place - 0.2, before_ms), **_above())
        ax.annotate(f"{after_ms:.0f} ({rise})", (place + 0.2, after_ms), **_above(), fontweight="bold")
    ax.set_xticks(range(len(before_after)), before_after["gateway"])
    ax.set_title("Response time p95 around the reload", loc="left", fontweight="bold")
    ax.set_ylabel("ms")
    ax.margins(y=0.18)
    _grid(ax)
    _legend(ax, columns=3)
    return ax


def plot_share(asked_pct: float, arrived_pct: float, low_pct: float, high_pct: float, ax: Axes | None = None) -> Axes:
    """The canary's share that arrived, against the share asked for and the bounds chance allows around it."""
    ax = ax or _axes(1.7)
    ax.barh(0, high_pct - low_pct, left=low_pct, height=0.5, color="#dadce0", edgecolor="black", hatch="..")
    ax.axvline(asked_pct, **LIMIT)
    ax.plot(arrived_pct, 0, marker="D", markersize=10, color="black", linestyle="none")
    inside = "inside" if low_pct <= arrived_pct <= high_pct else "OUTSIDE"
    ax.set_title(f"Arrived {arrived_pct:.2f} %, asked {asked_pct:g} %", loc="left", fontweight="bold")
    ax.set_xlabel(f"◆ is {inside} what chance allows: {low_pct:.2f} to {high_pct:.2f} %")
    ax.set_yticks([])
    ax.set_ylim(-0.6, 0.6)
    seen = (low_pct, high_pct, arrived_pct, asked_pct)
    ax.set_xlim(min(seen) - (room := 0.12 * (max(seen) - min(seen)) or 1), max(seen) + room)
    return ax


def plot_weights(weights: pd.DataFrame, ax: Axes | None = None, slice_pct: float | None = None) -> Axes:
    """The canary's weight over time, as steps. `weights`: at (aware UTC), weight_pct.

    With `slice_pct` the first slice is drawn as a line.
    """
    ax = ax or _axes(2.4)
    at = _naive(weights["at"])
    ax.step(at, weights["weight_pct"], where="post", color="black", linewidth=2)
    ax.plot(at, weights["weight_pct"], "o", color="black", markersize=4)
    for when, weight_pct in _worth_a_label(at, weights["weight_pct"].to_numpy(float)):
        ax.annotate(f"{weight_pct:g}", (when, weight_pct), **_above() | {"xytext": (5, 3), "ha": "left"})
    ax.set_title("Canary weight", loc="left", fontweight="bold")
    if slice_pct is not None:
        ax.axhline(slice_pct, label=f"first slice {slice_pct:g} %", **LIMIT)
        _legend(ax, columns=1)
    ax.set_ylabel("% of requests")
    ax.set_ylim(bottom=0)
    ax.margins(y=0.2)
    _grid(ax)
    _time_axis(ax)
    return ax


def plot_error_ratio(windows: pd.DataFrame, thresholds: Thresholds, ax: Axes | None = None) -> Axes:
    """5xx ratio per window and gateway with its interval, and the threshold.

    `windows`: at (aware UTC, start of the window), gateway, error_pct, low_pct and high_pct at confidence_pct. A
    window without requests has NaN and shows nothing.
    """
    ax = ax or _axes(3.0)
    starts = windows["at"].drop_duplicates().sort_values()
    aside = starts.diff().min() * 0.12 if len(starts) > 1 else pd.Timedelta(0)
    for place, (gateway, rows) in enumerate(_gateways(windows)):
        look = {key: value for key, value in LOOKS[gateway].items() if key in ("color", "marker")}
        middle, low, high = (rows[name].to_numpy(float) for name in ("error_pct", "low_pct", "high_pct"))
        bars = np.array([np.clip(middle - low, 0, None), np.clip(high - middle, 0, None)])
        at = _naive(rows["at"] + aside * (2 * place - 1))
        filled = look["color"] if place else "white"
        ax.errorbar(at, middle, bars, fmt="none", ecolor=look["color"], elinewidth=1.2, capsize=3, zorder=2)
        ax.plot(at, middle, linestyle="none", label=gateway, markersize=6, markerfacecolor=filled, **look)
    ax.axhline(thresholds.error_ratio_pct, label=f"limit {thresholds.error_ratio_pct:g} %", **LIMIT)
    ax.set_title(f"5xx per window, with its {thresholds.confidence_pct:g} % interval", loc="left", fontweight="bold")
    ax.set_ylabel("% of attempts")
    ax.set_ylim(bottom=0)
    _grid(ax)
    _legend(ax, columns=3)
    _time_axis(ax)
    return ax


def _gateways(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each known gateway's rows in time, primary first."""
    for gateway in LOOKS:
        rows = frame[frame["gateway"] == gateway].sort_values("at")
        if not rows.empty:
            yield gateway, rows


def _lines(samples: pd.DataFrame, column: str, how: str) -> Iterator[tuple[str, pd.Series[float]]]:
    """One series per gateway, on time, thinned where it is long and NaN where nothing was sampled."""
    for gateway, rows in _gateways(samples):
        line = rows.set_index("at")[column].astype(float)
        every = line.index.to_series().diff().median()
        if len(line) > POINTS_SHOWN:
            step = max((line.index[-1] - line.index[0]) / POINTS_SHOWN, every)
            bins = line.resample(step.ceil("s"))
            line = bins.sum(min_count=1) if how == "sum" else bins.agg(how)
        elif len(line) > 2:
            after_gap = line.index.to_series().diff() > GAP_FACTOR * every
            breaks = line.index[after_gap.to_numpy()] - every
            line = pd.concat([line, pd.Series(np.nan, index=breaks)]).sort_index()
        yield gateway, line


def _line(ax: Axes, line: pd.Series[float], gateway: str) -> None:
    few = max(1, len(line) // 8)
    ax.plot(_naive(line.index), line.to_numpy(), label=gateway, markevery=few, markersize=5, **LOOKS[gateway])


def _rss_limits(ax: Axes, primary: pd.Series[float], gap_pct: float) -> None:
    for side, label in ((1, f"primary ±{gap_pct:g} %"), (-1, "_lower")):
        ax.plot(_naive(primary.index), primary.to_numpy() * (1 + side * gap_pct / 100), label=label, **LIMIT)


def _worth_a_label(at: Any, weight_pct: Any) -> Iterator[tuple[Any, float]]:
    """The weights that were held, the largest and the last: a ramp's steps lie too close for one each."""
    changed = np.flatnonzero(np.diff(weight_pct, prepend=np.nan))
    ends = [*at[changed[1:]], *at[-1:]]
    for index, end in zip(changed, ends, strict=True):
        is_last = index == changed[-1]
        if is_last or weight_pct[index] == weight_pct.max() or end - at[index] >= 0.1 * (at[-1] - at[0]):
            yield at[index], weight_pct[index]


def _axes(height_in: float) -> Axes:
    ax: Axes = Figure(figsize=(WIDTH_IN, height_in), layout="constrained").subplots()
    return ax


def _naive(at: Any) -> np.ndarray[Any, Any]:
    """Aware times as the UTC wall clock, which is what the axis says it shows."""
    return pd.DatetimeIndex(at).tz_convert("UTC").tz_localize(None).to_numpy()


def _time_axis(ax: Axes) -> None:
    locator = mdates.AutoDateLocator(minticks=2, maxticks=6)  # type: ignore[no-untyped-call]
    locator.intervald[mdates.MINUTELY] = [1, 2, 5, 10, 15, 30]  # without 2, some minutes had no fitting interval
    locator.intervald[mdates.SECONDLY] = [1, 5, 10, 15, 30]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    ax.set_xlabel("UTC")


def _grid(ax: Axes) -> None:
    ax.grid(axis="y", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _legend(ax: Axes, columns: int) -> None:
    """Between title and plot, where it hides nothing."""
    if not ax.get_legend_handles_labels()[1]:
        return
    ax.set_title(ax.get_title(loc="left"), loc="left", fontweight="bold", pad=24)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, handlelength=2.6)


def _above() -> dict[str, Any]:
    return {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}


def plot_p95(over_time: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """p95 over time, a line a gateway, broken where there was no request.

    `over_time`: at (aware UTC, start of the period), gateway, p95_ms.
    """
    ax = ax or _axes(2.8)
    for gateway, line in _lines(over_time, "p95_ms", "max"):
        _line(ax, line, gateway)
    ax.set_ylabel("p95, ms")
    ax.set_ylim(bottom=0)
    _time_axis(ax)
    _grid(ax)
    _legend(ax, columns=2)
    return ax
