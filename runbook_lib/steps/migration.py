"""Schemas: what each gateway's databases are at, what its binary knows, and downgrades refused beforehand."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from runbook_lib.errors import ActionFailed
from runbook_lib.gateway import openclaw
from runbook_lib.mac.mac import Mac
from runbook_lib.onmac import script
from runbook_lib.verdict import Answer, Check, Hop

COLUMNS = ["gateway", "version", "database", "found", "known", "start"]
AS_IS, MIGRATES, TOO_NEW, UNKNOWN = "as it is", "migrates", "refused: newer than the binary", "unknown"


def probe_schemas(mac: Mac, *names: str) -> pd.DataFrame:
    """One row a database: COLUMNS. found and known are schema versions (str, empty where nobody says).

    `found` is SQLite's user_version, `known` what the installed package's manifest says it writes, `start` what
    would happen when that binary meets that file.
    """
    plan = mac.plan
    words = [
        word
        for name in names or tuple(plan.gateways)
        for word in (name, openclaw.package(plan, plan.gateways[name]), plan.gateways[name].state_dir)
    ]
    done = mac.host.run(script("ask_schemas.sh"), plan.runtime.node, *words)
    manifests = {name: json.loads(text or "{}") for kind, name, text in done.rows(3) if kind == "known"}
    rows = [
        (name, manifests[name].get("version", ""), file, found, _known(manifests[name], file))
        for kind, name, file, found in done.rows(4)
        if kind == "found"
    ]
    return pd.DataFrame([(*row, _start(row[3], row[4])) for row in rows], columns=COLUMNS)


def _known(manifest: Mapping[str, Any], file: str) -> str:
    return str(manifest.get("state" if file == openclaw.STATE_DATABASE else "agent", ""))


def _start(found: str, known: str) -> str:
    if not (found.isdigit() and known.isdigit()):
        return UNKNOWN
    return AS_IS if found == known else MIGRATES if int(found) < int(known) else TOO_NEW


def refuse_downgrade(mac: Mac, name: str) -> None:
    """Raises ActionFailed where this gateway's binary would meet a database that a newer one has migrated."""
    schemas = probe_schemas(mac, name)
    too_new = schemas[schemas["start"] == TOO_NEW]
    if len(too_new):
        said = _sentence(too_new.to_dict("records"))
        raise ActionFailed(
            f"{mac.host.name}, gateway {name}: not started, nothing was changed: {said}. "
            f"{openclaw.DOWNGRADE[0].upper()}{openclaw.DOWNGRADE[1:]}: take the old binary WITH the state of its time "
            "(rollback with restore_primary = True), or go on with the newer binary"
        )


def refuse_archive(mac: Mac, name: str, databases: pd.DataFrame) -> None:
    """The same for a state that would be restored: `databases` as in a snapshot. Raises ActionFailed."""
    live = probe_schemas(mac, name).drop(columns=["found", "start"])
    kept = databases[databases["asset"] == name].assign(file=lambda rows: rows["file"].str.removeprefix("./"))
    pairs = kept.merge(live, left_on="file", right_on="database")
    rows = pairs.rename(columns={"schema_version": "found"})[["gateway", "version", "database", "found", "known"]]
    too_new = [row for row in rows.to_dict("records") if _start(str(row["found"]), str(row["known"])) == TOO_NEW]
    if too_new:
        raise ActionFailed(
            f"{mac.host.name}, gateway {name}: not restored, nothing was changed: in the snapshot "
            f"{_sentence(too_new)}. Install the version of the snapshot first"
        )


def judge(schemas: pd.DataFrame) -> list[Check]:
    """One check a gateway: will its binary start on its own databases, and does that migrate them?"""
    return [_judge_one(str(name), part) for name, part in schemas.groupby("gateway", sort=False)]


def _judge_one(name: str, part: pd.DataFrame) -> Check:
    hop = Hop.CANARY if name == "canary" else Hop.PRIMARY
    rows = part.to_dict("records")
    refused, unknown = ([row for row in rows if row["start"] == start] for start in (TOO_NEW, UNKNOWN))
    title = f"{name}'s schemas"
    if refused:
        remedy = "choose a runtime.canary_version that knows this schema; a downgrade needs the state of its own time"
        return Check(title, Answer.FAIL, f"{_sentence(refused)}; {openclaw.DOWNGRADE}", hop, remedy=remedy)
    if unknown:
        remedy = "is the package installed, and the database sound? sqlite3 FILE 'pragma user_version'"
        return Check(title, Answer.INCONCLUSIVE, _sentence(unknown), hop, remedy=remedy)
    migrating = [row for row in rows if row["start"] == MIGRATES]
    reason = f"{name}: {len(rows)} databases start as they are with {rows[0]['version']}"
    if migrating:
        reason = f"{_sentence(migrating)}: they migrate at its next start, and the way back is a copy from before it"
    return Check(title, Answer.PASS, reason, hop, samples_count=len(rows))


def _sentence(rows: list[dict[Hashable, Any]]) -> str:
    said = [f"{row['database']} has schema {row['found'] or '?'}, known is {row['known'] or '?'}" for row in rows]
    return f"{rows[0]['gateway']}, version {rows[0]['version'] or '?'}: {'; '.join(said)}"
