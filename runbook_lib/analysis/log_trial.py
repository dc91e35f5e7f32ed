"""What the gates of a region would have done on a log: false alarms, and which faults they would have caught, when.

The log needs no canary: see dealt.py. The gates are those of steps 6 and 7 with the region's own slice, windows and
thresholds; memory, backlog and readiness are the sentinel's and not in any log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.detection import Hints
from runbook_lib.accesslog.reader import NO_HINTS
from runbook_lib.analysis.injections import INJECTIONS, Injection
from runbook_lib.analysis.named_log import read_log
from runbook_lib.analysis.split_log import Dealt
from runbook_lib.analysis.trial_gates import Stage, action
from runbook_lib.errors import EvidenceError
from runbook_lib.judging.judge import judge_log
from runbook_lib.judging.ratios import minutes
from runbook_lib.plan.models import Plan
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.verdict import Answer, Check, Hop, Verdict

LOOKS_IN_WINDOW = 15
"""How finely time is measured: a minute where a window is 15."""
ALARM_COLUMNS = ["gate", "at", "check", "action", "reason"]
FAULT_COLUMNS = ["fault", "hop", "injected_count", "caught_count", "median_s", "longest_s", "action", "checks"]
FAULT_COLUMNS += ["blamed"]
Caught = tuple[float, list[Check]]


@dataclass(frozen=True)
class Replay:
    """What rehearse found.

    alarms    one row a rule that failed on a healthy split: gate, at (aware UTC), check, action, reason
    faults    one row a fault: fault, hop (where it is), injected_count, caught_count, median_s and longest_s until it
              was caught (NaN: never), action (drain or pause), checks (that failed), blamed (the hops they named)
    """

    slice_pct: float
    observations_count: int
    hours: float
    alarms: pd.DataFrame
    faults: pd.DataFrame
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        return {
            "answer": str(self.verdict.answer),
            "reasons": self.verdict.reasons,
            "checks": self.verdict.table().to_dict("records"),
            "slice_pct": self.slice_pct,
            "observations_count": self.observations_count,
            "hours": self.hours,
            "alarms": self.alarms.to_dict("records"),
            "faults": self.faults.astype(object).where(self.faults.notna(), None).to_dict("records"),
        }


def rehearse(plan: Plan, logs: Sequence[Path], seed: int = 1, hints: Hints = NO_HINTS) -> Replay:
    """Deal the log's own traffic by the plan's slice, and put it before the gates: healthy, and with each fault.

    The same files, plan and seed give the same answer. Raises EvidenceError where a file cannot be read, where no
    request was answered at primary's address, or where the log is too short for a reload and two windows.
    """
    window_s = int(plan.observation.window_s)
    look_s = next(s for s in range(max(1, window_s // LOOKS_IN_WINDOW), 0, -1) if window_s % s == 0)
    log = read_log(logs, plan.upstreams, look_s, hints, undone="nothing was rehearsed")
    rows: list[tuple[object, ...]] = []
    caught: dict[str, list[Caught]] = {fault.name: [] for fault in INJECTIONS}
    looks_count = observations_count = hours = 0.0
    for stage in _observations(plan, log, window_s, seed):
        rows += stage.alarms()
        observations_count, looks_count = observations_count + 1, looks_count + 1 + len(stage.looks)
        hours += stage.length_s / 3600
        for fault in INJECTIONS:
            caught[fault.name] += [stage.caught(fault, from_s) for from_s in stage.places(fault)]
    alarms = pd.DataFrame(rows, columns=ALARM_COLUMNS)
    faults = pd.DataFrame([_row(fault, caught[fault.name]) for fault in INJECTIONS], columns=FAULT_COLUMNS)
    checks = [_judge_log(log, plan.thresholds), _judge_alarms(alarms, int(observations_count), hours, int(looks_count))]
    checks += [_judge_fault(row, hours) for row in faults.to_dict("records")]
    slice_pct = plan.traffic.slice_pct
    return Replay(slice_pct, int(observations_count), hours, alarms, faults, Verdict.of(checks))


def _observations(plan: Plan, log: LogCounts, window_s: int, seed: int) -> Iterator[Stage]:
    """The log cut into observations as long as the plan's, or one that is as long as the log."""
    settle_s = -(-int(plan.traffic.settle_s) // window_s) * window_s
    served = [int(window) for (window, _, gateway, _), _, _ in log.times.items() if gateway == "primary"]
    if not served:
        raise EvidenceError(
            f"no answer of primary at {plan.primary.address} in {log.lines_count} lines, {log.unparsed_count} of which "
            f"cannot be parsed; missing fields: {', '.join(sorted(log.missing)) or 'none'}; nothing was rehearsed"
        )
    first, last = -(-min(served) // window_s) * window_s, (max(served) + log.window_s) // window_s * window_s
    length_s = min(int(plan.observation.observe_s) // window_s * window_s, last - first - settle_s)
    if length_s < 2 * window_s:
        raise EvidenceError(
            f"the log has {max(0, last - first)} s in whole windows of {window_s} s, a reload and an observation need "
            f"{settle_s + 2 * window_s} s; nothing was rehearsed"
        )
    for start_s in range(first + settle_s, last - length_s + 1, length_s):
        dealt = Dealt.of(log, start_s - settle_s, start_s + length_s, plan.traffic.slice_pct, seed)
        yield Stage(dealt, start_s, settle_s, window_s, plan.traffic.slice_pct, plan.thresholds, seed)


def _judge_log(log: LogCounts, thresholds: Thresholds) -> Check:
    lines = log.select()
    lines.missing.discard("openclaw_target")  # dealing says whom a request is meant for
    return judge_log(lines, thresholds)


def _row(fault: Injection, caught: list[Caught]) -> tuple[object, ...]:
    """FAULT_COLUMNS of one fault in all its places."""
    delays = [delay for delay, _ in caught if not np.isnan(delay)]
    failed = [check for _, checks in caught for check in checks]
    median_s, longest_s = (float(np.median(delays)), max(delays)) if delays else (np.nan, np.nan)
    names, hops = dict.fromkeys(c.name for c in failed), dict.fromkeys(c.hop.value for c in failed)
    row = (fault.name, fault.hop.value, len(caught), len(delays), median_s, longest_s)
    return *row, action(failed), ", ".join(names), ", ".join(hops)


def _judge_alarms(alarms: pd.DataFrame, observations_count: int, hours: float, looks_count: int) -> Check:
    """No rule may fail where both halves are the same gateway."""
    reason = f"false alarms: {len(alarms)} in {observations_count} healthy observations, {hours:.1f} h in all"
    answer, remedy = Answer.PASS, ""
    if len(alarms):
        answer, reason = Answer.FAIL, f"{reason}: {', '.join(sorted(set(alarms['check'])))}"
        remedy = "this traffic trips the rule without any canary: mend what does, or raise that threshold knowingly"
    reason += f", 0 allowed, n={looks_count} looks"
    return Check("false alarms", answer, reason, Hop.RUNBOOK, len(alarms), 0, "", looks_count, remedy)


def _judge_fault(row: dict[Any, Any], hours: float) -> Check:
    """Caught wherever it was injected; anything less means that this traffic is too little for it."""
    name, n, caught = row["fault"], row["injected_count"], row["caught_count"]
    reason = f"{name}: caught {caught} of {n} times in {hours:.1f} h"
    if caught:
        reason += f", after {minutes(row['median_s'])} (longest {minutes(row['longest_s'])}) by {row['checks']}"
    missed = caught < n
    remedy = "observe longer, or give the canary a larger slice" if missed else ""
    answer = Answer.FAIL if missed else Answer.PASS
    return Check(name, answer, reason, Hop(row["hop"]), caught, n, "", n, remedy)
