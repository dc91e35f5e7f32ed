"""A run's page: made from the ledger alone, and the same for the same ledger."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from strict_html import EVIL, Strict

from runbook_lib.checklist.order import TITLES
from runbook_lib.errors import EvidenceError
from runbook_lib.records.weights import weights
from runbook_lib.show import page, plots

START = datetime(2026, 5, 6, 2, 10, tzinfo=UTC)


def write_run(run_dir: Path, fault: bool = False) -> Path:
    """A run's folder: through all eight steps, or until the canary failed in step 7 and was drained."""
    run_dir.mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    clock = [START]

    def event(kind: str, what: str, step: str = "", after_s: float = 1.0, **detail: Any) -> None:
        clock[0] += timedelta(seconds=after_s)
        at = clock[0].isoformat(timespec="milliseconds")
        head = {"seq": len(lines) + 1, "at": at, "who": "mina@laptop", "step": step}
        lines.append({**head, "event": kind, "what": what, "detail": detail, "previous": ""})

    event("run_opened", "rollout of openclaw 2026.9.6", region="hk")
    for number, (step, title) in enumerate(list(TITLES.items())[: 7 if fault else 8], start=1):
        event("step_opened", title, step)
        if number == 3:  # the first attempt died: no verdict, no end
            event("step_opened", title, step, after_s=40)
        if number in (4, 6, 8):
            for weight_pct in {4: (0.0,), 6: (4.0, 8.0), 8: (18.0, 28.0)}[number]:
                what = f"set the canary's weight to {weight_pct:g} %"
                event("intent", what, step, weight_pct=weight_pct, revision="r1")
                event("effect", what, step, 14, exit_status=0)
                event("verified", what, step, workers=["4711"])
                event("weight", what, step, weight_pct=weight_pct, revision="r1")
        bad = fault and number == 7
        answer, hops = ("fail", ["gateway canary"]) if bad else ("pass", [])
        reasons = ["5xx of the canary: 5.1 % > 0.5 % (n=338)", f"second {EVIL}"] if bad else []
        checks = [{"name": "a", "answer": answer}] * 5
        event(
            "verdict",
            answer,
            step,
            172_800 if number == 7 else 3.4,
            answer=answer,
            hops=hops,
            reasons=reasons,
            checks=checks,
        )
        event("step_closed", title, step, 0.2)
        (run_dir / f"{step}.html").write_text("<!doctype html>")
        if bad:
            event("drained", "every new request goes to primary", step, why="5xx over its threshold")
            event("intent", "drain the canary", step, why="5xx over its threshold")
            event("verified", "drain the canary", step, 0.8)
    write_ledger(run_dir, lines)
    return run_dir


def write_ledger(run_dir: Path, events: list[dict[str, Any]]) -> None:
    """A ledger whose lines are chained, as its writer does it."""
    text, previous = "", ""
    for number, entry in enumerate(events, start=1):
        line = json.dumps({**entry, "seq": number, "previous": previous}, ensure_ascii=False)
        previous = hashlib.sha256(line.encode()).hexdigest()
        text += f"{line}\n"
    (run_dir / "ledger.jsonl").write_text(text, encoding="utf-8")


def read_ledger(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]


def test_page_of_a_whole_run(tmp_path: Path):
    run_dir = write_run(tmp_path / "hk" / "20260506-0210")
    html = page.write_page(run_dir).read_text(encoding="utf-8")
    parsed = Strict(html.replace("<!doctype html>", ""))
    assert "✔ PASS" in html and "8 of 8 steps passed." in html
    links = [attrs["href"] for tag, attrs in parsed.tags if tag == "a"]
    assert {"#main", "../../index.html"} <= set(links)
    files = [str(link) for link in links if not str(link).startswith(("#", ".."))]
    assert len(files) == 9 and all((run_dir / link).is_file() for link in files)
    assert [path.name for path in run_dir.iterdir() if path.name.startswith(".")] == []


def test_page_needs_no_network_and_can_be_heard(tmp_path: Path):
    html = page.write_page(write_run(tmp_path / "hk" / "r", fault=True)).read_text(encoding="utf-8")
    tags = Strict(html.replace("<!doctype html>", "")).tags
    names = [tag for tag, _ in tags]
    assert not {"script", "iframe"} & set(names)
    for _, attrs in tags:
        for key in ("src", "href"):
            assert not str(attrs.get(key) or "").startswith(("http", "//"))
    assert ("html", {"lang": "en"}) in tags
    assert names.count("h1") == 1 and names.count("main") == 1
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    pictures = [attrs for tag, attrs in tags if attrs.get("role") == "img"]
    assert pictures[0]["aria-label"] == "Canary weight over time: 0 %, 4 %, 8 %, 0 %."


