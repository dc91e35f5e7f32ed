"""Every step judged again from what was kept, by the same functions that judged it on the Mac.

recomputed    from raw evidence: slices of the log to counts, samples, the judge
re-judged     from the rows that a probe recorded: what a live gateway answered cannot be asked again
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from runbook_lib import matrix
from runbook_lib.audit.kept import Kept
from runbook_lib.gateway.launchd import Job
from runbook_lib.gateway.webhooks import judge_agent, judge_replay
from runbook_lib.nginx import lints
from runbook_lib.nginx.asking import pulse_from
from runbook_lib.records.kinds import Kind
from runbook_lib.steps import (
    dark,
    install,
    isolation,
    migration,
    observation,
    promotion,
    rollback,
    smoke,
    snapshot,
    validation,
)
from runbook_lib.verdict import Check

RECOMPUTED, REJUDGED = "recomputed", "re-judged"
JudgedAgain = Mapping[str, list[Check]]


def _snapshot(kept: Kept) -> JudgedAgain:
    jobs = {row["job"]: _job(row) for row in kept.table("jobs").to_dict("records")}
    taken = snapshot.Snapshot.from_facts(kept.facts("snapshot"))
    return {REJUDGED: [*snapshot.judge_before(jobs), *_matrix(kept), *snapshot.judge(taken)]}


def _install(kept: Kept) -> JudgedAgain:
    ports = install.judge_ports(kept.plan, kept.table("listeners"))
    installed = install.judge(kept.plan, kept.table("packages"), kept.table("secrets"))
    return {REJUDGED: [*ports, *installed, *migration.judge(kept.table("schemas"))]}


def _validate(kept: Kept) -> JudgedAgain:
    plists = [*validation.judge_plist(kept.table("plist")), *validation.judge_rules(kept.table("rules"))]
    return {REJUDGED: [*validation.judge(kept.table("validation")), *plists, *lints.judge(kept.table("lints"))]}


def _start_dark(kept: Kept) -> JudgedAgain:
    pulse = pulse_from(kept.facts("pulse"))
    return {
        REJUDGED: [*_matrix(kept), *_isolation(kept)],
        RECOMPUTED: dark.judge(pulse, kept.counts().select(revision=pulse.revision)),
    }


def _smoke(kept: Kept) -> JudgedAgain:
    first, again, both = (kept.table(name) for name in ("first", "again", "both"))
    others = [*smoke.judge_forged(kept.plan, kept.table("forged")), judge_agent(kept.table("agent"))]
    replayed = judge_replay(first, again, both, to_both=kept.plan.webhooks.smoke_primary)
    return {REJUDGED: [*replayed, *others, *_isolation(kept)]}


def _raise(kept: Kept) -> JudgedAgain:
    weights = [event for event in kept.before if event["event"] == Kind.WEIGHT]
    raised, counts = kept.last(Kind.WEIGHT)["detail"], kept.counts()
    before, after = (counts.select(revision=name) for name in (promotion.dark_revision(weights), raised["revision"]))
    return {RECOMPUTED: promotion.judge(kept.plan, promotion.Raised(float(raised["weight_pct"]), before, after))}


def _observe(kept: Kept) -> JudgedAgain:
    weight = kept.last(Kind.WEIGHT)
    drained = observation.drained_since(kept.before, weight)
    seen = observation.Observation.of(kept.plan, weight, kept.counts(), kept.samples(), drained)
    return {RECOMPUTED: observation.judge(kept.plan, seen), REJUDGED: [*_matrix(kept), *_isolation(kept)]}


def _promote(kept: Kept) -> JudgedAgain:
    step = kept.last(Kind.JUDGED)
    budget = judged(Kept(step, kept.before, kept.folder, kept.slices))
    return {**budget, REJUDGED: [*promotion.judge_promoted(pulse_from(kept.facts("pulse"))), *_matrix(kept)]}


def judged(kept: Kept) -> JudgedAgain:
    """One step of the promotion."""
    detail = kept.event["detail"]
    samples = kept.samples()
    recent = samples[samples["at"] >= pd.Timestamp(detail["since"])]
    counts = kept.counts().select(revision=detail["revision"])
    return {RECOMPUTED: list(promotion.judge_step(kept.plan, float(detail["weight_pct"]), counts, recent).checks)}


def _roll_back(kept: Kept) -> JudgedAgain:
    found = rollback.judge(kept.table("hashes"), kept.facts("nginx"), pulse_from(kept.facts("pulse")))
    return {REJUDGED: [*found, *_matrix(kept)]}


def _rehearse(kept: Kept) -> JudgedAgain:
    return {REJUDGED: [*_matrix(kept, "direct"), *_matrix(kept)]}


AGAIN: dict[str, Callable[[Kept], JudgedAgain]] = {
    "01_snapshot": _snapshot,
    "02_install_canary": _install,
    "03_validate": _validate,
    "04_start_dark": _start_dark,
    "05_smoke": _smoke,
    "06_raise_weight": _raise,
    "07_observe": _observe,
    "08_promote_or_rollback": _promote,
    "rollback": _roll_back,
    "rehearse_nginx_failure": _rehearse,
}


def _matrix(kept: Kept, name: str = "matrix") -> list[Check]:
    return matrix.judge_matrix(kept.table(name))


def _isolation(kept: Kept) -> list[Check]:
    """None in runs from before it was asked."""
    return isolation.judge(kept.table("isolation")) if kept.has("isolation") else []


def _job(row: Mapping[Hashable, Any]) -> Job:
    pid, runs = (None if pd.isna(row[n]) or row[n] == "" else int(float(str(row[n]))) for n in ("pid", "runs"))
    return Job(bool(row["loaded"]), str(row["state"]), pid, runs, last_exit=str(row["last_exit"]))
