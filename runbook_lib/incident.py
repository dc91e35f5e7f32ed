"""The incident channel: page people through apprise, and wait until one has confirmed.

A channel that was never heard to ring is not a channel: delivered is half of it, confirmed is the rest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import apprise
import httpx

from runbook_lib.clock import wait_until
from runbook_lib.plan.models import Severity
from runbook_lib.verdict import Answer, Check, Hop

POLL_S = 1.0
_one_send = threading.Lock()  # or one would let apprise log while another sends
UNKNOWN_URL = "this is not a URL that apprise knows; try it with the apprise command"


def send(url: str, title: str, body: str, severity: Severity) -> str:
    """Send to an apprise URL, a resolved secret; returns what went wrong, empty where the channel took it."""
    with _quiet_apprise():
        channel = apprise.Apprise()
        if not channel.add(url):
            return UNKNOWN_URL
        taken = channel.notify(title=title, body=body, notify_type=apprise.NotifyType(severity))
    return "" if taken else "the channel did not take it"


def page_incident(notify_url: str | None, title: str, body: str, page_id: str) -> Check:
    """Send one page; `page_id` stands in it, to be confirmed by.

    Pass: the channel took it. Fail: it did not, or is no channel at all. Inconclusive: no channel is set.
    `notify_url` is a resolved secret and appears in no answer and no log.
    """
    name = "Page delivered"
    if not notify_url:
        reason = f"page {page_id} was not sent: no channel is set"
        return Check(name, Answer.INCONCLUSIVE, reason, Hop.RUNBOOK, remedy="set incident.notify")
    started = time.monotonic()
    wrong = send(notify_url, title, f"{body}\n\npage id: {page_id}", "failure")
    took_s = time.monotonic() - started
    if wrong == UNKNOWN_URL:
        reason = f"page {page_id} was not sent: incident.notify is not a URL that apprise knows"
        return Check(name, Answer.FAIL, reason, Hop.RUNBOOK, remedy="try it with the apprise command")
    if wrong:
        reason = f"the channel did not take page {page_id} ({took_s:.1f} s)"
        remedy = "page by hand now; then try incident.notify with the apprise command"
        return Check(name, Answer.FAIL, reason, Hop.PATH, took_s, unit="s", remedy=remedy)
    reason = f"the channel took page {page_id} in {took_s:.1f} s"
    return Check(name, Answer.PASS, reason, Hop.PATH, took_s, unit="s")


def wait_confirmed(confirm_url: str | None, page_id: str, timeout_s: float, poll_s: float = POLL_S) -> Check:
    """Ask `confirm_url?id=<page_id>` until it answers 200 or `timeout_s` is over.

    Pass: confirmed. Inconclusive: nobody confirmed in time, or there is nowhere to ask. Any other answer, or
    none at all, is only "not yet".
    """
    name = "Page confirmed"
    if not confirm_url:
        reason = f"page {page_id}: nobody can confirm it, incident.confirm_url is not set"
        return Check(name, Answer.INCONCLUSIVE, reason, Hop.RUNBOOK, remedy="ask the people on call by hand")
    started = time.monotonic()
    with httpx.Client(timeout=min(10.0, max(timeout_s, 0.1))) as client:
        url = httpx.URL(confirm_url).copy_merge_params({"id": page_id})
        heard = wait_until(lambda: _ask(client, url), lambda said: said == "200", timeout_s, poll_s)
    waited_s = time.monotonic() - started
    if heard == "200":
        reason = f"page {page_id} was confirmed after {waited_s:.1f} s"
        return Check(name, Answer.PASS, reason, Hop.PATH, waited_s, timeout_s, "s")
    reason = f"nobody confirmed page {page_id} within {timeout_s:g} s (last answer: {heard})"
    remedy = "ask the people on call whether it rang; mend the channel before you rely on it"
    return Check(name, Answer.INCONCLUSIVE, reason, Hop.PATH, waited_s, timeout_s, "s", remedy=remedy)


def _ask(client: httpx.Client, url: httpx.URL) -> str:
    try:
        return str(client.get(url).status_code)
    except httpx.HTTPError as error:
        return type(error).__name__


@contextmanager
def _quiet_apprise() -> Iterator[None]:
    """apprise logs a URL it cannot read in full, secrets included."""
    logger = logging.getLogger("apprise")
    with _one_send:
        before, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = before