def test_page_of_a_failed_run_names_step_hop_and_drain(tmp_path: Path):
    html = page.write_page(write_run(tmp_path / "hk" / "r", fault=True)).read_text(encoding="utf-8")
    assert "✘ FAIL" in html and "NOT RUN" in html and "Canary drained" in html
    assert "6 of 8 steps passed. 7 Observe: 5xx of the canary: 5.1 % &gt; 0.5 % (n=338) (and 1 more)." in html
    assert "<strong>Look at:</strong> gateway canary" in html
    assert "<script" not in html
    assert "attempt 2" in html


def test_same_ledger_same_page(tmp_path: Path):
    run_dir = write_run(tmp_path / "hk" / "r")
    once, again = page.write_page(run_dir).read_bytes(), page.write_page(run_dir).read_bytes()
    assert once == again


def test_summary_has_a_row_a_step(tmp_path: Path):
    frame = page.summary(write_run(tmp_path / "hk" / "r", fault=True))
    assert list(frame.columns) == ["step", "verdict", "duration_s", "hop", "reason"]
    assert frame["verdict"].to_list() == ["pass"] * 6 + ["fail", "not run"]
    assert frame.loc[6, "hop"] == "gateway canary"
    assert frame.loc[6, "duration_s"] == pytest.approx(172_800.2)
    assert frame.loc[0, "reason"] == "5 checks passed"


def test_a_step_that_never_ended_is_running_and_one_without_verdict_is_inconclusive(tmp_path: Path):
    run_dir = write_run(tmp_path / "hk" / "r")
    events = read_ledger(run_dir)
    smoke = [n for n, event in enumerate(events) if event["step"] == "05_smoke"]
    write_ledger(run_dir, events[: smoke[0] + 1])
    assert page.summary(run_dir)["verdict"].to_list() == ["pass"] * 4 + ["running"] + ["not run"] * 3
    assert "UNFINISHED" in page.write_page(run_dir).read_text()
    write_ledger(run_dir, [event for n, event in enumerate(events) if n != smoke[1]])
    assert page.summary(run_dir).loc[4, ["verdict", "reason"]].to_list() == [
        "inconclusive",
        "ended without a verdict",
    ]


def test_weights_are_zero_while_drained_and_the_last_one_is_held():
    kinds = [
        ("weight", {"weight_pct": 5.0}),
        ("weight", {"weight_pct": 8.0}),
        ("drained", {"cause": "lease"}),
        ("undrained", {}),
        ("intent", {"weight_pct": 18.0}),
        ("failed", {"error": "ActionFailed"}),
    ]
    at = [START + timedelta(minutes=n) for n in range(len(kinds))]
    events = [{"at": when.isoformat(), "event": e, "detail": d} for when, (e, d) in zip(at, kinds, strict=True)]
    found = weights(events)
    assert found["weight_pct"].to_list() == [5, 8, 0, 8, 8]
    assert found["at"].iloc[-1] == at[-1]
    labels = [note.get_text() for note in plots.plot_weights(found).texts]
    assert labels == ["5", "8", "0", "8"], "each held weight once"


def test_a_step_whose_change_failed_is_stopped(tmp_path: Path):
    run_dir = write_run(tmp_path / "hk" / "r")
    events = read_ledger(run_dir)
    opened = next(n for n, event in enumerate(events) if event["step"] == "04_start_dark")
    failed = events[opened] | {
        "event": "failed",
        "what": "load the job",
        "detail": {"error": "ActionFailed: no"},
    }
    write_ledger(run_dir, [*events[: opened + 1], failed])
    assert page.summary(run_dir).loc[3, ["verdict", "reason"]].to_list() == [
        "stopped",
        "load the job: ActionFailed: no",
    ]
    assert "– STOPPED" in page.write_page(run_dir).read_text()


def test_an_empty_ledger_is_a_page_and_a_damaged_one_is_not(tmp_path: Path):
    assert "UNFINISHED" in page.write_page(tmp_path).read_text()
    (tmp_path / "ledger.jsonl").write_text("{}}\n")
    with pytest.raises(EvidenceError, match="line 1"):
        page.write_page(tmp_path)
