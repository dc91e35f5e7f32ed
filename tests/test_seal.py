"""A sealed run stands up: every byte of every file counts, the chain and the signature hold, verdicts are recomputed.

The run here is made by sealed_run.py; no Mac is asked.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sealed_run import (
    DARK,
    MATRIX,
    SLICE,
    STARTED_S,
    counts_of,
    give_verdict,
    log_lines,
    observe_slice,
    open_and_keep,
    plan_of,
    raise_slice,
)

from runbook_lib.audit.kept import Kept, Slices
from runbook_lib.audit.seal import seal, unsealed_steps
from runbook_lib.audit.verify import verify
from runbook_lib.errors import EvidenceError
from runbook_lib.mac.vault import Vault
from runbook_lib.plan.models import Plan
from runbook_lib.records.evidence import Run, write_whole
from runbook_lib.records.kinds import Kind
from runbook_lib.show.page import write_page
from runbook_lib.steps import promotion
from runbook_lib.verdict import Answer

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("parameters", "notebooks"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project: Path, plan: Plan) -> Run:
    """Two steps, each sealed."""
    run = Run.start("hk")
    for do in (raise_slice, observe_slice):
        do(run, plan)
        write_page(run.directory)
        assert seal(run, Vault(None)) is not None
    return run


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "id_ed25519"
    path.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", path], check=True)
    public = path.with_suffix(".pub").read_text().split()
    (path.parent / "allowed_signers").write_text(f"ops@example.com {public[0]} {public[1]}\n")
    return path


def test_a_copy_elsewhere_is_verified_and_every_verdict_recomputed(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(run.directory, copy)
    found = verify(copy)
    assert (found.problems, found.not_sealed, found.answer) == ({}, [], Answer.PASS), found.lines()
    assert (found.region, found.run, found.seals_count) == ("hk", run.name, 2)
    first, second = found.verdicts
    assert (first.step, first.rejudged_count, first.recorded_count) == ("06_raise_weight", 0, 0)
    assert first.recomputed_count >= 3
    assert (second.rejudged_count, second.recorded_count) == (2, 0)
    assert second.recomputed_count >= 10


def test_a_run_whose_tables_were_kept_without_types_is_verified_too(project: Path, plan: Plan) -> None:
    """Older runs kept CSV."""
    run = Run.start("hk")
    raise_slice(run, plan)
    observe_slice(run, plan)
    typed = run.directory / "evidence/07_observe/matrix.table.json"
    typed.unlink()
    run.keep_text("07_observe", "matrix.csv", MATRIX.to_csv(index=False))
    assert seal(run, Vault(None)) is not None
    found = verify(run.directory)
    assert (found.problems, found.answer) == ({}, Answer.PASS), found.lines()
    assert found.verdicts[1].rejudged_count == 2, "the matrix was judged again"


def test_a_table_put_beside_the_kept_one_is_not_believed(run: Run) -> None:
    broken = MATRIX.assign(ok=False)
    (run.directory / "evidence/07_observe/matrix.csv").write_text(broken.to_csv(index=False))
    assert "evidence/07_observe/matrix.csv" in found_in(run.directory)
    kept = Kept({"detail": {}}, [], run.directory / "evidence/07_observe", Slices(run))
    assert kept.table("matrix")["ok"].all(), "what was kept with its types is what is judged"


def all_files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def found_in(folder: Path, allowed: Path | None = None) -> set[str]:
    found = verify(folder, allowed)
    assert (found.answer is Answer.FAIL) == bool(found.problems)
    return set(found.problems)


def test_tampering_with_any_file_of_a_signed_run_is_found_and_named(run: Run, plan: Plan, key: Path) -> None:
    """Every file: a byte flipped at several places, cut short, emptied, longer, gone; and a file that was added."""
    run.keep_text("07_observe", "note.txt", "seen by the owner of the error budget\n")
    run.ledger("07_observe").append(Kind.FETCHED, "a note was kept")
    assert seal(run, Vault(None), str(key)) is not None
    folder, tried = run.directory, 0
    names = [path.relative_to(folder).as_posix() for path in all_files(folder)]
    assert {"seals/0003/manifest.json", "seals/0003/manifest.json.sig", "seals/0001/manifest.json"} < set(names)
    assert found_in(folder) == set()
    for name in names:
        path = folder / name
        content = path.read_bytes()
        places = sorted({0, len(content) // 3, len(content) // 2, len(content) - 1} & set(range(len(content))))
        changed = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in places]
        for bad in [*changed, content[: len(content) // 2], b"", content + b"\n"]:
            if bad == content:
                continue
            path.write_bytes(bad)
            assert name in found_in(folder), f"{name}: {len(bad)} of {len(content)} bytes"
            tried += 1
        path.unlink()
        assert name in found_in(folder), f"{name} is gone"
        path.write_bytes(content)
    for name in ("added.txt", "evidence/07_observe/added.csv", "evidence/log/00009.tsv.gz", "seals/0002/added"):
        (folder / name).write_bytes(b"x")
        assert name in found_in(folder)
        (folder / name).unlink()
    assert tried > 5 * len(names)
    assert found_in(folder, key.parent / "allowed_signers") == set()


def test_the_command_names_the_file_and_ends_with_1(run: Run, tools: Path) -> None:
    words = [tools / "rollout", "verify", run.directory]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    slim = run.slices("log")[1]
    content = bytearray(slim.read_bytes())
    content[40] ^= 8
    slim.write_bytes(content)
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"] == {"evidence/log/00002.tsv.gz": "it was changed"}


def test_a_verdict_that_does_not_follow_from_its_evidence_is_found_though_all_hashes_are_made_anew(
    run: Run, plan: Plan
) -> None:
    """Who can write the folder can make every hash anew where nothing is signed; the evidence still tells."""
    shutil.rmtree(run.directory / "seals")
    slow = log_lines(plan, SLICE, STARTED_S + 750, 1800).replace(b"\t0.05", b"\t0.95")
    write_whole(run.slices("log")[1], gzip.compress(slow, mtime=0))
    assert seal(run, Vault(None)) is not None
    found = verify(run.directory)
    assert found.problems == {} and found.answer is Answer.FAIL
    differs = {again.step: " ".join(again.differs) for again in found.verdicts}
    assert "the checks give fail, the ledger says pass" in differs["06_raise_weight"]
    assert "response p95" in differs["06_raise_weight"]


def test_a_signature_names_its_signer_and_no_other_key_counts(run: Run, key: Path, tmp_path: Path) -> None:
    run.ledger().append(Kind.FETCHED, "more")
    assert seal(run, Vault(None), str(key)) is not None
    allowed = key.parent / "allowed_signers"
    shutil.rmtree(run.directory / "seals/0001")
    shutil.rmtree(run.directory / "seals/0002")
    assert found_in(run.directory) == {"seals/0003/manifest.json"}, "seals cannot be taken out of the chain"
    shutil.rmtree(run.directory / "seals")
    assert seal(run, Vault(None), str(key)) is not None
    assert [who.split()[0] for who in verify(run.directory, allowed).signed_by] == ["ops@example.com"]
    assert verify(run.directory).signed_by[0].startswith("a key that was not compared")
    other = tmp_path / "others"
    other.write_text(
        "eve@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB3lgeCvMmcnjBgDfJ6rXYZwx8cXnXAQnAtvCzjTDxN1\n"
    )
    assert found_in(run.directory, other) == {"seals/0001/manifest.json.sig"}


def test_asking_for_signatures_refuses_a_run_without(run: Run, key: Path) -> None:
    assert "seals/0002/manifest.json.sig" in found_in(run.directory, key.parent / "allowed_signers")


def test_a_key_that_cannot_sign_leaves_no_half_seal(run: Run, tmp_path: Path) -> None:
    run.ledger().append(Kind.FETCHED, "more")
    with pytest.raises(EvidenceError, match="could not be signed"):
        seal(run, Vault(None), str(tmp_path / "no-key"))
    assert not (run.directory / "seals/0003").exists()
    assert verify(run.directory).answer is Answer.INCONCLUSIVE


@pytest.mark.parametrize("where", ["06_raise_weight.ipynb", "evidence/log/00009.tsv.gz", "evidence/x/plan.json"])
def test_a_secret_in_a_file_refuses_the_seal_and_is_never_told(
    run: Run, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = 'quo"ted\\päss-word'
    monkeypatch.setenv("STAGING_SECRET", value)
    vault = Vault(None)
    vault.resolve_all(["env:STAGING_SECRET", "env:NOT_SET", "file:/on/the/mac#NAME"])
    assert (vault.known, sorted(vault.unknown)) == (["env:STAGING_SECRET"], ["env:NOT_SET", "file:/on/the/mac#NAME"])
    text = json.dumps({"cells": [json.dumps({"out": value})]}).encode()
    path = run.directory / where
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    with pytest.raises(EvidenceError) as refused:
        seal(run, vault)
    assert f"{where} holds the value of env:STAGING_SECRET" in str(refused.value)
    assert "word" not in str(refused.value)
    assert not (run.directory / "seals/0003").exists()
    path.write_bytes(gzip.compress(b"") if path.suffix == ".gz" else b"{}")
    made = seal(run, vault)
    assert made is not None and set(made.secrets_unknown) == {"env:NOT_SET", "file:/on/the/mac#NAME"}


def test_a_second_attempt_overwrites_nothing_that_was_sealed(run: Run, plan: Plan) -> None:
    first = run.directory / "06_raise_weight.ipynb"
    before = first.read_bytes()
    open_and_keep(run, "06_raise_weight", plan)
    write_whole(first, '{"attempt": 2}')
    counts = counts_of(run, plan)
    raised = promotion.Raised(8.0, counts.select(revision=DARK), counts.select(revision=SLICE))
    give_verdict(run, "06_raise_weight", promotion.judge(plan, raised))
    assert unsealed_steps(run, None) == ("06_raise_weight", "07_observe")
    made = seal(run, Vault(None))
    assert made is not None and (made.number, made.steps) == (3, ("06_raise_weight",))
    assert (run.directory / "seals/0001/06_raise_weight.ipynb").read_bytes() == before
    found = verify(run.directory)
    assert found.answer is Answer.PASS, found.lines()
    assert [(a.step, a.why_recorded) for a in found.verdicts] == [
        ("06_raise_weight", ""), ("07_observe", ""), ("06_raise_weight", ""),
    ]  # fmt: skip


def test_what_came_after_the_last_seal_is_said_and_never_a_pass(run: Run) -> None:
    run.ledger("drain").append(Kind.DRAINED, "every new request goes to primary", why="by hand")
    found = verify(run.directory)
    assert found.problems == {} and found.answer is Answer.INCONCLUSIVE
    assert found.not_sealed == ["1 events of the ledger (drain)"]
    assert seal(run, Vault(None)) is not None
    assert verify(run.directory).answer is Answer.PASS
    assert seal(run, Vault(None)) is None, "nothing is new"


def test_a_run_without_a_seal_is_inconclusive_and_a_folder_that_is_no_run_is_refused(
    project: Path, plan: Plan, tmp_path: Path
) -> None:
    run = Run.start("hk")
    raise_slice(run, plan)
    found = verify(run.directory)
    assert (found.answer, found.not_sealed) == (Answer.INCONCLUSIVE, ["the whole run"])
    assert found.verdicts[0].recomputed_count >= 3
    with pytest.raises(EvidenceError, match="is no run"):
        verify(tmp_path)
