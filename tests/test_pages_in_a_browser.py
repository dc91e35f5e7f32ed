"""The board, a run's page and executed notebooks, opened in a real browser: links, widths, contrast, both schemes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from browser_fixture import DESK, PHONE, low_contrasts, too_wide_px
from playwright.sync_api import Browser, Page

from runbook_lib.checklist.order import STEPS
from runbook_lib.execution.execute import as_html
from runbook_lib.records.evidence import write_whole
from runbook_lib.records.kinds import Kind
from runbook_lib.records.ledger import Ledger
from runbook_lib.show.board import publish, write_board
from runbook_lib.show.page import write_page
from runbook_lib.show.report import banner, checks_table, diff, table
from runbook_lib.verdict import Answer, Check, Hop, Verdict

pytest_plugins = ["browser_fixture"]

REASON = "canary 5xx: 31 of 402 attempts at the canary are 7.71 %, over 0.5 % with 99 % confidence, n=402"
NUMBERS = {"hk": 8, "jp": 7, "kr": 3, "sg": 6, "us": 0}
"""How far each region came; sg fails at its last, kr is at work on the next."""


def verdict_of(answer: Answer) -> Verdict:
    return Verdict.of([Check("canary 5xx", answer, REASON, Hop.CANARY, 7.71, 0.5, "%", 402, "drain the canary")])


def write_notebook(path: Path, answer: Answer) -> None:
    """An executed notebook as the runner writes it, with what steps show."""
    verdict = verdict_of(answer)
    shown = [
        banner(verdict, path.stem),
        checks_table(verdict),
        table(verdict.table(), "the table of all checks"),
        diff("split 0\n" * 3, "split 5\n" * 3 + "x" * 200 + "\n", "/opt/homebrew/etc/nginx/openclaw-rollout/http.conf"),
    ]
    output: Any = nbformat.v4.new_output  # type: ignore[no-untyped-call]
    cell: Any = nbformat.v4.new_code_cell  # type: ignore[no-untyped-call]
    outputs = [output("display_data", data={"text/html": part.html, "text/plain": part.text}) for part in shown]
    code = 'step.conclude(promotion.judge(step.plan, raised))  # "one" line\nimport os\nx = [1, True, f"{2}"]'
    text = nbformat.v4.new_markdown_cell(f"# {path.stem}\n\nA [link](https://example.com).\n\n## Verdict\n\n`code`")  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=[text, cell(code, outputs=outputs, metadata={"tags": ["verdict"]})])  # type: ignore[no-untyped-call]
    write_whole(path.with_suffix(".ipynb"), nbformat.writes(notebook))  # type: ignore[no-untyped-call]
    write_whole(path.with_suffix(".html"), as_html(notebook, path.stem))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five regions as far as NUMBERS says, with their pages and the board."""
    folder = tmp_path_factory.mktemp("outputs")
    for region, count in NUMBERS.items():
        run = folder / region / "20260506T021000Z"
        ledger = Ledger(run / "ledger.jsonl")
        ledger.append(Kind.RUN_OPENED, "rollout", run="r")
        write_whole(folder / region / "current", run.name)
        for number, step in enumerate(STEPS[:count], start=1):
            bad = region == "sg" and number == count
            verdict = verdict_of(Answer.FAIL if bad else Answer.PASS)
            own = Ledger(run / "ledger.jsonl", step)
            own.append(Kind.STEP_OPENED, step, region=region)
            detail = {"hops": list(verdict.hops), "reasons": verdict.reasons, "checks": []}
            own.append(Kind.VERDICT, f"{step}: {verdict.answer}", answer=str(verdict.answer), **detail)
            own.append(Kind.WEIGHT, "weight", weight_pct=5.0 * number, revision=f"w{number:03}")
            write_notebook(run / step, verdict.answer)
        if region == "kr":
            Ledger(run / "ledger.jsonl", STEPS[count]).append(Kind.STEP_OPENED, STEPS[count], region=region)
        write_page(run)
    write_board(folder)
    return folder


PAGES = {
    "board": "index.html",
    "run": "sg/20260506T021000Z/index.html",
    "empty run": "us/20260506T021000Z/index.html",
    "notebook": "sg/20260506T021000Z/06_raise_weight.html",
}


