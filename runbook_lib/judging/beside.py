"""The canary's errors beside primary's in the same minutes, over a whole log."""

from __future__ import annotations

import math

import numpy as np

from runbook_lib.judging.host import HostMinutes
from runbook_lib.judging.pair import ODDS, Pair
from runbook_lib.judging.ratios import Found, Series, bets_of, certain_stretch, watch
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.statistics import Bets, Floats

BY_ITSELF = "; primary had too few requests to compare with"


def find_beside(canary: Series, primary: Series, host: HostMinutes, thresholds: Thresholds) -> Found:
    """Where the canary was certainly over the error ratio and worse than primary; see pair.Pair.

    At a large share of the traffic it is judged by itself; then what turns out to be the host's does not count.
    """
    found = _find(canary, primary, thresholds)
    if found.compared == BY_ITSELF and host.stretches:
        return _find(host.without(canary), host.without(primary), thresholds)
    return found


def _find(canary: Series, primary: Series, thresholds: Thresholds) -> Found:
    bets, alone = bets_of(thresholds), watch(canary, thresholds)
    if not _may_be_over(canary, bets):
        return Found(None, alone.requests_left)
    ticks = np.union1d(canary.ticks, primary.ticks)
    both = [_on(ticks, series) for series in (canary, primary)]
    looks_count = max(thresholds.observation_s, (int(ticks[-1] - ticks[0]) + 1) * canary.tick_s) / canary.tick_s
    pair, since = Pair(bets, looks_count, thresholds.healthy_error_ratio_pct / 100), int(ticks[0])
    for tick, ours_failed, ours, theirs_failed, theirs in zip(ticks, *both[0], *both[1], strict=True):
        if pair.stretch.max() <= 0 and not pair.pending.any():
            since = int(tick)
        pair.looks = int(tick - ticks[0])
        if pair.look(*(np.array([count]) for count in (ours_failed, ours, theirs_failed, theirs)))[0]:
            compared = _text(primary.between(since, int(tick))) if pair.is_worse[0] else BY_ITSELF
            return Found(canary.between(since, int(tick)), 0.0, compared)
    left = max(alone.requests_left, _left(pair, canary, primary, thresholds))
    same = primary if alone.certain_at is None else _same(primary, canary, alone.since, alone.certain_at)
    return Found(None, left, _text(same, "not certainly worse"))


def _same(primary: Series, canary: Series, since: int, certain_at: int) -> Series:
    stretch = certain_stretch(canary, since, certain_at)
    return primary.between(int(stretch.ticks[0]), int(stretch.ticks[-1]))


def _text(primary: Series, how: str = "certainly worse") -> str:
    return f", {how} than {primary.text('at primary')} in the same minutes"


def _on(ticks: np.typing.NDArray[np.int64], series: Series) -> tuple[np.typing.NDArray[np.int64], ...]:
    """Events and trials of a series, with zeros where it has no tick."""
    columns = np.zeros((2, len(ticks)), np.int64)
    columns[:, np.searchsorted(ticks, series.ticks)] = series.events, series.trials
    return columns[0], columns[1]


def _left(pair: Pair, canary: Series, primary: Series, thresholds: Thresholds) -> float:
    """How many canary requests it takes until it is certainly worse, if both go on as they did recently."""
    ours, theirs = canary.last(thresholds.error_window_s), primary.last(thresholds.error_window_s)
    k_c, k, n = ours.events_count, ours.events_count + theirs.events_count, ours.trials_count + theirs.trials_count
    part = ours.trials_count / max(n, 1)
    gain = max(k_c * math.log(odds) - k * math.log1p((odds - 1) * part) for odds, _ in ODDS)
    if pair.is_large[0]:
        return 0.0
    missing = pair.bets.needed - max(0.0, float(pair.evidence[0]))
    return missing / (gain / ours.trials_count) if gain > 0 and ours.trials_count else math.inf


def _may_be_over(series: Series, bets: Bets) -> bool:
    """Whether some stretch would be over for certain if nothing else were asked: quick, and no for most logs."""
    gains = series.events[:, None] * bets.gain + (series.trials - series.events)[:, None] * bets.loss
    walk: Floats = np.vstack((np.zeros(len(bets.share)), np.cumsum(gains, axis=0)))
    return bool((bets.share + walk - np.minimum.accumulate(walk, axis=0) >= bets.needed_of_stretch).any())
