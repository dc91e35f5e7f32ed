"""A rollout that dies at every effect, in every way, and is run again: nothing is done twice, nothing is claimed.

One rollout is crashed twice at each effect, early and late, in ways that take turns. Without more, it goes through
step 2, about a dozen crashes; CRASHES=one goes through all steps, about forty; CRASHES=all does so in the eight turns
that together hit each effect at every point in every way.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from project_fixture import Project

from runbook_lib.accesslog import LOG_FIELDS
from runbook_lib.checklist.order import STEPS
from runbook_lib.lab import traffic
from runbook_lib.lab.layout import CANARY_LABEL, launchd_domain
from runbook_lib.records.kinds import Kind
from runbook_lib.show.page import summary
from runbook_lib.statistics import interval

pytest_plugins = ["project_fixture"]

ASKED = os.environ.get("CRASHES", "")
TURNS = range(8) if ASKED == "all" else range(1)
THROUGH, EFFECTS = (8, 18) if ASKED else (2, 6)
LIMIT_S = 7200 if ASKED else 1800
MOST_CYCLES = 90
WAYS = ("kernel killed", "runner killed", "runner asked to stop", "connection cut")
# A crash drains and lets go, what nobody confirmed the Mac takes back, and going on makes it anew. A trial of the kill
# switch is one of two halves, and a step that is gone through again holds and gives back its lease again.
DONE_AGAIN = ("drain the canary", "end the drain", "set the canary's weight", "hold the operator's lease")
DONE_AGAIN += ("try the kill switch", "put the kill switch back", "give the operator's lease back")
SHARE_CONFIDENCE = 0.999
DRAINED = "void since the canary was drained or rolled back"  # a lease of 30 s lapses where going on takes longer


class Crashed:
    """A rollout under tests/crashing/sitecustomize.py, and what that has noted."""

    def __init__(self, project: Project, turn: int) -> None:
        self.project, self.folder = project, project.root / "crashes"
        self.folder.mkdir()
        path = f"{Path(__file__).parent / 'crashing'}:{os.environ.get('PYTHONPATH', '')}"
        self.env = {"PYTHONPATH": path, "CRASHES": str(self.folder), "CRASH_TURN": str(turn)}
        self.seen = 0

    def noted(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def run(self) -> tuple[int, str, list[dict[str, Any]]]:
        """`rollout run` until it ends or dies: its exit code, what it said, and the crashes in it."""
        done = self.project.run("rollout", "run", "lab", "--through", str(THROUGH), env=self.env, limit_s=900)
        hits = self.noted("hits")[self.seen :]
        self.seen += len(hits)
        return done.returncode, done.stdout + done.stderr, hits


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("turn", TURNS)
def test_a_rollout_that_dies_at_every_effect_does_nothing_twice(own_project: Project, turn: int) -> None:
    traffic.start(own_project.mac.layout, 80, LIMIT_S)
    reloads_before = count_reloads(own_project)
    crashed = Crashed(own_project, turn)
    for _ in range(MOST_CYCLES):
        code, said, hits = crashed.run()
        if not hits and DRAINED not in said:
            break
        assert code != 0, f"{hits} and yet it says all is well: {said}"
        for hit in hits:
            nothing_is_claimed(own_project, hit)
    assert code == 0, said
    sent = traffic.stop(own_project.mac.layout)
    assert set(sent["statuses"]) == {"200"}, f"crashes must not cost one webhook: {sent}"

    every_effect_was_hit(own_project, crashed.noted("hits"))
    nothing_was_done_twice(own_project, crashed.noted("done"), reloads_before)
    the_share_was_never_above_what_was_approved(own_project)


# -- after each crash --------------------------------------------------------------------------------------------


def nothing_is_claimed(project: Project, hit: dict[str, Any]) -> None:
    """Neither the ledger nor the page nor the executed notebook says that the step passed or a later cell ran."""
    run, step = project.current(), hit["step"]
    events = run.ledger().events(step=step)
    assert not [e for e in events if e["event"] == Kind.STEP_CLOSED and e["at"] > _last(events, "step_opened")], hit
    if step not in STEPS:
        return
    assert run.answer(step) != "pass", hit
    rows = summary(run.directory).set_index("step")
    assert rows.loc[step, "verdict"] not in ("pass", "not run"), hit
    page = run.directory / "index.html"
    if page.exists() and page.stat().st_mtime > hit["at"]:  # else it is of before, and may tell of a pass since void
        row = re.search(rf"<th[^>]*>{STEPS.index(step) + 1} .*?</tr>", page.read_text(), re.DOTALL)
        assert row and not re.search(r'class="badge pass"', row[0]), hit
    notebook = run.directory / f"{step}.ipynb"
    if notebook.exists():
        node = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
        states = [cell.metadata.papermill.status for cell in node.cells if cell.cell_type == "code"]
        ran = states.index(next(state for state in states if state != "completed"))
        assert set(states[ran + 1 :]) <= {"pending"}, (hit, states)
        facts = node.metadata.papermill
        assert facts.exception is True or facts.end_time is None, (hit, facts)


def _last(events: list[dict[str, Any]], kind: str) -> str:
    return max((e["at"] for e in events if e["event"] == kind), default="")


# -- in the end --------------------------------------------------------------------------------------------------


def every_effect_was_hit(project: Project, hits: list[dict[str, Any]]) -> None:
    points = Counter((hit["what"], hit["point"] == "before") for hit in hits)
    intended = {event["what"] for event in project.events("intent")}
    assert len(intended) >= EFFECTS, intended
    missed = {(what, early) for what in intended for early in (True, False)} - set(points)
    assert not missed
    assert set(points.values()) == {1}
    assert {hit["way"] for hit in hits} == set(WAYS)


def nothing_was_done_twice(project: Project, done: list[dict[str, Any]], reloads_before: int) -> None:
    """What the Mac carried out, by what it answered; then what is to be seen there; then what the ledger says."""
    carried_out = Counter(
        d["what"]
        for d in done
        if d["status"] == 0 and d["result"] != "there already" and not d["what"].startswith(DONE_AGAIN)
    )
    assert set(carried_out.values()) == {1}, carried_out
    layout = project.mac.layout
    assert len(list((layout.home / "rollout/snapshots").iterdir())) == 1
    if STEPS.index("04_start_dark") + 1 <= THROUGH:
        printed = project.mac.launchctl("print", f"{launchd_domain()}/{CANARY_LABEL}").stdout
        assert re.search(r"^\truns = 1$", printed, re.MULTILINE), printed
    reloads = [d for d in done if d["result"] == "proven"]
    assert count_reloads(project) - reloads_before >= len(reloads)
    proven = Counter(e["what"] for e in project.events("verified") if e["what"] in carried_out)
    kept = {e["what"] for e in project.events("kept") if not e["what"].startswith(DONE_AGAIN)}
    assert set(carried_out) == set(proven) | kept, "each is proven, or found done by who came after the crash"


def count_reloads(project: Project) -> int:
    """How often nginx was told to reload, as it says itself; the log is made to say so first."""
    layout = project.mac.layout
    conf = layout.nginx_etc / "nginx.conf"
    if "error.log warn" in conf.read_text():
        conf.write_text(conf.read_text().replace("error.log warn", "error.log notice"))
        words = [str(layout.nginx_binary), "-c", str(conf), "-s", "reload"]
        subprocess.run(words, check=True, capture_output=True)
    return (layout.nginx_log / "error.log").read_text().count("signal 1 (SIGHUP) received")


def the_share_was_never_above_what_was_approved(project: Project) -> None:
    """Every request of the canary came under a weight that the ledger had approved by then, in that proportion."""
    log = project.mac.layout.nginx_log / "openclaw-rollout.tsv"
    lines = log.read_text().splitlines() if log.exists() else []
    requests = [dict(zip(LOG_FIELDS, line.split("\t"), strict=True)) for line in lines]
    assert bool(requests) == (STEPS.index("04_start_dark") < THROUGH)
    approved = approvals(project.events("intent", "verified"))
    shares: dict[str, list[bool]] = {}
    for request in requests:
        is_canary, at = request["openclaw_target"] == "canary", float(request["msec"]) - float(request["request_time"])
        weight_pct = float(request["openclaw_revision"][1:7])
        shares.setdefault(request["openclaw_revision"], []).append(is_canary)
        if is_canary:
            assert weight_pct <= max(pct for since, pct in approved if since <= at), request
    for revision, canary in shares.items():
        low, _ = interval(sum(canary), len(canary), SHARE_CONFIDENCE)
        assert 100 * low <= float(revision[1:7]), (
            f"{revision}: {sum(canary)} of {len(canary)} requests were the canary's"
        )


def approvals(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Since when (epoch seconds) which weight was approved: the ledger's own intents, each after a gate."""
    weights = [(e["at"], e["detail"]["weight_pct"]) for e in events if "weight_pct" in e["detail"]]
    return [(datetime.fromisoformat(at).timestamp(), pct) for at, pct in weights]
