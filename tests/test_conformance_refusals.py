"""When a gateway refuses to start, with the exit codes that the runbook goes by."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import gateways
import httpx
from gateway_questions import edited, lint, set_schema, with_schema
from gateways import Gateway, Kind

pytest_plugins = ["gateway_fixture"]


def test_state_directory_in_use(client: httpx.Client, primary: Gateway) -> None:
    assert primary.exits("--port", str(gateways.free_port())) == 78
    assert client.get("/readyz").status_code == 200, "the first one is untouched"


def test_busy_port(turned_away: Gateway, client: httpx.Client) -> None:
    assert turned_away.wait(90) == 1
    assert "already listening" in turned_away.output()
    assert client.get("/readyz").status_code == 200, "the first one is untouched"


def test_invalid_configuration_does_not_start(spare: Gateway) -> None:
    edited(spare, lambda config: config.update(bogus=1))
    assert spare.exits() == 78
    assert "Invalid config" in spare.output()


def test_configuration_without_a_mode_does_not_start(spare: Gateway) -> None:
    edited(spare, lambda config: config["gateway"].pop("mode"))
    assert spare.cli("config", "validate", "--json").returncode == 0, "validation alone does not see it"
    assert spare.exits() == 78
    assert "missing gateway.mode" in spare.output()


def test_newer_state_is_refused(spare: Gateway, restored: Path, kind: Kind) -> None:
    with_schema(spare, restored, kind.state_schema + 1)
    assert spare.exits() == 78
    assert "newer than this build" in spare.output()
    code, out = lint(spare)
    answer = json.loads(out)
    assert code == 2, "a failed command, over many lines: not the one line that a finding gets"
    assert answer["ok"] is False and answer["findings"][0]["severity"] == "error"


def test_preflight(spare: Gateway, primary: Gateway, restored: Path, kind: Kind) -> None:
    file = with_schema(spare, restored, kind.state_schema)
    for version, code, verdict, writes in (
        (kind.state_schema, 0, "exact", False),
        (kind.state_schema - 1, 0, "migration-required", True),
        (kind.state_schema + 1, 1, "incompatible", False),
    ):
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
            set_schema(database, version)
        done = spare.cli("database", "preflight", str(file), "--json")
        answer = json.loads(done.stdout)
        assert (done.returncode, answer["status"], answer["requiresWrite"]) == (code, verdict, writes)
        assert (answer["foundVersion"], answer["targetVersion"]) == (version, kind.state_schema)
    live = primary.cli("database", "preflight", str(primary.database), "--json")
    assert (live.returncode, json.loads(live.stdout)["status"]) == (1, "indeterminate"), "only on a copy"
