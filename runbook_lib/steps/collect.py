"""Fetching what the Mac recorded: the judge's log and the sentinel's samples, each from where the last fetch ended."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from runbook_lib import accesslog
from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.cursor import Cursor, LogFile, head_bytes_wanted, plan_fetch
from runbook_lib.accesslog.stream import unpacked
from runbook_lib.clock import wait_until
from runbook_lib.errors import EvidenceError
from runbook_lib.mac.mac import Mac
from runbook_lib.onmac import script
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import Run, write_whole
from runbook_lib.records.kinds import Kind
from runbook_lib.steps import sentinel

SENTINELS = (Kind.DRAINED, Kind.NOT_DRAINED, Kind.REVERTED)
PATIENCE = 30  # how many times its settle time a step waits for traffic


def collect_log(mac: Mac, run: Run) -> LogCounts:
    """Fetch the new lines of the judge's log, keep them with the run, and return the counts of all so far."""
    _fetch(mac, run, mac.plan.nginx.slim_log, "log")
    slices = run.slices("log")
    folder = run.directory / "evidence" / "log"
    kept = max(folder.glob("counts-*.bin"), default=None)  # of how many slices, so that none is lost or counted twice
    counted = int(kept.stem.partition("-")[2]) if kept else 0
    counts = LogCounts.load(kept) if kept else _read_counts(mac.plan, [b""])
    if counted < len(slices):
        counts = counts.merge(_read_counts(mac.plan, _contents(slices[counted:])))
        write_whole(folder / f"counts-{len(slices):05d}.bin", counts.to_bytes())
        if kept:
            kept.unlink()
    return counts


def settle(
    mac: Mac,
    run: Run,
    revision: str,
    settle_s: float,
    is_enough: Callable[[LogCounts], bool] = lambda counts: True,
    stay: Callable[[], None] = lambda: None,
) -> LogCounts:
    """Let traffic pass under one revision for `settle_s`, and then until it is enough or the plan's wait is over.

    Returns the counts of that revision. Low traffic makes a verdict late, never lenient. `stay` is called often
    enough to keep a lease.
    """
    if mac.dry_run:
        return collect_log(mac, run).select(revision=revision)
    wait(mac, settle_s, stay)
    return wait_until(
        lambda: collect_log(mac, run).select(revision=revision),
        is_enough,
        min(mac.plan.observation.wait_s, PATIENCE * settle_s),
        min(settle_s, 30),
        pause=lambda pause_s: wait(mac, pause_s, stay),
    )


def wait(mac: Mac, wait_s: float, stay: Callable[[], None]) -> None:
    """Wait, and call `stay` often enough to keep a lease."""
    end = time.monotonic() + wait_s
    while (left_s := end - time.monotonic()) > 0:
        stay()
        time.sleep(min(left_s, mac.plan.lease.attended_s / 4))


def collect_samples(mac: Mac, run: Run) -> pd.DataFrame:
    """Fetch the new samples, keep them with the run, and return all so far; columns as in sentinel.parse_samples."""
    _fetch(mac, run, mac.plan.folder.samples, "samples")
    return read_samples(run.slices("samples"))


def read_samples(slices: list[Path]) -> pd.DataFrame:
    """The samples in slices that were kept; columns as in sentinel.parse_samples."""
    return sentinel.parse_samples(b"".join(_contents(slices)))


def collect_events(mac: Mac, run: Run) -> int:
    """Bring what the sentinel did by itself into the ledger; returns how many events were new.

    Each is written once, whenever this was interrupted: the ledger says how many of the kept lines it has.
    """
    _fetch(mac, run, mac.plan.folder.events, "sentinel")
    done = sentinel.parse_events(b"".join(_contents(run.slices("sentinel")))).query("run == @run.name")
    new = done.iloc[len(run.ledger().events(*SENTINELS, step="sentinel")) :]
    if strange := sorted(set(new["event"]) - set(SENTINELS)):
        raise EvidenceError(
            f"{mac.host.name}: {mac.plan.folder.events} has {', '.join(map(repr, strange))}, which no sentinel of ours "
            "writes; look at that file, and who may write it"
        )
    for row in new.to_dict("records"):
        told = {"cause": row["cause"], "why": row["what"], "at_mac": row["at"]}
        run.ledger("sentinel").append(Kind(row["event"]), row["what"], **told)
    return len(new)


def read_slice(path: Path, plan: Plan) -> LogCounts:
    """The counts of one slice of the log that was kept."""
    return _read_counts(plan, _contents([path]))


def _contents(slices: list[Path]) -> list[bytes]:
    return [gzip.decompress(path.read_bytes()) for path in slices]


def _read_counts(plan: Plan, sources: list[bytes]) -> LogCounts:
    window_s = int(plan.observation.window_s)
    return accesslog.read(sources, upstreams=plan.upstreams, window_s=window_s)


def _fetch(mac: Mac, run: Run, path: str, kind: str) -> None:
    """Keep the new whole lines of a rotated file, oldest first, each slice before the cursor moves past it."""
    folder = run.directory / "evidence" / kind
    folder.mkdir(parents=True, exist_ok=True)
    cursor = _cursor(folder)
    hashed = head_bytes_wanted(cursor)
    rows = mac.host.run(script("ask_files.sh"), path, str(hashed)).rows(7)
    files = [LogFile(p, int(d), int(i), int(s), float(m), h, int(n)) for p, d, i, s, m, h, n in rows]
    plan = plan_fetch(files, cursor)
    if plan.lost:
        run.ledger("").append(
            Kind.LOST_LINES, f"{path} was rotated away before it was read", offset=cursor and cursor.offset
        )
    for fetch in plan.fetches:
        is_packed = fetch.file.is_packed
        content = mac.host.read(fetch.file.path, 0 if is_packed else fetch.start)
        content = unpacked(content, fetch.file.path)[fetch.start :] if is_packed else content
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            continue
        number = len(run.slices(kind)) + 1
        write_whole(folder / f"{number:05d}.tsv.gz", gzip.compress(whole, mtime=0))
        file = fetch.file
        reached = Cursor(
            file.device, file.inode, fetch.start + len(whole), file.head_sha256, file.head_bytes, file.modified_s
        )
        write_whole(folder / "cursor.json", json.dumps(asdict(reached)))


def _cursor(folder: Path) -> Cursor | None:
    path = folder / "cursor.json"
    return Cursor(**json.loads(path.read_text())) if path.exists() else None
