"""All regions on one page: regions by steps, made from the ledgers of their current runs."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from runbook_lib.checklist.order import STEPS, TITLES
from runbook_lib.errors import EvidenceError
from runbook_lib.records.evidence import write_whole
from runbook_lib.show.page import StepRow, shown_time, step_rows, symbol, write_page
from runbook_lib.show.report import ENVIRONMENT
from runbook_lib.verdict import Answer


@dataclass(frozen=True)
class Row:
    """One region: its current run's steps, the checklist and what was run beside it; or why it cannot be read."""

    region: str
    run: str
    cells: tuple[StepRow, ...] = ()
    beside: tuple[StepRow, ...] = ()
    damage: str = ""

    @property
    def page(self) -> str:
        return quote(f"{self.region}/{self.run}/index.html")

    @property
    def is_done(self) -> bool:
        return bool(self.cells) and all(cell.state == Answer.PASS for cell in self.cells)


def publish(run_dir: Path) -> None:
    """Make a run's page and the board anew; one at a time, so that the last of several regions knows all the others."""
    outputs = run_dir.parents[1]
    with (outputs / ".board").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        write_page(run_dir)
        write_board(outputs)


def write_board(outputs: Path) -> Path:
    """Write `<outputs>/index.html`, whole or not at all, and return its path.

    A damaged ledger is one row that says so.
    """
    pointers = sorted(outputs.glob("*/current"))
    rows = [_row(path.parent, path.read_text(encoding="utf-8").strip()) for path in pointers]
    html = ENVIRONMENT.get_template("board.html.j2").render(
        titles=list(TITLES.values()),
        rows=rows,
        sentence=_sentence(rows),
        symbol=symbol,
        shown=_shown,
    )
    page = outputs / "index.html"
    write_whole(page, html)
    return page


def _row(folder: Path, run: str) -> Row:
    try:
        steps = step_rows(folder / run)
    except EvidenceError as damaged:
        return Row(folder.name, run, damage=str(damaged))
    return Row(folder.name, run, tuple(steps[: len(STEPS)]), tuple(steps[len(STEPS) :]))


def _sentence(rows: list[Row]) -> str:
    bad = [
        f"{row.region}: {cell.state} at {cell.title}"
        for row in rows
        for cell in (*row.cells, *row.beside)
        if cell.state in (Answer.FAIL, Answer.INCONCLUSIVE, "stopped")
    ]
    done = sum(row.is_done for row in rows)
    return f"{done} of {len(rows)} regions have passed all steps." + (f" {'; '.join(bad)}." if bad else "")


def _shown(row: Row, cell: StepRow) -> Markup:
    """Verdict and time; the verdict is the link to the executed notebook."""
    if cell.state == "not run":
        return Markup('<span class="quiet">not run</span>')
    badge = Markup('<span class="badge {}">{} {}</span>').format(cell.state, symbol(cell.state), cell.state.upper())
    if cell.link:
        where = f"{quote(row.region)}/{quote(row.run)}/{cell.link}"
        label = f"{row.region}, {cell.title}: {cell.state}; executed notebook"
        badge = Markup('<a href="{}" aria-label="{}">{}</a>').format(where, label, badge)
    took = Markup(", <span>{}</span>").format(cell.took) if cell.took else ""
    return badge + Markup(' <span class="times">{}{}</span>').format(shown_time(cell.started_at), took)
