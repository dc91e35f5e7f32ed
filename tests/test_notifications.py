"""Who is told of what: over real HTTP to a real receiver, each event once, and a deaf channel stops nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib import notifications
from runbook_lib.lab.outside import Handler
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind

PROJECT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # in an apprise plugin


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("notebooks", "parameters"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return Run.start("hk")


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The practice Mac's own receiver, on a free port; env:CHAT leads to it."""
    handler = type("Here", (Handler,), {"pages_file": tmp_path / "pages.jsonl"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("CHAT", f"json://oncall:s3cret-pass@127.0.0.1:{server.server_port}/notify")
    yield tmp_path / "pages.jsonl"
    server.shutdown()
    server.server_close()
    thread.join()


def plan(**channels: dict[str, Any]) -> Plan:
    values = yaml.safe_load((PROJECT / "parameters/hk.yaml").read_text())
    return reading.build(values | {"notifications": channels}, "hk.yaml")


def received(pages: Path) -> list[tuple[str, str]]:
    lines = pages.read_text().splitlines() if pages.exists() else []
    return [(page["type"], page["title"]) for page in map(json.loads, lines)]


def everything(run: Run) -> None:
    run.ledger("06_raise_weight").append(Kind.GATE_WAITING, "06_raise_weight waits for a person", reason="look")
    run.ledger("06_raise_weight").append(Kind.APPROVED, "06_raise_weight may run", why="go")
    run.ledger().append(Kind.LEASE_ENDING, "the lease ends in 10 minutes", why="renew it")
    run.ledger("06_raise_weight").append(Kind.VERDICT, "06_raise_weight: pass", answer="pass", reasons=[])
    run.ledger("07_observe").append(
        Kind.VERDICT, "07_observe: inconclusive", answer="inconclusive", reasons=["too few"]
    )
    run.ledger("07_observe").append(Kind.VERDICT, "07_observe: fail", answer="fail", reasons=["5 % of 400 are 5xx"])
    run.ledger("07_observe").append(Kind.DRAINED, "every new request goes to primary", why="07 failed")
    run.close("promoted")


def test_each_event_that_matters_is_sent_once_with_its_severity(run: Run, pages: Path) -> None:
    everything(run)
    told = plan(chat={"url": "env:CHAT", "severities": ["info", "success", "warning", "failure"]})
    assert notifications.send_due(told, run) == []
    assert received(pages) == [
        ("info", "hk: 06_raise_weight waits for a person"),
        ("warning", "hk: the lease ends in 10 minutes"),
        ("failure", "hk: 07_observe: fail"),
        ("failure", "hk: every new request goes to primary"),
        ("success", "hk: promoted"),
    ]
    assert notifications.send_due(told, run) == []
    assert len(received(pages)) == 5, "not twice"
    assert len(run.ledger().events(Kind.NOTIFIED)) == 5
    assert "5 % of 400 are 5xx" in pages.read_text()
    assert "s3cret" not in (run.directory / "ledger.jsonl").read_text()


def test_a_channel_hears_only_its_severities(run: Run, pages: Path) -> None:
    everything(run)
    notifications.send_due(plan(pager={"url": "env:CHAT", "severities": ["failure"]}), run)
    assert {severity for severity, _ in received(pages)} == {"failure"}


def test_a_deaf_channel_is_recorded_and_keeps_nobody_else_from_hearing(
    run: Run, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAF", "json://oncall:s3cret-pass@127.0.0.1:9/notify")
    run.close("promoted")
    channels = {name: {"url": f"env:{name.upper()}"} for name in ("deaf", "unset", "chat")}
    failures = notifications.send_due(plan(**channels), run)
    said = [failure.partition(" was not told")[0] for failure in failures]
    assert said == ["hk: deaf (env:DEAF)", "hk: unset (env:UNSET)"]
    assert received(pages) == [("success", "hk: promoted")]
    events = run.ledger().events(Kind.NOTIFIED, Kind.NOT_NOTIFIED)
    assert [(e["event"], e["detail"]["channel"]) for e in events] == [
        ("not_notified", "deaf"),
        ("not_notified", "unset"),
        ("notified", "chat"),
    ]
    assert "s3cret" not in (run.directory / "ledger.jsonl").read_text() + "".join(failures)


def test_nobody_to_tell_is_no_error(run: Run) -> None:
    everything(run)
    assert notifications.send_due(plan(), run) == []
    assert not run.ledger().events(Kind.NOTIFIED, Kind.NOT_NOTIFIED)
