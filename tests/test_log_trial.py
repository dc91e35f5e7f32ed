"""A log without a canary before the gates: no false alarm, and every injected fault found, with its hop."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torture_log import FIELDS, START_MS, A, seconds

from runbook_lib import accesslog
from runbook_lib.analysis.injections import INJECTIONS
from runbook_lib.analysis.log_trial import Replay, rehearse
from runbook_lib.analysis.split_log import COLUMN, Dealt
from runbook_lib.analysis.trial_gates import first_true
from runbook_lib.errors import EvidenceError
from runbook_lib.plan import reading
from runbook_lib.verdict import Answer

PLAN = reading.load("hk")
HOURS, RATE = 3, 8
HIDDEN = {"openclaw_target": "-", "openclaw_revision": "-"}


def primary_only(hours: float = HOURS, rate: float = RATE, bad: float = 0.0005) -> list[str]:
    """Last week's log: everything is primary's, header times spread around 250 ms, most connections reused."""
    rng, lines, at_ms = random.Random(3), [], float(START_MS)
    plain = dict.fromkeys(FIELDS, "1") | {"openclaw_revision": "-", "upstream_addr": A, "openclaw_target": "primary"}
    while (at_ms := at_ms + rng.expovariate(rate / 1000)) < START_MS + hours * 3_600_000:
        header_ms = 1 + int(rng.lognormvariate(5.5, 0.5))
        status = "502" if rng.random() < bad else "200"
        took = seconds(header_ms + 2)
        fields = plain | {
            "msec": seconds(int(at_ms)), "status": status, "upstream_status": status, "pid": str(rng.randrange(4)),
            "upstream_connect_time": rng.choice(("0.000", "0.000", "0.001")),
            "upstream_header_time": seconds(header_ms), "upstream_response_time": took, "request_time": took,
        }  # fmt: skip
        lines.append("\t".join(fields.values()))
    return lines


def written(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return primary_only()


@pytest.fixture(scope="module")
def log(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("logs") / "access.log", lines)


@pytest.fixture(scope="module")
def replay(log: Path) -> Replay:
    return rehearse(PLAN, [log])


def test_a_healthy_log_raises_no_alarm_and_every_fault_is_caught(replay: Replay) -> None:
    assert replay.verdict.answer is Answer.PASS, replay.verdict.reasons
    assert replay.alarms.empty and replay.observations_count == 1
    assert list(replay.faults["fault"]) == [fault.name for fault in INJECTIONS]
    assert (replay.faults["caught_count"] == replay.faults["injected_count"]).all()


def test_each_fault_is_blamed_on_its_own_hop(replay: Replay) -> None:
    """Where both gateways are bad, primary's own rule fails as well; the canary is not blamed."""
    for row in replay.faults.to_dict("records"):
        assert row["hop"] in row["blamed"].split(", "), row
        assert row["hop"] == "gateway canary" or "gateway canary" not in row["blamed"], row


def test_how_soon_each_fault_is_caught(replay: Replay) -> None:
    """38 canary requests a minute: 5 % of errors within minutes, an empty split only by chance's bound."""
    longest_s = replay.faults.set_index("fault")["longest_s"]
    assert longest_s["canary answers half with 5xx"] <= 120
    assert longest_s["canary answers 5 % with 5xx"] <= 15 * 60
    assert longest_s["canary dead behind a backup"] <= 120
    assert longest_s["canary frozen"] <= 15 * 60
    assert longest_s["workers starved after the reload"] == 900  # step 6 settles that long
    actions = replay.faults.set_index("fault")["action"]
    assert actions["canary answers half with 5xx"] == actions["canary dead behind a backup"] == "drain"
    assert actions["canary twice as slow"] == actions["workers starved after the reload"] == "pause"


def test_a_log_gives_the_same_answer_however_it_was_cut(replay: Replay, lines: list[str], tmp_path: Path) -> None:
    old, new = written(tmp_path / "access.log.1", lines[:40_000]), written(tmp_path / "access.log", lines[40_000:])
    again = rehearse(PLAN, [new, old])
    assert json.dumps(again.as_json(), default=str) == json.dumps(replay.as_json(), default=str)


