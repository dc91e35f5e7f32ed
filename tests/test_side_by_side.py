"""Five regions at once, none of which sees the others: `make flakes TIMES=20 ARGS="tests/test_side_by_side.py"`."""

from __future__ import annotations

import pytest
from regions_fixture import NAMES, Regions

from runbook_lib.checklist.order import STEPS
from runbook_lib.lab import traffic
from runbook_lib.records.kinds import Kind

pytest_plugins = ["regions_fixture"]
THROUGH = 5


@pytest.mark.long
@pytest.mark.timeout(600)
def test_five_regions_at_once(regions: Regions) -> None:
    for name in NAMES:
        traffic.start(regions.macs[name].layout, 20, 600)
    code, output = regions.rollout("run", *NAMES, "--through", str(THROUGH))
    assert code == 0, output
    for name in NAMES:
        assert regions.agree(name) == (STEPS[THROUGH - 1], "pass")
        events = regions.ledger(name).events()
        verdicts = [(e["step"], e["detail"]["answer"]) for e in events if e["event"] == Kind.VERDICT]
        assert verdicts == [(step, "pass") for step in STEPS[:THROUGH]], "each step once"
        assert not [e for e in events if e["event"] in (Kind.FAILED, Kind.LOCK_TAKEN_OVER, Kind.DRAINED)]
        sent = traffic.stop(regions.macs[name].layout)
        assert set(sent["statuses"]) == {"200"}, (name, sent)
