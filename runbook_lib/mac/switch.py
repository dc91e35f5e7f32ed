"""The kill switch: while the drain file is there, every new request goes to primary, without a reload."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runbook_lib.errors import ActionFailed
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, sh
from runbook_lib.plan.models import Plan
from runbook_lib.ssh.host import Completed
from runbook_lib.ssh.settings import by_hand

DRAIN = "drain the canary"
PULL, PUT_BACK = ': >"$1" && [ -e "$1" ]', 'rm -f "$1" && [ ! -e "$1" ]'


def propose_drain(plan: Plan, why: str, cause: str = "hand") -> Proposal:
    """Send every new request to primary at once: no reload, no notebook, from every state.

    `cause` is one of hand, verdict and death; the sentinel's own are lease, errors and unconfirmed.
    """
    switch = _switch(plan, DRAIN, PULL, "drained", {"why": why, "cause": cause})
    return replace(switch, told_before="drained")


def propose_undrain(plan: Plan, why: str) -> Proposal:
    """Give the canary its share back."""
    return replace(_switch(plan, "end the drain", PUT_BACK, "open", {"why": why}), told_after="undrained")


def propose_trial(plan: Plan) -> list[Proposal]:
    """Pull the kill switch and put it back while the weight is 0, proven by what nginx's own worker says of it."""
    facts = {"why": "step 4"}
    return [
        _switch(plan, "try the kill switch", PULL, "drained", facts),
        _switch(plan, "put the kill switch back", PUT_BACK, "open", facts),
    ]


def drain_by_hand(plan: Plan) -> str:
    """The drain as a person types it, where nothing can be recorded."""
    return by_hand(plan.host, _typed(PULL, plan))


def _switch(plan: Plan, what: str, command: str, expected: str, facts: dict[str, str]) -> Proposal:
    """Turn the kill switch, proven by what nginx itself says of it where our configuration runs."""

    def prove(mac: Mac, done: Completed) -> dict[str, Any]:
        answer = done.fields().get("answer", "").split()
        if len(answer) == 3 and answer[2] != expected:
            raise ActionFailed(
                f"{mac.host.name}, nginx: {what}: {plan.folder.drain} is as it should be, but nginx's worker says "
                f"{answer[2]}: can its user see that folder? Until then only a reload changes the weight"
            )
        return {"nginx": answer[2] if len(answer) == 3 else "does not run our configuration"}

    text = f'# {what}\n{command} || return 1\nprintf \'answer\\t%s\\n\' "$(curl -s --max-time 2 "$2")"\n'
    return Proposal(
        what,
        text,
        args=(plan.folder.drain, f"http://127.0.0.1:{plan.nginx.probe_port}/__rollout"),
        commands=(_typed(command, plan),),
        proof=prove,
        undo=_typed(PUT_BACK if command == PULL else PULL, plan),
        facts=facts,
        urgent=True,
    )


def _typed(command: str, plan: Plan) -> str:
    """A command of the kill switch with its file instead of $1."""
    return command.replace('"$1"', sh(plan.folder.drain))
