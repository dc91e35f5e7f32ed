"""The two kinds of practice gateway, and everything in which they differ. No other file asks which one it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Name = Literal["standin", "openclaw"]


@dataclass(frozen=True)
class Kind:
    """What the practice Mac must know of a kind of gateway; what the runbook asks of it is alike in both."""

    name: Name
    package: str
    version: str
    upgrade: tuple[str, str]  # from, to: the state migrates on the way
    schemas: Mapping[str, Mapping[str, int]]  # version to what its manifest says of its databases
    ready_s: float
    command_s: float
    rate: float  # deliveries a second that leave room for everything else on two cores
    mix: Mapping[str, int]  # share of all deliveries in percent
    is_packed_here: bool = False  # else it comes from npm's public registry
    takes_orders: bool = False  # fails when the practice-faults file tells it to
    asks_model: bool = False
    verifies_signatures: bool = False  # of a provider's delivery, beside the hooks token
    thresholds: Mapping[str, Any] = field(default_factory=dict)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "standin",
            "openclaw-standin",
            "2026.9.6",
            ("2026.9.6", "2026.9.7"),
            {"2026.9.6": {"state": 18, "agent": 23}, "2026.9.7": {"state": 19, "agent": 24}},
            ready_s=20,
            command_s=60,
            rate=100,
            mix={"wake": 40, "agent": 30, "github": 20, "stripe": 5, "anonymous": 5},
            is_packed_here=True,
            takes_orders=True,
            verifies_signatures=True,
            # On a busy machine a queue of requests puts 20 % on one gateway's memory for as long as a practice run
            # lasts. Real regions keep the article's 18 %.
            thresholds={"rss_gap_pct": 30},
        ),
        Kind(
            "openclaw",
            "openclaw",
            "2026.9.6",
            ("2026.9.5", "2026.9.6"),
            {"2026.9.5": {"state": 17, "agent": 21}, "2026.9.6": {"state": 18, "agent": 23}},
            ready_s=240,  # measured: 11-17 s on free cores, and two minutes among thirty busy processes
            command_s=300,
            rate=25,  # it needs 8-16 CPU-seconds to start beside it
            mix={"wake": 90, "anonymous": 10},  # an agent run costs a CPU second
            asks_model=True,
            # It queues a wake within a few ms, stalls for half a second when it collects garbage, and its heap
            # settles within hours: in a practice run of seconds chance moves latency and memory by more than the
            # article's 35 % and 18 %. Real regions keep the article's numbers.
            thresholds={"rss_gap_pct": 100, "smallest_rise_ms": 1000},
        ),
    )
}
