"""Synthetic webhooks sent to a gateway, an agent run asked for, and what the answers say of it."""

from __future__ import annotations

import time

import httpx
import pandas as pd

from runbook_lib.gateway.delivery import AGENT_MESSAGE, Delivery, refuse_unsendable
from runbook_lib.verdict import Answer, Check, Hop, passed_if

COLUMNS = ["delivery", "provider", "event", "gateway", "status", "run_id", "duration_ms", "error", "wake"]
AGENT_COLUMNS = ["gateway", "status", "run_id", "completion", "duration_ms", "error"]
REFUSALS = (400, 401, 403)


def replay(client: httpx.Client, deliveries: list[Delivery], gateway: str) -> pd.DataFrame:
    """Send each delivery once, in order, with no retry.

    One row a delivery: delivery, provider, event, gateway, status (NA without an answer), run_id ("" without
    one), duration_ms, error ("" on 2xx), wake (queued or coalesced where the hook is mapped to a wake, which has
    no run id and no idempotency). What went wrong is in the row; nothing is raised for it.
    """
    rows = []
    for delivery in deliveries:
        started = time.perf_counter()
        status, run_id, error, wake = _send(client, delivery)
        duration_ms = (time.perf_counter() - started) * 1000
        source = (delivery.name, delivery.provider, delivery.event)
        rows.append((*source, gateway, status, run_id, duration_ms, error, wake))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"status": "Int64", "duration_ms": float})


def run_agent(client: httpx.Client, hooks_token: str, gateway: str, hooks_path: str = "/hooks") -> pd.DataFrame:
    """One run through its agent hook, waited for: AGENT_COLUMNS, one row. Nothing is raised for what goes wrong."""
    refuse_unsendable(hooks_token=hooks_token)
    started, status, run_id, completion = time.perf_counter(), None, "", ""
    body = {"message": AGENT_MESSAGE, "name": "rollout smoke", "deliver": False, "waitForCompletion": True}
    try:
        answer = client.post(f"{hooks_path}/agent", json=body, headers={"Authorization": f"Bearer {hooks_token}"})
        status, said = answer.status_code, answer.json() if answer.is_success else {}
        run_id, completion = str(said.get("runId", "")), str(said.get("completion", {}).get("status", ""))
        error = "" if answer.is_success else f"{answer.status_code} {answer.text[:200]}"
    except (httpx.TransportError, ValueError, AttributeError) as failed:
        error = f"{type(failed).__name__}: {failed}".rstrip(": ")
    row = (gateway, status, run_id, completion, (time.perf_counter() - started) * 1000, error)
    return pd.DataFrame([row], columns=AGENT_COLUMNS).astype({"status": "Int64"})


def judge_agent(runs: pd.DataFrame) -> Check:
    """Did the run end well? It shows that the canary's own model credentials work, which no accepted hook does."""
    name, remedy = "Agent run completed", "ask the canary's log for that run; its model key is its own"
    if runs.empty:
        return Check(name, Answer.INCONCLUSIVE, "no agent run was asked for", Hop.CANARY)
    run = runs.iloc[0]
    said = f"{run['gateway']}: the agent run ended with {run['completion'] or run['error'] or 'nothing'}"
    return passed_if(run["completion"] == "ok", name, f"{said} after {run['duration_ms']:,.0f} ms", _hop(runs), remedy)


def executions(frame: pd.DataFrame) -> pd.DataFrame:
    """What was executed how often, over all replays put together.

    One row a delivery: delivery, sent_count, accepted_count (2xx), executed_count (distinct runs, and wakes queued),
    gateways. Run ids of two gateways are two runs even if they should be spelt alike.
    """
    ran = (frame["gateway"] + " " + frame["run_id"]).where(frame["run_id"] != "")
    marked = frame.assign(accepted=_accepted(frame), ran=ran, queued=frame["wake"] == "queued")
    grouped = marked.groupby("delivery", sort=False)
    counted = grouped.agg(
        sent_count=("delivery", "size"),
        accepted_count=("accepted", "sum"),
        executed_count=("ran", "nunique"),
        gateways=("gateway", lambda names: ", ".join(dict.fromkeys(names))),
    )
    counted["executed_count"] += grouped["queued"].sum()
    return counted.reset_index()


def judge_replay(
    first: pd.DataFrame, again: pd.DataFrame, both_sides: pd.DataFrame, to_both: bool = True
) -> list[Check]:
    """Accepted once; not executed a second time; executed once by each gateway it was sent to.

    `first` and `again` hold the same deliveries to one gateway, `both_sides` one copy sent to each gateway, where
    that was asked for: `to_both`.
    OpenClaw remembers idempotency keys per process, in memory (measured: about 5 min after completion).
    """
    sides = [_both_sides_check(both_sides)] if to_both or len(both_sides) else []
    return [_accepted_check(first), _again_check(first, again), *sides]


def judge_forged(frame: pd.DataFrame, gateway_verifies: bool | None) -> Check:
    """Is a forged signature refused? `gateway_verifies` is what is known of this gateway.

    True: acceptance fails. False (it checks only the hooks token): acceptance is as declared, and the reason
    says so. None: acceptance is inconclusive. A refusal passes in every case.
    """
    name, hop, sent = "Forged signature", Hop.CANARY, len(frame)
    accepted, refused = int(_accepted(frame).sum()), int(frame["status"].isin(REFUSALS).sum())
    remedy = "verify signatures in front of the gateway or in the hook's handler"
    if sent == 0 or accepted + refused < sent:
        reason = f"{sent - accepted - refused} of {sent} forged deliveries got neither yes nor no{_errors(frame)}"
        return Check(name, Answer.INCONCLUSIVE, reason, hop, remedy="send them again when the gateway answers")
    if not accepted:
        return Check(name, Answer.PASS, f"{refused} of {sent} forged deliveries were refused", hop)
    reason = f"{accepted} of {sent} forged deliveries were accepted"
    if gateway_verifies is False:
        reason += "; known of this gateway: it checks the hooks token only, signatures are verified elsewhere"
        return Check(name, Answer.PASS, reason, hop, remedy=remedy)
    answer = Answer.FAIL if gateway_verifies else Answer.INCONCLUSIVE
    return Check(name, answer, reason, hop, remedy=remedy)


