"""Where a region stands, as its ledger has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from runbook_lib.cli.app import app, chosen
from runbook_lib.errors import PlanError
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Kind
from runbook_lib.records.weights import is_drained

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
            run.ledger("06_raise_weight").append(Kind(event), event, why="by hand")
        else:
            run.ledger("06_raise_weight").append(Kind.WEIGHT, "weight", weight_pct=event, revision=f"w{event:06.2f}-x")
    assert is_drained(run.ledger().events()) is expected


@pytest.mark.parametrize("verb", ["status", "watch", "remind"])
def test_a_region_that_is_not_there_is_wrong_input(verb: str) -> None:
    with pytest.raises(PlanError, match=r"2 mistakes(.|\n)*'hkk'(.|\n)*'../../x'"):
        chosen(["hk", "hkk", "../../x"])
    assert CliRunner().invoke(app, [verb, "hkk"]).exception.exit_code == 2
