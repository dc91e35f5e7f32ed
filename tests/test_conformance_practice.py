"""What only the stand-in has: practice."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import gateways
import httpx
import pytest
from gateway_questions import agent, edited, eventually, status
from gateways import HOOK, Gateway, Kind

pytest_plugins = ["gateway_fixture"]


@pytest.fixture
def practice(make: Callable[[Kind], Gateway]) -> Iterator[Gateway]:
    """A stand-in of its own, without a model: a run takes a few milliseconds."""
    gateway = make(gateways.standin())
    edited(gateway, lambda config: (config.pop("agents"), config["models"].pop("providers")))
    gateway.extra_env = {"STANDIN_BOOT_MS": "50"}
    yield gateway
    gateway.stop()


def fault(gateway: Gateway, **settings: float) -> None:
    (gateway.state_dir / "practice-faults.json").write_text(json.dumps(settings))
    time.sleep(0.3)  # it is looked at every 200 ms


def test_practice_faults(practice: Gateway) -> None:
    practice.start("--port", str(practice.port))
    with httpx.Client(base_url=practice.url, trust_env=False, timeout=10, headers=HOOK) as client:

        def codes(count: int) -> list[int]:
            return [client.post("/hooks/wake", json={"text": "x"}).status_code for _ in range(count)]

        fault(practice, error_pct=5)
        assert sorted(codes(100)) == [200] * 95 + [500] * 5
        assert {client.get("/readyz").status_code for _ in range(40)} == {200}

        fault(practice, delay_ms=300)
        assert client.post("/hooks/wake", json={"text": "x"}).elapsed.total_seconds() > 0.3
        assert min(client.get("/readyz").elapsed.total_seconds() for _ in range(3)) < 0.2

        fault(practice, backlog=300)
        assert len(status(client)["queuedSystemEvents"]) >= 300

        at_rest = status(client)["processMemory"]["rssBytes"]
        fault(practice, rss_mb_per_s=200, rss_mb_max=50, backlog=1)
        time.sleep(0.7)
        grown = (status(client)["processMemory"]["rssBytes"] - at_rest) / 2**20
        assert 35 < grown < 70, "it grows, and stops where it was told to"

        (practice.state_dir / "practice-faults.json").unlink()
        eventually(lambda: "practice event 1" not in status(client)["queuedSystemEvents"], within_s=2)
        assert codes(50) == [200] * 50
    (practice.state_dir / "practice-faults.json").write_text('{"exit_code": 78}')
    assert practice.wait(2) == 78
    assert practice.exits("--port", str(practice.port), within_s=5) == 78


def test_practice_signatures(practice: Gateway) -> None:
    practice.extra_env |= {"STANDIN_GITHUB_SECRET": "g", "STANDIN_STRIPE_SECRET": "s"}
    practice.start("--port", str(practice.port))
    body = json.dumps({"action": "opened", "type": "charge.succeeded"}).encode()

    def sign(secret: str, data: bytes) -> str:
        return hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()

    def github(secret: str) -> dict[str, str]:
        return {"X-Hub-Signature-256": f"sha256={sign(secret, body)}"}

    def stripe(secret: str, age_s: int = 0) -> dict[str, str]:
        at = int(time.time()) - age_s
        return {"Stripe-Signature": f"t={at},v1=00,v1={sign(secret, f'{at}.'.encode() + body)}"}

    with httpx.Client(base_url=practice.url, trust_env=False, headers=HOOK) as client:

        def code(path: str, headers: dict[str, str]) -> int:
            return client.post(path, headers=headers, content=body).status_code

        assert code("/hooks/github", github("g")) == 200
        assert code("/hooks/stripe", stripe("s")) == 200
        assert code("/hooks/stripe", stripe("s", age_s=290)) == 200
        assert [code("/hooks/github", headers) for headers in ({}, github("wrong"))] == [401, 401]
        too_old = [stripe("s", age_s=310), stripe("wrong"), {}]
        assert [code("/hooks/stripe", headers) for headers in too_old] == [401, 401, 401]
        assert (
            client.post("/hooks/github", headers={"Authorization": ""} | github("g"), content=body).status_code == 401
        )


def test_practice_ledger_of_deliveries(practice: Gateway) -> None:
    practice.start("--port", str(practice.port))
    key = str(uuid4())
    with httpx.Client(base_url=practice.url, trust_env=False) as client:
        run = agent(client, "a", idempotencyKey=key).json()["runId"]
        assert agent(client, "a", idempotencyKey=key).json()["runId"] == run
        client.post("/hooks/wake", headers=HOOK | {"Idempotency-Key": "w"}, json={"text": "wake up"})
    practice.stop()
    with contextlib.closing(sqlite3.connect(practice.database)) as database:
        deliveries = database.execute("SELECT kind, key, run_id, replayed FROM deliveries ORDER BY id").fetchall()
        executions = database.execute("SELECT kind, key, run_id, source FROM executions").fetchall()
    assert deliveries[:2] == [("agent", key, run, 0), ("agent", key, run, 1)]
    assert deliveries[2][:2] == ("wake", "w")
    assert executions == [("agent", key, run, "/hooks/agent")]


def test_practice_memory_is_steady(practice: Gateway) -> None:
    practice.start("--port", str(practice.port))
    with httpx.Client(base_url=practice.url, trust_env=False) as client:
        at_rest = status(client)["processMemory"]["rssBytes"]
        for i in range(300):
            agent(client, f"message {i}", idempotencyKey=str(i))
        busy = status(client)["processMemory"]["rssBytes"]
    assert at_rest < 100 * 2**20
    assert busy / at_rest < 1.15, "two gateways at different weights must stay within the 18 % rule"


def test_practice_package_installs_under_any_version(practice: Gateway, tmp_path: Path) -> None:
    source = tmp_path / "package"
    shutil.copytree(gateways.STANDIN, source)
    manifest = json.loads((source / "package.json").read_text())
    manifest |= {"version": "2026.9.7", "openclaw": {"schemaVersions": {"state": 19, "agent": 24}}}
    (source / "package.json").write_text(json.dumps(manifest))
    tarball = gateways.npm("pack", "--silent", "--pack-destination", str(tmp_path), cwd=source).strip()
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    gateways.npm("install", "--offline", "--prefix", str(prefix), str(tmp_path / tarball), cwd=prefix)
    installed = Kind("standin", prefix / "node_modules" / ".bin" / "openclaw", ready_s=10)

    practice.start("--port", str(practice.port))
    practice.stop()
    newer = Gateway(installed, practice.state_dir, practice.port, practice.extra_env)
    assert newer.cli("--version").stdout == "OpenClaw 2026.9.7 (standin)\n"
    newer.start("--port", str(newer.port))
    assert newer.boot.started[-1][1]["version"] == "2026.9.7"
    newer.stop()
    assert practice.exits("--port", str(practice.port)) == 78, "the old binary refuses the migrated state"
