"""Isolation: what of primary's the canary has, asked on disk and of the running process; none is good."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from runbook_lib.gateway import openclaw
from runbook_lib.mac.mac import Mac
from runbook_lib.onmac import program, script
from runbook_lib.plan.models import Plan
from runbook_lib.verdict import Answer, Check, Hop

COLUMNS = ["kind", "where", "what"]
OPEN, PATH, SECRET, COMPARED = "open file", "path", "secret", "compared"


def clone_request(plan: Plan) -> dict[str, Any]:
    """What clone_files.js is to make of a restored copy of primary's state."""
    return {
        "from": plan.primary.state_dir,
        "to": plan.canary.state_dir,
        "patch": openclaw.config_patch(plan.canary, plan.runtime.canary_rpc),
        "own": sorted(plan.canary.secrets),
        "shared": sorted(plan.shared_names),
    }


def probe(mac: Mac) -> pd.DataFrame:
    """What of primary's the canary has, a row each: kind, where, what; and a row `compared` for each thing looked at.

    Its files are searched for primary's paths and for every secret of primary's; its process and its children are
    asked which files they have open.
    """
    plan = mac.plan
    question = {**{n: openclaw.files(g) for n, g in plan.gateways.items()}, "shared": sorted(plan.shared_names)}
    node, answer = plan.runtime.node, program("ask_isolation.js")
    told = mac.host.run(script("ask_isolation.sh"), node, json.dumps(question), answer)
    places = [place for kind, place in told.rows(2) if kind == "place"]
    rows = [(PATH, file, what) for kind, file, what, _ in told.rows(4) if kind == PATH]
    rows += [(SECRET, file, what) for kind, file, what in told.rows(3) if kind == SECRET]
    rows += [(COMPARED, SECRET, count) for kind, count, _ in told.rows(3) if kind == COMPARED]
    rows += [(COMPARED, PATH, count) for kind, _, count in told.rows(3) if kind == COMPARED]
    opened = mac.host.run(script("ask_open_files.sh"), f"{plan.runtime.launchd_domain}/{plan.canary.label}")
    files = [(path, pid) for kind, pid, path in opened.rows(3) if kind == "open"]
    tools = plan.runtime.node.rpartition("/bin/")[0] or plan.runtime.node
    theirs = [*places, openclaw.package(plan, plan.primary)]
    rows += [(OPEN, path, f"pid {pid}") for path, pid in files if _is_in(path, theirs) and not _is_in(path, [tools])]
    rows += [(COMPARED, OPEN, str(len(files)))]
    return pd.DataFrame(rows, columns=COLUMNS)


def _is_in(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def judge(found: pd.DataFrame) -> list[Check]:
    """One check a kind: no file of primary's open, none of its paths in use, none of its secrets there."""
    return [_judge_one(found, kind) for kind in (OPEN, PATH, SECRET)]


WORDS = {
    OPEN: ("no open file of primary's", "open files of the canary's processes", "in primary's folders"),
    PATH: ("no path of primary's", "files of the canary", "that lead to primary's folders"),
    SECRET: ("no secret of primary's", "secrets of primary looked for", "there"),
}


def _judge_one(found: pd.DataFrame, kind: str) -> Check:
    title, looked_at, bad = WORDS[kind]
    rows = found[found["kind"] == kind]
    counted = found[(found["kind"] == COMPARED) & (found["where"] == kind)]["what"].astype(int).sum()
    answer = Answer.FAIL if len(rows) else Answer.PASS if counted else Answer.INCONCLUSIVE
    first = f", e.g. {rows.iloc[0]['where']} ({rows.iloc[0]['what']})" if len(rows) else ""
    return Check(
        title,
        answer,
        f"{counted} {looked_at}: {len(rows)} {bad}{first}",
        Hop.CANARY,
        measured=float(len(rows)),
        threshold=0.0,
        samples_count=int(counted),
        remedy="roll back, then run step 2 again: two gateways on one file lose data"
        if counted
        else "is the canary running, and does lsof answer? run the step again",
    )
