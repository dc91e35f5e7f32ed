"""The run folder: one open run a region, evidence written whole, and a clear word when it is damaged."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from runbook_lib.errors import EvidenceError
from runbook_lib.mac.vault import Vault
from runbook_lib.records import evidence, tables
from runbook_lib.records.evidence import Run, runs, write_whole
from runbook_lib.records.kinds import Kind


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("parameters", "notebooks"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_started_found_and_closed(project: Path) -> None:
    assert Run.current("hk") is None
    run = Run.start("hk")
    assert run.directory.parent == project / "outputs/hk"
    assert Run.current("hk") == run
    assert Run.current("jp") is None
    assert not run.is_closed
    run.close("rolled back")
    assert run.is_closed
    assert [e["event"] for e in run.ledger().events()] == ["run_opened", "run_closed"]


def test_three_runs_in_one_second_are_three(project: Path) -> None:
    started = [Run.start("hk") for _ in range(3)]
    assert len({run.name for run in started}) == 3
    assert runs("hk") == sorted(started, key=lambda run: run.name) == started
    assert Run.current("hk") == started[-1]


def test_a_dry_run_is_never_the_current_run() -> None:
    assert Run.dry_run("hk").is_dry_run
    assert Run.current("hk") is None
    assert runs("hk") == []


def test_the_answer_of_a_step_is_the_last_and_opening_it_again_takes_it_back() -> None:
    run = Run.start("hk")
    ledger = run.ledger("06_raise_weight")
    assert run.answer("06_raise_weight") == ""
    ledger.append(Kind.STEP_OPENED, "x")
    assert run.answer("06_raise_weight") == ""
    ledger.append(Kind.VERDICT, "fail", answer="fail")
    ledger.append(Kind.VERDICT, "pass", answer="pass")
    run.ledger("07_observe").append(Kind.VERDICT, "fail", answer="fail")
    assert run.answer("06_raise_weight") == "pass"
    ledger.append(Kind.STEP_OPENED, "x")
    assert run.answer("06_raise_weight") == ""


def test_tables_facts_and_texts_are_kept_by_step() -> None:
    run = Run.start("hk")
    lints = pd.DataFrame({"a": [1], "b": ["ü"]})
    path = run.keep_table("03_validate", "lints", lints)
    assert path == run.directory / "evidence/03_validate/lints.table.json"
    pd.testing.assert_frame_equal(tables.from_text(path.read_text(), "lints"), lints)
    run.keep_facts("03_validate", "facts", {"b": 1, "a": Path("/x")})
    assert run.facts("03_validate", "facts") == {"a": "/x", "b": 1}


SAID = st.one_of(st.sampled_from(["", "NA", "null", "1.0", "True", "007", "2026-05-06", 'a/b"\\\n\t€']), st.text())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(SAID, st.integers(-(2**53), 2**53), st.booleans(), st.floats(-1e9, 1e9) | st.none())))
def test_a_table_is_read_back_with_its_types(rows: list[tuple[str, int, bool, float | None]]) -> None:
    """A text stays a text, however much it looks like something else; what is missing stays missing."""
    frame = pd.DataFrame(rows, columns=["said", "count", "ok", "took_ms"]).astype(
        {"said": str, "count": "Int64", "ok": bool, "took_ms": float}
    )
    frame["at"] = pd.to_datetime([1_778_000_000_250_000] * len(rows), unit="us", utc=True).astype("datetime64[ns, UTC]")
    try:
        text = tables.to_text(frame)
    except UnicodeEncodeError:
        assume(False)  # a lone surrogate: nothing that was decoded holds one
    pd.testing.assert_frame_equal(tables.from_text(text, "x"), frame)


@pytest.mark.parametrize("content", ["{", "", "[]", "1", '{"schema": {}, "data": []}', '{"data": [{"a": 1}]}'])
def test_a_damaged_table_is_named(content: str) -> None:
    with pytest.raises(EvidenceError, match="matrix is no table; it was edited or damaged"):
        tables.from_text(content, "matrix")


def test_a_secret_in_a_table_is_taken_out_however_it_is_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("a/b+c==0123456789", 'quote"back\\slash/12345', "ümläut/0123456789"):
        monkeypatch.setenv("TOKEN", value)
        vault = Vault(None)
        vault.resolve("env:TOKEN")
        run = replace(Run.start("hk"), redact=vault.redact)
        path = run.keep_table("05_smoke", "first", pd.DataFrame({"body": [f"Bearer {value}"], "status": [200]}))
        assert vault.leaked(path.read_bytes()) == []
        assert tables.from_text(path.read_text(), "first")["body"].tolist() == ["Bearer [env:TOKEN]"]


@pytest.mark.parametrize("content", ["{", "", "\x00"])
def test_damaged_facts_are_named(content: str) -> None:
    run = Run.start("hk")
    run.keep_facts("01_snapshot", "snapshot", {}).write_text(content)
    with pytest.raises(EvidenceError, match="snapshot.json is not JSON.*run step 01_snapshot again"):
        run.facts("01_snapshot", "snapshot")


def test_facts_that_were_never_kept() -> None:
    with pytest.raises(EvidenceError, match="step 01_snapshot kept no snapshot; run it first"):
        Run.start("hk").facts("01_snapshot", "snapshot")


@pytest.mark.parametrize("pointer", ["20200101T000000Z", "", "../jp", "..", "/etc"])
def test_a_pointer_to_nowhere_is_named(project: Path, pointer: str) -> None:
    Run.start("hk")
    (project / "outputs/jp").mkdir()
    (project / "outputs/hk/current").write_text(pointer)
    with pytest.raises(EvidenceError, match="restore it or delete current"):
        Run.current("hk")


def test_no_reader_ever_sees_half_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "notebook.ipynb"
    texts = [json.dumps(["x" * 1000] * 200), json.dumps(["y" * 1000] * 300)]
    write_whole(path, texts[0])
    done = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(texts.index(path.read_text()))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        write_whole(path, texts[number % 2])
    done.set()
    reader.join()
    assert seen <= {0, 1}
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["notebook.ipynb"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "facts.json"
    write_whole(path, "old")

    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evidence.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["facts.json"]
