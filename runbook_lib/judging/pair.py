"""Whether the canary is over the error ratio for certain, and worse than primary for certain in the same minutes.

One test for the judge, who has the whole log, and for the sentinel, who carries it forward in awk (onmac/guard.sh):
the same numbers look by look. Measured in docs/calibration.md.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from runbook_lib.statistics import REQUESTS_PER_START, Bets, Floats, Ints

Mask = npt.NDArray[np.bool_]

ODDS = ((4.0, 0.1), (12.0, 0.25), (50.0, 0.65))
"""By how much a canary's odds of an error may exceed primary's, and how the bet is spread over them."""
RESET_ODDS = 12.0
BLOCK_COUNT, BLOCK_CANARY_COUNT = 40, 5
"""A block is as many looks as it takes to have this many attempts of both, or of the canary. Less says little of
who had how much traffic; more could mix quiet minutes with busy ones."""
LARGE_SHARE, LARGE_COUNT = 0.25, 10
"""Over this share of the attempts (and from so many on) the canary is judged by itself: primary has too few."""
PRIOR_LOOKS_RATIO = 0.05
NEVER = -1e6


class Pair:
    """The test, carried forward over `runs_count` independent runs at once: arrays have a run in each column.

    Of the k errors of both gateways among n_c + n_p attempts of a block, a canary that is no worse has at most as
    spread a part as Binomial(k, n_c / (n_c + n_p)) (Hoeffding 1963). So for odds t, t^k_c ((n_c + n_p) / (n_c t +
    n_p))^k is an e-value: a fair bet that it is worse. Three things must be true at the end of the same block:

    1. a stretch of the canary is over the threshold for certain, and a healthy canary would not show it in a whole
       run (both as in statistics.excess);
    2. since that stretch began the canary was worse than primary at some odds: where primary erred, too, and the
       canary was no worse, the stretch begins anew;
    3. the canary is worse for certain: the sum over all starts of the product of e-values since then, each start
       with a share of the bet, reaches 1/alpha. The i-th start has the share 1/(2 sqrt(N i)), N being the starts
       to expect in the run, so that all shares sum to one and early ones weigh more: most faults show at once.

    By Ville's inequality 3 by itself holds for a canary that is no worse, whatever happens to both, with
    probability 1 - alpha over a whole run. Where the canary has over LARGE_SHARE of the attempts, 3 is not asked.
    """

    def __init__(self, bets: Bets, looks_count: float, healthy: float, runs_count: int = 1) -> None:
        self.bets, self.looks_count, self.healthy = bets, looks_count, healthy
        self.odds = np.array([odds for odds, _ in ODDS])[:, None]
        self.odds_share = np.log([share for _, share in ODDS])[:, None]
        zeros = np.zeros(runs_count)
        self.pending = np.zeros((4, runs_count), np.int64)
        self.looks = 0
        self.canary_tried, self.both_tried, self.starts, self.begun = (zeros.copy() for _ in range(4))
        self.since_canary, self.since_both, self.lead = (zeros.copy() for _ in range(3))
        self.tens = zeros - 1
        self.stretch = np.zeros((len(bets.share), runs_count))
        self.run = np.full((len(bets.share), runs_count), NEVER)
        self.worse = np.full((len(ODDS), runs_count), NEVER)

    def look(self, canary_failed: Ints, canary_tried: Ints, primary_failed: Ints, primary_tried: Ints) -> Mask:
        """What came since the look before, for each run; returns where the canary is certainly bad."""
        self.looks += 1
        self.pending += (canary_failed, canary_tried, primary_failed, primary_tried)
        whole: Mask = (self.pending[1] + self.pending[3] >= BLOCK_COUNT) | (self.pending[1] >= BLOCK_CANARY_COUNT)
        if not whole.any():
            return whole
        block = np.where(whole, self.pending, 0)
        self.pending[:, whole] = 0
        self._close(*block)
        certain: Mask = self.is_over & (self.is_worse | self.is_large) & whole
        return certain

    def _close(self, k_c: Ints, n_c: Ints, k_p: Ints, n_p: Ints) -> None:
        k, n = k_c + k_p, n_c + n_p
        self.canary_tried, self.both_tried = self.canary_tried + n_c, self.both_tried + n
        part = n_c / np.maximum(n, 1)
        ahead = self.looks_count / self.looks

        has_errors = k > 0
        nth = self.starts + 1
        by_now = nth * self.looks_count / (self.looks + PRIOR_LOOKS_RATIO * self.looks_count)
        expected = np.clip(np.maximum(self.both_tried * ahead * self.healthy, by_now), 1, self.looks_count)
        begun = np.where(has_errors, -math.log(2) - np.log(expected * nth) / 2, NEVER)
        self.starts = self.starts + has_errors
        self.worse = np.logaddexp(self.worse, begun) + k_c * np.log(self.odds) - k * np.log1p((self.odds - 1) * part)

        gain = k_c * math.log(RESET_ODDS) - k * np.log1p((RESET_ODDS - 1) * part)
        self.lead = np.maximum(self.lead, 0) + gain
        anew = (k_p > 0) & (self.lead <= 0)
        self.since_canary = np.where(anew, 0, self.since_canary + n_c)
        self.since_both = np.where(anew, 0, self.since_both + n)

        bets = self.bets
        loss, loss_healthy = ((n_c - k_c) * column[:, None] for column in (bets.loss, bets.loss_healthy))
        stretch = np.maximum(self.stretch, 0) + k_c * bets.gain[:, None] + loss
        self.stretch = np.where(anew, 0, stretch)
        tens = self.canary_tried // REQUESTS_PER_START
        share = 1 / np.clip(self.canary_tried * ahead / REQUESTS_PER_START, 1, self.looks_count)
        may_start = tens > self.tens
        self.tens = tens
        self.begun = self.begun + np.where(may_start, share, 0)
        before = np.logaddexp(self.run, np.where(may_start, np.log(share), NEVER))
        run = before + k_c * bets.gain_healthy[:, None] + loss_healthy
        most = np.minimum(before, np.log(np.maximum(self.begun, 1e-300)))
        self.run = np.where(anew, np.minimum(run, most), run)

    @property
    def is_over(self) -> Mask:
        """Conditions 1 and 2."""
        stretch = (self.bets.share[:, None] + self.stretch).max(axis=0)
        run = np.logaddexp.reduce(self.bets.share[:, None] + self.run, axis=0)
        over: Mask = (stretch >= self.bets.needed_of_stretch) & (run >= self.bets.needed)
        return over

    @property
    def evidence(self) -> Floats:
        """What condition 3 has so far, in logs: from bets.needed on the canary is certainly worse."""
        evidence: Floats = np.logaddexp.reduce(self.odds_share + self.worse, axis=0)
        return evidence

    @property
    def is_worse(self) -> Mask:
        return self.evidence >= self.bets.needed

    @property
    def is_large(self) -> Mask:
        """Whether primary says too little to be asked."""
        large: Mask = (self.since_canary > LARGE_SHARE * self.since_both) & (self.since_canary >= LARGE_COUNT)
        return large
