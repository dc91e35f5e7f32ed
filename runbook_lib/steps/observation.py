"""Step 7: watching the slice for as long as the plan says, from what the Mac recorded by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.clock import wait_until
from runbook_lib.errors import StepNotReady
from runbook_lib.judging.gaps import find_gaps, judge_gaps
from runbook_lib.judging.judge import judge_backlog, judge_rss, judge_windows
from runbook_lib.mac.mac import Mac
from runbook_lib.plan.models import Plan
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.weights import drains
from runbook_lib.steps.collect import collect_events, collect_log, collect_samples
from runbook_lib.verdict import READY, Answer, Check, CheckName, Hop, Verdict

NOT_READY_SAMPLES = 3  # in a row: one slow answer is not an outage, three are

BESIDE_PRIMARY = (CheckName.PRIMARY_ERRORS, CheckName.PRIMARY_CONNECT, CheckName.CANARY_HEADER)
WINDOW_COLUMNS = ["window_at", "gateway", "requests_count", "share_ratio", "attempts_5xx_count", "error_ratio"]
WINDOW_COLUMNS += ["failed_connects_count", "taken_over_count", "in_flight_count"]


@dataclass(frozen=True)
class Observation:
    """What was seen since the slice was set, and why it was taken away, if it was.

    samples as in sentinel.parse_samples, counts of one revision.
    """

    since: pd.Timestamp
    weight_pct: float
    counts: LogCounts
    samples: pd.DataFrame
    needed_s: float
    every_s: float
    drained: str = ""

    @classmethod
    def of(
        cls, plan: Plan, weight: Event[Any], counts: LogCounts, samples: pd.DataFrame, drained: str = ""
    ) -> Observation:
        """What was seen since the ledger's event `weight`, of all counts and samples of a run."""
        since, detail, section = pd.Timestamp(weight["at"]), weight["detail"], plan.observation
        return cls(
            since,
            float(detail["weight_pct"]),
            counts.select(revision=detail["revision"]),
            samples[samples["at"] >= since],
            section.observe_s,
            section.sample_every_s,
            drained,
        )

    @property
    def until(self) -> pd.Timestamp:
        """The last sample; where there is none, the beginning."""
        return self.since if self.samples.empty else self.samples["at"].max()

    @property
    def observed_s(self) -> float:
        """How long both gateways were sampled since; time without samples was not observed."""
        if self.samples.empty:
            return 0.0
        steps = self.samples.drop_duplicates("at")["at"].diff().dt.total_seconds().iloc[1:]
        return float(steps.clip(upper=3 * self.every_s).sum())

    @property
    def is_whole(self) -> bool:
        return self.observed_s >= self.needed_s - 2 * self.every_s

    def gaps(self) -> pd.DataFrame:
        """What was recorded in each whole window; see gaps.find_gaps."""
        return find_gaps(self.samples, self.counts, self.since, self.until, self.every_s)

    def windows(self) -> pd.DataFrame:
        """Both gateways, window by window: WINDOW_COLUMNS of counts.totals."""
        totals = self.counts.totals()
        return totals[totals["gateway"].isin(["primary", "canary"])][WINDOW_COLUMNS].reset_index(drop=True)

    def error_ratios(self, thresholds: Thresholds) -> pd.DataFrame:
        """What plot_error_ratio draws: at, gateway, error_pct, and low_pct and high_pct at confidence_pct."""
        totals = self.counts.totals(confidence=thresholds.confidence_pct / 100)
        return pd.DataFrame(
            {
                "at": totals["window_at"],
                "gateway": totals["gateway"],
                "error_pct": 100 * totals["error_ratio"],
                "low_pct": 100 * totals["error_low_ratio"],
                "high_pct": 100 * totals["error_high_ratio"],
            }
        )

    def four_lines(self) -> pd.DataFrame:
        """The article's dashboard: at, gateway, rss_mb, cpu_pct, in_flight_count, failed_connects_count.

        In flight and failed upstream connects are nginx's, by window of the log; the rest is the sentinel's.
        """
        totals = self.counts.totals().rename(columns={"window_at": "at"})
        seen = totals.groupby("at")["requests_count"].transform("sum") > 0
        totals[["in_flight_count", "failed_connects_count"]] = totals[
            ["in_flight_count", "failed_connects_count"]
        ].where(seen)  # without a line nothing is known: a gap, not a zero
        logged = totals[["at", "gateway", "in_flight_count", "failed_connects_count"]].sort_values("at")
        samples = self.samples.drop(columns="in_flight_count").sort_values("at")
        if logged.empty or samples.empty:
            return samples.assign(in_flight_count=float("nan"), failed_connects_count=float("nan"))
        window = pd.Timedelta(seconds=self.counts.window_s)
        samples = samples.assign(at=samples["at"].astype("datetime64[us, UTC]"))
        logged = logged.assign(at=logged["at"].astype("datetime64[us, UTC]"))
        return pd.merge_asof(samples, logged, on="at", by="gateway", tolerance=window)


