"""The only module that changes the Mac: every proposal is recorded, carried out, proven and recorded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from runbook_lib.errors import ActionFailed
from runbook_lib.evidence import write_whole
from runbook_lib.mac import Mac
from runbook_lib.proposal import Proposal


def apply(mac: Mac, *proposals: Proposal) -> list[dict[str, Any]]:
    """Carry out proposals in order; each is `intent`, `effect`, `verified` in the ledger.

    A dry run records `skipped` and changes nothing; a proposal that is done already is recorded as `kept`.
    Answers the facts each proof found. Raises ActionFailed at the first that is refused or cannot be proven.
    """
    return [_apply_one(mac, proposal) for proposal in proposals]


def _apply_one(mac: Mac, proposal: Proposal) -> dict[str, Any]:
    if mac.dry_run or proposal.done_already:
        event = "kept" if proposal.done_already else "skipped"
        mac.ledger.append(event, proposal.what, reason=proposal.done_already or "dry run")
        return {}
    with mac.ledger.change(proposal.what, undo=proposal.undo, hashes=_hashes(proposal), **proposal.facts) as change:
        _keep_texts(mac, proposal)
        done = mac.host.change(proposal.script, *proposal.args, timeout_s=proposal.timeout_s)
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
    if "weight_pct" in proposal.facts:
        mac.ledger.append("weight", f"the canary's weight is {proposal.facts['weight_pct']:g} %", **proposal.facts)
    return facts


def drain(mac: Mac, why: str) -> None:
    """Send every new request to primary at once, by the drain file: no reload, no notebook, from every state."""
    mac.ledger.append("drained", "every new request goes to primary", why=why)
    _touch(mac, "drain the canary", f': >"{mac.plan.drain_file}" && [ -e "{mac.plan.drain_file}" ]', why)


def undrain(mac: Mac, why: str) -> None:
    """Give the canary its share back."""
    _touch(mac, "end the drain", f'rm -f "{mac.plan.drain_file}" && [ ! -e "{mac.plan.drain_file}" ]', why)


def _touch(mac: Mac, what: str, command: str, why: str) -> None:
    _apply_one(mac, Proposal(what, f"# {what}\n{command}\n", commands=(command,), facts={"why": why}))


def _keep_texts(mac: Mac, proposal: Proposal) -> None:
    """Keep each file as it was and as it is to be with the run's evidence, secrets as references."""
    intent = mac.ledger.last("intent")
    folder = mac.ledger.path.parent / "evidence" / mac.ledger.step / "changes"
    texts = {path: list(map(mac.vault.redact, pair)) for path, pair in proposal.files.items()}
    if texts and intent:
        folder.mkdir(parents=True, exist_ok=True)
        kept = {path: {"before": before, "after": after} for path, (before, after) in texts.items()}
        content = json.dumps({"what": proposal.what, "files": kept}, indent=1, ensure_ascii=False)
        write_whole(folder / f"{intent['seq']:04d}.json", content)


def _hashes(proposal: Proposal) -> dict[str, Iterable[str]]:
    return {path: [_sha256(before), _sha256(after)] for path, (before, after) in proposal.files.items()}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
