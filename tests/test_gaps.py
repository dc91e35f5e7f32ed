"""Samples or log lines that are missing in an observation: counted by window, never a pass, broken lines in plots."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from runbook_lib.accesslog import LogCounts
from runbook_lib.judging.gaps import find_gaps, judge_gaps
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.show import plots
from runbook_lib.steps.observation import Observation
from runbook_lib.verdict import Answer, Hop

START_S, WINDOW_S, WINDOWS, EVERY_S = 1_778_025_600, 900, 40, 30
SINCE = pd.Timestamp(START_S, unit="s", tz="UTC")


def samples(missing: range = range(0), gateway: str = "canary") -> pd.DataFrame:
    """Both gateways every EVERY_S, but `gateway` not in the windows `missing`."""
    at = np.arange(START_S, START_S + WINDOWS * WINDOW_S + EVERY_S, EVERY_S)
    parts = []
    for name in ("primary", "canary"):
        there = at[~np.isin((at - START_S) // WINDOW_S, missing)] if name == gateway else at
        parts.append(pd.DataFrame({"at": pd.to_datetime(there, unit="s", utc=True), "gateway": name}))
    frame = pd.concat(parts, ignore_index=True).sort_values("at", ignore_index=True)
    return frame.assign(pid=1, rss_mb=100.0, cpu_pct=1.0, ready=True, backlog_jobs=0, in_flight_count=0)


def counts(missing: range = range(0), per_tick: int = 2) -> LogCounts:
    """A log with `per_tick` requests in each tick of 15 s, but none in the windows `missing`."""
    found = LogCounts(WINDOW_S)
    ticks = np.arange(WINDOWS * WINDOW_S // found.tick_s) + START_S // found.tick_s
    there = ticks[~np.isin((ticks * found.tick_s - START_S) // WINDOW_S, missing)]
    for what in ("requests", "attempts"):
        found.ticks.add(("r1", "primary", what), there, np.full(len(there), per_tick))
        found.ticks.add(("r1", "canary", what), there, np.full(len(there), 1))
    return found


def seen(sampled: pd.DataFrame, logged: LogCounts, weight_pct: float = 10) -> Observation:
    return Observation(SINCE, weight_pct, logged, sampled, WINDOWS * WINDOW_S, EVERY_S)


def test_nothing_missing_passes() -> None:
    check = judge_gaps(seen(samples(), counts()).gaps(), Thresholds())
    assert (check.answer, check.samples_count) == (Answer.PASS, WINDOWS)
    assert "0 of 40 windows" in check.reason


@pytest.mark.parametrize(("missing", "answer"), [(2, Answer.PASS), (3, Answer.INCONCLUSIVE)])
@pytest.mark.parametrize("what", ["samples", "lines"])
def test_missing_windows_at_the_boundary(what: str, missing: int, answer: Answer) -> None:
    """2 of 40 is exactly 5 %, which is not over it."""
    lost = range(10, 10 + missing)
    found = seen(samples(lost), counts()) if what == "samples" else seen(samples(), counts(lost))
    check = judge_gaps(found.gaps(), Thresholds())
    assert check.answer is answer and check.hop is Hop.RUNBOOK, check.reason
    assert f"{missing} of 40 windows" in check.reason and "06 May 02:30:00 UTC" in check.reason


@pytest.mark.parametrize("gateway", ["primary", "canary"])
def test_samples_of_one_gateway_are_not_enough(gateway: str) -> None:
    gaps = seen(samples(range(5, 15), gateway), counts()).gaps()
    assert gaps["no_samples"].sum() == 10 and not gaps["no_lines"].any()


def test_a_sample_now_and_then_is_no_observation() -> None:
    """Under a quarter of the samples: 7 of 30 are too few, 8 are enough."""
    few = samples()
    in_window = (few["at"] >= SINCE) & (few["at"] < SINCE + pd.Timedelta(seconds=WINDOW_S))
    for kept, lacks in ((7, True), (8, False)):
        dropped = few[in_window & (few["gateway"] == "canary")].index[kept:]
        assert seen(few.drop(dropped), counts()).gaps()["no_samples"].iloc[0] == lacks


def test_a_quiet_log_has_no_gaps_but_a_busy_one_has() -> None:
    quiet = LogCounts(WINDOW_S)
    quiet.ticks.add(("r1", "primary", "requests"), np.array([START_S // quiet.tick_s + 1]), np.array([3]))
    assert not seen(samples(), quiet).gaps()["no_lines"].any()
    assert seen(samples(), counts(range(3))).gaps()["no_lines"].sum() == 3


def test_a_standby_has_no_log_to_miss() -> None:
    gaps = seen(samples(), counts(range(20, 40)), weight_pct=0).gaps()
    assert judge_gaps(gaps, Thresholds(), has_traffic=False).answer is Answer.PASS
    assert judge_gaps(gaps, Thresholds()).answer is Answer.INCONCLUSIVE


def test_before_the_first_whole_window_nothing_is_known() -> None:
    early = samples()
    early = early[early["at"] < SINCE + pd.Timedelta(seconds=600)]
    gaps = find_gaps(early, counts(), SINCE, early["at"].max(), EVERY_S)
    assert gaps.empty and judge_gaps(gaps, Thresholds()).answer is Answer.INCONCLUSIVE
    nothing = Observation(SINCE, 10, LogCounts(WINDOW_S), early.iloc[:0], 900, EVERY_S)
    assert judge_gaps(nothing.gaps(), Thresholds()).answer is Answer.INCONCLUSIVE


def test_gaps_are_gaps_in_the_plot() -> None:
    """Not one line of the four goes through the hours without samples, nor a zero through those without lines."""
    lines = seen(samples(range(10, 20), "primary"), counts(range(25, 35))).four_lines()
    lost = lines["at"].between(SINCE + pd.Timedelta(hours=6.5), SINCE + pd.Timedelta(hours=8.4))
    assert lost.any() and lines.loc[lost, ["in_flight_count", "failed_connects_count"]].isna().all(axis=None)
    figure = plots.plot_samples(lines, Thresholds())
    memory, in_flight = figure.axes[0], figure.axes[2]
    primary = next(line for line in memory.get_lines() if line.get_label() == "primary")
    assert np.isnan(np.asarray(primary.get_ydata(), float)).any()
    for line in in_flight.get_lines():
        assert np.isnan(np.asarray(line.get_ydata(), float)).any(), line.get_label()


def test_a_gap_in_p95_is_a_gap() -> None:
    at = pd.date_range(SINCE, periods=30, freq="1min").delete(range(10, 20))
    ax = plots.plot_p95(pd.DataFrame({"at": at, "gateway": "primary", "p95_ms": 100.0}))
    assert np.isnan(np.asarray(ax.get_lines()[0].get_ydata(), float)).any()