def test_dealing_loses_nothing_and_keeps_the_slice(log: Path) -> None:
    counts = accesslog.read(log, upstreams=PLAN.upstreams, window_s=60)
    start_s = START_MS // 1000
    dealt = Dealt.of(counts, start_s, start_s + 3600 * HOURS, PLAN.traffic.slice_pct, seed=1)
    both = dealt.ticks["canary"] + dealt.ticks["primary"]
    assert both[:, COLUMN["requests"]].sum() == counts.total("primary", "requests")
    assert both[:, COLUMN["attempts_5xx"]].sum() == counts.total("primary", "attempts_5xx")
    assert (dealt.ticks["canary"][:, COLUMN["attempts_5xx"]] <= dealt.ticks["canary"][:, COLUMN["attempts"]]).all()
    share = dealt.ticks["canary"][:, COLUMN["attempts"]].sum() / both[:, COLUMN["attempts"]].sum()
    assert share == pytest.approx(PLAN.traffic.slice_pct / 100, rel=0.05)
    whole = dealt.counts(900, start_s, start_s + 3600 * HOURS)
    wanted = accesslog.read(log, upstreams=PLAN.upstreams, window_s=900).histograms("primary", "header")
    for window, (values, found) in wanted.items():
        parts = [whole.histograms(gateway, "header")[window] for gateway in ("primary", "canary")]
        together = np.zeros(values.max() + 1, np.int64)
        for at, number in parts:
            np.add.at(together, at, number)
        assert (together[values] == found).all() and together.sum() == found.sum()


def test_traffic_that_trips_a_rule_by_itself_is_a_false_alarm(tmp_path: Path) -> None:
    found = rehearse(PLAN, [written(tmp_path / "bad.log", primary_only(1, bad=0.05))])
    assert found.verdict.answer is Answer.FAIL
    assert "primary 5xx" in set(found.alarms["check"])
    assert "canary 5xx" not in set(found.alarms["check"]), "what hits both halves alike is not the canary's"
    assert any(reason.startswith("false alarms: ") for reason in found.verdict.reasons)


def test_too_little_traffic_misses_faults_and_says_so(tmp_path: Path) -> None:
    found = rehearse(PLAN, [written(tmp_path / "quiet.log", primary_only(2, rate=0.05))])
    assert found.verdict.answer is Answer.FAIL
    assert any("canary answers 5 % with 5xx: caught 0 of" in reason for reason in found.verdict.reasons)


def test_a_log_that_lacks_fields_is_inconclusive(lines: list[str], tmp_path: Path) -> None:
    names = ("msec", "status", "upstream_addr", "upstream_header_time", "upstream_response_time", "request_time")
    records = [{n: dict(zip(FIELDS, line.split("\t"), strict=True))[n] for n in names} for line in lines[:40_000]]
    found = rehearse(PLAN, [written(tmp_path / "access.json", [json.dumps(record) for record in records])])
    named = {check.name: check for check in found.verdict.checks}
    assert named["log"].answer is Answer.INCONCLUSIVE
    assert "upstream_status" in named["log"].reason and "openclaw_target" not in named["log"].reason


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('203.0.113.9 - - [06/May/2026:12:00:00 +0900] "GET /a HTTP/1.1" 200 12 "-" "curl/8"\n' * 9, "upstream_addr"),
        ("", "no answer of primary at 127.0.0.1:18789 in 0 lines"),
    ],
)
def test_a_log_that_cannot_be_rehearsed_is_wrong_input(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(content)
    with pytest.raises(EvidenceError, match=says) as raised:
        rehearse(PLAN, [tmp_path / "access.log"])
    assert raised.value.exit_code == 2


def test_a_log_of_a_few_minutes_is_too_short(lines: list[str], tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="need 2700 s"):
        rehearse(PLAN, [written(tmp_path / "short.log", lines[:9000])])


def test_the_command(log: Path) -> None:
    command = [str(Path(sys.executable).parent / "rollout"), "rehearse", "hk"]
    done = subprocess.run([*command, "--log", str(log), "--json"], capture_output=True, text=True, timeout=120)
    told = json.loads(done.stdout)
    assert (done.returncode, told["answer"]) == (0, "pass"), (done.stderr, told["reasons"])
    assert {row["fault"] for row in told["faults"]} == {fault.name for fault in INJECTIONS}
    missing = subprocess.run([*command, "--log", "no-such.log"], capture_output=True, text=True, timeout=60)
    assert missing.returncode == 2 and "no-such.log" in missing.stderr


def test_first_true() -> None:
    for largest in (1, 2, 7, 100):
        for wanted in range(1, largest + 1):
            assert first_true(lambda n, wanted=wanted: n >= wanted, largest) == wanted
        assert first_true(lambda n: False, largest) is None
