"""From measurements and thresholds to a verdict: the article's rules, each with its confidence.

    rule                                                      not met, the remedy is
    5xx over 0.5 % of attempts, over 15 minutes               drain the canary
    meant for the canary, served by primary, over 0.5 %       drain the canary: it is dead behind its backup
    connect p95 over 120 ms                                   pause, inspect launchd throttling
    header p95 over 35 % above primary's                      fix the canary
    5xx that nginx made by itself over 0.5 %                  nginx: worker_connections, routing
    response p95 over 35 % up right after a reload            starved workers (reloads.py)
    RSS over 18 % apart                                       pause, compare the npm trees
    backlog over 200                                          stop raising, add a Mac

Fail means certain at the threshold's confidence; a number that is only over it for now is inconclusive,
and so is one from too few requests. In plain mode (Thresholds.plain_rules) the number alone decides.
Exactly at the threshold is not over it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.names import GATEWAYS
from runbook_lib.judging.beside import find_beside
from runbook_lib.judging.host import FAIL_TIMEOUT_S, HostMinutes
from runbook_lib.judging.latency import judge_connect, judge_header, slow_windows
from runbook_lib.judging.ratios import RatioRule, Series, is_over, judge_ratio, minutes, percent
from runbook_lib.judging.reloads import judge_reload
from runbook_lib.judging.share import arrived, judge_share
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.verdict import ALONE, BACKLOG, GATEWAY_HOP, Answer, Check, CheckName, Hop, Verdict

__all__ = [
    "judge_backlog",
    "judge_log",
    "judge_reload",
    "judge_rss",
    "judge_windows",
]

NEEDED = frozenset(
    {"openclaw_target", "upstream_addr", "upstream_status", "upstream_connect_time", "upstream_header_time"}
)
"""Without these fields of ours a log does not tell the canary from primary, or a slow one from a quick one."""

CANARY_ERRORS = RatioRule(
    CheckName.CANARY_ERRORS,
    "attempts_5xx",
    "attempts",
    "attempts at the canary",
    "drain the canary and fix it; do not tune nginx",
)
PRIMARY_ERRORS = RatioRule(
    CheckName.PRIMARY_ERRORS,
    "attempts_5xx",
    "attempts",
    "attempts at primary",
    "hold the weight; the canary is not at fault",
)
TAKEN_OVER = RatioRule(
    "canary taken over",
    "taken_over",
    "requests",
    "requests meant for the canary that primary served",
    "drain the canary: its backup hides that it is dead",
)
OWN_ERRORS = RatioRule(
    CheckName.NGINX_ERRORS,
    "own_5xx",
    "requests",
    "requests that nginx itself answered with 5xx",
    "look at nginx's error log: worker_connections, limits, routing; the gateways were not asked",
)


NO_BACKLOG = (
    "is the plugin admin-http-rpc on, and its token right? For the canary alone: runtime.canary_rpc: true in the "
    "parameters, then a new run"
)


def judge_windows(
    counts: LogCounts,
    thresholds: Thresholds,
    *,
    asked_pct: float | None = None,
) -> Verdict:
    """All that an access log can say about the canary, over all windows in `counts`.

    `asked_pct` is the canary's weight: with it a share that is too small is a failure too (a frozen canary
    logs nothing until its requests time out).
    Checks by name: log, canary traffic, canary 5xx, canary taken over, primary 5xx, nginx 5xx, canary
    connect p95, primary connect p95, canary header p95 and, with `asked_pct`, canary share.
    """
    canary_count, total_count = arrived(counts)
    checks = [judge_log(counts, thresholds), _traffic(canary_count, total_count, thresholds)]
    if total_count == 0:
        return Verdict.of(checks)
    canary, primary = (Series.of(counts, [g], "attempts_5xx", "attempts") for g in ("canary", "primary"))
    taken_over = Series.of(counts, ["canary"], "taken_over", "requests")
    ours = GATEWAYS if "openclaw_target" in counts.missing else [g for g in GATEWAYS if g != "none"]
    own = Series.of(counts, ours, "own_5xx", "requests")
    host = HostMinutes.of(canary, primary, thresholds)
    found, left_out = find_beside(canary, primary, host, thresholds), host.text()
    errors = judge_ratio(CANARY_ERRORS, host.without(canary), Hop.CANARY, thresholds, found, left_out)
    of_primary = judge_ratio(PRIMARY_ERRORS, host.without(primary), Hop.PRIMARY, thresholds, None, left_out)
    now = host.now(primary)
    if now.trials_count:
        errors, of_primary = _while_both_are_bad(errors, of_primary, now, thresholds)
    slow = slow_windows(counts, thresholds)
    connects = [judge_connect(counts, g, GATEWAY_HOP[g], thresholds, slow) for g in ("canary", "primary")]
    if all(check.answer is Answer.FAIL for check in connects):
        connects = [replace(check, hop=Hop.HOST) for check in connects]
    checks += [
        _alone(errors),
        judge_ratio(TAKEN_OVER, host.without(taken_over, FAIL_TIMEOUT_S), Hop.CANARY, thresholds),
        of_primary,
        judge_ratio(OWN_ERRORS, own, Hop.NGINX, thresholds),
        *connects,
        _alone(judge_header(counts, thresholds)),
    ]
    if asked_pct is not None:
        checks.append(judge_share(counts, asked_pct))
    return Verdict.of(checks)


def judge_log(counts: LogCounts, thresholds: Thresholds) -> Check:
    """Whether the log can be judged at all: that it has lines, can be parsed, and has the fields.

    However few the lines are that cannot be parsed: errors are often exactly those. If all of them were the canary's
    errors, at the worst moment, and that could turn its 5xx rule, the log is not judged.
    """
    lost, lines, share = counts.unparsed_count, counts.lines_count, percent(counts.unparsed_ratio)
    text = f"{lost} of {lines} lines could not be parsed" + (f", {share}" if lines else "")
    absent = sorted(NEEDED & counts.missing)
    limit = f"{thresholds.unparsed_pct:g} %"
    remedy = ""
    if not lines:
        answer, reason, remedy = Answer.INCONCLUSIVE, "the log has no lines yet", "look whether nginx writes it"
    elif is_over(lost, lines, thresholds.unparsed_pct):
        answer, reason = Answer.INCONCLUSIVE, f"{text}, over {limit}"
        remedy = f"look at these lines first: {counts.samples[:1]}"
    elif absent:
        formats = " and ".join(sorted(counts.formats))
        answer, reason = Answer.INCONCLUSIVE, f"the {formats} log has no {', '.join(absent)}, so it cannot be judged"
        remedy = "judge the log that the runbook renders (runbook_lib.accesslog.LOG_FORMAT)"
    elif turned := _turned_by(lost, counts, thresholds):
        answer, reason = Answer.INCONCLUSIVE, f"{text}; {turned}"
        remedy = f"look at these lines first: {counts.samples[:1]}"
    else:
        answer, reason = Answer.PASS, f"{text}, not over {limit}"
    measured = 100 * counts.unparsed_ratio
    return Check("log", answer, f"log: {reason}", Hop.RUNBOOK, measured, thresholds.unparsed_pct, "%", lines, remedy)


def _turned_by(lost: int, counts: LogCounts, thresholds: Thresholds) -> str:
    """What the canary's 5xx would be if all lost lines were its errors, if that changes a pass; else nothing."""
    canary = Series.of(counts, ["canary"], "attempts_5xx", "attempts")
    if not lost or not len(canary.ticks):
        return ""

    def judged(series: Series) -> Check:
        return judge_ratio(CANARY_ERRORS, series, Hop.CANARY, thresholds)

    if judged(canary).answer is not Answer.PASS:
        return ""
    worst = canary.worst(thresholds.error_window_s)
    for tick in dict.fromkeys((int(canary.ticks[-1]), int(worst.ticks[-1]))):
        turned = judged(canary.with_errors(lost, tick))
        if turned.answer is not Answer.PASS:
            return f"if they all were the canary's errors: {turned.reason}"
    return ""


