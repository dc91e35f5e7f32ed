"""The only module that changes the Mac: every proposal is recorded, carried out, proven and recorded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from runbook_lib.errors import ActionFailed, HostLocked
from runbook_lib.mac import lock
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, sh
from runbook_lib.onmac import script
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import write_whole
from runbook_lib.records.ledger import Change
from runbook_lib.ssh.host import Completed

UNLOCK, DRAIN = "let go of this Mac", "drain the canary"
PULL, PUT_BACK = ': >"$1" && [ -e "$1" ]', 'rm -f "$1" && [ ! -e "$1" ]'


def apply(mac: Mac, *proposals: Proposal) -> list[dict[str, Any]]:
    """Carry out proposals in order; each is `intent`, `effect`, `verified` in the ledger, and `confirmed` where the
    Mac would take it back otherwise.

    A dry run records `skipped` and changes nothing; a proposal that is done already is recorded as `kept`.
    Answers the facts each proof found. Raises ActionFailed at the first that is refused or cannot be proven, and
    HostLocked where somebody else holds the Mac.
    """
    return [_apply_one(mac, proposal) for proposal in proposals]


def _apply_one(mac: Mac, proposal: Proposal) -> dict[str, Any]:
    if mac.dry_run or proposal.done_already:
        event = "kept" if proposal.done_already else "skipped"
        mac.ledger.append(event, proposal.what, reason=proposal.done_already or "dry run")
        if not mac.dry_run:
            _record_weight(mac, proposal)
        return {}
    with mac.ledger.change(proposal.what, undo=proposal.undo, hashes=_hashes(proposal), **proposal.facts) as change:
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
            mac.ledger.append("lock_taken_over", "the lock had lapsed, or its holder's process is gone", holder=former)
        if done.exit_status != lock.HELD_BY_ANOTHER:
            return done
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
    last = mac.ledger.last("weight")
    if last is None or last["detail"]["revision"] != proposal.facts["revision"]:
        mac.ledger.append("weight", f"the canary's weight is {proposal.facts['weight_pct']:g} %", **proposal.facts)


def drain(mac: Mac, why: str, cause: str = "hand") -> None:
    """Send every new request to primary at once, by the drain file: no reload, no notebook, from every state.

    `cause` is one of hand, verdict and death; the sentinel's own are lease, errors and unconfirmed.
    """
    mac.ledger.append("drained", "every new request goes to primary", why=why, cause=cause)
    _switch(mac, DRAIN, PULL, why, "drained")


def drain_by_hand(plan: Plan) -> str:
    """The same as a person types it, where nothing can be recorded."""
    return f"ssh -F {plan.host.ssh_config} {plan.host.alias} {sh(_typed(PULL, plan))}"


def undrain(mac: Mac, why: str) -> None:
    """Give the canary its share back."""
    _switch(mac, "end the drain", PUT_BACK, why, "open")
    mac.ledger.append("undrained", "the canary has its share back", why=why)


def try_switch(mac: Mac) -> list[dict[str, Any]]:
    """Pull the kill switch and put it back while the weight is 0, proven by what nginx's own worker says of it."""
    return [
        _switch(mac, "try the kill switch", PULL, "step 4", "drained"),
        _switch(mac, "put the kill switch back", PUT_BACK, "step 4", "open"),
    ]


def _switch(mac: Mac, what: str, command: str, why: str, expected: str) -> dict[str, Any]:
    """Turn the kill switch, proven by what nginx itself says of it where our configuration runs."""
    port = mac.plan.nginx.probe_port

    def prove(mac: Mac, done: Completed) -> dict[str, Any]:
        answer = done.fields().get("answer", "").split()
        if len(answer) == 3 and answer[2] != expected:
            raise ActionFailed(
                f"{mac.host.name}, nginx: {what}: {mac.plan.drain_file} is as it should be, but nginx's worker says "
                f"{answer[2]}: can its user see that folder? Until then only a reload changes the weight"
            )
        return {"nginx": answer[2] if len(answer) == 3 else "does not run our configuration"}

    text = f'# {what}\n{command} || return 1\nprintf \'answer\\t%s\\n\' "$(curl -s --max-time 2 "$2")"\n'
    args = (mac.plan.drain_file, f"http://127.0.0.1:{port}/__rollout")
    shown = (_typed(command, mac.plan),)
    return _apply_one(mac, Proposal(what, text, args, commands=shown, proof=prove, facts={"why": why}, urgent=True))


def _typed(command: str, plan: Plan) -> str:
    """A command of the kill switch with its file instead of $1."""
    return command.replace('"$1"', sh(plan.drain_file))


def release(mac: Mac) -> None:
    """Let go of the Mac, so that somebody else may change it without waiting."""
    if not mac.dry_run:
        _send(mac, script("release_lock.sh"), lock.lock_file(mac.plan), lock.own_id())


def unlock(mac: Mac, holder: lock.Holder, why: str) -> None:
    """Break somebody else's lock, on record."""
    mac.ledger.append("lock_broken", f"the lock of {holder} was broken", why=why)
    _apply_one(
        mac,
        Proposal(
            UNLOCK,
            script("release_lock.sh"),
            args=(lock.lock_file(mac.plan), holder.id),
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
