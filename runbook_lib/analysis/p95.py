"""The p95 hunt: from a log or a run to the hop, the worker, the path and the requests that make p95 jump.

Frames of single requests, for a few hours of log; the judge works on counts (accesslog) and has no such limit.
"""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from runbook_lib.accesslog.formats import LOG_FIELDS
from runbook_lib.accesslog.stream import unpacked
from runbook_lib.errors import EvidenceError
from runbook_lib.mac.mac import Mac
from runbook_lib.plan import reading
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.steps.collect import collect_log

LASTING_COUNT = 3
HOPS = {
    "connect_ms": "nginx to gateway",
    "header_ms": "gateway thinks",
    "sends_ms": "gateway sends",
    "nginx_ms": "nginx",
}
TIMES = {"upstream_connect_time": "connect", "upstream_header_time": "header", "upstream_response_time": "response"}


def slices_of(run: Run) -> list[Path]:
    """The slices of the judge's log that a run has fetched."""
    return run.slices("log")


def read_requests(sources: Iterable[Path]) -> pd.DataFrame:
    """The judge's log, one row a request; times in ms are those of the last attempt.

    at (aware UTC), gateway, revision, status, address, attempts_count, connect_ms, header_ms, response_ms,
    sends_ms (response minus header), request_ms, nginx_ms (request minus response: nginx and the client), connection,
    connection_requests, worker_pid, request_id, method, path. `attrs["skipped_count"]` says how many lines are not in
    this format. Raises EvidenceError where none is, or a file cannot be unpacked.
    """
    try:
        raw = b"".join(unpacked(path.read_bytes(), str(path)) for path in sources)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise EvidenceError(f"this log cannot be read: {error}") from None
    frame = pd.read_csv(
        io.BytesIO(raw), sep="\t", names=list(LOG_FIELDS), dtype=str, na_filter=False, quoting=3, on_bad_lines="skip"
    )
    at = pd.to_datetime(pd.to_numeric(frame["msec"], errors="coerce"), unit="s", utc=True)
    frame = frame[at.notna()]
    if frame.empty:
        raise EvidenceError("no line of these files is in the judge's format; `rollout analyse` reads other formats")
    lines_count = sum(1 for line in raw.splitlines() if line)
    last = {
        name: frame[name].str.replace(" : ", ", ").str.rsplit(", ", n=1).str[-1] for name in [*TIMES, "upstream_addr"]
    }
    times = {f"{short}_ms": pd.to_numeric(last[name], errors="coerce") * 1000 for name, short in TIMES.items()}
    request_ms = pd.to_numeric(frame["request_time"], errors="coerce") * 1000
    requests = pd.DataFrame(
        {
            "at": at[frame.index],
            "gateway": frame["openclaw_target"],
            "revision": frame["openclaw_revision"],
            "status": frame["status"],
            "address": last["upstream_addr"],
            "attempts_count": frame["upstream_addr"].str.count(r", | : ") + 1,
            **times,
            "sends_ms": (times["response_ms"] - times["header_ms"]).clip(lower=0),
            "request_ms": request_ms,
            "nginx_ms": (request_ms - times["response_ms"]).clip(lower=0),
            "connection": frame["connection"],
            "connection_requests": frame["connection_requests"],
            "worker_pid": frame["pid"],
            "request_id": frame["request_id"],
            "method": frame["request_method"],
            "path": frame["uri"],
        }
    ).reset_index(drop=True)
    requests.attrs["skipped_count"] = lines_count - len(requests)
    return requests


def p95_over_time(requests: pd.DataFrame, every: str = "1min", metric: str = "request_ms") -> pd.DataFrame:
    """p95 by time and gateway: at, gateway, requests_count, p95_ms."""
    grouped = requests.groupby([pd.Grouper(key="at", freq=every), "gateway"])[metric]
    return grouped.agg(requests_count="count", p95_ms=lambda s: s.quantile(0.95, "higher")).reset_index().dropna()


def find_jump(
    requests: pd.DataFrame, every: str = "1min", metric: str = "request_ms"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The requests before and after the steepest rise of p95 that lasts, split at the start of that period.

    A period that is quick by chance has a rise behind it, too: the median of the next periods has to be up as well.
    """
    over_time = p95_over_time(requests, every, metric)
    enough = over_time[over_time["requests_count"] >= 20]
    by_gateway = enough.groupby("gateway")["p95_ms"]
    both = pd.concat([by_gateway.pct_change(), by_gateway.transform(_lasting_rise)], axis=1)
    rise = both.min(axis=1, skipna=False).fillna(-1)
    if (rise <= 0).all():
        return requests.iloc[:0], requests
    at = enough["at"].iloc[int(rise.to_numpy().argmax())]
    return requests[requests["at"] < at], requests[requests["at"] >= at]


def _lasting_rise(p95_ms: pd.Series[float]) -> pd.Series[float]:
    """The median of LASTING_COUNT periods from each on, relative to that of those before it."""
    after = p95_ms[::-1].rolling(LASTING_COUNT, min_periods=1).median()[::-1]
    return after / p95_ms.shift().rolling(LASTING_COUNT, min_periods=1).median() - 1


def by_hop(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """p95 of each hop by gateway, before and after: gateway, hop, before_ms, after_ms, rise_ms; the worst first."""
    rows = [
        (gateway, title, _p95(before[before["gateway"] == gateway][hop]), _p95(part[hop]))
        for gateway, part in after.groupby("gateway")
        for hop, title in HOPS.items()
    ]
    frame = pd.DataFrame(rows, columns=["gateway", "hop", "before_ms", "after_ms"])
    frame = frame.assign(rise_ms=frame["after_ms"] - frame["before_ms"].fillna(0))
    return frame.sort_values("rise_ms", ascending=False, ignore_index=True)


def by(before: pd.DataFrame, after: pd.DataFrame, column: str, metric: str = "request_ms") -> pd.DataFrame:
    """Who makes the slow requests: by `column` (worker_pid, path, gateway, status, address, …), the most slow first.

    column, requests_count, slow_count (over the p95 from before the jump), slow_pct, p95_ms.
    """
    limit = _p95(before[metric] if len(before) else after[metric])
    grouped = after.assign(slow=after[metric] > limit).groupby(column)
    table = grouped.agg(
        requests_count=(metric, "size"), slow_count=("slow", "sum"), p95_ms=(metric, _p95)
    ).reset_index()
    table = table.assign(slow_pct=100 * table["slow_count"] / table["requests_count"])
    return table.sort_values("slow_count", ascending=False, ignore_index=True)


def slowest(requests: pd.DataFrame, count: int = 20, metric: str = "request_ms") -> pd.DataFrame:
    """The slowest requests, with what each hop took, and the id to look for in the gateway's own log."""
    columns = ["at", "gateway", "status", "request_ms", *HOPS, "attempts_count", "worker_pid", "path", "request_id"]
    return requests.nlargest(count, metric)[columns].reset_index(drop=True)


def _p95(values: pd.Series[float]) -> float:
    return float(values.quantile(0.95, "higher"))


def sources(region: str, log: str = "", live: bool = False) -> list[Path]:
    """The files to hunt in: a log, or what the region's current run fetched; `live` fetches the newest lines first."""
    if log:
        return [Path(log)]
    run = Run.current(region)
    if run is None:
        raise EvidenceError(f"{region} has no run; name a log instead")
    if live:
        with Mac.connect(reading.load(region), run.ledger("debug_p95")) as mac:
            collect_log(mac, run)
            mac.ledger.append(Kind.FETCHED, "the newest lines of the log")
    return slices_of(run)
