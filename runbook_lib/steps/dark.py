"""Step 4: proof that the canary runs and real traffic through nginx never reaches it."""

from __future__ import annotations

from runbook_lib.accesslog.counts import LogCounts
from runbook_lib.mac.mac import Mac
from runbook_lib.matrix import send_keys
from runbook_lib.nginx.asking import Pulse, probe_pulse
from runbook_lib.records.evidence import Run
from runbook_lib.steps.collect import settle
from runbook_lib.verdict import Answer, Check, Hop, passed_if

OWN_REQUESTS_COUNT = 60  # at 5 % a split that is not dark misses 60 keys once in 22 tries; real traffic adds to them


def wait_for_traffic(mac: Mac, run: Run) -> LogCounts:
    """Send requests of our own with as many different keys, let real traffic pass, and count both."""
    send_keys(mac.plan, OWN_REQUESTS_COUNT)
    return settle(mac, run, probe_pulse(mac).revision, mac.plan.traffic.settle_s)


def judge(pulse: Pulse, counts: LogCounts) -> list[Check]:
    """Zero canary requests of enough requests, and weight 0 in what nginx says it runs."""
    totals = counts.totals(windows=False).set_index("gateway")["requests_count"]
    canary, everything = int(totals.get("canary", 0)), int(totals.sum())
    enough = everything >= OWN_REQUESTS_COUNT
    answer = Answer.FAIL if canary else Answer.PASS if enough else Answer.INCONCLUSIVE
    return [
        Check(
            "no request reaches the canary",
            answer,
            f"{canary} of {everything} requests through nginx were meant for the canary ({OWN_REQUESTS_COUNT} needed)",
            Hop.NGINX,
            measured=float(canary),
            threshold=0.0,
            unit="requests",
            samples_count=everything,
            remedy="the log did not grow: does this nginx write it, and does public_url end at it?",
        ),
        passed_if(
            pulse.revision.startswith("w000.00-"),
            "nginx runs weight 0",
            f"new connections answer {pulse.revision or 'nothing'}",
            Hop.NGINX,
        ),
    ]
