"""One run as one page: made from the ledger alone, so page and ledger cannot disagree."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from runbook_lib.checklist.order import STEPS, TITLES
from runbook_lib.clock import in_words
from runbook_lib.records.events import Event
from runbook_lib.records.evidence import write_whole
from runbook_lib.records.kinds import Kind
from runbook_lib.records.ledger import Ledger
from runbook_lib.records.weights import drains, is_drained, weights
from runbook_lib.show.plots import plot_weights
from runbook_lib.show.report import ENVIRONMENT, MARKS
from runbook_lib.verdict import Answer

EVENTS_SHOWN = 30


@dataclass(frozen=True)
class StepRow:
    """The latest attempt of one step.

    `state` is an answer, "stopped" (a change failed), "waits" (for a person), "approved", "running" or "not run".
    """

    step: str
    title: str
    state: str
    attempts_count: int = 0
    started_at: str = ""
    duration_s: float | None = None
    hop: str = ""
    reason: str = ""
    link: str = ""

    @property
    def took(self) -> str:
        return "" if self.duration_s is None else in_words(self.duration_s)


def write_page(run_dir: Path) -> Path:
    """Write `<run_dir>/index.html`, whole or not at all, and return its path.

    Needs no network; the same ledger gives the same bytes. Raises EvidenceError where the ledger is damaged.
    """
    events = _events(run_dir)
    steps = _steps(run_dir, events)
    weights_svg, weights_text = drawn_weights(events)
    html = ENVIRONMENT.get_template("page.html.j2").render(
        run=_run(run_dir, events, steps),
        steps=steps,
        weights_svg=weights_svg,
        weights_text=weights_text,
        events=events[: -EVENTS_SHOWN - 1 : -1],
        when=shown_time,
        symbol=symbol,
    )
    page = run_dir / "index.html"
    write_whole(page, html)
    return page


def step_rows(run_dir: Path) -> list[StepRow]:
    """The checklist in order, run or not, then whatever else was run. Raises EvidenceError for a damaged ledger."""
    return _steps(run_dir, _events(run_dir))


def drawn_weights(events: list[Event[Any]]) -> tuple[Markup, str]:
    """The canary's weight over time as SVG, and in words; both empty where no weight was set."""
    found = weights(events)
    return Markup(_svg(found)) if len(found) else Markup(""), _weights_text(found)


def symbol(state: str) -> str:
    """The sign of a state, so that colour is never needed."""
    return MARKS[state].symbol if state in MARKS else {"running": "…"}.get(state, "–")


def summary(run_dir: Path) -> pd.DataFrame:
    """One row a step: step, verdict (an answer, or as in StepRow.state), duration_s, hop, reason."""
    rows = [(row.step, row.state, row.duration_s, row.hop, row.reason) for row in step_rows(run_dir)]
    frame = pd.DataFrame(rows, columns=["step", "verdict", "duration_s", "hop", "reason"])
    return frame.astype({"duration_s": float})


def _events(run_dir: Path) -> list[Event[Any]]:
    return Ledger(run_dir / "ledger.jsonl").events()


def _steps(run_dir: Path, events: list[Event[Any]]) -> list[StepRow]:
    """The checklist in order, run or not, then whatever else was run (rollback, rehearsals)."""
    names = list(dict.fromkeys(event["step"] for event in events if event["step"]))
    rows = [_step(run_dir, name, title, events) for name, title in TITLES.items()]
    opened = {event["step"] for event in events if event["event"] == Kind.STEP_OPENED}  # a drain by hand is no step
    beside = [name for name in names if name in opened and name not in STEPS]
    return rows + [_step(run_dir, name, name.replace("_", " ").capitalize(), events) for name in beside]


def _step(run_dir: Path, step: str, title: str, events: list[Event[Any]]) -> StepRow:
    mine = [event for event in events if event["step"] == step]
    opened = [index for index, event in enumerate(mine) if event["event"] == Kind.STEP_OPENED]
    if not mine:
        return StepRow(step, title, "not run")
    attempt = mine[opened[-1] :] if opened else mine
    last = {event["event"]: event for event in attempt}
    verdict, closed = last.get(Kind.VERDICT), last.get(Kind.STEP_CLOSED)
    end = closed or verdict
    failed = attempt[-1] if attempt[-1]["event"] == Kind.FAILED else None
    state, hop, reason = _at_gate(attempt[-1]) or _answer(verdict, closed, failed)
    started_at = attempt[0]["at"]
    duration_s = (_time(end["at"]) - _time(started_at)).total_seconds() if end else None
    made = (run_dir / f"{step}{kind}" for kind in (".html", ".ipynb"))
    link = next((quote(file.name) for file in made if file.exists()), "")
    return StepRow(step, title, state, max(1, len(opened)), started_at, duration_s, hop, reason, link)