@pytest.fixture(params=["light", "dark"])
def opened(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page in one colour scheme, that must log nothing and ask for nothing from a network."""
    context = browser.new_context(color_scheme=request.param, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda one: said.append(one.url) if not one.url.startswith(("file:", "data:")) else None)
    yield page
    context.close()
    assert said == []


@pytest.mark.parametrize("name", PAGES)
def test_it_fits_two_widths_and_can_be_read(name: str, opened: Page, outputs: Path) -> None:
    opened.goto((outputs / PAGES[name]).as_uri())
    for size in (PHONE, DESK):
        opened.set_viewport_size(size)  # type: ignore[arg-type]
        assert too_wide_px(opened) == 0, size
        assert low_contrasts(opened) == [], size


def test_the_measure_of_contrast_finds_grey_on_white(opened: Page) -> None:
    opened.set_content("<p style='background:#fff;color:#999'>grey</p><p style='background:#fff;color:#000'>black</p>")
    assert low_contrasts(opened) == [(2.85, "grey")]


def test_the_measure_of_width_finds_what_sticks_out(opened: Page) -> None:
    opened.set_viewport_size(PHONE)  # type: ignore[arg-type]
    opened.set_content("<div style='width:900px'>wide</div>")
    assert too_wide_px(opened) > 500


@pytest.mark.parametrize("name", ["board", "run", "empty run"])
def test_every_link_leads_somewhere(name: str, opened: Page, outputs: Path) -> None:
    opened.goto((outputs / PAGES[name]).as_uri())
    links = opened.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
    assert links
    for link in links:
        parts = urlsplit(link)
        assert Path(unquote(parts.path)).is_file(), link
        if parts.fragment:
            assert opened.locator(f"#{parts.fragment}").count() == 1, link


def test_a_click_on_a_verdict_opens_the_executed_notebook(opened: Page, outputs: Path) -> None:
    opened.goto((outputs / "index.html").as_uri())
    opened.get_by_role("link", name="sg, 6 Raise weight: fail; executed notebook").click()
    assert opened.url.endswith("sg/20260506T021000Z/06_raise_weight.html")
    assert opened.get_by_text("06_raise_weight").first.is_visible()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_board_can_be_heard(size: Any, opened: Page, outputs: Path) -> None:
    """What a screen reader is told, at both widths: the table keeps its roles when it is laid out as blocks."""
    opened.set_viewport_size(size)
    opened.goto((outputs / "index.html").as_uri())
    assert opened.locator("html").get_attribute("lang") == "en"
    assert opened.title() == "Rollouts in all regions"
    assert opened.get_by_role("columnheader").count() == 10
    assert opened.get_by_role("rowheader").count() == len(NUMBERS)
    row = opened.get_by_role("row").filter(has=opened.get_by_role("rowheader", name="sg"))
    assert "✘ FAIL" in row.inner_text(), "a word and a sign stand beside the colour"
    at_work = opened.get_by_role("row").filter(has=opened.get_by_role("rowheader", name="kr"))
    assert "… RUNNING" in at_work.inner_text()
    assert opened.get_by_text("1 of 5 regions have passed all steps. sg: fail at 6 Raise weight.").is_visible()


@pytest.mark.parametrize("name", ["board", "run", "notebook"])
def test_the_first_tab_is_a_way_past_the_head(name: str, opened: Page, outputs: Path) -> None:
    opened.goto((outputs / PAGES[name]).as_uri())
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    target = opened.evaluate("document.activeElement.hash")
    assert opened.locator(target).count() == 1


def test_a_board_that_is_read_while_it_is_made_anew_is_whole(outputs: Path) -> None:
    before = (outputs / "index.html").read_bytes()
    assert write_board(outputs).read_bytes() == before
    assert not [path for path in outputs.iterdir() if path.name.startswith(".")]


def test_of_regions_that_end_at_once_the_last_board_knows_all(tmp_path: Path) -> None:
    """Whoever makes it waits for its turn, and reads the ledgers only then."""
    hk, jp = (Ledger(tmp_path / region / "r/ledger.jsonl", STEPS[0]) for region in ("hk", "jp"))
    for ledger in (hk, jp):
        ledger.append(Kind.STEP_OPENED, STEPS[0])
        write_whole(ledger.path.parents[1] / "current", "r")
    with ThreadPoolExecutor(1) as threads, (tmp_path / ".board").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        made = threads.submit(publish, hk.path.parent)
        with pytest.raises(TimeoutError):
            made.result(1)
        jp.append(Kind.VERDICT, "passed", answer="pass", hops=[], reasons=[], checks=[])
        fcntl.flock(turn, fcntl.LOCK_UN)
        made.result(10)
    assert "✔ PASS" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_damaged_ledger_is_one_row_that_says_so(tmp_path: Path) -> None:
    for region in ("hk", "jp"):
        Ledger(tmp_path / region / "r" / "ledger.jsonl").append(Kind.RUN_OPENED, "x", run="r")
        write_whole(tmp_path / region / "current", "r")
    (tmp_path / "jp/r/ledger.jsonl").write_text("no event\n")
    html = write_board(tmp_path).read_text(encoding="utf-8")
    assert "NOT READABLE" in html and "the ledger was edited or damaged" in html
    assert "hk/r/index.html" in html


def test_parameters_are_folded_and_open_with_a_click(browser: Browser, tmp_path: Path) -> None:
    """What is hidden in JupyterLab is folded on the page, and so is what was given, often a whole file."""
    notebook = nbformat.read(Path(__file__).parents[1] / "notebooks/06_raise_weight.ipynb", as_version=4)
    given = nbformat.v4.new_code_cell(
        "# Parameters\nlease = {'attended_s': 4}", metadata={"tags": ["injected-parameters"]}
    )
    notebook.cells.insert(2, given)
    write_whole(tmp_path / "page.html", as_html(notebook, "06_raise_weight"))
    with browser.new_context(viewport={"width": DESK["width"], "height": DESK["height"]}) as context:
        page = context.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        for summary, code in (("Parameters as the notebook", "who is paged"), ("What was given", "attended_s")):
            assert not page.get_by_text(code).first.is_visible()
            page.get_by_text(summary).click()
            assert page.get_by_text(code).first.is_visible()
        page.reload()
        question = page.get_by_role("heading", name="Before: which configuration runs?").bounding_box()
        assert question is not None and question["y"] < DESK["height"], "the first screen has the question"
        assert low_contrasts(page) == []
