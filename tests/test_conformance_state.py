"""State on disk: backups, what is restored of them, and migration."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

from gateway_questions import with_schema
from gateways import Gateway, Kind

pytest_plugins = ["gateway_fixture"]


def test_state_is_sqlite_in_wal_mode(primary: Gateway, kind: Kind) -> None:
    agent_database = primary.state_dir / "agents" / "main" / "agent" / "openclaw-agent.sqlite"
    for file, version in ((primary.database, kind.state_schema), (agent_database, kind.agent_schema)):
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert database.execute("PRAGMA user_version").fetchone() == (version,)
    assert list((primary.state_dir / "tmp" / f"openclaw-{os.getuid()}").glob("*.lock"))
    log = (primary.state_dir / "gateway.log").read_text().splitlines()
    assert any(json.loads(line)["message"] == "starting HTTP server..." for line in log)


def test_backup_archive(archive: tuple[Path, dict[str, Any]], primary: Gateway) -> None:
    file, created = archive
    assert created["verified"] is True
    assert file.name == f"{created['archiveRoot']}.tar.gz"
    assert file.stat().st_mode & 0o777 == 0o600
    (asset,) = created["assets"]
    assert (asset["kind"], asset["sourcePath"]) == ("state", str(primary.state_dir))
    assert asset["archivePath"] == f"{created['archiveRoot']}/payload/posix{primary.state_dir}"
    assert ("managed state", "regenerable") in [(entry["kind"], entry["reason"]) for entry in created["skipped"]]
    with tarfile.open(file) as tar:
        names = tar.getnames()
        manifest_file = tar.extractfile(f"{created['archiveRoot']}/manifest.json")
        assert manifest_file is not None
        manifest = json.load(manifest_file)
    assert manifest["schemaVersion"] == 1 and manifest["paths"]["stateDir"] == str(primary.state_dir)
    assert f"{asset['archivePath']}/openclaw.json" in names
    assert not [name for name in names if name.startswith(f"{asset['archivePath']}/tmp/")]
    assert not [name for name in names if name.endswith(("-wal", "-shm"))]


def test_restored_databases_are_sound(restored: Path) -> None:
    files = [*restored.rglob("*.sqlite")]
    assert {"openclaw.sqlite", "openclaw-agent.sqlite"} <= {file.name for file in files}
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        with contextlib.closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_backup_refusals(primary: Gateway, archive: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    inside = primary.cli("backup", "create", "--output", str(primary.state_dir / "b"), "--json")
    assert inside.returncode == 1
    assert "must not be written inside a source path" in json.loads(inside.stdout)["error"]["message"]
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "something").touch()
    full = primary.cli("backup", "restore", str(archive[0]), "--target", str(tmp_path / "target"), "--json")
    assert full.returncode == 1
    assert "must be empty" in json.loads(full.stdout)["error"]["message"]
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(archive[0].read_bytes()[:-2000])
    refused = primary.cli("backup", "restore", str(broken), "--target", str(tmp_path / "new"), "--json")
    assert refused.returncode == 1
    assert "verification failed" in json.loads(refused.stdout)["error"]["message"]
    assert not (tmp_path / "new").exists()


def test_older_state_is_migrated(spare: Gateway, restored: Path, kind: Kind) -> None:
    with_schema(spare, restored, kind.state_schema - 1)
    spare.start("--port", str(spare.port))
    spare.stop()
    with contextlib.closing(sqlite3.connect(spare.database)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (kind.state_schema,)
    assert [*spare.database.parent.glob("openclaw.sqlite.pre-startup-migration-*.bak")]
