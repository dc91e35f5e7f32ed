"""Who is at fault: gateway, nginx, host or path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from runbook_lib.verdict import Hop

Via = Literal["direct", "nginx", "outside"]
GATEWAY_HOP = {"primary": Hop.PRIMARY, "canary": Hop.CANARY}


@dataclass(frozen=True)
class Probe:
    """How one gateway answered when it was asked on one way, in the same minutes as the log.

    `direct` is on loopback at the gateway's own port, `nginx` through nginx on the Mac, `outside` from
    another machine. `bad_count` answers were wrong, late or missing, of `asked_count`.
    """

    gateway: str
    via: Via
    asked_count: int
    bad_count: int

    @property
    def is_bad(self) -> bool:
        return self.bad_count * 2 > self.asked_count

    @property
    def is_good(self) -> bool:
        return self.asked_count > 0 and self.bad_count == 0


def blame(gateway: str, others_too: bool, probes: Iterable[Probe] = ()) -> tuple[Hop, str]:
    """The hop at fault when `gateway` is bad in the log, and the evidence for it as half a sentence.

    With `others_too` the other gateway is bad in the same minutes. A probe that is good on one way and bad
    on the next one out puts the fault between the two.
    """
    asked = {(p.gateway, p.via): p for p in probes if p.asked_count}
    here = {via: asked[gateway, via] for via in ("direct", "nginx", "outside") if (gateway, via) in asked}
    for inner, outer, hop in (("direct", "nginx", Hop.NGINX), ("nginx", "outside", Hop.PATH)):
        if inner in here and outer in here and here[inner].is_good and here[outer].is_bad:
            bad = here[outer]
            return hop, f"{gateway} answers {_way(inner)}, but {bad.bad_count} of {bad.asked_count} fail {_way(outer)}"
    if others_too:
        return Hop.HOST, "both gateways are bad in the same minutes"
    return GATEWAY_HOP.get(gateway, Hop.HOST), "only this gateway is bad"


def _way(via: str) -> str:
    return {"direct": "when asked directly", "nginx": "through nginx", "outside": "from outside"}[via]
