"""What the judge keeps of an access log: integer counts, exact, mergeable and small.

    times     (window, revision, gateway, metric)   -> how often each whole millisecond
    ticks     (revision, gateway, what)             -> how often in each tick
    workers   (window, revision, pid, gateway)      -> how often each response time, two digits kept

A window is `window_s` long and starts at a multiple of it since 1970; a tick is a part of a window. A
request belongs to the window in which it ended, for that is when nginx logs it.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runbook_lib.accesslog.counting import tick_of
from runbook_lib.accesslog.cursor import Cursor
from runbook_lib.accesslog.fields import Ints
from runbook_lib.accesslog.tally import Tally
from runbook_lib.errors import EvidenceError

if TYPE_CHECKING:  # pandas takes longer to import than 20,000 lines take to read
    import pandas as pd

MAGIC = "openclaw log counts 1"
SAMPLES_COUNT = 5
NOTHING_COUNTED = (np.zeros(0, np.int64), np.zeros(0, np.int64))


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
        self.notes: Counter[str] = Counter()
        """What was not read of how many lines, and why."""
        self.met: Counter[str] = Counter()
        """Attempts at addresses that the caller did not name."""
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
        self.notes += other.notes
        self.met += other.met
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
        picked.formats, picked.missing, picked.samples = dict(self.formats), set(self.missing), list(self.samples)
        picked.notes, picked.met = self.notes.copy(), self.met.copy()
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

    def series(self, gateways: Sequence[str], what: str) -> tuple[Ints, Ints]:
        """Tick numbers in rising order, and how often one of TOTALS was counted in each; all revisions together."""
        together = Tally()
        for (_, gateway, name), ticks, counts in self.ticks.items():
            if gateway in gateways and name == what:
                together.add((), ticks, counts)
        return next(((ticks, counts) for _, ticks, counts in together.items()), NOTHING_COUNTED)

    def total(self, gateway: str, what: str) -> int:
        return int(self.series([gateway], what)[1].sum())

    def histograms(self, gateway: str, *metrics: str) -> dict[int, tuple[Ints, Ints]]:
        """Window start in seconds since 1970 -> (milliseconds in rising order, counts), revisions together."""
        together = Tally()
        for (window, _, of, metric), values, counts in self.times.items():
            if of == gateway and metric in metrics:
                together.add((window,), values, counts)
        return {int(window): (values, counts) for (window,), values, counts in together.items()}

    def totals(self, *, windows: bool = True, confidence: float = 0.99) -> pd.DataFrame:
        """See frames.totals."""
        from runbook_lib.accesslog import frames

        return frames.totals(self, windows=windows, confidence=confidence)

    def quantiles(self, *, windows: bool = True) -> pd.DataFrame:
        """See frames.quantiles."""
        from runbook_lib.accesslog import frames

        return frames.quantiles(self, windows=windows)

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
        header |= {name: dict(found) for name, found in (("notes", self.notes), ("met", self.met)) if found}
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
            counts.notes, counts.met = Counter(header.get("notes", {})), Counter(header.get("met", {}))
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
