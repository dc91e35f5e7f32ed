"""Right after a reload: starved workers, a slow canary or a slow host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.accesslog.tally import Tally
from runbook_lib.judging.latency import Histogram, Histograms, certain, is_slower, limit_over, over, pooled, size
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.statistics import generator, quantile
from runbook_lib.verdict import ALONE, GATEWAY_HOP, PLAIN, RELOAD, Answer, Check, CheckName, Hop

REMEDIES = {
    Hop.NGINX: "raise worker_connections and keepalive for the added upstream, or roll the configuration back",
    Hop.CANARY: "fix the canary; do not tune nginx",
    Hop.PRIMARY: "hold the weight and look at primary",
    Hop.HOST: "hold the weight and look at the host: CPU, memory pressure, launchd throttling",
    Hop.PATH: "hold the weight and look at the network in front of the Mac",
}


@dataclass(frozen=True)
class Rise:
    """Response p95 of one gateway before and after, and whether the rise is certain.

    Of what came since, more than a twentieth took longer than is allowed over the p95 before, which is taken at the
    upper end of its bootstrap interval: certain however often one looks (latency.certain).
    """

    gateway: str
    before_ms: int
    after_ms: int
    before_count: int
    after_count: int
    late_count: int
    limit_ms: float
    is_late: bool

    @classmethod
    def of(
        cls, gateway: str, before: Histogram, after: Histograms, thresholds: Thresholds, tests_count: int = 1
    ) -> Rise:
        """`after` by window; neither side may be empty."""
        limit_ms = limit_over(before, thresholds.reload_p95_rise_pct, thresholds, generator())
        windows = [h for _, h in sorted(after.items())]
        late, tried = [over(h, limit_ms) for h in windows], [size(h) for h in windows]
        is_late = certain(late, tried, thresholds, tests_count) is not None
        p95s = quantile(*before, 0.95), quantile(*pooled(after), 0.95)
        return cls(gateway, *p95s, size(before), sum(tried), sum(late), limit_ms, is_late)

    @property
    def pct(self) -> float:
        return 100 * (self.after_ms - self.before_ms) / max(self.before_ms, 1)

    def is_over(self, thresholds: Thresholds) -> bool:
        return is_slower(self.after_ms, self.before_ms, thresholds.reload_p95_rise_pct, thresholds.smallest_rise_ms)

    def is_certain(self, thresholds: Thresholds) -> bool:
        return self.is_over(thresholds) and self.is_late

    def text(self) -> str:
        return (
            f"{self.gateway} response p95 {self.before_ms} ms before and {self.after_ms} ms after the reload, "
            f"{self.pct:+.0f} % ({self.late_count} took over {self.limit_ms:.0f} ms), "
            f"n={self.before_count} and {self.after_count}"
        )


def judge_reload(before: LogCounts, after: LogCounts, thresholds: Thresholds) -> list[Check]:
    """The article's rule: response p95 over 35 % up immediately after a reload means starved workers.

    `before` is what the log had until the reload (its last minutes: LogCounts.select), `after` what came
    since, with a new configuration revision. Lines of an old revision in `after` come from old workers
    that finish what they hold; they are counted and not judged. One check a gateway, and one of the workers
    by themselves.
    """
    old_revisions = set(before.revisions)
    fresh = [name for name in after.revisions if name not in old_revisions]
    new = _only(after, fresh) if fresh else after
    rises: list[Rise] = []
    missing: list[Check] = []
    for gateway in ("primary", "canary"):
        since = new.histograms(gateway, "response")
        old, count = pooled(before.histograms(gateway, "response")), size(pooled(since))
        smallest = min(size(old), count)
        if smallest >= thresholds.min_requests_count:
            rises.append(Rise.of(gateway, old, since, thresholds))
        elif gateway == "primary" or smallest:
            missing.append(_too_few(gateway, size(old), count, thresholds))
    over = {r.gateway for r in rises if r.is_over(thresholds)}
    checks = [_judge_rise(rise, over, len(rises), thresholds) for rise in rises]
    return [*checks, *missing, _judge_workers(before, after, old_revisions if fresh else set(), thresholds)]


def _only(counts: LogCounts, revisions: Sequence[str]) -> LogCounts:
    picked = LogCounts(counts.window_s)
    for name in revisions:
        picked.merge(counts.select(name))
    return picked


def _too_few(gateway: str, before_count: int, after_count: int, thresholds: Thresholds) -> Check:
    reason = (
        f"{RELOAD[gateway]}: {before_count} responses before and {after_count} after, "
        f"{thresholds.min_requests_count} each are needed"
    )
    hop = Hop.NGINX
    return Check(RELOAD[gateway], Answer.INCONCLUSIVE, reason, hop, samples_count=after_count)


def _judge_rise(rise: Rise, over: set[str], judged_count: int, thresholds: Thresholds) -> Check:
    allowed = thresholds.reload_p95_rise_pct
    name, is_plain = RELOAD[rise.gateway], "reload_p95" in thresholds.plain_rules
    if is_plain:
        answer = Answer.FAIL if rise.gateway in over else Answer.PASS
        tail = f", {'over' if rise.gateway in over else 'not over'} {allowed:g} % {PLAIN}"
    elif rise.gateway not in over:
        answer, tail = Answer.PASS, f", not over {allowed:g} %"
    elif rise.is_certain(thresholds):
        answer, tail = Answer.FAIL, f", certainly over {allowed:g} %"
    else:
        answer, tail = Answer.INCONCLUSIVE, f", over {allowed:g} % but not for certain"
    hop, evidence = _blame(rise.gateway, over, judged_count)
    if answer is not Answer.PASS:
        tail += f": {evidence}"
    remedy = "" if answer is Answer.PASS else REMEDIES[hop]
    samples = min(rise.before_count, rise.after_count)
    return Check(name, answer, rise.text() + tail, hop, rise.pct, allowed, "%", samples, remedy, is_plain=is_plain)


def _blame(gateway: str, over: set[str], judged_count: int) -> tuple[Hop, str]:
    """Up for one gateway of two is that gateway; up for both is nginx, which they share."""
    if judged_count > 1 and len(over) == 1:
        return GATEWAY_HOP[gateway], ALONE
    why = "both gateways are up at once" if len(over) > 1 else "there is no other gateway to compare with"
    return Hop.NGINX, f"{why}; ask the gateways directly to be sure: starved workers"


def _by_worker(counts: LogCounts) -> dict[tuple[str, int], Histogram]:
    together = Tally()
    for (_, revision, pid, _), values, found in counts.workers.items():
        together.add((revision, pid), values, found)
    return {(str(revision), int(pid)): (values, found) for (revision, pid), values, found in together.items()}


def _judge_workers(before: LogCounts, after: LogCounts, old: set[str], thresholds: Thresholds) -> Check:
    """Whether some workers are slow and others are not, and how many old ones still hold requests."""
    name, allowed = CheckName.WORKERS, thresholds.reload_p95_rise_pct
    old_times = list(_by_worker(before).values())
    pinned = {pid: size(h) for (revision, pid), h in _by_worker(after).items() if revision in old}
    fresh = {pid: h for (revision, pid), h in _by_worker(after).items() if revision not in old}
    held = f"{len(pinned)} old workers finished {sum(pinned.values())} requests"
    enough = {pid: h for pid, h in fresh.items() if size(h) >= thresholds.min_requests_count}
    if not enough or not old_times:
        reason = f"{name}: none of {len(fresh)} new workers has {thresholds.min_requests_count} responses yet; {held}"
        return Check(name, Answer.PASS, reason, Hop.NGINX, samples_count=sum(map(size, fresh.values())))
    yardstick = pooled(dict(enumerate(old_times)))
    slow = [
        pid
        for pid, h in enough.items()
        if Rise.of(str(pid), yardstick, {0: h}, thresholds, len(enough)).is_certain(thresholds)
    ]
    total = sum(map(size, enough.values()))
    if slow and len(slow) < len(enough):
        pids = ", ".join(map(str, sorted(slow)))
        reason = f"{name}: {len(slow)} of {len(enough)} are over {allowed:g} % slower than before (pid {pids}); {held}"
        return Check(name, Answer.FAIL, reason, Hop.NGINX, len(slow), 0, "", total, REMEDIES[Hop.NGINX])
    if slow:
        reason = f"{name}: all {len(enough)} are slower by over {allowed:g} %, so it is no single worker; {held}"
    else:
        reason = f"{name}: none of {len(enough)} is over {allowed:g} % slower than before; {held}"
    return Check(name, Answer.PASS, reason, Hop.NGINX, len(slow), 0, "", total)
