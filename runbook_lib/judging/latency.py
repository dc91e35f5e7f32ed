"""Rules about the slowest twentieth: connect time by itself, and header time against primary's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy import special

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.fields import Ints
from runbook_lib.judging.ratios import minutes
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.statistics import drawn_quantiles, excess, generator, interval, quantile
from runbook_lib.verdict import CONNECT, PLAIN, Answer, Check, CheckName, Hop

TAIL = 0.05
"""A p95 over a limit means that more than this share is over the limit."""
HEALTHY_TAIL = 0.01
Histogram = tuple[Ints, Ints]
Histograms = dict[int, Histogram]
NO_TIMES = (np.zeros(0, np.int64), np.zeros(0, np.int64))
PRIMARY_COUNT = 20
"""A p95 of fewer primary requests is no yardstick."""


def pooled(histograms: Histograms) -> Histogram:
    """All windows together, values in rising order."""
    if not histograms:
        return NO_TIMES
    values = np.concatenate([v for v, _ in histograms.values()])
    counts = np.concatenate([c for _, c in histograms.values()])
    found, place = np.unique(values, return_inverse=True)
    return found, np.bincount(place, counts).astype(np.int64)


def size(histogram: Histogram) -> int:
    return int(histogram[1].sum())


def over(histogram: Histogram, limit_ms: float) -> int:
    """How many lie over the limit."""
    values, counts = histogram
    return int(counts[values > limit_ms].sum())


def is_slower(ours_ms: int, theirs_ms: int, allowed_pct: float, smallest_rise_ms: int) -> bool:
    """Whether one p95 is above another by more than so many percent, and by more than so many milliseconds."""
    rise_ms = ours_ms - theirs_ms
    return rise_ms > smallest_rise_ms and round(100 * rise_ms - allowed_pct * theirs_ms, 9) > 0


def certain(events: list[int], trials: list[int], thresholds: Thresholds, tests_count: int = 1) -> int | None:
    """The first window in which more than TAIL of a stretch is certainly over its limit, however often one looks.

    `tests_count` is how many such tests there are at once (Bonferroni).
    """
    confidence = 1 - (1 - thresholds.confidence_pct / 100) / tests_count
    k, n = np.array(events, np.int64), np.array(trials, np.int64)
    return excess(k, n, TAIL, HEALTHY_TAIL, confidence, max(1, len(events)), 0.0).certain_at


def slow_windows(counts: LogCounts, thresholds: Thresholds) -> set[int]:
    """Windows in which primary's connects were too slow for certain, and the canary's neither less nor more so.

    They are the host's, and left out; where no other window is left, they are all that there is to judge.
    """
    alpha, limit = 1 - thresholds.confidence_pct / 100, thresholds.connect_p95_ms
    sides = [counts.histograms(gateway, "connect") for gateway in ("canary", "primary")]
    found = set()
    for window in sides[0].keys() & sides[1].keys():
        (late, tried), (theirs_late, theirs) = ((over(side[window], limit), size(side[window])) for side in sides)
        if interval(theirs_late, theirs, thresholds.confidence_pct / 100)[0] <= TAIL:
            continue
        part, events = tried / (tried + theirs), late + theirs_late
        is_better = special.bdtr(late, events, part) < alpha
        is_worse = late > 0 and special.bdtrc(late - 1, events, part) < alpha
        if not is_better and not is_worse:
            found.add(window)
    return set() if found == sides[0].keys() | sides[1].keys() else found


def judge_connect(
    counts: LogCounts, gateway: str, hop: Hop, thresholds: Thresholds, left_out: Collection[int] = ()
) -> Check:
    """The article's rule: upstream connect p95 over 120 ms on loopback, but for the windows in `left_out`.

    Reused connections log 0 ms and are kept out. Where few connects took a millisecond the zeros are
    counted in after all: they cannot hide a p95 that is high, only a connect that was never made.
    """
    name, limit, is_plain = CONNECT[gateway], thresholds.connect_p95_ms, "connect_p95" in thresholds.plain_rules
    histograms = {w: h for w, h in counts.histograms(gateway, "connect").items() if w not in left_out}
    unsaid = f"; {minutes(len(left_out) * counts.window_s)} in which both were slow are the host's and left out"
    times, zeros = pooled(histograms), counts.total(gateway, "zero_connects")
    n = size(times)
    p95 = quantile(*times, 0.95) if n else 0
    remedy = "pause the weight shift and inspect launchd throttling (ProcessType, nice, CPU limits) on the host"

    def check(answer: Answer, reason: str, measured: float | None, samples: int) -> Check:
        unless = "" if answer is Answer.PASS else remedy
        text = f"{name}: {reason}{unsaid if left_out else ''}"
        return Check(name, answer, text, hop, measured, limit, "ms", samples, unless, is_plain=is_plain)

    if n + zeros == 0:
        return check(Answer.INCONCLUSIVE, "no connect was made, so nothing to judge", None, 0)
    if is_plain:
        worst = max([quantile(*h, 0.95) for h in histograms.values()], default=0)
        answer = Answer.FAIL if worst > limit else Answer.PASS
        compared = "over" if worst > limit else "not over"
        reason = f"{worst} ms in the worst window, {compared} {limit} ms, n={n} {PLAIN}"
        return check(answer, reason, worst, n)
    late = [over(h, limit) for h in histograms.values()]
    tried = [size(h) for h in histograms.values()]
    if certain(late, tried, thresholds) is not None:
        reason = f"{p95} ms, certainly over {limit} ms: {sum(late)} of {n} connects took longer"
        return check(Answer.FAIL, reason, p95, n)
    if p95 > limit:
        reason = f"{p95} ms is over {limit} ms but not for certain: {sum(late)} of {n} connects took longer"
        return check(Answer.INCONCLUSIVE, reason, p95, n)
    if n + zeros < thresholds.min_requests_count:
        few = f"{n + zeros} connects are fewer than the {thresholds.min_requests_count} needed"
        return check(Answer.INCONCLUSIVE, f"{p95} ms, but {few}", p95, n + zeros)
    reason = f"{p95} ms, not over {limit} ms, n={n} of at least 1 ms beside {zeros} of 0 ms"
    return check(Answer.PASS, reason, p95, n + zeros)


@dataclass(frozen=True)
class Compared:
    """Header times of both gateways in the same stretches of time, waits without an answer included."""

    canary: Histograms
    primary: Histograms

    @classmethod
    def of(cls, counts: LogCounts) -> Compared:
        """Neighbouring windows are taken together until primary has enough: near 100 % it answers little."""
        canary = counts.histograms("canary", "header", "waited")
        primary = counts.histograms("primary", "header", "waited")
        stretches: list[list[int]] = [[]]
        for window in sorted(canary.keys() | primary.keys()):
            stretches[-1].append(window)
            if size(_within(primary, stretches[-1])) >= PRIMARY_COUNT:
                stretches.append([])
        *whole, rest = stretches
        if whole:
            whole[-1] += rest
        sides = ({s[0]: _within(side, s) for s in whole} for side in (canary, primary))
        return cls(*sides)


def _within(histograms: Histograms, windows: list[int]) -> Histogram:
    return pooled({w: histograms[w] for w in windows if w in histograms})


def limit_over(times: Histogram, allowed_pct: float, thresholds: Thresholds, rng: np.random.Generator) -> float:
    """What is certainly slower than `times`: their p95, at the upper end of its bootstrap interval, and that much."""
    top = float(np.quantile(drawn_quantiles(*times, 0.95, rng), thresholds.confidence_pct / 100))
    return max((1 + allowed_pct / 100) * top, top + thresholds.smallest_rise_ms)


def judge_header(counts: LogCounts, thresholds: Thresholds) -> Check:
    """Canary's header p95 against primary's in the same windows, so that a bad hour blames nobody.

    A frozen gateway still accepts connections: its connect time stays near zero, and what it costs is seen
    here, in attempts that waited in vain. In each window the limit is drawn above primary's p95 at the
    upper end of its bootstrap interval.
    """
    name, allowed = CheckName.CANARY_HEADER, thresholds.slower_than_primary_pct
    is_plain = "slower_than_primary" in thresholds.plain_rules
    compared = Compared.of(counts)
    canary, primary = pooled(compared.canary), pooled(compared.primary)
    n, m = size(canary), size(primary)
    remedy = "fix the canary (its own logs, plugins, model allowlist); do not tune nginx"

    def check(answer: Answer, reason: str, measured: float | None) -> Check:
        unless = "" if answer is Answer.PASS else remedy
        text = f"{name}: {reason}"
        return Check(name, answer, text, Hop.CANARY, measured, allowed, "%", n, unless, is_plain=is_plain)

    if n < thresholds.min_requests_count or m < thresholds.min_requests_count:
        reason = f"{n} answers of the canary beside {m} of primary in the same windows, {thresholds.min_requests_count}"
        return check(Answer.INCONCLUSIVE, f"{reason} of each are needed", None)
    ours, theirs = quantile(*canary, 0.95), quantile(*primary, 0.95)
    rise_pct = 100 * (ours - theirs) / max(theirs, 1)
    text = f"{ours} ms against primary's {theirs} ms, {rise_pct:+.0f} %"
    is_higher = is_slower(ours, theirs, allowed, thresholds.smallest_rise_ms)
    sizes = f"n={n} against {m}"
    if is_plain:
        answer = Answer.FAIL if is_higher else Answer.PASS
        compared_text = "over" if is_higher else "not over"
        return check(answer, f"{text}, {compared_text} {allowed:g} %, {sizes} {PLAIN}", rise_pct)
    rng = generator()
    late, tried = [], []
    for window, times in compared.canary.items():
        late.append(over(times, limit_over(compared.primary[window], allowed, thresholds, rng)))
        tried.append(size(times))
    if certain(late, tried, thresholds) is not None:
        reason = f"{text}; {sum(late)} of {n} are over primary's p95 by more than {allowed:g} %, certainly too many"
        return check(Answer.FAIL, f"{reason}, {sizes}", rise_pct)
    if is_higher:
        return check(Answer.INCONCLUSIVE, f"{text}, over {allowed:g} % but not for certain, {sizes}", rise_pct)
    return check(Answer.PASS, f"{text}, not over {allowed:g} %, {sizes}", rise_pct)
