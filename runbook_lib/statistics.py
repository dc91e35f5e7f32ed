"""The few statistics that the judge needs, each with its source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from runbook_lib.logfields import Ints

Floats = npt.NDArray[np.float64]

STEPS = ((1.5, 0.15), (3.0, 0.2), (10.0, 0.45), (40.0, 0.2))
"""What an unhealthy ratio may be, as multiples of the threshold, and how the bet is spread over them."""
LARGEST_RATIO = 0.95
STRETCH_SHARE = 0.1
"""Of alpha for the bound of one stretch: at 99 % it is the bound at 99.9 %. Chosen in docs/calibration.md."""
REQUESTS_PER_START = 10
DRAWS_COUNT = 4_000
SEED = 20_260_506


def interval(events: npt.ArrayLike, trials: npt.ArrayLike, confidence: float) -> tuple[Floats, Floats]:
    """The exact two-sided interval of a ratio (Clopper and Pearson, 1934); NaN for no trials."""
    k, n = np.asarray(events, np.float64), np.asarray(trials, np.float64)
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, special.betaincinv(np.maximum(k, 1e-300), n - k + 1, tail), 0.0)
        high = np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, 1e-300), 1 - tail), 1.0)
    none = n == 0
    return np.where(none, np.nan, low), np.where(none, np.nan, high)


def quantile(values: Ints, counts: Ints, q: float) -> int:
    """Nearest rank: the smallest value with at least a share q of all at or under it."""
    upto = np.cumsum(counts)
    return int(values[np.searchsorted(upto, rank(int(upto[-1]), q))])


def rank(count: int, q: float) -> int:
    """The rank of the quantile q among `count` values, from 1."""
    return max(1, math.ceil(round(q * count, 9)))


def drawn_quantiles(values: Ints, counts: Ints, q: float, rng: np.random.Generator) -> Ints:
    """The quantile in DRAWS_COUNT bootstrap samples, without drawing the samples.

    The r-th smallest of n uniform numbers is Beta(r, n - r + 1), and a bootstrap sample is n uniform
    numbers put through the empirical distribution (Efron 1979; David and Nagaraja, Order Statistics).
    """
    upto = np.cumsum(counts)
    n = int(upto[-1])
    r = rank(n, q)
    return values[np.searchsorted(upto, np.ceil(rng.beta(r, n - r + 1, DRAWS_COUNT) * n))]


class Watch:
    """Watches ratios step by step for a stretch, from any start until now, that lies over `threshold`.

    A stretch carries the likelihood ratio of a larger ratio against the threshold. As long as the true
    ratio is not over it, this is a nonnegative supermartingale, so it reaches 1/alpha with probability
    alpha at most, however often one looks (Ville 1939). Two things make a ratio certain, both at the same
    step, alpha being 1 - `confidence`:

    1. the lower bound of a stretch is over the threshold: one of STEPS, times its share of the bet,
       reaches 1/(STRETCH_SHARE alpha). The largest over all starts is Page's CUSUM;
    2. a ratio that is `healthy` would show this anywhere in a whole run with probability alpha at most:
       the mean over `starts_count` starts and STEPS of the likelihood ratio against `healthy` reaches
       1/alpha. This is the sum of Shiryaev and Roberts.

    Both are e-detectors (Shin, Ramdas and Rinaldo 2022, arXiv:2203.03532). For a ratio between healthy and the
    threshold only 1 holds, for each stretch by itself. `runs_count` runs
    are watched side by side. Within a step the order does not matter.
    """

    def __init__(
        self, threshold: float, healthy: float, confidence: float, starts_count: float | Floats, runs_count: int = 1
    ) -> None:
        ratios = np.array([min(step * threshold, LARGEST_RATIO) for step, _ in STEPS])
        self._bet = np.log([share for _, share in STEPS])
        self._hit, self._miss = np.log(ratios / threshold), np.log((1 - ratios) / (1 - threshold))
        self._hit_healthy, self._miss_healthy = np.log(ratios / healthy), np.log((1 - ratios) / (1 - healthy))
        self._needed = -math.log(1 - confidence)
        self._needed_of_stretch = self._needed - math.log(STRETCH_SHARE)
        self._share = -np.log(np.broadcast_to(np.asarray(starts_count, np.float64), (runs_count,)))
        self._stretch = np.zeros((runs_count, len(STEPS)))
        self._run = np.full((runs_count, len(STEPS)), -np.inf)
        self._since_start = np.full(runs_count, np.inf)

    def step(self, events: Ints, trials: Ints) -> npt.NDArray[np.bool_]:
        """Take one step of each run; whether its ratio is certainly over the threshold now."""
        hits, misses = events[:, None], (trials - events)[:, None]
        fresh = self._since_start >= REQUESTS_PER_START
        self._since_start = np.where(fresh, 0, self._since_start) + trials
        begun = np.logaddexp(self._run, np.where(fresh, self._share, -np.inf)[:, None])
        self._run = begun + hits * self._hit_healthy + misses * self._miss_healthy
        self._stretch = np.maximum(self._stretch, 0) + hits * self._hit + misses * self._miss
        return (self.stretch_evidence >= self._needed_of_stretch) & (self.run_evidence >= self._needed)

    @property
    def stretch_evidence(self) -> Floats:
        return np.asarray((self._bet + self._stretch).max(axis=1))

    @property
    def run_evidence(self) -> Floats:
        return np.asarray(np.logaddexp.reduce(self._bet + self._run, axis=1))

    @property
    def is_idle(self) -> bool:
        """Nothing speaks for an unhealthy ratio just now."""
        return bool((self._stretch <= 0).all())

    def requests_left(self, ratio: float) -> float:
        """How many more requests at this ratio until it is certain, of the first run; infinite if never."""
        gain = ratio * self._hit + (1 - ratio) * self._miss
        gain_healthy = ratio * self._hit_healthy + (1 - ratio) * self._miss_healthy
        with np.errstate(divide="ignore", invalid="ignore"):
            lacking = self._needed_of_stretch - self._bet - np.maximum(self._stretch[0], 0)
            stretch = np.where(gain > 0, lacking / gain, np.inf)
            begun = np.maximum(self._run[0], self._share[0])
            run = np.where(gain_healthy > 0, (self._needed - self._bet - begun) / gain_healthy, np.inf)
        return max(0.0, float(stretch.min()), float(run.min()))


def starts_of(horizon_s: float, step_s: float, expected_count: float) -> float:
    """From how many places a stretch may start in a whole run: one a step, or one every few requests."""
    return max(1.0, min(horizon_s / step_s, expected_count / REQUESTS_PER_START))


@dataclass(frozen=True)
class Excess:
    """Of one run: the first step at which the ratio was certain (None: never), where the stretch
    that made it so began, and how many more requests it would take at the present ratio."""

    certain_at: int | None
    since: int
    requests_left: float


def excess(
    events: Ints, trials: Ints, threshold: float, healthy: float, confidence: float, starts_count: float, recent: float
) -> Excess:
    """Watch one run to its first certain step, or to its end; `recent` is the ratio to go on with."""
    if not events.any():
        return Excess(None, 0, math.inf)
    watch, since = Watch(threshold, healthy, confidence, starts_count), 0
    for at in range(len(events)):
        if watch.is_idle:
            since = at
        if watch.step(events[at : at + 1], trials[at : at + 1])[0]:
            return Excess(at, since, 0.0)
    return Excess(None, since, watch.requests_left(recent))


def generator() -> np.random.Generator:
    """The same draws each time: a verdict that is computed again must not flip."""
    return np.random.default_rng(SEED)
