"""What has to work when little else does: the kill switch, and taking a Mac from whoever cannot let go of it."""

from __future__ import annotations

import shlex

from runbook_lib import notifications
from runbook_lib.errors import ActionFailed, EvidenceError, PlanError
from runbook_lib.mac.actions import apply, unlock
from runbook_lib.mac.lock import probe_lock
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.switch import drain_by_hand, propose_drain
from runbook_lib.nginx.asking import probe_pulse
from runbook_lib.plan import reading, yaml_file
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Cause
from runbook_lib.show.board import publish


def drain_now(region: str, why: str, cause: Cause = Cause.HAND) -> str:
    """The canary at zero, by the drain file; works from every state, with or without a run or a sound plan."""
    plan, said = _plan_of(region)
    run = Run.current(region) or Run.start(region)
    with Mac.connect(plan, run.ledger("drain")) as mac:
        try:
            apply(mac, propose_drain(plan, why, cause))
        except (EvidenceError, OSError) as unrecorded:
            raise ActionFailed(
                f"{region}: NOT drained, or not proven: it cannot be recorded here ({unrecorded}). Drain it by hand:\n"
                f"{drain_by_hand(plan)}"
            ) from None
        pulse = probe_pulse(mac)
    loaded = pulse.revision or "no managed configuration"
    said.append(f"{region}: drained; new requests go to primary ({loaded} is loaded)")
    try:
        said += notifications.send_due(plan, run)
        publish(run.directory)
    except EvidenceError as damaged:
        said.append(f"{region}: nobody was told, and the page is as it was: {damaged}")
    return "\n".join(said)


def break_lock(region: str, why: str) -> str:
    """Take a Mac from whoever holds it, on record; for a holder that cannot let go by itself."""
    plan, said = _plan_of(region)
    run = Run.current(region) or Run.start(region)
    with Mac.connect(plan, run.ledger("unlock")) as mac:
        holder = probe_lock(mac)
        if holder is None:
            return "\n".join([*said, f"{region}: nobody holds this Mac; nothing was changed"])
        unlock(mac, holder, why)
    return "\n".join([*said, f"{region}: the lock of {holder} is broken"])


def _plan_of(region: str) -> tuple[Plan, list[str]]:
    """The region's plan; where its file is wrong, the plan that the current run kept, and a sentence that says so.

    Raises PlanError, with the ssh command to type, where there is neither.
    """
    try:
        return reading.load(region), []
    except PlanError as wrong:
        path = reading.parameters_file(region)  # raises once more where there is no such region
        run = Run.current(region)
        kept = run.kept_plan() if run else None
        if run and kept:
            count = f"{len(wrong.mistakes)} mistake{'s' * (len(wrong.mistakes) != 1)}"
            used = f"the plan that run {run.name} kept is used. Mend it later: rollout plan {region}"
            return kept, [f"{region}: {path.name} has {count}; {used}"]
        host = yaml_file.read(path).values.get("host")
        named = host if isinstance(host, dict) else {}
        words = [str(named.get("alias", "YOUR_MAC")), f"touch {named.get('runbook_dir', 'RUNBOOK_DIR')}/drain"]
        raise PlanError(
            wrong.source, [*wrong.mistakes, f"to drain the canary all the same: ssh {shlex.join(words)}"]
        ) from None
