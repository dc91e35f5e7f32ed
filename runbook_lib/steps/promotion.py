"""Raising the canary's weight: to the slice first, then in steps, each gated by what the step before showed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.checklist.order import RAISED
from runbook_lib.judging.actions import act
from runbook_lib.judging.judge import judge_reload
from runbook_lib.judging.share import arrived, bounds_pct, judge_share
from runbook_lib.mac.lease import is_short, propose_lease
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.mac.switch import propose_undrain
from runbook_lib.nginx.asking import Pulse, probe_nginx, probe_pulse
from runbook_lib.nginx.change import propose_weights, ramp
from runbook_lib.plan.models import Plan
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.steps.acting import Acting
from runbook_lib.steps.collect import collect_log, collect_samples, settle
from runbook_lib.steps.observation import judge_gateways, judge_traffic
from runbook_lib.verdict import Answer, Check, Hop, Verdict

SAMPLED_S = 60  # memory and readiness are judged over at least the last minute


def slice_of(plan: Plan) -> float:
    """The first weight: the slice; a standby gets none, only synthetic probes."""
    return 0.0 if plan.topology == "primary_standby" else plan.traffic.slice_pct


def steps_of(plan: Plan, from_pct: float) -> list[float]:
    """The weights up to 100 %. Article: "raise in 10% steps"; a standby is promoted by one swap.

    >>> steps_of(plan, 70)      # doctest: +SKIP
    [80.0, 90.0, 100.0]
    """
    if plan.topology == "primary_standby":
        return [100.0]
    count = int((100 - from_pct) // plan.traffic.step_pct)
    steps = [from_pct + plan.traffic.step_pct * n for n in range(1, count + 1)]
    return steps if steps and steps[-1] == 100 else [*steps, 100.0]


@dataclass(frozen=True)
class Raise:
    """One weight to be set, and every change on the way to it, in order."""

    to_pct: float
    proposals: tuple[Proposal, ...]

    @property
    def revision(self) -> str:
        """The configuration that runs in the end."""
        return next(str(p.facts["revision"]) for p in reversed(self.proposals) if "revision" in p.facts)


def propose_raise(mac: Mac, to_pct: float) -> Raise:
    """Raise the weight: the operator's lease, then from zero a ramp where nginx has no slow_start.

    A canary that serves already is warm: slow_start would not ramp it either. A standby is swapped at once. Where the
    canary was drained, its share comes back with the first weight: whoever raises it has decided that.
    """
    (only,) = _propose_raises(mac, [to_pct], probe_pulse(mac))
    return only


def propose_promotion(mac: Mac, run: Run, pulse: Pulse) -> list[Raise]:
    """The weights that remain up to 100 %, each a raise of its own, to be judged before the next."""
    return _propose_raises(mac, remaining(mac, run, pulse), pulse)


def proposals_of(raises: list[Raise]) -> list[Proposal]:
    """Every change of a promotion, in order."""
    return [proposal for one in raises for proposal in one.proposals]


def _propose_raises(mac: Mac, to_pcts: list[float], pulse: Pulse) -> list[Raise]:
    plan, first = mac.plan, to_pcts[0]
    at_once = plan.topology == "primary_standby" or pulse.weight_pct > 0
    on_the_way = [first] if at_once else ramp(0, first, probe_nginx(mac).has_slow_start)
    changes = propose_weights(mac, [*on_the_way, *to_pcts[1:]])
    ramped, later = changes[: len(on_the_way)], changes[len(on_the_way) :]
    pauses = [0.0, *[plan.traffic.ramp_s / len(ramped)] * (len(ramped) - 1)]
    begin: list[Proposal] = [replace(change, after_s=pause) for change, pause in zip(ramped, pauses, strict=True)]
    if pulse.drained:
        begin.insert(1, propose_undrain(plan, f"the weight is raised to {first:g} % again"))
    if is_short(mac.ledger, plan.lease.attended_s):
        begin.insert(0, propose_lease(mac, plan.lease.attended_s))
    return [Raise(first, tuple(begin)), *(Raise(p, (c,)) for p, c in zip(to_pcts[1:], later, strict=True))]


@dataclass(frozen=True)
class Raised:
    """What a raise showed: the log under the configuration before it, and under the one after."""

    weight_pct: float
    before: LogCounts
    after: LogCounts

    def quantiles(self) -> pd.DataFrame:
        """Response p95 by gateway: gateway, before_ms, after_ms (NaN without a response), before_count, after_count."""
        sides = {
            phase: counts.quantiles(windows=False).query("metric == 'response'").set_index("gateway")
            for phase, counts in (("before", self.before), ("after", self.after))
        }
        table = pd.DataFrame(index=pd.Index(["primary", "canary"], name="gateway"))
        for phase, frame in sides.items():
            table[f"{phase}_ms"] = frame["p95_ms"].astype(float)
        for phase, frame in sides.items():
            table[f"{phase}_count"] = frame["requests_count"].reindex(table.index, fill_value=0)
        return table.reset_index()

    def share(self) -> dict[str, float]:
        """What plot_share draws: asked_pct, arrived_pct, and the bounds of the 99.9 % interval."""
        canary, total = arrived(self.after)
        low_pct, high_pct = bounds_pct(self.after)
        return {
            "asked_pct": self.weight_pct,
            "arrived_pct": 100 * canary / total if total else 0.0,
            "low_pct": low_pct,
            "high_pct": high_pct,
        }


def measure(step: Acting, raised: Raise) -> Raised:
    """Let traffic pass under a raise's last revision, then set it beside what passed while the canary was dark."""
    mac, run = step.mac, step.run
    before = collect_log(mac, run).select(revision=dark_revision(run.ledger().events(Kind.WEIGHT)))

    def is_decided(after: LogCounts) -> bool:
        answer = Verdict.of(judge(mac.plan, Raised(raised.to_pct, before, after))).answer
        return _is_enough(mac, after) and answer is not Answer.INCONCLUSIVE

    after = settle(mac, run, raised.revision, mac.plan.traffic.settle_s, is_decided, step.stay)
    return Raised(raised.to_pct, before, after)


