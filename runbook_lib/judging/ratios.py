"""Rules about a share of requests: over the threshold for certain, only for now, or not."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.fields import Ints
from runbook_lib.plan.thresholds import Rule, Thresholds
from runbook_lib.statistics import Bets, Excess, excess, interval, starts_of
from runbook_lib.verdict import PLAIN, Answer, Check, Hop


@dataclass(frozen=True)
class Series:
    """Events among trials, tick by tick, in the order of time."""

    ticks: Ints
    events: Ints
    trials: Ints
    tick_s: int

    @classmethod
    def of(cls, counts: LogCounts, gateways: Sequence[str], events: str, trials: str) -> Series:
        found = [counts.series(gateways, what) for what in (events, trials)]
        ticks = np.union1d(found[0][0], found[1][0])
        columns = np.zeros((2, len(ticks)), np.int64)
        for column, (at, count) in zip(columns, found, strict=True):
            column[np.searchsorted(ticks, at)] = count
        return cls(ticks, columns[0], columns[1], counts.tick_s)

    @property
    def events_count(self) -> int:
        return int(self.events.sum())

    @property
    def trials_count(self) -> int:
        return int(self.trials.sum())

    @property
    def elapsed_s(self) -> int:
        return int(self.ticks[-1] - self.ticks[0] + 1) * self.tick_s if len(self.ticks) else 0

    def between(self, first_tick: int, last_tick: int) -> Series:
        inside = (self.ticks >= first_tick) & (self.ticks <= last_tick)
        return Series(self.ticks[inside], self.events[inside], self.trials[inside], self.tick_s)

    def with_errors(self, count: int, tick: int) -> Series:
        """As if there had been so many more trials in one tick, and all of them events."""
        more = np.where(self.ticks == tick, count, 0)
        return Series(self.ticks, self.events + more, self.trials + more, self.tick_s)

    def last(self, seconds: int) -> Series:
        """The last `seconds` that the log has, rounded up to whole ticks."""
        if not len(self.ticks):
            return self
        return self.between(int(self.ticks[-1]) - math.ceil(seconds / self.tick_s) + 1, int(self.ticks[-1]))

    def worst(self, seconds: int) -> Series:
        """The `seconds` with the highest ratio, wherever they end."""
        first = self.ticks - math.ceil(seconds / self.tick_s) + 1
        start = np.searchsorted(self.ticks, first)
        hits, tried = (np.concatenate(([0], np.cumsum(column))) for column in (self.events, self.trials))
        end = np.arange(1, len(self.ticks) + 1)
        ratio = (hits[end] - hits[start]) / np.maximum(tried[end] - tried[start], 1)
        at = int(np.argmax(ratio))
        return self.between(int(first[at]), int(self.ticks[at]))

    def text(self, noun: str) -> str:
        share = f" ({percent(self.events_count / self.trials_count)})" if self.trials_count else ""
        return f"{self.events_count} of {self.trials_count}{share} {noun}"


def percent(ratio: float) -> str:
    """Two significant digits, and as many more as it takes: 0.51 %, 5.2 %, 35 %."""
    value = 100 * ratio
    if value >= 99.5:
        return f"{value:.0f} %" if value >= 99.995 else f"{value:.2f} %"
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{digits}f} %" if value == 0 or value >= 0.01 else f"{value:.1g} %"


def is_over(events: int, trials: int, threshold_pct: float) -> bool:
    """Exactly at the threshold is not over it, whatever binary fractions make of 0.1 %."""
    return round(events * 100 - threshold_pct * trials, 9) > 0


def clock(tick: int, tick_s: int) -> str:
    return f"{dt.datetime.fromtimestamp(tick * tick_s, dt.UTC):%d %b %H:%M:%S} UTC"


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def bounds(series: Series, thresholds: Thresholds) -> str:
    low, high = interval(series.events_count, series.trials_count, thresholds.confidence_pct / 100)
    return f"{thresholds.confidence_pct:g} % interval {percent(float(low))} to {percent(float(high))}"


@dataclass(frozen=True)
class RatioRule:
    """What is counted of what, how it is called, and what to do about it."""

    name: str
    events: str
    trials: str
    noun: str
    remedy: str
    rule: Rule = "error_ratio"


def bets_of(thresholds: Thresholds) -> Bets:
    """The bets about the share of 5xx."""
    shares = (thresholds.error_ratio_pct, thresholds.healthy_error_ratio_pct, thresholds.confidence_pct)
    return Bets.of(*(share / 100 for share in shares))


def watch(series: Series, thresholds: Thresholds) -> Excess:
    """The stretch that is certainly over the error ratio, if there is one; see statistics.excess."""
    recent = series.last(thresholds.error_window_s)
    horizon = max(thresholds.observation_s, series.elapsed_s)
    expected_count = series.trials_count / max(series.elapsed_s, 1) * horizon
    return excess(
        series.events,
        series.trials,
        thresholds.error_ratio_pct / 100,
        thresholds.healthy_error_ratio_pct / 100,
        thresholds.confidence_pct / 100,
        starts_count=starts_of(horizon, series.tick_s, expected_count),
        recent=recent.events_count / max(recent.trials_count, 1),
    )


def certain_stretch(series: Series, since: int, certain_at: int) -> Series:
    """From where the excess began to where it became certain."""
    return series.between(int(series.ticks[since]), int(series.ticks[certain_at]))


@dataclass(frozen=True)
class Found:
    """Where a series was over the error ratio for certain: its stretch (None: nowhere), what it was compared with, and
    how many more requests it takes to be certain from now on."""

    stretch: Series | None
    requests_left: float
    compared: str = ""


def find(series: Series, thresholds: Thresholds) -> Found:
    """A series by itself."""
    found = watch(series, thresholds)
    if found.certain_at is None:
        return Found(None, found.requests_left)
    return Found(certain_stretch(series, found.since, found.certain_at), 0.0)


def judge_ratio(
    rule: RatioRule, series: Series, hop: Hop, thresholds: Thresholds, found: Found | None = None, left_out: str = ""
) -> Check:
    """One rule over the whole log: fail, inconclusive or pass.

    `found` is what makes it certain, the series by itself if it is not given. `left_out` says what was left out of
    the series beforehand.
    """
    limit = f"{thresholds.error_ratio_pct:g} %"
    window_s = thresholds.error_window_s
    enough = series.trials_count >= thresholds.min_requests_count
    is_plain = rule.rule in thresholds.plain_rules

    def check(answer: Answer, of: Series, reason: str) -> Check:
        measured = 100 * of.events_count / of.trials_count if of.trials_count else None
        remedy = "" if answer is Answer.PASS else rule.remedy
        text, n = f"{rule.name}: {reason}{left_out}", of.trials_count
        limit_pct = thresholds.error_ratio_pct
        return Check(rule.name, answer, text, hop, measured, limit_pct, "%", n, remedy, is_plain=is_plain)

    if is_plain and series.trials_count:
        worst = series.worst(window_s)
        over = is_over(worst.events_count, worst.trials_count, thresholds.error_ratio_pct)
        answer = Answer.FAIL if over else Answer.PASS if enough else Answer.INCONCLUSIVE
        compared = "over" if over else "not over"
        return check(
            answer,
            worst,
            f"{worst.text(rule.noun)} in the worst {minutes(window_s)}, {compared} {limit} {PLAIN}",
        )
    found = found or find(series, thresholds)
    if found.stretch is not None:
        stretch = found.stretch
        decided_at = clock(int(stretch.ticks[-1]) + 1, stretch.tick_s)
        return check(
            Answer.FAIL,
            stretch,
            f"{stretch.text(rule.noun)}, certainly over {limit} ({bounds(stretch, thresholds)}){found.compared} "
            f"at {decided_at}, {minutes(stretch.elapsed_s)} after it began",
        )
    if not series.trials_count:
        return check(Answer.INCONCLUSIVE, series, f"no {rule.noun}, so nothing to judge")
    recent = series.last(window_s)
    for part, when in ((recent, f" in the last {minutes(window_s)}"), (series, "")):
        if is_over(part.events_count, part.trials_count, thresholds.error_ratio_pct):
            seconds = found.requests_left / (recent.trials_count / max(recent.elapsed_s, 1))
            decided = (
                f"at this rate decided in about {minutes(seconds)}"
                if seconds < thresholds.observation_s
                else f"at this rate not decided within {minutes(thresholds.observation_s)}"
            )
            return check(
                Answer.INCONCLUSIVE,
                part,
                f"{part.text(rule.noun)}{when}, over {limit} but not for certain{found.compared}, "
                f"n={part.trials_count}, {decided}",
            )
    if not enough:
        few = f"fewer than the {thresholds.min_requests_count} needed"
        return check(Answer.INCONCLUSIVE, series, f"{series.text(rule.noun)}, {few}")
    return check(Answer.PASS, series, f"{series.text(rule.noun)}, not over {limit} ({bounds(series, thresholds)})")
