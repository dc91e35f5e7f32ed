"""Faults for a log to be rehearsed with: each alters what a dealt log shows from some moment on.

Not the practice Mac's faults (lab/faults.py), which break a real gateway; these ask whether a region's own
traffic is enough to see such a fault, and how soon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from runbook_lib.analysis.split_log import COLUMN, Dealt, Histogram
from runbook_lib.verdict import Hop

GATEWAY_PAIR = ("primary", "canary")
BACKUP_TRIES_S = 10  # article: fail_timeout=10s on the canary, after which nginx tries it again
PATIENCE_MS = 10_000  # GitHub ends a delivery after 10 s
THROTTLED_MS = 150
NEW_CONNECTS_SHARE = 0.2
Inject = Callable[[Dealt, int, np.random.Generator], None]
Gate = Literal["observation", "reload"]


@dataclass(frozen=True)
class Injection:
    """One fault: the hop that a verdict should name, and the gate that should see it."""

    name: str
    hop: Hop
    inject: Inject
    gate: Gate = "observation"


def _errors(gateways: Iterable[str], ratio: float) -> Inject:
    def inject(dealt: Dealt, from_s: int, rng: np.random.Generator) -> None:
        for gateway in gateways:
            part = dealt.ticks[gateway][dealt.place(from_s) :]
            good = part[:, COLUMN["attempts"]] - part[:, COLUMN["attempts_5xx"]]
            part[:, COLUMN["attempts_5xx"]] += rng.binomial(good, ratio)

    return inject


def _slower(gateways: Iterable[str], factor: float) -> Inject:
    def inject(dealt: Dealt, from_s: int, rng: np.random.Generator) -> None:
        for (window, gateway, metric), (values, found) in dealt.times.items():
            if window >= from_s and gateway in gateways and metric in ("header", "response", "request"):
                dealt.times[window, gateway, metric] = ((values * factor).astype(np.int64), found)
        for (window, pid, gateway), (values, found) in dealt.workers.items():
            if window >= from_s and gateway in gateways:
                dealt.workers[window, pid, gateway] = ((values * factor).astype(np.int64), found)

    return inject


def _take_times(dealt: Dealt, from_s: int) -> dict[tuple[int, str], Histogram]:
    """The canary's times since, taken away: (window, metric) -> histogram."""
    keys = [key for key in dealt.times if key[0] >= from_s and key[1] == "canary"]
    return {(window, metric): dealt.times.pop((window, gateway, metric)) for window, gateway, metric in keys}


def _behind_its_backup(dealt: Dealt, from_s: int, rng: np.random.Generator) -> None:
    """Refused once in a while, and primary serves everything: no client sees an error."""
    _take_times(dealt, from_s)
    canary = dealt.ticks["canary"][dealt.place(from_s) :]
    its_turn = np.arange(len(canary)) * dealt.tick_s % BACKUP_TRIES_S < dealt.tick_s
    canary[:, COLUMN["taken_over"]] = canary[:, COLUMN["requests"]]
    for what in ("attempts", "attempts_5xx", "failed_connects"):
        canary[:, COLUMN[what]] = its_turn & (canary[:, COLUMN["requests"]] > 0)
    canary[:, COLUMN["zero_connects"]] = 0


def _frozen(dealt: Dealt, from_s: int, rng: np.random.Generator) -> None:
    """Connects in no time and never answers: clients give up, and nginx logs the request only then."""
    late_s = -(-PATIENCE_MS // 1000 // dealt.look_s) * dealt.look_s
    for (window, metric), (values, found) in _take_times(dealt, from_s).items():
        if window + late_s < dealt.end_s and metric in ("connect", "header"):
            waited = np.array([PATIENCE_MS]), np.array([found.sum()])
            now, histogram = ("waited", waited) if metric == "header" else (metric, (values, found))
            dealt.times[window + late_s, "canary", now] = histogram
    canary, rows = dealt.ticks["canary"][dealt.place(from_s) :], late_s // dealt.tick_s
    canary[rows:] = canary[:-rows].copy()
    canary[:rows] = 0
    canary[:, COLUMN["unanswered"]] = canary[:, COLUMN["attempts"]]
    for what in ("attempts_5xx", "answers_5xx"):
        canary[:, COLUMN[what]] = 0


def _throttled(dealt: Dealt, from_s: int, rng: np.random.Generator) -> None:
    """Every new connection to the canary is slow; most requests reuse one."""
    canary = dealt.ticks["canary"]
    for window in range(from_s, dealt.end_s, dealt.look_s):
        rows = slice(dealt.place(window), dealt.place(window + dealt.look_s))
        new = rng.binomial(int(canary[rows, COLUMN["attempts"]].sum()), NEW_CONNECTS_SHARE)
        if new:
            dealt.times[window, "canary", "connect"] = (np.array([THROTTLED_MS]), np.array([new]))


def _starved(dealt: Dealt, from_s: int, rng: np.random.Generator) -> None:
    """nginx has no connection left for one request in twenty and answers it by itself."""
    for gateway in GATEWAY_PAIR:
        part = dealt.ticks[gateway][dealt.place(from_s) :]
        part[:, COLUMN["own_5xx"]] += rng.binomial(part[:, COLUMN["requests"]], 0.05)


def _not_split(dealt: Dealt, from_s: int, rng: np.random.Generator) -> None:
    """The split is not there: primary gets the canary's requests."""
    _take_times(dealt, from_s)
    place = dealt.place(from_s)
    dealt.ticks["primary"][place:] += dealt.ticks["canary"][place:]
    dealt.ticks["canary"][place:] = 0


INJECTIONS = (
    Injection("canary answers 5 % with 5xx", Hop.CANARY, _errors(["canary"], 0.05)),
    Injection("canary answers half with 5xx", Hop.CANARY, _errors(["canary"], 0.5)),
    Injection("canary twice as slow", Hop.CANARY, _slower(["canary"], 2)),
    Injection("canary dead behind a backup", Hop.CANARY, _behind_its_backup),
    Injection("canary frozen", Hop.CANARY, _frozen),
    Injection("canary's connects throttled", Hop.CANARY, _throttled),
    Injection("host: both answer 5 % with 5xx", Hop.HOST, _errors(GATEWAY_PAIR, 0.05)),
    Injection("nginx out of connections", Hop.NGINX, _starved),
    Injection("split not there", Hop.NGINX, _not_split),
    Injection("workers starved after the reload", Hop.NGINX, _slower(GATEWAY_PAIR, 2), "reload"),
)
