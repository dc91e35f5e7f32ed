"""Step 3: what each gateway says of its own configuration, and the lint of the canary's plist."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from runbook_lib import gateway
from runbook_lib.launchd import lint_plist
from runbook_lib.mac import Mac
from runbook_lib.verdict import Check, Hop, passed_if


def judge(findings: pd.DataFrame) -> list[Check]:
    """One check a gateway and tool, from probes.probe_validation: exit status 0 and no variable missing.

    A `${NAME}` that is not set only warns, and then a random or literal token is in force (measured, 2026.9.6).
    """
    return [_judge_one(row) for row in findings.to_dict("records")]


def _judge_one(row: Mapping[Hashable, Any]) -> Check:
    found = gateway.findings(str(row["findings"]))
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
