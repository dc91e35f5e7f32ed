"""Minutes in which both gateways were bad alike: the host's, and neither for nor against the canary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from runbook_lib.judging.ratios import Series, bets_of, clock, minutes
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.statistics import Bets, Floats

FAIL_TIMEOUT_S = 10
"""For so long after a failure nginx does not try the canary (max_fails, fail_timeout of the managed configuration)."""


@dataclass(frozen=True)
class HostMinutes:
    """Stretches of ticks, each from its first to its last, in rising order."""

    stretches: tuple[tuple[int, int], ...]
    tick_s: int

    @classmethod
    def of(cls, canary: Series, primary: Series, thresholds: Thresholds) -> HostMinutes:
        """Where primary was over the error ratio for certain, and the canary neither better nor worse for certain."""
        alpha = 1 - thresholds.confidence_pct / 100
        found = []
        for first, last in bad_stretches(primary, bets_of(thresholds)):
            ours, theirs = canary.between(first, last), primary.between(first, last)
            events, trials = ours.events_count + theirs.events_count, ours.trials_count + theirs.trials_count
            part = ours.trials_count / trials
            is_better = special.bdtr(ours.events_count, events, part) < alpha
            is_worse = ours.events_count > 0 and special.bdtrc(ours.events_count - 1, events, part) < alpha
            if not is_better and not is_worse:
                found.append((first, last))
        return cls(tuple(found), primary.tick_s)

    @property
    def seconds(self) -> int:
        return sum(last - first + 1 for first, last in self.stretches) * self.tick_s

    def without(self, series: Series, after_s: int = 0) -> Series:
        """The series without these minutes, nor what nginx still remembered of them `after_s` later."""
        inside = np.zeros(len(series.ticks), bool)
        for first, last in self.stretches:
            inside |= (series.ticks >= first) & (series.ticks <= last + -(-after_s // self.tick_s))
        return Series(series.ticks[~inside], series.events[~inside], series.trials[~inside], series.tick_s)

    def now(self, series: Series) -> Series:
        """The part of a series that lies in the stretch which has not ended yet; empty where there is none."""
        end = int(series.ticks[-1]) if len(series.ticks) else 0
        first, last = next((s for s in self.stretches if s[0] <= end <= s[1]), (1, 0))
        return series.between(first, last)

    def text(self) -> str:
        """Half a sentence, ready to be put behind a reason; empty where there are none."""
        if not self.stretches:
            return ""
        first = clock(self.stretches[0][0], self.tick_s)
        return f"; {minutes(self.seconds)} in which both gateways were bad, from {first}, are the host's and left out"


def bad_stretches(series: Series, bets: Bets) -> list[tuple[int, int]]:
    """Every stretch that was over the threshold for certain (condition 1 of statistics.excess), first and last tick.

    A stretch ends where its evidence was largest, before as much as it takes to be certain was lost again.
    """
    gains = series.events[:, None] * bets.gain + (series.trials - series.events)[:, None] * bets.loss
    found, at = [], 0
    while at < len(gains):
        walk = np.vstack((np.zeros(len(bets.share)), np.cumsum(gains[at:], axis=0)))
        level = bets.share + walk - np.minimum.accumulate(walk, axis=0)
        certain = np.flatnonzero((level >= bets.needed_of_stretch).any(axis=1))
        if not len(certain):
            break
        path: Floats = walk[:, int(np.argmax(level[certain[0]]))]
        since = int(certain[0]) - int(np.argmin(path[certain[0] :: -1]))
        ahead = path[certain[0] :]
        lost = np.flatnonzero(np.maximum.accumulate(ahead) - ahead > bets.needed_of_stretch)
        until = int(certain[0]) + int(np.argmax(ahead[: lost[0]] if len(lost) else ahead))
        found.append((int(series.ticks[at + since]), int(series.ticks[at + until - 1])))
        at += until
    return found