def _traffic(canary_count: int, total_count: int, thresholds: Thresholds) -> Check:
    needed = thresholds.min_requests_count
    text = f"canary traffic: {canary_count} of {total_count} requests were meant for the canary"
    enough = canary_count >= needed
    answer, tail = (Answer.PASS, "") if enough else (Answer.INCONCLUSIVE, f", {needed} are needed")
    remedy = "" if enough else "wait for more requests, or look whether the weight arrived (judge_share)"
    return Check("canary traffic", answer, text + tail, Hop.CANARY, canary_count, needed, "", canary_count, remedy)


def _while_both_are_bad(errors: Check, of_primary: Check, now: Series, thresholds: Thresholds) -> tuple[Check, Check]:
    """Both checks while the host's bad minutes last: nothing is said of the canary, and after a whole window of the
    article's rule somebody has to look.
    """
    remedy = "look at the host; the canary is judged again by what comes when primary is well"
    text = (
        f"{now.text(PRIMARY_ERRORS.noun)} for {minutes(now.elapsed_s)} until now, and the canary is no better or worse"
    )
    if errors.answer is not Answer.FAIL:
        reason = f"{errors.name}: {text}"
        errors = replace(errors, answer=Answer.INCONCLUSIVE, hop=Hop.HOST, reason=reason, remedy=remedy)
    if of_primary.answer is not Answer.FAIL:
        answer = Answer.FAIL if now.elapsed_s >= thresholds.error_window_s else Answer.INCONCLUSIVE
        reason = f"{of_primary.name}: {text}; {minutes(thresholds.error_window_s)} of it are a failure"
        of_primary = replace(of_primary, answer=answer, hop=Hop.HOST, reason=reason, remedy=remedy)
    return errors, of_primary


