"""The incident channel against a real pager on loopback: it takes pages and answers who confirmed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args
from urllib.parse import parse_qs, urlsplit

import pytest

from runbook_lib.incident import page_incident, send, wait_confirmed
from runbook_lib.plan.models import Severity
from runbook_lib.verdict import Answer, Verdict

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # in an apprise plugin


class Pager(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PagerHandler)
        self.pages: list[dict[str, str]] = []
        self.confirmed: set[str] = set()
        self.asked: list[str] = []
        self.takes = 200

    @property
    def notify_url(self) -> str:
        return f"json://oncall:s3cret-pass@127.0.0.1:{self.server_port}/page"

    @property
    def confirm_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/confirmed?team=web"


class PagerHandler(BaseHTTPRequestHandler):
    server: Pager

    def do_POST(self) -> None:
        self.server.pages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(self.server.takes)

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        query = parse_qs(urlsplit(self.path).query)
        self.answer(200 if query["id"][0] in self.server.confirmed else 404)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def pager() -> Iterator[Pager]:
    server = Pager()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_delivered_and_confirmed_passes(pager: Pager):
    delivered = page_incident(pager.notify_url, "hk: nginx is down", "A rehearsal.", "p-17")
    timer = threading.Timer(0.1, pager.confirmed.add, ["p-17"])
    timer.start()
    confirmed = wait_confirmed(pager.confirm_url, "p-17", timeout_s=5, poll_s=0.05)
    timer.join()
    assert Verdict.of([delivered, confirmed]).answer is Answer.PASS
    page = pager.pages[0]
    assert (page["title"], page["type"]) == ("hk: nginx is down", "failure")
    assert page["message"] == "A rehearsal.\n\npage id: p-17"
    assert pager.asked[-1] == "/confirmed?team=web&id=p-17"


def test_delivered_but_not_confirmed_is_inconclusive(pager: Pager):
    delivered = page_incident(pager.notify_url, "t", "b", "p-18")
    late = wait_confirmed(pager.confirm_url, "p-18", timeout_s=1, poll_s=0.05)
    nowhere = wait_confirmed(None, "p-18", timeout_s=5)
    assert [c.answer for c in (delivered, late, nowhere)] == [
        Answer.PASS,
        Answer.INCONCLUSIVE,
        Answer.INCONCLUSIVE,
    ]
    assert late.reason == "nobody confirmed page p-18 within 1 s (last answer: 404)"
    assert len(pager.asked) > 1


def test_a_confirm_url_that_is_dead_is_inconclusive():
    check = wait_confirmed("http://127.0.0.1:9/", "p-19", timeout_s=0.1, poll_s=0.05)
    assert check.answer is Answer.INCONCLUSIVE
    assert "ConnectError" in check.reason


@pytest.mark.parametrize("url", ["json://oncall:s3cret-pass@127.0.0.1:9/page", "nonsense://s3cret-pass@[bad"])
def test_not_delivered_fails_and_shows_no_secret(url: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        check = page_incident(url, "t", "b", "p-20")
    assert check.answer is Answer.FAIL
    assert "p-20" in check.reason
    assert "s3cret" not in repr(check) + caplog.text


def test_a_channel_that_refuses_fails(pager: Pager):
    pager.takes = 500
    assert page_incident(pager.notify_url, "t", "b", "p-21").answer is Answer.FAIL


def test_no_channel_is_inconclusive():
    assert page_incident(None, "t", "b", "p-22").answer is Answer.INCONCLUSIVE


def test_every_severity_arrives_as_it_is(pager: Pager):
    for severity in get_args(Severity):
        assert send(pager.notify_url, "t", "b", severity) == ""
    assert [page["type"] for page in pager.pages] == ["info", "success", "warning", "failure"]
