"""The judge's tables from any access log, offline, and what could not be judged of it and why."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.detection import Hints
from runbook_lib.accesslog.reader import NO_HINTS
from runbook_lib.analysis.named_log import read_log
from runbook_lib.judging.judge import judge_log, judge_windows
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.verdict import Answer, Check, Hop, Verdict

UPSTREAMS = {"127.0.0.1:18789": "primary", "127.0.0.1:18890": "canary"}  # the article's ports
JUDGED = {
    "requests, and the 5xx that clients saw": ("status",),
    "request p95": ("request_time",),
    "5xx of each gateway": ("upstream_addr", "upstream_status"),
    "connect p95 and failed connects": ("upstream_addr", "upstream_connect_time"),
    "header p95": ("upstream_addr", "upstream_header_time"),
    "response p95": ("upstream_addr", "upstream_response_time"),
    "whom a request was meant for, and who took over": ("upstream_addr", "openclaw_target"),
    "before and after a reload": ("openclaw_revision",),
    "each nginx worker": ("pid",),
}
"""What can be said of a log, and the fields that it takes."""
LISTED_COUNT = 10


@dataclass(frozen=True)
class Analysis:
    """What a log says: totals and quantiles by gateway (see counts), the lines that were read, and the verdict."""

    counts: LogCounts
    verdict: Verdict
    hints: Hints = NO_HINTS

    @property
    def lines(self) -> pd.DataFrame:
        """How the lines were read: format, lines_count; `unparsed` last."""
        rows = [*self.counts.formats.items(), ("unparsed", self.counts.unparsed_count)]
        return pd.DataFrame(rows, columns=["format", "lines_count"])

    @property
    def judged(self) -> pd.DataFrame:
        """What could be judged and what not: what, judged (yes or no), why_not."""
        rows = []
        for what, needed in JUDGED.items():
            absent = [f"${field}" for field in needed if field in self.counts.missing]
            why_not = f"not in every line: {', '.join(absent)}" if absent else ""
            why_not = why_not if self.counts.formats else "no line could be read"
            rows.append((what, "no" if why_not else "yes", why_not))
        return pd.DataFrame(rows, columns=["what", "judged", "why_not"])

    @property
    def notes(self) -> list[str]:
        """What a reader has to know besides: what was not read, and addresses that nobody named."""
        found = [f"{count} lines: {note}" for note, count in sorted(self.counts.notes.items())]
        declared = [log.name for log in self.hints.formats]
        if declared and not set(declared) & set(self.counts.formats):
            found.append(f"no line is of the declared log_format: {', '.join(declared)}")
        if self.counts.samples:
            found.append(f"a line that could not be parsed: {self.counts.samples[0]!r}")
        return found + ([_unnamed(self.counts)] if self.counts.met else [])

    @property
    def totals(self) -> pd.DataFrame:
        """One row a gateway: requests, share, 5xx that clients saw, 5xx attempts with their interval, and so on."""
        columns = [
            "gateway",
            "requests_count",
            "share_ratio",
            "answers_5xx_count",
            "attempts_count",
            "attempts_5xx_count",
        ]
        columns += ["error_ratio", "error_low_ratio", "error_high_ratio"]
        columns += ["failed_connects_count", "taken_over_count", "in_flight_count"]
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
            "judged": self.judged.to_dict("records"),
            "notes": self.notes,
            "upstreams_not_named": dict(self.counts.met.most_common()),
            "totals": self.totals.to_dict("records"),
            "quantiles": self.quantiles.to_dict("records"),
        }


def analyse(
    paths: Sequence[Path],
    upstreams: dict[str, str] | None = None,
    thresholds: Thresholds | None = None,
    window_s: int = 900,
    executor: Executor | None = None,
    hints: Hints = NO_HINTS,
) -> Analysis:
    """Read one log (its rotated files in any order) and judge it; with an executor, in partitions that it reads.

    Without `upstreams` the article's ports are the gateways; a log with other addresses is then not judged, for whether
    they are the gateways is not known. Raises EvidenceError where a file cannot be read.
    """
    thresholds = thresholds or Thresholds()
    counts = read_log(paths, upstreams or UPSTREAMS, window_s, hints, executor)
    if counts.met and not upstreams:
        return Analysis(counts, Verdict.of([judge_log(counts, thresholds), _judge_addresses(counts)]), hints)
    return Analysis(counts, judge_windows(counts, thresholds), hints)


def _judge_addresses(counts: LogCounts) -> Check:
    met = counts.met.total()
    remedy = "name the gateways with --region, or with --upstream ADDRESS=primary and --upstream ADDRESS=canary"
    return Check(
        "upstreams", Answer.INCONCLUSIVE, f"upstreams: {_unnamed(counts)}", Hop.RUNBOOK, met, 0, "", met, remedy
    )


def _unnamed(counts: LogCounts) -> str:
    listed = ", ".join(f"{address} ({count})" for address, count in counts.met.most_common(LISTED_COUNT))
    more = f" and {len(counts.met) - LISTED_COUNT} more" if len(counts.met) > LISTED_COUNT else ""
    example = counts.met.most_common(1)[0][0]
    return f"nobody named these addresses: {listed}{more}; --upstream {example}=primary says that it is a gateway's"
