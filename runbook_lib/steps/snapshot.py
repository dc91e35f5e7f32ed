"""A snapshot on the Mac: plists, nginx, both states; restored at once beside it, and compared."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from runbook_lib.errors import ActionFailed
from runbook_lib.gateway import openclaw
from runbook_lib.gateway.launchd import Job
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal, laid, sh
from runbook_lib.onmac import script
from runbook_lib.records.evidence import Run
from runbook_lib.records.kinds import Act, Kind
from runbook_lib.ssh.host import Completed
from runbook_lib.verdict import Answer, Check, Hop, passed_if

LONGEST_S = 3600
COLUMNS = {
    "assets": ["asset", "path", "sha256", "bytes", "took_s", "restore_s"],
    "files": ["asset", "file", "live", "restored", "changing"],
    "databases": [
        "asset",
        "file",
        "integrity",
        "schema_version",
        "live_schema_version",
        "tables_count",
        "live_tables_count",
    ],
}


@dataclass(frozen=True)
class Snapshot:
    """What one snapshot holds, as the Mac told it.

    assets: asset, path, sha256, bytes (NaN for single files), took_s, restore_s
    files: asset, file, live, restored (hashes), changing (bool: written while it was copied)
    databases: asset, file, integrity, schema_version, live_schema_version, tables_count, live_tables_count
    """

    directory: str
    assets: pd.DataFrame
    files: pd.DataFrame
    databases: pd.DataFrame

    def archive(self, asset: str) -> str:
        """The path of an asset's archive on the Mac; empty where it was absent."""
        found = self.assets.query("asset == @asset and bytes > 0")["path"]
        return str(found.iloc[0]) if len(found) else ""

    def as_facts(self) -> dict[str, Any]:
        tables = {"assets": self.assets, "files": self.files, "databases": self.databases}
        return {
            "directory": self.directory,
            **{name: frame.to_dict("records") for name, frame in tables.items()},
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Snapshot:
        """The snapshot of a proof; an empty one where there is none, as after a dry run."""
        tables = (pd.DataFrame(facts.get(name, []), columns=columns) for name, columns in COLUMNS.items())
        return cls(facts.get("directory", ""), *tables)


def of_run(run: Run) -> Snapshot:
    """The snapshot that step 1 of this run took; an empty one in a dry run."""
    return Snapshot.from_facts({} if run.is_dry_run else run.facts("01_snapshot", "snapshot"))


def prepare_tools(mac: Mac) -> Proposal:
    """Put the runbook's own folder and its env wrapper on the Mac; nothing of yours is touched."""
    folder = mac.plan.folder
    return Proposal(
        Act.PUT_TOOLS,
        "put the runbook's tools on the Mac",
        laid({folder.wrapper: script("with-env.sh")}, "put_tools.sh"),
        args=(folder.path, folder.snapshots),
        commands=(f"mkdir -p {folder.bin}", f"write {folder.wrapper}"),
        undo=f"rm -r {folder.path}",
    )


def propose_snapshot(mac: Mac, name: str) -> Proposal:
    """Copy everything a rollback needs into a new directory on the Mac, and restore it at once into a scratch one.

    State is copied by the gateway's own verified backup, which asks SQLite for a consistent copy while the gateway
    writes. Too little room is refused before anything is written.
    """
    plan = mac.plan
    directory = plan.folder.snapshot(name)
    nginx_dir = plan.nginx.conf.rpartition("/")[0]
    states = [g.state_dir for g in plan.gateways.values()]
    files, rest = [], []
    for who, section in plan.gateways.items():
        files += [f"keep_file {who} {sh(section.plist)}", f"keep_file {who} {sh(section.env_file)}"]
        files += [f"keep_wrappers {who} {sh(section.env_file.rpartition('/')[0])}"]
        rest += [f"keep_state {who} {sh(section.state_dir, *openclaw.command(plan, section))}"]
    files += [f"keep_file nginx {sh(plan.nginx.plist)}"]
    rest += [f"keep_nginx {sh(nginx_dir)}"]
    lines = [
        f"snap={sh(directory)} again={'yes' if _answer_lost(mac) else ''}",
        *("keep() {", *files, " && ".join(rest), "}"),
        script("take_snapshot.sh"),
        f"take {sh(*states, nginx_dir)}",
    ]
    return Proposal(
        Act.SNAPSHOT,
        f"take snapshot {name}",
        "# take a snapshot\n" + "\n".join(lines),
        commands=(
            f"df, du: room for three times the state in {directory}",
            *(f"openclaw backup create --verify; backup restore into scratch; integrity_check   # {s}" for s in states),
            f"tar -czf {directory}/nginx.tar.gz {nginx_dir}",
        ),
        proof=lambda mac, done: _parse(mac, directory, done).as_facts(),
        undo=f"rm -r {directory}",
        timeout_s=LONGEST_S,
    )


def _answer_lost(mac: Mac) -> bool:
    """Nobody has judged since the last change: what is there already may be the snapshot."""
    last = mac.ledger.last(Kind.INTENT, Kind.VERDICT)
    return last is not None and last["event"] == Kind.INTENT


def _parse(mac: Mac, directory: str, done: Completed) -> Snapshot:
    result = done.fields().get("result")
    if result == "no room":
        _, needed, available = next(row for row in done.rows(3) if row[0] == "room")
        raise ActionFailed(
            f"{mac.host.name}: too little disk for a snapshot: {int(needed) // 1024} MiB needed (three times the "
            f"state), {int(available) // 1024} MiB free; nothing was written. Make room or move host.runbook_dir"
        )
    failed = [row for row in done.rows(4) if row[0] == "state" and row[2] == "failed"]
    if failed or result not in ("kept", "there already"):
        said = "; ".join(f"{row[1]}: {row[3]}" for row in failed) or done.stderr
        raise ActionFailed(f"{mac.host.name}: the snapshot is not whole: {mac.vault.redact(said)}")
    took = {row[1]: (float(row[2]), float(row[3])) for row in done.rows(4) if row[0] == "took"}
    assets = [
        (row[1], row[2], row[3], int(row[4]), *took.get(row[1], (float("nan"), float("nan"))))
        for row in done.rows(5)
        if row[0] == "archive"
    ]
    assets += [(row[1], row[2], row[4], 0, float("nan"), float("nan")) for row in done.rows(5) if row[0] == "kept"]
    hashes: dict[tuple[str, str], dict[str, str]] = {}
    for _, asset, side, digest, file in (row for row in done.rows(5) if row[0] == "hash"):
        hashes.setdefault((asset, file), {})[side] = digest
    changing = {(row[1], row[2]) for row in done.rows(3) if row[0] == "changing"}
    databases: dict[tuple[str, str], dict[str, list[str]]] = {}
    for _, asset, side, file, *facts in (row for row in done.rows(7) if row[0] == "database"):
        databases.setdefault((asset, file), {})[side] = facts
    files = [
        (asset, file, sides.get("live", ""), sides.get("restored", ""), (asset, file) in changing)
        for (asset, file), sides in hashes.items()
        if (asset, file) not in databases and not re.search(r"-(wal|shm)$", file)
    ]
    rows = [
        (asset, file, *_database_row(sides.get("restored"), sides.get("live")))
        for (asset, file), sides in databases.items()
        if "restored" in sides
    ]
    tables: dict[str, list[Any]] = {"assets": assets, "files": files, "databases": rows}
    return Snapshot(directory, *(pd.DataFrame(tables[name], columns=columns) for name, columns in COLUMNS.items()))


def _database_row(restored: list[str] | None, live: list[str] | None) -> tuple[str, str, str, str, str]:
    integrity, version, tables = restored or ["", "", ""]
    _, live_version, live_tables = live or ["", "", ""]
    return integrity, version, live_version, tables, live_tables


def judge_before(jobs: Mapping[str, Job]) -> list[Check]:
    """Is there a healthy primary behind nginx to roll out beside?"""
    return [
        passed_if(jobs[name].state == "running", f"{name} runs", f"{name}: {jobs[name]}", hop, f"start {name} first")
        for name, hop in (("primary", Hop.PRIMARY), ("nginx", Hop.NGINX))
    ]


def judge(snapshot: Snapshot) -> list[Check]:
    """Is the restored copy the live one? Files that did not change meanwhile must be equal, every database sound."""
    checks = [
        passed_if(
            bool(snapshot.archive(asset)),
            f"{asset} is kept",
            f"{asset}: {_size(snapshot, asset)}",
            Hop.HOST,
            "run the snapshot again; nothing moves without it",
        )
        for asset in ("nginx", "primary")
    ]
    restored = snapshot.files[snapshot.files["restored"] != ""]
    still = restored[~restored["changing"].astype(bool) & (restored["live"] != "")]
    different = still[still["live"] != still["restored"]]
    left_out = snapshot.files[(snapshot.files["restored"] == "") & ~snapshot.files["changing"].astype(bool)]
    checks.append(
        passed_if(
            different.empty and not still.empty,
            "restored files equal live ones",
            f"{len(still) - len(different)} of {len(still)} files that did not change meanwhile are equal"
            + (f"; not {_named(different)}" if len(different) else "")
            + (f"; {len(left_out)} live files are not in the backup, e.g. {_named(left_out)}" if len(left_out) else ""),
            Hop.HOST,
            "compare the file by hand; do not go on with a snapshot that differs",
        )
    )
    checks += [_judge_database(row) for row in snapshot.databases.to_dict("records")]
    if not (snapshot.databases["asset"] == "primary").any():
        checks.append(
            Check(
                "databases of primary",
                Answer.INCONCLUSIVE,
                "no database of primary was found in its backup",
                Hop.HOST,
            )
        )
    return checks


def _named(files: pd.DataFrame) -> str:
    return f"{files.iloc[0]['asset']} {files.iloc[0]['file']}"


def _judge_database(row: Mapping[Hashable, Any]) -> Check:
    same = (row["schema_version"], row["tables_count"]) == (row["live_schema_version"], row["live_tables_count"])
    return passed_if(
        row["integrity"] == "ok" and same,
        f"database {row['asset']} {row['file']}",
        f"{row['asset']} {row['file']}: integrity_check {row['integrity']}, schema version {row['schema_version']} "
        f"(live {row['live_schema_version']}), {row['tables_count']} tables and indexes "
        f"(live {row['live_tables_count']})",
        Hop.HOST,
        "take the snapshot again; a copy that is not sound is no way back",
    )


def _size(snapshot: Snapshot, asset: str) -> str:
    rows = snapshot.assets.query("asset == @asset and bytes > 0")
    if rows.empty:
        return "no archive"
    return f"{int(rows.iloc[0]['bytes']):,} bytes, sha256 {rows.iloc[0]['sha256'][:12]}…"