def observe(mac: Mac, run: Run) -> Observation:
    """Collect until the observation is whole and decided, it fails, or the plan's wait is over.

    It goes on from what it has. A rule that is over its threshold without being certain is waited for.

    Raises StepNotReady where no weight was set in this run.
    """
    section = mac.plan.observation
    weight = run.ledger().last(Kind.WEIGHT)
    if weight is None:
        raise StepNotReady(f"nothing to observe in {mac.plan.region}: no weight was set in run {run.name}")

    def look() -> Observation:
        collect_events(mac, run)
        counts, samples = collect_log(mac, run), collect_samples(mac, run)
        return Observation.of(mac.plan, weight, counts, samples, drained_since(run.ledger().events(), weight))

    def is_over(seen: Observation) -> bool:
        answer = Verdict.of(judge_evidence(seen, mac.plan.thresholds)).answer
        return bool(seen.drained) or answer is Answer.FAIL or (answer is Answer.PASS and seen.is_whole)

    every_s = min(section.window_s, 5 * section.sample_every_s)
    return wait_until(look, is_over, 0 if mac.dry_run else section.wait_s, every_s)


def drained_since(events: list[Event[Any]], weight: Event[Any]) -> str:
    """Why the canary was drained after the ledger's event `weight`; empty where it was not."""
    later = [e for e in drains(events) if e["seq"] > weight["seq"]]
    return f"{later[-1]['detail']['why']} (at {later[-1]['at'][:19]})" if later else ""


def judge(plan: Plan, seen: Observation) -> list[Check]:
    """All rules over the whole observation, and whether it is long enough to be believed."""
    hours = f"{seen.observed_s / 3600:.2f} of {seen.needed_s / 3600:.2f} h observed"
    left_s = max(0.0, seen.needed_s - seen.observed_s)
    again = (seen.until + pd.Timedelta(seconds=left_s)).strftime("%Y-%m-%d %H:%M UTC")
    long_enough = Check(
        CheckName.OBSERVED,
        Answer.PASS if seen.is_whole else Answer.INCONCLUSIVE,
        hours + ("" if seen.is_whole else f"; the Mac records by itself, run this step again after {again}"),
        Hop.RUNBOOK,
        measured=seen.observed_s,
        threshold=seen.needed_s,
        unit="s",
        samples_count=len(seen.samples),
    )
    drained = [Check("canary drained", Answer.FAIL, f"the canary was drained meanwhile: {seen.drained}", Hop.CANARY)]
    checks = [long_enough, *judge_evidence(seen, plan.thresholds)]
    if not seen.drained:
        return checks
    return [*drained, *(c for c in checks if c.name != CheckName.CANARY_SHARE)]  # its share is zero, and says no more


def judge_evidence(seen: Observation, thresholds: Thresholds) -> list[Check]:
    return [
        judge_gaps(seen.gaps(), thresholds, has_traffic=seen.weight_pct > 0),
        *judge_traffic(seen.counts, thresholds, seen.weight_pct),
        *judge_gateways(seen.samples, thresholds, seen.weight_pct),
    ]


