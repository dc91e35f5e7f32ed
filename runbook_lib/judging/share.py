"""The canary's share: whether what arrived can be what was asked."""

from __future__ import annotations

import numpy as np

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.names import GATEWAYS
from runbook_lib.judging.ratios import Series, percent
from runbook_lib.statistics import interval
from runbook_lib.verdict import Answer, Check, CheckName, Hop

CONFIDENCE = 0.999
PATIENCE_S = 10  # GitHub's: a request that was begun since may yet be answered, and is in no log before


def judge_share(counts: LogCounts, asked_pct: float) -> Check:
    """Whether the share that arrived can be what was asked: inside the exact binomial bound at CONFIDENCE.

    Counts are of requests whose keys are independent (delivery ids); many requests with one key count as
    one. Too few to tell the share from none at all are inconclusive. So is a share out of bounds in a log of less
    than PATIENCE_S: a gateway that stalls for a moment logs nothing until it goes on.
    """
    canary_count, total_count = arrived(counts)
    name, asked = CheckName.CANARY_SHARE, asked_pct / 100
    low_pct, high_pct = bounds_pct(counts)
    measured = 100 * canary_count / total_count if total_count else None
    text = f"{name}: {canary_count} of {total_count} requests"
    if total_count:
        bounds = f"{100 * CONFIDENCE:g} % interval {percent(low_pct / 100)} to {percent(high_pct / 100)}"
        text += f" are {percent(canary_count / total_count)} ({bounds})"
    text += f", {asked_pct:g} % asked"

    def check(answer: Answer, tail: str, remedy: str = "") -> Check:
        return Check(name, answer, text + tail, Hop.NGINX, measured, asked_pct, "%", total_count, remedy)

    if not total_count:
        return check(Answer.INCONCLUSIVE, ": no requests", "send some traffic")
    if asked == 0:
        ok = canary_count == 0
        return check(Answer.PASS if ok else Answer.FAIL, "", "" if ok else "look at the split and the drain file")
    if not low_pct <= asked_pct <= high_pct:
        elapsed_s = Series.of(counts, GATEWAYS, "requests", "requests").elapsed_s
        if elapsed_s < PATIENCE_S:
            tail = f": not what was asked, but after {elapsed_s} s, not {PATIENCE_S}, some may not be answered yet"
            return check(Answer.INCONCLUSIVE, tail, "wait for the requests in flight")
        return check(Answer.FAIL, ": not what was asked", "look at the split's key, the drain file and max_fails")
    needed = int(np.ceil(np.log((1 - CONFIDENCE) / 2) / np.log1p(-asked))) if asked < 1 else 1
    if total_count < needed:
        return check(Answer.INCONCLUSIVE, f": n={total_count} cannot tell it from none, {needed} are needed")
    return check(Answer.PASS, "")


def arrived(counts: LogCounts) -> tuple[int, int]:
    """Requests that were meant for the canary, and for both gateways."""
    canary_count = counts.total("canary", "requests")
    return canary_count, canary_count + counts.total("primary", "requests")


def bounds_pct(counts: LogCounts) -> tuple[float, float]:
    """The exact binomial interval of the share at CONFIDENCE; of no request it is everything."""
    if not any(arrived(counts)):
        return 0.0, 100.0
    low, high = interval(*arrived(counts), CONFIDENCE)
    return 100 * float(low), 100 * float(high)
