"""The demo: a fresh practice Mac, traffic, and a whole rollout on it; or the same with one fault."""

from __future__ import annotations

from collections.abc import Callable

from runbook_lib.audit.verify import verify
from runbook_lib.checklist.order import STEPS
from runbook_lib.lab import customer, faults, traffic
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.mac import Mac
from runbook_lib.nginx.asking import probe_pulse
from runbook_lib.plan import reading
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Closing
from runbook_lib.regions.rollout import Outcome, roll_back, run_region
from runbook_lib.show.console import text_table
from runbook_lib.show.numbers import of_run
from runbook_lib.show.page import summary
from runbook_lib.verdict import Answer

TRAFFIC_LIMIT_S = 1200.0
Say = Callable[[str], None]


def run_demo(mac: PracticeMac, fault: str | None, say: Say, keep: bool = False, and_back: bool = False) -> Outcome:
    """Roll a canary out on a fresh practice Mac; `fault` is injected before the step where it bites.

    On a stock practice Mac `discover` writes the parameters, as on a customer's.
    `and_back` rolls the promoted canary back at the end, without traffic: primary restarts on the way.
    """
    mac.down()
    if (old := Run.current("lab")) and not old.is_closed:
        old.close(Closing.TAKEN_DOWN)
    mac.up()
    if mac.layout.is_stock:
        customer.take_over(mac, say)

    def before_step(step: str) -> None:
        if fault and STEPS.index(step) + 1 == faults.FAULTS[fault].step:
            say(f"fault: {faults.inject(mac, fault).says}")

    try:
        traffic.start(mac.layout, mac.kind.rate, TRAFFIC_LIMIT_S)
        outcome = run_region("lab", say, before_step=before_step)
        weight_pct = _weight_pct()
        sent = traffic.stop(mac.layout)
        back = roll_back("lab", say) if and_back and outcome.answer is Answer.PASS else outcome
        faults.clear(mac)
    finally:
        if not keep:
            mac.down()
    run = Run.current("lab")
    if run is not None:
        say(f"\n{text_table(summary(run.directory))}\n")
        say(f"{text_table(of_run(run))}\n")
        say("\n".join(verify(run.directory).lines()))
        say(f"page: {run.directory / 'index.html'}")
    say(f"traffic: {sent.get('sent', 0)} webhooks sent, {sent.get('ok', 0)} answered 2xx")
    say(f"canary's weight: {weight_pct:g} %, verdict: {outcome.answer}" + (f", {outcome.reason}" if fault else ""))
    return outcome if back.answer is Answer.PASS else back


def _weight_pct() -> float:
    """The weight as nginx runs it, asked once more at the end."""
    run = Run.current("lab")
    if run is None:
        return 0.0
    with Mac.connect(reading.load("lab"), run.ledger()) as connected:
        return probe_pulse(connected).weight_pct
