"""What the conformance tests ask of a gateway, whichever it is, and how they prepare one."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from gateways import HOOK, OPERATOR, Gateway


@dataclass
class Crowd:
    """Runs that all have `word` in their message, asked at once."""

    word: str
    asked_at: float
    answers: list[Future[tuple[httpx.Response, float]]]


def rpc(client: httpx.Client, method: str, **params: Any) -> tuple[int, dict[str, Any]]:
    answer = client.post("/api/v1/admin/rpc", headers=OPERATOR, json={"method": method, "params": params})
    return answer.status_code, answer.json()


def status(client: httpx.Client) -> dict[str, Any]:
    code, answer = rpc(client, "status")
    assert code == 200, answer
    payload: dict[str, Any] = answer["payload"]
    return payload


def root_requests(client: httpx.Client) -> int:
    return int(status(client)["shutdownBudget"]["activeWork"]["rootRequests"])


def eventually(question: Callable[[], bool], within_s: float = 30) -> None:
    until = time.monotonic() + within_s
    while not question():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.05)


def edited(gateway: Gateway, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads(gateway.config_path.read_text())
    change(config)
    gateway.configure(config)


def agent(client: httpx.Client, message: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {"message": message, "deliver": False, **more}
    return client.post("/hooks/agent", headers=HOOK | (headers or {}), json=body)


def lint(gateway: Gateway) -> tuple[int, str]:
    done = gateway.cli("doctor", "--lint", "--json", "--severity-min", "error")
    return done.returncode, done.stdout


def with_schema(gateway: Gateway, restored: Path, version: int) -> Path:
    gateway.database.parent.mkdir()
    shutil.copy(restored / "state" / "openclaw.sqlite", gateway.database)
    with contextlib.closing(sqlite3.connect(gateway.database, isolation_level=None)) as database:
        set_schema(database, version)
        database.execute("PRAGMA journal_mode = DELETE")
    return gateway.database


def set_schema(database: sqlite3.Connection, version: int) -> None:
    database.execute(f"PRAGMA user_version = {version}")
    with contextlib.suppress(sqlite3.OperationalError):  # a second note of it, which only OpenClaw has
        database.execute("UPDATE schema_meta SET schema_version = ? WHERE meta_key = 'primary'", (version,))
