"""The judge's tables from any access log, offline: plain or gz, ours, JSON or combined."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from runbook_lib import accesslog
from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.analysis.partitions import read_partitions
from runbook_lib.errors import EvidenceError
from runbook_lib.judging.judge import judge_windows
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.verdict import Verdict

UPSTREAMS = {"127.0.0.1:18789": "primary", "127.0.0.1:18890": "canary"}  # the article's ports


@dataclass(frozen=True)
class Analysis:
    """What a log says: totals and quantiles by gateway (see counts), the lines that were read, and the verdict."""

    counts: LogCounts
    verdict: Verdict

    @property
    def lines(self) -> pd.DataFrame:
        """How the lines were read: format, lines_count; `unparsed` last."""
        rows = [*self.counts.formats.items(), ("unparsed", self.counts.unparsed_count)]
        return pd.DataFrame(rows, columns=["format", "lines_count"])

    @property
    def totals(self) -> pd.DataFrame:
        """One row a gateway: requests, share, 5xx attempts with their interval, failed connects, taken over."""
        columns = ["gateway", "requests_count", "share_ratio", "attempts_count", "attempts_5xx_count", "error_ratio"]
        columns += [
            "error_low_ratio",
            "error_high_ratio",
            "failed_connects_count",
            "taken_over_count",
            "in_flight_count",
        ]
        return self.counts.totals(windows=False)[columns]

    @property
    def quantiles(self) -> pd.DataFrame:
        return self.counts.quantiles(windows=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "answer": str(self.verdict.answer),
            "reasons": self.verdict.reasons,
            "checks": self.verdict.table().to_dict("records"),
            "lines": self.lines.to_dict("records"),
            "missing": sorted(self.counts.missing),
            "totals": self.totals.to_dict("records"),
            "quantiles": self.quantiles.to_dict("records"),
        }


def analyse(
    paths: Sequence[Path],
    upstreams: dict[str, str] | None = None,
    thresholds: Thresholds | None = None,
    window_s: int = 900,
    executor: Executor | None = None,
) -> Analysis:
    """Read one log (its rotated files in any order) and judge it; with an executor, in partitions that it reads.

    Raises EvidenceError where a file cannot be read.
    """
    upstreams = upstreams or UPSTREAMS
    try:
        if executor:
            counts = read_partitions(executor, paths, upstreams, window_s)
        else:
            counts = accesslog.read(list(paths), upstreams=upstreams, window_s=window_s, growing=False)
    except OSError as error:
        named = error.filename or ", ".join(map(str, paths))
        raise EvidenceError(f"{named}: {error.strerror or error}; nothing was judged") from None
    except (EOFError, zlib.error) as error:
        raise EvidenceError(f"{', '.join(map(str, paths))}: cut or damaged: {error}; nothing was judged") from None
    return Analysis(counts, judge_windows(counts, thresholds or Thresholds()))
