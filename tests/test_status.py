"""Where a region stands, as its ledger has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook_lib.records.evidence import Run
from runbook_lib.regions.status import is_drained

EVENTS = {
    "nothing yet": ([], False),
    "drained": (["drained"], True),
    "drained, and the weight set to zero after it": (["drained", 0], False),
    "a raise that died before it ended the drain": (["drained", 0, 12], True),
    "raised anew": (["drained", 0, 12, "undrained"], False),
    "drained once more": (["drained", 12, "undrained", "drained"], True),
}


@pytest.mark.parametrize("name", EVENTS)
def test_a_canary_is_drained_until_it_has_its_share_back(name: str, tmp_path: Path) -> None:
    run = Run("lab", tmp_path / "20261122T000000Z")
    run.directory.mkdir()
    events, expected = EVENTS[name]
    for event in events:
        if isinstance(event, str):
            run.ledger("06_raise_weight").append(event, event)
        else:
            run.ledger("06_raise_weight").append("weight", "weight", weight_pct=event, revision=f"w{event:06.2f}-x")
    assert is_drained(run) is expected
