"""Step 3: what each gateway says of its own configuration, and what is wrong or has changed with the plists."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from runbook_lib.gateway import openclaw
from runbook_lib.gateway.launchd import DRAIN_S, EXIT_TIMEOUT_S, compare_plists, lint_plist, variable
from runbook_lib.mac.mac import Mac
from runbook_lib.onmac import script
from runbook_lib.verdict import Answer, Check, Hop, passed_if


def judge(findings: pd.DataFrame) -> list[Check]:
    """One check a gateway and tool, from probes.probe_validation: exit status 0 and no variable missing.

    A `${NAME}` that is not set only warns, and then a random or literal token is in force (measured, 2026.9.6).
    """
    return [_judge_one(row) for row in findings.to_dict("records")]


def _judge_one(row: Mapping[Hashable, Any]) -> Check:
    found = openclaw.findings(str(row["findings"]))
    well = row["exit_status"] == 0 and "Missing env var" not in found
    return passed_if(
        well,
        f"{row['gateway']} {row['tool']}",
        f"{row['gateway']}: {row['tool']} ended with {row['exit_status']} after {row['took_s']} s"
        + ("" if well else f": {found}"),
        Hop.CANARY if row["gateway"] == "canary" else Hop.PRIMARY,
        f"mend {row['gateway']}'s configuration; fix the gateway that is named, not nginx",
    )


def probe_plist(mac: Mac) -> pd.DataFrame:
    """What is wrong with the canary's plist as it lies on the Mac: one row a finding; none is good."""
    section = mac.plan.canary
    return pd.DataFrame({"finding": lint_plist(mac.host.read(section.plist), section)}, dtype=str)


def judge_plist(findings: pd.DataFrame) -> list[Check]:
    first = f": {findings.iloc[0]['finding']}" if len(findings) else ""
    return [
        passed_if(findings.empty, "canary's plist", f"{len(findings)} findings in the canary's plist{first}", Hop.HOST)
    ]


RULE_COLUMNS = ["gateway", "rule", "installer", "plist", "launchd"]


def probe_rules(mac: Mac) -> pd.DataFrame:
    """The rules of both jobs, one row each: RULE_COLUMNS, texts.

    `installer` is what OpenClaw's own installer of the installed version would write now, asked of its own function;
    `plist` is what lies on disk; `launchd` is what it has loaded, where it tells. An update of OpenClaw rewrites its
    plist, so this is looked at after every one.
    """
    plan = mac.plan
    words = [
        word
        for name, section in plan.gateways.items()
        for word in (name, section.label, openclaw.package(plan, section), section.env_file)
    ]
    domain = plan.runtime.launchd_domain
    done = mac.host.run(script("ask_installer.sh"), plan.runtime.node, domain, plan.folder.wrapper, *words)
    said = {(kind, name): text for kind, name, text in done.rows(3)}
    rows = []
    for name, section in plan.gateways.items():
        content = mac.host.read(section.plist)
        installers = said.get(("installer", name), "").strip().encode() or content
        for key, theirs, ours in compare_plists(installers, content):
            loaded = said.get(("loaded", name), "") if key == "ExitTimeOut" else ""
            rows.append((name, key, theirs if said.get(("installer", name)) else "unknown", ours, loaded))
        mode = said.get(("mode", name)) or variable(content, openclaw.SUPERVISED)
        rows.append((name, openclaw.SUPERVISED, "", mode, ""))
    return pd.DataFrame(rows, columns=RULE_COLUMNS)


def judge_rules(rules: pd.DataFrame) -> list[Check]:
    """One check a gateway: does launchd wait longer than OpenClaw drains, and are all other rules its installer's?"""
    return [_judge_rules(str(name), part) for name, part in rules.groupby("gateway", sort=False)]


def _judge_rules(name: str, part: pd.DataFrame) -> Check:
    title, hop = f"{name}'s launchd rules", Hop.CANARY if name == "canary" else Hop.PRIMARY
    rows = {str(row["rule"]): row for row in part.fillna("").to_dict("records")}
    timeout = rows["ExitTimeOut"]
    waits_s, loaded = int(timeout["plist"] or 20), str(timeout["launchd"])
    drains_s = DRAIN_S if rows[openclaw.SUPERVISED]["plist"] == "external" else 5
    others = [row for rule, row in rows.items() if rule not in ("ExitTimeOut", openclaw.SUPERVISED)]
    differ = [row for row in others if row["installer"] not in ("unknown", row["plist"])]
    said = f"{name}: launchd waits {waits_s} s, OpenClaw drains for up to {drains_s} s"
    if waits_s < drains_s:
        remedy = f"set ExitTimeOut to {EXIT_TIMEOUT_S} in the plist, or work is killed half done"
        return Check(title, Answer.FAIL, said, hop, remedy=remedy)
    if loaded not in ("", str(waits_s)):
        remedy = "the plist was rewritten since it was loaded: boot the job out and bootstrap it at a quiet moment"
        return Check(title, Answer.FAIL, f"{said}, but launchd has {loaded} s loaded", hop, remedy=remedy)
    if differ:
        changes = ", ".join(
            f"{row['rule']} is {row['plist'] or 'absent'}, would be {row['installer']}" for row in differ
        )
        remedy = "an update may have changed what OpenClaw wants of launchd; compare, then take it over or note why not"
        answer = Answer.FAIL if name == "canary" else Answer.PASS
        return Check(title, answer, f"{said}; {changes}", hop, remedy=remedy)
    return Check(title, Answer.PASS, f"{said}; {len(others)} other rules are as its installer would write them", hop)
