"""Schemas found against schemas known, what launchd is told against what OpenClaw's installer would tell it."""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from runbook_lib.gateway import launchd, openclaw, webhooks
from runbook_lib.plan.thresholds import Thresholds
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.ledger import Ledger
from runbook_lib.show import numbers
from runbook_lib.steps import migration, observation, validation
from runbook_lib.verdict import Answer, Check, Hop

STATE = "state/openclaw.sqlite"


def schemas(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    starts = [(g, v, STATE, found, known, migration._start(found, known)) for g, v, found, known in rows]
    return pd.DataFrame(starts, columns=migration.COLUMNS)


@pytest.mark.parametrize(
    ("found", "known", "start", "answer"),
    [
        ("18", "18", migration.AS_IS, Answer.PASS),
        ("17", "18", migration.MIGRATES, Answer.PASS),
        ("18", "17", migration.TOO_NEW, Answer.FAIL),
        ("18", "", migration.UNKNOWN, Answer.INCONCLUSIVE),
        ("Error: file is not a database", "18", migration.UNKNOWN, Answer.INCONCLUSIVE),
    ],
)
def test_what_happens_at_the_next_start(found: str, known: str, start: str, answer: Answer) -> None:
    table = schemas(("canary", "2026.9.6", found, known))
    assert table["start"].tolist() == [start]
    (check,) = migration.judge(table)
    assert (check.answer, check.hop) == (answer, Hop.CANARY)


def test_a_refusal_says_both_schemas_and_the_way_out() -> None:
    primary, canary = migration.judge(schemas(("primary", "2026.9.6", "18", "18"), ("canary", "2026.9.5", "18", "17")))
    assert primary.answer is Answer.PASS
    assert "canary, version 2026.9.5: state/openclaw.sqlite has schema 18, known is 17" in canary.reason
    assert "exit 78" in canary.reason


# -- what launchd is told ------------------------------------------------------------------------------------------

INSTALLER = {"RunAtLoad": True, "KeepAlive": True, "ExitTimeOut": 20, "ThrottleInterval": 10, "Umask": 63}


def rules(mode: str, loaded: str = "", name: str = "canary", **own: Any) -> Check:
    installers, ours = (plistlib.dumps({"Label": "x", **INSTALLER, **changes}) for changes in ({}, own))
    rows = [
        (name, key, theirs, mine, loaded if key == "ExitTimeOut" else "")
        for key, theirs, mine in launchd.compare_plists(installers, ours)
    ]
    frame = pd.DataFrame([*rows, (name, openclaw.SUPERVISED, "", mode, "")], columns=validation.RULE_COLUMNS)
    (check,) = validation.judge_rules(frame)
    return check


def test_launchd_waits_longer_than_openclaw_drains() -> None:
    assert rules("external", ExitTimeOut=330).answer is Answer.PASS
    assert rules("external", ExitTimeOut=315).answer is Answer.PASS
    short = rules("external", ExitTimeOut=314)
    assert short.answer is Answer.FAIL
    assert "launchd waits 314 s, OpenClaw drains for up to 315 s" in short.reason
    assert rules("", ExitTimeOut=20).answer is Answer.PASS, "under its own label OpenClaw drains for 5 s"


def test_a_plist_that_was_rewritten_and_not_loaded_is_found() -> None:
    check = rules("external", loaded="20", ExitTimeOut=330)
    assert (check.answer, "launchd has 20 s loaded" in check.reason) == (Answer.FAIL, True)


def test_what_the_installer_would_write_now_is_compared() -> None:
    changed = rules("external", ExitTimeOut=330, ThrottleInterval=1)
    assert (changed.answer, changed.hop) == (Answer.FAIL, Hop.CANARY)
    assert "ThrottleInterval is 1, would be 10" in changed.reason
    primary = rules("external", name="primary", ExitTimeOut=330, ThrottleInterval=1)
    assert (primary.answer, primary.hop) == (Answer.PASS, Hop.PRIMARY), "what runs is told, and does not stop a rollout"
    assert "ThrottleInterval is 1, would be 10" in primary.reason


def test_a_plist_that_is_none_is_left_to_its_lint() -> None:
    assert launchd.compare_plists(b"no plist", b"") == [("ExitTimeOut", "", "")]


# -- restarts, agent runs, numbers ---------------------------------------------------------------------------------


def process_checks(pids: list[int | None], name: str = "canary") -> Check:
    at = pd.date_range("2026-11-22", periods=len(pids), freq="1s", tz="UTC")
    columns = {"gateway": name, "pid": pids, "ready": True, "rss_mb": 100.0, "backlog_jobs": 0}
    samples = pd.DataFrame({"at": at, **columns})
    found = observation.judge_gateways(samples, Thresholds(), 5)
    return next(check for check in found if check.name == f"{name} stays up")


def test_a_restart_while_observed_fails_the_canary_and_blinds_the_yardstick() -> None:
    assert process_checks([7, 7, 7]).answer is Answer.PASS
    assert process_checks([7, None, 8]).answer is Answer.FAIL
    assert process_checks([7, None, 8], "primary").answer is Answer.INCONCLUSIVE
    assert process_checks([None, None]).answer is Answer.INCONCLUSIVE


def test_an_agent_run_counts_when_it_ended_well() -> None:
    def judged(completion: str, error: str = "") -> Check:
        row = ("canary", 200, "r", completion, 1234.0, error)
        return webhooks.judge_agent(pd.DataFrame([row], columns=webhooks.AGENT_COLUMNS))

    assert judged("ok").answer is Answer.PASS
    assert judged("error").answer is Answer.FAIL
    assert "ended with 401 wrong key after 1,234 ms" in judged("", "401 wrong key").reason
    assert webhooks.judge_agent(pd.DataFrame(columns=webhooks.AGENT_COLUMNS)).answer is Answer.INCONCLUSIVE


def test_the_numbers_of_a_run_are_its_ledgers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", "rollback")
    ledger.append(Kind.STEP_OPENED, "rollback")
    for what, facts in (
        ("start canary (ai.openclaw.canary)", {"ready_after_s": 12.0}),
        ("suspend canary", {"waited_s": 3, "drained": True}),
        ("stop canary (ai.openclaw.canary)", {"took_s": 4.0}),
        ("kickstart primary (ai.openclaw.gateway)", {"ready_after_s": 14.0}),
        ("kickstart primary (ai.openclaw.gateway)", {"ready_after_s": 16.0}),
    ):
        ledger.append(Kind.VERIFIED, what, **facts)
    ledger.append(Kind.STEP_CLOSED, "rollback passed")
    table = numbers.of_run(Run("lab", tmp_path)).set_index("what")
    assert table["value"].drop("the whole rollback").to_dict() == {
        "canary from start to ready": 12.0,
        "canary until nothing was in flight": 3.0,
        "canary from stop to gone": 4.0,
        "primary from kickstart to ready": 15.0,
    }
    assert table.loc["primary from kickstart to ready", "n"] == 2
    assert 0 <= table.loc["the whole rollback", "value"] < 5