def _at_gate(event: Event[Any]) -> tuple[str, str, str] | None:
    """State, no hop, and reason of a step that has not begun because a person is asked first."""
    if event["event"] == Kind.GATE_WAITING:
        return "waits", "", str(event["detail"]["reason"])
    if event["event"] == Kind.APPROVED:
        return "approved", "", f"{event['who']}: {event['detail']['why']}"
    return None


def _answer(verdict: Event[Any] | None, closed: Event[Any] | None, failed: Event[Any] | None) -> tuple[str, str, str]:
    """State, hops and first reason of an attempt; an end without a verdict is inconclusive."""
    if verdict:
        said = verdict["detail"]
        reasons, checks = said.get("reasons") or [], said.get("checks") or []
        reason = reasons[0] if reasons else f"{len(checks)} checks passed" if checks else ""
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        action = f"{said['action']}: " if said.get("action") else ""  # those of older runs have none
        return str(said["answer"]), ", ".join(said.get("hops") or []), action + reason + more
    if closed:
        return Answer.INCONCLUSIVE.value, "", "ended without a verdict"
    if failed:
        return "stopped", "", f"{failed['what']}: {failed['detail'].get('error', 'failed')}"
    return "running", "", ""


def _run(run_dir: Path, events: list[Event[Any]], steps: list[StepRow]) -> dict[str, Any]:
    region = next((event["detail"]["region"] for event in events if "region" in event["detail"]), None)
    drained = drains(events)[-1] if is_drained(events) else None
    checklist = steps[: len(STEPS)]
    passed = sum(row.state == Answer.PASS for row in checklist)
    state = _state([row.state for row in steps], passed)
    blamed = next((row for row in steps if row.state == state and state != Answer.PASS), None)
    sentence = f"{passed} of {len(STEPS)} steps passed."
    if blamed and blamed.reason:
        sentence += f" {blamed.title}: {blamed.reason.rstrip('.')}."
    return {
        "region": region or run_dir.absolute().parent.name,
        "name": run_dir.absolute().name,
        "state": state,
        "sentence": sentence,
        "hops": blamed.hop if blamed else "",
        "drained": drained,
        "last_at": events[-1]["at"] if events else "",
        "events_count": len(events),
    }


def _state(states: Iterable[str], passed: int) -> str:
    """The worst answer given; a pass only when the whole checklist has passed."""
    given = set(states)
    for bad in (Answer.FAIL.value, Answer.INCONCLUSIVE.value, "stopped"):
        if bad in given:
            return bad
    return Answer.PASS.value if passed == len(STEPS) else "unfinished"


def _weights_text(over_time: pd.DataFrame) -> str:
    if over_time.empty:
        return ""
    changed = over_time[over_time["weight_pct"].diff() != 0]
    told = [f"{row:g} %" for row in changed["weight_pct"]]
    shown = told if len(told) <= 12 else [*told[:5], "…", *told[-5:]]
    return f"Canary weight over time: {', '.join(shown)}."


def _svg(over_time: pd.DataFrame) -> str:
    """Drawn at the width of a phone; black becomes the page's own text colour, for light and dark."""
    figure = Figure(figsize=(3.7, 2.4), layout="constrained")
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "weights", "font.size": 9}):
        plot_weights(over_time, figure.subplots()).set_title("", loc="left")
        nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    drawn = file.getvalue()
    return drawn[drawn.index("<svg") :].replace("#000000", "currentColor").replace("#dddddd", "#80808066")


def _time(at: str) -> datetime:
    return datetime.fromisoformat(at)


def shown_time(at: str, whole: bool = False) -> Markup:
    """A moment for reading, in UTC, and for programs."""
    moment = pd.Timestamp(at).tz_convert("UTC")
    form = "%Y-%m-%d %H:%M:%S" if whole else "%m-%d %H:%M:%S"
    return Markup('<time datetime="{}">{}</time>').format(at, moment.strftime(form))