def dark_revision(weights: list[Event[Any]]) -> str:
    """The configuration of the last of the ledger's weights that was 0; empty where there was none."""
    return next((str(e["detail"]["revision"]) for e in reversed(weights) if e["detail"]["weight_pct"] == 0), "")


def judge(plan: Plan, raised: Raised) -> list[Check]:
    """The share that arrived, and response p95 right after the reload (article: more than 35 % up)."""
    if plan.topology == "primary_standby":
        reason = "a standby gets synthetic probes and no slice; its weight stays 0 until the swap"
        return [Check("no slice", Answer.PASS, reason, Hop.RUNBOOK)]
    return [
        judge_share(raised.after, raised.weight_pct),
        *judge_reload(raised.before, raised.after, plan.thresholds),
    ]


def remaining(mac: Mac, run: Run, pulse: Pulse) -> list[float]:
    """The weights still to be set and judged: a weight that runs but was never judged comes first."""
    since = run.ledger().last(Kind.VERDICT, step=RAISED)
    passed = [
        float(e["detail"]["weight_pct"])
        for e in run.ledger().events(Kind.JUDGED)
        if since and e["seq"] > since["seq"] and e["detail"]["answer"] == Answer.PASS
    ]
    return steps_of(mac.plan, min(pulse.weight_pct, max(passed, default=slice_of(mac.plan))))


def promote(step: Acting, raises: list[Raise]) -> tuple[pd.DataFrame, Verdict]:
    """Carry out raise after raise, judging after each; stops at the first that is not a pass.

    One row a raise: weight_pct, requests_count, answer, reason.
    """
    mac, run, every_s = step.mac, step.run, step.mac.plan.traffic.promote_every_s
    rows, verdict = [], Verdict()
    for one in raises:
        step.stay()
        step.apply(*one.proposals)
        weight_pct, revision = one.to_pct, one.revision
        counts = settle(mac, run, revision, every_s, partial(_is_decided, mac, weight_pct), step.stay)
        samples = collect_samples(mac, run)
        recent = pd.Timestamp.now("UTC") - pd.Timedelta(seconds=max(SAMPLED_S, every_s))
        verdict = judge_step(mac.plan, weight_pct, counts, samples[samples["at"] >= recent])
        mac.ledger.append(
            Kind.JUDGED,
            f"the canary at {weight_pct:g} %: {verdict.answer}",
            weight_pct=weight_pct,
            revision=revision,
            since=recent.isoformat(),
            answer=str(verdict.answer),
            checks=verdict.table().to_dict("records"),
            fetched=run.fetched(),
        )
        rows.append(
            (weight_pct, arrived(counts)[1], str(verdict.answer), "; ".join(verdict.reasons) or "all checks passed")
        )
        if verdict.answer is not Answer.PASS:
            break
    return pd.DataFrame(rows, columns=["weight_pct", "requests_count", "answer", "reason"]), verdict


def judge_step(plan: Plan, weight_pct: float, counts: LogCounts, samples: pd.DataFrame) -> Verdict:
    """One step of the promotion: what the log of its revision says, and the samples of its last minutes."""
    traffic = judge_traffic(counts, plan.thresholds, weight_pct)
    return act([*traffic, *judge_gateways(samples, plan.thresholds, weight_pct)], plan.thresholds)


def judge_promoted(pulse: Pulse) -> list[Check]:
    """Does the canary serve everything?"""
    answer = Answer.PASS if pulse.weight_pct == 100 else Answer.INCONCLUSIVE
    reason = f"the canary's weight is {pulse.weight_pct:g} of 100 %"
    return [Check("promoted", answer, reason, Hop.RUNBOOK, pulse.weight_pct, 100.0, "%")]


def _is_enough(mac: Mac, counts: LogCounts) -> bool:
    """Enough requests of the canary, and of primary while it has a share, for any rule to be decided."""
    canary, total = arrived(counts)
    needed = 0 if mac.plan.topology == "primary_standby" else mac.plan.thresholds.min_requests_count
    return canary >= needed and (total - canary >= needed or canary == total)


def _is_decided(mac: Mac, weight_pct: float, counts: LogCounts) -> bool:
    """Enough requests, and no rule that is over its threshold without being certain: until then the weight is held."""
    answer = Verdict.of(judge_traffic(counts, mac.plan.thresholds, weight_pct)).answer
    return _is_enough(mac, counts) and answer is not Answer.INCONCLUSIVE
