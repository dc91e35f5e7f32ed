"""What a ledger's events are: every kind has a detail, no program reads their sentences, old ledgers stay readable."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

from runbook_lib.audit.postmortem import LEFT_OUT, story, timeline
from runbook_lib.audit.verify import verify
from runbook_lib.errors import EvidenceError
from runbook_lib.mac.lease import held_until
from runbook_lib.records.details import DETAILS, Verified, Weight
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Act, Closing, Kind
from runbook_lib.records.ledger import Ledger
from runbook_lib.show.numbers import of_run
from runbook_lib.verdict import Answer, CheckName

PROJECT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((PROJECT / "runbook_lib").rglob("*.py"))
READS_SENTENCES = {"records/events.py"}  # what older versions wrote
PROSE = ("what", "reason", "reasons", "error", "why")


@pytest.fixture
def kept(tmp_path: Path) -> Run:
    """A run as the version before the kinds of changes wrote it: raised, observed, drained, rolled back, sealed."""
    folder = tmp_path / "outputs" / "hk" / "20261125T164513Z"
    shutil.copytree(PROJECT / "tests" / "kept_run", folder)
    return Run("hk", folder)


def test_each_kind_has_a_detail_of_its_own() -> None:
    assert sorted(DETAILS.values()) == sorted(Kind)


def test_a_detail_that_its_kind_does_not_have_is_not_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(TypeError, match="weight needs revision; weight has no weigth_pct"):
        ledger.append(Kind.WEIGHT, "the canary's weight is 5 %", weight_pct=5, weigth_pct=5)
    assert ledger.events() == []


def test_events_are_read_by_the_type_of_their_detail(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(Kind.WEIGHT, "the canary's weight is 5 %", weight_pct=5, revision="w005.00-aa")
    ledger.append(Kind.DRAINED, "every new request goes to primary", why="by hand")
    (weight,) = ledger.events(Weight)
    assert (weight["event"], weight["detail"]["weight_pct"]) == (Kind.WEIGHT, 5)


@pytest.mark.parametrize("spoilt", ['"event": "no_such_kind"', '"detail": []', '"detail": 5', '"happened": "weight"'])
def test_a_line_that_is_no_event_is_named(tmp_path: Path, spoilt: str) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(Kind.FETCHED, "the newest lines of the log")
    line = json.loads(ledger.path.read_text())
    key = next(iter(json.loads(f"{{{spoilt}}}")))
    line.pop("event" if key == "happened" else key)
    ledger.path.write_text(json.dumps({**line, **json.loads(f"{{{spoilt}}}")}) + "\n")
    with pytest.raises(EvidenceError, match="line 1 is no event"):
        ledger.events()


def test_a_run_of_an_older_version_is_read_and_verified(kept: Run) -> None:
    found = verify(kept.directory)
    assert (found.answer, found.problems, found.not_sealed) == (Answer.PASS, {}, [])
    acts = [(e["detail"].get("act"), e["detail"].get("job")) for e in kept.ledger().events(Verified)]
    assert acts == [
        (Act.START, "canary"),
        (Act.HOLD_LEASE, None),
        (Act.DRAIN, None),
        (Act.SUSPEND, "canary"),
        (Act.STOP, "canary"),
        (Act.RESTART, "primary"),
        (Act.RETURN_LEASE, None),
    ]
    assert kept.ledger().events(Kind.RUN_CLOSED)[0]["detail"]["outcome"] == Closing.ROLLED_BACK
    assert held_until(kept.ledger()) is None
    assert "canary from start to ready" in set(of_run(kept)["what"])
    assert story(kept).happened == "4 Start dark was begun and gave no verdict"


def test_the_postmortem_leaves_nothing_out_by_accident(kept: Run) -> None:
    told = {Kind.UNDRAINED, Kind.REVERTED, Kind.NOT_DRAINED, Kind.DRAINED, Kind.VERDICT, Kind.VERIFIED, Kind.FAILED}
    assert not told & set(LEFT_OUT)
    renewals = [e for e in kept.ledger().events() if e["detail"].get("act") == Act.HOLD_LEASE]
    assert len(timeline([kept])) == len(kept.ledger().events()) - len(renewals)


def compared_with_prose(tree: ast.AST) -> list[int]:
    """Lines that compare a sentence with text, or look for text in it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(is_sentence, sides)) and any(map(is_text, sides)):
                found.append(node.lineno)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_sentence(node.func.value):
            found += [node.lineno] * (node.func.attr in ("startswith", "endswith", "split", "partition"))
    return found


def is_sentence(node: ast.AST) -> bool:
    match node:
        case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):
            return name in PROSE and not is_table(value)
        case ast.Attribute(attr=name):
            return name in PROSE
        case _:
            return False


def is_table(node: ast.AST) -> bool:
    """Whether it is a column of a table, not a key of an event."""
    return isinstance(node, ast.Name) and node.id in ("long", "header", "found", "rows", "frame")


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != ""
    )


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PROJECT / "runbook_lib")))
def test_no_program_decides_by_a_sentence(path: Path) -> None:
    if str(path.relative_to(PROJECT / "runbook_lib")) not in READS_SENTENCES:
        assert compared_with_prose(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        'e["what"] == "drain"',
        'e["detail"]["reason"].startswith("plain")',
        '"drain" in event["what"]',
        "PLAIN in c.reason",
    ],
)
def test_a_decision_by_a_sentence_would_be_seen(text: str) -> None:
    assert compared_with_prose(ast.parse(text)) == ([1] if "PLAIN" not in text else [])


def test_the_name_of_a_check_stands_in_one_place() -> None:
    names = set(CheckName)
    for path in LIBRARY:
        if path.name != "verdict.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts = {
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            assert not texts & (names - {CheckName.WORKERS}), path
