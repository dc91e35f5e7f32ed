"""The few statistics that the judge needs, each with its source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Ints = npt.NDArray[np.int64]
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


def starts_of(horizon_s: float, step_s: float, expected_count: float) -> float:
    """From how many places a stretch may start in a whole run: one a step, or one every few requests."""
    return max(1.0, min(horizon_s / step_s, expected_count / REQUESTS_PER_START))


@dataclass(frozen=True)
class Excess:
    """The first step at which the ratio was certainly over (None: at none), where the stretch that made it
    so began, and how many more requests it takes from the last step on if it stays as it was recently."""

    certain_at: int | None
    since: int
    requests_left: float


@dataclass(frozen=True)
class Bets:
    """The walks that `excess` follows: one column for each of STEPS, all in logs.

    `share` is the bet; an event adds `gain`, any other trial `loss`: against the threshold, and against `healthy`.
    A stretch is certain from `needed_of_stretch` on, a whole run from `needed`.
    """

    share: Floats
    gain: Floats
    loss: Floats
    gain_healthy: Floats
    loss_healthy: Floats
    needed_of_stretch: float
    needed: float

    @classmethod
    def of(cls, threshold: float, healthy: float, confidence: float) -> Bets:
        ratios = np.array([min(step * threshold, LARGEST_RATIO) for step, _ in STEPS])
        needed = -math.log(1 - confidence)
        return cls(
            np.log([share for _, share in STEPS]),
            np.log(ratios / threshold),
            np.log((1 - ratios) / (1 - threshold)),
            np.log(ratios / healthy),
            np.log((1 - ratios) / (1 - healthy)),
            needed - math.log(STRETCH_SHARE),
            needed,
        )


def excess(
    events: Ints, trials: Ints, threshold: float, healthy: float, confidence: float, starts_count: float, recent: float
) -> Excess:
    """Whether the ratio of events to trials, step by step, has a stretch that certainly lies over `threshold`.

    A stretch, from any start until now, carries the likelihood ratio of a larger ratio against the
    threshold. As long as the true ratio is not over it, this is a nonnegative supermartingale, so it reaches
    1/alpha with probability alpha at most, however often one looks (Ville 1939). Two things make a ratio
    certain, both at the same step, alpha being 1 - `confidence`:

    1. the lower bound of a stretch is over the threshold: one of STEPS, times its share of the bet,
       reaches 1/(STRETCH_SHARE alpha). The largest over all starts is Page's CUSUM;
    2. a ratio that is `healthy` would show this anywhere in a whole run with probability alpha at most:
       the mean over `starts_count` starts and STEPS of the likelihood ratio against `healthy` reaches
       1/alpha. This is the sum of Shiryaev and Roberts.

    Both are e-detectors (Shin, Ramdas and Rinaldo 2022, arXiv:2203.03532). For a ratio between healthy and the
    threshold only 1 holds, for each stretch by itself. Within a step the order does not matter. `recent` is
    the ratio to go on with. Measured in docs/calibration.md.
    """
    if not events.any():
        return Excess(None, 0, math.inf)
    bets = Bets.of(threshold, healthy, confidence)
    bet, needed, needed_of_stretch = bets.share, bets.needed, bets.needed_of_stretch
    k, misses = events[:, None], (trials - events)[:, None]

    walk = np.cumsum(k * bets.gain + misses * bets.loss, axis=0)
    lowest = np.minimum.accumulate(np.vstack((np.zeros(len(STEPS)), walk[:-1])), axis=0)
    stretch = bet + walk - lowest

    far = np.cumsum(k * bets.gain_healthy + misses * bets.loss_healthy, axis=0)
    before = np.vstack((np.zeros(len(STEPS)), far[:-1]))
    begun = np.where(_may_start(trials)[:, None], -math.log(starts_count) - before, -np.inf)
    run = bet + far + np.logaddexp.accumulate(begun, axis=0)

    certain = (stretch.max(axis=1) >= needed_of_stretch) & (np.logaddexp.reduce(run, axis=1) >= needed)
    if certain.any():
        at = int(np.argmax(certain))
        best = int(np.argmax(stretch[at]))
        path = np.concatenate(([0.0], walk[:at, best]))
        return Excess(at, len(path) - 1 - int(np.argmin(path[::-1])), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = recent * bets.gain + (1 - recent) * bets.loss
        speed_healthy = recent * bets.gain_healthy + (1 - recent) * bets.loss_healthy
        left = np.where(speed > 0, (needed_of_stretch - np.maximum(stretch[-1], bet)) / speed, np.inf)
        fresh = bet - math.log(starts_count)
        left_healthy = np.where(speed_healthy > 0, (needed - np.maximum(run[-1], fresh)) / speed_healthy, np.inf)
    return Excess(None, 0, max(0.0, float(left.min()), float(left_healthy.min())))


def _may_start(trials: Ints) -> npt.NDArray[np.bool_]:
    """At which steps a stretch may start for the second condition: the first, then one every few requests."""
    tens = np.concatenate(([-1, 0], np.cumsum(trials)[:-1] // REQUESTS_PER_START))
    return np.diff(tens)[: len(trials)] > 0


def generator() -> np.random.Generator:
    """The same draws each time: a verdict that is computed again must not flip."""
    return np.random.default_rng(SEED)