def _alone(check: Check) -> Check:
    """A failed check of the canary says that primary is well in the same minutes."""
    return replace(check, reason=f"{check.reason}; {ALONE}") if check.answer is Answer.FAIL else check


def judge_rss(
    rss_bytes: Mapping[str, Sequence[float]], thresholds: Thresholds, *, same_weight: bool = True, needed_count: int = 5
) -> Check:
    """The article's rule: RSS over 18 % apart at the same traffic weight is a leak or another Node.

    `rss_bytes` has the samples of the last minutes by gateway; their medians are compared, so that one
    garbage collection does not count. Where the weights differ only a canary that holds more is judged: it
    serves less. Fewer than `needed_count` samples of either are inconclusive.
    """
    name, allowed = CheckName.CANARY_MEMORY, thresholds.rss_gap_pct
    canary, primary = (np.asarray(rss_bytes.get(g, ()), np.float64) for g in ("canary", "primary"))
    n = min(len(canary), len(primary))
    if n < needed_count:
        reason = f"{name}: {len(canary)} samples beside {len(primary)} of primary, {needed_count} of each are needed"
        return Check(name, Answer.INCONCLUSIVE, reason, Hop.CANARY, None, allowed, "%", n)
    ours, theirs = float(np.median(canary)), float(np.median(primary))
    gap_pct = 100 * (ours - theirs) / theirs
    apart = abs(gap_pct) if same_weight else gap_pct
    over = round(apart - allowed, 9) > 0
    weight = "" if same_weight else " at a smaller weight"
    text = f"{name}: {ours / 2**20:.0f} MB against primary's {theirs / 2**20:.0f} MB{weight}, {gap_pct:+.1f} %"
    tail = f", {'over' if over else 'not over'} {allowed:g} % apart, n={n}"
    remedy = "pause the rollout and compare `npm ls --depth=0` of both trees" if over else ""
    answer = Answer.FAIL if over else Answer.PASS
    return Check(name, answer, text + tail, Hop.CANARY, gap_pct, allowed, "%", n, remedy)


def judge_backlog(pending_jobs: Mapping[str, int | None], thresholds: Thresholds) -> list[Check]:
    """The article's rule: over 200 pending jobs. One check a gateway; None where it could not be asked."""
    limit, checks = thresholds.backlog_jobs, []
    for gateway, jobs in pending_jobs.items():
        name, hop = BACKLOG[gateway], GATEWAY_HOP.get(gateway, Hop.HOST)
        if jobs is None:
            reason = f"{name}: the number of pending jobs is not known"
            checks.append(Check(name, Answer.INCONCLUSIVE, reason, hop, None, limit, "jobs", remedy=NO_BACKLOG))
            continue
        over = jobs > limit
        reason = f"{name}: {jobs} pending jobs, {'over' if over else 'not over'} {limit}, n=1 sample"
        remedy = "stop raising; add a second Mac or reduce concurrency, do not stack a third gateway" if over else ""
        answer = Answer.FAIL if over else Answer.PASS
        checks.append(Check(name, answer, reason, hop, jobs, limit, "jobs", 1, remedy))
    return checks
