"""What a long run costs afterwards: `python tests/bench_evidence.py [--hours 48] [--per-minute 70]`.

Step 7 of a run with a request log and samples of that length, fetched once an hour: the run's page, a seal, the board,
and `verify`, which reads all of it again; in seconds, each the first time in this process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sealed_run import (
    SLICE,
    STARTED_S,
    keep_slice,
    log_lines,
    observe,
    open_and_keep,
    plan_of,
    sample_lines,
    set_weight,
)

from runbook_lib.audit.seal import seal
from runbook_lib.audit.verify import verify
from runbook_lib.mac.vault import Vault
from runbook_lib.records.evidence import Run
from runbook_lib.show.board import write_board
from runbook_lib.show.page import write_page

PROJECT = Path(__file__).resolve().parents[1]
T = TypeVar("T")
HOUR_S, SAMPLE_EVERY_S = 3600, 5


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hours", type=int, default=48)
    options.add_argument("--per-minute", type=int, default=70)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("notebooks", "parameters"):
            shutil.copytree(PROJECT / name, Path(folder) / name)
        os.chdir(folder)
        run = long_run(given.hours, given.per_minute)
        print(f"{given.hours} h at {given.per_minute} requests a minute, {len(run.slices('log'))} slices of the log")
        timed("the run's page", lambda: write_page(run.directory))
        timed("seal", lambda: seal(run, Vault(None)))
        timed("the board", lambda: write_board(run.directory.parents[1]))
        found = timed("verify", lambda: verify(run.directory))
    print(found.lines()[-1], f"({sum(a.recomputed_count for a in found.verdicts)} checks recomputed)")
    return 0 if not found.problems and not any(again.differs for again in found.verdicts) else 1


def long_run(hours: int, per_minute: int) -> Run:
    """An observation of so many hours with its verdict, not sealed yet."""
    plan, run = plan_of(observe_s=hours * HOUR_S, window_s=900), Run.start("hk")
    open_and_keep(run, "07_observe", plan)
    set_weight(run, "07_observe", 8, SLICE, STARTED_S)
    for hour in range(hours):
        began_s = STARTED_S + hour * HOUR_S
        keep_slice(run, "log", log_lines(plan, SLICE, began_s, 60 * per_minute, every_s=60 / per_minute))
        keep_slice(run, "samples", sample_lines(began_s, HOUR_S // SAMPLE_EVERY_S))
    observe(run, plan)
    return run


def timed(what: str, do: Callable[[], T]) -> T:
    started = time.perf_counter()
    answer = do()
    print(f"{what:<16} {time.perf_counter() - started:6.2f} s")
    return answer


if __name__ == "__main__":
    sys.exit(main())