def _send(client: httpx.Client, delivery: Delivery) -> tuple[int | None, str, str, str]:
    """Status, run id, error and wake of one attempt."""
    try:
        answer = client.post(delivery.path, content=delivery.body, headers=dict(delivery.headers))
    except httpx.TransportError as error:
        return None, "", f"{type(error).__name__}: {error}".rstrip(": "), ""
    if not answer.is_success:
        return answer.status_code, "", f"{answer.status_code} {answer.reason_phrase}", ""
    try:
        said = answer.json()
    except ValueError:
        said = None
    said = said if isinstance(said, dict) else {}
    run_id, wake = str(said.get("runId") or ""), str(said.get("eventOutcome") or "")
    return answer.status_code, run_id, "" if run_id or wake else "no run id in the answer", wake


def _accepted_check(first: pd.DataFrame) -> Check:
    name, sent, runs, wakes = "Webhook accepted", len(first), _ran(first), _woke(first)
    if sent == 0:
        return Check(name, Answer.INCONCLUSIVE, "no delivery was sent", Hop.RUNBOOK)
    reason = f"{runs} of {sent} deliveries were answered 2xx with a run id{_as_wakes(wakes)}{_errors(first)}"
    remedy = "read the gateway's log; 401 is the hooks token, 404 a missing hook mapping, 503 a full queue"
    return passed_if(runs + wakes == sent, name, reason, _hop(first), remedy)


def _again_check(first: pd.DataFrame, again: pd.DataFrame) -> Check:
    name, hop, wakes = "Idempotent replay", _hop(first), _woke(first)
    pairs = first.merge(again, on=["delivery", "gateway"], suffixes=("", "_again"))
    pairs = pairs[(pairs["run_id"] != "") & (pairs["run_id_again"] != "")]
    twice = int((pairs["run_id"] != pairs["run_id_again"]).sum())
    if twice:
        reason = f"{twice} of {len(pairs)} deliveries with the same idempotency key were executed a second time"
        remedy = "the process may have restarted in between; look at its uptime, then send both again"
        return Check(name, Answer.FAIL, reason, hop, remedy=remedy)
    if len(pairs) + wakes < len(first) or pairs.empty:
        reason = (
            f"{len(pairs)} of {len(first)} deliveries have two run ids to compare{_as_wakes(wakes)}{_errors(again)}"
        )
        return Check(name, Answer.INCONCLUSIVE, reason, hop, remedy="send them again")
    reason = f"{len(pairs)} of {len(pairs)} repeated deliveries got the run id they had; none ran a second time"
    return Check(name, Answer.PASS, reason + _as_wakes(wakes), hop)


def _both_sides_check(both_sides: pd.DataFrame) -> Check:
    name, sent, sides = "Once to each side", both_sides["delivery"].nunique(), both_sides["gateway"].nunique()
    wakes = both_sides.loc[both_sides["wake"] != "", "delivery"].nunique()
    ran = both_sides[both_sides["run_id"] != ""].groupby("delivery")
    asked = int((ran["gateway"].nunique() == sides).sum())
    if sides < 2 or asked == 0 or asked + wakes < sent:
        reason = f"{asked} of {sent} deliveries got a run id on both sides{_as_wakes(wakes)}{_errors(both_sides)}"
        return Check(name, Answer.INCONCLUSIVE, reason, Hop.RUNBOOK, remedy="send them again to both gateways")
    shared = int((ran["run_id"].nunique() < sides).sum())
    if shared:
        reason = f"{shared} of {sent} deliveries got the same run id from both gateways: they are not isolated"
        return Check(name, Answer.FAIL, reason, Hop.HOST, remedy="compare listening pids and state directories")
    reason = (
        f"{asked} of {asked} deliveries sent to both gateways ran {sides} times, as expected: each process "
        f"remembers keys by itself, so a delivery and its retries must stay on one gateway{_as_wakes(wakes)}"
    )
    return Check(name, Answer.PASS, reason, Hop.CANARY)


def _ran(frame: pd.DataFrame) -> int:
    return int((frame["run_id"] != "").sum())


def _woke(frame: pd.DataFrame) -> int:
    return int((frame["wake"] != "").sum())


def _as_wakes(count: int) -> str:
    return f"; {count} went to wake hooks, which have no idempotency: each repeat is queued again" * bool(count)


def _accepted(frame: pd.DataFrame) -> pd.Series[bool]:
    return frame["status"].between(200, 299).fillna(False).astype(bool)


def _hop(frame: pd.DataFrame) -> Hop:
    return Hop.PRIMARY if set(frame["gateway"]) == {"primary"} else Hop.CANARY


def _errors(frame: pd.DataFrame) -> str:
    """What went wrong, most frequent first, to end a sentence with."""
    counts = frame.loc[frame["error"] != "", "error"].value_counts()
    return "".join(f"; {count} × {error}" for error, count in counts.head(3).items())
