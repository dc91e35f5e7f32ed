"""A run made by the library's own functions from a log and samples of the tests' own: no Mac is asked."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pandas as pd

from runbook_lib import matrix
from runbook_lib.accesslog import LOG_FIELDS
from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import Run, write_whole
from runbook_lib.records.kinds import Kind
from runbook_lib.records.manifest import LEDGER
from runbook_lib.steps import observation, promotion
from runbook_lib.steps.collect import read_samples, read_slice
from runbook_lib.steps.sentinel import SAMPLE_FIELDS
from runbook_lib.verdict import Answer, Check, Verdict

DARK, SLICE = "w000.00-aaaaaaaa", "w008.00-bbbbbbbb"
STARTED_S = 1_778_000_000


def plan_of(region: str = "hk", observe_s: float = 600, window_s: float = 60) -> Plan:
    """A region's plan, to be observed for so long in such windows."""
    values = reading.load(region).model_dump(mode="json")
    values["observation"] |= {"observe_s": observe_s, "window_s": window_s}
    return Plan.model_validate_json(json.dumps(values))


def log_lines(plan: Plan, revision: str, started_s: int, count: int, every_s: float = 0.5) -> bytes:
    """Requests of one revision, two in 25 meant for the canary where the revision has a slice."""
    rows = []
    for number in range(count):
        canary = revision == SLICE and number % 25 in (0, 12)
        values = dict.fromkeys(LOG_FIELDS, "-") | {
            "msec": f"{started_s + number * every_s:.3f}",
            "openclaw_target": "canary" if canary else "primary",
            "openclaw_revision": revision,
            "status": "200",
            "upstream_addr": plan.canary.address if canary else plan.primary.address,
            "upstream_status": "200",
            "upstream_connect_time": "0.001",
            "upstream_header_time": f"0.{40 + number % 9:03}",
            "upstream_response_time": f"0.{50 + number % 9:03}",
            "request_time": f"0.{55 + number % 9:03}",
            "pid": "77",
            "connection": str(number),
            "connection_requests": "1",
            "request_method": "POST",
            "uri": "/hooks/wake",
        }
        rows.append("\t".join(values[name] for name in LOG_FIELDS))
    return ("\n".join(rows) + "\n").encode()


def sample_lines(started_s: int, count: int) -> bytes:
    rows = []
    for number in range(count):
        at = pd.Timestamp(started_s + 5 * number, unit="s", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
        for gateway, pid in (("primary", 10), ("canary", 20)):
            values: dict[str, Any] = dict.fromkeys(SAMPLE_FIELDS, "0")
            values |= {"at": at, "gateway": gateway, "pid": pid, "rss_kb": 200_000 + pid, "ready_status": 200}
            rows.append("\t".join(str(values[name]) for name in SAMPLE_FIELDS))
    return ("\n".join(rows) + "\n").encode()


def keep_slice(run: Run, kind: str, content: bytes) -> None:
    folder = run.directory / "evidence" / kind
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{len(run.slices(kind)) + 1:05}.tsv.gz", gzip.compress(content, mtime=0))
    write_whole(folder / "cursor.json", "{}")


def counts_of(run: Run, plan: Plan) -> LogCounts:
    counts = LogCounts(int(plan.observation.window_s))
    for path in run.slices("log"):
        counts.merge(read_slice(path, plan))
    return counts


def give_verdict(run: Run, step: str, checks: list[Check]) -> Verdict:
    verdict = Verdict.of(checks)
    detail = {"hops": verdict.hops, "reasons": verdict.reasons, "checks": verdict.table().to_dict("records")}
    run.ledger(step).append(Kind.VERDICT, step, answer=str(verdict.answer), fetched=run.fetched(), **detail)
    return verdict


def set_weight(run: Run, step: str, weight_pct: float, revision: str, at_s: int) -> None:
    """A weight as if it had been set at a time of the log's."""
    event = run.ledger(step).append(Kind.WEIGHT, "the canary's weight", weight_pct=weight_pct, revision=revision)
    path = run.directory / LEDGER
    at = pd.Timestamp(at_s, unit="s", tz="UTC").isoformat(timespec="milliseconds")
    path.write_text(path.read_text().replace(f'"at": "{event["at"]}", "who"', f'"at": "{at}", "who"', 1))


def open_and_keep(run: Run, step: str, plan: Plan) -> None:
    run.ledger(step).append(Kind.STEP_OPENED, step, region="hk")
    run.keep_facts(step, "plan", plan.model_dump(mode="json"))
    write_whole(run.directory / f"{step}.ipynb", json.dumps({"cells": [], "nbformat": 4, "step": step}))
    write_whole(run.directory / f"{step}.html", f"<!doctype html><title>{step}</title>")


def raise_slice(run: Run, plan: Plan) -> None:
    step = "06_raise_weight"
    open_and_keep(run, step, plan)
    set_weight(run, step, 0, DARK, STARTED_S)
    keep_slice(run, "log", log_lines(plan, DARK, STARTED_S, 1500))
    set_weight(run, step, 8, SLICE, STARTED_S + 750)
    keep_slice(run, "log", log_lines(plan, SLICE, STARTED_S + 750, 1800))
    counts = counts_of(run, plan)
    raised = promotion.Raised(8.0, counts.select(revision=DARK), counts.select(revision=SLICE))
    assert give_verdict(run, step, promotion.judge(plan, raised)).answer is Answer.PASS


def observe_slice(run: Run, plan: Plan) -> None:
    step = "07_observe"
    open_and_keep(run, step, plan)
    keep_slice(run, "log", log_lines(plan, SLICE, STARTED_S + 1650, 1200))
    keep_slice(run, "samples", sample_lines(STARTED_S + 750, 130))
    observe(run, plan)


def observe(run: Run, plan: Plan) -> None:
    """The verdict of step 7 over all that is kept, and a matrix."""
    step, weight = "07_observe", run.ledger().last(Kind.WEIGHT)
    assert weight
    seen = observation.Observation.of(plan, weight, counts_of(run, plan), read_samples(run.slices("samples")))
    run.keep_table(step, "matrix", MATRIX)
    assert give_verdict(run, step, [*observation.judge(plan, seen), *matrix.judge_matrix(MATRIX)]).answer is Answer.PASS


MATRIX = pd.DataFrame(
    [
        ["direct", gateway, "GET /readyz", 200, 0.4, None, 1.25, total_ms, "application/json", '{"ready":true}', True]
        for gateway, total_ms in (("primary", 3.123456789), ("canary", 2.5))
    ],
    columns=matrix.COLUMNS,
)
