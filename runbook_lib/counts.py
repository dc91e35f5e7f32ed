"""What the judge keeps of an access log: integer counts, exact, mergeable and small.

    times     (window, revision, gateway, metric)   -> how often each whole millisecond
    ticks     (revision, gateway, what)             -> how often in each tick
    workers   (window, revision, pid, gateway)      -> how often each response time, two digits kept

A window is `window_s` long and starts at a multiple of it since 1970; a tick is a part of a window. A
request belongs to the window in which it ended, for that is when nginx logs it.

Times are those of attempts at a gateway, and of whole requests by the gateway they were meant for:

    connect      only connects of at least 1 ms: a reused connection logs 0 and is counted apart
    header       until the first byte of an answer
    response     until the last byte, where there was a header
    waited       how long an attempt went without a header after it had connected, until somebody gave up
    request      all that nginx knows of the request
    long_lived   requests with status 101, or of over ten minutes: neither in response nor in request
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runbook_lib.errors import EvidenceError
from runbook_lib.logcursor import Cursor
from runbook_lib.logfields import NOTHING, Ints
from runbook_lib.logrows import GATEWAYS, NONE, Names, Rows
from runbook_lib.tally import Cells, Group, Tally

if TYPE_CHECKING:  # pandas takes longer to import than 20,000 lines take to read
    import pandas as pd

METRICS = ("connect", "header", "response", "waited", "request", "long_lived")
TOTALS = (
    "requests",  # meant for this gateway
    "started",  # the same, in the tick in which they began
    "answers_5xx",  # what the client saw, by the gateway it was meant for
    "aborted_499",
    "upgraded_101",
    "taken_over",  # meant for this gateway, the last attempt was at another one
    "own_5xx",  # nginx answered by itself and asked no gateway
    "attempts",  # at this gateway
    "attempts_5xx",
    "failed_connects",
    "no_live",  # nginx found no live upstream in the group
    "unanswered",  # connected, but the client gave up before a header came
    "zero_connects",  # logged as 0 ms: a reused connection, or a connect under half a millisecond
)
LONG_LIVED_MS = 600_000
MAGIC = "openclaw log counts 1"
SAMPLES_COUNT = 5


def tick_of(window_s: int) -> int:
    """The longest tick that divides a window into 60 parts or more, at least one second."""
    return next(s for s in range(max(1, window_s // 60), 0, -1) if window_s % s == 0)


class LogCounts:
    """Counts of one log or of many; see the module."""

    def __init__(self, window_s: int) -> None:
        if window_s < 1:
            raise ValueError(f"a window lasts at least one second, not {window_s}")
        self.window_s, self.tick_s = window_s, tick_of(window_s)
        self.times, self.ticks, self.workers = Tally(), Tally(), Tally()
        self.lines_count, self.unparsed_count = 0, 0
        self.formats: dict[str, int] = {}
        """Lines by the format they were read as; `unknown` where there was none."""
        self.missing: set[str] = set()
        """Fields that some log did not have, by our names."""
        self.samples: list[str] = []
        """A few of the lines that could not be parsed."""
        self.cursor: Cursor | None = None
        """Where the read that made these counts ended; neither this nor the next two are saved or merged."""
        self.left_bytes = 0
        self.lost = False

    @property
    def unparsed_ratio(self) -> float:
        return self.unparsed_count / self.lines_count if self.lines_count else 0.0

    def merge(self, other: LogCounts) -> LogCounts:
        """Add `other` to this one; any order gives the same. ValueError if the windows differ in length."""
        if self.window_s != other.window_s:
            raise ValueError(f"windows of {self.window_s} s and of {other.window_s} s cannot be merged")
        for mine, theirs in zip(self._tallies(), other._tallies(), strict=True):
            mine.update(theirs)
        self.lines_count += other.lines_count
        self.unparsed_count += other.unparsed_count
        for name, count in other.formats.items():
            self.formats[name] = self.formats.get(name, 0) + count
        self.missing |= other.missing
        self.remember(other.samples)
        return self

    def remember(self, samples: Iterable[str]) -> None:
        """The first few in sorted order: the same whatever the order they came in."""
        self.samples = sorted({*self.samples, *samples})[:SAMPLES_COUNT]

    def _tallies(self) -> tuple[Tally, Tally, Tally]:
        return self.times, self.ticks, self.workers

    def select(self, revision: str | None = None, start_s: float = 0, end_s: float = float("inf")) -> LogCounts:
        """Only one configuration revision, and only windows that start in [start_s, end_s) since 1970."""
        picked = LogCounts(self.window_s)
        picked.lines_count, picked.unparsed_count = self.lines_count, self.unparsed_count
        picked.formats, picked.missing, picked.samples = (
            dict(self.formats),
            set(self.missing),
            list(self.samples),
        )
        for mine, theirs in ((self.times, picked.times), (self.workers, picked.workers)):
            for group, values, counts in mine.items():
                if start_s <= int(group[0]) < end_s and revision in (None, group[1]):
                    theirs.add(group, values, counts)
        for group, ticks, counts in self.ticks.items():
            window = ticks * self.tick_s // self.window_s * self.window_s
            inside = (window >= start_s) & (window < end_s)
            if revision in (None, group[0]):
                picked.ticks.add(group, ticks[inside], counts[inside])
        return picked

    @property
    def revisions(self) -> list[str]:
        """The configuration revisions in the order in which they first answered."""
        first: dict[str, int] = {}
        for (revision, _, what), ticks, _ in self.ticks.items():
            if what == "requests" and revision != "-" and len(ticks):
                first[str(revision)] = min(first.get(str(revision), int(ticks[0])), int(ticks[0]))
        return sorted(first, key=lambda name: (first[name], name))

    def series(self, gateway: str, what: str) -> dict[int, int]:
        """Tick number -> count of one of TOTALS, all revisions together."""
        found: dict[int, int] = {}
        for (_, of, name), ticks, counts in self.ticks.items():
            if (of, name) == (gateway, what):
                for tick, count in zip(ticks.tolist(), counts.tolist(), strict=True):
                    found[tick] = found.get(tick, 0) + count
        return found

    def total(self, gateway: str, what: str) -> int:
        return sum(self.series(gateway, what).values())

    def histograms(self, gateway: str, *metrics: str) -> dict[int, tuple[Ints, Ints]]:
        """Window start in seconds since 1970 -> (milliseconds in rising order, counts), revisions together."""
        together = Tally()
        for (window, _, of, metric), values, counts in self.times.items():
            if of == gateway and metric in metrics:
                together.add((window,), values, counts)
        return {int(window): (values, counts) for (window,), values, counts in together.items()}

    def totals(self, *, windows: bool = True) -> pd.DataFrame:
        """See logframes.totals."""
        from runbook_lib import logframes

        return logframes.totals(self, windows=windows)

    def quantiles(self, *, windows: bool = True) -> pd.DataFrame:
        """See logframes.quantiles."""
        from runbook_lib import logframes

        return logframes.quantiles(self, windows=windows)

    def to_bytes(self) -> bytes:
        """The same counts give the same bytes: gz of one line of JSON and three tables of integers."""
        header = {
            "what": MAGIC,
            "window_s": self.window_s,
            "lines_count": self.lines_count,
            "unparsed_count": self.unparsed_count,
            "formats": self.formats,
            "missing": sorted(self.missing),
            "samples": self.samples,
        }
        tables = [tally.dump() for tally in self._tallies()]
        header["tables"] = [{"groups": groups, "bytes": len(content)} for groups, content in tables]
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        return gzip.compress(text + b"".join(content for _, content in tables), 6, mtime=0)

    @classmethod
    def from_bytes(cls, content: bytes) -> LogCounts:
        """The inverse of to_bytes; EvidenceError if these are not such counts."""
        try:
            text, _, rest = gzip.decompress(content).partition(b"\n")
            header: dict[str, Any] = json.loads(text)
            if header["what"] != MAGIC:
                raise ValueError(header["what"])
            counts = cls(header["window_s"])
            counts.lines_count, counts.unparsed_count = header["lines_count"], header["unparsed_count"]
            counts.formats, counts.missing = header["formats"], set(header["missing"])
            counts.samples = header["samples"]
            for tally, table in zip(counts._tallies(), header["tables"], strict=True):
                tally.load(table["groups"], rest[: table["bytes"]])
                rest = rest[table["bytes"] :]
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise EvidenceError(f"these are not the counts of a log: {error}") from error
        return counts

    def save(self, path: Path) -> None:
        path.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> LogCounts:
        """EvidenceError names the file if it cannot be believed."""
        try:
            return cls.from_bytes(path.read_bytes())
        except EvidenceError as error:
            raise EvidenceError(f"{path}: {error}") from error


Part = tuple[str, Group, Ints, Ints]


def parts_of(rows: Rows, names: Names, window_s: int) -> Iterator[Part]:
    """(table, group, values, counts) of some rows: what a LogCounts is made of."""
    revisions = [name.decode("ascii", "backslashreplace") or "-" for name in names.revisions]
    window, a_window = rows.at_ms // (window_s * 1000), rows.a_at_ms // (window_s * 1000)
    by_request = Cells.of((window, rows.revision, rows.target))
    by_attempt = Cells.of((a_window, rows.a_revision, rows.a_gateway))
    by_worker = Cells.of((a_window, rows.a_revision, rows.a_pid, rows.a_gateway))
    answered, connected = rows.a_header_ms >= 0, rows.a_connect_ms >= 0
    lasting = (rows.status == 101) | (rows.request_ms > LONG_LIVED_MS)
    responded = answered & (rows.a_response_ms >= 0) & (rows.a_status != 101) & (rows.a_response_ms <= LONG_LIVED_MS)
    measured = (
        ("connect", by_attempt, rows.a_connect_ms, rows.a_connect_ms > 0),
        ("header", by_attempt, rows.a_header_ms, answered),
        ("response", by_attempt, rows.a_response_ms, responded),
        ("waited", by_attempt, rows.a_response_ms, connected & ~answered & (rows.a_response_ms >= 0)),
        ("request", by_request, rows.request_ms, ~lasting & (rows.request_ms >= 0)),
        ("long_lived", by_request, rows.request_ms, lasting & (rows.request_ms >= 0)),
    )
    for metric, cells, ms, mask in measured:
        for (start, revision, gateway), values, counts in cells.histograms(ms, mask):
            yield "times", (start * window_s, revisions[revision], GATEWAYS[gateway], metric), values, counts
    for (start, revision, pid, gateway), values, counts in by_worker.histograms(
        two_digits(rows.a_response_ms), responded & (rows.a_pid >= 0)
    ):
        yield "workers", (start * window_s, revisions[revision], pid, GATEWAYS[gateway]), values, counts
    yield from _ticks(rows, revisions, tick_of(window_s) * 1000)


def _ticks(rows: Rows, revisions: list[str], tick_ms: int) -> Iterator[Part]:
    alone = rows.served == NONE
    asked = rows.a_group == 0
    requests = Cells.of((rows.revision, rows.target, rows.at_ms // tick_ms))
    starts = Cells.of((rows.revision, rows.target, (rows.at_ms - np.maximum(rows.request_ms, 0)) // tick_ms))
    attempts = Cells.of((rows.a_revision, rows.a_gateway, rows.a_at_ms // tick_ms))
    counted = (
        (requests, "requests", None),
        (starts, "started", None),
        (requests, "answers_5xx", rows.status >= 500),
        (requests, "aborted_499", rows.status == 499),
        (requests, "upgraded_101", rows.status == 101),
        (requests, "taken_over", (rows.served != rows.target) & ~alone & (rows.target != NONE)),
        (requests, "own_5xx", alone & (rows.status >= 500)),
        (attempts, "attempts", None),
        (attempts, "attempts_5xx", rows.a_status >= 500),
        (attempts, "failed_connects", asked & (rows.a_connect_ms < 0) & (rows.a_status >= 0)),
        (attempts, "no_live", ~asked),
        (attempts, "unanswered", (rows.a_connect_ms >= 0) & (rows.a_header_ms < 0) & (rows.a_status == NOTHING)),
        (attempts, "zero_connects", rows.a_connect_ms == 0),
    )
    groups = {id(cells): cells.groups() for cells, _, _ in counted}
    for cells, what, mask in counted:
        if mask is not None and not mask.any():
            continue
        every = cells.count(mask)
        for (revision, gateway), place in groups[id(cells)]:
            found = np.flatnonzero(every[place])
            if len(found):
                group = (revisions[revision], GATEWAYS[gateway], what)
                yield "ticks", group, cells.table[-1][place][found], every[place][found]


TWO_DIGITS = np.array([n if n < 100 else n // 10 * 10 if n < 1000 else n // 100 * 100 for n in range(10_000)])


def two_digits(ms: Ints) -> Ints:
    """Cut to the two leading digits: 0 to 99 as they are, 1234 becomes 1200."""
    cut = TWO_DIGITS[np.clip(ms, 0, len(TWO_DIGITS) - 1)]
    large = np.flatnonzero(ms >= len(TWO_DIGITS))
    if len(large):
        step = 10 ** np.floor(np.log10(ms[large]) - 1).astype(np.int64)
        cut[large] = ms[large] // step * step
    return cut
