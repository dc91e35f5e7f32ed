"""The kill switch: while the drain file is there, every new request goes to primary, without a reload."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from runbook_lib.errors import ActionFailed
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, sh
from runbook_lib.onmac import script
from runbook_lib.plan.models import Plan
from runbook_lib.records.kinds import Act, Cause, Kind
from runbook_lib.ssh.host import Completed
from runbook_lib.ssh.settings import by_hand

Turn = Literal["pull", "put_back"]


def propose_drain(plan: Plan, why: str, cause: Cause = Cause.HAND) -> Proposal:
    """Send every new request to primary at once: no reload, no notebook, from every state."""
    switch = _switch(plan, Act.DRAIN, "drain the canary", "pull", {"why": why, "cause": cause})
    return replace(switch, told=Kind.DRAINED)


def propose_undrain(plan: Plan, why: str) -> Proposal:
    """Give the canary its share back."""
    return replace(_switch(plan, Act.UNDRAIN, "end the drain", "put_back", {"why": why}), told=Kind.UNDRAINED)


def propose_trial(plan: Plan) -> list[Proposal]:
    """Pull the kill switch and put it back while the weight is 0, proven by what nginx's own worker says of it."""
    facts = {"why": "step 4"}
    return [
        _switch(plan, Act.TRY_SWITCH, "try the kill switch", "pull", facts),
        _switch(plan, Act.TRY_SWITCH, "put the kill switch back", "put_back", facts),
    ]


def drain_by_hand(plan: Plan) -> str:
    """The drain as a person types it, where nothing can be recorded."""
    return by_hand(plan.host, _typed("pull", plan))


def _switch(plan: Plan, act: Act, what: str, turn: Turn, facts: dict[str, str]) -> Proposal:
    """Turn the kill switch, proven by what nginx itself says of it where our configuration runs."""
    expected = "drained" if turn == "pull" else "open"

    def prove(mac: Mac, done: Completed) -> dict[str, Any]:
        answer = done.fields().get("answer", "").split()
        if len(answer) == 3 and answer[2] != expected:
            raise ActionFailed(
                f"{mac.host.name}, nginx: {what}: {plan.folder.drain} is as it should be, but nginx's worker says "
                f"{answer[2]}: can its user see that folder? Until then only a reload changes the weight"
            )
        return {"nginx": answer[2] if len(answer) == 3 else "does not run our configuration"}

    return Proposal(
        act,
        what,
        script("turn_switch.sh"),
        args=(plan.folder.drain, turn, f"http://127.0.0.1:{plan.nginx.probe_port}/__rollout"),
        commands=(_typed(turn, plan),),
        proof=prove,
        undo=_typed("put_back" if turn == "pull" else "pull", plan),
        facts=facts,
        urgent=True,
    )


def _typed(turn: Turn, plan: Plan) -> str:
    """The same as a command of the shell."""
    return sh(*(("touch",) if turn == "pull" else ("rm", "-f")), plan.folder.drain)
