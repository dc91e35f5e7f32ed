"""The only module that changes the Mac, or makes a gateway work: all is recorded, carried out, proven."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

from runbook_lib.errors import ActionFailed, HostLocked
from runbook_lib.mac import lock
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, Sending
from runbook_lib.onmac import script
from runbook_lib.records.details import Weight
from runbook_lib.records.evidence import write_whole
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.records.ledger import Change
from runbook_lib.ssh.host import Completed

TOLD = {Kind.DRAINED: "every new request goes to primary", Kind.UNDRAINED: "the canary has its share back"}


def apply(mac: Mac, *proposals: Proposal) -> list[dict[str, Any]]:
    """Carry out proposals in order; each is `intent`, `effect`, `verified` in the ledger, and `confirmed` where the
    Mac would take it back otherwise.

    A dry run records `skipped` and changes nothing; a proposal that is done already is recorded as `kept`.
    Returns the facts each proof found. Raises ActionFailed at the first that is refused or cannot be proven, and
    HostLocked where somebody else holds the Mac.
    """
    return [_apply_one(mac, proposal) for proposal in proposals]


def _apply_one(mac: Mac, proposal: Proposal) -> dict[str, Any]:
    if mac.dry_run or proposal.done_already:
        kind = Kind.KEPT if proposal.done_already else Kind.SKIPPED
        mac.ledger.append(kind, proposal.what, act=proposal.act, reason=proposal.done_already or "dry run")
        if not mac.dry_run:
            _record_weight(mac, proposal)
        return {}
    with mac.ledger.change(
        proposal.act, proposal.what, undo=proposal.undo, hashes=_hashes(proposal), **proposal.facts
    ) as change:
        _keep_texts(mac, proposal, change.seq)
        done = _carry_out(mac, proposal)
        fields = done.fields()
        change.effect(
            exit_status=done.exit_status,
            duration_s=round(done.duration_s, 3),
            result=fields.get("result", ""),
        )
        if done.exit_status != 0:
            said = mac.vault.redact(done.stderr or done.stdout).strip()[-1500:]
            raise ActionFailed(
                f"{mac.host.name}: {proposal.what} ended with {done.exit_status}: {said}. "
                f"Undo: {proposal.undo or 'nothing to undo'}"
            )
        facts = dict(proposal.proof(mac, done))
        change.verified(**facts)
        if proposal.confirmation:
            _confirm(mac, proposal, change)
    if proposal.told:
        mac.ledger.append(proposal.told, TOLD[proposal.told], **proposal.facts)
    _record_weight(mac, proposal)
    return facts


def _carry_out(mac: Mac, proposal: Proposal) -> Completed:
    """Run the change while this process holds the Mac. A holder that died on this machine is put aside."""
    if proposal.urgent:
        return _send(mac, proposal.script, *proposal.args, timeout_s=proposal.timeout_s)
    gone = ""
    for _ in range(2):
        text = lock.guarded(mac.plan, proposal.what, proposal.script, mac.ledger.step, gone)
        done = _send(mac, text, *proposal.args, timeout_s=proposal.timeout_s)
        if former := done.fields().get("taken_over"):
            mac.ledger.append(
                Kind.LOCK_TAKEN_OVER,
                "the lock had lapsed or could not be read, or its holder's process is gone",
                holder=former,
            )
        if done.exit_status != lock.HELD_BY_ANOTHER:
            return done
        if unwritable := done.fields().get("unwritable"):
            raise ActionFailed(
                f"{mac.host.name}: {proposal.what} was refused, nothing was changed: {unwritable} cannot be written, "
                "so nobody can hold this Mac. Look at its disk and at that folder: df -h, ls -ld"
            )
        holder = lock.holder_of(done)
        if holder is None or not holder.is_gone:
            break
        gone = holder.id
    raise HostLocked(
        f"{mac.host.name}: {proposal.what} was refused, nothing was changed: the Mac is held by {holder or 'another'}. "
        f'Wait, ask, or: rollout unlock {mac.plan.region} --why "…"'
    )


def _confirm(mac: Mac, proposal: Proposal, change: Change) -> None:
    done = _send(mac, lock.guarded(mac.plan, f"confirm: {proposal.what}", proposal.confirmation, mac.ledger.step))
    fields = done.fields()
    if done.exit_status != 0 or fields.get("result") == "another":
        said = fields.get("detail", mac.vault.redact(done.stderr or done.stdout).strip()[-500:])
        raise ActionFailed(
            f"{mac.host.name}: {proposal.what} was proven but not confirmed, so the Mac takes it back: {said}. "
            "Run the step again"
        )
    if fields.get("result") == "confirmed":  # else no sentinel runs that would have taken it back
        change.confirmed()


def _record_weight(mac: Mac, proposal: Proposal) -> None:
    """One `weight` event for each configuration that runs: what observation and promotion go by."""
    if "weight_pct" not in proposal.facts:
        return
    weight_pct, revision, last = proposal.facts["weight_pct"], proposal.facts["revision"], mac.ledger.last(Weight)
    if last is None or last["detail"]["revision"] != revision:
        what = f"the canary's weight is {weight_pct:g} %"
        mac.ledger.append(Kind.WEIGHT, what, weight_pct=weight_pct, revision=revision)


def send(mac: Mac, sending: Sending) -> pd.DataFrame:
    """Send requests that a gateway executes, once they are in the ledger; the answers as `sending` has them.

    A dry run sends nothing and returns no row.
    """
    mac.ledger.append(Kind.REPLAYED, sending.what, act=sending.act, **sending.facts)
    if mac.dry_run:
        return pd.DataFrame(columns=list(sending.columns))
    with mac.host.http(sending.url, sending.timeout_s) as client:
        return sending.send(client)


def release(mac: Mac) -> None:
    """Let go of the Mac, so that somebody else may change it without waiting."""
    if not mac.dry_run:
        _send(mac, script("release_lock.sh"), mac.plan.folder.lock, lock.own_id())


def unlock(mac: Mac, holder: lock.Holder, why: str) -> None:
    """Break somebody else's lock, on record."""
    mac.ledger.append(Kind.LOCK_BROKEN, f"the lock of {holder} was broken", why=why)
    _apply_one(
        mac,
        Proposal(
            Act.UNLOCK,
            "let go of this Mac",
            script("release_lock.sh"),
            args=(mac.plan.folder.lock, holder.id),
            facts={"why": why},
            urgent=True,
        ),
    )


def _send(mac: Mac, text: str, *args: str, timeout_s: float | None = None) -> Completed:
    return mac.host.change(text, *args, timeout_s=timeout_s)


def _keep_texts(mac: Mac, proposal: Proposal, seq: int) -> None:
    """Keep each file as it was and as it is to be with the run's evidence, secrets as references."""
    folder = mac.ledger.path.parent / "evidence" / mac.ledger.step / "changes"
    texts = {path: list(map(mac.vault.redact, pair)) for path, pair in proposal.files.items()}
    if texts:
        folder.mkdir(parents=True, exist_ok=True)
        kept = {path: {"before": before, "after": after} for path, (before, after) in texts.items()}
        content = json.dumps({"what": proposal.what, "files": kept}, indent=1, ensure_ascii=False)
        write_whole(folder / f"{seq:04d}.json", content)


def _hashes(proposal: Proposal) -> dict[str, Iterable[str]]:
    return {path: [_sha256(before), _sha256(after)] for path, (before, after) in proposal.files.items()}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
