"""The operator's lease on the Mac: when it lapses, the sentinel drains the canary by itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.onmac import script
from runbook_lib.records.details import Verified
from runbook_lib.records.kinds import Act
from runbook_lib.records.ledger import Ledger, operator
from runbook_lib.ssh.host import Completed


def propose_lease(mac: Mac, for_s: float) -> Proposal:
    """Hold the canary's traffic for `for_s` seconds more, by the Mac's own clock."""
    path = mac.plan.folder.lease
    return Proposal(
        Act.HOLD_LEASE,
        f"hold the operator's lease for {for_s:g} s",
        script("hold_lease.sh"),
        args=(path, f"{for_s:.0f}", operator()),
        commands=(f"write {path}: now + {for_s:g} s",),
        proof=_until,
        undo=f"rm {path}, which ends the guard, too",
    )


def propose_release(mac: Mac) -> Proposal:
    """End the guard: nothing is left that somebody must answer for."""
    path = mac.plan.folder.lease
    return Proposal(
        Act.RETURN_LEASE,
        "give the operator's lease back",
        script("give_lease_back.sh"),
        args=(path,),
        commands=(f"rm {path}",),
        undo="none is needed",
    )


def held_until(ledger: Ledger) -> datetime | None:
    """When the lease lapses, as the ledger has it; None where none is held."""
    changes = [e for e in ledger.events(Verified) if e["detail"].get("act") in (Act.HOLD_LEASE, Act.RETURN_LEASE)]
    if not changes or changes[-1]["detail"].get("act") == Act.RETURN_LEASE:
        return None
    return datetime.fromisoformat(changes[-1]["detail"]["until"])


def is_short(ledger: Ledger, for_s: float) -> bool:
    """Whether less than half of `for_s` is left, or more than all of it: then it was meant for an absence."""
    left = (held_until(ledger) or datetime.min.replace(tzinfo=UTC)) - datetime.now(UTC)
    return not timedelta(seconds=for_s / 2) <= left <= timedelta(seconds=2 * for_s)


def _until(mac: Mac, done: Completed) -> Mapping[str, Any]:
    return {"until": datetime.fromtimestamp(int(done.fields()["until"]), UTC).isoformat()}
