"""A postmortem of a run that failed says what happened, where, and what was done; all in one file, and as Markdown."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import papermill
import pytest
from browser_fixture import DESK, PHONE, low_contrasts, too_wide_px
from playwright.sync_api import Browser

from runbook_lib.audit import postmortem
from runbook_lib.audit.seal import seal
from runbook_lib.errors import EvidenceError
from runbook_lib.mac.vault import Vault
from runbook_lib.records.evidence import Run, write_whole
from runbook_lib.records.kinds import Kind
from runbook_lib.verdict import Answer, Check, Hop, Verdict

pytest_plugins = ["browser_fixture"]

PROJECT = Path(__file__).resolve().parents[1]
NASTY = "5xx of <script>alert(1)</script> | a `pipe` and *stars*"


def judge(run: Run, step: str, answer: Answer, reason: str) -> None:
    checks = [Check("canary 5xx", answer, reason, Hop.CANARY), Check("host", Answer.PASS, "quiet", Hop.HOST)]
    verdict = Verdict.of(checks)
    detail = {"hops": verdict.hops, "reasons": verdict.reasons, "checks": verdict.table().to_dict("records")}
    run.ledger(step).append(Kind.STEP_OPENED, step, region=run.region)
    run.ledger(step).append(Kind.VERDICT, f"{step}: {answer}", answer=str(answer), **detail)
    write_whole(run.directory / f"{step}.html", "<!doctype html>")


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """hk failed at its slice, was drained and rolled back; jp passed its first step."""
    for name in ("parameters", "notebooks"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    judge(Run.start("jp"), "01_snapshot", Answer.PASS, "fine")
    run = Run.start("hk")
    judge(run, "01_snapshot", Answer.PASS, "fine")
    ledger = run.ledger("06_raise_weight")
    ledger.append(Kind.WEIGHT, "the canary's weight is 8 %", weight_pct=8.0, revision="w008.00-x")
    judge(run, "06_raise_weight", Answer.FAIL, NASTY)
    ledger.append(Kind.DRAINED, "every new request goes to primary", why=NASTY)
    ledger.append(Kind.WEIGHT, "the canary's weight is 0 %", weight_pct=0.0, revision="w000.00-x")
    judge(run, "rollback", Answer.PASS, "as in the snapshot")
    run.close("rolled back")
    assert seal(run, Vault(None)) is not None
    return run


def test_it_says_what_happened_where_and_what_was_done(failed: Run) -> None:
    told = postmortem.story(failed)
    assert told.answer == "fail"
    assert told.happened.endswith(f"06_raise_weight: fail: {NASTY}")
    assert told.where == "gateway canary"
    done = [line.split(": ", 1)[1] for line in told.did]
    assert done[0] == f"every new request goes to primary ({NASTY})"
    assert done[1] == "the canary's weight is 0 %"
    assert done[-1] == "rolled back"
    assert told.stands == "2 steps have passed; the canary's weight is 0 %"


def test_a_run_without_a_fault_and_one_that_died_are_told_too(failed: Run) -> None:
    jp = Run.current("jp")
    assert jp is not None
    assert postmortem.story(jp).happened == "nothing went wrong"
    jp.ledger("02_install_canary").append(Kind.STEP_OPENED, "02_install_canary")
    assert postmortem.story(jp).happened == "2 Install canary was begun and gave no verdict"


def test_the_timeline_has_every_event_of_all_regions_in_order(failed: Run) -> None:
    found = postmortem.choose("all", since="2020-01-01")
    frame = postmortem.timeline(found)
    assert set(frame["region"]) == {"hk", "jp"}
    assert len(frame) == sum(len(run.ledger().events()) for run in found)
    assert frame["at"].is_monotonic_increasing
    row = frame[frame["step"] == "06_raise_weight"].iloc[-1]
    assert row["notebook"] == f"../hk/{failed.name}/06_raise_weight.html"


def test_a_range_takes_the_runs_that_were_busy_in_it(failed: Run) -> None:
    assert [run.region for run in postmortem.choose("all")] == ["hk", "jp"]
    assert postmortem.choose("hk", run=failed.name) == [failed]
    with pytest.raises(EvidenceError, match="no run of hk between"):
        postmortem.choose("hk", since="2020-01-01", until="2020-02-01")
    with pytest.raises(EvidenceError, match="write times as"):
        postmortem.choose("hk", since="yesterday evening")


def test_decisions_name_the_seal_that_holds_their_evidence(failed: Run) -> None:
    judge(failed, "rollback", Answer.PASS, "once more")
    assert list(postmortem.decisions([failed])["seal"]) == ["1", "1", "1", ""]
    worst = postmortem.hops([failed]).query("step == '06_raise_weight'").set_index("hop")["answer"].to_dict()
    assert worst == {"gateway canary": "fail", "host": "pass"}


def test_markdown_holds_it_all_and_nothing_becomes_markup(failed: Run) -> None:
    _, markdown = postmortem.export(postmortem.choose("all"))
    text = markdown.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script\\>alert(1)&lt;/script\\> \\| a \\`pipe\\` and \\*stars\\*" in text
    assert f"[notebook](../hk/{failed.name}/06_raise_weight.html)" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") in (7, 9, 11), line


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_one_html_file_can_be_mailed(scheme: str, failed: Run, browser: Browser, tmp_path: Path) -> None:
    """Elsewhere and without a network it is whole; beside the runs its links lead to the executed notebooks."""
    html, _ = postmortem.export(postmortem.choose("all"))
    mailed = tmp_path / "mail" / "attachment.html"
    mailed.parent.mkdir()
    shutil.copy(html, mailed)
    with browser.new_context(color_scheme=scheme, offline=True) as context:  # type: ignore[arg-type]
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(mailed.as_uri())
        for size in (PHONE, DESK):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            assert (too_wide_px(page), low_contrasts(page)) == (0, []), size
        assert page.get_by_text("What was done from then on").first.is_visible()
        assert NASTY in page.locator("dd").first.inner_text()
        page.goto(html.as_uri())
        page.get_by_role("link", name="Executed notebook of 06_raise_weight").first.click()
        assert page.url.endswith(f"hk/{failed.name}/06_raise_weight.html")
        assert said == []


def test_the_notebook_runs_and_leaves_the_seal_whole(failed: Run, tmp_path: Path) -> None:
    from runbook_lib.audit.verify import verify

    papermill.execute_notebook(
        "notebooks/postmortem.ipynb", "out.ipynb", {"region": "hk"}, progress_bar=False, cwd=str(tmp_path)
    )
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    shown = "".join(str(output) for cell in executed.cells for output in cell.get("outputs", []))
    assert "06_raise_weight" in shown and "gateway canary" in shown
    assert (tmp_path / f"outputs/postmortems/hk-{failed.name}.html").exists()
    assert verify(failed.directory).problems == {}