def judge_traffic(counts: LogCounts, thresholds: Thresholds, weight_pct: float) -> list[Check]:
    """What the access log says; nothing for a standby, which has no traffic to be judged by.

    A canary that serves everything is judged by itself: there is no primary left to compare it with.
    """
    if weight_pct == 0:
        return []
    checks = judge_windows(counts, thresholds, asked_pct=weight_pct).checks
    return [c for c in checks if weight_pct < 100 or c.name not in BESIDE_PRIMARY]


def judge_gateways(samples: pd.DataFrame, thresholds: Thresholds, weight_pct: float) -> list[Check]:
    """What the sentinel sampled: both ready, memory not apart, no backlog."""
    both = (("primary", Hop.PRIMARY), ("canary", Hop.CANARY))
    checks = [judge_one(samples, name, hop) for judge_one in (_judge_ready, _judge_process) for name, hop in both]
    by_gateway = {str(name): part for name, part in samples.groupby("gateway")}
    rss = {name: part["rss_mb"].dropna().tail(60).mul(2**20).tolist() for name, part in by_gateway.items()}
    checks.append(judge_rss(rss, thresholds, same_weight=weight_pct == 50, needed_count=3))
    backlogs = {name: part["backlog_jobs"].dropna() for name, part in by_gateway.items()}
    pending = {name: int(told.iloc[-1]) if len(told) else None for name, told in backlogs.items()}
    if pending.get("primary", 0) is None and pending.get("canary") is not None:
        del pending["primary"]
        checks.append(_not_seen(len(by_gateway["primary"])))
    return [*checks, *judge_backlog(pending, thresholds)]


def _not_seen(samples_count: int) -> Check:
    """A primary without the RPC plugin tells no backlog, ever. Its canary does, so that one is judged."""
    reason = f"primary: its backlog is not seen, 0 of {samples_count} samples have it: it answers no admin RPC"
    return Check(CheckName.PRIMARY_BACKLOG, Answer.PASS, reason, Hop.PRIMARY, samples_count=samples_count)


def _judge_process(samples: pd.DataFrame, name: str, hop: Hop) -> Check:
    """A restart loses queued wakes, accepted runs and the memory of keys, and launchd hides it within seconds.

    A canary that restarts by itself has failed. A primary that does is no yardstick: nothing is said of the canary.
    """
    pids = samples.loc[samples["gateway"] == name, "pid"].dropna()
    count = pids.nunique()
    answer = Answer.PASS if count == 1 else Answer.FAIL if count and name == "canary" else Answer.INCONCLUSIVE
    lost = "; it restarted, and lost queued events and its memory of idempotency keys" if count > 1 else ""
    return Check(
        f"{name} stays up",
        answer,
        f"{name}: {count} processes in {len(pids)} samples{lost}",
        hop,
        measured=float(count),
        threshold=1.0,
        unit="processes",
        samples_count=len(pids),
        remedy=f"find out why in {name}'s log and launchd's last exit; then set the slice again and observe anew",
    )


def _judge_ready(samples: pd.DataFrame, name: str, hop: Hop) -> Check:
    """Article: prove both gateways by active probes; a frozen process keeps its port and connect time near zero."""
    own = samples[samples["gateway"] == name].sort_values("at")
    bad_at_end = int((~own["ready"].astype(bool))[::-1].cummin().sum())
    ready = int(own["ready"].sum())
    if own.empty:
        return Check(
            READY[name],
            Answer.INCONCLUSIVE,
            f"{name}: 0 samples of readiness",
            hop,
            remedy="is the sentinel running?",
        )
    answer = Answer.FAIL if bad_at_end >= NOT_READY_SAMPLES else Answer.INCONCLUSIVE if bad_at_end else Answer.PASS
    return Check(
        READY[name],
        answer,
        f"{name}: /readyz was 200 in {ready} of {len(own)} samples, not in the last {bad_at_end} "
        f"({NOT_READY_SAMPLES} in a row fail)",
        hop,
        measured=float(bad_at_end),
        threshold=float(NOT_READY_SAMPLES - 1),
        unit="samples",
        samples_count=len(own),
        remedy=f"look at launchd's last exit and {name}'s log; fix {name}, do not tune nginx",
    )
