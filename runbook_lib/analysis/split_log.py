"""A log without a canary, as if there had been one: primary's own traffic dealt to two gateways by the slice.

Each count is dealt by itself: of n attempts that took 12 ms the canary gets a binomial part of n. For one metric
this is the same as a coin for each request, which is what the split in nginx is; no rule of the judge looks at two
metrics of one request. Both halves are equally healthy, so whatever a rule says against the canary is a false alarm.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from runbook_lib.accesslog.counting import TOTALS
from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.fields import Ints
from runbook_lib.accesslog.names import GATEWAYS

REVISION = "dealt"
COLUMN = {what: number for number, what in enumerate(TOTALS)}
Histogram = tuple[Ints, Ints]


class Dealt:
    """A stretch of a log at the resolution of one look, for a fault to change and for the judge to read.

    times     (window, gateway, metric) -> (milliseconds, counts)
    workers   (window, pid, gateway)    -> the same of response times
    ticks     gateway -> one row a tick from `start_s` on, one column for each of TOTALS
    """

    def __init__(self, counts: LogCounts, start_s: int, end_s: int) -> None:
        self.look_s, self.tick_s, self.start_s, self.end_s = counts.window_s, counts.tick_s, start_s, end_s
        self.times: dict[tuple[int, str, str], Histogram] = {}
        self.workers: dict[tuple[int, int, str], Histogram] = {}
        size = (end_s - start_s) // counts.tick_s
        self.ticks = {gateway: np.zeros((size, len(TOTALS)), np.int64) for gateway in GATEWAYS}
        self.formats, self.missing = dict(counts.formats), counts.missing - {"openclaw_target"}
        """Dealing says whom a request was meant for, so the log need not."""

    @classmethod
    def of(cls, counts: LogCounts, start_s: int, end_s: int, slice_pct: float, seed: int) -> Dealt:
        """Deal what primary served in [start_s, end_s); the log's own canary is left out. One seed, one split."""
        self, rng, share = cls(counts, start_s, end_s), np.random.default_rng([seed, start_s]), slice_pct / 100
        for (window, _, gateway, metric), values, found in counts.times.items():
            if start_s <= int(window) < end_s and gateway == "primary":
                for name, part in _dealt(found, share, rng):
                    self.times[int(window), name, str(metric)] = _sum(
                        self.times.get((int(window), name, str(metric))), (values[part > 0], part[part > 0])
                    )
        for (window, _, pid, gateway), values, found in counts.workers.items():
            if start_s <= int(window) < end_s and gateway == "primary":
                for name, part in _dealt(found, share, rng):
                    self.workers[int(window), int(pid), name] = _sum(
                        self.workers.get((int(window), int(pid), name)), (values[part > 0], part[part > 0])
                    )
        for (_, gateway, what), ticks, found in counts.ticks.items():
            place = ticks - start_s // counts.tick_s
            inside = (place >= 0) & (place < len(self.ticks["primary"]))
            if gateway != "canary":
                self.ticks[str(gateway)][place[inside], COLUMN[str(what)]] += found[inside]
        whole = self.ticks["primary"]
        self.ticks["canary"] = canary = rng.binomial(whole, share)
        # the bad ones are part of all, so they are dealt together with the others
        good = rng.binomial(whole[:, COLUMN["attempts"]] - whole[:, COLUMN["attempts_5xx"]], share)
        canary[:, COLUMN["attempts"]] = canary[:, COLUMN["attempts_5xx"]] + good
        whole -= canary
        return self

    def copy(self) -> Dealt:
        """To inject a fault into; histograms are replaced and never changed, so they are shared."""
        other = copy.copy(self)
        other.times, other.workers = dict(self.times), dict(self.workers)
        other.ticks = {gateway: matrix.copy() for gateway, matrix in self.ticks.items()}
        return other

    def place(self, at_s: int) -> int:
        """The row of `ticks` that begins at `at_s`."""
        return (at_s - self.start_s) // self.tick_s

    def counts(self, window_s: int, first: int, last: int, *, by_worker: bool = False) -> LogCounts:
        """What the judge would have read of [first, last) in windows of `window_s`, a multiple of a look."""
        counts = LogCounts(window_s)
        for (window, gateway, metric), histogram in self.times.items():
            if first <= window < last:
                counts.times.add((window // window_s * window_s, REVISION, gateway, metric), *histogram)
        for (window, pid, gateway), histogram in self.workers.items():
            if by_worker and first <= window < last:
                counts.workers.add((window // window_s * window_s, REVISION, pid, gateway), *histogram)
        rows = np.arange(self.place(first), self.place(last))
        numbers = (self.start_s + rows * self.tick_s) // counts.tick_s
        for gateway, matrix in self.ticks.items():
            for what, column in COLUMN.items():
                found = matrix[rows, column]
                some = found > 0
                counts.ticks.add((REVISION, gateway, what), numbers[some], found[some])
        counts.formats, counts.missing = dict(self.formats), set(self.missing)
        counts.lines_count = sum(int(m[rows, COLUMN["requests"]].sum()) for m in self.ticks.values())
        return counts


def _dealt(found: Ints, share: float, rng: np.random.Generator) -> Iterator[tuple[str, Ints]]:
    canary = rng.binomial(found, share)
    yield "canary", canary
    yield "primary", found - canary


def _sum(one: Histogram | None, other: Histogram) -> Histogram:
    """Two histograms as one; values may repeat, which every reader of them allows."""
    return other if one is None else (np.concatenate((one[0], other[0])), np.concatenate((one[1], other[1])))
